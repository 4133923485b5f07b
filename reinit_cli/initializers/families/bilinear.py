"""Upsampling by transposed convolutions."""

from __future__ import annotations

import math

from reinit_cli.initializers.fans import UndefinedError, need_ndim
from reinit_cli.initializers.indexed import Indexed
from reinit_cli.initializers.law import Constant, Law
from reinit_cli.initializers.registry import register
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.streams.chance import Array

np = LazyModule("numpy")


@dataclass(frozen=True, slots=True)
class Bilinear(Indexed):
    """A kernel that interpolates, from each input channel to the output channel of its number.

    Attributes:
        shape: (in, out / groups, *kernel), in a multiple of out / groups.
    """

    shape: tuple[int, ...]
    low = 0.0

    @property
    def _kernel(self) -> tuple[int, ...]:
        return self.shape[2:]

    @property
    def high(self) -> float:
        """The center of the kernel."""
        return math.prod(max(_weights(size)) for size in self._kernel)

    @property
    def mean(self) -> float:
        """The sum of a kernel, over the elements of a row of kernels."""
        return self._moment(1)

    @property
    def std(self) -> float:
        """By the sum of the squares of a kernel."""
        return math.sqrt(max(0.0, self._moment(2) - self.mean**2))

    def _moment(self, power: int) -> float:
        sums = (math.fsum(each**power for each in _weights(size)) / size for size in self._kernel)
        return math.prod(sums) / self.shape[1]

    def at(self, places: Array) -> Array:
        """Return the products of the weights of all dimensions, where channels meet, or 0."""
        pairs, rest = np.divmod(places, math.prod(self._kernel))
        channel, to = np.divmod(pairs, self.shape[1])
        values: Array = (channel % self.shape[1] == to).astype(np.float64)
        for size in reversed(self._kernel):
            rest, place = np.divmod(rest, size)
            values *= np.array(_weights(size))[place]
        return values


def _weights(size: int) -> list[float]:
    """Return the weights of one dimension of a kernel: a triangle, as in the code of FCN."""
    factor = (size + 1) // 2
    center = factor - 1 if size % 2 else factor - 0.5
    return [1 - abs(place - center) / factor for place in range(size)]


@register(
    purpose="structure",
    law="∏(1 − |place − center| / factor) over the dimensions of the kernel, factor = ⌈size / 2⌉, "
    "from each channel to itself; zeros elsewhere",
    example="bilinear",
    usage='-r "*upscore*.weight={}"',
    defined="3 to 5 dimensions: (in, out / groups, *kernel) of a transposed convolution, in a "
    "multiple of out / groups",
    paper="Long, Shelhamer & Darrell 2015, Fully convolutional networks for semantic segmentation, "
    "CVPR (FCN)",
)
def bilinear(shape: tuple[int, ...]) -> Law:
    """Start transposed convolutions as bilinear upsampling.

    A kernel of 4 and a stride of 2 double the size: a stride of s goes with a kernel of 2s - s % 2.
    """
    need_ndim(shape, 3, 5)
    if 0 in shape:
        return Constant(0.0)
    if shape[0] % shape[1]:
        raise UndefinedError(f"its {shape[0]} inputs are not a multiple of its {shape[1]} outputs")
    return Bilinear(shape)
