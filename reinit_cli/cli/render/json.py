"""Write versioned JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from reinit_cli.tensors.moments import Moments


VERSION = 1
"""Of all forms; it grows when a member changes its meaning or goes."""


def dumps(value: Any) -> str:
    """Return one line of ASCII JSON; NaN and infinities are null."""
    return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(member) for member in value]
    return value


def moments_form(moments: Moments) -> dict[str, float]:
    """Return the form of measured values."""
    return {
        "mean": moments.mean,
        "std": moments.std,
        "min": moments.low,
        "max": moments.high,
    }


def values_form(tensor: Tensor) -> Any:
    """Return the values of a tensor as nested lists; complex ones as pairs of numbers."""
    import torch

    if tensor.is_complex():
        return torch.view_as_real(tensor.resolve_conj().to(torch.complex128)).tolist()
    return (tensor.double() if tensor.is_floating_point() else tensor).tolist()
