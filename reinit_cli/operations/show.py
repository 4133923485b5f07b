"""Read the values of tensors, or of a part of each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

from reinit_cli.checkpoints.folder import tensor_looked_into
from reinit_cli.checkpoints.source import Contents, Source
from reinit_cli.errors import TensorError
from reinit_cli.lazy import dataclass
from reinit_cli.operations.downloads import fetch_tensors
from reinit_cli.operations.keys import Listing, Selectors, list_keys
from reinit_cli.request.pattern import Pattern
from reinit_cli.storage.segments import View
from reinit_cli.tensors.blocks import BLOCK_NUMEL, blocks_row_by_row, gathered
from reinit_cli.tensors.elements import Elements
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.moments import Statistics, statistics_of
from reinit_cli.tensors.printing import Style, edges_of, printed
from reinit_cli.text import printable

if TYPE_CHECKING:
    from reinit_cli.tensors.slice import Index


MOST_DIMENSIONS = 128
"""Torch prints, and JSON is written, by a function that calls itself for each."""


@dataclass(frozen=True, slots=True)
class Values:
    """What was read.

    Attributes:
        info: what is known of the whole tensor.
        elements: its values, or those of the part that was asked for, in row-major order.
        shape: of these.
        statistics: of all of these, or None where they were too many to be read for that.
        is_abridged: whether `elements` are only those that torch prints.
    """

    info: TensorInfo
    elements: Elements
    shape: tuple[int, ...]
    statistics: Statistics | None = None
    is_abridged: bool = False

    def printed(self, style: Style, *, full: bool, most_lines: int | None = None) -> str:
        """Return the values as torch prints them.

        Args:
            style: how torch prints.
            full: whether all are shown, where torch would leave some out.
            most_lines: the lines from which on some are left out.
        """
        if self.is_abridged:
            return printed(self.elements, self.shape, style.abridged)
        text = printed(self.elements, self.shape, style.full if full else style)
        is_long = most_lines is not None and text.count("\n") >= most_lines
        return printed(self.elements, self.shape, style.abridged) if is_long and not full else text


Part = tuple[str, tuple["Index", ...]]
"""A slice as it was written and as it was parsed."""

MOST_MEASURED = 2**24
"""The most elements that are read for a line of statistics."""


def chosen_tensors(source: Source, texts: Sequence[str], selectors: Selectors) -> Listing:
    """Return the tensors of a source that selectors choose.

    Args:
        source: the source.
        texts: keys or patterns; a text that is a key stands for that one alone, whichever
            characters it has.
        selectors: what is excluded, and the order.

    Raises:
        PatternError: a text that is not a key is not a valid pattern.
    """
    keys = {tensor.key for tensor in source.tensors}
    patterns = [Pattern.parse(Pattern.escape(text) if text in keys else text) for text in texts]
    chosen = replace(selectors, patterns=patterns)
    return list_keys(source.tensors, chosen, chosen.layers(source))


def read_values(
    view: View, info: TensorInfo, *, abridged: bool = False, measures: bool = False
) -> Values:
    """Read a tensor, or the part of it that is viewed.

    Args:
        view: what is read.
        info: what is known of the whole tensor.
        abridged: whether to read only what torch prints of a large tensor.
        measures: whether statistics are wanted.

    Raises:
        UnreadableSourceError, SourceChangedError: as they say.
    """
    style = Style.of_process()
    is_abridged = abridged and style.abridges(view.shape)
    if is_abridged:
        elements, shape = edges_of(view, style)
    else:
        elements, shape = gathered(view), view.shape
    if not measures or prod(view.shape) > MOST_MEASURED:
        return Values(info, elements, shape, None, is_abridged)
    blocks = blocks_row_by_row(view) if is_abridged else _parts(elements)
    return Values(info, elements, shape, statistics_of(blocks), is_abridged)


def _parts(elements: Elements) -> Iterator[Elements]:
    """Yield elements block by block."""
    flat = elements.flat.array
    for at in range(0, len(flat), BLOCK_NUMEL):
        yield Elements(flat[at : at + BLOCK_NUMEL], elements.dtype)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is to be shown.

    Attributes:
        views: for each tensor what is known of it, and its values or a part of them.
        skipped: why others that a wildcard matches are not shown, by their keys.
    """

    views: Sequence[tuple[TensorInfo, View]]
    skipped: Mapping[str, str]


@contextmanager
def opened_views(
    source: Source,
    tensors: Sequence[TensorInfo],
    part: Part | None,
    seed: int,
    named: Collection[str] = (),
) -> Iterator[Chosen]:
    """Open a source to read tensors of it, or a part of each.

    Args:
        source: the source.
        tensors: entries of it.
        part: a slice; None for all.
        seed: of a model that is built without weights.
        named: the keys that were asked for by name; others are skipped where they cannot be shown.

    Raises:
        TensorError: the values of a tensor that was named cannot be read, or it has no such part.
    """
    views, skipped = [], {}
    fetch_tensors(source, [tensor.key for tensor in tensors])
    with source.open(seed) as contents:
        for each in tensors:
            tensor = tensor_looked_into(source, each)
            try:
                views.append((tensor, _view(contents, tensor, part)))
            except TensorError as error:
                if tensor.key in named:
                    raise
                skipped[tensor.key] = error.problem
        yield Chosen(views, skipped)
        contents.check_unchanged()


def _view(contents: Contents, tensor: TensorInfo, part: Part | None) -> View:
    from reinit_cli.tensors.slice import sliced

    refuse_other_values(tensor)
    view = contents.view(tensor)
    chosen = sliced(view, part[1], part[0]) if part else view
    refuse_many_dimensions(tensor.key, len(chosen.shape))
    return chosen


def refuse_many_dimensions(key: str, count: int) -> None:
    """Refuse a tensor that is nested too deeply to be printed.

    Raises:
        TensorError: it is.
    """
    if count > MOST_DIMENSIONS:
        problem = f"they have {count:,} dimensions, and {MOST_DIMENSIONS} can be shown"
        raise TensorError(printable(key), problem)


def refuse_other_values(tensor: TensorInfo) -> None:
    """Refuse an entry that has no values to print.

    Raises:
        TensorError: it is one.
    """
    if tensor.fillable_dtype is None:
        reason = tensor.carried or f"{tensor.dtype} has no numbers that torch prints"
        raise TensorError(printable(tensor.key), reason)
