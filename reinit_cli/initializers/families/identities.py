"""Identity initializers: layers that pass their input through."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from reinit_cli.initializers.blocks import Filler, Take, nothing
from reinit_cli.initializers.fans import UndefinedError, need_ndim
from reinit_cli.initializers.gains import check_gain, gain_of
from reinit_cli.initializers.law import Constant, Dtype, Law, Normal, Statistic
from reinit_cli.initializers.parameters import AnyGain, Integer, NonNegative, Slope
from reinit_cli.initializers.registry import register
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.streams.chance import Array, Chance
from reinit_cli.streams.normals import normal_mass
from reinit_cli.streams.torch.groups import normal_words

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")


@dataclass(frozen=True, slots=True)
class Identity(Law):
    """A convolution or a matrix that passes its input through: ones among zeros.

    Attributes:
        shape: (out, in, *kernel); no kernel for a matrix.
        groups: the number of equal parts of the first dimension, each an identity.
        gain: the value of the ones.
        noise_std: the std of a normal that is added everywhere.
    """

    shape: tuple[int, ...]
    groups: int = 1
    gain: float = 1.0
    noise_std: float = 0.0

    @property
    def is_random(self) -> bool:
        """Whether there is noise."""
        return self.noise_std > 0

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """The mean and std of the noise; Chernoff's bound holds as for a normal of `std`."""
        return ("mean", "std") if self.is_random else ()

    @property
    def identity(self) -> str:
        """The ones, unless noise hides them."""
        return "" if self.is_random else "ones"

    @property
    def low(self) -> float:
        """Zero, or the gain."""
        return -math.inf if self.is_random else min(0.0, self.gain)

    @property
    def high(self) -> float:
        """The gain, or zero."""
        return math.inf if self.is_random else max(0.0, self.gain)

    @property
    def spread(self) -> float:
        """Its standard deviation, since the ones are fixed."""
        return self.std if self.is_random else abs(self.gain) / 2

    @property
    def _ones_per_group(self) -> int:
        return min(self.shape[0] // self.groups, self.shape[1])

    @property
    def _share(self) -> float:
        return self.groups * self._ones_per_group / max(1, math.prod(self.shape))

    @property
    def mean(self) -> float:
        """The share of ones, times the gain."""
        return self.gain * self._share

    @property
    def std(self) -> float:
        """The std of ones among zeros, combined with the noise."""
        share = self._share
        return math.hypot(self.gain * math.sqrt(share * (1 - share)), self.noise_std)

    @property
    def _under(self) -> Law:
        """The noise, or zeros, to which the ones are added."""
        return Normal(0.0, self.noise_std) if self.is_random else Constant(0.0)

    def fill(self, values: Array, chance: Chance) -> None:
        """Draw the noise, then add the ones at the kernel's center."""
        self._under.fill(values, chance)
        self._add_ones(values.reshape(-1), 0)

    def filler(self, shape: tuple[int, ...], dtype: Dtype, chance: Chance) -> Filler:
        """Return what fills runs with the noise or zeros, and the ones that lie there."""
        under = self._under.filler(shape, dtype, chance)

        def fill(run: Array, at: int) -> None:
            under(run, at)
            self._add_ones(run, at)

        return fill

    def blocks(
        self, shape: tuple[int, ...], dtype: Dtype, chance: Chance, take: Take = nothing
    ) -> Iterator[Array]:
        """Yield the noise or zeros, with the ones that lie in each block."""
        reached = 0
        for block in self._under.blocks(shape, dtype, chance, take):
            self._add_ones(block, reached)
            reached += block.size
            yield block

    def _add_ones(self, run: Array, at: int) -> None:
        """Add the ones that lie in a run, the first element of which has an index."""
        for ones in self._ones(at, at + len(run)):
            with np.errstate(over="ignore"):
                run[ones] += run.dtype.type(self.gain)

    def _ones(self, start: int, stop: int) -> Iterator[slice]:
        """Yield where ones lie among some elements of the tensor, group by group."""
        kernel = math.prod(self.shape[2:])
        # Along the diagonal of each group, from the center of its first kernel.
        step = (self.shape[1] + 1) * kernel
        group_numel = self.shape[0] // self.groups * self.shape[1] * kernel
        for group in range(start // group_numel, min(-(-stop // group_numel), self.groups)):
            first = group * group_numel + self._center
            end = min(stop, first + self._ones_per_group * step)
            skipped = max(0, -((first - start) // step))
            if first + skipped * step < end:
                yield slice(first + skipped * step - start, end - start, step)

    @property
    def _center(self) -> int:
        """The place of the center in a kernel, in elements."""
        place = 0
        for dim in self.shape[2:]:
            place = place * dim + dim // 2
        return place

    def working_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return that it takes blocks alone."""
        del shape, itemsize
        return 0

    def filling_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return that it takes runs alone."""
        del shape, itemsize
        return 0

    def words(self, numel: int, itemsize: int) -> int | None:
        """As many as the noise."""
        return normal_words(numel, itemsize) if self.is_random else 0

    def cdf(self, x: float) -> float:
        """Steps at zero and at the gain, or normals around both."""

        def below(value: float) -> float:
            if self.is_random:
                return normal_mass(-math.inf, (x - value) / self.noise_std)
            return float(x >= value)

        return (1 - self._share) * below(0.0) + self._share * below(self.gain)

    def misfit(self, values: Array) -> tuple[float, float]:
        """Count missing ones, and other elements that are not zero."""
        if not values.size or self.is_random:
            return 0.0, 0.0
        center = center_of(values.reshape(self.shape))
        # (groups, out / groups, in)
        ones = np.diagonal(center.reshape(self.groups, -1, self.shape[1]), axis1=1, axis2=2)
        others = np.count_nonzero(values) - np.count_nonzero(ones)
        return float(np.count_nonzero(ones != values.dtype.type(self.gain)) + others), 0.0


def center_of(weight: Array) -> Array:
    """Return the center of the kernel, (out, in), of a weight (out, in, *kernel), as a view."""
    return weight[(..., *(dim // 2 for dim in weight.shape[2:]))]


@register(
    purpose="structure",
    law="ones on the diagonal, zeros elsewhere",
    example="eye",
    defined="2 dimensions",
)
def eye(shape: tuple[int, ...]) -> Law:
    """Make a linear layer pass its input through."""
    need_ndim(shape, 2, 2)
    return Identity(shape)


@register(
    purpose="structure",
    law="1 where output = input at the kernel's center, zeros elsewhere",
    example="dirac:groups=2",
    defined="3 to 5 dimensions; shape[0] divisible by groups",
)
def dirac(shape: tuple[int, ...], *, groups: Annotated[int, Integer(minimum=1)] = 1) -> Law:
    """Make a convolution pass its input through."""
    need_ndim(shape, 3, 5)
    if shape[0] % groups:
        raise UndefinedError(
            f"its first dimension, {shape[0]}, is not divisible by {groups} groups"
        )
    return Identity(shape, groups)


@register(
    purpose="structure",
    law="gain where output = input, at the kernel's center, zeros elsewhere, plus N(0, std²)",
    example="identity:std=0.01",
    defined="2 to 5 dimensions",
    paper="Le, Jaitly & Hinton 2015, A simple way to initialize recurrent networks of rectified "
    "linear units, arXiv:1504.00941",
    complete=check_gain,
)
def identity(
    shape: tuple[int, ...], *, gain: AnyGain = 1.0, a: Slope = None, std: NonNegative = 0.0
) -> Law:
    """Make a layer pass its input through, with optional noise."""
    need_ndim(shape, 2, 5)
    return Identity(shape, gain=gain_of(gain, a), noise_std=std)
