"""Decide what initializers that follow the layer of a tensor do with ties and statistics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reinit_cli.initializers import Elsewhere, Init
from reinit_cli.planning.plan import Plan, Step
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


def are_statistics(init: Init, group: Sequence[str]) -> bool:
    """Whether all keys of a tensor are running statistics that an initializer takes."""
    names = {key.rpartition(".")[2] for key in group}
    return init.initializer.by_layer and names <= RUNNING_STATISTICS


def layer_notes(plan: Plan, elsewhere: Elsewhere) -> Iterator[str]:
    """Say which layers are guessed, and which of several decides on a tensor."""
    for rule, steps in zip(plan.rules, plan.by_rule(), strict=True):
        if not rule.init.initializer.by_layer:
            continue
        filled = [step for step in steps if step.action == "fill"]
        guessed = [step.key for step in filled if _is_guessed(step, elsewhere)]
        if guessed:
            more = f" and {len(guessed) - 1:,} more" if len(guessed) > 1 else ""
            yield (
                f"rule {quoted(rule.text)} takes {guessed[0]!r}{more} for the weights of linear "
                "layers, because they have two dimensions; --arch tells the layers of a model"
            )
        for step in filled:
            if step.law_key and step.key == step.seed_key:
                yield f"{step.key!r} is tied to {step.law_key!r}, and starts as this embedding"


def _is_guessed(step: Step, elsewhere: Elsewhere) -> bool:
    layer = _layer(step.law_key or step.key, elsewhere)
    return layer is not None and layer.told == "shapes"
