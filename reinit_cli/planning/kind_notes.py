"""Say what a user should know of the kinds of layers that rules take."""

from __future__ import annotations

from collections.abc import Iterator

from reinit_cli.planning.fan_notes import fan_notes
from reinit_cli.planning.layers import FoundLayers
from reinit_cli.planning.plan import Plan
from reinit_cli.tensors.layers.layer import Layers
from reinit_cli.text import quoted

_NORMS = ("LayerNorm", "RMSNorm", "GroupNorm")
_UNTOLD = "Norm"
"""The kind of norms whose class nothing tells."""


def kind_notes(plan: Plan, layers: Layers | None) -> Iterator[str]:
    """Yield what a user should know of the kinds of layers that rules take.

    Args:
        plan: what happens to every key.
        layers: those of its tensors; None where nobody knows them.
    """
    if layers is None:
        return
    yield from _norms_left_out(plan, layers)
    # Names are enough here: to build a model takes longer than most runs.
    yield from fan_notes(plan, layers.by_names if isinstance(layers, FoundLayers) else layers)


def _norms_left_out(plan: Plan, layers: Layers) -> Iterator[str]:
    """Warn of norms that a rule for one of their kinds leaves out, since nothing tells theirs."""
    for rule in plan.rules:
        kinds = rule.pattern.kinds
        if kinds is None or kinds.takes(_UNTOLD) or not any(map(kinds.takes, _NORMS)):
            continue
        keys = [step.key for step in plan.steps]
        named = [keys[at] for at in rule.pattern.select(keys)]
        left = [key for key in named if (of := layers.layer(key)) and of.kind == _UNTOLD]
        if left:
            more = f" and {len(left) - 1:,} more" if len(left) > 1 else ""
            yield (
                f"rule {quoted(rule.text)} leaves out {left[0]!r}{more}: names and shapes do not "
                "tell which kind of norm that is; kind=norm takes every norm"
            )
