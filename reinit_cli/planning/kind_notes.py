"""Say what a user should know of the kinds of layers that rules take."""

from __future__ import annotations

from collections.abc import Iterator

from reinit_cli.lazy import dataclass
from reinit_cli.planning.fan_notes import fan_notes
from reinit_cli.planning.layers import FoundLayers
from reinit_cli.planning.plan import Plan
from reinit_cli.tensors.layers.kernels import EITHER
from reinit_cli.tensors.layers.layer import Layer, Layers
from reinit_cli.text import quoted


@dataclass(frozen=True, slots=True)
class _Family:
    """Kinds of layers that names and shapes do not always tell apart.

    Attributes:
        kinds: what it may be.
        untold: the kind where nothing tells which.
        word: what people call all of them.
        group: the selector that takes all of them.
        ndim: the dimensions of the weight of these kinds; 0 for any.
    """

    kinds: tuple[str, ...]
    untold: str
    word: str
    group: str
    ndim: int = 0

    def has(self, layer: Layer | None) -> bool:
        """Whether a layer may be of any of these kinds."""
        if layer is None or layer.kind != self.untold:
            return False
        return self.ndim in (0, len(layer.shapes.get("weight", ())))


_FAMILIES = (
    _Family(("LayerNorm", "RMSNorm", "GroupNorm"), "Norm", "norm", "norm"),
    *(
        _Family((f"Conv{n}d", f"ConvTranspose{n}d"), EITHER, "convolution", "conv", n + 2)
        for n in (1, 2, 3)
    ),
)


def kind_notes(plan: Plan, layers: Layers | None) -> Iterator[str]:
    """Yield what a user should know of the kinds of layers that rules take.

    Args:
        plan: what happens to every key.
        layers: those of its tensors; None where nobody knows them.
    """
    if layers is None:
        return
    for family in _FAMILIES:
        yield from _left_out(plan, layers, family)
    # Names are enough here: to build a model takes longer than most runs.
    yield from fan_notes(plan, layers.by_names if isinstance(layers, FoundLayers) else layers)


def _left_out(plan: Plan, layers: Layers, family: _Family) -> Iterator[str]:
    """Warn of layers that a rule for one of their kinds leaves out, since nothing tells theirs."""
    for rule in plan.rules:
        kinds = rule.pattern.kinds
        if kinds is None or kinds.takes(family.untold) or not any(map(kinds.takes, family.kinds)):
            continue
        keys = [step.key for step in plan.steps]
        named = [keys[at] for at in rule.pattern.select(keys)]
        left = [key for key in named if family.has(layers.layer(key))]
        if left:
            more = f" and {len(left) - 1:,} more" if len(left) > 1 else ""
            yield (
                f"rule {quoted(rule.text)} leaves out {left[0]!r}{more}: names and shapes do not "
                f"tell which kind of {family.word} that is; kind={family.group} takes every "
                f"{family.word}"
            )
