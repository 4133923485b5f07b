"""Measure how far two tensors are apart, block by block."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reinit_cli.storage.segments import View
from reinit_cli.tensors.blocks import blocks_as_stored, blocks_row_by_row
from reinit_cli.tensors.rounding import torch_tensor

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Distance:
    """The distance between the values of two tensors of the same shape.

    Attributes:
        numel: the number of elements.
        changed: how many differ by more than the tolerance.
        max_abs: the largest difference; infinite if values differ and one is not finite.
        relative_l2: the norm of the difference divided by the norm of the first.
        cosine: the cosine of the angle between them; NaN if one has no direction.
    """

    numel: int
    changed: int
    max_abs: float
    relative_l2: float
    cosine: float


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The difference that counts as equal: |b - a| ≤ atol + rtol·|b|, as numpy.isclose has it.

    Attributes:
        rtol, atol: the relative and the absolute part.
    """

    rtol: float = 0.0
    atol: float = 0.0

    @property
    def is_exact(self) -> bool:
        """Whether only equal bits are equal."""
        return not self.rtol and not self.atol


def distance_of(pairs: Iterable[tuple[Tensor, Tensor]], tolerance: Tolerance) -> Distance:
    """Return how far two tensors are apart.

    Args:
        pairs: blocks of both, of the same length.
        tolerance: what counts as equal.
    """
    import torch

    numel = changed = 0
    max_abs = 0.0
    sums = torch.zeros(4, dtype=torch.float64)  # of d·d, a·a, b·b, a·b
    for one, two in pairs:
        is_complex = one.is_complex() or two.is_complex()
        a, b = (_widened(each, is_complex=is_complex) for each in (one, two))
        apart = (b - a).abs()
        # float64 would round large integers.
        equal = (one == two) if _are_integers(one, two) else (a == b) | (a.isnan() & b.isnan())
        close = equal
        if not tolerance.is_exact:
            close = equal | ((apart <= tolerance.atol + tolerance.rtol * b.abs()) & b.isfinite())
        numel += a.numel()
        changed += int((~close).sum())
        apart[equal] = 0
        apart.nan_to_num_(nan=math.inf, posinf=math.inf)
        max_abs = max(max_abs, apart.max().item() if apart.numel() else 0.0)
        # What is not finite says nothing of norms and angles.
        a, b, finite = (each.nan_to_num(0, 0, 0) for each in (a, b, apart))
        sums += torch.stack([finite.dot(finite), a.dot(a), b.dot(b), a.dot(b)])
    squares, of_first, of_second, both = sums.tolist()
    lengths = math.sqrt(of_first) * math.sqrt(of_second)
    relative = math.sqrt(squares / of_first) if of_first else (math.inf if squares else 0.0)
    return Distance(numel, changed, max_abs, relative, both / lengths if lengths else math.nan)


def in_lockstep(first: View, second: View) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the elements of both in the same order, in blocks of the same length."""
    blocks = blocks_as_stored if first.layout == second.layout else blocks_row_by_row
    ours, theirs = map(torch_tensor, blocks(first)), map(torch_tensor, blocks(second))
    one, two = next(ours, None), next(theirs, None)
    while one is not None and two is not None:
        count = min(one.numel(), two.numel())
        yield one[:count], two[:count]
        one, two = one[count:], two[count:]
        one = one if one.numel() else next(ours, None)
        two = two if two.numel() else next(theirs, None)


def _are_integers(one: Tensor, two: Tensor) -> bool:
    return one.dtype == two.dtype and not one.is_floating_point() and not one.is_complex()


def _widened(block: Tensor, *, is_complex: bool) -> Tensor:
    """Return elements in float64; real and imaginary parts in turn where one of two is complex."""
    import torch

    if is_complex:
        return torch.view_as_real(block.to(torch.complex128)).reshape(-1)
    return block.to(torch.float64)
