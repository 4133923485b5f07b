"""Show whether a checkpoint is what its provenance record says."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import click

from reinit_cli.cli.help import Command, HintedUsageError, argument, option
from reinit_cli.cli.options import (
    CONTEXT,
    allow_path_option,
    arch_args_option,
    display_options,
    json_option,
    quiet_option,
)
from reinit_cli.cli.pager import paged
from reinit_cli.cli.render.json import VERSION, dumps
from reinit_cli.cli.render.meter import Meter
from reinit_cli.cli.render.table import Cell, Sheet, show
from reinit_cli.operations.verify import Verdict, nbytes_to_verify, verify
from reinit_cli.provenance.recorded import Given
from reinit_cli.text import plural

_COMPARISON = "Comparison"


class _Verify(Command):
    """Name the option for a source that somebody writes behind its output."""

    def refuse_extra(self, ctx: click.Context, extra: Sequence[str]) -> None:
        """Refuse a second word.

        Raises:
            HintedUsageError: always.
        """
        if len(extra) > 1:
            super().refuse_extra(ctx, extra)
        meant = shlex.join((ctx.params["output"], "--source", *extra))
        hint = f"if it is the source, type: reinit verify {meant}"
        raise HintedUsageError(f"unexpected argument {extra[0]!r}", ctx, hint)


@click.command("verify", cls=_Verify, context_settings=CONTEXT)
@argument("output", metavar="OUTPUT", help="A checkpoint that was written with --record")
@option(
    "--source",
    metavar="SOURCE",
    heading=_COMPARISON,
    brief="Rebuild every byte from SOURCE and compare",
    help="Rebuild every byte of OUTPUT from SOURCE, which it was made from, and compare",
)
@option(
    "--record",
    metavar="FILE",
    heading=_COMPARISON,
    brief="Record that --record-to wrote",
    help="Read the record from FILE, which --record-to wrote  [default: OUTPUT itself]",
)
@option(
    "--arch",
    metavar="ARCH",
    heading=_COMPARISON,
    brief="Your own code that 'default' followed",
    help="The architecture whose constructor 'default' followed, where that is your own code, "
    "which is then run: ./net.py:Class or package.module:Class  [default: what the record names, "
    "if that is not your own code]",
)
@arch_args_option
@allow_path_option
@quiet_option
@json_option
@display_options
@click.pass_context
def command(
    ctx: click.Context,
    output: str,
    source: str | None,
    record: str | None,
    arch: str | None,
    arch_args: dict[str, object] | None,
    allow_paths: tuple[str, ...],
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    """Check a checkpoint against its record; exit 0 if it matches, 1 if it does not.

    Filled tensors are drawn again and compared bit by bit; everything else is compared with its
    digest. A difference of an ulp or two points to another kind of CPU. This proves integrity,
    not authorship: anyone who edits the file can write a new record.

    \b
    reinit model.safetensors -r "*.bias=zeros" -o new.safetensors --record
    reinit verify new.safetensors
    reinit verify new.safetensors --source model.safetensors
    """
    with Meter(output, is_shown=not quiet) as meter:
        progress = meter.of(nbytes_to_verify(output, source))
        verdict = verify(
            output,
            source=source,
            record=record,
            progress=progress,
            allow_paths=allow_paths,
            given=Given(arch, arch_args),
        )
    if as_json:
        sys.stdout.write(dumps(verdict_form(verdict)) + "\n")
    elif not quiet:
        with paged():
            show(verdict_sheet(verdict), sys.stdout)
    ctx.exit(0 if verdict.holds else 1)


_MOST_SHOWN = 20


def verdict_sheet(verdict: Verdict) -> Sheet:
    """Return the verdict and what it rests on."""
    return Sheet((), (), tuple(_facts(verdict)))


def _facts(verdict: Verdict) -> Iterator[tuple[str, str | Cell]]:
    if verdict.holds:
        yield "verdict", Cell("OK: matches its record", "good")
    else:
        yield "verdict", Cell("MISMATCH", "error")
    for finding in verdict.findings[:_MOST_SHOWN]:
        yield "differs", Cell(str(finding), "error")
    more = len(verdict.findings) - _MOST_SHOWN
    if more > 0:
        yield "differs", Cell(f"{more:,} more", "error")
    yield "drawn again", plural(len(verdict.drawn), "tensor")
    for reason, count in Counter(verdict.undrawn.values()).most_common():
        yield "digest only", f"{plural(count, 'tensor')}: {reason}"
    if verdict.constructor:
        yield "constructor", Cell(verdict.constructor, "warning")
    record = verdict.record
    made = f"reinit {record.get('reinit')}, torch {record.get('torch')}, {record.get('device')}"
    yield "made by", f"{made}, seed {record.get('seed')} (stream {record.get('stream')})"
    source = record["source"]
    yield "source", f"{source.get('name')}, SHA-256 {source.get('sha256')} ({_compared(verdict)})"


def _compared(verdict: Verdict) -> str:
    """Say whether the source was compared too."""
    if verdict.source is None:
        return "not checked; pass --source"
    if any(finding.what == repr(verdict.source) for finding in verdict.findings):
        return "--source is another one"
    return "rebuilt from it and compared"


def verdict_form(verdict: Verdict) -> dict[str, Any]:
    """Return the same for JSON."""
    return {
        "version": VERSION,
        "output": verdict.output,
        "holds": verdict.holds,
        "findings": [asdict(finding) for finding in verdict.findings],
        "drawn": verdict.drawn,
        "undrawn": verdict.undrawn,
        "constructor": verdict.constructor or None,
        "source": verdict.source,
        "record": verdict.record,
    }
