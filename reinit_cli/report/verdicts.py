"""Whether a checkpoint is what its record says, as a sheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from reinit_cli.report.serial import VERSION
from reinit_cli.report.sheets import Sheet
from reinit_cli.text import plural
from reinit_cli.verifying import Verdict

_MOST_SHOWN = 20


def verdict_sheet(verdict: Verdict) -> Sheet:
    """Return the verdict and what it rests on."""
    return Sheet((), (), tuple(_facts(verdict)))


def _facts(verdict: Verdict) -> Iterator[tuple[str, str]]:
    yield "verdict", "as recorded" if verdict.holds else "not as recorded"
    for finding in verdict.findings[:_MOST_SHOWN]:
        yield "differs", str(finding)
    more = len(verdict.findings) - _MOST_SHOWN
    if more > 0:
        yield "differs", f"{more:,} more"
    yield "drawn again", plural(len(verdict.drawn), "tensor")
    for reason, count in Counter(verdict.undrawn.values()).most_common():
        yield "by digest alone", f"{plural(count, 'tensor')}: {reason}"
    record = verdict.record
    made = f"reinit {record.get('reinit')}, torch {record.get('torch')}, {record.get('device')}"
    yield "made by", f"{made}, seed {record.get('seed')} (stream {record.get('stream')})"
    source = record["source"]
    compared = "made again from it" if verdict.source is not None else "not compared"
    yield "source", f"{source.get('name')}, SHA-256 {source.get('sha256')} ({compared})"


def verdict_form(verdict: Verdict) -> dict[str, Any]:
    """Return the same for JSON."""
    return {
        "version": VERSION,
        "output": verdict.output,
        "holds": verdict.holds,
        "findings": [asdict(finding) for finding in verdict.findings],
        "drawn": verdict.drawn,
        "undrawn": verdict.undrawn,
        "source": verdict.source,
        "record": verdict.record,
    }
