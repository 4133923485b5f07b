"""Describe tensors and initializers in a few words."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from reinit_cli.text import number

if TYPE_CHECKING:
    from reinit_cli.checkpoints.formats.base import Located
    from reinit_cli.checkpoints.source import Source
    from reinit_cli.initializers.declaration import Init


def place_facts(located: Located | None) -> Iterator[tuple[str, str]]:
    """Yield where the state dict lies in a file, and the networks next to it."""
    if located is None:
        return
    if located.root:
        yield "state dict", f'"{located.root}"'
    for each in located.neighbors[:_MOST_NETWORKS]:
        what = "copy of the weights" if each.is_copy else "another network"
        yield what, f"{each.root}: --root {shlex.quote(each.root)}"
    if len(located.neighbors) > _MOST_NETWORKS:
        yield "more networks", f"{len(located.neighbors) - _MOST_NETWORKS:,}"


def revision_facts(source: Source) -> Iterator[tuple[str, str]]:
    """Yield the commit that a model of the Hub is read at."""
    from reinit_cli.checkpoints.fetching import revision_of

    revision = revision_of(source)
    if revision is not None:
        is_named = revision.name != revision.commit
        yield "commit", revision.commit + (f" ({revision.name})" if is_named else "")


def revision_form(source: Source | None) -> dict[str, str]:
    """Return it for JSON; {} for every other source."""
    from reinit_cli.checkpoints.fetching import revision_of

    revision = revision_of(source) if source else None
    return {"revision": revision.name, "commit": revision.commit} if revision else {}


_MOST_NETWORKS = 5
"""The networks that are listed."""


def described(init: Init) -> str:
    """Return an initializer with its resolved arguments: "xavier_uniform relu (gain 1.414)"."""
    from reinit_cli.initializers.declaration import written

    words = [init.initializer.name]
    for name, value in init.given.items():
        is_word = isinstance(value, str) and name in _BARE
        shown = number(value) if isinstance(value, float) else written(value)
        words.append(shown if is_word else f"{name}={shown}")
    if init.gain is not None and any(isinstance(init.given.get(name), str) for name in _GAINS):
        words.append(f"(gain {init.gain:.4g})")
    return " ".join(words)


_GAINS = ("gain", "nonlinearity")

_BARE = (*_GAINS, "mode")
"""Arguments whose words speak for themselves, as they do in a rule."""
