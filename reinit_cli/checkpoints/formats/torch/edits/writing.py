"""Write values as opcodes of protocol 2, which `torch.load(weights_only=True)` knows.

Nothing that is written here is stored in the memo: what replaces something is stored where
that was.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

NO_HOOKS = b"ccollections\nOrderedDict\n)R"
"""What a tensor has in place of backward hooks: an empty dictionary."""

FALSE = b"\x89"


def written_text(value: str) -> bytes:
    """Write a text."""
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def written_number(value: float) -> bytes:
    """Write an integer, a float, or a boolean."""
    if isinstance(value, bool):
        return b"\x88" if value else FALSE
    if isinstance(value, int):
        return _written_integer(value)
    return b"G" + struct.pack(">d", value)


def _written_integer(value: int) -> bytes:
    if 0 <= value < 2**8:
        return b"K" + struct.pack("<B", value)
    if 0 <= value < 2**16:
        return b"M" + struct.pack("<H", value)
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    if len(data) < 256:
        return b"\x8a" + struct.pack("<B", len(data)) + data
    return b"\x8b" + struct.pack("<I", len(data)) + data


def written_sizes(values: Sequence[int]) -> bytes:
    """Write a tuple of integers."""
    items = b"".join(map(written_number, values))
    if not values:
        return b")"
    return items + bytes((0x84 + len(values),)) if len(values) <= 3 else b"(" + items + b"t"


def written_name(module: str, name: str) -> bytes:
    """Write a name that is imported."""
    return f"c{module}\n{name}\n".encode()
