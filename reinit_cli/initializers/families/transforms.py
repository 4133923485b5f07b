"""Initializers that transform existing values rather than replace them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from reinit_cli.errors import ArgumentError
from reinit_cli.initializers.blocks import Take, nothing, pieces
from reinit_cli.initializers.declaration import Arguments
from reinit_cli.initializers.donors import need_alike, tensor_of
from reinit_cli.initializers.fans import UndefinedError
from reinit_cli.initializers.law import Dtype, Law, Normal, Uniform
from reinit_cli.initializers.mean_rows import MeanRows
from reinit_cli.initializers.parameters import (
    Checkpoint,
    Choice,
    DonorKey,
    Number,
    Real,
)
from reinit_cli.initializers.registry import register
from reinit_cli.initializers.site import Site
from reinit_cli.initializers.transform import Move, Transform
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.streams.chance import Array, Chance
from reinit_cli.tensors.moments import BLOCK_NUMEL, Moments

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")


def _finite(moments: Moments) -> Moments:
    if not (math.isfinite(moments.mean) and math.isfinite(moments.std)):
        raise UndefinedError("its values are not all finite, so they have no mean and std")
    return moments


# --- arithmetic ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scaled(Transform):
    """factor · w + N(0, std²)."""

    factor: float
    noise_std: float = 0.0
    is_elementwise = True

    @property
    def is_random(self) -> bool:
        """Whether there is noise."""
        return self.noise_std > 0

    def fill(self, values: Array, chance: Chance) -> None:
        """Multiply, then add a normal of the same shape."""
        with np.errstate(all="ignore"):
            if self.factor != 1:
                values *= values.dtype.type(self.factor)
            if self.noise_std:
                noise = np.empty(values.shape, values.dtype)
                chance.normal(noise, 0.0, self.noise_std)
                values += noise


@dataclass(frozen=True)
class RelativeNoise(Transform):
    """w + N(0, (relative · the std of w)²)."""

    relative: float
    is_random = True
    needs_moments = True

    def settled(self, moments: Moments) -> Law:
        """Return noise of that size."""
        return Scaled(1.0, self.relative * _finite(moments).std)


@dataclass(frozen=True)
class Resampled(Transform):
    """A normal or a uniform with the tensor's own mean and standard deviation."""

    distribution: str
    is_random = True
    needs_moments = True

    def settled(self, moments: Moments) -> Law:
        """Return the law that replaces the values."""
        mean, std = _finite(moments).mean, moments.std
        if self.distribution == "normal":
            return Normal(mean, std)
        return Uniform(mean - math.sqrt(3.0) * std, mean + math.sqrt(3.0) * std)


@dataclass(frozen=True)
class Clamped(Transform):
    """The nearest value in [least, most]; NaN stays NaN."""

    least: float
    most: float
    is_elementwise = True

    def fill(self, values: Array, chance: Chance) -> None:
        """Clamp in place."""
        del chance
        kind = values.dtype.type
        with np.errstate(over="ignore"):
            np.clip(values, kind(self.least), kind(self.most), out=values)


@register(purpose="existing", law="factor · w", example="scale:0.5", is_transform=True)
def scale(shape: tuple[int, ...], *, factor: Real) -> Law:
    """Multiply existing values by a factor."""
    del shape
    return Scaled(factor)


def _one_of_two(name: str, given: Arguments) -> Arguments:
    if ("std" in given) == ("relative" in given):
        problem = "it takes either std or relative, which is in units of the tensor's own std"
        raise ArgumentError(name, problem, (f"{name}:std=0.01", f"{name}:relative=0.1"))
    return given


@register(
    purpose="existing",
    law="w + N(0, std²); with relative, std = relative · the std of w",
    example="noise:std=0.01",
    lone=("std={0}", "relative={0}"),
    complete=_one_of_two,
    is_transform=True,
    has_rounds=True,
)
def noise(
    shape: tuple[int, ...],
    *,
    std: Annotated[float | None, Number(minimum=0)] = None,
    relative: Annotated[float | None, Number(minimum=0)] = None,
) -> Law:
    """Add normal noise to existing values."""
    del shape
    return Scaled(1.0, std) if std is not None else RelativeNoise(relative or 0.0)


@register(
    purpose="existing",
    law="N(mean(w), std(w)²), or a uniform distribution with this mean and std",
    example="resample:normal",
    is_transform=True,
    has_rounds=True,
)
def resample(
    shape: tuple[int, ...],
    *,
    distribution: Annotated[str, Choice(("normal", "uniform"))] = "normal",
) -> Law:
    """Draw new values with the mean and std of the existing ones."""
    del shape
    return Resampled(distribution)


