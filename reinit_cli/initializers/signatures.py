"""Read from the signature of a function which arguments its initializer takes."""

from __future__ import annotations

import inspect
import typing

from reinit_cli.initializers.declaration import Parameter
from reinit_cli.initializers.fans import Fans
from reinit_cli.initializers.parameters import DonorKey, Flag, Integer, Kind, Number, Text


def asked_by(signature: inspect.Signature) -> tuple[str, ...]:
    """Return what a function takes after the shape: "fans" where it says so, else "site"."""
    every = signature.parameters.values()
    _, *others = [each for each in every if each.kind is not each.KEYWORD_ONLY]
    return tuple("fans" if each.annotation is Fans else "site" for each in others)


def parameters_of(signature: inspect.Signature) -> tuple[Parameter, ...]:
    """Read the parameters of a function from its keyword-only arguments.

    Raises:
        TypeError: the annotation of one of them is not a kind of argument.
    """
    return tuple(
        Parameter(_name(parameter.name, kind), kind, parameter.default)
        for parameter in signature.parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        for kind in (_kind(parameter.annotation),)
    )


def _name(name: str, kind: Kind) -> str:
    return name.removesuffix("_") if isinstance(kind, DonorKey) else name


_PLAIN: dict[object, Kind] = {float: Number(), int: Integer(), str: Text(), bool: Flag()}


def _kind(hint: object) -> Kind:
    if hint in _PLAIN:
        return _PLAIN[hint]
    for extra in getattr(hint, "__metadata__", ()):
        return typing.cast("Kind", extra)
    raise TypeError(f"{hint!r} is not a kind of argument; annotate it as float, int, bool or str")
