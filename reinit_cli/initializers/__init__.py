"""What tensors can be filled with: one file per family.

A new initializer is one function with the `register` decorator, in a file that is
listed here. Nothing else names it: help, argument checks, `reinit inits` and the contract
tests read its declaration.
"""

from __future__ import annotations

from reinit_cli.initializers import (  # noqa: F401 (importing a family registers it)
    basic,
    compounds,
    constants,
    identities,
    kaiming,
    orthogonals,
    replays,
    scaling,
    sparses,
    transforms,
    xavier,
)
from reinit_cli.initializers.arguments import parse_init
from reinit_cli.initializers.declaration import Init, Initializer
from reinit_cli.initializers.fans import Fans, UndefinedError, fans
from reinit_cli.initializers.laws import Law, Statistic
from reinit_cli.initializers.registry import REGISTRY, register
from reinit_cli.initializers.sites import NOWHERE, Architecture, Donor, Elsewhere, Site
from reinit_cli.initializers.transforms import Move, Transform

__all__ = [
    "NOWHERE",
    "REGISTRY",
    "Architecture",
    "Donor",
    "Elsewhere",
    "Fans",
    "Init",
    "Initializer",
    "Law",
    "Move",
    "Site",
    "Statistic",
    "Transform",
    "UndefinedError",
    "fans",
    "parse_init",
    "register",
]
