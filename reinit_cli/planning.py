"""Keys × rules → a plan: what happens to every key, decided before a byte is written."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from reinit_cli.dtypes import FLOAT32_MAX, FLOAT64_MAX, Dtype
from reinit_cli.errors import TiedRulesError, UnfillableError, UnmatchedRuleError
from reinit_cli.initializers import (
    NOWHERE,
    Elsewhere,
    Fans,
    Init,
    Law,
    Move,
    Site,
    Statistic,
    Transform,
    UndefinedError,
)
from reinit_cli.initializers.laws import TruncatedNormal
from reinit_cli.patterns import KeyIndex
from reinit_cli.rules import Rule
from reinit_cli.seeds import seed_for
from reinit_cli.spelling import corrected_pattern, nearest_keys
from reinit_cli.tensors import RUNNING_STATISTICS, TensorInfo, overlapping, tied_groups

Action = Literal["fill", "keep", "skip", "copy", "resize"]
"""fill: drawn anew; keep: a rule says so; skip: a wildcard cannot take it; copy: no rule;
resize: what fits is kept, and new rows are filled."""

LEAST_NUMEL = 100
"""Of fewer elements no statistics are tested."""

FAR_BOUND = 10
"""How many deviations from the mean a bound cuts nothing off."""

FALSE_ALARMS = 1e-9
"""How often at most a run whose every draw is right is told that one is wrong."""


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to one key.

    Attributes:
        tensor: what is known of it.
        action: what is done.
        rule: the position of the rule that owns it, or None.
        reason: why it is skipped, or "".
        law: what it is filled with, where it is filled.
        seed_key: the key whose stream it is drawn from: its own, or the first of its ties.
        seed: the seed of that stream.
        tied: the other keys of the same tensor.
        keeps_zeros: whether what is zero stays so.
        init: what fills it, where that is not its rule's initializer.
        was: the shape before, where that changes.
        kept_rows: where it is resized, how many rows of it are kept.
        fans: its fans as its rule reads them, where it is filled and has them.
    """

    tensor: TensorInfo
    action: Action
    rule: int | None = None
    reason: str = ""
    law: Law | None = None
    seed_key: str = ""
    seed: int = 0
    tied: tuple[str, ...] = ()
    keeps_zeros: bool = False
    init: Init | None = None
    was: tuple[int, ...] | None = None
    kept_rows: int = 0
    fans: Fans | None = None

    @property
    def key(self) -> str:
        """The state_dict key."""
        return self.tensor.key

    @property
    def follows(self) -> Law | None:
        """The law that all of its elements follow, where that is known beforehand."""
        is_anew = self.action == "fill" and not self.keeps_zeros
        is_known = is_anew and not isinstance(self.law, Transform)
        return self.law if is_known else None

    @property
    def bound(self) -> float | None:
        """What no random element exceeds, where the law has such a bound."""
        is_bounded = self.law is not None and self.law.is_random and self.law.high < math.inf
        return self.law.high if self.law is not None and is_bounded else None

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """What of its draw can be tested with odds."""
        law = self.follows
        is_testable = law is not None and law.is_random and law.std > 0
        enough = self.tensor.numel >= LEAST_NUMEL
        return law.statistics if law is not None and is_testable and enough else ()


