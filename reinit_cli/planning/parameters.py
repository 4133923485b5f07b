"""Find which keys the parameters of an optimizer are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import field
from itertools import chain
from typing import NamedTuple

from reinit_cli.errors import RuleError
from reinit_cli.lazy import dataclass
from reinit_cli.planning.optimizer_slots import odd_slots, shape_of
from reinit_cli.planning.parameter_names import named_keys
from reinit_cli.planning.parameter_order import (
    Filled,
    Positions,
    Range,
    Sequences,
    Token,
    by_order,
    by_shape,
)
from reinit_cli.tensors.info import RUNNING_STATISTICS, TensorInfo, tied_groups
from reinit_cli.tensors.optimizer import Optimizer, ParameterId, State
from reinit_cli.text import plural, shape

_HALVES = ("bfloat16", "float16")


class Parameter(NamedTuple):
    """A tensor of a state dict that may be a parameter.

    Attributes:
        keys: all that it has, the first in the state dict first.
        shape: its dimensions.
        dtype: torch's name of it.
    """

    keys: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str

    @property
    def key(self) -> str:
        """The key under which `Module.named_parameters` has it."""
        return self.keys[0]


Order = Sequence[str] | None
"""The keys of an optimizer's parameters, group after group; None where nobody gives them."""

NDIM = "ndim"
"""The order of those who put matrices into one group, and vectors into the next."""


@dataclass(frozen=True, slots=True)
class Matched:
    """Which parameters of an optimizer are filled.

    Attributes:
        filled: the ids of those that are.
        keys: the keys of parameters, as far as they are known.
        assumed: a key of which only the order of the state dict says which parameter it is, or "".
    """

    filled: frozenset[ParameterId] = frozenset()
    keys: Mapping[ParameterId, str] = field(default_factory=dict)
    assumed: str = ""


def parameters_of(tensors: Sequence[TensorInfo]) -> tuple[Parameter, ...]:
    """Return what `Module.parameters` may give of a state dict, in its order; ties once.

    Args:
        tensors: the entries as the checkpoint has them.
    """
    ties = tied_groups(tuple(tensors))
    seen: set[str] = set()
    found = []
    for tensor in tensors:
        dtype = tensor.fillable_dtype
        is_float = dtype is not None and dtype.kind in ("float", "complex")
        is_statistic = tensor.key.rpartition(".")[2] in RUNNING_STATISTICS
        if is_float and not is_statistic and tensor.key not in seen:
            group = ties.get(tensor.key, ())
            keys = (tensor.key, *(key for key in group if key != tensor.key))
            found.append(Parameter(keys, tensor.shape, tensor.dtype))
            seen.update(group)
    return tuple(found)


def match_parameters(
    optimizer: Optimizer, parameters: Sequence[Parameter], filled: Collection[str], order: Order
) -> Matched | None:
    """Find which parameters of an optimizer are filled.

    Args:
        optimizer: as it was saved.
        parameters: what they may be.
        filled: the keys that are filled.
        order: the keys of its parameters, where the user gives them.

    Returns:
        None where it is an optimizer of other parameters.

    Raises:
        RuleError: that is not certain.
    """
    for id_, state in optimizer.states.items():
        for name, found in odd_slots(state):
            problem = f"its {name} of {called(id_)} is {shape(found)}, unlike its other slots"
            raise unresettable(optimizer.path, problem)
    if order is not None and list(order) != [NDIM]:
        keys = _in_order(optimizer, parameters, order)
        return _as_named(optimizer, [keys], parameters, filled)
    names = named_keys(optimizer, {key: None for each in parameters for key in each.keys})
    if names is not None:
        return _as_named(optimizer, names, parameters, filled)
    if order is not None:
        return _by_ndim(optimizer, parameters, filled)
    return _unnamed(optimizer, parameters, filled)


def unresettable(path: str, problem: str) -> RuleError:
    """Return that an optimizer cannot be reset."""
    return RuleError(path, problem, kind="optimizer")


def called(id_: ParameterId) -> str:
    """Return how people call a parameter without a key."""
    return repr(id_) if isinstance(id_, str) else f"parameter {id_.digits}"


def _in_order(
    optimizer: Optimizer, parameters: Sequence[Parameter], order: Sequence[str]
) -> Mapping[ParameterId, str]:
    """Return the keys that a user gives.

    Raises:
        RuleError: they are not those of the parameters.
    """
    ids = optimizer.ids
    if len(order) != len(ids):
        problem = (
            f"it has {plural(len(ids), 'parameter')}, and the order {plural(len(order), 'key')}"
        )
        raise unresettable(optimizer.path, problem)
    of = {key: at for at, each in enumerate(parameters) for key in each.keys}
    seen: set[int] = set()
    for key in order:
        if key not in of:
            problem = f"the order names {key!r}, which is not in the state dict"
            raise unresettable(optimizer.path, problem)
        if of[key] in seen:
            raise unresettable(optimizer.path, f"the order names {key!r} twice")
        seen.add(of[key])
    return dict(zip(ids, order, strict=True))


