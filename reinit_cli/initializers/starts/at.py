"""Say how the layer of a tensor starts it, wherever that is told."""

from __future__ import annotations

from reinit_cli.initializers.fans import UndefinedError
from reinit_cli.initializers.law import Constant, Law
from reinit_cli.initializers.site import Site
from reinit_cli.initializers.starts.adapters import adapter_law
from reinit_cli.initializers.starts.linear import of_weight
from reinit_cli.initializers.starts.table import start_of

_ZEROS = frozenset(("final_logits_bias",))
"""Buffers of zeros that are of no layer: transformers BART, Marian."""

_LEAST, _MOST = 3, 5
"""The dimensions of the weight of a convolution with one and with three spatial dimensions."""


def start_at(site: Site, shape: tuple[int, ...]) -> Law:
    """Return what the layer of a tensor fills it with when it is made.

    Raises:
        UndefinedError: that cannot be told.
    """
    model = site.elsewhere.architecture
    own = model.start(site.key, shape) if model is not None else None
    if own is not None:
        return own
    adapters = adapter_law(site.key, shape)
    if adapters is not None:
        return adapters
    if site.key.rpartition(".")[2] in _ZEROS:
        return Constant(0.0)
    layer = site.layer
    if layer is not None:
        return start_of(layer, shape)
    if _is_kernel(site.key, shape):
        return of_weight(shape)
    raise UndefinedError("what kind of layer it is of cannot be told")


def _is_kernel(key: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor is the weight of a convolution, transposed or not, which start alike."""
    module, _, last = key.rpartition(".")
    is_named = "conv" in module.rpartition(".")[2].lower()
    least = _LEAST if is_named else _LEAST + 1
    return last == "weight" and least <= len(shape) <= _MOST
