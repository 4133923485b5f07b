"""Say what a user should know about a plan, and refuse rules that do nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from reinit_cli.errors import UnmatchedRuleError
from reinit_cli.initializers import Transform
from reinit_cli.initializers.truncated import TruncatedNormal
from reinit_cli.planning.match import Matches
from reinit_cli.planning.plan import Plan, Step
from reinit_cli.request.pattern import NO_KEY, Missed
from reinit_cli.request.rule import Rule
from reinit_cli.streams.stream import stream_named
from reinit_cli.tensors.info import TensorInfo, tied_groups
from reinit_cli.text import plural, quoted

FAR_BOUND = 10
"""A bound that is more deviations than this from the mean truncates nothing."""


_SHADOWED = "owns no tensor: later rules took all it matches"


def skip_notes(steps: Sequence[Step]) -> list[str]:
    """Return, for each reason why a rule skips tensors, how many it skips."""
    reasons = Counter(step.reason for step in steps if step.action == "skip")
    return [f"{count:,} skipped: {reason}" for reason, count in reasons.most_common()]


def refuse_idle(
    plan: Plan, owned: Sequence[Sequence[Step]], matches: Matches, keys: Sequence[str]
) -> tuple[str, ...]:
    """Refuse rules that match or fill nothing; return warnings where that is allowed.

    A rule that lost tensors to later rules is not to blame.
    """
    filled = {step.head for step in plan.steps}
    warnings = [
        f"{key!r} of the new head follows your rule, not its constructor"
        for key in plan.heads
        if key not in filled
    ]
    for at, (rule, steps) in enumerate(zip(plan.rules, owned, strict=True)):
        count, lost = matches.named[at], plan.shadowed[at]
        missed = matches.missed.get(at, NO_KEY)
        problem = _idleness(plan.source, rule, steps, count, matches.counts[at], missed)
        if problem and not lost and not plan.request.allow_unmatched:
            known = missed.kinds or keys
            raise UnmatchedRuleError(
                rule.text,
                problem,
                () if count else known,
                kind="exclude" if rule.is_exclusion else "kind" if missed.kinds else "",
                word=rule.pattern.text,
                of=plan.source,
            )
        if problem:
            warnings.append(f"{_said(rule)} {problem}")
    return tuple(warnings)


def _said(rule: Rule) -> str:
    return f"-x {quoted(rule.match)}" if rule.is_exclusion else f"rule {quoted(rule.text)}"


def _idleness(
    source: str, rule: Rule, owned: Sequence[Step], named: int, matched: int, missed: Missed
) -> str:
    if not named:
        return f"matches no {missed.what} of {source}{missed.instead}"
    if not matched:
        dimensions = rule.init.wanted_dimensions
        return f"matches {plural(named, 'key')} of {source}, and none has {dimensions}"
    if not owned:
        return _SHADOWED
    if rule.init.keeps or any(step.action == "fill" for step in owned):
        return ""
    return f"fills nothing of {source}: {'; '.join(skip_notes(owned))}"


def shared_outside(steps: Sequence[Step], outside: Sequence[TensorInfo]) -> Iterator[str]:
    """Say which tensors outside change with those that are filled."""
    if outside:
        filled = {step.key for step in steps if step.is_filled}
        groups = tied_groups((*(step.tensor for step in steps), *outside))
        beyond = {tensor.key for tensor in outside}
        for key in sorted(beyond & groups.keys()):
            inside = [other for other in groups[key] if other in filled]
            if inside:
                yield f"{inside[0]!r} also changes {key!r}: they are one tensor"


def warnings_of(plan: Plan, owned: Sequence[Sequence[Step]]) -> Iterator[str]:
    """Yield what a user should know about a plan."""
    yield from _ruined_scales(plan.rules, owned)
    yield from _idle_bounds(plan.rules, owned)
    yield from _shared_streams(plan)
    yield from _real_runs(plan.steps)


def _ruined_scales(rules: Sequence[Rule], owned: Sequence[Sequence[Step]]) -> Iterator[str]:
    """Warn of a random law on a 1-D `*.weight`, which is usually the scale of a normalization."""
    for rule, steps in zip(rules, owned, strict=True):
        scales = [
            step.key
            for step in steps
            if step.law is not None
            and step.law.is_random
            and not isinstance(step.law, Transform)
            and len(step.tensor.shape) == 1
            and step.key.rpartition(".")[2] == "weight"
        ]
        if scales:
            more = f" and {len(scales) - 1} more" if len(scales) > 1 else ""
            yield (
                f"rule {quoted(rule.text)} draws 1-dimensional weights, which are usually scales of "
                f"normalizations: {scales[0]!r}{more}; min_ndim=2 leaves them out"
            )


def _idle_bounds(rules: Sequence[Rule], owned: Sequence[Sequence[Step]]) -> Iterator[str]:
    """Warn of absolute bounds so wide that they were meant in deviations."""
    for rule, steps in zip(rules, owned, strict=True):
        laws = (step.law for step in steps if isinstance(step.law, TruncatedNormal))
        law = next(laws, None)
        if law is None or rule.init.given.get("bounds") != "absolute":
            continue
        apart = min(law.center - law.low, law.high - law.center) / law.scale
        if apart > FAR_BOUND:
            yield (
                f"rule {quoted(rule.text)} has bounds {apart:.3g} std away from the mean, so that "
                "nothing is truncated: a and b are absolute; bounds=in_std counts them in std"
            )


def _real_runs(steps: Sequence[Step]) -> Iterator[str]:
    """Say which tensors are taken from a real run of a constructor."""
    by_default = [
        share
        for step in steps
        for share in step.shares
        if share.init is not None and share.init.initializer.name == "default"
    ]
    if not by_default:
        return
    from reinit_cli.initializers.families.replays import Taken

    taken = [share.key for share in by_default if isinstance(share.law, Taken)]
    if taken:
        have = f" and {len(taken) - 1} more have" if len(taken) > 1 else " has"
        yield (
            f"{taken[0]!r}{have} the values of a real run of the constructor, with torch's own "
            "random numbers: what it computes from chance cannot be followed"
        )


def _shared_streams(plan: Plan) -> Iterator[str]:
    """Warn of two keys whose seeds agree in the bits that their stream uses."""
    seen: dict[int, str] = {}
    used = (1 << stream_named(plan.request.stream).used_bits) - 1
    for step in plan.fills:
        for draw in step.draws:
            is_meant = bool(draw.norm_of or draw.stream_key)
            if draw.law is None or not draw.law.is_random or is_meant:
                continue
            first = seen.setdefault(draw.seed & used, step.key)
            if first != step.key:
                yield (
                    f"{first!r} and {step.key!r} are drawn from one stream; another seed parts them"
                )