@dataclass(frozen=True, slots=True)
class Options:
    """What a user can ask of a plan beside its rules.

    Attributes:
        seed: the seed of the whole run.
        device: where values are drawn.
        strict: whether every skip is an error.
        allow_unmatched: whether a rule that matches or fills nothing is only a warning.
        check: whether each draw is tested against its law.
        with_buffers: whether running statistics are reset with the weights beside them.
        untie: whether tied keys become tensors of their own.
        reset_optimizer: whether the optimizer's slots of what is filled are zeroed.
    """

    seed: int = 0
    device: str = "cpu"
    strict: bool = False
    allow_unmatched: bool = False
    check: bool = False
    with_buffers: bool = False
    untie: bool = False
    reset_optimizer: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to every key, in the order of the source.

    Attributes:
        source: the name of what was read, for people.
        rules: in the order they were given; the last that matches a key owns it.
        steps: one for each key.
        shadowed: for each rule, how many keys it matches that a later rule owns.
        options: seed, device and strictness.
        warnings: what a user should know, a line each.
        beside: for tensors beside the state dict that change with it, one each.
        implied: how many rules, the first, follow from what else was asked for.
    """

    source: str
    rules: tuple[Rule, ...]
    steps: tuple[Step, ...]
    shadowed: tuple[int, ...]
    options: Options
    warnings: tuple[str, ...] = ()
    beside: tuple[Step, ...] = ()
    implied: int = 0

    @property
    def fills(self) -> Iterator[Step]:
        """The steps that fill, each tensor once: of ties, the one that names the stream."""
        return (step for step in self.steps if step.action == "fill" and step.key == step.seed_key)

    def init_of(self, step: Step) -> str:
        """Return what fills a tensor, as a rule has it."""
        if step.init is not None:
            return str(step.init)
        assert step.rule is not None
        return str(self.rules[step.rule].init)

    @property
    def least_p(self) -> float:
        """The probability below which a test fails: `FALSE_ALARMS` shared by all (Bonferroni)."""
        return FALSE_ALARMS / max(1, sum(len(step.statistics) for step in self.fills))

    def by_rule(self) -> list[list[Step]]:
        """Return, for each rule, the steps that it owns."""
        owned: list[list[Step]] = [[] for _ in self.rules]
        for step in self.steps:
            if step.rule is not None:
                owned[step.rule].append(step)
        return owned


@dataclass(slots=True)
class _Matches:
    """Which rule owns each key, and how many keys each rule matched."""

    owner: list[int | None]
    counts: list[int] = field(default_factory=list)


def make_plan(
    source: str,
    tensors: Sequence[TensorInfo],
    rules: Sequence[Rule],
    options: Options,
    outside: Sequence[TensorInfo] = (),
    elsewhere: Elsewhere = NOWHERE,
) -> Plan:
    """Decide what happens to every tensor.

    Args:
        source: the name of what the tensors are from, for messages.
        tensors: in the order of the state dict.
        rules: in the order of precedence, the last first to own.
        options: see `Options`.
        outside: other tensors, which no rule reaches but which may share memory.
        elsewhere: what rules refer to beside the tensors.

    Raises:
        UnmatchedRuleError: a rule matches no key or fills none.
        UnfillableError: a name hits a tensor that its initializer cannot fill, or a
            wildcard does and `options.strict` is set.
        TiedRulesError: two keys of one tensor are named by rules that differ.
    """
    infos = tuple(tensors)
    rules = tuple(rules)
    keys = [tensor.key for tensor in infos]
    matches = _match(keys, rules)
    ties = tied_groups(infos)
    owners = _settle_ties(dict(zip(keys, matches.owner, strict=True)), ties, rules)
    overlaps = overlapping((*infos, *outside))
    deciding = _Deciding(rules, owners, ties, overlaps, options, elsewhere)
    steps = tuple(map(deciding.step, infos))
    steps = _skip_ties_together(steps)
    kept = Counter(
        owner
        for key, owner in zip(keys, matches.owner, strict=True)
        if owner is not None and owners[key] == owner
    )
    shadowed = tuple(count - kept[at] for at, count in enumerate(matches.counts))
    plan = Plan(source, rules, steps, shadowed, options)
    owned = plan.by_rule()
    idle = _refuse_idle(plan, owned, matches.counts, keys)
    shared = _shared_outside(steps, outside)
    return replace(plan, warnings=(*idle, *shared, *_warnings(plan, owned)))


def _match(keys: Sequence[str], rules: Sequence[Rule]) -> _Matches:
    found = _Matches(owner=[None] * len(keys))
    index = KeyIndex(keys)
    for at, rule in enumerate(rules):
        selected = index.select(rule.pattern)
        found.counts.append(len(selected))
        for position in selected:
            found.owner[position] = at
    return found


def _settle_ties(
    owners: dict[str, int | None], ties: Mapping[str, tuple[str, ...]], rules: Sequence[Rule]
) -> dict[str, int | None]:
    """Give all keys of one tensor to the last rule that owns any of them."""
    settled = dict(owners)
    for group in set(ties.values()):
        owned = [(owner, key) for key in group if (owner := owners[key]) is not None]
        if not owned:
            continue
        last, winner = max(owned, key=lambda pair: pair[0])
        for at, key in owned:
            insists = not rules[at].pattern.is_wildcard
            if insists and rules[at].init != rules[last].init:
                raise TiedRulesError((key, rules[at].text), (winner, rules[last].text))
        settled |= dict.fromkeys(group, last)
    return settled


@dataclass(frozen=True, slots=True)
class _Deciding:
    """What the decision on one tensor depends on beside it."""

    rules: Sequence[Rule]
    owners: Mapping[str, int | None]
    ties: Mapping[str, tuple[str, ...]]
    overlaps: Mapping[str, str]
    options: Options
    elsewhere: Elsewhere

    def step(self, tensor: TensorInfo) -> Step:
        """Decide what happens to a tensor.

        Raises:
            UnfillableError: its rule insists on it, and cannot fill it.
        """
        owner = self.owners[tensor.key]
        if owner is None:
            return Step(tensor, "copy")
        rule = self.rules[owner]
        group = self.ties.get(tensor.key, (tensor.key,))
        tied = tuple(key for key in group if key != tensor.key)
        if rule.init.keeps:
            return Step(tensor, "keep", owner, tied=tied)
        law, reason = self._law_or_reason(tensor, rule, group)
        if reason:
            insists = not rule.pattern.is_wildcard
            if insists or self.options.strict:
                raise UnfillableError(
                    rule.text,
                    tensor.key,
                    reason,
                    initializer=rule.init.initializer.name,
                    by_wildcard=not insists,
                )
            return Step(tensor, "skip", owner, reason=reason, tied=tied)
        return Step(
            tensor,
            "fill",
            owner,
            law=law,
            seed_key=group[0],
            seed=seed_for(self.options.seed, group[0], rule.init.initializer.stream),
            tied=tied,
            keeps_zeros=rule.init.keep_zeros,
            fans=rule.init.fans(tensor.shape),
        )

    def _law_or_reason(
        self, tensor: TensorInfo, rule: Rule, group: Sequence[str]
    ) -> tuple[Law | None, str]:
        """Return the law a rule fills a tensor with, or why it cannot."""
        dtype = tensor.fillable_dtype
        if dtype is None:
            return None, tensor.carried or f"{tensor.dtype} can be carried but not filled"
        if tensor.key in self.overlaps:
            return None, self.overlaps[tensor.key]
        is_picky = rule.pattern.is_wildcard and not rule.init.initializer.takes_all
        if is_picky and (spared := _spared(rule, group, dtype)):
            return None, spared
        try:
            law = rule.init.law(tensor.shape, Site(tensor.key, tensor.dtype, self.elsewhere))
        except UndefinedError as error:
            return None, str(error)
        return (law, unholdable(law, dtype)) if law else (None, "")


def _spared(rule: Rule, group: Sequence[str], dtype: Dtype) -> str:
    """Say why a wildcard leaves a tensor alone that a name could fill."""
    last = [key.rpartition(".")[2] for key in group]
    statistics = [name for name in last if name in RUNNING_STATISTICS]
    if statistics:
        named = all(rule.pattern.names_segment(name) for name in statistics)
        return "" if named else "a running statistic"
    return f"{dtype.kind} values" if dtype.kind in ("integer", "bool") else ""


def unholdable(law: Law, dtype: Dtype) -> str:
    """Say why a dtype cannot hold what a law gives, or ""."""
    if isinstance(law, Move):
        return ""
    fixed = law.low == law.high or law.low != law.low
    if dtype.kind != "float" and not fixed:
        return f"{dtype.name} takes zeros, ones and constant only"
    if dtype.kind in ("integer", "bool"):
        exact = math.isfinite(law.low) and law.low == int(law.low)
        if not exact or not dtype.smallest <= law.low <= dtype.largest:
            return f"{dtype.name} cannot hold {law.low:g} exactly"
        return ""
    if fixed and math.isinf(law.low):
        return "" if dtype.has_infinity else f"{dtype.name} has no infinity"
    drawn_in = FLOAT64_MAX if dtype.nbits >= 64 else FLOAT32_MAX
    if law.is_random and math.isfinite(law.low) and law.high - law.low > drawn_in:
        return f"{dtype.name} cannot be drawn from {law.low:g} to {law.high:g}: too wide"
    # Of a law without bounds one element in two million lies beyond five deviations.
    reach = 0.0 if math.isfinite(law.high) else abs(law.mean) + 5 * law.std
    parts = (law.low, law.high, law.mean, reach)
    scale = max((abs(part) for part in parts if math.isfinite(part)), default=0.0)
    if scale > min(dtype.largest, drawn_in):
        return f"{dtype.name} cannot hold values as large as {scale:g}"
    return ""


def _skip_ties_together(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Skip all keys of a tensor where one of them is skipped."""
    skipped = {key: step for step in steps if step.action == "skip" for key in step.tied}
    if not skipped:
        return steps
    return tuple(
        Step(step.tensor, "skip", step.rule, skipped[step.key].reason, tied=step.tied)
        if step.action == "fill" and step.key in skipped
        else step
        for step in steps
    )


