"""Tensors as the layers of torch start them."""

from __future__ import annotations

from reinit_cli.initializers.law import Law
from reinit_cli.initializers.registry import register
from reinit_cli.initializers.site import Site


def _drawn_as(site: Site, shape: tuple[int, ...]) -> str:
    """Return the key of the weight that a vector of spectral norm is drawn with, or the own."""
    del shape
    if not site.key.endswith(("_u", "_v")):
        return site.key
    from reinit_cli.initializers.starts.at import weight_at

    weight = weight_at(site)
    return site.key if weight is None else weight.key


@register(
    purpose="layers",
    law="reset_parameters of the layer: U(±1/√fan_in) for Linear, convolutions and their biases, "
    "N(0, 1) for Embedding, U(±1/√hidden_size) for LSTM and GRU, 1 and 0 for norms",
    example="reset",
    usage='-r "*={}"',
    defined="tensors whose kind of layer can be told",
    by_layer=True,
    drawn_as=_drawn_as,
)
def reset(shape: tuple[int, ...], site: Site) -> Law:
    """Start each tensor as torch's own layer of its kind does."""
    from reinit_cli.initializers.starts.at import start_at

    return start_at(site, shape)
