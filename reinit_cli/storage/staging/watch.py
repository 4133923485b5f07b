"""Watch the other ranks in a thread, and let them see that this one lives."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import suppress

from reinit_cli.errors import OutputError, ReinitError
from reinit_cli.storage.staging.pulse import Pulse, Sign
from reinit_cli.storage.staging.staging import GONE, KINDS, VERSION, Staging, failure
from reinit_cli.storage.staging.texts import put_text, text_at
from reinit_cli.text import number
from reinit_cli.threads import Progress, signals_held, start, unwatched

_PERIOD = 0.5
"""The seconds between two signs, where there are few ranks; more make more work for a server."""

_FIRST_PERIOD = 0.02

_RANKS_PER_PERIOD = 64


class Watch:
    """A thread that gives signs of life, and sees failures and silence of others."""

    def __init__(
        self, staging: Staging, watched: Iterable[int], progress: Progress = unwatched
    ) -> None:
        """Prepare to watch.

        Args:
            staging: where all ranks write.
            watched: the ranks that this one depends on.
            progress: called with the bytes that they have written.
        """
        self._staging = staging
        self._sign = Sign(staging)
        self._pulses = {rank: Pulse(staging, rank) for rank in watched}
        self._awaited = set(self._pulses)
        self._progress = progress
        self._done = 0
        self._failure: OutputError | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def begin(self) -> None:
        """Give the first sign, and begin to look for others."""
        self._sign.give(0, is_first=True)
        with signals_held():  # they are the main thread's
            start(self._thread, "reinit-watch")

    def end(self) -> None:
        """Take the sign back."""
        self._ended.set()
        if self._thread.is_alive():  # the system may have started none
            self._thread.join()
        self._sign.take_back()

    def count(self, nbytes: int) -> None:
        """Count bytes that this rank has written.

        Raises:
            OutputError: another rank has failed, or gives no sign of life.
        """
        self._done += nbytes
        self.check()

    def check(self) -> None:
        """Raise where another rank has failed, or gives no sign of life.

        Raises:
            OutputError: one has, or does not.
        """
        if self._failure is not None:
            raise self._failure

    def expect_no_more_of(self, rank: int) -> None:
        """Care no more whether a rank is alive: its part is done."""
        self._awaited.discard(rank)

    @property
    def have_others_left(self) -> bool:
        """Whether every other rank has come, and waits for nothing more."""
        failed = self._staging.failed()
        for pulse in self._pulses.values():
            pulse.feel()
        return not any(
            pulse.is_there or not (pulse.has_come or rank in failed)
            for rank, pulse in self._pulses.items()
        )

    def leave(self, error: BaseException) -> None:
        """Say why this rank fails, where another has not said why all do."""
        if error is self._failure:
            return
        said = {
            "version": VERSION,
            "error": _said(error, self._staging.ranks.rank),
            "kind": _kind_of(error),
        }
        with suppress(OSError):  # what was removed needs no reason
            put_text(self._staging.text("failed", self._staging.ranks.rank), said)

    # --- in its thread ------------------------------------------------------------------

    def _run(self) -> None:
        ranks = self._staging.ranks
        longest = min(_PERIOD * (1 + ranks.count / _RANKS_PER_PERIOD), ranks.timeout / 4)
        period = _FIRST_PERIOD  # short runs are not to wait for signs
        while not self._ended.wait(period):
            period = min(period * 1.5, longest)
            self._sign.give(self._done)
            if self._failure is None:
                self._failure = self._found_failure()

    def _found_failure(self) -> OutputError | None:
        told = failure_told(self._staging)
        if told is not None:
            return told
        if not self._staging.is_there:
            return ended(self._staging)
        before = sum(pulse.done for pulse in self._pulses.values())
        for pulse in self._pulses.values():
            pulse.feel()
        self._progress(sum(pulse.done for pulse in self._pulses.values()) - before)
        silent = (self._silence_of(rank) for rank in sorted(self._awaited))
        return next(filter(None, silent), None)

    def _silence_of(self, rank: int) -> OutputError | None:
        pulse, timeout = self._pulses[rank], self._staging.ranks.timeout
        if pulse.silence <= timeout:
            return None
        return silent(self._staging, rank, has_come=pulse.has_come)


def failure_told(staging: Staging) -> OutputError | None:
    """Return the failure of another rank that says why it failed."""
    for rank in staging.failed():
        said = text_at(staging.text("failed", rank))
        if said is not None:
            return failure(staging.path, str(said.get("error")), str(said.get("kind")))
    return None


def ended(staging: Staging) -> OutputError:
    """Return the error of a rank that finds the staging removed."""
    is_first = staging.ranks.is_first  # which has not ended it
    problem = f"{staging.outer!r} was removed" if is_first else "rank 0 has ended the run"
    return failure(staging.path, problem, GONE)


def silent(staging: Staging, rank: int, *, has_come: bool) -> OutputError:
    """Return the error of a rank that gives no sign of life."""
    seconds = f"{number(staging.ranks.timeout)} s"
    did = (
        f"has given no sign of life for {seconds}" if has_come else f"did not come within {seconds}"
    )
    return failure(staging.path, f"rank {rank} {did}", GONE)


def is_interruption(error: BaseException | None) -> bool:
    """Whether an error is not about what is written, so that what is written may be of use."""
    is_gone = isinstance(error, OutputError) and error.kind == GONE
    return error is not None and (is_gone or not isinstance(error, Exception))


def _kind_of(error: BaseException) -> str:
    """Return the kind that the others give an error of this rank."""
    if isinstance(error, OutputError) and error.kind in KINDS:
        return error.kind
    return GONE if is_interruption(error) else KINDS[0]


def _said(error: BaseException, rank: int) -> str:
    """Return what the others say of an error of this rank."""
    if isinstance(error, OutputError) and error.kind in KINDS:
        return error.problem  # which names the rank
    if is_interruption(error):
        return f"rank {rank} was interrupted"
    return f"rank {rank} failed: {error if isinstance(error, ReinitError) else repr(error)}"
