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
import re
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from struct import Struct, unpack_from
from typing import Any, NoReturn

from reinit_cli.checkpoints.formats.torch.records import (
    Dict,
    Global,
    Instance,
    Long,
    Persistent,
    Pickle,
    Set,
)
from reinit_cli.errors import MalformedFileError
from reinit_cli.storage.local import InputFile

MAX_OPCODES = 1_200_000
"""About a second's work."""


_RARE_WORTH = 3
"""How many of the others an opcode counts for that torch writes seldom: it takes longer here."""


_PHRASE_WORTH = 7
"""The same for a whole tensor, of some 32 opcodes: this bounds the tensors to about 110,000."""


MAX_RECORD_NBYTES = 120 * 2**20
"""The memory that records may take together, as `_COSTS` estimates it."""


MAX_MARKS = 1_000


MAX_SCATTERED = 100_000


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


def read_pickle(file: InputFile, start: int, end: int, max_opcodes: int = MAX_OPCODES) -> Pickle:
    """Read the pickle that starts there.

    Args:
        file: the file.
        start: the offset of its first byte.
        end: the offset behind its last possible byte.
        max_opcodes: the most that it may have.

    Raises:
        MalformedFileError: it is no pickle, or takes more than this machine gives.
    """
    return _Machine(file, start, end).run(max_opcodes)


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
        self.memo: list[Any] = []
        self.scattered: dict[int, Any] = {}  # of the memo, what was stored out of order
        self.names: dict[tuple[str, str], Global] = {}
        self.sizes: dict[bytes, tuple[int, ...] | None] = {}  # as they are written

    def run(self, max_opcodes: int) -> Pickle:
        try:
            return self._obey(max_opcodes)
        except IndexError:
            # The window ends where the pickle may, and the stack where it is empty.
            self.refuse("its pickle is cut off or takes from an empty stack")
        except MalformedFileError:
            raise
        except struct.error:
            self.refuse("its pickle is cut off")
        except (TypeError, ValueError, OverflowError, AttributeError):
            self.refuse("its pickle is damaged")

    def _obey(self, max_opcodes: int) -> Pickle:  # noqa: PLR0915, RET503 (see below; `refuse` raises)
        """Obey one opcode after the other.

        What torch writes for every tensor is done here, on local variables, and all else by
        the handlers: a call for each of 32 opcodes would triple the time.
        """
        handlers, costs = _HANDLERS, _COSTS
        stack, marks, memo = self.stack, self.marks, self.memo
        window, at = self.window, self.at
        spent = rare = done = 0
        while done + rare * (_RARE_WORTH - 1) < max_opcodes and spent <= MAX_RECORD_NBYTES:
            done += 1
            if at + _LOOKAHEAD > len(window):
                self.at = at
                self._refill(_LOOKAHEAD)
                window, at = self.window, self.at
            code = window[at]
            at += 1
            spent += costs[code]
            if code == _LONG_BINPUT:
                (index,) = _UINT32(window, at)
                at += 4
                if (
                    index == len(memo)
                    and not self.scattered
                    and len(stack) > (marks[-1] if marks else 0)
                ):
                    memo.append(stack[-1])
                else:
                    self.store(index)
            elif code in (_BINGET, _LONG_BINGET):
                if code == _BINGET:
                    index = window[at]
                    at += 1
                else:
                    (index,) = _UINT32(window, at)
                    at += 4
                stack.append(memo[index] if index < len(memo) else self.recall(index))
                if window[at] == _MARK and (behind := self.call_as_written(window, at)):
                    done += _PHRASE_WORTH
                    spent += _PHRASE_NBYTES
                    at = behind
            elif code == _BININT1:
                stack.append(window[at])
                at += 1
            elif code == _BININT2:
                (value,) = _UINT16(window, at)
                at += 2
                stack.append(value)
            elif (
                code == _BINUNICODE
                and (nbytes := _UINT32(window, at)[0]) < _LONG_NBYTES
                and (behind := at + 4 + nbytes) <= len(window)
            ):
                stack.append(_unicode(window[at + 4 : behind]))
                at = behind
            elif code == _MARK and len(marks) < MAX_MARKS:
                marks.append(len(stack))
            elif code == _TUPLE1:
                stack.append((self.pop(),))
            elif code == _TUPLE2:
                second = self.pop()
                stack.append((self.pop(), second))
            elif code == _TUPLE:
                start = marks.pop()
                stack[start:] = [tuple(stack[start:])]
            elif code == _REDUCE:
                self.call()
            elif code == _EMPTY_TUPLE:
                stack.append(())
            elif code == _NEWFALSE:
                stack.append(False)
            elif code == _STOP:
                self.at = at
                return self._stopped()
            else:
                self.at = at
                rare += 1
                handler = handlers[code]
                if handler is None:
                    self.refuse(f"its pickle has the unknown opcode 0x{code:02x}")
                handler(self)
                window, at = self.window, self.at
        self.at = at
        self.refuse("its pickle takes more time or memory than any checkpoint needs")

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
        if type(args) is not tuple:
            self.refuse("its pickle calls something with arguments that are no tuple")
        self.stack.append(Instance(self.pop(), args))

    def call_as_written(self, window: bytes, at: int) -> int:
        """Call the topmost with the arguments of a tensor, as `torch.save` writes them all.

        What the opcodes would build one by one is built at once, in a fifth of the time.

        Returns:
            Where the call ends in the window; 0 where something else is written there.
        """
        found = _TENSOR_CALL.match(window, at)
        if found is None or self.scattered:
            return 0
        (tag, kind, nbytes, name, put_name, device, numel, view, put_id, start, *rest) = (
            found.groups()
        )
        size, put_size, stride, put_stride, hooks, *last_puts = rest
        memo = self.memo
        first = len(memo)
        recalled = [_index(get) for get in (tag, kind, device, hooks)]
        puts = b"".join((put_name, put_id, put_size, put_stride, *last_puts))
        dims, steps = self.sizes_of(size), self.sizes_of(stride)
        if (
            nbytes[0] != len(name)
            or puts != _SEVEN(*range(first, first + 7))
            or max(recalled) >= first
            or dims is None
            or steps is None
        ):
            return 0
        tag, kind, device, hooks = (memo[index] for index in recalled)
        text = name.decode()
        # A view's metadata, which is None, is the sixth item before torch 1.6.
        id_ = (tag, kind, text, device, *_integers(numel), *((None,) if view else ()))
        called = Instance(hooks, ())
        args = (Persistent(id_), *_integers(start), dims, steps, False, called)
        self.stack[-1] = tensor = Instance(self.stack[-1], args)
        memo += (text, id_, dims, steps, called, args, tensor)
        return found.end()

    def sizes_of(self, written: bytes) -> tuple[int, ...] | None:
        """Return the tuple that is written so; None where it would leave integers over."""
        if written not in self.sizes:
            sizes = _integers(written.removeprefix(b"("))
            closing = _TUPLE if written[:1] == b"(" else _TUPLE1 + len(sizes) - 1
            self.sizes[written] = sizes if written[-1] == closing else None
        return self.sizes[written]

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
        """Keep the topmost in the memo; pickles count up from 0, but need not."""
        if index == len(self.memo):
            self.memo.append(self.top())
            self.scattered.pop(index, None)
        elif 0 <= index < len(self.memo):
            self.memo[index] = self.top()
        elif len(self.scattered) < MAX_SCATTERED:
            self.scattered[index] = self.top()
        else:
            self.refuse("its pickle stores too much out of order")

    def recall(self, index: int) -> Any:
        """Return what was stored."""
        if 0 <= index < len(self.memo):
            return self.memo[index]
        if index not in self.scattered:
            self.refuse(f"its pickle recalls {index}, which it did not store")
        return self.scattered[index]

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
    machine.store(len(machine.memo) + len(machine.scattered))


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


