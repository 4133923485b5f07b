"""Spell numbers of pickles, each with as many bytes as another."""

from __future__ import annotations

import struct

from reinit_cli.tensors.optimizer import Number

_BYTE, _SHORT, _INT, _LONG, _FLOAT = b"K", b"M", b"J", b"\x8a", b"G"
"""The opcodes of numbers: of 1, 2 and 4 bytes, of a length that is written first, and a float64."""

LONGEST = 2 + 255
"""The most bytes of a number: LONG1, its count, and what it counts."""


def respelled(old: bytes, value: Number) -> bytes:
    """Return the opcode of another number, as long as that of the old one.

    Args:
        old: the opcode of a number, with what follows it.
        value: the other number.

    Returns:
        Nothing where the old one is not an opcode of such numbers.
    """
    code = old[:1]
    nbytes = {_BYTE: 1, _SHORT: 2, _INT: 4, _LONG: sum(old[1:2]), _FLOAT: 8}.get(code, 0)
    head = old[: 2 if code == _LONG else 1]
    if not nbytes or len(old) != len(head) + nbytes:
        return b""
    if code == _FLOAT:
        return head + struct.pack(">d", value)
    if isinstance(value, int) and 0 <= value < 128:
        return head + value.to_bytes(nbytes, "little")
    return b""