def skip_notes(steps: Sequence[Step]) -> list[str]:
    """Return, for each reason why a rule skips tensors, how many it skips."""
    reasons = Counter(step.reason for step in steps if step.action == "skip")
    return [f"{count:,} skipped: {reason}" for reason, count in reasons.most_common()]


def _refuse_idle(
    plan: Plan, owned: Sequence[Sequence[Step]], counts: Sequence[int], keys: Sequence[str]
) -> tuple[str, ...]:
    """Refuse rules that match or fill nothing; return warnings where that is allowed.

    A rule that lost tensors to later rules is not to blame.
    """
    warnings = []
    for rule, steps, count, lost in zip(plan.rules, owned, counts, plan.shadowed, strict=True):
        problem = _idleness(plan.source, rule, steps, count)
        if problem and not lost and not plan.options.allow_unmatched:
            raise _unmatched(plan.source, rule, problem, () if count else keys)
        if problem:
            warnings.append(f"rule {rule.text!r} {problem}")
    return tuple(warnings)


def _idleness(source: str, rule: Rule, owned: Sequence[Step], matched: int) -> str:
    if not matched:
        return f"matches no key of {source}"
    if not owned:
        return "owns no tensor: later rules took all it matches"
    if rule.init.keeps or any(step.action == "fill" for step in owned):
        return ""
    return f"fills nothing of {source}: {'; '.join(skip_notes(owned))}"


