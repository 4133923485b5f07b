"""Test draws, before they are rounded, against the laws that they follow.

Two kinds of tests. What a law fixes (a constant, the ones of an identity, orthogonality, a
bound) must hold to the last bits of the arithmetic. What it leaves to chance is tested from
`planning.LEAST_NUMEL` elements on, by statistics of n independent elements X, with an upper
bound p on the probability that a draw which is right lies so far out:

- mean: 2·exp(−n·d² / (2·spread²)), d its distance from the law's.
- std, about the law's mean, s: 2·exp(−n·(r − 1 − ln r) / 2) with r = s² / std², Chernoff's
  bound of chi-square, where no element strays further than a normal's; else, by the
  concentration of Lipschitz functions of normals (Tsirelson, Ibragimov & Sudakov 1976),
  exp(−n·(s − std)² / (2·spread²)) above and the same from √(std² − spread² / n) below.
- distribution: 2·exp(−2·n·D²), D the greatest distance between the share of elements up to a
  point and the law's probability (Kolmogorov-Smirnov) over the edges of equal bins, by the
  inequality of Dvoretzky, Kiefer & Wolfowitz with Massart's constant (1990).

All of them hold for every n, so a run in which every draw is right fails with probability
`planning.FALSE_ALARMS` at most: a test fails where p < FALSE_ALARMS / (tests of the run), and
the probabilities of a false alarm add up to that at most, whatever depends on what. The
chance that is meant is that of the seed; the same seed passes or fails every time.

An observer sees blocks that are gone afterwards, so what it keeps is small.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.planning.plan import Plan, Step
from reinit_cli.tensors.elements import Array, Elements
from reinit_cli.tensors.histogram import Counter
from reinit_cli.tensors.moments import Moments, square

if TYPE_CHECKING:
    import numpy as np

    from reinit_cli.tensors.blocks import Blocks
else:
    np = LazyModule("numpy")

_BINS = 512
"""The bins of a distribution: they hide at most 0.01 of D, the share of a bin at the mode."""

_REACH = 6
"""How many deviations from the mean the bins reach."""

_LAST_BITS = 4
"""How many units in the last place the arithmetic of a draw and its measures may be off."""


_LARGE = 1e150
"""Numbers up to this have squares in float64."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one test found.

    Attributes:
        test: its name.
        statistic: what was drawn.
        expected: what the law says.
        p: a bound on the probability that a right draw lies so far out; None for what a
            law fixes.
        passed: whether it holds.
    """

    test: str
    statistic: float
    expected: float
    p: float | None
    passed: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """A finding that did not pass.

    Attributes:
        key: the tensor's.
        init: what it was filled with, as a rule has it.
        finding: what was found.
        least_p: the probability below which a test fails in this run.
    """

    key: str
    init: str
    finding: Finding
    least_p: float

    def __str__(self) -> str:
        """Say it in one line."""
        found = self.finding
        odds = f" (p = {found.p:.2g}, below {self.least_p:.2g})" if found.p is not None else ""
        numbers = f"{found.statistic:.7g} where {found.expected:.7g} was expected"
        return f"{self.key!r} does not follow {self.init}: its {found.test} is {numbers}{odds}"


class Checker:
    """Observes the draw of one tensor, and tests it."""

    def __init__(self, step: Step, least_p: float) -> None:
        """Prepare the tests.

        Args:
            step: what is drawn.
            least_p: the probability below which a test fails.
        """
        assert step.law is not None
        self._law = step.law
        self._statistics = step.statistics
        # Of a part, what a law fixes for the whole is not known.
        is_known = not step.is_partial or step.law.is_sequential
        self._identity = step.law.identity if is_known else ""
        self._least_p = least_p
        self._moments = Moments()
        self._misfit = 0.0
        self._allowed = 0.0
        self._shape = step.tensor.shape
        self._numel = step.tensor.numel
        self._kept: Array | None = None
        law = step.law
        low = max(law.low, law.mean - _REACH * law.std)
        high = min(law.high, law.mean + _REACH * law.std)
        scale = max(abs(low), abs(high)) if math.isfinite(low + high) else 0.0
        self._counts = Counter(low, high, _BINS) if "distribution" in self._statistics else None
        is_double = step.tensor.dtype == "float64"
        epsilon, tiny = (2.0**-52, 2.0**-1074) if is_double else (2.0**-23, 2.0**-149)
        self._resolution = _LAST_BITS * max(epsilon * scale, tiny)

    def see_before(self, blocks: Blocks, moments: Moments) -> None:
        """Test nothing: old values follow no law."""

    def see(self, block: Elements, moments: Moments) -> None:
        """Take a block into account."""
        self._moments += moments
        if self._counts is not None and math.isfinite(moments.mean):
            self._counts.add(block.array)
        if self._identity:
            whole = block.array if self._law.is_sequential else self._whole(block.array)
            if whole is not None:
                misfit, self._allowed = self._law.misfit(whole)
                self._misfit = max(self._misfit, misfit)

    def _whole(self, block: Array) -> Array | None:
        """Return the draw when its last block is seen; until then None, and keep the block."""
        if block.size == self._numel:
            return block.reshape(self._shape)
        if self._kept is None:
            self._kept = np.empty(self._numel, block.dtype)
        reached = self._moments.numel
        self._kept[reached - block.size : reached] = block
        if reached < self._numel:
            return None
        whole, self._kept = self._kept, None
        return whole.reshape(self._shape)

    def findings(self) -> tuple[Finding, ...]:
        """Return what the tests found, once all blocks were seen."""
        return tuple(self._findings())

    def _findings(self) -> Iterator[Finding]:
        if self._identity:
            passed = self._misfit <= self._allowed
            yield Finding(self._identity, self._misfit, 0.0, None, passed)
        if self._moments.numel and self._law.is_random:
            yield from self._bound()
        for name in self._statistics if self._moments.numel else ():
            statistic, expected, p = {
                "mean": self._mean,
                "std": self._std,
                "distribution": self._distribution,
            }[name]()
            # A statistic that is not a number says nothing.
            odds = p if math.isfinite(self._moments.mean) else 0.0
            yield Finding(name, statistic, expected, odds, odds >= self._least_p)

    def _bound(self) -> Iterator[Finding]:
        law, drawn = self._law, self._moments
        # A law without chance and without bounds, N(mean, 0), is bounded by its mean.
        low, high = (
            (law.low, law.high) if law.std else (max(law.low, law.mean), min(law.high, law.mean))
        )
        if math.isinf(low) and math.isinf(high):
            return
        is_above = drawn.high - high >= low - drawn.low
        extreme, bound = (drawn.high, high) if is_above else (drawn.low, low)
        inside = low - self._resolution <= drawn.low and drawn.high <= high + self._resolution
        yield Finding("bound", extreme, bound, None, inside)

    def _mean(self) -> tuple[float, float, float]:
        law, drawn = self._law, self._moments
        apart = self._apart(drawn.mean, law.mean) / law.spread
        return drawn.mean, law.mean, _twice(-drawn.numel * square(apart) / 2)

    def _std(self) -> tuple[float, float, float]:
        law, drawn = self._law, self._moments
        expected = law.std
        std = math.hypot(drawn.std, drawn.mean - law.mean)
        apart = self._apart(std, expected)
        if law.spread <= law.std:
            ratio = square(1 + math.copysign(apart / expected, std - expected))
            exponent = (ratio - 1 - math.log(ratio)) / 2 if ratio else math.inf
        else:
            # The expected root lies between √(std² − spread² / n) and std. A scale keeps the
            # squares of the largest numbers within float64.
            scale = law.spread if law.spread > _LARGE else 1.0
            least = square(expected / scale) - square(law.spread / scale) / drawn.numel
            slack = expected - scale * math.sqrt(max(0.0, least))
            exponent = square(max(0.0, apart - (slack if std < expected else 0)) / law.spread) / 2
        return std, expected, _twice(-drawn.numel * exponent)

    def _distribution(self) -> tuple[float, float, float]:
        assert self._counts is not None
        n = self._moments.numel
        distance = 0.0
        for edge, below in self._counts.cumulative():
            share = below / n
            sign = 1 if share > self._law.cdf(edge) else -1
            # Rounding may have moved elements over the edge.
            moved = self._law.cdf(edge + sign * self._resolution)
            distance = max(distance, sign * (share - moved))
        return distance, 0.0, _twice(-2 * n * distance**2)

    def _apart(self, statistic: float, expected: float) -> float:
        """Return their distance, less what the arithmetic may have made of it."""
        return max(0.0, abs(statistic - expected) - self._resolution)


class Checks:
    """Observes all draws of a run whose plan asks for it."""

    def __init__(self, plan: Plan) -> None:
        """Test what a plan draws, or nothing."""
        self._is_asked = plan.request.check
        self._least_p = plan.least_p  # counts all steps, so it is asked for once
        self._checkers: dict[str, Checker] = {}
        self.findings: dict[str, tuple[Finding, ...]] = {}
        self.have_failed = False

    def observe(self, step: Step) -> Checker | None:
        """Return who tests the draw of a step."""
        if not self._is_asked or step.follows is None:
            return None
        checker = self._checkers[step.drawn_as] = Checker(step, self._least_p)
        return checker

    def have_passed(self) -> bool:
        """Test what was drawn since the last time; say whether all of it passed."""
        found = {key: checker.findings() for key, checker in self._checkers.items()}
        self._checkers.clear()
        for key, findings in found.items():
            self.learn(key, findings)
        return not self.have_failed

    def forget(self) -> None:
        """Forget what was tested."""
        self._checkers.clear()
        self.findings.clear()
        self.have_failed = False

    def learn(self, key: str, findings: Sequence[Finding]) -> None:
        """Take over what the tests of a draw found."""
        self.findings[key] = tuple(findings)
        if not all(each.passed for each in findings):
            self.have_failed = True


def failures_of(plan: Plan, findings: Mapping[str, Sequence[Finding]]) -> tuple[Failure, ...]:
    """Return the findings that did not pass, in the order of the plan."""
    least_p = plan.least_p
    return tuple(
        Failure(step.key, str(step.init), finding, least_p)
        for step in plan.draws
        for finding in findings.get(step.key, ())
        if not finding.passed
    )


def _twice(exponent: float) -> float:
    """Return 2·exp(exponent) as a probability."""
    return min(1.0, 2 * math.exp(exponent))
