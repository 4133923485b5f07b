"""Pickles, read as what they say and never obeyed.

A pickle is a program for a small machine with a stack and a memo (the opcodes and their
arguments: CPython's pickletools.py, protocols 0 to 5). This machine runs the program and
builds inert records: where `pickle` would import and call something, a record says what
would have been called, with what. Nothing in a file selects code, and what a stranger's
program can cost is bounded.

The bytes are read through a window, and long texts are skipped, so the memory does not
grow with what is carried in them.
"""

from __future__ import annotations

import codecs
import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from struct import unpack_from
from typing import Any, NoReturn

from reinit_cli.errors import MalformedFileError
from reinit_cli.inputs import InputFile

MAX_OPCODES = 2_500_000
"""Over a second's work. A tensor takes some 32, so this is about 75,000 tensors."""

MAX_RECORD_NBYTES = 120 * 2**20
"""The memory that records may take together, as `_COSTS` estimates it."""

MAX_MARKS = 1_000
MAX_KEY_PARTS = 1_000
MAX_STATES = 100
MAX_NAMES = 10_000
MAX_LINE_NBYTES = 64 * 2**10
MAX_INTEGER_NBYTES = 1_024

_LONG_NBYTES = 64 * 2**10
"""Texts from this length on are left where they are."""

_WINDOW_NBYTES = 256 * 2**10
_LOOKAHEAD = 16
"""No opcode without text takes more bytes."""


@dataclass(frozen=True, slots=True)
class Global:
    """A name that `pickle` would import."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Instance:
    """What a call would have given, and what would have been done to it.

    Attributes:
        function: what would have been called: usually a `Global`.
        args: its arguments, usually a tuple.
        state: the arguments of BUILD, in order.
        pairs: the keys and values that were set, in turn.
        items: what was appended or added.
    """

    __slots__ = ("args", "function", "items", "pairs", "state")

    def __init__(self, function: Any, args: Any) -> None:
        self.function = function
        self.args = args
        # Most calls are followed by nothing, and three empty lists would triple their size.
        self.state: Sequence[Any] = ()
        self.pairs: Sequence[Any] = ()
        self.items: Sequence[Any] = ()

    def calls(self, module: str, *names: str) -> bool:
        """Whether it is a call of one of these names."""
        function = self.function
        return isinstance(function, Global) and function.module == module and function.name in names


class Dict:
    """A dictionary as it was written: keys and values in turn, none lost, none hashed."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: Sequence[Any]) -> None:
        self.pairs = pairs


class Set:
    """A set or frozenset as it was written."""

    __slots__ = ("items",)

    def __init__(self, items: Sequence[Any]) -> None:
        self.items = items


@dataclass(frozen=True, slots=True)
class Persistent:
    """What lies outside the pickle, by its id."""

    id: Any


@dataclass(frozen=True, slots=True)
class Long:
    """A text, bytes or integer too long to be kept: where it lies in the file."""

    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Pickle:
    """One pickle that was read.

    Attributes:
        top: what it stands for.
        end: where it ends in the file.
        names: every name that it would import, in the order in which it does.
    """

    top: Any
    end: int
    names: tuple[Global, ...]


def read_pickle(file: InputFile, start: int, end: int) -> Pickle:
    """Read the pickle that starts there.

    Args:
        file: the file.
        start: the offset of its first byte.
        end: the offset behind its last possible byte.

    Raises:
        MalformedFileError: it is no pickle, or takes more than this machine gives.
    """
    # The collector would walk a million records again and again.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return _Machine(file, start, end).run()
    except RecursionError:  # pragma: no cover (nothing here recurses)
        raise MalformedFileError(file.path, "its pickle is nested too deeply") from None
    finally:
        if was_enabled:
            gc.enable()


