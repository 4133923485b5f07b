"""Read from the signature of a function which arguments its initializer takes."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable

from reinit_cli.initializers.declaration import Parameter
from reinit_cli.initializers.fans import Fans
from reinit_cli.initializers.law import Law
from reinit_cli.initializers.parameters import DonorKey, Flag, Integer, Kind, Number, Text


def asked_by(build: Callable[..., Law | None]) -> tuple[str, ...]:
    """Return what a function takes after the shape: "fans" where it says so, else "site"."""
    parameters = inspect.signature(build).parameters.values()
    _, *others = [each.name for each in parameters if each.kind is not each.KEYWORD_ONLY]
    if not others:
        return ()
    hints = typing.get_type_hints(build)  # which compiles every annotation
    return tuple("fans" if hints.get(name) is Fans else "site" for name in others)


def parameters_of(build: Callable[..., Law | None]) -> tuple[Parameter, ...]:
    """Read the parameters of a function from its keyword-only arguments.

    Raises:
        TypeError: the annotation of one of them is not a kind of argument.
    """
    hints = typing.get_type_hints(build, include_extras=True)
    return tuple(
        Parameter(_name(parameter.name, kind), kind, parameter.default)
        for parameter in inspect.signature(build).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        for kind in (_kind(hints.get(parameter.name)),)
    )


def _name(name: str, kind: Kind) -> str:
    return name.removesuffix("_") if isinstance(kind, DonorKey) else name


def _kind(hint: object) -> Kind:
    plain: dict[object, Kind] = {float: Number(), int: Integer(), str: Text(), bool: Flag()}
    if hint in plain:
        return plain[hint]
    for extra in getattr(hint, "__metadata__", ()):
        return typing.cast("Kind", extra)
    raise TypeError(f"{hint!r} is not a kind of argument; annotate it as float, int, bool or str")
