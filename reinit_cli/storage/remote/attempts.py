"""Ask a server again where a failure may go away by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

from reinit_cli.errors import (
    SourceChangedError,
    SourceNotFoundError,
    UnreadableSourceError,
)
from reinit_cli.storage.remote.backend import RequestFailedError
from reinit_cli.threads import stop_here

PAUSES = (0.2, 0.5, 1.0)
"""How many seconds pass before each further try."""

_TIMES = {2: "twice", 3: "three times", 4: "four times"}

Result = TypeVar("Result")


def attempted(ask: Callable[[], Result], called: str, pauses: Sequence[float] = PAUSES) -> Result:
    """Return what a server answers, after as many tries as that takes.

    Args:
        ask: makes the request.
        called: what people call the file.
        pauses: how many seconds pass before each further try.

    Raises:
        SourceError: it does not answer, or with what asking again would not change.
    """
    for pause in (*pauses, None):
        try:
            return ask()
        except RequestFailedError as error:
            if error.reason != "again" or pause is None:
                refuse(error, called, 1 + len(pauses))
        stop_here()
        time.sleep(pause)
    raise AssertionError(called)


def refuse(error: RequestFailedError, called: str, tries: int = 1) -> NoReturn:
    """Raise a failure as what a user reads.

    Raises:
        SourceError: always.
    """
    if error.reason == "missing":
        raise SourceNotFoundError(called, kind="remote") from error
    if error.reason == "access":
        raise UnreadableSourceError(called, error.problem, kind="access") from error
    if error.reason == "changed":
        raise SourceChangedError(called) from error
    if error.reason == "folder":
        raise UnreadableSourceError(called, "it is a folder") from error
    if error.reason == "whole":
        raise UnreadableSourceError(called, error.problem, kind="whole") from error
    often = f", {_TIMES[tries]}" if error.reason == "again" and tries in _TIMES else ""
    raise UnreadableSourceError(called, error.problem + often) from error
