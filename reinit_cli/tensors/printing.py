"""Print tensors as torch prints them, from no more than what it prints."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import product
from typing import TYPE_CHECKING

from reinit_cli.storage.segments import Range, View
from reinit_cli.tensors.blocks import gathered
from reinit_cli.tensors.convert import boxed
from reinit_cli.tensors.slice import selected

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def lines_within(columns: int | None) -> Iterator[None]:
    """Let torch print lines of at most so many columns, where they are fewer than its own."""
    from torch._tensor_str import PRINT_OPTS, printoptions

    own = PRINT_OPTS.linewidth
    # It counts no brackets, which it writes at the end of a line.
    with printoptions(linewidth=own if columns is None else min(own, columns - _BRACKETS)):
        yield


_BRACKETS = 8


def is_abridged(shape: tuple[int, ...]) -> bool:
    """Whether torch leaves out elements when it prints a tensor."""
    from torch._tensor_str import PRINT_OPTS

    return math.prod(shape) > PRINT_OPTS.threshold


def edges_of(view: View) -> Tensor:
    """Return what torch prints of a tensor: its first and its last elements in each dimension.

    One element stands for all that are left out between them, so that torch sees that there
    are some.
    """
    import torch

    spans = [_kept(dim) for dim in view.shape]
    shape = tuple(max(stop for _, (_, stop) in kept) for kept in spans)
    edges = torch.zeros(shape, dtype=getattr(torch, view.dtype))
    for chosen in product(*spans):
        part = selected(view, tuple(range(*there) for there, _ in chosen))
        boxed(edges, tuple(here for _, here in chosen)).copy_(gathered(part))
    return edges


def _kept(dim: int) -> list[tuple[Range, Range]]:
    """Return which elements of a dimension torch prints, and where they are put."""
    from torch._tensor_str import PRINT_OPTS

    count = PRINT_OPTS.edgeitems
    if dim <= 2 * count:
        return [((0, dim), (0, dim))]
    return [((0, count), (0, count)), ((dim - count, dim), (count + 1, 2 * count + 1))]


def printed(tensor: Tensor, *, full: bool = False) -> str:
    """Return a tensor as torch prints it.

    Args:
        tensor: the tensor.
        full: whether all of its elements are shown, however many there are.
    """
    from torch._tensor_str import printoptions

    with printoptions(threshold=math.inf) if full else nullcontext():
        return str(tensor)


def printed_edges(edges: Tensor) -> str:
    """Return as torch prints it a tensor of which only the edges are there."""
    from torch._tensor_str import printoptions

    with printoptions(threshold=0):
        return str(edges)
