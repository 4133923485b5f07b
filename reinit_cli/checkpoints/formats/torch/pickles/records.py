"""Declare pickle records: what a pickle says, inert."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from reinit_cli.checkpoints.formats.torch.pickles.budget import Budget
from reinit_cli.lazy import dataclass


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
        args: its arguments.
        state: the arguments of BUILD, in order.
        pairs: the keys and values that were set, in turn.
        items: what was appended or added.
    """

    __slots__ = ("args", "function", "items", "pairs", "state")

    def __init__(self, function: Any, args: tuple[Any, ...]) -> None:
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


class Persistent:
    """What lies outside the pickle, by its id."""

    __slots__ = ("id",)

    def __init__(self, id: Any) -> None:  # noqa: A002 (the field's own word)
        self.id = id


COMPOSED = (Dict, Instance, Set, list, tuple, Persistent)
"""The records that are made of others."""


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
        dropped: what it takes from its stack and leaves out, though it may be in `top` too.
    """

    top: Any
    end: int
    names: tuple[Global, ...]
    dropped: tuple[Any, ...]


def pairs_of(record: Any, budget: Budget) -> Iterable[tuple[Any, Any]]:
    """Return the keys and values of a dictionary or of what behaves like one."""
    if not isinstance(record, (Dict, Instance)):
        return ()
    budget.spend(1 + len(record.pairs) // 8)  # a pair takes a quarter of an opcode's time
    flat = iter(record.pairs)
    return zip(flat, flat, strict=True)


def inside_of(record: Any, budget: Budget) -> Iterator[tuple[int, Any, Any]]:
    """Yield everything that a record is made of.

    Each part comes with its number among the pairs or the items, -1 for the rest, and its key,
    None where it has no name.
    """
    if isinstance(record, (list, tuple, Set)):
        items = record.items if isinstance(record, Set) else record
        budget.spend(len(items) // 4)
        yield from ((at, at, item) for at, item in enumerate(items))
        return
    if isinstance(record, Persistent):
        yield -1, None, record.id
    for at, (key, value) in enumerate(pairs_of(record, budget)):
        yield at, key if isinstance(key, (str, int)) else None, value
        if isinstance(key, COMPOSED):
            yield -1, None, key
    if isinstance(record, Instance):
        budget.spend(len(record.items) // 4)
        for part in (record.args, record.function, *record.state, *record.items):
            yield -1, None, part
