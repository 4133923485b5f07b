"""`reinit verify OUTPUT`: is a checkpoint what its record says?"""

from __future__ import annotations

import os
import sys

import click

from reinit_cli.cli.options import CONTEXT, json_option


@click.command("verify", context_settings=CONTEXT)
@click.argument("output", metavar="OUTPUT")
@click.option(
    "--source",
    metavar="SOURCE",
    help="Make every byte again from what OUTPUT was made of, and compare.",
)
@click.option(
    "--record",
    metavar="FILE",
    help="Take the record from this file, which --record=FILE wrote.  [default: OUTPUT itself]",
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing; the exit code tells.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    output: str,
    source: str | None,
    record: str | None,
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    """Tell whether OUTPUT is what its record says; exit 0 if it is, 1 if it is not.

    What was filled is drawn again and compared bit by bit, and all else is compared with its
    digest. A difference of an ulp or two points to another kind of CPU. It shows integrity,
    not authorship: whoever changes a file can write another record for it.

    \b
    reinit model.safetensors -r "lm_head.weight=normal:std=0.02" -o new.safetensors --record
    reinit verify new.safetensors
    reinit verify new.safetensors --source model.safetensors
    """
    from reinit_cli.report.meter import Meter
    from reinit_cli.report.serial import dumps
    from reinit_cli.report.sheets import show
    from reinit_cli.report.verdicts import verdict_form, verdict_sheet
    from reinit_cli.verifying import verify

    passes = 2 if source is not None else 1
    with Meter(output, is_shown=not quiet) as meter:
        told = meter.of(passes * _nbytes(output))
        verdict = verify(output, source=source, record=record, progress=told)
    if as_json:
        sys.stdout.write(dumps(verdict_form(verdict)) + "\n")
    elif not quiet:
        show(verdict_sheet(verdict), sys.stdout)
    ctx.exit(0 if verdict.holds else 1)


def _nbytes(path: str) -> int:
    """Return the bytes of a file, or of those in a folder; none where nothing is there."""
    if os.path.isdir(path):
        return sum(
            os.path.getsize(os.path.join(folder, name))
            for folder, _, names in os.walk(path)
            for name in names
        )
    return os.path.getsize(path) if os.path.exists(path) else 0
