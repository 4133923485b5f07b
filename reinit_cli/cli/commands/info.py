"""Sum up a source, or what this tool runs on."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from reinit_cli.cli.help import Command, argument
from reinit_cli.cli.options import (
    CONTEXT,
    SOURCES,
    display_options,
    json_option,
    root_option,
    weights_option,
)
from reinit_cli.cli.pager import paged
from reinit_cli.cli.render.json import VERSION, dumps
from reinit_cli.cli.render.table import Sheet, show
from reinit_cli.cli.screen import screen_of
from reinit_cli.cli.terminal import warn
from reinit_cli.collector import collector_paused

if TYPE_CHECKING:
    from reinit_cli.operations.environment import Environment
    from reinit_cli.operations.info import Summary


@click.command("info", cls=Command, context_settings=CONTEXT)
@argument(
    "source",
    required=False,
    metavar="[SOURCE]",
    help=f"{SOURCES}  [default: this installation]",
)
@weights_option
@root_option
@json_option
@display_options
@collector_paused()
def command(source: str | None, weights: str | None, root: str | None, *, as_json: bool) -> None:
    """Sum up SOURCE: its format, size, tensors and layers, and what else is in it.

    No tensor is read, and nothing is downloaded. In a pipe each line is a name, a tab and a
    value. Without SOURCE, print the versions of everything that matters for a bug report.

    `reinit SOURCE`, with no other option, prints the same.

    \b
    reinit info model.safetensors
    reinit info resnet50
    reinit info --json
    """
    if source is None:
        if weights or root:
            raise click.UsageError("--weights and --root need a SOURCE")
        _show_environment(as_json=as_json)
        return
    from reinit_cli.checkpoints.source import unused_root
    from reinit_cli.cli.render.info_form import info_form, lines_of
    from reinit_cli.operations.info import info

    summary = info(source, weights, root)
    found = summary.holdings.source
    warn(unused_root(root, (found,)) if found is not None else ())
    if as_json:
        sys.stdout.write(dumps(info_form(summary)) + "\n")
    elif screen_of(sys.stdout).is_terminal:
        with paged():
            _show(summary)
    else:
        show(lines_of(info_form(summary)), sys.stdout)


def _show(summary: Summary) -> None:
    from reinit_cli.cli.render.info import next_lines, summary_sheet, tables_of

    show(summary_sheet(summary), sys.stdout)
    for sheet in tables_of(summary.sums) if summary.sums else ():
        sys.stdout.write("\n")
        show(sheet, sys.stdout)
    if summary.commands:
        heading = screen_of(sys.stdout).paint("next", "dim")
        sys.stdout.write(f"\n{heading}\n")
        sys.stdout.writelines(line + "\n" for line in next_lines(summary))


def _show_environment(*, as_json: bool) -> None:
    from reinit_cli.operations.environment import environment

    found = environment()
    if as_json:
        sys.stdout.write(dumps({"version": VERSION, **asdict(found)}) + "\n")
    else:
        show(_environment_sheet(found), sys.stdout)


def _environment_sheet(found: Environment) -> Sheet:
    facts: list[tuple[str, Any]] = [
        ("reinit", found.reinit),
        ("python", found.python),
        ("platform", found.platform),
        *((name, version or "not installed") for name, version in found.packages.items()),
        *(("device", device) for device in found.devices),
    ]
    return Sheet((), (), tuple(facts))
