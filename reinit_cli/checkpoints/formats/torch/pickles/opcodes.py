"""Map each opcode of a pickle to what does it, and to what its record costs."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Sequence
from struct import unpack_from
from typing import Any

from reinit_cli.checkpoints.formats.torch.pickles.records import Dict, Persistent, Set
from reinit_cli.checkpoints.formats.torch.pickles.state import State

Handler = Callable[[State], None]


def _int_line(machine: State) -> None:
    line = machine.line()
    if line in (b"00", b"01"):  # how protocols 0 and 1 spell booleans
        machine.stack.append(line == b"01")
    else:
        machine.stack.append(_integer_of(line))


def _integer_of(line: bytes) -> int:
    """Return an integer as `pickle` writes it; in others it reads a base, as C does: 010 is 8."""
    if not _INTEGER(line):
        raise ValueError
    return int(line)


def _float_line(machine: State) -> None:
    line = machine.line()
    if not _FLOAT(line):
        raise ValueError
    machine.stack.append(float(line))


_INTEGER = re.compile(rb"-?(?:0|[1-9][0-9]*)").fullmatch

_FLOAT = re.compile(rb"-?(?:[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?|inf|nan)").fullmatch


def _string_line(machine: State) -> None:
    line = machine.line()
    if len(line) < 2 or line[:1] not in b"\"'" or line[-1:] != line[:1]:
        machine.refuse("its pickle has a string without quotes")
    decoded, _ = codecs.escape_decode(line[1:-1])
    machine.stack.append(_old_string(decoded))


def _old_string(data: bytes) -> str | bytes:
    """Decode a string of Python 2 as torch does: as UTF-8 if it is."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def decoded(data: bytes) -> str:
    """Return a text, whose surrogates may be alone."""
    return data.decode("utf-8", "surrogatepass")


def _memoize(machine: State) -> None:
    machine.store(machine.stored)


def _frame(machine: State) -> None:
    if machine.number(8) > machine.end - machine.base - machine.at:
        machine.refuse("its pickle has a frame that is longer than the rest")


def _stack_global(machine: State) -> None:
    name, module = machine.pop(), machine.pop()
    machine.push_name(module, name)


def _extension(nbytes: int) -> Handler:
    def handler(machine: State) -> None:
        machine.push_name("copyreg extension", str(machine.number(nbytes)))

    return handler


def _tuple3(machine: State) -> None:
    third, second = machine.pop(), machine.pop()
    machine.stack.append((machine.pop(), second, third))


def _set_one(machine: State) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_pairs([key, value])


def _dict_marked(machine: State) -> None:
    flat = machine.since_mark()
    machine.stack.append(Dict([]))
    machine.set_pairs(flat)


def _pop_or_mark(machine: State) -> None:
    """POP takes the mark itself where nothing lies on it, as `pickle` has it."""
    if machine.marks and len(machine.stack) == machine.marks[-1]:
        machine.marks.pop()
    else:
        machine.drop([machine.stack.pop()])


def _pushing(make: Callable[[State], Any]) -> Handler:
    def handler(machine: State) -> None:
        machine.stack.append(make(machine))

    return handler


def _text(width: int, decode: Callable[[bytes], Any]) -> Handler:
    def handler(machine: State) -> None:
        machine.text(machine.number(width), decode)

    return handler


def _ascii(machine: State) -> str:
    return machine.line().decode()


