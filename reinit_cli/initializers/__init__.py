"""Define what tensors can be filled with: one file per family.

A new initializer is one function with the `register` decorator, in a file of
`families/`, and its name in the table there. Nothing else names it: help, argument checks,
`reinit inits` and the contract tests read its declaration.
"""

from __future__ import annotations

from reinit_cli.initializers.arguments import parse_init
from reinit_cli.initializers.declaration import Init, Initializer
from reinit_cli.initializers.fans import Fans, UndefinedError, fans
from reinit_cli.initializers.law import Constant, Law, Normal, Statistic, Uniform
from reinit_cli.initializers.parameters import Choice, Integer, Number
from reinit_cli.initializers.registry import REGISTRY, register
from reinit_cli.initializers.site import NOWHERE, Architecture, Donor, Elsewhere, Site
from reinit_cli.initializers.transform import Move, Transform
from reinit_cli.initializers.truncated import TruncatedNormal
from reinit_cli.streams.chance import Array, Chance

__all__ = [
    "NOWHERE",
    "REGISTRY",
    "Architecture",
    "Array",
    "Chance",
    "Choice",
    "Constant",
    "Donor",
    "Elsewhere",
    "Fans",
    "Init",
    "Initializer",
    "Integer",
    "Law",
    "Move",
    "Normal",
    "Number",
    "Site",
    "Statistic",
    "Transform",
    "TruncatedNormal",
    "UndefinedError",
    "Uniform",
    "fans",
    "parse_init",
    "register",
]
