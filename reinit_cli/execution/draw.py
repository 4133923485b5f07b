"""Draw the values of one tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from reinit_cli.errors import TensorError
from reinit_cli.execution.fill import Fill
from reinit_cli.execution.overflow import Lose, Rounding
from reinit_cli.execution.zeros import Zeros, write_zeros
from reinit_cli.initializers import Constant, Law, Move, Transform, UndefinedError
from reinit_cli.initializers.blocks import evenly, nothing, pieces
from reinit_cli.initializers.drawing import drawn_blocks
from reinit_cli.initializers.foreign import blaming
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.planning.plan import Step
from reinit_cli.storage.segments import View
from reinit_cli.streams.chance import Array, Chance
from reinit_cli.streams.shifted import Shifted
from reinit_cli.streams.stream import DEFAULT_STREAM, stream_named
from reinit_cli.tensors.blocks import Blocks, blocks_row_by_row
from reinit_cli.tensors.dtype import dtype_named
from reinit_cli.tensors.elements import Elements, stored_dtype
from reinit_cli.tensors.halves import measured
from reinit_cli.tensors.moments import BLOCK_NUMEL, Moments, square
from reinit_cli.tensors.portions import Portions
from reinit_cli.tensors.rounding import in_dtype, numbers, recast
from reinit_cli.tensors.torch_moments import torch_moments

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")


def expected_moments(law: Law, numel: int) -> Moments:
    """Return the moments that a law gives on average."""
    return Moments(numel, law.mean, square(law.std) * numel, law.low, law.high)


@dataclass(frozen=True, slots=True)
class There:
    """What a draw finds.

    Attributes:
        values: what a transform changes; None for a law that replaces it.
        zeros: those that stay; None where none are kept.
        own: the tensor's own values, where they are mixed with those of another.
    """

    values: Blocks | None = None
    zeros: Zeros | None = None
    own: Blocks | None = None


NOTHING = There()


def draw_blocks(
    law: Law,
    shape: tuple[int, ...],
    dtype: str,
    seed: int,
    device: str,
    there: There,
    stream: str,
    first: int = 0,
) -> Iterator[Elements]:
    """Yield the values of a tensor before they are rounded, in 1-D blocks; each is gone with the next.

    They are float64 for float64 tensors and float32 for all other floats; what is moved, and
    a constant of another dtype, has it already.

    Args:
        law: what to draw.
        shape: the tensor's shape.
        dtype: the tensor's dtype.
        seed: the seed of the key's stream.
        device: where to draw.
        there: the present values, where the law or its zeros depend on them.
        stream: the name of the stream that the seed is of; "" where nothing is left to chance.
        first: the index of the first element in the tensor that the stream is of; one that is
            not indexed begins with it.

    Raises:
        UndefinedError: a transform has no meaning for the present values.
    """
    chance = stream_named(stream or DEFAULT_STREAM).chance(seed, device)
    if first and chance.is_indexed:
        chance = Shifted(chance, first * law.numbers_per_element)
    return _Draw(law, shape, dtype, chance, there).blocks()


@contextmanager
def naming(step: Step) -> Iterator[None]:
    """Name the key whose values turn out to have no meaning for a transform, or no room.

    Raises:
        TensorError: they have none.
        PackageError: a law of another package fails.
    """
    from reinit_cli.tensors.device import is_out_of_memory

    key, name = step.key, step.init.initializer.name if step.init is not None else ""
    try:
        with blaming(type(step.law).__module__, name):
            yield
    except UndefinedError as error:
        raise TensorError(key, str(error), kind="transform") from error
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not is_out_of_memory(error):
            raise
        raise TensorError(key, "this machine does not have enough memory", kind="draw") from error


class _Draw:
    """One draw, as a whole or block by block."""

    def __init__(
        self,
        law: Law,
        shape: tuple[int, ...],
        dtype: str,
        chance: Chance,
        there: There,
    ) -> None:
        if isinstance(law, Transform) and law.needs_moments and 0 not in shape:
            law = _settled(law, there, chance)
        self._shape = shape
        self._dtype = dtype if isinstance(law, Move) else computed_dtype(dtype)
        self._chance = chance
        self._values = None
        if isinstance(law, Transform):
            assert there.values is not None  # else it would change what happens to be in memory
            self._values = Portions(map(self._stored, _changed(law, there)))
            law = self._mixed(law, there)
        self._law = law
        self._zeros = there.zeros

    def blocks(self) -> Iterator[Elements]:
        """Yield it in blocks where it can be drawn so."""
        for block in evenly(self._blocks(), math.prod(self._shape)):
            yield Elements(block, self._dtype)

    def _blocks(self) -> Iterator[Array]:
        if 0 in self._shape:
            return
        if self._zeros is None:
            yield from self._drawn(self._shape)
        elif _is_among_zeros(self._law, self._zeros):
            count = self._zeros.count_others()
            others = self._drawn((count,)) if count else iter(())
            yield from self._zeros.among(others, self._dtype)
        else:
            restored = self._zeros.restored(self._dtype)
            for block in self._drawn(self._shape):
                for some in pieces(block, BLOCK_NUMEL):
                    restored.into(some)
                yield block

    def _mixed(self, law: Transform, there: There) -> Law:
        """Return a law that has what it mixes with the values that it is given."""
        if not law.mixes:
            return law
        assert there.own is not None
        return law.mixed_with(Portions(map(self._stored, there.own())).take_into)

    def _drawn(self, shape: tuple[int, ...]) -> Iterator[Array]:
        take = self._values.take_into if self._values is not None else nothing
        return drawn_blocks(self._law, shape, stored_dtype(self._dtype), self._chance, take)

    def _stored(self, values: Elements) -> Array:
        """Return present values in the dtype that is drawn."""
        return in_dtype(values, self._dtype).array


def computed_dtype(dtype: str) -> str:
    """Return the dtype of arrays that values of a dtype are computed in."""
    kind = dtype_named(dtype).kind
    narrow = {"float": "float32", "complex": "complex64"}.get(kind, dtype)
    return dtype if dtype in ("float64", "complex128") else narrow


def _is_among_zeros(law: Law, zeros: Zeros) -> bool:
    """Whether a law moves what is not zero, and nothing else."""
    return isinstance(law, Transform) and law.rearranges and zeros.are_set_apart


def _changed(law: Transform, there: There) -> Iterator[Elements]:
    """Yield the values that a transform is given."""
    assert there.values is not None
    if there.zeros is not None and _is_among_zeros(law, there.zeros):
        return there.zeros.others(there.values)
    return there.values()


def _settled(law: Transform, there: There, chance: Chance) -> Law:
    """Return the law for the present values of a transform that needs their moments.

    Raises:
        UndefinedError: it has no meaning for such values.
    """
    assert there.values is not None
    sets_apart = there.zeros is not None and there.zeros.are_set_apart
    values = there.zeros.others if there.zeros is not None and sets_apart else _as_they_are
    moments = _moments(values(there.values), chance)
    # Where everything is zero and stays so, whatever is drawn is not seen.
    return law.settled(moments) if moments.numel or not sets_apart else Constant(0.0)


def _as_they_are(values: Blocks) -> Iterator[Elements]:
    return values()


def _moments(values: Iterator[Elements], chance: Chance) -> Moments:
    """Return the moments of values, the same everywhere if the stream is."""
    if chance.is_indexed:
        return measured(map(numbers, values))
    return sum(map(torch_moments, values), start=Moments())


def _blocks_of(view: View | None) -> Blocks | None:
    return partial(blocks_row_by_row, view) if view is not None else None


def _zeros_of(fill: Fill) -> Zeros | None:
    blocks = _blocks_of(fill.zeros)
    return Zeros(blocks, fill.step.zeros_version) if blocks is not None else None


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


def rounding_of(fill: Fill, overflow: Lose) -> Rounding:
    """Return what rounds the draw of a fill, from its first element on.

    Args:
        fill: what is drawn.
        overflow: called with the number of drawn values that its dtype does not have.
    """
    return Rounding(fill.step, overflow, _blocks_of(fill.values), _blocks_of(fill.own))


def draw_fill(fill: Fill, device: str, lose: Lose) -> Iterator[Elements]:
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
    there = There(values, _zeros_of(fill), _blocks_of(fill.own))
    with naming(step):
        yield from draw_blocks(
            *(step.law, tensor.shape, tensor.dtype, step.seed, device, there, step.stream),
            step.first_element,
        )


@dataclass(frozen=True, slots=True)
class Drawing:
    """How what several rules fill of a tensor is drawn.

    Attributes:
        device: where.
        lose: called with the number of moved values that their new dtype does not have.
        overflow: called with that of drawn ones.
    """

    device: str
    lose: Lose
    overflow: Lose

    def blocks(self, fill: Fill) -> Iterator[Elements]:
        """Yield what a fill draws, in row-major order, before it is rounded."""
        return draw_fill(fill, self.device, self.lose)

    def anywhere(self, fill: Fill) -> Anywhere | None:
        """Return what draws any run of it alone; None where its elements come in their order."""
        step = fill.step
        assert step.law is not None
        chance = stream_named(step.stream or DEFAULT_STREAM).chance(step.seed, self.device)
        changes = isinstance(step.law, Transform)
        if not chance.is_indexed or isinstance(step.law, Move):
            return None
        if changes and not step.law.is_elementwise:
            return None
        with naming(step):
            return Anywhere(fill, chance)


class Anywhere:
    """Draws any run of a tensor alone."""

    def __init__(self, fill: Fill, chance: Chance) -> None:
        """Prepare to draw.

        Args:
            fill: what is drawn.
            chance: that of the tensor, which is indexed.

        Raises:
            UndefinedError: a transform has no meaning for the present values.
        """
        step = fill.step
        law = step.law
        assert law is not None
        if isinstance(law, Transform) and law.needs_moments:
            law = _settled(law, There(_blocks_of(fill.values), _zeros_of(fill)), chance)
        self._changes = isinstance(step.law, Transform)
        self._keeps_zeros = fill.zeros is not None
        self._step = step
        self._dtype = computed_dtype(step.tensor.dtype)
        self._stored = stored_dtype(self._dtype)
        self._fill = law.filler(step.tensor.shape, self._stored, chance)

    def run(self, at: int, count: int, present: Elements | None) -> Elements:
        """Return some elements, before they are rounded.

        Args:
            at: the index of the first, in row-major order.
            count: how many.
            present: what they are now; None where the draw does not depend on it.
        """
        run = np.empty(count, self._stored)
        if self._changes:
            assert present is not None
            run[:] = in_dtype(present, self._dtype).array
        with naming(self._step):
            self._fill(run, at)
        if self._keeps_zeros:
            assert present is not None
            write_zeros(run, present, self._dtype, self._step.zeros_version)
        return Elements(run, self._dtype)