# Opcode → what does it, None where the machine does, and an estimate of the bytes that its
# record takes.
_OPCODES: dict[int | str, tuple[Handler | None, int]] = {
    "(": (State.mark, 8),
    "0": (_pop_or_mark, 0),
    "1": (lambda machine: machine.drop(machine.since_mark()), 0),
    "2": (lambda machine: machine.stack.append(machine.top()), 8),
    # Numbers and other constants
    "N": (_pushing(lambda _: None), 8),
    0x88: (_pushing(lambda _: True), 8),
    0x89: (None, 8),
    "I": (_int_line, 40),
    "L": (_pushing(lambda machine: _integer_of(machine.line().removesuffix(b"L"))), 40),
    "J": (_pushing(lambda machine: unpack_from("<i", machine.take(4))[0]), 40),
    "K": (None, 8),
    "M": (None, 40),
    0x8A: (lambda machine: machine.integer(machine.number(1)), 40),
    0x8B: (lambda machine: machine.integer(machine.number(4)), 40),
    "F": (_float_line, 32),
    "G": (_pushing(lambda machine: unpack_from(">d", machine.take(8))[0]), 32),
    # Texts and bytes
    "S": (_string_line, 80),
    "T": (_text(4, _old_string), 80),
    "U": (_text(1, _old_string), 80),
    "V": (_pushing(lambda machine: machine.line().decode("raw-unicode-escape")), 80),
    "X": (_text(4, decoded), 120),
    0x8C: (_text(1, decoded), 120),
    0x8D: (_text(8, decoded), 120),
    "B": (_text(4, bytes), 60),
    "C": (_text(1, bytes), 60),
    0x8E: (_text(8, bytes), 60),
    0x96: (_text(8, bytes), 60),
    # Containers
    "t": (None, 64),
    ")": (None, 8),
    0x85: (None, 64),
    0x86: (None, 72),
    0x87: (_tuple3, 80),
    "]": (_pushing(lambda _: []), 96),
    "l": (lambda machine: machine.stack.append(machine.since_mark()), 96),
    "a": (lambda machine: machine.add([machine.pop()]), 8),
    "e": (lambda machine: machine.add(machine.since_mark()), 8),
    "}": (_pushing(lambda _: Dict([])), 136),
    "d": (_dict_marked, 136),
    "s": (_set_one, 16),
    "u": (lambda machine: machine.set_pairs(machine.since_mark()), 8),
    0x8F: (_pushing(lambda _: Set([])), 136),
    0x90: (lambda machine: machine.add(machine.since_mark()), 8),
    0x91: (lambda machine: machine.stack.append(Set(machine.since_mark())), 136),
    # Names and calls, none of which is made
    "c": (lambda machine: machine.push_name(_ascii(machine), _ascii(machine)), 16),
    0x93: (_stack_global, 16),
    0x82: (_extension(1), 16),
    0x83: (_extension(2), 16),
    0x84: (_extension(4), 16),
    "R": (None, 200),
    0x81: (State.new, 200),
    0x92: (State.call_with_keywords, 192),
    "o": (State.call_marked, 192),
    "i": (State.inst, 192),
    "b": (State.build, 16),
    "P": (_pushing(lambda machine: Persistent(_ascii(machine))), 48),
    "Q": (_pushing(lambda machine: Persistent(machine.pop())), 48),
    # The memo
    "p": (lambda machine: machine.store(_integer_of(machine.line())), 9),
    "q": (lambda machine: machine.store(machine.number(1)), 9),
    "r": (None, 9),
    0x94: (_memoize, 9),
    "g": (_pushing(lambda machine: machine.recall(_integer_of(machine.line()))), 8),
    "h": (None, 8),
    "j": (None, 8),
    # Framing
    0x80: (lambda machine: _check_protocol(machine, machine.number(1)), 0),
    0x95: (_frame, 0),
}


def _check_protocol(machine: State, protocol: int) -> None:
    if protocol > 5:
        machine.refuse(f"its pickle has protocol {protocol}, and 5 is the last known")


_BY_CODE = {ord(code) if isinstance(code, str) else code: rest for code, rest in _OPCODES.items()}


Handlers = Sequence[Handler | None]
"""What does each opcode, by its number."""


HANDLERS: list[Handler | None] = [_BY_CODE.get(code, (None, 0))[0] for code in range(256)]


COSTS = [_BY_CODE.get(code, (None, 0))[1] for code in range(256)]
