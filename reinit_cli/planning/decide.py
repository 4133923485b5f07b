"""Decide what happens to every key, before a byte is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from reinit_cli.errors import UnfillableError
from reinit_cli.initializers import NOWHERE, Elsewhere, Law, Site, UndefinedError
from reinit_cli.lazy import dataclass
from reinit_cli.planning.by_layer import (
    are_statistics,
    key_of_law,
    layer_notes,
    weight_of,
    with_needed,
)
from reinit_cli.planning.entries import Entries
from reinit_cli.planning.fit import can_clamp, unholdable
from reinit_cli.planning.kind_notes import kind_notes
from reinit_cli.planning.layers import asks_for_layer, with_layers
from reinit_cli.planning.match import match
from reinit_cli.planning.notes import refuse_idle, shared_outside, warnings_of
from reinit_cli.planning.owner import Owner
from reinit_cli.planning.owners import Saved
from reinit_cli.planning.parameters import parameters_of
from reinit_cli.planning.parts import Owners, mask_of, part_step, why_no_part
from reinit_cli.planning.plan import KEEP_ZEROS, KEEP_ZEROS_VERSION, Overflow, Plan, Step
from reinit_cli.planning.reshape import repeated_rows, with_rows
from reinit_cli.planning.running_statistics import stale_statistics, with_buffers
from reinit_cli.planning.stream_keys import key_of_stream
from reinit_cli.planning.weight_norm import (
    WEIGHT_NORM,
    WEIGHT_NORM_VERSION,
    left_alone_of,
    with_norms,
)
from reinit_cli.request.request import Request
from reinit_cli.request.rule import Rule, rules_of
from reinit_cli.streams.stream import stream_named
from reinit_cli.tensors.dtype import Dtype
from reinit_cli.tensors.info import TensorInfo, overlapping, tied_groups
from reinit_cli.tensors.spared import Spared


def decide(entries: Entries, request: Request, elsewhere: Elsewhere = NOWHERE) -> Plan:
    """Decide what happens to every entry of a checkpoint.

    Args:
        entries: with the dtypes and shapes that are asked for.
        request: what is asked for.
        elsewhere: what rules refer to besides the entries.

    Raises:
        UnmatchedRuleError: a rule matches no key or fills none.
        UnfillableError: a name hits a tensor that its initializer cannot fill, or a
            wildcard does and `request.strict` is set.
        RuleError: two rules, a resize or the optimizer's reset cannot be obeyed.
    """
    elsewhere = with_layers(elsewhere, entries.tensors, entries.model_type)
    elsewhere = replace(elsewhere, seed=request.seed)
    plan = _with_origins(_by_rules(entries, request, elsewhere), entries)
    plan = with_rows(plan, entries.reshapes, elsewhere)
    plan = with_buffers(plan) if request.reset_buffers else plan
    plan = _with_overflow(plan, elsewhere)
    plan = replace(plan, warnings=(*plan.warnings, *repeated_rows(plan), *stale_statistics(plan)))
    if not request.reset_optimizer:
        return plan
    from reinit_cli.planning.optimizers import with_optimizers

    return with_optimizers(plan, _saved(entries))


def _saved(entries: Entries) -> Saved:
    """Return the optimizers of a checkpoint, which are of its tensors as it has them."""
    tensors = entries.before or entries.tensors
    everything = (*tensors, *entries.outside)
    parameters = parameters_of(tensors)
    return Saved(entries.optimizers, parameters, everything, entries.order, entries.around)


def _with_overflow(plan: Plan, elsewhere: Elsewhere) -> Plan:
    """Return a plan that says what becomes of numbers that are too large.

    Records were made before that was an error.
    """
    overflow: Overflow = "largest" if plan.request.saturate else "rounded"
    if not plan.request.saturate and elsewhere.versions is None:
        return plan
    steps = tuple(
        replace(
            step,
            overflow=overflow,
            patches=tuple(replace(each, overflow=overflow) for each in step.patches),
        )
        for step in plan.steps
    )
    return replace(plan, steps=steps)


def _with_origins(plan: Plan, entries: Entries) -> Plan:
    """Return a plan whose steps know the keys of the source, where these are others."""
    steps = tuple(
        replace(step, source_key=entries.origins[step.key]) if step.key in entries.origins else step
        for step in plan.steps
    )
    warnings = (*entries.warnings, *plan.warnings)
    return replace(plan, steps=steps, dropped=entries.dropped, warnings=warnings)


def _by_rules(entries: Entries, request: Request, elsewhere: Elsewhere) -> Plan:
    """Decide what rules fill, and what they leave alone."""
    tensors = entries.tensors
    rules = rules_of(request.rules)
    keys = [tensor.key for tensor in tensors]
    ties = tied_groups(tensors)
    matches = match(tensors, rules, entries.heads, ties, elsewhere.layers, entries.counts_of_heads)
    left_alone = left_alone_of(tensors) if entries.spared is None else entries.spared
    if elsewhere.version_of(WEIGHT_NORM, WEIGHT_NORM_VERSION) < WEIGHT_NORM_VERSION:
        left_alone = {key: why for key, why in left_alone.items() if not why.norm_of}
    overlaps = overlapping((*tensors, *entries.outside))
    deciding = _Deciding(
        matches.owners, matches.parts, ties, overlaps, left_alone, request, elsewhere
    )
    steps = _skip_ties_together(tuple(map(deciding.step, tensors)))
    steps = with_norms(steps, rules, left_alone, overlaps)
    steps = with_needed(steps, elsewhere)
    if request.strict:
        _refuse_skipped(steps, rules)
    plan = Plan(entries.source, rules, steps, matches.shadowed, request, heads=entries.heads)
    owned = plan.by_rule()
    idle = refuse_idle(plan, owned, matches, keys)
    shared = () if request.tensors_only else shared_outside(steps, entries.outside)
    of_layers = (*layer_notes(plan, elsewhere), *kind_notes(plan, elsewhere.layers))
    return replace(plan, warnings=(*idle, *shared, *of_layers, *warnings_of(plan, owned)))


@dataclass(frozen=True, slots=True)
class _Deciding:
    """What the decision on one tensor depends on besides it."""

    owners: Mapping[str, Owner | None]
    parts: Owners
    ties: Mapping[str, tuple[str, ...]]
    overlaps: Mapping[str, str]
    spared: Mapping[str, Spared]
    request: Request
    elsewhere: Elsewhere

    def step(self, tensor: TensorInfo) -> Step:
        """Decide what happens to a tensor, and to parts of it.

        Raises:
            UnfillableError: its rule insists on it, and cannot fill it.
        """
        step = self._with_layer(tensor, self.owners[tensor.key])
        owners = self.parts.get(tensor.key, ())
        patches = tuple(self._patch(tensor, owner) for owner in owners)
        if step.action != "fill" and any(each.action == "fill" for each in patches):
            # Of ties, the first is drawn.
            stream = stream_named(self.request.stream).name
            step = replace(step, seed_key=min((step.key, *step.tied)), stream=stream)
        return replace(step, patches=patches) if patches else step

    def _patch(self, tensor: TensorInfo, owner: Owner) -> Step:
        """Decide what happens to a part of a tensor."""
        part = owner.rule.part
        assert part is not None
        try:
            mask_key = mask_of(part, tensor, self.elsewhere)
        except UndefinedError as error:
            return part_step(self._step(tensor, owner, str(error)), part, "")
        return part_step(self._with_layer(tensor, owner), part, mask_key)

    def _with_layer(self, tensor: TensorInfo, owner: Owner | None) -> Step:
        """Decide what a rule does with a tensor, and say its layer where the rule asks for it."""
        step = self._step(tensor, owner)
        if owner is None or not asks_for_layer(owner.rule):
            return step
        return replace(step, layer=Site(tensor.key, elsewhere=self.elsewhere).layer)

    def _step(self, tensor: TensorInfo, owner: Owner | None, problem: str = "") -> Step:
        """Decide what a rule does with a tensor.

        Args:
            tensor: the tensor.
            owner: whose rule; None where no rule is for it.
            problem: why it does nothing, where that is known: its part has no mask.
        """
        group = self.ties.get(tensor.key, (tensor.key,))
        tied = tuple(key for key in group if key != tensor.key)
        if owner is None:
            return Step(tensor, "copy", tied=tied)
        init, part = owner.rule.init, owner.rule.part
        law, law_key = None, tensor.key
        no_part = why_no_part(part, tensor, None) if part is not None else ""
        reason = problem or no_part
        if not reason:
            if init.keeps:
                return Step(tensor, "keep", owner.position, tied=tied)
            law_key = key_of_law(init, tensor.key, group, self.elsewhere)
            law, reason = self._law_or_reason(tensor, owner.rule, group, law_key)
        if reason:
            if owner.insists or (self.request.strict and not self._may_follow(tensor, reason)):
                of_part = "mask" if problem else "part" if no_part else ""
                kind = (of_part or _of_law(law, tensor, reason)) if owner.insists else "wildcard"
                raise _unfillable(tensor.key, reason, owner.rule, kind)
            return Step(tensor, "skip", owner.position, reason=reason, tied=tied)
        stream = stream_named(self.request.stream)
        key = key_of_stream(init, tensor, group, self.elsewhere)
        return Step(
            tensor,
            "fill",
            owner.position,
            law=law,
            seed_key=group[0],
            stream_key=key if key != group[0] else "",
            law_key=law_key if init.initializer.by_layer and law_key != group[0] else "",
            seed=stream.seed_for(self.request.seed, key, init.stream),
            stream=stream.name,
            tied=tied,
            keeps_zeros=init.keep_zeros,
            zeros_version=self.elsewhere.version_of(KEEP_ZEROS, KEEP_ZEROS_VERSION),
            init=init,
            fans=init.fans(tensor.shape),
            head=owner.head,
        )

    def _may_follow(self, tensor: TensorInfo, reason: str) -> bool:
        """Whether a tensor is skipped because it holds norms, which other tensors decide."""
        why = self.spared.get(tensor.key)
        return why is not None and bool(why.norm_of) and reason == why.reason

    def _law_or_reason(
        self, tensor: TensorInfo, rule: Rule, group: Sequence[str], law_key: str
    ) -> tuple[Law | None, str]:
        """Return the law a rule fills a tensor with, or why it cannot."""
        dtype = tensor.fillable_dtype
        if dtype is None:
            return None, tensor.carried or f"{tensor.dtype} can be carried but not filled"
        if tensor.key in self.overlaps:
            return None, self.overlaps[tensor.key]
        if not rule.init.initializer.takes_all and (why := self._why_spared(rule, group, dtype)):
            return None, why
        try:
            law = rule.init.law(tensor.shape, Site(law_key, tensor.dtype, self.elsewhere))
        except UndefinedError as error:
            return None, str(error)
        if law is None:
            return None, ""
        problem = why_no_part(rule.part, tensor, law) if rule.part is not None else ""
        return law, problem or unholdable(law, dtype, saturates=self.request.saturate)

    def _follows(self, rule: Rule, group: Sequence[str]) -> bool:
        """Whether a tensor holds a vector of spectral norm, and its weight is filled too."""
        weights = {key: weight_of(rule.init, key) for key in group}
        owners = [self.owners.get(weight) for weight in weights.values() if weight]
        return len(owners) == len(group) and all(
            owner is not None and owner.rule.init.initializer.by_layer for owner in owners
        )

    def _why_spared(self, rule: Rule, group: Sequence[str], dtype: Dtype) -> str:
        """Say why a rule leaves a tensor alone though its initializer could fill it."""
        if are_statistics(rule.init, group) or self._follows(rule, group):
            return ""
        found = [(key, self.spared[key]) for key in group if key in self.spared]
        if rule.init.initializer.stream:  # what changes a weight changes its norms too
            found = [(key, why) for key, why in found if not why.norm_of]
        for key, why in found:
            if not _is_named(rule, key, why):
                return why.reason
            for other in why.needs:
                owner = self.owners.get(other)
                if owner is None or owner.rule.init.keeps or not _is_named(owner.rule, other, why):
                    return f"{why.reason}; {other!r} would have to be filled too"
        is_other_kind = rule.pattern.is_wildcard and dtype.kind in ("integer", "bool")
        return f"{dtype.kind} values" if is_other_kind and not found else ""


def _of_law(law: Law | None, tensor: TensorInfo, reason: str) -> str:
    """Return the kind of the error that a law cannot fill a tensor."""
    dtype = tensor.fillable_dtype
    is_large = law is not None and dtype is not None and can_clamp(law, dtype, reason)
    return "large" if is_large else ""


def _unfillable(key: str, reason: str, rule: Rule, kind: str) -> UnfillableError:
    name = rule.init.initializer.name
    return UnfillableError(key, reason, kind=kind, word=rule.text, of=name)


def _refuse_skipped(steps: Sequence[Step], rules: Sequence[Rule]) -> None:
    """Refuse norms that a wildcard takes while nothing is drawn that they would follow.

    Raises:
        UnfillableError: there are such.
    """
    for step in steps:
        for share in step.shares:
            if share.action == "skip" and share.rule is not None:
                raise _unfillable(share.key, share.reason, rules[share.rule], "wildcard")


def _is_named(rule: Rule, key: str, why: Spared) -> bool:
    """Whether a rule names a key, or the end of it."""
    if not rule.pattern.is_wildcard:
        return True
    last = key.rpartition(".")[2]
    # Everybody writes *.bias, and GPT-2 calls a mask so.
    return (
        rule.pattern.text.endswith(f".{why.end}") if why.end else rule.pattern.names_segment(last)
    )


def _skip_ties_together(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Skip all keys of a tensor where one of them is skipped."""
    skipped = {key: step for step in steps if step.action == "skip" for key in step.tied}
    if not skipped:
        return steps
    return tuple(
        Step(
            step.tensor,
            "skip",
            step.rule,
            skipped[step.key].reason,
            seed_key=step.seed_key if any(each.law for each in step.patches) else "",
            tied=step.tied,
            patches=step.patches,
        )
        if step.action == "fill" and step.key in skipped
        else step
        for step in steps
    )
