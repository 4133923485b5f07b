"""Describe tensors and initializers in a few words."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from reinit_cli.text import number

if TYPE_CHECKING:
    from reinit_cli.checkpoints.formats.base import Located
    from reinit_cli.initializers.declaration import Init


def place_facts(located: Located | None) -> Iterator[tuple[str, str]]:
    """Yield where the state dict lies in a file, and the networks next to it."""
    if located is None:
        return
    if located.root:
        yield "state dict at", located.root
    for each in located.neighbors[:_MOST_NETWORKS]:
        what = "copy of the weights" if each.is_copy else "another network"
        yield what, f"{each.root}: --root {shlex.quote(each.root)}"
    if len(located.neighbors) > _MOST_NETWORKS:
        yield "more networks", f"{len(located.neighbors) - _MOST_NETWORKS:,}"


_MOST_NETWORKS = 5
"""The networks that are listed."""


def described(init: Init) -> str:
    """Return an initializer with its resolved arguments: "xavier_uniform gain=relu (1.41421)"."""
    from reinit_cli.initializers.declaration import written

    words = [init.initializer.name]
    for name, value in init.given.items():
        words.append(f"{name}={number(value) if isinstance(value, float) else written(value)}")
        if isinstance(value, str) and name in ("gain", "nonlinearity") and init.gain is not None:
            words[-1] += f" ({number(init.gain)})"
    return " ".join(words)