def _as_named(
    optimizer: Optimizer,
    choices: Sequence[Mapping[ParameterId, str]],
    parameters: Sequence[Parameter],
    filled: Collection[str],
) -> Matched | None:
    """Return which parameters are filled, whichever of the choices the names mean.

    Raises:
        RuleError: that depends on which it is.
    """
    of = {key: each for each in parameters for key in each.keys}
    fitting = [keys for keys in choices if not any(unlike(optimizer, keys, of))] or choices[:1]
    found = [_named(optimizer, keys, of, filled) for keys in fitting]
    if any(each.filled != found[0].filled for each in found):
        differing = {id_ for each in found for id_ in each.filled ^ found[0].filled}
        id_ = next(each for each in optimizer.ids if each in differing)
        may_be = list(dict.fromkeys(each[id_] for each in fitting if id_ in each))
        raise _doubtful(optimizer, id_, may_be, len(differing) - 1)
    return found[0] if found else None


def unlike(
    optimizer: Optimizer, keys: Mapping[ParameterId, str], of: Mapping[str, Parameter]
) -> Iterator[str]:
    """Yield why the state of parameters is not that of their keys."""
    for id_, key in keys.items():
        found = shape_of(optimizer.states.get(id_, State()))
        if found is not None and found != of[key].shape:
            yield f"its state of {key!r} is {shape(found)}, and the tensor {shape(of[key].shape)}"


def _named(
    optimizer: Optimizer,
    keys: Mapping[ParameterId, str],
    of: Mapping[str, Parameter],
    filled: Collection[str],
) -> Matched:
    """Return which parameters are filled where each has a key.

    Raises:
        RuleError: a slot has not the shape of its parameter.
    """
    problem = next(unlike(optimizer, keys, of), None)
    if problem is not None:
        raise unresettable(optimizer.path, problem)
    chosen = (id_ for id_, key in keys.items() if not filled_none(of[key], filled))
    return Matched(frozenset(chosen), keys)


def filled_none(parameter: Parameter, filled: Collection[str]) -> bool:
    """Whether no key of a tensor is filled."""
    return not any(key in filled for key in parameter.keys)


@dataclass(frozen=True, slots=True)
class _Unnamed:
    """The parameters of an optimizer without names, and the tensors that they may be.

    Attributes:
        ids: of each group; a group that a wrapper sorts is two.
        sequences: what is known of their shapes.
        tokens: the same of the tensors.
        parameters: the tensors.
        filled: whether each is filled.
    """

    ids: Sequence[Sequence[ParameterId]]
    sequences: Sequences
    tokens: Sequence[Token]
    parameters: Sequence[Parameter]
    filled: Sequence[bool]

    @classmethod
    def of(
        cls, optimizer: Optimizer, parameters: Sequence[Parameter], filled: Collection[str]
    ) -> _Unnamed:
        """Return those of an optimizer."""
        masters = [len(group.masters) for group in optimizer.groups]
        halves = [
            (group.ids[:at], group.ids[at:])
            for group, at in zip(optimizer.groups, masters, strict=True)
        ]
        is_wrapped = any(masters)
        ids = [part for pair in halves for part in pair]
        shapes = dict(_shapes(optimizer))
        sequences = [
            [_token(shapes.get(each), is_half=is_wrapped and number % 2 == 0) for each in part]
            for number, part in enumerate(ids)
        ]
        tokens = [
            str(_token(each.shape, is_half=is_wrapped and each.dtype in _HALVES))
            for each in parameters
        ]
        flags = [not filled_none(each, filled) for each in parameters]
        return cls(ids, sequences, tokens, parameters, flags)

    def flat(self, ranges: Sequence[Sequence[Range]]) -> Iterator[tuple[ParameterId, Range]]:
        """Yield each parameter with its range."""
        return zip(chain(*self.ids), chain(*ranges), strict=True)


def _shapes(optimizer: Optimizer) -> Iterator[tuple[ParameterId, tuple[int, ...]]]:
    """Yield the shapes of the parameters of which they are known."""
    for group in optimizer.groups:
        for id_, master in zip(group.ids, group.masters, strict=False):
            yield id_, master.shape
    for id_, state in optimizer.states.items():
        found = shape_of(state)
        if found is not None:
            yield id_, found


def _token(dims: tuple[int, ...] | None, *, is_half: bool) -> Token | None:
    return None if dims is None else f"{'half' * is_half}{dims}"


