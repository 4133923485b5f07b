"""Let the other ranks know why one fails that has not met them.

Rank 0 says so in a folder of its own next to the staging, which may hold what an interrupted
run is to go on from. It is there for seconds, and counts only while rank 0 gives signs of life
in it, since a killed run may have left one.
"""

from __future__ import annotations

import os
import time

from reinit_cli.errors import OutputError
from reinit_cli.storage.reader import Modes
from reinit_cli.storage.staging.pulse import Pulse, Sign
from reinit_cli.storage.staging.ranks import Ranks
from reinit_cli.storage.staging.staging import KINDS, Staging
from reinit_cli.storage.staging.watch import Watch, failure_told

_MEETING_SECONDS = 5.0
"""How long a rank that fails early waits for the others, to let them know."""

_PAUSE = 0.02


class Refusal:
    """What rank 0 says where it makes no staging, as another rank sees it."""

    def __init__(self, staging: Staging) -> None:
        """Begin to look for it."""
        self._place = _place_of(staging)
        self._pulse = Pulse(self._place, 0)

    @property
    def is_alive(self) -> bool:
        """Whether rank 0 is saying it now."""
        self._pulse.feel()
        return self._pulse.changes > 0

    def check(self) -> None:
        """Raise where rank 0 has failed.

        Raises:
            OutputError: it has.
        """
        if self.is_alive and (error := failure_told(self._place)):
            self.acknowledge()
            raise error

    def acknowledge(self) -> None:
        """Let rank 0 know that this rank has seen it, or needs not."""
        Sign(self._place).give(0, is_first=True)


def tell(path: str, ranks: Ranks, error: BaseException) -> None:
    """Let the others know why this rank fails that has not met them yet, if they come soon.

    Args:
        path: that of the output.
        ranks: which rank it is.
        error: why it fails.
    """
    if isinstance(error, OutputError) and error.kind in KINDS:
        return  # it would be said of another run, or all find it
    folder = os.path.dirname(path) or os.curdir
    if os.path.lexists(folder) and not (os.path.isdir(folder) and os.access(folder, os.W_OK)):
        return  # there all find the same
    staging = Staging(path, ranks)
    if ranks.is_first:
        _refuse(staging, error)
    else:
        _report(staging, error)


def remove_refusal(staging: Staging) -> None:
    """Remove what a rank 0 that was killed while it failed has left."""
    if os.path.lexists((left := _place_of(staging)).outer):
        left.remove()


def _refuse(staging: Staging, error: BaseException) -> None:
    place = _place_of(staging)
    try:
        if staging.is_in_use:
            return  # by another rank 0 of the same name
        place.make({}, {}, Modes())
    except OutputError:
        return  # where nothing can be written, nothing can be said
    watch = Watch(place, ())
    watch.begin()
    watch.leave(error)
    until = time.monotonic() + _MEETING_SECONDS
    try:
        while time.monotonic() < until and not _have_all_seen(place):
            time.sleep(_PAUSE)
    finally:
        watch.end()
        place.remove()


def _report(staging: Staging, error: BaseException) -> None:
    refusal, pulse = Refusal(staging), Pulse(staging, 0)
    until = time.monotonic() + _MEETING_SECONDS
    while time.monotonic() < until and not (pulse.changes or refusal.is_alive):
        time.sleep(_PAUSE)
        if staging.mark() is not None:
            pulse.feel()
    refusal.acknowledge()
    Watch(staging, ()).leave(error)


def _place_of(staging: Staging) -> Staging:
    return Staging(staging.path, staging.ranks, "refusal")


def _have_all_seen(place: Staging) -> bool:
    return all(os.path.lexists(place.text("beat", rank)) for rank in place.ranks.others)
