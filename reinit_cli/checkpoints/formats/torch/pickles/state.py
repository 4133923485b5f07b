"""Hold the stack, the memo and the window on the bytes of a pickle, and what opcodes build."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from reinit_cli.checkpoints.formats.torch.pickles.records import (
    COMPOSED,
    Dict,
    Global,
    Instance,
    Long,
    Set,
)
from reinit_cli.checkpoints.formats.torch.pickles.tensor_states import (
    is_of_tensors,
    is_rebuilt,
    keeps_values,
)
from reinit_cli.errors import MalformedFileError
from reinit_cli.storage.reader import Readable

MAX_MARKS = 1_000


MAX_SCATTERED = 100_000


MAX_GAP = 2_000_000
"""The most places of the memo that may be left out in one go, as where entries were dropped."""


UNSTORED: Any = type("Unstored", (), {})()
"""What lies in the memo where nothing was stored."""


MAX_STATES = 100


MAX_NAMES = 10_000


MAX_NAME_CHARS = 1_000
"""Of a module or of a name in it."""

_MAX_KEY_CHARS = 200
"""Of a key that is bytes: each is encoded again, even where the text is shared."""


MAX_LINE_NBYTES = 64 * 2**10


MAX_INTEGER_NBYTES = 1_024


LONG_NBYTES = 64 * 2**10
"""Texts from this length on are left where they are."""


_WINDOW_NBYTES = 256 * 2**10


class State:
    """The stack, the memo, and the window on the bytes."""

    def __init__(self, file: Readable, start: int, end: int) -> None:
        self.file = file
        self.end = end
        self.base = start  # where the window lies in the file
        self.window = b""
        self.at = 0  # in the window
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: list[Any] = []
        self.holes = 0  # how many places of it are empty
        # What was stored far away in the memo. Files choose the numbers, and whoever chooses
        # integers can choose them with one hash; that of a text is Python's secret.
        self.scattered: dict[str, Any] = {}
        self.names: dict[tuple[str, str], Global] = {}
        self.dropped: list[Any] = []  # composed things that were popped
        self.sizes: dict[bytes, tuple[int, ...] | None] = {}  # as they are written
        self.known: dict[Any, Any] = {}  # what recalls stand for, as they are written together
        self.has_gaps = False  # whether places of the memo were left out that count as stored
        self.taken = 0  # bytes of memory that the costs of opcodes leave out

    def refuse(self, problem: str) -> NoReturn:
        """Refuse the pickle, and say where.

        Raises:
            MalformedFileError: always.
        """
        place = self.base + self.at
        raise MalformedFileError(self.file.path, f"{problem}, at byte {place:,}")

    # The bytes

    def refill(self, nbytes: int) -> None:
        """Fill the window to at least that many bytes, or to the end."""
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
            self.refill(nbytes)
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
            self.refill(MAX_LINE_NBYTES)
            found = self.window.find(b"\n", self.at, self.at + MAX_LINE_NBYTES)
            if found < 0:
                self.refuse("its pickle has a line without end")
        line = self.window[self.at : found]
        self.taken += 4 * len(line)
        self.at = found + 1
        return line

    def text(self, nbytes: int, decode: Callable[[bytes], Any]) -> None:
        """Push the next bytes decoded, or where they lie if they are many."""
        offset = self.base + self.at
        if nbytes > self.end - offset:
            self.refuse("its pickle is cut off in a text")
        if nbytes < LONG_NBYTES:
            data = decode(self.take(nbytes))
            self.taken += nbytes if len(data) == nbytes else 4 * nbytes
            self.stack.append(data)
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
        """Set a mark on the stack."""
        if len(self.marks) >= MAX_MARKS:
            self.refuse(f"its pickle is nested more than {MAX_MARKS:,} marks deep")
        self.marks.append(len(self.stack))

    def since_mark(self) -> list[Any]:
        """Take everything down to the last mark."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def drop(self, items: list[Any]) -> None:
        """Note what is taken from the stack and put nowhere."""
        self.dropped += [item for item in items if isinstance(item, COMPOSED)]

    # What opcodes build

    def push_name(self, module: Any, name: Any) -> None:
        """Push a name that `pickle` would import."""
        if not isinstance(module, str) or not isinstance(name, str):
            self.refuse("its pickle imports something that is not a name")
        if max(len(module), len(name)) > MAX_NAME_CHARS:
            self.refuse(f"its pickle imports a name of more than {MAX_NAME_CHARS:,} characters")
        found = self.names.get((module, name))
        if found is None:
            if len(self.names) >= MAX_NAMES:
                self.refuse(f"its pickle imports more than {MAX_NAMES:,} names")
            found = self.names[module, name] = Global(module, name)
        self.stack.append(found)

    def call(self) -> None:
        """Replace a function and its arguments by a record of the call."""
        args = self.pop()
        if type(args) is not tuple:
            self.refuse("its pickle calls something with arguments that are not a tuple")
        self._push_call(self.pop(), args)

    def new(self) -> None:
        """Do the same for a class and arguments of `__new__`, which dictionaries ignore."""
        args, function = self.pop(), self.pop()
        if type(args) is not tuple:
            self.refuse("its pickle calls something with arguments that are not a tuple")
        if args and _makes_dict(function):
            self._refuse_dict()
        self._check_call(function, args)
        self.stack.append(Instance(function, args))

    def call_with_keywords(self) -> None:
        """Do the same for a call of `__new__` with keywords."""
        keywords, args, function = self.pop(), self.pop(), self.pop()
        if _makes_dict(function):
            self._refuse_dict()
        if isinstance(args, tuple):
            self._check_call(function, args)
        self.stack.append(Instance(function, (args, keywords)))

    def call_marked(self) -> None:
        """Do the same for a function and arguments above a mark."""
        function, *args = self.since_mark()
        self._push_call(function, tuple(args))

    def _push_call(self, function: Any, args: tuple[Any, ...]) -> None:
        """Push the record of a call; a dictionary that is made of pairs has them from here on."""
        self._check_call(function, args)
        called = Instance(function, args)
        # The first argument of a defaultdict is not what it holds.
        if _makes_dict(function) and args[function.name == "defaultdict" :]:
            called = Instance(function, ())
            called.pairs = self._pairs_in(args)
        self.stack.append(called)

    def _check_call(self, function: Any, args: tuple[Any, ...]) -> None:
        """Refuse a call that gives a tensor other values."""
        if not keeps_values(function, args, self._pay):
            self._refuse_change()

    def _pay(self, count: int) -> None:
        self.taken += 8 * count

    def _refuse_change(self) -> NoReturn:
        self.refuse("its pickle changes a tensor after it is made, as torch.save does not")

    def _pairs_in(self, args: tuple[Any, ...]) -> list[Any]:
        """Return the keys and values that a dictionary is made of, in turn.

        Python 2 wrote OrderedDict([[key, value], ...]). They are copied, since the list may
        change after the call.
        """
        (given,) = args if len(args) == 1 else (None,)
        if isinstance(given, Dict) or (isinstance(given, Instance) and _makes_dict(given.function)):
            self.taken += 16 * len(given.pairs)
            return list(given.pairs)
        if not isinstance(given, (list, tuple)):
            self._refuse_dict()
        self.taken += 32 * len(given)
        if any(not isinstance(pair, (list, tuple)) or len(pair) != 2 for pair in given):
            self._refuse_dict()
        return [part for pair in given for part in pair]

    def _refuse_dict(self) -> NoReturn:
        self.refuse("its pickle makes a dictionary as torch.save does not")

    def inst(self) -> None:
        """Do the same for a name that stands in the pickle."""
        module, name = self.line().decode(), self.line().decode()
        args = tuple(self.since_mark())
        self.push_name(module, name)
        self._push_call(self.stack.pop(), args)

    def build(self) -> None:
        """Note the state that would be set."""
        state = self.pop()
        target = self.top()
        if not isinstance(target, Instance):
            # torch.save does not write this; `pickle` would fail on most of it.
            self.refuse("its pickle sets the state of something that has none")
        if is_rebuilt(target):
            self._refuse_change()
        if len(target.state) >= MAX_STATES:
            self.refuse(f"its pickle sets the state of one thing over {MAX_STATES} times")
        target.state = (*target.state, state)

    def set_pairs(self, flat: list[Any]) -> None:
        """Set keys and values, in turn, on the topmost."""
        if len(flat) % 2:
            self.refuse("its pickle has a key without value")
        target = self.top()
        if not isinstance(target, (Dict, Instance)):
            self.refuse("its pickle sets an item of something that has none")
        if isinstance(target, Instance) and is_of_tensors(target):
            self._refuse_change()
        for at in range(0, len(flat), 2):
            if type(flat[at]) is Instance:
                flat[at] = self._key_of(flat[at])
        target.pairs = _extended(target.pairs, flat)

    def _key_of(self, key: Instance) -> Any:
        """Return the bytes that protocol 2 spells as an encoded text; else what it is."""
        if not key.calls("_codecs", "encode") or len(key.args) != 2:
            return key
        text, encoding = key.args
        if encoding != "latin1" or not isinstance(text, str) or len(text) > _MAX_KEY_CHARS:
            return key
        self._pay(8 + len(text) // 8)
        try:
            return text.encode("latin-1")
        except UnicodeEncodeError:
            return key

    def add(self, items: list[Any]) -> None:
        """Append or add items to the topmost."""
        target = self.top()
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, Instance) and is_of_tensors(target):
            self._refuse_change()
        elif isinstance(target, (Set, Instance)):
            target.items = _extended(target.items, items)
        else:
            self.refuse("its pickle appends to something that is not a list")

    def store(self, index: int) -> None:
        """Keep the topmost in the memo; pickles count up from 0, but need not."""
        top = self.top()
        if self.has_gaps and index != len(self.memo):
            self.refuse("its pickle stores out of order")
        if 0 <= index < len(self.memo) + MAX_GAP:
            if index >= len(self.memo):
                self._reserve(index + 1)
            if self.memo[index] is UNSTORED:
                self.holes -= 1
                if self.scattered:
                    self.scattered.pop(str(index), None)
            self.memo[index] = top
        elif len(self.scattered) < MAX_SCATTERED:
            self.scattered[str(index)] = top
        else:
            self.refuse("its pickle stores too much out of order")

    def recall(self, index: int) -> Any:
        """Return what was stored."""
        found = self.memo[index] if 0 <= index < len(self.memo) else UNSTORED
        if found is UNSTORED:
            found = self.scattered.get(str(index), UNSTORED)
        if found is UNSTORED:
            self.refuse(f"its pickle recalls {index}, which it did not store")
        return found

    def makes_room(self, first: int, count: int) -> bool:
        """Make room in the memo for some values together, unless that is too far away."""
        if first >= len(self.memo) + MAX_GAP:
            return False
        if first + count > len(self.memo):
            self._reserve(first + count)
        if self.holes:
            self.holes -= sum(each is UNSTORED for each in self.memo[first : first + count])
        return True

    def _reserve(self, count: int) -> None:
        more = count - len(self.memo)
        self.memo += [UNSTORED] * more
        self.holes += more
        self.taken += 8 * more

    @property
    def stored(self) -> int:
        """The number of values in the memo."""
        return len(self.memo) - self.holes + len(self.scattered)

    def integer(self, nbytes: int) -> None:
        """Push a signed integer of that many bytes."""
        if nbytes > MAX_INTEGER_NBYTES:
            self.text(nbytes, lambda data: Long(0, len(data)))
        else:
            self.taken += nbytes
            self.stack.append(int.from_bytes(self.take(nbytes), "little", signed=True))


def _makes_dict(function: Any) -> bool:
    return (
        isinstance(function, Global)
        and function.module == "collections"
        and function.name in ("OrderedDict", "defaultdict")
    )


def _extended(items: Sequence[Any], more: list[Any]) -> list[Any]:
    if not isinstance(items, list):
        return more
    items.extend(more)
    return items
