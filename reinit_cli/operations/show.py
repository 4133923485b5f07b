"""Read the values of one tensor, or of a part of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reinit_cli.checkpoints.source import Source
from reinit_cli.errors import TensorError, UnknownNameError
from reinit_cli.storage.segments import View
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.text import printable

if TYPE_CHECKING:
    from torch import Tensor

    from reinit_cli.tensors.slice import Index


MOST_DIMENSIONS = 128
"""Torch prints, and JSON is written, by a function that calls itself for each."""


@dataclass(frozen=True, slots=True)
class Values:
    """What was read.

    Attributes:
        info: what is known of the whole tensor.
        tensor: its values, or those of the part that was asked for.
        is_abridged: whether these are only the part that torch prints.
    """

    info: TensorInfo
    tensor: Tensor
    is_abridged: bool = False

    def printed(self, *, full: bool) -> str:
        """Return the values as torch prints them.

        Args:
            full: whether all are shown, where torch would leave some out.
        """
        from reinit_cli.tensors.printing import printed, printed_edges

        return printed_edges(self.tensor) if self.is_abridged else printed(self.tensor, full=full)


Part = tuple[str, tuple["Index", ...]]
"""A slice as it was written and as it was parsed."""


def read_values(
    source: Source, key: str, part: Part | None, seed: int, *, abridged: bool = False
) -> Values:
    """Read a tensor of a source; of a part, little else is read.

    Args:
        source: the source.
        key: its key.
        part: a slice; None for all.
        seed: of a model that is built without weights.
        abridged: whether to read only what torch prints of a large tensor.

    Raises:
        UnknownNameError: the source has no such key.
        TensorError: its values cannot be read, or it has no such part.
    """
    from reinit_cli.tensors.blocks import gathered
    from reinit_cli.tensors.printing import edges_of, is_abridged

    with opened_view(source, key, part, seed) as (info, view):
        abridged = abridged and is_abridged(view.shape)
        values = edges_of(view) if abridged else gathered(view)
    return Values(info, values, abridged)


@contextmanager
def opened_view(
    source: Source, key: str, part: Part | None, seed: int
) -> Iterator[tuple[TensorInfo, View]]:
    """Find a tensor of a source, or a part of it, whose values are then read.

    Args:
        source: the source.
        key: its key.
        part: a slice; None for all.
        seed: of a model that is built without weights.

    Raises:
        UnknownNameError: the source has no such key.
        TensorError: its values cannot be read, or it has no such part.
    """
    from reinit_cli.tensors.slice import sliced

    info = _find(source, key)
    with source.open(seed) as contents:
        view = contents.view(info)
        chosen = sliced(view, part[1], part[0]) if part else view
        refuse_many_dimensions(key, len(chosen.shape))
        yield info, chosen
        contents.check_unchanged()


def refuse_many_dimensions(key: str, count: int) -> None:
    """Refuse a tensor that is nested too deeply to be printed.

    Raises:
        TensorError: it is.
    """
    if count > MOST_DIMENSIONS:
        problem = f"they have {count:,} dimensions, and {MOST_DIMENSIONS} can be shown"
        raise TensorError(printable(key), problem)


def _find(source: Source, key: str) -> TensorInfo:
    keys = [tensor.key for tensor in source.tensors]
    if key not in keys:
        raise UnknownNameError(key, known=keys, kind="key", of=source.name)
    info = source.tensors[keys.index(key)]
    if info.fillable_dtype is None:
        reason = info.carried or f"{info.dtype} has no numbers that torch prints"
        raise TensorError(printable(key), reason)
    return info
