"""Tell the biases of heads whose weight is that of an embedding, and so not in the file.

A head over the words of a model shares its weight with their embedding. Files of safetensors
leave the second name out, and its bias lies alone.
"""

from __future__ import annotations

from reinit_cli.tensors.layers.layer import Layer
from reinit_cli.tensors.layers.modules import Module, Modules
from reinit_cli.tensors.layers.names import is_embedding

HEADS = frozenset(
    (
        "predictions",  # transformers BERT, ALBERT, MobileBERT
        "decoder",  # the same, and RoBERTa
        "lm_head",  # transformers RoBERTa, MPNet, Longformer
        "vocab_projector",  # transformers DistilBERT
        "generator_lm_head",  # transformers ELECTRA
        "proj",  # transformers XLM, Flaubert: pred_layer.proj
    )
)
"""The last segments of the paths of such heads."""


def bias_of_head(module: Module, modules: Modules) -> Layer | None:
    """Return the linear layer of which a module holds the bias alone; None where it is none.

    Args:
        module: holds the bias.
        modules: among them the embedding, which has as many rows.
    """
    if module.last not in HEADS or len(module.held) != 1:
        return None
    (bias,) = module.held.values()
    words = next((each for each in modules if _is_embedding_of(each, bias)), None)
    if "bias" not in module.held or words is None:
        return None
    shapes = {"weight": words.held["weight"], "bias": bias}
    return Layer("Linear", module.path, "bias", shapes)


def _is_embedding_of(module: Module, bias: tuple[int, ...]) -> bool:
    weight = module.held.get("weight", ())
    return len(weight) == 2 and weight[:1] == bias and is_embedding(module.path)
