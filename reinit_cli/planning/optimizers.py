"""Give the optimizer's state of filled parameters the values that a new optimizer starts with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from reinit_cli.initializers import Transform, parse_init
from reinit_cli.lazy import dataclass
from reinit_cli.planning.fit import unholdable
from reinit_cli.planning.optimizer_slots import COUNTERS, KNOWN, Slot, shape_for, shape_of, slot_of
from reinit_cli.planning.owners import Saved, matches_of
from reinit_cli.planning.parameters import (
    Matched,
    called,
    is_shared,
    unresettable,
)
from reinit_cli.planning.plan import Plan, Step
from reinit_cli.tensors.info import TensorInfo, overlapping, tied_groups
from reinit_cli.tensors.optimizer import (
    Group,
    NewNumber,
    Number,
    NumberAt,
    Optimizer,
    ParameterId,
    State,
)

_ZEROS = parse_init("zeros")


def with_optimizers(plan: Plan, saved: Saved) -> Plan:
    """Return a plan that also resets what optimizers keep for the parameters that are filled.

    Args:
        plan: what happens to the state dict.
        saved: the optimizers.

    Raises:
        RuleError: there is none, its parameters cannot be identified, or what it keeps cannot
            be reset.
    """
    if not saved.optimizers:
        raise unresettable(plan.source, "it holds no optimizer state")
    _refuse_parts(plan)
    fills = {step.origin: step for step in plan.steps if step.action in ("fill", "resize")}
    _check_ties(plan, saved, fills)
    for each in saved.parameters:
        found = [fills[key] for key in each.keys if key in fills]
        fills |= dict.fromkeys(each.keys, found[0]) if found and len(each.keys) > 1 else {}
    resized = [step for step in fills.values() if step.was is not None]
    steps: list[Step] = []
    numbers: list[NewNumber] = []
    warnings: list[str] = []
    forgotten: list[str] = []
    matches = matches_of(saved, fills)
    for optimizer, matched in zip(saved.optimizers, matches, strict=True):
        if matched is None:
            warnings.append(f"{optimizer.path!r} is of other parameters, and stays")
            continue
        if optimizer.copies and matched.filled:
            problem = f"the weights in 32 bits next to it, {optimizer.copies!r}, would stay"
            raise unresettable(optimizer.path, problem)
        reset = _Reset(optimizer, matched, fills, resized)
        steps += reset.steps()
        steps += reset.copies()
        numbers += reset.numbers()
        forgotten += reset.forgotten()
        warnings += reset.warnings()
        twin = saved.around.twin
        if twin and matched.filled and saved.order is None:
            root = saved.around.root
            warnings.append(
                f"{optimizer.path!r} is taken for that of {root!r}, and not of {twin!r}"
            )
    slots = _once(steps, saved, matches)
    return replace(
        plan,
        slots=slots,
        numbers=tuple(numbers),
        forgotten=tuple(forgotten),
        warnings=(*plan.warnings, *warnings),
    )


def _refuse_parts(plan: Plan) -> None:
    """Refuse to reset the state of tensors of which rules fill parts.

    Raises:
        RuleError: there is one.
    """
    for step in plan.steps:
        if step.patches and step.is_filled:
            raise unresettable(plan.source, f"{step.key!r} is filled in part, and has one state")


def _check_ties(plan: Plan, saved: Saved, fills: Mapping[str, Step]) -> None:
    """Refuse to reset the state of keys that were one tensor, and become several.

    Raises:
        RuleError: there are such keys.
    """
    for each in saved.parameters if plan.request.untie else ():
        if len(each.keys) > 1 and any(key in fills for key in each.keys):
            problem = f"{each.keys[0]!r} and {each.keys[1]!r} have one state, and are untied"
            raise unresettable(plan.source, problem)


@dataclass(frozen=True, slots=True)
class _Reset:
    """The reset of one optimizer.

    Attributes:
        optimizer: as it was saved.
        matched: which of its parameters are filled.
        fills: what fills or resizes them, by the keys of the source.
        resized: those of the latter that resize.
    """

    optimizer: Optimizer
    matched: Matched
    fills: Mapping[str, Step]
    resized: Sequence[Step]

    def steps(self) -> Iterator[Step]:
        """Yield a step for each tensor that is reset."""
        for group, of, state, slots in self._states():
            is_all = _is_forgotten(group, state, slots)
            for name, tensor in () if is_all else state.tensors.items():
                slot = slots[name]
                start = self._start(group, slot, of)
                shape = self._new_shape(tensor, slot, of)
                if start is not None and not self._has_none(group, slot):
                    step = self._step(tensor.with_shape(shape), start, self._name(of, name))
                    is_moved = shape != tensor.shape
                    yield replace(
                        step,
                        tensor=step.tensor if is_moved else tensor,
                        was=tensor.shape if is_moved else None,
                    )

    def forgotten(self) -> Iterator[str]:
        """Yield the key of each tensor that a new optimizer does not have yet."""
        for group, _, state, slots in self._states():
            is_all = _is_forgotten(group, state, slots)
            for name, tensor in state.tensors.items():
                if is_all or self._has_none(group, slots[name]):
                    yield tensor.key

    def numbers(self) -> Iterator[NewNumber]:
        """Yield each number that is reset."""
        for group, of, state, slots in self._states():
            for name, number in state.numbers.items():
                slot = slots.get(name)
                start = None if slot is None else self._start(group, slot, of)
                if start is not None and start != number:
                    at = NumberAt(self.optimizer.path, of, name)
                    yield NewNumber(at, number, _like(number, start))

    def copies(self) -> Iterator[Step]:
        """Yield a step for each copy in 32 bits of a tensor that is filled.

        Raises:
            RuleError: the same values cannot be drawn for it.
        """
        for group in self.optimizer.groups:
            for id_, copy in zip(group.ids, group.masters, strict=False):
                if id_ in self.matched.filled:
                    yield self._copy(copy, self.matched.keys.get(id_))

    def warnings(self) -> Iterator[str]:
        """Yield what a user should know."""
        path = self.optimizer.path
        if self.matched.assumed:
            yield (
                f"{path!r} has parameters without names: only the order of the state dict says "
                f"which of them is {self.matched.assumed!r}; --optimizer-order gives another order"
            )
        if not any(self.optimizer.states.get(each) for each in self.matched.filled):
            yield f"{path!r} holds no state of what the rules fill"

    def _states(
        self,
    ) -> Iterator[tuple[Group, ParameterId | int, State, Mapping[str, Slot]]]:
        """Yield what is kept for each parameter that is filled, and for the groups of those.

        Raises:
            RuleError: nobody knows what a slot of it starts as, or it is of others too.
        """
        for number, group in enumerate(self.optimizer.groups):
            if self.matched.filled.isdisjoint(group.ids):
                continue
            shared = _shared(group.shared)
            if shared:
                names = ", ".join(sorted((*shared.tensors, *shared.numbers, *shared.others)))
                self._check_all(self._kept(group), names)
                yield group, number, shared, self._slots(shared, f"group {number}")
            for id_ in group.ids:
                state = self.optimizer.states.get(id_)
                if state and is_shared(state):
                    self._check_all(group.ids, "its state")
                    yield group, id_, state, self._slots(state, self._key(id_))
                elif state and id_ in self.matched.filled:
                    yield group, id_, state, self._slots(state, self._key(id_))

    def _kept(self, group: Group) -> list[ParameterId]:
        return [id_ for id_ in group.ids if self.optimizer.states.get(id_)]

    def _check_all(self, ids: Sequence[ParameterId], names: str) -> None:
        """Refuse to reset what is of parameters too that are not filled."""
        others = [id_ for id_ in ids if id_ not in self.matched.filled]
        if others:
            what = names if names == "its state" else f"its {names}"
            problem = (
                f"{what} is one for {len(ids)} parameters, of which no rule fills "
                f"{self._key(others[0])}"
            )
            raise unresettable(self.optimizer.path, problem)

    def _slots(self, state: State, key: str) -> Mapping[str, Slot]:
        """Return what is known of each slot.

        Raises:
            RuleError: nothing is known of one.
        """
        found = {}
        for name in (*state.tensors, *state.numbers, *state.others):
            slot = slot_of(name, state)
            if slot is None or (name in state.others and slot.start is not None):
                problem = f"nothing says what its {name!r} of {key} starts as"
                raise unresettable(self.optimizer.path, problem)
            found[name] = slot
        return found

    def _start(self, group: Group, slot: Slot, of: ParameterId | int) -> Number | None:
        """Return what a slot starts as; None where it stays.

        Raises:
            RuleError: no number does.
        """
        options = group.shared
        if slot.unless in options.tensors:
            problem = f"its {slot.unless} is a tensor, and not read"
            raise unresettable(self.optimizer.path, problem)
        if not isinstance(slot.start, str):
            return slot.start
        if slot.start in options.tensors:
            problem = (
                f"its {slot.name} of {self._key(of)} starts as {slot.start}, "
                "which is a tensor, and not read"
            )
            raise unresettable(self.optimizer.path, problem)
        if slot.start not in options.numbers and slot.start == "lr":
            problem = f"its {slot.name} of {self._key(of)} starts as lr, which its group has not"
            raise unresettable(self.optimizer.path, problem)
        return options.numbers.get(slot.start, 0.0)

    @staticmethod
    def _has_none(group: Group, slot: Slot) -> bool:
        """Whether a new optimizer has no such slot before its first step."""
        return bool(group.shared.numbers.get(slot.unless))

    def _new_shape(self, tensor: TensorInfo, slot: Slot, of: ParameterId | int) -> tuple[int, ...]:
        """Return the shape that a slot gets.

        Raises:
            RuleError: its parameter is resized, and nobody knows.
        """
        resized = [] if isinstance(of, int) else self._resized(of)
        if not resized or not tensor.shape:
            return tensor.shape
        shapes = {step.tensor.shape for step in resized}
        shape = shape_for(slot, shapes.pop())
        if shapes or shape is None or len(resized) > 1:
            problem = f"its {self._name(of, slot.name)} cannot be resized"
            raise unresettable(self.optimizer.path, problem)
        return shape

    def _resized(self, of: ParameterId) -> list[Step]:
        """Return what resizes a parameter, or any where it is not known which it is."""
        state = self.optimizer.states.get(of, State())
        key = self.matched.keys.get(of)
        if key is not None and not is_shared(state):
            step = self.fills.get(key)
            return [step] if step is not None and step.was is not None else []
        was = shape_of(state)
        return [each for each in self.resized if was in (None, each.was)]

    def _step(self, tensor: TensorInfo, start: Number, name: str) -> Step:
        """Return the step that fills a tensor with its start.

        Raises:
            RuleError: it cannot hold that.
        """
        init = _ZEROS if start == 0 else parse_init(f"constant:val={start!r}")
        law = init.law(tensor.shape)
        dtype = tensor.fillable_dtype
        problem = tensor.carried if dtype is None else law and unholdable(law, dtype)
        if dtype is not None and dtype.kind == "complex" and start not in (0, 1):
            problem = "a complex tensor"
        if dtype is None or problem:
            raise unresettable(self.optimizer.path, f"its {name} is {problem or tensor.dtype}")
        return Step(tensor, "fill", law=law, seed_key=tensor.key, init=init)

    def _copy(self, copy: TensorInfo, key: str | None) -> Step:
        step = self.fills.get(key or "")
        is_plain = step is not None and step.action == "fill" and step.was is None
        if step is None or not is_plain or isinstance(step.law, Transform) or step.keeps_zeros:
            name = repr(key) if key else "a parameter"
            problem = f"it has a copy in 32 bits of {name}, which cannot be filled alike"
            raise unresettable(self.optimizer.path, problem)
        return replace(step, tensor=copy, rule=None, tied=(), fans=None, head="", source_key=None)

    def _name(self, of: ParameterId | int, slot: str) -> str:
        return f"{slot} of {self._key(of)}"

    def _key(self, of: ParameterId | int) -> str:
        """Return how a parameter is called, or a group."""
        if isinstance(of, int):
            return f"group {of}"
        key = of if isinstance(of, str) else self.matched.keys.get(of)
        return repr(key) if key is not None else f"parameter {of.digits}"  # type: ignore[union-attr]


def _is_forgotten(group: Group, state: State, slots: Mapping[str, Slot]) -> bool:
    """Whether all that is kept for a parameter is left out, for a new optimizer to make it.

    That is where the start of a slot is an option that is a tensor, which is not read.
    """
    has_others = bool(state.numbers or state.others)
    return not has_others and any(slot.start in group.shared.tensors for slot in slots.values())


def _shared(options: State) -> State:
    """Return what a group holds besides its options: what its parameters share."""
    return State(
        {
            name: tensor
            for name, tensor in options.tensors.items()
            if name in COUNTERS or tensor.numel > 1
        },
        {name: number for name, number in options.numbers.items() if name in COUNTERS},
        tuple(name for name in options.others if name in KNOWN),
    )


def _like(was: Number, start: Number) -> Number:
    """Return a number of the same type as the one that it replaces, where that is possible."""
    return int(start) if isinstance(was, int) and start == int(start) else float(start)


def _once(
    steps: Sequence[Step], saved: Saved, matches: Sequence[Matched | None]
) -> tuple[Step, ...]:
    """Return steps of which each fills a tensor that no other does.

    Args:
        steps: those that reset slots.
        saved: the optimizers.
        matches: for each optimizer, which of its parameters are filled.

    Raises:
        RuleError: one would also change something else.
    """
    reset = {step.key: step for step in steps}
    if not reset:
        return ()
    overlaps = overlapping(saved.tensors)
    ties = tied_groups(saved.tensors)
    stays = {
        tensor.key: id_
        for optimizer, matched in zip(saved.optimizers, matches, strict=True)
        for id_, state in optimizer.states.items()
        if matched is None or id_ not in matched.filled
        for tensor in state.tensors.values()
    }
    kept = []
    for key, step in reset.items():
        group = ties.get(key, (key,))
        if key in overlaps:
            raise unresettable(key, overlaps[key])
        if key in stays:
            problem = f"it is of {called(stays[key])} too, which no rule fills"
            raise unresettable(key, problem)
        others = [other for other in group if other not in reset or reset[other].init != step.init]
        if others:
            raise unresettable(key, f"it is one tensor with {others[0]!r}, which no rule fills")
        if key == next(iter(other for other in group if other in reset)):
            kept.append(step)
    return tuple(kept)
