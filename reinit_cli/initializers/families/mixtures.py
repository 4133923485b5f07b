"""Initializers that mix existing values with new ones, or with those of another checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, cast

from reinit_cli.errors import ArgumentError
from reinit_cli.initializers.arguments import inner_init
from reinit_cli.initializers.blocks import Filler, Take, nothing, pieces
from reinit_cli.initializers.declaration import Arguments
from reinit_cli.initializers.donors import tensor_like
from reinit_cli.initializers.drawing import drawn_blocks
from reinit_cli.initializers.families.compounds import check_inner, inner_law
from reinit_cli.initializers.families.transforms import Scaled
from reinit_cli.initializers.fans import Fans, UndefinedError, fans
from reinit_cli.initializers.law import Dtype, Law
from reinit_cli.initializers.parameters import Checkpoint, DonorKey, Nested, Number, Real
from reinit_cli.initializers.registry import register
from reinit_cli.initializers.site import Site
from reinit_cli.initializers.transform import Transform
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.streams.chance import Array, Chance
from reinit_cli.tensors.dtype import DTYPES
from reinit_cli.tensors.moments import BLOCK_NUMEL

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")


def _mix(values: Array, share: float, others: Array, share_of_others: float) -> None:
    """Replace values by share · values + share_of_others · others."""
    kind = values.dtype.type
    with np.errstate(all="ignore"):
        values *= kind(share)
        values += kind(share_of_others) * others


# --- with new values ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Perturbed(Transform):
    """shrink · w + perturb · a draw of another law.

    Attributes:
        shrink: the share of the existing values.
        perturb: the share of the draw.
        fresh: the law of the draw.
    """

    shrink: float
    perturb: float
    fresh: Law

    @property
    def is_random(self) -> bool:
        """Whether the draw is."""
        return self.fresh.is_random

    @property
    def is_elementwise(self) -> bool:
        """Whether the draw is."""
        return self.fresh.is_elementwise

    @property
    def library(self) -> str:
        """That of the draw."""
        return self.fresh.library

    def fill(self, values: Array, chance: Chance) -> None:
        """Draw as many values, and mix them with those that exist."""
        drawn = np.empty(values.shape, values.dtype)
        self.fresh.fill(drawn, chance)
        _mix(values, self.shrink, drawn, self.perturb)

    def filler(self, shape: tuple[int, ...], dtype: Dtype, chance: Chance) -> Filler:
        """Return what mixes a run of the draw with the values that are in it."""
        fresh = self.fresh.filler(shape, dtype, chance)

        def fill(run: Array, at: int) -> None:
            drawn = np.empty(run.shape, run.dtype)
            fresh(drawn, at)
            _mix(run, self.shrink, drawn, self.perturb)

        return fill

    def blocks(
        self, shape: tuple[int, ...], dtype: Dtype, chance: Chance, take: Take = nothing
    ) -> Iterator[Array]:
        """Yield what `fill` writes, as the blocks of the draw come."""
        for block in drawn_blocks(self.fresh, shape, dtype, chance):
            for drawn in pieces(block, BLOCK_NUMEL):
                values = np.empty_like(drawn)
                take(values)
                _mix(values, self.shrink, drawn, self.perturb)
                yield values

    def working_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int | None:
        """Return what the draw takes."""
        return self.fresh.working_nbytes(shape, itemsize)

    def filling_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int | None:
        """Return what the draw takes."""
        return self.fresh.filling_nbytes(shape, itemsize)


_FORMS = "it takes factor and std, or shrink, perturb and inner"


def _complete_shrink_perturb(name: str, given: Arguments) -> Arguments:
    """Check that one of the two forms is given, and add what it has by default."""
    is_new = not {"shrink", "perturb", "inner"}.isdisjoint(given)
    if is_new and not {"factor", "std"}.isdisjoint(given):
        shrink = given.get("shrink", given.get("factor", 0.5))
        perturb = given.get("perturb", given.get("std", 0.1))
        inner = given.get("inner", "default")
        meant = f"{name}:shrink={shrink},perturb={perturb},inner={inner}"
        raise ArgumentError(name, _FORMS, (meant,))
    missing = [each for each in _form(is_new=is_new) if each not in given]
    if missing:
        usual = {"shrink": 0.5, "perturb": 0.1, "inner": "default"}
        likely = usual | given if is_new else {"factor": 0.5, "std": 0.01, **given}
        text = ",".join(f"{key}={value}" for key, value in likely.items())
        raise ArgumentError(name, missing[0], (f"{name}:{text}",), kind="missing")
    return check_inner(name, {"inner": "default", **given}) if is_new else given


def _form(*, is_new: bool) -> tuple[str, ...]:
    return ("shrink", "perturb") if is_new else ("factor", "std")


def _fresh_fans(shape: tuple[int, ...], *, inner: str | None, **others: object) -> Fans:
    del others
    found = inner_init(inner).fans(shape) if inner is not None else None
    return found or fans(shape)


def _fresh_key(site: Site, shape: tuple[int, ...], *, inner: str | None, **others: object) -> str:
    del others
    return inner_init(inner).drawn_as(shape, site) if inner is not None else site.key


@register(
    purpose="existing",
    law="shrink · w + perturb · v, v drawn by inner, as the authors' code has it; or "
    "factor · w + N(0, std²), as their paper has it",
    example="shrink_perturb:shrink=0.5,perturb=0.1,inner=xavier_uniform",
    defined="any shape; those that inner can fill",
    paper="Ash & Adams 2020, On warm-starting neural network training, NeurIPS, arXiv:1910.08475",
    complete=_complete_shrink_perturb,
    fans=_fresh_fans,
    drawn_as=_fresh_key,
    is_transform=True,
    has_rounds=True,
)
def shrink_perturb(
    shape: tuple[int, ...],
    site: Site,
    *,
    factor: Annotated[float | None, Number()] = None,
    std: Annotated[float | None, Number(minimum=0)] = None,
    shrink: Annotated[float | None, Number()] = None,
    perturb: Annotated[float | None, Number()] = None,
    inner: Annotated[str | None, Nested()] = None,
) -> Law:
    """Shrink existing values and add new ones, for warm starts.

    With shrink and perturb the new values are what `inner` draws, `default` if it is not given:
    a model of the same architecture as its constructor makes it.
    """
    if inner is None:
        return Scaled(cast("float", factor), cast("float", std))
    fresh = inner_law(inner, shape, site)
    return Perturbed(cast("float", shrink), cast("float", perturb), fresh)


# --- with another checkpoint -------------------------------------------------------------------


@dataclass(frozen=True)
class Blended(Transform):
    """(1 − t) · w + t · the values of a tensor of another checkpoint, which it is given.

    Attributes:
        t: the share of the other checkpoint.
        donor: the other checkpoint.
        donor_key: the key there, where it is another; "" for the same.
    """

    t: float
    donor: str
    donor_key: str = ""
    mixes = True

    def mixed_with(self, own: Take) -> Law:
        """Return the law that has the tensor's own values."""
        return _Blend(self.t, own)


