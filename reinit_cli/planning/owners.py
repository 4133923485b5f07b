"""Find which optimizers are of a state dict, where a file holds several networks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from reinit_cli.errors import RuleError
from reinit_cli.lazy import dataclass
from reinit_cli.planning.optimizer_slots import shape_of
from reinit_cli.planning.parameter_names import named_keys
from reinit_cli.planning.parameters import NDIM, Matched, Order, Parameter, match_parameters, unlike
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.optimizer import Optimizer


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a state dict lies.

    Attributes:
        root: its path.
        neighbors: the paths of other networks, copies of it first.
        is_average: whether it is an average of one of those, which no optimizer steps.
        twin: the path of a network of the same tensors that is not an average, where the user
            chose between them; or "".
    """

    root: str = ""
    neighbors: tuple[str, ...] = ()
    is_average: bool = False
    twin: str = ""


ALONE = Surroundings()


@dataclass(frozen=True, slots=True)
class Saved:
    """The optimizers of a checkpoint, and what else lies in it.

    Attributes:
        optimizers: all of them.
        parameters: the tensors of the state dict that may be parameters, as the checkpoint has
            them.
        tensors: everything that may share memory with an optimizer's slots.
        order: the keys of the parameters, where the user gives them.
        around: where the state dict lies.
    """

    optimizers: tuple[Optimizer, ...]
    parameters: tuple[Parameter, ...]
    tensors: tuple[TensorInfo, ...]
    order: Order = None
    around: Surroundings = ALONE


def matches_of(saved: Saved, filled: Collection[str]) -> list[Matched | None]:
    """Return which parameters of each optimizer are filled; None where it is of others.

    Args:
        saved: the optimizers.
        filled: the keys that are filled.

    Raises:
        RuleError: that is not certain, or none is of the state dict.
    """
    orders = _orders_for(saved.optimizers, saved.order)
    others = _others(saved)
    found = [
        None
        if each.path in others
        else match_parameters(each, _in_state_dict(saved.parameters, each.order), filled, order)
        for each, order in zip(saved.optimizers, orders, strict=True)
    ]
    if all(each is None for each in found):
        problem = "its parameters are not those of the state dict"
        raise RuleError(saved.optimizers[0].path, problem, kind="parameters")
    return _owned(saved.optimizers, found, saved.parameters, saved.around)


def _in_state_dict(parameters: Sequence[Parameter], order: Sequence[str]) -> Sequence[Parameter]:
    """Return parameters in the order of the state dict that was saved."""
    at = {key: number for number, key in enumerate(order)}
    return sorted(parameters, key=lambda each: at.get(each.key, len(at))) if at else parameters


def _others(saved: Saved) -> Collection[str]:
    """Return the paths of optimizers of other networks, whose layers have the same names."""
    if saved.order is not None or not saved.around.neighbors or len(saved.optimizers) == 1:
        return ()
    of = {key: each for each in saved.parameters for key in each.keys}
    named = {each.path: (each, named_keys(each, of)) for each in saved.optimizers}
    return {
        path
        for path, (optimizer, choices) in named.items()
        if choices and all(any(unlike(optimizer, keys, of)) for keys in choices)
    }


def _orders_for(optimizers: Sequence[Optimizer], order: Order) -> list[Order]:
    """Return the part of an order that is of each optimizer, one after the other.

    It is the whole for each unless it has the keys of all of them together.
    """
    counts = [len(each.ids) for each in optimizers]
    if order is None or list(order) == [NDIM] or len(order) != sum(counts):
        return [order] * len(counts)
    ends = [sum(counts[: at + 1]) for at in range(len(counts))]
    return [order[end - count : end] for end, count in zip(ends, counts, strict=True)]


def _owned(
    optimizers: Sequence[Optimizer],
    matches: Sequence[Matched | None],
    parameters: Sequence[Parameter],
    around: Surroundings,
) -> list[Matched | None]:
    """Return what is filled of each optimizer, None of those that are of another network.

    Args:
        optimizers: those of the file.
        matches: which of their parameters would be filled, were all of the state dict.
        parameters: the tensors of the state dict that may be parameters.
        around: where it lies.

    Raises:
        RuleError: it is not certain whose an optimizer is.
    """
    claims = [
        at
        for at, (optimizer, matched) in enumerate(zip(optimizers, matches, strict=True))
        if matched is not None and any(optimizer.states.get(id_) for id_ in matched.filled)
    ]
    if not claims or not around.neighbors:
        return list(matches)
    if around.is_average:
        problem = f"it is not of {around.root!r}, an average, but of {_named(around.neighbors)}"
        raise RuleError(optimizers[claims[0]].path, problem, kind="optimizer")
    if not _are_too_many([optimizers[at] for at in claims], parameters):
        return list(matches)
    near = {at: _shared(optimizers[at].path, around.root) for at in claims}
    nearest = [at for at in claims if near[at] == max(near.values())]
    if len(nearest) > 1:
        problem = (
            f"it may be of {around.root!r}, as {optimizers[nearest[1]].path!r} may, "
            f"or of {_named(around.neighbors)}"
        )
        raise RuleError(optimizers[nearest[0]].path, problem, kind="owner")
    others = set(claims) - set(nearest)
    return [None if at in others else matched for at, matched in enumerate(matches)]


def _are_too_many(optimizers: Sequence[Optimizer], parameters: Sequence[Parameter]) -> bool:
    """Whether optimizers together have more parameters of a shape than a state dict."""
    there = Counter(str(each.shape) for each in parameters)
    shapes = (shape_of(state) for each in optimizers for state in each.states.values())
    wanted = Counter(str(shape) for shape in shapes if shape is not None)
    return any(there[shape] < count for shape, count in wanted.items())


def _shared(path: str, root: str) -> int:
    """Return how many containers two places lie in together."""
    count = 0
    for mine, other in zip(path.split("."), root.split("."), strict=False):
        if mine != other:
            break
        count += 1
    return count


def _named(roots: Sequence[str]) -> str:
    more = f" or {len(roots) - 1:,} more" if len(roots) > 1 else ""
    return f"{roots[0]!r}{more}"