def _unnamed(
    optimizer: Optimizer, parameters: Sequence[Parameter], filled: Collection[str]
) -> Matched | None:
    unnamed = _Unnamed.of(optimizer, parameters, filled)
    positions = Positions(enumerate(unnamed.tokens))
    whatever = by_shape(unnamed.sequences, positions)
    if whatever is None:
        return None
    ordered = by_order(unnamed.sequences, unnamed.tokens)
    known = _keys_of(unnamed, whatever if ordered is None else ordered[0])
    needed = _needed(optimizer)
    by_shapes = _verdicts(unnamed, whatever, Filled(positions, unnamed.filled), needed)
    doubtful = [id_ for id_, is_filled in by_shapes.items() if is_filled is None]
    if not doubtful:
        return Matched(_chosen(by_shapes), known)
    if ordered is None:
        raise _ambiguous(optimizer, unnamed, dict(unnamed.flat(whatever)), doubtful, positions)
    return _certain(optimizer, unnamed, ordered, known, doubtful)


def _by_ndim(
    optimizer: Optimizer, parameters: Sequence[Parameter], filled: Collection[str]
) -> Matched | None:
    """Match parameters of which matrices come first, and then the others."""
    ordered = sorted(parameters, key=lambda each: len(each.shape) < 2)
    unnamed = _Unnamed.of(optimizer, ordered, filled)
    sequence = list(chain(*unnamed.sequences))
    found = by_order([sequence], unnamed.tokens)
    if found is None:
        problem = "its parameters are not matrices first, and then the others"
        raise unresettable(optimizer.path, problem)
    return _certain(optimizer, unnamed, found, _keys_of(unnamed, found[0]), ())


def _certain(
    optimizer: Optimizer,
    unnamed: _Unnamed,
    ordered: tuple[Sequence[Sequence[Range]], Positions],
    known: Mapping[ParameterId, str],
    assumed: Sequence[ParameterId],
) -> Matched:
    """Return which parameters are filled in every choice that keeps the order.

    Args:
        optimizer: as it was saved.
        unnamed: its parameters.
        ordered: what each may be, and the tensors among which these are.
        known: the keys of those that can be one alone.
        assumed: those that nothing but an assumed order tells from others.

    Raises:
        RuleError: there are choices that differ.
    """
    ranges, free = ordered
    verdicts = _verdicts(unnamed, ranges, Filled(free, unnamed.filled), _needed(optimizer))
    doubtful = [id_ for id_, is_filled in verdicts.items() if is_filled is None]
    if doubtful:
        raise _ambiguous(optimizer, unnamed, dict(unnamed.flat(ranges)), doubtful, free)
    chosen = _chosen(verdicts)
    first = next((id_ for id_ in assumed if id_ in chosen), None)
    named = "" if first is None else known.get(first, called(first))
    return Matched(chosen, known, named)


def _verdicts(
    unnamed: _Unnamed,
    ranges: Sequence[Sequence[Range]],
    filled: Filled,
    needed: Collection[ParameterId],
) -> dict[ParameterId, bool | None]:
    """Return whether each parameter is filled; None where it may be, and may not."""
    return {id_: filled.share(each) for id_, each in unnamed.flat(ranges) if id_ in needed}


def _chosen(verdicts: Mapping[ParameterId, bool | None]) -> frozenset[ParameterId]:
    return frozenset(id_ for id_, is_filled in verdicts.items() if is_filled)


def _needed(optimizer: Optimizer) -> Collection[ParameterId]:
    """Return the parameters of which it must be known whether they are filled."""
    kept = {id_ for id_, state in optimizer.states.items() if state}
    for group in optimizer.groups:
        kept.update(group.ids[: len(group.masters)])
        if any(is_shared(optimizer.states.get(id_, State())) for id_ in group.ids):
            kept.update(group.ids)
    return kept


def is_shared(state: State) -> bool:
    """Whether what is kept for a parameter is of all parameters of its group."""
    return "n_iter" in state.numbers


def _keys_of(unnamed: _Unnamed, ranges: Sequence[Sequence[Range]]) -> dict[ParameterId, str]:
    """Return the keys of the parameters that can be one tensor alone."""
    return {
        id_: unnamed.parameters[each.low].key
        for id_, each in unnamed.flat(ranges)
        if each.is_settled
    }


def _ambiguous(
    optimizer: Optimizer,
    unnamed: _Unnamed,
    ranges: Mapping[ParameterId, Range],
    doubtful: Sequence[ParameterId],
    positions: Positions,
) -> RuleError:
    """Say which parameter may be which keys."""
    keys = [unnamed.parameters[at].key for at in positions.within(ranges[doubtful[0]])]
    return _doubtful(optimizer, doubtful[0], keys, len(doubtful) - 1)


def _doubtful(
    optimizer: Optimizer, id_: ParameterId, keys: Sequence[str], others: int
) -> RuleError:
    listed = ", ".join(map(repr, keys[:3]))
    more = f" and {len(keys) - 3:,} more" if len(keys) > 3 else ""
    likewise = f", and {plural(others, 'other parameter')} likewise" * (others > 0)
    problem = f"its {called(id_)} may be any of {listed}{more}{likewise}"
    return RuleError(optimizer.path, problem, kind="parameters")
