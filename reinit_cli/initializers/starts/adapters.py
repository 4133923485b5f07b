"""Say how adapters start, whose names tell what they are: those of PEFT and what PEFT took over."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from reinit_cli.initializers.law import Constant, Law, Normal
from reinit_cli.initializers.starts.linear import of_weight

_MOST_SEGMENTS = 2
"""What may follow the name: that of the adapter, and `weight` or `bias`."""


def adapter_law(key: str, shape: tuple[int, ...]) -> Law | None:
    """Return what an adapter starts a tensor with; None of what is not one of an adapter's.

    With these starts an adapter changes nothing: a product has zeros for a factor, or a rotation is
    by no angle.

    Raises:
        UndefinedError: the shape is not that of the adapter's tensor.
    """
    segments = key.split(".")[-_MOST_SEGMENTS - 1 :]
    named = next((each for each in reversed(segments) if each in _STARTS), None)
    if named is None:
        return None
    is_bias = segments[-1] == "bias" and named != "bias"
    return Constant(0.0) if is_bias else _STARTS[named](shape)


def _zeros(shape: tuple[int, ...]) -> Law:
    del shape
    return Constant(0.0)


def _ones(shape: tuple[int, ...]) -> Law:
    del shape
    return Constant(1.0)


def _as_embedding(shape: tuple[int, ...]) -> Law:
    del shape
    return Normal(0.0, 1.0)


_STARTS: Mapping[str, Callable[[tuple[int, ...]], Law]] = {
    # Hu et al. 2022, LoRA; peft.tuners.lora.layer, reset_lora_parameters
    **dict.fromkeys(("lora_A", "lora_down"), of_weight),
    **dict.fromkeys(("lora_B", "lora_up", "lora_embedding_A"), _zeros),
    "lora_embedding_B": _as_embedding,
    # peft.tuners.loha.layer, reset_adapter_parameters
    **dict.fromkeys(("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_t1", "hada_t2"), of_weight),
    "hada_w2_b": _zeros,
    # peft.tuners.lokr.layer, reset_adapter_parameters
    **dict.fromkeys(("lokr_w1", "lokr_w1_a"), _zeros),
    **dict.fromkeys(("lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"), of_weight),
    # peft.tuners.ia3.layer, reset_ia3_parameters
    "ia3_l": _ones,
    # peft.tuners.oft.layer, reset_oft_parameters; peft.tuners.boft.layer, reset_boft_parameters
    **dict.fromkeys(("oft_R", "boft_R"), _zeros),
    "boft_s": _ones,
}
"""The starts of the tensors of adapters, by the names of their parameters."""
