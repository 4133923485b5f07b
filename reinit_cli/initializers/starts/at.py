"""Say how the layer of a tensor starts it, wherever that is told."""

from __future__ import annotations

import math
from dataclasses import replace

from reinit_cli.initializers.fans import UndefinedError
from reinit_cli.initializers.law import Constant, Law
from reinit_cli.initializers.site import Site
from reinit_cli.initializers.starts.adapters import adapter_law
from reinit_cli.initializers.starts.roles import plain, shape_of
from reinit_cli.initializers.starts.table import start_of
from reinit_cli.initializers.starts.vectors import vector_law, weight_of_vector

_ZEROS = frozenset(("final_logits_bias",))
"""Buffers of zeros that are of no layer: transformers BART, Marian."""


def start_at(site: Site, shape: tuple[int, ...]) -> Law:
    """Return what the layer of a tensor fills it with when it is made.

    Raises:
        UndefinedError: that cannot be told.
    """
    vector = _vector_law(site, shape)
    return vector if vector is not None else _law(site, shape)


def _law(site: Site, shape: tuple[int, ...]) -> Law:
    """Return the start of what does not depend on the values of another tensor."""
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
    if layer is None:
        raise UndefinedError("what kind of layer it is of cannot be told")
    return start_of(layer, shape)


def _vector_law(site: Site, shape: tuple[int, ...]) -> Law | None:
    """Return the law of a vector of spectral norm; None of anything else.

    Raises:
        UndefinedError: its weight has no start that is known.
    """
    weight = weight_at(site)
    layer = weight.layer if weight is not None else None
    if weight is None or layer is None:
        return None
    of = _law(weight, shape_of(layer, "weight"))
    is_wide = site.dtype == "float64"
    return vector_law(site.key, math.prod(shape), of, layer, is_wide=is_wide)


def weight_at(site: Site) -> Site | None:
    """Return the weight of which a tensor holds a vector of spectral norm; None of anything else."""
    weight = replace(site, key=weight_of_vector(site.key))
    layer = weight.layer if weight.key else None
    return weight if layer is not None and plain(layer, layer.role) == "weight" else None