def pairs_of(record: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the keys and values of a dictionary or of what behaves like one."""
    if not isinstance(record, (Dict, Instance)):
        return
    if isinstance(record, Instance) and record.calls("collections", "OrderedDict") and record.args:
        # Python 2 wrote OrderedDict([[key, value], ...]).
        for pair in record.args[0] if isinstance(record.args[0], list) else ():
            if isinstance(pair, (list, tuple)) and len(pair) == 2:
                yield pair[0], pair[1]
    yield from zip(record.pairs[::2], record.pairs[1::2], strict=True)


class _Machine:
    """The stack, the memo, and the window on the bytes."""

    def __init__(self, file: InputFile, start: int, end: int) -> None:
        self.file = file
        self.end = end
        self.base = start  # where the window lies in the file
        self.window = b""
        self.at = 0  # in the window
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.names: dict[tuple[str, str], Global] = {}

    def run(self) -> Pickle:
        try:
            return self._obey()
        except IndexError:
            # The window ends where the pickle may, and the stack where it is empty.
            self.refuse("its pickle is cut off or takes from an empty stack")
        except MalformedFileError:
            raise
        except (TypeError, ValueError, OverflowError, AttributeError):
            self.refuse("its pickle is damaged")

    def _obey(self) -> Pickle:  # noqa: RET503 (`refuse` does not return)
        handlers, costs = _HANDLERS, _COSTS
        spent = 0
        for _ in range(MAX_OPCODES):
            if self.at + _LOOKAHEAD > len(self.window):
                self._refill(_LOOKAHEAD)
            code = self.window[self.at]
            self.at += 1
            spent += costs[code]
            if spent > MAX_RECORD_NBYTES:
                self.refuse("its pickle would take too much memory")
            handler = handlers[code]
            if handler is None:
                if code == _STOP:
                    return self._stopped()
                self.refuse(f"its pickle has the unknown opcode 0x{code:02x}")
            handler(self)
        self.refuse(f"its pickle has more than {MAX_OPCODES:,} opcodes")

    def _stopped(self) -> Pickle:
        top = self.pop()
        if self.stack or self.marks:
            self.refuse("its pickle leaves something on the stack")
        return Pickle(top, self.base + self.at, tuple(self.names.values()))

    def refuse(self, problem: str) -> NoReturn:
        place = self.base + self.at
        raise MalformedFileError(self.file.path, f"{problem}, at byte {place:,}")

    # The bytes

    def _refill(self, nbytes: int) -> None:
        """Have at least so many bytes in the window, as far as there are any."""
        offset = self.base + self.at
        wanted = min(max(_WINDOW_NBYTES, nbytes), self.end - offset)
        if len(self.window) - self.at < wanted:
            self.window = self.file.read(offset, wanted)
            self.base = offset
            self.at = 0

    def take(self, nbytes: int) -> bytes:
        """Return the next bytes."""
        if self.at + nbytes > len(self.window):
            if nbytes > self.end - self.base - self.at:
                self.refuse("its pickle is cut off")
            self._refill(nbytes)
        data = self.window[self.at : self.at + nbytes]
        self.at += nbytes
        return data

    def number(self, nbytes: int) -> int:
        """Return the next unsigned integer."""
        return int.from_bytes(self.take(nbytes), "little")

    def line(self) -> bytes:
        """Return what is left of the line."""
        found = self.window.find(b"\n", self.at)
        if found < 0:
            self._refill(MAX_LINE_NBYTES)
            found = self.window.find(b"\n", self.at, self.at + MAX_LINE_NBYTES)
            if found < 0:
                self.refuse("its pickle has a line without end")
        line = self.window[self.at : found]
        self.at = found + 1
        return line

    def text(self, nbytes: int, decode: Callable[[bytes], Any]) -> None:
        """Push the next bytes decoded, or where they lie if they are many."""
        offset = self.base + self.at
        if nbytes > self.end - offset:
            self.refuse("its pickle is cut off in a text")
        if nbytes < _LONG_NBYTES:
            self.stack.append(decode(self.take(nbytes)))
            return
        self.stack.append(Long(offset, nbytes))
        self.base = offset + nbytes
        self.window = b""
        self.at = 0

    # The stack

    def pop(self) -> Any:
        """Take the topmost; what lies below a mark is out of reach."""
        if self.marks and len(self.stack) <= self.marks[-1]:
            raise IndexError
        return self.stack.pop()

    def top(self) -> Any:
        """Look at the topmost."""
        if self.marks and len(self.stack) <= self.marks[-1]:
            raise IndexError
        return self.stack[-1]

    def mark(self) -> None:
        if len(self.marks) >= MAX_MARKS:
            self.refuse(f"its pickle is nested more than {MAX_MARKS:,} marks deep")
        self.marks.append(len(self.stack))

    def since_mark(self) -> list[Any]:
        """Take everything down to the last mark."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    # What opcodes build

    def push_name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            self.refuse("its pickle imports something that is no name")
        found = self.names.get((module, name))
        if found is None:
            if len(self.names) >= MAX_NAMES:
                self.refuse(f"its pickle imports more than {MAX_NAMES:,} names")
            found = self.names[module, name] = Global(module, name)
        self.stack.append(found)

    def call(self) -> None:
        args = self.pop()
        self.stack.append(Instance(self.pop(), args))

    def call_with_keywords(self) -> None:
        keywords, args = self.pop(), self.pop()
        self.stack.append(Instance(self.pop(), (args, keywords)))

    def call_marked(self) -> None:
        function, *args = self.since_mark()
        self.stack.append(Instance(function, tuple(args)))

    def inst(self) -> None:
        module, name = self.line().decode(), self.line().decode()
        args = tuple(self.since_mark())
        self.push_name(module, name)
        self.stack.append(Instance(self.stack.pop(), args))

    def build(self) -> None:
        state = self.pop()
        target = self.top()
        if not isinstance(target, Instance):
            # torch.save does not write this; `pickle` would fail on most of it.
            self.refuse("its pickle sets the state of something that has none")
        if len(target.state) >= MAX_STATES:
            self.refuse(f"its pickle sets the state of one thing over {MAX_STATES} times")
        target.state = (*target.state, state)

    def set_pairs(self, flat: list[Any]) -> None:
        if len(flat) % 2:
            self.refuse("its pickle has a key without value")
        for key in flat[::2]:
            if isinstance(key, tuple):
                self._check_key(key)
        target = self.top()
        if not isinstance(target, (Dict, Instance)):
            self.refuse("its pickle sets an item of something that has none")
        target.pairs = _extended(target.pairs, flat)

    def _check_key(self, key: tuple[Any, ...]) -> None:
        """Refuse keys whose hash would take for ever: tuples of tuples, doubled."""
        waiting: list[Any] = [key]
        seen = 0
        while waiting:
            part = waiting.pop()
            seen += 1
            if isinstance(part, tuple):
                seen += len(part)
                waiting.extend(part[:MAX_KEY_PARTS])
            if seen > MAX_KEY_PARTS:
                self.refuse(f"its pickle has a key of more than {MAX_KEY_PARTS:,} parts")

    def add(self, items: list[Any]) -> None:
        target = self.top()
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, (Set, Instance)):
            target.items = _extended(target.items, items)
        else:
            self.refuse("its pickle appends to something that is no list")

    def store(self, index: int) -> None:
        self.memo[index] = self.top()

    def fetch(self, index: int) -> None:
        if index not in self.memo:
            self.refuse(f"its pickle recalls {index}, which it did not store")
        self.stack.append(self.memo[index])

    def integer(self, nbytes: int) -> None:
        if nbytes > MAX_INTEGER_NBYTES:
            self.text(nbytes, lambda data: Long(0, len(data)))
        else:
            self.stack.append(int.from_bytes(self.take(nbytes), "little", signed=True))


