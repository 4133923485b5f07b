"""Tensors as the layers of torch start them."""

from __future__ import annotations

from reinit_cli.initializers.law import Law
from reinit_cli.initializers.registry import register
from reinit_cli.initializers.site import Site


@register(
    purpose="layers",
    law="reset_parameters of the layer: U(±1/√fan_in) for Linear, convolutions and their biases, "
    "N(0, 1) for Embedding, U(±1/√hidden_size) for LSTM and GRU, 1 and 0 for norms",
    example="reset",
    defined="tensors whose kind of layer can be told",
    by_layer=True,
)
def reset(shape: tuple[int, ...], site: Site) -> Law:
    """Start each tensor as torch's own layer of its kind does."""
    from reinit_cli.initializers.starts.at import start_at

    return start_at(site, shape)
