"""Find what the layers of a model fill themselves with when they are reset."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from reinit_cli.checkpoints.models.constructor import Fills, Recorded, laws_of_layers
from reinit_cli.checkpoints.models.recording.fills import Unknown
from reinit_cli.checkpoints.models.recording.recorder import recording
from reinit_cli.initializers import Law, UndefinedError

if TYPE_CHECKING:
    from torch import nn

_NOT_RESET = "no layer has a reset_parameters that fills it"
"""What is noted of a tensor that its layer has no start of its own for."""


def endings(key: str) -> Iterator[str]:
    """Yield a key and what is left of it after each dot: it may stand after a prefix."""
    yield key
    while "." in key:
        key = key.partition(".")[2]
        yield key


def below(fills: Fills, key: str) -> Recorded | None:
    """Return what was recorded of a tensor, whose key may have a prefix."""
    return next(filter(None, map(fills.get, endings(key))), None)


def starts_of(build: Callable[[], nn.Module | Mapping[str, Any]]) -> Fills:
    """Return what the layers of a module reset themselves to that a function makes, by key."""
    with recording():
        made = build()
    return {} if isinstance(made, Mapping) else laws_of_layers(made)


def start_in(found: Recorded | None, shape: tuple[int, ...]) -> Law | None:
    """Return what the layer of a tensor resets it to; None where it has no start of its own.

    Args:
        found: what was recorded of the tensor.
        shape: that of the tensor here.

    Raises:
        UndefinedError: it has one, which cannot be replayed.
    """
    if found is None or found.shape != shape:
        return None
    if not isinstance(found.law, Unknown):
        return found.law
    if found.law.reason == _NOT_RESET:
        return None
    raise UndefinedError(found.law.reason)
