"""Say what a model's constructor fills its tensors with, without drawing a value.

A constructor runs with its draws noted instead of drawn: `empty` memory is never touched, so
that a model of gigabytes is recorded in megabytes. Everything else is computed, so that
constants such as ones and tables of positions have their values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from reinit_cli.checkpoints.models.module_layers import layers_of_module
from reinit_cli.checkpoints.models.recording.fills import Fill, Unknown
from reinit_cli.checkpoints.models.recording.found import Found, found_in, with_consistency
from reinit_cli.checkpoints.models.recording.memory import Memory
from reinit_cli.checkpoints.models.recording.recorder import recording
from reinit_cli.checkpoints.models.recording.running import Build, Run
from reinit_cli.initializers import Law
from reinit_cli.initializers.families.replays import Patched, Values
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.tensors.layers.layer import Layer

if TYPE_CHECKING:
    import numpy as np
    from torch import nn
else:
    np = LazyModule("numpy")

_VARIES = Unknown(
    "its constructor draws it, but not by torch, or leaves some of its memory unfilled"
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One entry of a state dict that was recorded.

    Attributes:
        shape: its dimensions.
        law: what it is filled with.
        key: its own.
        layer: the layer that it belongs to, where a module was made and tells it.
        equal_to: the first key of an equal tensor, its own where there is none before it.
        run: a real run of the constructor, which may have what cannot be followed; or None.
    """

    shape: tuple[int, ...]
    law: Law | Unknown
    key: str
    layer: Layer | None = None
    equal_to: str = ""
    run: Run | None = None


Fills = Mapping[str, Recorded]
"""What was recorded of a state dict, by key."""


def laws_of(build: Build) -> Fills:
    """Return what a function fills the module or the state dict with that it makes, by key.

    It runs twice, with other chance that is not torch's: what differs then is not known.
    """
    found, layers = _found(build, 0)
    again, _ = _found(build, 1)
    varying = {key for key, each in found.items() if not _is_same(each, again.get(key))}
    settled = {
        key: replace(each, law=_VARIES) if key in varying else each for key, each in found.items()
    }
    return _recorded(settled, layers, build)


def _found(build: Build, seed: int) -> tuple[dict[str, Found], Mapping[str, Layer]]:
    with recording(seed) as memory:
        made = build()
        state = made if isinstance(made, Mapping) else made.state_dict()
    layers = {} if isinstance(made, Mapping) else layers_of_module(made, state)
    return found_in(memory, state), layers


def _is_same(found: Found, again: Found | None) -> bool:
    return again is not None and found.shape == again.shape and _are_same(found.law, again.law)


def _are_same(law: Law | Unknown, other: Law | Unknown) -> bool:
    if isinstance(law, Unknown) or isinstance(other, Unknown):
        return isinstance(law, Unknown) == isinstance(other, Unknown)
    if isinstance(law, Values) and isinstance(other, Values):
        return bool(np.array_equal(law.values, other.values, equal_nan=_may_be_nan(law)))
    if isinstance(law, Patched) and isinstance(other, Patched):
        parts = zip(law.parts, other.parts, strict=False)
        are_same = all(one[0] == two[0] and _are_same(one[1], two[1]) for one, two in parts)
        return len(law.parts) == len(other.parts) and are_same and _are_same(law.whole, other.whole)
    return repr(law) == repr(other)  # in which NaN is NaN


def _may_be_nan(law: Values) -> bool:
    return law.values.dtype.kind in "fc"


def _recorded(
    found: Mapping[str, Found], layers: Mapping[str, Layer], build: Build | None
) -> Fills:
    consistent, equal = with_consistency(found)
    computed = {
        key
        for key, each in consistent.items()
        if isinstance(each.law, Unknown) and each.law.why == "chance"
    }
    numel = sum(math.prod(each.shape) for each in found.values())
    run = Run(build, frozenset(computed), numel) if build is not None else None
    return {
        key: Recorded(
            each.shape,
            each.law,
            key,
            layers.get(key),
            equal[key],
            run if key in computed else None,
        )
        for key, each in consistent.items()
    }


def laws_of_layers(module: nn.Module) -> Fills:
    """Return what the layers' own `reset_parameters` fill a module with, by key.

    The module itself is left as it is. What a whole model's constructor changes afterwards
    is not recorded.
    """
    import copy

    import torch

    # Copies of everything but the values: empty memory is never touched.
    tensors = (*module.parameters(), *module.buffers())
    memo = {
        id(each): torch.nn.Parameter(torch.empty_like(each, device="cpu"), each.requires_grad)
        if isinstance(each, torch.nn.Parameter)
        else torch.empty_like(each, device="cpu")
        for each in tensors
    }
    empty = copy.deepcopy(module, dict(memo))
    problem = Unknown("no layer has a reset_parameters that fills it", "unfilled")
    with recording() as memory, torch.no_grad():
        for each in memo.values():
            memory.note(each, Fill(problem))
        for layer in reversed(list(empty.modules())):  # children before those who hold them
            reset = getattr(layer, "reset_parameters", getattr(layer, "_reset_parameters", None))
            if reset is not None:
                _try(reset, layer, memory)
        state = empty.state_dict()
    return _recorded(found_in(memory, state), layers_of_module(module, state), None)


def _try(reset: Callable[[], object], layer: nn.Module, memory: Memory) -> None:
    """Reset a layer; where that fails, as it may for one that was changed since, note it."""
    try:
        reset()
    except Exception as error:  # noqa: BLE001 (a layer of strangers may raise anything)
        problem = f"its layer's reset_parameters fails: {type(error).__name__}"
        for each in layer.parameters(recurse=False):
            memory.note(each, Fill(Unknown(problem, "unfilled")))
