"""List the keys of a source: those that selectors choose, in an order, with their ties."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from reinit_cli.errors import UnknownNameError
from reinit_cli.lazy import dataclass
from reinit_cli.request.pattern import KeyIndex, Missed, Pattern
from reinit_cli.tensors.counts import Counts, buffer_keys, count
from reinit_cli.tensors.info import TensorInfo, repeated_keys, tied_groups
from reinit_cli.tensors.layers.layer import Layers
from reinit_cli.text import natural

if TYPE_CHECKING:
    from reinit_cli.checkpoints.source import Source

_Each = TypeVar("_Each")


@dataclass(frozen=True, slots=True)
class Selectors:
    """Which keys are looked at, in which order, and how many of them.

    Attributes:
        patterns: which keys; none means all.
        excluded: which of them are left out.
        order: what they are sorted by, or None for the order of the source.
        is_reversed: whether the last comes first.
        head: how many are shown, or None for all.
    """

    patterns: Sequence[Pattern] = ()
    excluded: Sequence[Pattern] = ()
    order: str | None = None
    is_reversed: bool = False
    head: int | None = None

    @property
    def all_patterns(self) -> tuple[Pattern, ...]:
        """Those of the keys that are looked at, and of those that are left out."""
        return (*self.patterns, *self.excluded)

    def layers(self, source: Source) -> Layers | None:
        """Return the layers of a source's tensors; None where no pattern asks for a kind."""
        if all(pattern.kinds is None for pattern in self.all_patterns):
            return None
        # A list of keys needs nothing of what knows architectures and configs.
        from reinit_cli.operations.layers import layers_for

        return layers_for(self.all_patterns, source)

    def arranged(
        self, found: Iterable[_Each], orders: Mapping[str, Callable[[_Each], Any]]
    ) -> list[_Each]:
        """Return things in the order that was asked for, all of them.

        Args:
            found: the things, in the order of the source.
            orders: the sort keys; a thing without one of its own comes last.
        """
        key = orders.get(self.order) if self.order is not None else None
        return arranged(found, key, is_reversed=self.is_reversed)


def arranged(
    found: Iterable[_Each], key: Callable[[_Each], Any] | None, *, is_reversed: bool = False
) -> list[_Each]:
    """Return things sorted by a key, those without one (None) at the end in any case."""
    things = list(found)
    if key is None:
        return things[::-1] if is_reversed else things
    keyed = [(key(each), each) for each in things]
    known = [(at, each) for at, each in keyed if at is not None]
    known.sort(key=lambda pair: pair[0])
    if is_reversed:
        known.reverse()
    return [each for _, each in known] + [each for at, each in keyed if at is None]


@dataclass(frozen=True, slots=True)
class Choice:
    """What patterns choose of some keys.

    Attributes:
        positions: of the keys that are chosen, in order.
        unmatched: the patterns that match no key.
        useless: the exclusions that match no key.
        missed: for patterns of kinds of layers that there are not, by their text, what there is.
    """

    positions: Sequence[int]
    unmatched: Sequence[Pattern] = ()
    useless: Sequence[Pattern] = ()
    missed: Mapping[str, Missed] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """The keys that were chosen.

    Attributes:
        source: all entries.
        tensors: those that were chosen.
        aliases: for a tied key the first of its ties.
        repeated: the keys that add nothing to a sum, since a tied one does.
        choice: what the patterns matched.
    """

    source: Sequence[TensorInfo]
    tensors: Sequence[TensorInfo]
    aliases: Mapping[str, str]
    repeated: Collection[str]
    choice: Choice

    @cached_property
    def buffers(self) -> Collection[str]:
        """The keys of the buffers; a list of keys alone needs none."""
        return buffer_keys(self.source)

    @property
    def counts(self) -> Counts:
        """How much they are."""
        return count(self.tensors, self.repeated, self.buffers)


_ALL = Selectors()


def list_keys(
    tensors: tuple[TensorInfo, ...],
    selectors: Selectors = _ALL,
    layers: Layers | None = None,
) -> Listing:
    """Return what selectors choose of the entries of a source, however many are shown.

    Args:
        tensors: the entries.
        selectors: what is chosen, and the order.
        layers: the layers of the tensors, where patterns ask for a kind.
    """
    keys = [tensor.key for tensor in tensors]
    choice = choice_of(keys, selectors.patterns, selectors.excluded, layers)
    chosen = [tensors[at] for at in choice.positions]
    groups = tied_groups(tensors)
    aliases = {key: tied[0] for key, tied in groups.items() if key != tied[0]}
    ordered = selectors.arranged(chosen, ORDERS)
    return Listing(tensors, ordered, aliases, repeated_keys(chosen, groups), choice)


def choose(
    tensors: Sequence[TensorInfo], patterns: Sequence[Pattern], excluded: Sequence[Pattern] = ()
) -> list[TensorInfo]:
    """Return the tensors that match a pattern, or all where there is none, but the excluded."""
    chosen = choice_of([tensor.key for tensor in tensors], patterns, excluded)
    return [tensors[at] for at in chosen.positions]


def choice_of(
    keys: Sequence[str],
    patterns: Sequence[Pattern],
    excluded: Sequence[Pattern] = (),
    layers: Layers | None = None,
) -> Choice:
    """Choose the keys that match a pattern, or all where there is none, but the excluded.

    Args:
        keys: all of them.
        patterns: which are taken.
        excluded: which of these are not.
        layers: the layers of their tensors, where patterns ask for a kind.

    Raises:
        PatternError: matching takes too long.
    """
    if not patterns and not excluded:
        return Choice(range(len(keys)))
    index = KeyIndex(keys, layers)
    taken = [index.select(pattern) for pattern in patterns]
    left = [index.select(pattern) for pattern in excluded]
    positions = {at for each in taken for at in each} if patterns else set(range(len(keys)))
    positions.difference_update(*left)
    return Choice(
        sorted(positions),
        [pattern for pattern, each in zip(patterns, taken, strict=True) if not each],
        [pattern for pattern, each in zip(excluded, left, strict=True) if not each],
        {
            pattern.text: missed
            for pattern, each in zip((*patterns, *excluded), (*taken, *left), strict=True)
            if not each and (missed := index.missed(pattern)).kinds
        },
    )


def no_match(pattern: Pattern, keys: Iterable[str], what: str, of: str) -> UnknownNameError:
    """Return the error that no key matches a pattern.

    Args:
        pattern: the pattern.
        keys: what could have matched.
        what: what these are, with where: "key of model.safetensors".
        of: the source whose keys they are.
    """
    return UnknownNameError(pattern.text, what, keys, kind="pattern", of=of)


def _natural(tensor: TensorInfo) -> str:
    return natural(tensor.key)


ORDERS: Mapping[str, Callable[[TensorInfo], Any]] = {
    "key": _natural,
    "shape": lambda tensor: tensor.shape,
    "dtype": lambda tensor: tensor.dtype,
    "parameters": lambda tensor: -tensor.numel,
    "bytes": lambda tensor: -tensor.nbytes,
}
"""What keys can be sorted by, sizes from the largest."""
