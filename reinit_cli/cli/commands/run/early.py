"""Let other ranks know of a mistake that this one finds before it knows all that is asked for.

They would wait for it until their timeout.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import click

from reinit_cli.errors import OutputError, ReinitError
from reinit_cli.text import one_line

MISTAKES = (click.ClickException, ReinitError)
"""What is wrong with a command line or a recipe."""

_NEEDED = ("rank", "world_size", "run_id")

_NAMES = (*_NEEDED, "timeout", "output", "to", "shard_nbytes", "seeds", "weights")
"""The options that say who the others are, and where they meet."""


def tell_early(error: Exception, sources: Sequence[str], options: Mapping[str, Any]) -> None:
    """Tell the other ranks why this one fails, where the options say who they are.

    Args:
        error: one of `MISTAKES`.
        sources: those that are named.
        options: as far as they are known, None where they are not given.
    """
    from reinit_cli.request.ranks import check_ranks, ranks_asked

    options = {**options, **ranks_asked(options, os.environ)}
    given = {name: options[name] for name in _NAMES if options.get(name) is not None}
    if len(sources) != 1 or not given.keys() >= set(_NEEDED):
        return
    from reinit_cli.operations.batch import requests_of
    from reinit_cli.operations.ranks import tell_others
    from reinit_cli.request.partial import PartialRequest

    with suppress(ReinitError):  # that these are wrong as well is not what this rank says
        requests = requests_of(cast("PartialRequest", {**given, "sources": tuple(sources)}))
        if len(requests) == 1:
            check_ranks(requests[0])
            tell_others(requests[0], _as_told(error))


def _as_told(error: Exception) -> ReinitError:
    if isinstance(error, ReinitError):
        return error
    said = error.format_message() if isinstance(error, click.ClickException) else str(error)
    said = one_line(" ".join(said.split()))
    return OutputError("", said[:1].lower() + said[1:].removesuffix("."))
