"""Log-uniform values, and what state spaces start with (Mamba)."""

from __future__ import annotations

import math
from typing import cast

from reinit_cli.errors import ArgumentError
from reinit_cli.initializers.decimals import log_ratio
from reinit_cli.initializers.declaration import Arguments
from reinit_cli.initializers.elementary import logarithm
from reinit_cli.initializers.fans import need_ndim
from reinit_cli.initializers.indexed import Indexed
from reinit_cli.initializers.law import Constant, Law
from reinit_cli.initializers.mapped import (
    InverseSoftplus,
    LogOfUniform,
    LogUniform,
    inverse_softplus_of,
)
from reinit_cli.initializers.parameters import NonNegative, Positive
from reinit_cli.initializers.registry import register
from reinit_cli.lazy import dataclass
from reinit_cli.streams.chance import Array

_MAMBA = (
    "Gu & Dao 2023, Mamba: linear-time sequence modeling with selective state spaces, "
    "arXiv:2312.00752"
)

_SMALLEST = 1e-300
"""Below it, numbers come near to those with fewer digits."""


@dataclass(frozen=True, slots=True)
class LogCounts(Indexed):
    """ln 1, ln 2, … in every row of `columns` elements."""

    columns: int
    low = 0.0

    @property
    def high(self) -> float:
        """Ln(columns)."""
        return math.log(max(1, self.columns))

    @property
    def mean(self) -> float:
        """Ln(columns!) / columns."""
        return math.lgamma(self.columns + 1) / max(1, self.columns)

    @property
    def std(self) -> float:
        """That of one row; of a long row the squares are those of every so many elements."""
        count = max(1, self.columns)
        step = -(-count // _SUMMED)
        logs = [math.log(number) for number in range(1 + step // 2, count + 1, step)]
        mean = math.fsum(logs) / len(logs)
        return math.sqrt(math.fsum((each - mean) ** 2 for each in logs) / len(logs))

    def at(self, places: Array) -> Array:
        """Return the logarithms of the columns, from 1 on."""
        return logarithm(places % self.columns + 1.0)


_SUMMED = 2**14
"""The most logarithms that are summed."""


# --- initializers --------------------------------------------------------------------------------


def _check_bounds(name: str, given: Arguments) -> Arguments:
    """Return the given arguments, if the lower bound is not above the upper one.

    Raises:
        ArgumentError: it is, or one of them is smaller than can be computed with.
    """
    found = cast("dict[str, float]", _BOUNDS.get(name, {}) | given)
    for each in ("a", "b"):
        if found.get(each, 1.0) < _SMALLEST:
            raise ArgumentError(name, f"{each}={found[each]:g} is below {_SMALLEST:g}")
    if found.get("a", 0.0) > found.get("b", math.inf):
        raise ArgumentError(name, f"a={found['a']:g} is above b={found['b']:g}")
    return given


_BOUNDS = {"inverse_softplus": {"a": 0.001, "b": 0.1}, "mamba_a": {"a": 1.0, "b": 16.0}}
"""The defaults of initializers that have any: those of Mamba and Mamba-2."""


@register(
    purpose="plain",
    law="e^u, u from U(ln a, ln b)",
    example="log_uniform:a=0.001,b=0.1",
    complete=_check_bounds,
)
def log_uniform(shape: tuple[int, ...], *, a: Positive, b: Positive) -> Law:
    """Draw positive values, uniform on a logarithmic scale.

    With the stream philox-1, the exponential is computed in float64, in steps that give the same
    bits everywhere, and rounded once.
    """
    del shape
    return LogUniform(a, b) if a < b else Constant(a)


@register(
    purpose="structure",
    law="ln(e^t − 1) with t = max(floor, e^u), u from U(ln a, ln b)",
    example="inverse_softplus:a=0.001,b=0.1,floor=1e-4",
    usage='-r "*.dt_proj.bias={}"',
    paper=_MAMBA,
    aliases=("mamba_dt",),
    complete=_check_bounds,
)
def inverse_softplus(
    shape: tuple[int, ...],
    *,
    a: Positive = 0.001,
    b: Positive = 0.1,
    floor: NonNegative = 1e-4,
) -> Law:
    """Start biases before a softplus, such as dt_proj.bias of Mamba.

    Their softplus is log-uniform between `a` and `b`, and at least `floor`: the dt_min, dt_max and
    dt_init_floor of Mamba. The exponential and the logarithm are computed as that of `log_uniform`.
    """
    del shape
    if a == b or floor >= b:
        return Constant(inverse_softplus_of(max(b, floor)))
    return InverseSoftplus(LogUniform(a, b), floor)


@register(
    purpose="structure",
    law="ln 1 to ln N in every row of N; in 1-D tensors ln u, u from U(a, b)",
    example="mamba_a",
    usage='-r "*.A_log={}"',
    defined="1 or 2 dimensions",
    paper=f"{_MAMBA} (2-D); Dao & Gu 2024, Transformers are SSMs, ICML, arXiv:2405.21060 (Mamba-2)",
    complete=_check_bounds,
)
def mamba_a(shape: tuple[int, ...], *, a: Positive = 1.0, b: Positive = 16.0) -> Law:
    """Start A_log of Mamba, or of Mamba-2; D starts with ones.

    Logarithms are computed in float64, in steps that give the same bits everywhere, and rounded
    once.
    """
    need_ndim(shape, 1, 2)
    if len(shape) == 2:
        return LogCounts(shape[1])
    return LogOfUniform(a, b) if a < b else Constant(log_ratio(1.0, a))
