"""Decide what happens to every key, before a byte is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reinit_cli.errors import UnfillableError, UnknownNameError
from reinit_cli.initializers import NOWHERE, Elsewhere, Law, Site, UndefinedError
from reinit_cli.planning.fit import unholdable, why_spared
from reinit_cli.planning.match import match_rules, settle_ties
from reinit_cli.planning.notes import refuse_idle, shared_outside, warnings_of
from reinit_cli.planning.plan import Plan, Step
from reinit_cli.request.request import Request
from reinit_cli.request.rule import Rule
from reinit_cli.streams.seeds import seed_for
from reinit_cli.tensors.dtype import FLOATS, Dtype
from reinit_cli.tensors.info import TensorInfo, overlapping, tied_groups


def make_plan(
    source: str,
    tensors: Sequence[TensorInfo],
    rules: Sequence[Rule],
    request: Request,
    outside: Sequence[TensorInfo] = (),
    elsewhere: Elsewhere = NOWHERE,
) -> Plan:
    """Decide what happens to every tensor.

    Args:
        source: the name of what the tensors are from, for messages.
        tensors: in the order of the state dict.
        rules: in the order of precedence, the last first to own.
        request: what else is asked for: seed, strictness.
        outside: other tensors, which no rule reaches but which may share memory.
        elsewhere: what rules refer to beside the tensors.

    Raises:
        UnmatchedRuleError: a rule matches no key or fills none.
        UnfillableError: a name hits a tensor that its initializer cannot fill, or a
            wildcard does and `request.strict` is set.
        RuleError: two keys of one tensor are named by rules that differ.
    """
    infos = tuple(tensors)
    rules = tuple(rules)
    keys = [tensor.key for tensor in infos]
    matches = match_rules(keys, rules)
    ties = tied_groups(infos)
    owners = settle_ties(dict(zip(keys, matches.owner, strict=True)), ties, rules)
    overlaps = overlapping((*infos, *outside))
    deciding = _Deciding(rules, owners, ties, overlaps, request, elsewhere)
    steps = tuple(map(deciding.step, infos))
    steps = _skip_ties_together(steps)
    kept = Counter(
        owner
        for key, owner in zip(keys, matches.owner, strict=True)
        if owner is not None and owners[key] == owner
    )
    shadowed = tuple(count - kept[at] for at, count in enumerate(matches.counts))
    plan = Plan(source, rules, steps, shadowed, request)
    owned = plan.by_rule()
    idle = refuse_idle(plan, owned, matches.counts, keys)
    shared = shared_outside(steps, outside)
    return replace(plan, warnings=(*idle, *shared, *warnings_of(plan, owned)))


@dataclass(frozen=True, slots=True)
class _Deciding:
    """What the decision on one tensor depends on beside it."""

    rules: Sequence[Rule]
    owners: Mapping[str, int | None]
    ties: Mapping[str, tuple[str, ...]]
    overlaps: Mapping[str, str]
    request: Request
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
            if insists or self.request.strict:
                raise UnfillableError(
                    tensor.key,
                    reason,
                    kind="" if insists else "wildcard",
                    word=rule.text,
                    of=rule.init.initializer.name,
                )
            return Step(tensor, "skip", owner, reason=reason, tied=tied)
        return Step(
            tensor,
            "fill",
            owner,
            law=law,
            seed_key=group[0],
            seed=seed_for(self.request.seed, group[0], rule.init.initializer.stream),
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
        if is_picky and (spared := why_spared(rule, group, dtype)):
            return None, spared
        try:
            law = rule.init.law(tensor.shape, Site(tensor.key, tensor.dtype, self.elsewhere))
        except UndefinedError as error:
            return None, str(error)
        return (law, unholdable(law, dtype)) if law else (None, "")


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


def cast(
    tensors: tuple[TensorInfo, ...], dtype: Dtype | None, name: str | None
) -> tuple[TensorInfo, ...]:
    """Return tensors with the dtype that they are to have; only floats change.

    Raises:
        UnknownNameError: the dtype is none of floats.
    """
    if dtype is None:
        return tensors
    if dtype.kind != "float":
        known = (float_.name for float_ in FLOATS)
        raise UnknownNameError(str(name), known=known, kind="dtype")
    return tuple(
        replace(tensor, dtype=dtype.name, nbytes=tensor.numel * dtype.nbits // 8)
        if tensor.fillable_dtype in FLOATS
        else tensor
        for tensor in tensors
    )