def _tuple3(machine: _Machine) -> None:
    third, second = machine.pop(), machine.pop()
    machine.stack.append((machine.pop(), second, third))


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


_STOP, _MARK, _TUPLE, _REDUCE, _EMPTY_TUPLE = b".(tR)"


_BININT, _BININT1, _BININT2, _BINUNICODE, _BINGET, _LONG_BINGET, _LONG_BINPUT = b"JKMXhjr"


_TUPLE1, _TUPLE2, _NEWFALSE = b"\x85\x86\x89"


_UINT16, _UINT32 = Struct("<H").unpack_from, Struct("<I").unpack_from


_WIDTHS = {_BININT1: 1, _BININT2: 2, _BININT: 4}


# The arguments of a tensor as torch.save writes them in protocol 2, from the 256th memo entry
# on: ((tag, class, key, device, numel), offset, size, stride, False, OrderedDict()).
_GET = rb"(h.|j....)"


_PUT = rb"r(....)"


_INTEGER = rb"(?:K.|M..|J...[\0-\x7f])"


_SIZES = rb"(%b{1,3}[\x85-\x87]|\(%b{4,16}t)" % (_INTEGER, _INTEGER) + _PUT


_TENSOR_CALL = re.compile(
    rb"\(\(%b%bX(.)\0\0\0(\d{1,20})%b%b(%b)(N?)t%bQ" % (_GET, _GET, _PUT, _GET, _INTEGER, _PUT)
    + rb"(%b)%b%b\x89%b\)R%bt%bR%b" % (_INTEGER, _SIZES, _SIZES, _GET, _PUT, _PUT, _PUT),
    re.DOTALL,
)


