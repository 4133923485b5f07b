"""Draw the values of one tensor, with torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from reinit_cli.errors import TensorError
from reinit_cli.execution.fill import Fill
from reinit_cli.initializers import Law, Move, Transform, UndefinedError
from reinit_cli.initializers.blocks import Taker, evenly, nothing
from reinit_cli.storage.segments import View
from reinit_cli.streams.torch import STREAM
from reinit_cli.tensors.blocks import Blocks, blocks_row_by_row
from reinit_cli.tensors.dtype import dtype_named
from reinit_cli.tensors.elements import Elements
from reinit_cli.tensors.moments import BLOCK_NUMEL, Moments, square
from reinit_cli.tensors.rounding import recast, torch_tensor
from reinit_cli.tensors.torch_moments import torch_moments

if TYPE_CHECKING:
    from torch import Tensor


def expected_moments(law: Law, numel: int) -> Moments:
    """Return the moments that a law gives on average."""
    return Moments(numel, law.mean, square(law.std) * numel, law.low, law.high)


@dataclass(frozen=True, slots=True)
class There:
    """What a draw finds.

    Attributes:
        values: what a transform changes; None for a law that replaces it.
        zeros: where these are zero the draw is too; None where nothing is kept.
    """

    values: Blocks | None = None
    zeros: Blocks | None = None


NOTHING = There()

Lose = Callable[[int], None]
"""Told how many numbers a cast makes infinite or NaN."""


def draw(
    law: Law,
    shape: tuple[int, ...],
    dtype: str,
    seed: int,
    device: str,
    there: There = NOTHING,
) -> Tensor:
    """Return the values of a tensor before they are rounded to its dtype.

    A contiguous tensor on the device: float64 for float64 tensors, float32 for all other
    floats; what is moved, and a constant of another dtype, has it already.

    Args:
        law: what to draw.
        shape: the tensor's shape.
        dtype: the tensor's dtype.
        seed: the seed of the generator, which lives on the device.
        device: where to draw.
        there: the present values, where the law or its zeros depend on them.

    Raises:
        UndefinedError: a transform has no meaning for the present values.
    """
    return _Draw(law, shape, dtype, seed, device, there).whole()


def draw_blocks(
    law: Law,
    shape: tuple[int, ...],
    dtype: str,
    seed: int,
    device: str,
    there: There = NOTHING,
) -> Iterator[Tensor]:
    """Yield the values of `draw` in blocks, each of which is gone with the next."""
    return _Draw(law, shape, dtype, seed, device, there).blocks()


@contextmanager
def naming(key: str) -> Iterator[None]:
    """Name the key whose values turn out to have no meaning for a transform, or no room.

    Raises:
        TensorError: they have none.
    """
    from reinit_cli.tensors.device import is_out_of_memory

    try:
        yield
    except UndefinedError as error:
        raise TensorError(key, str(error), kind="transform") from error
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise TensorError(key, "this machine has not enough memory", kind="draw") from error


class _Draw:
    """One draw, as a whole or block by block."""

    def __init__(
        self, law: Law, shape: tuple[int, ...], dtype: str, seed: int, device: str, there: There
    ) -> None:

        if isinstance(law, Transform) and law.needs_moments and 0 not in shape:
            law = law.settled(_moments(there))
        self._law = law
        self._shape = shape
        self._dtype = _drawn_dtype(law, dtype)
        self._device = device
        self._generator = STREAM.generator(seed, device)
        self._values = None
        if isinstance(law, Transform):
            assert there.values is not None  # else it would change what happens to be in memory
            self._values = Taker(map(torch_tensor, there.values()))
        self._zeros = Taker(map(torch_tensor, there.zeros())) if there.zeros else None

    def whole(self) -> Tensor:
        """Return all of it."""
        import torch

        drawn = torch.empty(self._shape, dtype=self._dtype, device=self._device)
        if drawn.numel():
            self._fill(drawn)
        return drawn

    def blocks(self) -> Iterator[Tensor]:
        """Yield it in blocks where it can be drawn so."""
        if self._device != "cpu":
            yield self.whole()
            return
        if not math.prod(self._shape):
            return
        take = self._values.take_into if self._values is not None else nothing
        blocks = self._law.blocks(self._shape, self._dtype, self._generator, take)
        for block in evenly(blocks, math.prod(self._shape)):
            self._keep_zeros(block)
            yield block

    def _fill(self, tensor: Tensor) -> None:
        flat = tensor.view(-1)
        if isinstance(self._law, Transform) and self._law.gathers:
            assert self._values is not None
            self._law.gather(self._values.take_into, tensor, self._generator)
            return
        if self._values is not None:
            self._values.take_into(flat)
        self._law.fill(tensor, self._generator)
        self._keep_zeros(flat)

    def _keep_zeros(self, flat: Tensor) -> None:
        """Set to zero what is zero now, if that is asked for."""
        if self._zeros is None:
            return
        import torch

        # As bytes where they are float8, of which torch knows no masked fill.
        alike = flat.view(torch.uint8) if flat.element_size() == 1 else flat
        for some in torch.split(alike, BLOCK_NUMEL):
            was = torch.empty(some.shape, dtype=flat.dtype, device="cpu")
            self._zeros.take_into(was)
            some.masked_fill_((was == 0).to(flat.device), 0)


def _drawn_dtype(law: Law, dtype: str) -> Any:
    import torch

    if isinstance(law, Move) or dtype_named(dtype).kind != "float":
        return getattr(torch, dtype)
    return torch.float64 if dtype == "float64" else torch.float32


def _moments(there: There) -> Moments:
    assert there.values is not None
    return sum(map(torch_moments, there.values()), start=Moments())


def _blocks_of(view: View | None) -> Blocks | None:
    return partial(blocks_row_by_row, view) if view is not None else None


def values_of(view: View, law: Law, dtype: str, lose: Lose, *, saturates: bool) -> Blocks:
    """Return what a transform changes; what it moves is rounded to the dtype that it gets.

    Args:
        view: the values.
        law: the transform.
        dtype: torch's name of the dtype that they get.
        lose: called with the number of values that rounding makes infinite or NaN.
        saturates: whether it makes them the largest numbers instead.
    """
    if not isinstance(law, Move) or view.dtype == dtype:
        return partial(blocks_row_by_row, view)

    def blocks() -> Iterator[Elements]:
        for block in blocks_row_by_row(view):
            cast, lost = recast(block, dtype, saturates=saturates)
            lose(lost)
            yield cast

    return blocks


def draw_fill(fill: Fill, device: str, lose: Lose) -> Iterator[Tensor]:
    """Yield the values of a fill, before they are rounded.

    Args:
        fill: what is drawn.
        device: where.
        lose: called with the number of moved values that their new dtype does not have.

    Raises:
        TensorError: the present values cannot be transformed.
    """
    step = fill.step
    assert step.law is not None
    tensor = step.tensor
    values = None
    if fill.values is not None:
        values = values_of(fill.values, step.law, tensor.dtype, lose, saturates=fill.saturates)
    there = There(values, _blocks_of(fill.zeros))
    with naming(step.key):
        yield from draw_blocks(step.law, tensor.shape, tensor.dtype, step.seed, device, there)
