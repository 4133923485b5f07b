"""Count what a part of the campaign tried, and what it found."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.campaign.server import Run
from tests.said import said


@dataclass(slots=True)
class Tally:
    """What a part tried.

    Attributes:
        tried: how many inputs or faults.
        findings: what went wrong, each with what repeats it.
        seconds: the most CPU time that one of them took.
        nbytes: the most memory that one of them took, above that of the server.
        counts: how many there were of each kind, for the table of a part.
    """

    tried: int = 0
    findings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    nbytes: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, run: Run | None = None, *, kind: str = "") -> None:
        """Count one input or fault, with what its run took."""
        self.tried += 1
        if kind:
            self.counts[kind] = self.counts.get(kind, 0) + 1
        if run is not None:
            self.seconds = max(self.seconds, run.seconds)
            self.nbytes = max(self.nbytes, run.nbytes)

    def find(self, what: str, why: str) -> None:
        """Note something wrong: what repeats it, and what was seen."""
        self.findings.append(f"{what}: {why}")


def complaint(run: Run, *, seconds: float, nbytes: int) -> str | None:
    """Return what is wrong with how a command ended, or None.

    A command succeeds, answers no, or refuses in lines of "error:" and "hint:" that a
    terminal shows as they are; it never hangs, and takes no more than its bounds.

    Args:
        run: the command's run.
        seconds: the CPU time that it may take.
        nbytes: the memory that it may take above that of the server.
    """
    if run.code is None:
        return "it hangs"
    if run.code < 0:
        return f"signal {-run.code} ended it"
    if b"Traceback" in run.err:
        return "a traceback: " + run.err[-600:].decode(errors="replace")
    if run.code not in {0, 1, 2, 3}:
        return f"exit code {run.code}"
    if run.code == 2 and (why := _unlike_an_error(run.err)):
        return why
    if run.seconds > seconds:
        return f"{run.seconds:.1f} s of CPU"
    if run.nbytes > nbytes:
        return f"{run.nbytes / 1e6:.0f} MB"
    return None


def _unlike_an_error(err: bytes) -> str | None:
    text = said(err.decode(errors="replace"))
    lines = text.splitlines()
    if not any(line.startswith("error: ") for line in lines):
        return f"exit code 2 without an error: {text[-300:]!r}"
    if sum(line.startswith("error: ") for line in lines) > 1:
        return f"more than one error: {text[-600:]!r}"
    if any(ord(letter) < 32 and letter != "\n" for letter in text):
        return f"control characters in an error: {text[-300:]!r}"
    if len(text) > 4000:
        return f"an error of {len(text)} characters"
    return None
