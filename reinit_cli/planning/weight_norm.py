"""Let the norms that weight norm keeps follow the directions that are drawn.

A layer with weight norm has its weight as g · v / ‖v‖, where ‖v‖ is taken for each index of one
dimension. A law of the weight is one of v if g is ‖v‖, so that the two are filled together.

    torch.nn.utils.weight_norm                    NAME_g, NAME_v
    torch.nn.utils.parametrizations.weight_norm   parametrizations.NAME.original0, .original1
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from reinit_cli.errors import UnfillableError
from reinit_cli.initializers import Law, Transform
from reinit_cli.initializers.norm import NormOf
from reinit_cli.planning.plan import Step
from reinit_cli.request.rule import Rule
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.spared import Spared, spared

_FOLLOWS = "follows "
_OLD = "_g", "_v"
_NEW = "original0", "original1"
WEIGHT_NORM = "weight_norm"
"""What records call this, next to the names of initializers."""

WEIGHT_NORM_VERSION = 2
"""The first left norms to rules."""

_LEAST_NDIM = 2
"""Of a weight; torch's default is a norm for each of its outputs."""


def norms(tensors: Sequence[TensorInfo]) -> Mapping[str, Spared]:
    """Return the norms that weight norm keeps, each with the key that it is the norm of."""
    known = {tensor.key: tensor for tensor in tensors}
    found = {}
    for tensor in tensors:
        other = _direction_of(tensor.key)
        if other in known and is_norm(tensor, known[other]):
            reason = f"{_FOLLOWS}{other.rpartition('.')[2]}"
            found[tensor.key] = Spared(reason, norm_of=other)
    return found


def _direction_of(key: str) -> str:
    """Return the key of what the norm would be of; "" where there is none."""
    module, _, last = key.rpartition(".")
    if last == _NEW[0] and module.rpartition(".")[0].split(".")[-1] == "parametrizations":
        return f"{module}.{_NEW[1]}"
    return key.removesuffix(_OLD[0]) + _OLD[1] if last.endswith(_OLD[0]) else ""


def is_norm(norm: TensorInfo, of: TensorInfo) -> bool:
    """Whether a tensor has the shape of norms of another, and both are floats."""
    dtypes = norm.fillable_dtype, of.fillable_dtype
    if any(dtype is None or dtype.kind != "float" for dtype in dtypes):
        return False
    if len(of.shape) < _LEAST_NDIM or 0 in of.shape:
        return False
    return not norm.shape or (
        len(norm.shape) == len(of.shape)
        and len(_kept(norm)) <= 1
        and all(norm.shape[dim] == of.shape[dim] for dim in _kept(norm))
    )


def norm_law(law: Law, of: TensorInfo, norm: TensorInfo) -> Law:
    """Return the law of norms.

    Args:
        law: that of what they are the norms of.
        of: the tensor that it fills.
        norm: the tensor of norms.
    """
    return NormOf(law, of.shape, of.dtype == "float64", next(iter(_kept(norm)), None))


def _kept(norm: TensorInfo) -> tuple[int, ...]:
    """Return the dimensions in which there are several norms."""
    return tuple(dim for dim, size in enumerate(norm.shape) if size > 1)


def left_alone_of(tensors: Sequence[TensorInfo]) -> Mapping[str, Spared]:
    """Return what a wildcard leaves alone among the entries of a checkpoint, and why."""
    return {**norms(tensors), **spared(tensors)}


def are_norms_left(steps: Iterable[Step]) -> bool:
    """Whether norms follow what is drawn, or are left alone because they would."""
    return any(step.norm_of or step.reason.startswith(_FOLLOWS) for step in steps)


def with_norms(
    steps: Sequence[Step],
    rules: Sequence[Rule],
    left_alone: Mapping[str, Spared],
    overlaps: Mapping[str, str],
) -> tuple[Step, ...]:
    """Return steps in which norms are filled with the directions that are drawn.

    Those that a rule fills or keeps stay as it says.

    Args:
        steps: what rules do.
        rules: the rules.
        left_alone: what a wildcard leaves alone.
        overlaps: the keys that share memory with others.

    Raises:
        UnfillableError: a norm cannot be that of what is drawn.
    """
    of = {key: why.norm_of for key, why in left_alone.items() if why.norm_of}
    if not of:
        return tuple(steps)
    drawn = {step.key: step for step in steps if step.is_filled}
    following = dict(_following(steps, rules, of, drawn, overlaps))
    return tuple(following.get(step.key, step) for step in steps)


def _following(
    steps: Sequence[Step],
    rules: Sequence[Rule],
    of: Mapping[str, str],
    drawn: Mapping[str, Step],
    overlaps: Mapping[str, str],
) -> Iterator[tuple[str, Step]]:
    for step in steps:
        direction = drawn.get(of.get(step.key, ""))
        is_free = step.action in ("copy", "skip")
        if direction is None or not is_free:
            continue
        if all(isinstance(each.law, Transform) for each in direction.draws):
            continue
        why = _why_not(step, direction, of, overlaps)
        if why:
            problem = f"{step.key!r} holds its norms, and {why}"
            rule = "" if direction.rule is None else rules[direction.rule].text
            raise UnfillableError(direction.key, problem, kind="norm", word=rule)
        assert direction.law is not None
        law = norm_law(direction.law, direction.tensor, step.tensor)
        yield (
            step.key,
            replace(
                step,
                action="fill",
                rule=None,
                reason="",
                law=law,
                seed_key=min((step.key, *step.tied)),
                stream_key=direction.stream_key,
                law_key=direction.law_key,
                seed=direction.seed,
                stream=direction.stream,
                init=direction.init,
                norm_of=direction.seed_key,
            ),
        )


def _why_not(
    step: Step, direction: Step, of: Mapping[str, str], overlaps: Mapping[str, str]
) -> str:
    """Say why a norm cannot follow, or ""."""
    if step.key in overlaps:
        return overlaps[step.key]
    if direction.patches:
        return "these are not known where a part of it is filled"
    if direction.keeps_zeros:
        return "these are not known where zeros are kept"
    if {of.get(key) for key in step.tied} != set(direction.tied):
        return "is tied otherwise"
    return ""