def _need_a_bound(name: str, given: Arguments) -> Arguments:
    low, high = given.get("min"), given.get("max")
    if low is None and high is None:
        raise ArgumentError(name, "it takes min, max or both", (f"{name}:min=-1,max=1",))
    if isinstance(low, (int, float)) and isinstance(high, (int, float)) and low > high:
        raise ArgumentError(name, f"min={low:g} is above max={high:g}")
    return given


@register(
    purpose="existing",
    law="min(max, max(min, w))",
    example="clamp:min=-1,max=1",
    lone=("min=-{0},max={0}", "min={0}", "max={0}"),
    complete=_need_a_bound,
    is_transform=True,
)
def clamp(
    shape: tuple[int, ...],
    *,
    min: Annotated[float | None, Number()] = None,  # noqa: A002 (torch's name)
    max: Annotated[float | None, Number()] = None,  # noqa: A002 (torch's name)
) -> Law:
    """Clamp existing values to a range."""
    del shape
    return Clamped(-math.inf if min is None else min, math.inf if max is None else max)


# --- moves -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shuffled(Move):
    """The same values in a random order: w[randperm(numel)] in row-major order."""

    is_random = True
    is_sequential = False
    rearranges = True

    def fill(self, values: Array, chance: Chance) -> None:
        """Permute in place."""
        flat = values.reshape(-1)
        flat[...] = flat[chance.permutation(flat.size)]

    def blocks(
        self, shape: tuple[int, ...], dtype: Dtype, chance: Chance, take: Take = nothing
    ) -> Iterator[Array]:
        """Yield what `fill` writes, gathered block by block."""
        flat = np.empty(math.prod(shape), dtype)
        take(flat)
        for places in pieces(chance.permutation(flat.size), BLOCK_NUMEL):
            yield flat[places]

    def working_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return what the values and the permutation take."""
        numel = math.prod(shape)
        return numel * (itemsize + (4 if numel < _LEAST_LONG else 8))

    def filling_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return what the values take, and the words that are sorted."""
        return math.prod(shape) * (itemsize + 8)


_LEAST_LONG = 2**31
"""The fewest elements whose places do not fit into 32 bits."""


@dataclass(frozen=True)
class Taken(Move):
    """The values of a tensor of another checkpoint, which the tensor holds already.

    Attributes:
        donor: the other checkpoint.
        donor_key: the key there, where it is another; "" for the same.
    """

    donor: str
    donor_key: str = ""
    is_elementwise = True

    def fill(self, values: Array, chance: Chance) -> None:
        """Leave the values as they are."""
        del values, chance


@register(
    purpose="existing", law="w, permuted", example="shuffle", is_transform=True, has_rounds=True
)
def shuffle(shape: tuple[int, ...]) -> Law:
    """Permute existing values within the tensor."""
    del shape
    return Shuffled()


@register(
    purpose="elsewhere",
    law="the tensor with the same key in another checkpoint, or with the key that `from` names",
    example="rewind:step0.safetensors",
    defined="tensors with the same shape in the other checkpoint, and the same dtype or two "
    "floating-point dtypes",
    paper="Frankle, Dziugaite, Roy & Carbin 2020, Linear mode connectivity and the lottery ticket "
    "hypothesis, ICML, arXiv:1912.05671",
    is_transform=True,
    takes_all=True,
)
def rewind(
    shape: tuple[int, ...],
    site: Site,
    *,
    checkpoint: Annotated[str, Checkpoint()],
    from_: Annotated[str | None, DonorKey()] = None,
) -> Law:
    """Copy the tensor from another checkpoint, bit for bit.

    In `from` a star is the key: "from=model.*", or "from=module.*=*" for the key without its
    prefix. Without it, and where the other checkpoint has no such keys, one prefix that it has
    or lacks is found. Another dtype of floats is rounded once.
    """
    found = tensor_of(site, checkpoint, from_)
    need_alike(found, shape, site, checkpoint)
    return Taken(checkpoint, found.key if found.key != site.key else "")


# --- new rows --------------------------------------------------------------------------------


@register(
    purpose="elsewhere",
    law="N(m, 1e-9·C), where m and C are the mean and covariance of the existing rows",
    example="mean",
    usage='--resize "*embed*.weight=50304:{}"',
    defined="the new rows of --resize",
    paper="Hewitt 2021, Initializing new word embeddings for pretrained language models",
    is_transform=True,
    has_rounds=True,
    version=3,
)
def mean(shape: tuple[int, ...], site: Site) -> Law:
    """Start new embedding rows near the mean of the old ones."""
    del shape
    if not site.kept_rows:
        raise UndefinedError("it fills new rows of --resize next to old ones")
    return MeanRows(site.kept_rows, site.version)
