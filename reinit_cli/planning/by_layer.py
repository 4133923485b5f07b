"""Decide what initializers that follow the layer of a tensor do with ties and statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from reinit_cli.initializers import Elsewhere, Init, Site, UndefinedError
from reinit_cli.planning.layers import FoundLayers
from reinit_cli.planning.plan import Plan, Step
from reinit_cli.request.rule import Rule
from reinit_cli.tensors.info import RUNNING_STATISTICS
from reinit_cli.tensors.layers.layer import Layer
from reinit_cli.text import quoted

_EMBEDDINGS = frozenset(("Embedding", "EmbeddingBag"))


def key_of_law(init: Init, key: str, group: Sequence[str], elsewhere: Elsewhere) -> str:
    """Return the key that the law of a tensor is of: of ties, that of an embedding.

    Args:
        init: what fills it.
        key: its key.
        group: all keys of it.
        elsewhere: what initializers may refer to.
    """
    if len(group) == 1 or not init.initializer.by_layer:
        return key
    embeddings = (each for each in group if _is_embedding(each, elsewhere))
    return next(embeddings, group[0])


def _is_embedding(key: str, elsewhere: Elsewhere) -> bool:
    layer = _layer(key, elsewhere)
    return layer is not None and layer.kind in _EMBEDDINGS


def _layer(key: str, elsewhere: Elsewhere) -> Layer | None:
    return elsewhere.layers.layer(key) if elsewhere.layers is not None else None


def with_needed(steps: Sequence[Step], elsewhere: Elsewhere) -> tuple[Step, ...]:
    """Return steps that say where a draw cannot be made again without the architecture.

    Args:
        steps: what rules do.
        elsewhere: what initializers may refer to.
    """
    layers = elsewhere.layers
    if elsewhere.architecture is None or not isinstance(layers, FoundLayers):
        return tuple(steps)
    by_names = replace(elsewhere, architecture=None, layers=layers.by_names)
    needed = tuple(_with_needed(step, by_names) for step in steps)
    keys = {step.key for step in needed if step.needs_arch}
    return tuple(
        replace(step, needs_arch=True) if step.norm_of in keys else step for step in needed
    )


def _with_needed(step: Step, by_names: Elsewhere) -> Step:
    patches = tuple(_with_needed(each, by_names) for each in step.patches)
    step = replace(step, patches=patches) if step.patches else step
    is_by_layer = step.init is not None and step.init.initializer.by_layer
    if step.init is None or step.law is None or not is_by_layer or step.norm_of:
        return step
    try:
        law = step.init.law(step.tensor.shape, Site(step.law_key or step.key, "", by_names))
    except UndefinedError:
        return replace(step, needs_arch=True)
    return replace(step, needs_arch=law != step.law)


def are_statistics(init: Init, group: Sequence[str]) -> bool:
    """Whether all keys of a tensor are running statistics that an initializer takes."""
    names = {key.rpartition(".")[2] for key in group}
    return init.initializer.by_layer and names <= RUNNING_STATISTICS


def weight_of(init: Init, key: str) -> str:
    """Return the key of the weight that an initializer fills a vector of spectral norm with, or ""."""
    if not init.initializer.by_layer:
        return ""
    from reinit_cli.initializers.starts.vectors import weight_of_vector

    return weight_of_vector(key)


def layer_notes(plan: Plan, elsewhere: Elsewhere) -> Iterator[str]:
    """Say which layers are guessed, and which of several decides on a tensor."""
    for rule, steps in zip(plan.rules, plan.by_rule(), strict=True):
        if not rule.init.initializer.by_layer:
            continue
        filled = [step for step in steps if step.action == "fill"]
        guessed: dict[str, list[str]] = {}
        for step in filled:
            if (kind := _guessed(step, elsewhere)) is not None:
                guessed.setdefault(kind, []).append(step.key)
        yield from (_guess(rule, kind, keys) for kind, keys in guessed.items())
        for step in filled:
            if step.law_key and step.key == step.seed_key:
                yield f"{step.key!r} is tied to {step.law_key!r}, and starts as this embedding"


def _guess(rule: Rule, kind: str, keys: Sequence[str]) -> str:
    """Say what a rule takes some tensors for, and how to be certain."""
    more = f" and {len(keys) - 1:,} more" if len(keys) > 1 else ""
    return (
        f"rule {quoted(rule.text)} takes {keys[0]!r}{more} for {_GUESSES.get(kind, _KERNEL)}; "
        "--arch tells the layers of a model"
    )


_GUESSES: Mapping[str, str] = {
    "Linear": "the weights of linear layers, because they have two dimensions",
    "PReLU": "the weights of PReLU, because they have one element",
}
_KERNEL = "those of a convolution, because their last dimension is short"


def _guessed(step: Step, elsewhere: Elsewhere) -> str | None:
    """Return the kind of a layer that only shapes tell, or None."""
    layer = _layer(step.law_key or step.key, elsewhere)
    return layer.kind if layer is not None and layer.told == "shapes" else None