def _extended(items: Sequence[Any], more: list[Any]) -> list[Any]:
    if not isinstance(items, list):
        return more
    items.extend(more)
    return items


_Handler = Callable[[_Machine], None]


def _int_line(machine: _Machine) -> None:
    line = machine.line()
    if line in (b"00", b"01"):  # how protocols 0 and 1 spell booleans
        machine.stack.append(line == b"01")
    else:
        machine.stack.append(int(line))


def _string_line(machine: _Machine) -> None:
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


def _unicode(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _memoize(machine: _Machine) -> None:
    machine.store(len(machine.memo))


def _frame(machine: _Machine) -> None:
    if machine.number(8) > machine.end - machine.base - machine.at:
        machine.refuse("its pickle has a frame that is longer than the rest")


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.push_name(module, name)


def _extension(nbytes: int) -> _Handler:
    def handler(machine: _Machine) -> None:
        machine.push_name("copyreg extension", str(machine.number(nbytes)))

    return handler


def _tuple(count: int) -> _Handler:
    def handler(machine: _Machine) -> None:
        items = [machine.pop() for _ in range(count)]
        machine.stack.append(tuple(items[::-1]))

    return handler


def _set_one(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_pairs([key, value])


def _dict_marked(machine: _Machine) -> None:
    flat = machine.since_mark()
    machine.stack.append(Dict([]))
    machine.set_pairs(flat)


def _pop_or_mark(machine: _Machine) -> None:
    """POP takes the mark itself where nothing lies on it, as `pickle` has it."""
    if machine.marks and len(machine.stack) == machine.marks[-1]:
        machine.marks.pop()
    else:
        machine.stack.pop()


def _pushing(make: Callable[[_Machine], Any]) -> _Handler:
    def handler(machine: _Machine) -> None:
        machine.stack.append(make(machine))

    return handler


def _text(width: int, decode: Callable[[bytes], Any]) -> _Handler:
    def handler(machine: _Machine) -> None:
        machine.text(machine.number(width), decode)

    return handler


def _ascii(machine: _Machine) -> str:
    return machine.line().decode()


_STOP = ord(".")

# Opcode → what it does, and an estimate of the bytes that its record takes.
_OPCODES: dict[int | str, tuple[_Handler, int]] = {
    "(": (_Machine.mark, 8),
    "0": (_pop_or_mark, 0),
    "1": (lambda machine: machine.since_mark().clear(), 0),
    "2": (lambda machine: machine.stack.append(machine.top()), 8),
    # Numbers and other constants
    "N": (_pushing(lambda _: None), 8),
    0x88: (_pushing(lambda _: True), 8),
    0x89: (_pushing(lambda _: False), 8),
    "I": (_int_line, 40),
    "L": (_pushing(lambda machine: int(machine.line().removesuffix(b"L"))), 40),
    "J": (_pushing(lambda machine: unpack_from("<i", machine.take(4))[0]), 40),
    "K": (_pushing(lambda machine: machine.number(1)), 8),
    "M": (_pushing(lambda machine: machine.number(2)), 40),
    0x8A: (lambda machine: machine.integer(machine.number(1)), 40),
    0x8B: (lambda machine: machine.integer(machine.number(4)), 40),
    "F": (_pushing(lambda machine: float(machine.line())), 32),
    "G": (_pushing(lambda machine: unpack_from(">d", machine.take(8))[0]), 32),
    # Texts and bytes
    "S": (_string_line, 80),
    "T": (_text(4, _old_string), 80),
    "U": (_text(1, _old_string), 80),
    "V": (_pushing(lambda machine: machine.line().decode("raw-unicode-escape")), 80),
    "X": (_text(4, _unicode), 80),
    0x8C: (_text(1, _unicode), 80),
    0x8D: (_text(8, _unicode), 80),
    "B": (_text(4, bytes), 60),
    "C": (_text(1, bytes), 60),
    0x8E: (_text(8, bytes), 60),
    0x96: (_text(8, bytes), 60),
    # Containers
    "t": (lambda machine: machine.stack.append(tuple(machine.since_mark())), 64),
    ")": (_pushing(lambda _: ()), 8),
    0x85: (_tuple(1), 64),
    0x86: (_tuple(2), 72),
    0x87: (_tuple(3), 80),
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
    "R": (_Machine.call, 128),
    0x81: (_Machine.call, 128),
    0x92: (_Machine.call_with_keywords, 192),
    "o": (_Machine.call_marked, 192),
    "i": (_Machine.inst, 192),
    "b": (_Machine.build, 16),
    "P": (_pushing(lambda machine: Persistent(_ascii(machine))), 48),
    "Q": (_pushing(lambda machine: Persistent(machine.pop())), 48),
    # The memo
    "p": (lambda machine: machine.store(int(machine.line())), 100),
    "q": (lambda machine: machine.store(machine.number(1)), 1),
    "r": (lambda machine: machine.store(machine.number(4)), 100),
    0x94: (_memoize, 100),
    "g": (lambda machine: machine.fetch(int(machine.line())), 8),
    "h": (lambda machine: machine.fetch(machine.number(1)), 8),
    "j": (lambda machine: machine.fetch(machine.number(4)), 8),
    # Framing
    0x80: (lambda machine: _check_protocol(machine, machine.number(1)), 0),
    0x95: (_frame, 0),
}


def _check_protocol(machine: _Machine, protocol: int) -> None:
    if protocol > 5:
        machine.refuse(f"its pickle has protocol {protocol}, and 5 is the last known")


_BY_CODE = {ord(code) if isinstance(code, str) else code: rest for code, rest in _OPCODES.items()}
_HANDLERS: list[_Handler | None] = [_BY_CODE.get(code, (None, 0))[0] for code in range(256)]
_COSTS = [_BY_CODE.get(code, (None, 0))[1] for code in range(256)]
