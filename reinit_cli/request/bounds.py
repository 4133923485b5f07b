"""Bound the paths that recipes, plans and records may name: strangers may have written them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from reinit_cli.lazy import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """What names the paths of a request, where the user does not, and where they may lead.

    Attributes:
        allowed: the folders that the user allows besides the current one.
        reads: for each path that is read and that a recipe, a plan or a record alone names,
            what names it.
        output: the recipe, plan or record that names the output, or "".
    """

    allowed: tuple[str, ...] = ()
    reads: Mapping[str, str] = field(default_factory=dict)
    output: str = ""


def bounds_of(allowed: Sequence[str] | Bounds) -> Bounds:
    """Return the bounds of a request whose paths the user alone names, unless they are known."""
    if isinstance(allowed, Bounds):
        return allowed
    return Bounds((allowed,) if isinstance(allowed, str) else tuple(allowed))
