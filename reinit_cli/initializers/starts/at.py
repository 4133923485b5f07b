"""Say how the layer of a tensor starts it, wherever that is told."""

from __future__ import annotations

from reinit_cli.initializers.fans import UndefinedError
from reinit_cli.initializers.law import Constant, Law
from reinit_cli.initializers.site import Site
from reinit_cli.initializers.starts.adapters import adapter_law
from reinit_cli.initializers.starts.table import start_of

_ZEROS = frozenset(("final_logits_bias",))
"""Buffers of zeros that are of no layer: transformers BART, Marian."""


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
    kernels = site.elsewhere.kernels
    layer = site.layer or (kernels.layer(site.key) if kernels is not None else None)
    if layer is None:
        raise UndefinedError("what kind of layer it is of cannot be told")
    return start_of(layer, shape)