def _unmatched(source: str, rule: Rule, problem: str, keys: Sequence[str]) -> UnmatchedRuleError:
    pattern = rule.pattern.text
    corrected = corrected_pattern(pattern, keys)
    as_rule = corrected + rule.text.removeprefix(pattern) if corrected else None
    return UnmatchedRuleError(rule.text, problem, source, as_rule, nearest_keys(pattern, keys))


def _shared_outside(steps: Sequence[Step], outside: Sequence[TensorInfo]) -> Iterator[str]:
    """Say which tensors outside change with those that are filled."""
    if outside:
        filled = {step.key for step in steps if step.action == "fill"}
        groups = tied_groups((*(step.tensor for step in steps), *outside))
        beyond = {tensor.key for tensor in outside}
        for key in sorted(beyond & groups.keys()):
            inside = [other for other in groups[key] if other in filled]
            if inside:
                yield f"{inside[0]!r} also changes {key!r}: they are one tensor"


def _warnings(plan: Plan, owned: Sequence[Sequence[Step]]) -> Iterator[str]:
    yield from _ruined_scales(plan.rules, owned)
    yield from _idle_bounds(plan.rules, owned)
    yield from _shared_streams(plan)


def _ruined_scales(rules: Sequence[Rule], owned: Sequence[Sequence[Step]]) -> Iterator[str]:
    """Warn of a random law on a 1-D `*.weight`, which is a normalisation's scale."""
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
                f"rule {rule.text!r} draws 1-dimensional weights, which are usually scales of "
                f"normalisations: {scales[0]!r}{more}; min_ndim=2 leaves them out"
            )


def _idle_bounds(rules: Sequence[Rule], owned: Sequence[Sequence[Step]]) -> Iterator[str]:
    """Warn of absolute bounds so wide that they were meant in deviations."""
    for rule, steps in zip(rules, owned, strict=True):
        laws = (step.law for step in steps if isinstance(step.law, TruncatedNormal))
        law = next(laws, None)
        if law is None or rule.init.given.get("bounds") != "absolute":
            continue
        apart = min(law.centre - law.low, law.high - law.centre) / law.scale
        if apart > FAR_BOUND:
            yield (
                f"rule {rule.text!r} has bounds {apart:.3g} std away from the mean, so that "
                "nothing is truncated: a and b are absolute; bounds=in_std counts them in std"
            )


def _shared_streams(plan: Plan) -> Iterator[str]:
    """Warn of two keys whose seeds agree in the 32 bits that torch's CPU generator uses."""
    seen: dict[int, str] = {}
    for step in plan.fills:
        if step.law is None or not step.law.is_random:
            continue
        first = seen.setdefault(step.seed & 0xFFFFFFFF, step.key)
        if first != step.key:
            yield f"{first!r} and {step.key!r} are drawn from one stream; another seed parts them"