@dataclass(frozen=True)
class _Blend(Transform):
    """(1 − t) · the tensor's own values + t · those that it is given.

    Attributes:
        t: the share of those that it is given.
        own: gives the tensor's own values, in their order.
    """

    t: float
    own: Take
    is_elementwise = True

    def fill(self, values: Array, chance: Chance) -> None:
        """Mix in place."""
        del chance
        own = np.empty(values.size, values.dtype)
        self.own(own)
        _mix(own, 1.0 - self.t, values.reshape(-1), self.t)
        values[...] = own.reshape(values.shape)


def _complete_blend(name: str, given: Arguments) -> Arguments:
    if "t" not in given and "checkpoint" in given:
        meant = f"{name}:{given['checkpoint']},0.5"
        raise ArgumentError(name, "t", (meant,), kind="missing")
    return given


@register(
    purpose="elsewhere",
    law="(1 − t)·w + t·v, where v is the tensor with the same key in another checkpoint, or with "
    "the key that `from` names",
    example="blend:step0.safetensors,0.5",
    defined="floating-point tensors with the same shape in the other checkpoint",
    paper="Wortsman, Ilharco, Kim et al. 2022, Robust fine-tuning of zero-shot models, CVPR, "
    "arXiv:2109.01903",
    complete=_complete_blend,
    is_transform=True,
)
def blend(
    shape: tuple[int, ...],
    site: Site,
    *,
    checkpoint: Annotated[str, Checkpoint()],
    t: Real,
    from_: Annotated[str | None, DonorKey()] = None,
) -> Law:
    """Interpolate between two checkpoints, or go beyond one.

    `from` names the tensor there as in `rewind`. It is computed in float32, of float64 tensors
    in float64, and rounded once.
    """
    found = tensor_like(site, shape, checkpoint, from_)
    for dtype, where in ((site.dtype, "it is"), (found.dtype, f"in {checkpoint!r} it is")):
        if dtype not in DTYPES or DTYPES[dtype].kind != "float":
            raise UndefinedError(f"{where} {dtype}, and a blend is of floating-point numbers")
    return Blended(t, checkpoint, found.key if found.key != site.key else "")
