"""Define the laws of complex tensors: a real and an imaginary part, drawn one after the other."""

from __future__ import annotations

import math

from reinit_cli.initializers.blocks import Filler
from reinit_cli.initializers.law import Dtype, Law, Normal, Statistic, Uniform
from reinit_cli.initializers.of_part import OfPart
from reinit_cli.initializers.site import Site
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.streams.chance import Array, Chance

np = LazyModule("numpy")

COMPLEX = "complex"
"""The name under which records have the version of how complex tensors are filled."""

COMPLEX_VERSION = 2
"""In 1 they took constants alone."""


@dataclass(frozen=True)
class Complex(OfPart):
    """Two numbers of one law for each element; moments and bounds are those of each of them.

    Attributes:
        part: the law of the real part, and of the imaginary part.
    """

    is_sequential = True
    is_elementwise = True
    numbers_per_element = 2

    @property
    def spread(self) -> float:
        """As of a part."""
        return self.part.spread

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """Those of real parts that need no histogram, which there is none of for complex numbers."""
        return tuple(each for each in self.part.statistics if each != "distribution")

    def cdf(self, x: float) -> float:
        """As of a part."""
        return self.part.cdf(x)

    def fill(self, values: Array, chance: Chance) -> None:
        """Draw both parts of each element, in the order of memory, as torch does."""
        self.part.fill(_parts(values.reshape(-1)), chance)

    def filler(self, shape: tuple[int, ...], dtype: Dtype, chance: Chance) -> Filler:
        """Return what fills runs: each element takes two numbers."""
        part = self.part.filler((*shape, 2), np.empty(0, dtype).real.dtype, chance)
        return lambda run, at: part(_parts(run), 2 * at)

    def words(self, numel: int, itemsize: int) -> int | None:
        """As many as twice as many real numbers."""
        return self.part.words(2 * numel, itemsize // 2)


def _parts(flat: Array) -> Array:
    """Return the real and imaginary parts of a contiguous array in turn, which share its memory."""
    return flat.view(flat.real.dtype)


def of_complex(law: Law | None, site: Site, *, has_fans: bool) -> Law | None:
    """Return the law of a complex tensor whose real counterpart has a given law.

    Both conventions are torch's: std² is the mean of |w − mean|², half of it in each part, and
    each part of a uniform has its bounds. With the std of Xavier and Kaiming this is the complex
    Glorot and He of Trabelsi et al. 2018 (arXiv:1705.09792): a Rayleigh magnitude, a uniform phase.

    Args:
        law: that of a real tensor.
        site: the tensor.
        has_fans: whether the law follows from fans; of a uniform one no complex one is known.
    """
    if not site.dtype.startswith("complex"):
        return law
    if site.elsewhere.version_of(COMPLEX, COMPLEX_VERSION) < COMPLEX_VERSION:
        return law
    if isinstance(law, Normal):
        return Complex(Normal(law.mean, law.std / math.sqrt(2.0)))
    return Complex(law) if isinstance(law, Uniform) and not has_fans else law
