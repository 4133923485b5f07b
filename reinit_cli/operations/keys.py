"""List the keys of a source: those that patterns choose, in an order, with their ties."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reinit_cli.request.pattern import KeyIndex, Pattern
from reinit_cli.tensors.counts import Counts, buffer_keys, count
from reinit_cli.tensors.info import TensorInfo, repeated_keys, tied_groups

_DIGITS = re.compile(r"([0-9]+)")


@dataclass(frozen=True, slots=True)
class Listing:
    """The keys that were chosen.

    Attributes:
        tensors: their entries.
        aliases: for a tied key the first of its ties.
        repeated: the keys that add nothing to a sum, since a tied one does.
        buffers: the keys of the buffers.
    """

    tensors: Sequence[TensorInfo]
    aliases: Mapping[str, str]
    repeated: Collection[str]
    buffers: Collection[str]

    @property
    def counts(self) -> Counts:
        """How much they are."""
        return count(self.tensors, self.repeated, self.buffers)


def list_keys(
    tensors: tuple[TensorInfo, ...],
    patterns: Sequence[Pattern] = (),
    excluded: Sequence[Pattern] = (),
    order: str | None = None,
) -> Listing:
    """Return what patterns choose of the entries of a source.

    Args:
        tensors: all entries.
        patterns: which keys; none means all.
        excluded: which of them are left out.
        order: one of `ORDERS`, or None for that of the source.
    """
    chosen = choose(tensors, patterns, excluded)
    if order is not None:
        chosen.sort(key=ORDERS[order])
    groups = tied_groups(tensors)
    aliases = {key: tied[0] for key, tied in groups.items() if key != tied[0]}
    return Listing(chosen, aliases, repeated_keys(chosen, groups), buffer_keys(tensors))


def choose(
    tensors: Sequence[TensorInfo], patterns: Sequence[Pattern], excluded: Sequence[Pattern] = ()
) -> list[TensorInfo]:
    """Return the tensors that match a pattern, or all where there is none, but the excluded."""
    if not patterns and not excluded:
        return list(tensors)
    index = KeyIndex([tensor.key for tensor in tensors])
    positions = set(range(len(tensors)))
    if patterns:
        positions = {at for pattern in patterns for at in index.select(pattern)}
    positions -= {at for pattern in excluded for at in index.select(pattern)}
    return [tensors[at] for at in sorted(positions)]


def _natural(tensor: TensorInfo) -> str:
    """Order keys as people count: layers.2 before layers.10.

    Numbers are compared as text, the shorter first: a stranger's may have any number of digits.
    One text of all parts takes little more than the key, which may have thousands of numbers.
    """
    return _DIGITS.sub(_with_length, tensor.key)


def _with_length(digits: re.Match[str]) -> str:
    """Return a number after its length, and both after what sorts before any text."""
    number = digits[0].lstrip("0")
    return f"\0{chr(min(len(number), sys.maxunicode))}{number}"


ORDERS: Mapping[str, Callable[[TensorInfo], Any]] = {
    "key": _natural,
    "parameters": lambda tensor: -tensor.numel,
    "bytes": lambda tensor: -tensor.nbytes,
    "shape": lambda tensor: tensor.shape,
    "dtype": lambda tensor: tensor.dtype,
}
"""What keys can be sorted by, sizes from the largest."""
