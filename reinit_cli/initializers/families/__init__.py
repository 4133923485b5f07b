"""Each module in this folder is a family of initializers, which the registry imports.

To import them all takes as long as half of a small command, so the table says which family a
name is of. A name that it lacks is found too, later.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "arrays": ("values",),
        "basic": ("uniform", "normal", "trunc_normal"),
        "bilinear": ("bilinear",),
        "compounds": ("block", "icnr"),
        "constants": ("zeros", "ones", "constant", "prior_bias", "keep"),
        "depths": ("depth_scaled", "mitchell", "tfixup", "deepnet"),
        "identities": ("eye", "dirac", "identity"),
        "kaiming": ("kaiming_uniform", "he_uniform", "kaiming_normal", "he_normal"),
        "logarithmic": ("log_uniform", "inverse_softplus", "mamba_dt", "mamba_a"),
        "lora": ("lora_orthogonal",),
        "mixtures": ("shrink_perturb", "blend"),
        "norms": ("spectral", "unit_norm", "normalize"),
        "orthogonals": ("orthogonal", "delta_orthogonal"),
        "replays": ("default",),
        "resets": ("reset",),
        "scaling": (
            *("variance_scaling", "lecun_normal", "lecun_uniform"),
            *("he_truncated", "glorot_truncated"),
        ),
        "sparses": ("sparse",),
        "transforms": (
            *("scale", "noise", "resample", "clamp"),
            *("shuffle", "rewind", "mean"),
        ),
        "xavier": ("xavier_uniform", "glorot_uniform", "xavier_normal", "glorot_normal"),
    }
)
"""The names and aliases of each family, in the order in which they are listed."""
