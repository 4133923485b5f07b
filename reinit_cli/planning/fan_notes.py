"""Warn where an initializer reads the dimensions of a weight as another kind of layer has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from reinit_cli.initializers import UndefinedError
from reinit_cli.initializers.fans import TORCHS, Layout
from reinit_cli.lazy import dataclass
from reinit_cli.planning.plan import Plan, Step
from reinit_cli.request.pattern import Pattern
from reinit_cli.request.rule import Rule
from reinit_cli.tensors.layers.layer import Layer, Layers
from reinit_cli.text import quoted

_STACK = 3
"""The dimensions of a stack of matrices."""

_IN_AXIS: Mapping[int, str] = {1: "bio", 2: "boi"}
"""The axes of a stack whose inputs are in this dimension."""


@dataclass(frozen=True, slots=True)
class _Misread:
    """A tensor whose fans are computed as of another kind of layer.

    Attributes:
        key: its key.
        kind: its kind of layer.
        std: that of its law.
        meant: the argument that sets it right.
        meant_std: that of the law with it.
    """

    key: str
    kind: str
    std: float
    meant: str
    meant_std: float


def fan_notes(plan: Plan, layers: Layers) -> Iterator[str]:
    """Warn of fans that are computed as of another kind of layer.

    Args:
        plan: what happens to every key.
        layers: those of its tensors.
    """
    asking = {
        at: rule
        for at, rule in enumerate(plan.rules)
        if "fans" in rule.init.initializer.asks and rule.init.layout == TORCHS
    }
    if not asking:
        return
    misread: dict[int, list[_Misread]] = {}
    for step in plan.steps:
        draws = {draw.rule: draw for draw in step.draws if draw.rule in asking}
        for at, draw in draws.items():
            if at is not None and (each := _misread(asking[at], step, draw, layers)) is not None:
                misread.setdefault(at, []).append(each)
    for at in sorted(misread):
        yield from _notes(asking[at], misread[at])


def _notes(rule: Rule, misread: Sequence[_Misread]) -> Iterator[str]:
    """Say what a rule reads wrongly, once for each argument that sets it right."""
    found: dict[tuple[str, str], list[_Misread]] = {}
    for each in misread:
        found.setdefault((each.kind, each.meant), []).append(each)
    for (kind, _), several in found.items():
        is_alone = sum(each == kind for each, _ in found) == 1
        yield _note(rule, several, is_alone=is_alone)


def _misread(rule: Rule, step: Step, draw: Step, layers: Layers) -> _Misread | None:
    """Return what is wrong with the fans of a tensor, or None where they are right."""
    shape = step.tensor.shape
    if len(shape) < 2 or draw.law is None:
        return None
    layer = layers.layer(step.key)
    layout = _layout(layer, shape) if layer is not None else None
    if layer is None or layout is None:
        return None
    meant = replace(rule.init, layout=layout)
    try:
        law = meant.law(shape)
    except UndefinedError:
        return None
    if law is None or law.std == draw.law.std:
        return None
    given = {name: value for name, value in meant.given.items() if name not in rule.init.given}
    text = ",".join(f"{name}={str(value).lower()}" for name, value in given.items())
    return _Misread(step.key, layer.kind, draw.law.std, text, law.std)


def _layout(layer: Layer, shape: tuple[int, ...]) -> Layout | None:
    """Return the layout of a weight that is not what torch assumes, where that is known."""
    if layer.kind in ("Embedding", "EmbeddingBag"):
        return Layout(fan=shape[1]) if len(shape) == 2 and shape[1] else None
    if layer.kind == "Conv1D":
        return Layout(axes="io") if len(shape) == 2 else None
    if layer.kind == "Experts":
        axes = _IN_AXIS.get(layer.sizes.get("in_axis", 0), "bio")
        return Layout(axes=axes) if len(shape) == _STACK else None
    if layer.kind.startswith("ConvTranspose"):
        return Layout(transposed=True, groups=_groups(layer, shape))
    return None


def _groups(layer: Layer, shape: tuple[int, ...]) -> int:
    """Return the groups of a transposed convolution, which its bias shows."""
    bias = layer.shapes.get("bias", ())
    by_bias = bias[0] // shape[1] if len(bias) == 1 and shape[1] else 1
    return max(1, layer.sizes.get("groups", by_bias))


_READ_AS: Mapping[str, str] = {
    "Embedding": "the weight of a linear layer, and it is an embedding",
    "EmbeddingBag": "the weight of a linear layer, and it is an embedding",
    "Conv1D": "(out, in), and the weight of a Conv1D is (in, out)",
    "Experts": "the weight of a convolution, and it is a stack of experts",
}
_TRANSPOSED = "the weight of a convolution, and it is that of a transposed one"


def _note(rule: Rule, several: Sequence[_Misread], *, is_alone: bool) -> str:
    """Say what a rule reads wrongly, and the rule that sets it right."""
    first = several[0]
    more = f" and {len(several) - 1:,} more" if len(several) > 1 else ""
    written = rule.text.removeprefix(f"{rule.match}=")
    init = f"{written}{',' if ':' in written else ':'}{first.meant}"
    right = f"{_pattern(rule, several, is_alone=is_alone)}={init}"
    return (
        f"rule {quoted(rule.text)} reads {first.key!r}{more} as "
        f"{_READ_AS.get(first.kind, _TRANSPOSED)}: its std is {first.std:.3g}, and {first.meant} "
        f"makes it {first.meant_std:.3g}; add the rule {quoted(right)}"
    )


def _pattern(rule: Rule, several: Sequence[_Misread], *, is_alone: bool) -> str:
    """Return the pattern of what a rule reads wrongly, and of nothing else."""
    part = rule.part.written if rule.part is not None else ""
    if len(several) == 1 or not is_alone:
        return f"{Pattern.escape(several[0].key)}{part}"
    kind = several[0].kind
    if rule.pattern.kinds is not None and rule.pattern.kinds.words == (kind,):
        return rule.match
    return f"{rule.pattern.keys}[kind={kind}]{part}"
