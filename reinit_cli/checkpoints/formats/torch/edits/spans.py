"""Tell which bytes of a pickle wrote what, so that parts of it can be replaced."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple, NoReturn

from reinit_cli.checkpoints.formats.torch.edits.memo_events import Events
from reinit_cli.checkpoints.formats.torch.pickles.budget import Budget
from reinit_cli.checkpoints.formats.torch.pickles.records import Instance, Persistent
from reinit_cli.checkpoints.formats.torch.pickles.tensor_call import CallSpans, Span, call_spans
from reinit_cli.errors import UnsupportedFormatError
from reinit_cli.storage.reader import Readable

_MOST_CALL_NBYTES = 300
"""Of a tensor as torch.save writes it."""


class Pair(NamedTuple):
    """A key and a value of a dictionary.

    Attributes:
        key, value: their bytes.
        whole: all that is left out where the pair is dropped.
    """

    key: Span
    value: Span
    whole: tuple[Span, ...]


class Slot:
    """A value on the stack: where the opcodes that made it start and end.

    Attributes:
        value: its record.
        is_made: whether they made it; otherwise it was recalled or doubled.
        puts: the numbers of the events that stored it.
    """

    __slots__ = ("end", "is_made", "puts", "start", "value")

    def __init__(self, start: int, end: int, value: Any, *, is_made: bool) -> None:
        self.start = start
        self.end = end
        self.value = value
        self.is_made = is_made
        self.puts: list[int] | None = None

    @property
    def span(self) -> Span:
        """Its bytes."""
        return self.start, self.end


class Spans:
    """The bytes that wrote each record of a pickle.

    Attributes:
        top: what the pickle stands for.
        dropped: what it takes from its stack and leaves out.
        end: where it ends in the file.
        events: what goes through the memo.
        frames: where each FRAME opcode starts, and where its frame ends.
        late: opcodes that change a recalled value, each with the place where it was made.
        doubled: DUP opcodes, each with the place where the value below starts.
        budget: what is left of it.
    """

    def __init__(self, file: Readable, budget: Budget) -> None:
        self._file = file
        self.top: Any = None
        self.dropped: tuple[Any, ...] = ()
        self.end = 0
        self.events = Events()
        self.frames: list[Span] = []
        self.late: list[tuple[int, int]] = []
        self.doubled: list[tuple[int, int]] = []
        self.budget = budget
        self._made: dict[int, Slot] = {}  # by the identity of a composed record
        self._pairs: dict[int, array[int]] = {}
        self._items: dict[int, array[int]] = {}
        # Of a dictionary that is made of pairs: the arguments of the call, the list, the pairs.
        self._called: dict[int, tuple[Span, Span, list[Pair]]] = {}

    def of(self, record: Any) -> Span:  # noqa: RET503 (`refuse` raises)
        """Return the bytes that made a composed record."""
        slot = self._made.get(id(record))
        if slot is not None and slot.value is record:
            return slot.span
        self.refuse("it holds something whose bytes are not clear")

    def pairs(self, holder: Any) -> list[Pair]:
        """Return the bytes of each key and value of a dictionary, in their order.

        Raises:
            UnsupportedFormatError: they were not written for this dictionary alone.
        """
        args, list_, given = self._called.get(id(holder), ((0, 0), (0, 0), []))
        if any(map(self.is_recalled, (args, list_, *(pair.whole[0] for pair in given)))):
            self.refuse("it makes a dictionary of pairs that it uses again")
        flat = iter(self._pairs.get(id(holder), ()))
        found = [*given, *map(_pair, flat, flat, flat, flat, flat)]
        if 2 * len(found) != len(holder.pairs):
            self.refuse("it makes a dictionary in an unusual way")
        return found

    def is_recalled(self, made: Span) -> bool:
        """Whether what some bytes made, all of them, is recalled from the memo."""
        events = self.events
        return any(
            (events.start[number], events.end[number]) == made and number in self._recalled
            for number in events.within(made)
        )

    @cached_property
    def _recalled(self) -> frozenset[int]:
        """The numbers of the events that store what is recalled."""
        pairs = zip(self.events.start, self.events.end, strict=True)
        return frozenset(stored for stored, end in pairs if end < 0)

    def items(self, record: Sequence[Any]) -> list[Span]:
        """Return the bytes of each item of a tuple or a list."""
        flat = self._items.get(id(record), array("q"))
        return list(zip(flat[::3], flat[1::3], strict=True))

    def call(self, record: Instance) -> CallSpans:
        """Return the bytes of the parts of a tensor.

        Raises:
            UnsupportedFormatError: they were not written for this tensor alone.
        """
        start, end = self.of(record)
        if id(record.args) not in self._items:
            data = self._file.read(start, min(_MOST_CALL_NBYTES, end - start))
            return call_spans(data, start) or self.refuse(_APART)
        args = self.of(record.args)
        if not (start < args[0] and args[1] <= end):
            self.refuse(_APART)
        items = self.items(record.args)
        return CallSpans((start, args[0]), items, self.id_items(record.args, items))

    def id_items(self, args: Sequence[Any], items: Sequence[Span]) -> list[Span]:
        """Return the bytes of each item of the persistent id among the arguments of a tensor."""
        storage = args[0] if args else None
        if (
            not isinstance(storage, Persistent)
            or not isinstance(storage.id, tuple)
            or not self.is_made_at(items[0], storage)
            or not _contains(items[0], self.of(storage.id))
        ):
            self.refuse(_APART)
        return self.items(storage.id)

    def is_made_at(self, span: Span, record: Any) -> bool:
        """Whether these bytes made a record, and do not just recall it."""
        slot = self._made.get(id(record))
        return slot is not None and slot.value is record and slot.span == span

    def refuse(self, problem: str) -> NoReturn:
        """Refuse to edit the pickle.

        Raises:
            UnsupportedFormatError: always.
        """
        raise UnsupportedFormatError(self.budget.path, problem, kind="edit")


_APART = "it shares the parts of tensors"


def _contains(outer: Span, inner: Span) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def _pair(key: int, key_end: int, value: int, value_end: int, set_at: int) -> Pair:
    whole = ((key, value_end),) if set_at < 0 else ((key, value_end), (set_at, set_at + 1))
    return Pair((key, key_end), (value, value_end), whole)