_SEVEN = Struct("<7I").pack


_PHRASE_NBYTES = 700


def _index(get: bytes) -> int:
    return get[1] if len(get) == 2 else int(_UINT32(get, 1)[0])


@lru_cache(maxsize=4096)  # most offsets are 0, and most tensors of a file have few sizes
def _integers(written: bytes) -> tuple[int, ...]:
    """Return the integers at the start of what is written."""
    values = []
    at = 0
    while at < len(written) and written[at] in _WIDTHS:
        behind = at + 1 + _WIDTHS[written[at]]
        values.append(int.from_bytes(written[at + 1 : behind], "little"))
        at = behind
    return tuple(values)


# Opcode → what does it, None where `_obey` does, and an estimate of the bytes that its
# record takes.
_OPCODES: dict[int | str, tuple[_Handler | None, int]] = {
    "(": (_Machine.mark, 8),
    "0": (_pop_or_mark, 0),
    "1": (lambda machine: machine.since_mark().clear(), 0),
    "2": (lambda machine: machine.stack.append(machine.top()), 8),
    # Numbers and other constants
    "N": (_pushing(lambda _: None), 8),
    0x88: (_pushing(lambda _: True), 8),
    0x89: (None, 8),
    "I": (_int_line, 40),
    "L": (_pushing(lambda machine: int(machine.line().removesuffix(b"L"))), 40),
    "J": (_pushing(lambda machine: unpack_from("<i", machine.take(4))[0]), 40),
    "K": (None, 8),
    "M": (None, 40),
    0x8A: (lambda machine: machine.integer(machine.number(1)), 40),
    0x8B: (lambda machine: machine.integer(machine.number(4)), 40),
    "F": (_pushing(lambda machine: float(machine.line())), 32),
    "G": (_pushing(lambda machine: unpack_from(">d", machine.take(8))[0]), 32),
    # Texts and bytes
    "S": (_string_line, 80),
    "T": (_text(4, _old_string), 80),
    "U": (_text(1, _old_string), 80),
    "V": (_pushing(lambda machine: machine.line().decode("raw-unicode-escape")), 80),
    "X": (_text(4, _unicode), 120),
    0x8C: (_text(1, _unicode), 120),
    0x8D: (_text(8, _unicode), 120),
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
    0x81: (_Machine.call, 200),
    0x92: (_Machine.call_with_keywords, 192),
    "o": (_Machine.call_marked, 192),
    "i": (_Machine.inst, 192),
    "b": (_Machine.build, 16),
    "P": (_pushing(lambda machine: Persistent(_ascii(machine))), 48),
    "Q": (_pushing(lambda machine: Persistent(machine.pop())), 48),
    # The memo
    "p": (lambda machine: machine.store(int(machine.line())), 9),
    "q": (lambda machine: machine.store(machine.number(1)), 9),
    "r": (None, 9),
    0x94: (_memoize, 9),
    "g": (_pushing(lambda machine: machine.recall(int(machine.line()))), 8),
    "h": (None, 8),
    "j": (None, 8),
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
