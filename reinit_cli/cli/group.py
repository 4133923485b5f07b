"""Define the group of commands, each of which is imported when it is called."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from itertools import groupby
from typing import NamedTuple, cast

import click

from reinit_cli.cli.render.manual import (
    WIDEST,
    Section,
    columns,
    heading,
    page_width,
    paragraph,
    print_page,
    section,
)
from reinit_cli.cli.render.manual import Entry as Explained


class Entry(NamedTuple):
    """A command before it is imported.

    Attributes:
        module: where it is, within `commands`.
        sentence: its short help.
        purpose: the heading that it is under.
    """

    module: str
    sentence: str
    purpose: str


REWRITE, INSPECT, LEARN, SHELL = "Rewrite", "Inspect", "Learn", "Shell"

COMMANDS = {
    "run": Entry("run.command", "Re-initialize tensors and write a new checkpoint", REWRITE),
    "verify": Entry("verify", "Check a checkpoint against its record", REWRITE),
    "info": Entry("info", "Sum up a checkpoint, a model or this installation", INSPECT),
    "keys": Entry("keys", "List tensors: names, shapes, dtypes, sizes", INSPECT),
    "stats": Entry("stats", "Mean, std, range, NaN and histogram of each tensor", INSPECT),
    "diff": Entry("diff", "Compare two checkpoints", INSPECT),
    "show": Entry("show", "Print the values of a tensor", INSPECT),
    "inits": Entry("inits", "List the initializers, or explain one", LEARN),
    "draw": Entry("draw", "Draw a sample tensor and show its distribution", LEARN),
    "models": Entry("models", "List the models of torchvision, or of timm", LEARN),
    "completion": Entry("completion", "Print a completion script for bash, zsh or fish", SHELL),
}
"""The commands, so that `--help` imports none of them."""

DEFAULT = "run"
"""The command that is meant where none is named."""

HELP, VERSION = "help", "version"
"""Words that stand for an option of the same name, as in other tools."""


SUMMARY = "info"
"""The command that is meant where a source is all that is named."""


class _LazyGroup(click.Group):
    """Imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"reinit_cli.cli.commands.{COMMANDS[cmd_name].module}")
        return cast("click.Command", module.command)

    def get_help(self, ctx: click.Context) -> str:
        """Return the page that lists the commands, without colors."""
        del ctx
        return click.unstyle("\n".join(_page(WIDEST)))


def _page(width: int) -> Iterator[str]:
    sentence, *examples = inspect.cleandoc(group.help or "").replace("\b\n", "").split("\n\n")
    yield from paragraph(sentence, width)
    yield ""
    for line in _USAGE:
        yield from [line] if width >= _LONGEST_USAGE else paragraph(" ".join(line.split()), width)
    yield ""
    yield from _commands(width)
    yield from _sources(width)
    yield ""
    yield heading("Examples:")
    yield from (f"  {line}" for each in examples for line in each.splitlines())


_USAGE = (
    "Usage: reinit SOURCE                 same as: reinit info SOURCE",
    "       reinit SOURCE OPTIONS...      same as: reinit run SOURCE OPTIONS...",
    "       reinit COMMAND [ARGS]",
)

_LONGEST_USAGE = max(map(len, _USAGE))

_HELP = "Explain all of a command; COMMAND -h is shorter"

_SOURCES = "a file or folder, a URL (s3, gs, https, hf), or a model (timm:NAME)"
"""Where sources are; each command says more of its own."""


def _commands(width: int) -> Iterator[str]:
    """Yield a line for each command, with what it is for in front of the first of its kind."""
    margin = max(len(each.purpose) for each in COMMANDS.values()) + len(":  ")
    for purpose, named in groupby(COMMANDS.items(), lambda each: each[1].purpose):
        entries = [Explained(name, each.sentence) for name, each in named]
        if purpose == LEARN:
            entries.append(Explained(HELP, _HELP))
        if width < _WIDE:
            yield from section(Section(purpose, entries), width)
            continue
        flush = [Explained(each.name.ljust(_WIDEST_NAME), each.text) for each in entries]
        lines = [line.removeprefix("  ") for line in columns(flush, width - margin)]
        yield heading(f"{purpose}:".ljust(margin)) + lines[0]
        yield from (" " * margin + line for line in lines[1:])


def _sources(width: int) -> Iterator[str]:
    title = "Sources:"
    if width < _WIDE:
        yield ""
        yield from paragraph(f"{title} {_SOURCES}", width)
    else:
        yield heading(title.ljust(len("Rewrite:  "))) + _SOURCES


_WIDE = 60
"""Columns for what a command is for, its name and its sentence, next to each other."""

_WIDEST_NAME = max(map(len, COMMANDS))


def _print_help(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
    del parameter
    if value and not ctx.resilient_parsing:
        print_page(_page(page_width()))
        ctx.exit()


def _print_version(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
    del parameter
    if value and not ctx.resilient_parsing:
        from reinit_cli.version import __version__

        click.echo(f"reinit {__version__}")
        ctx.exit()


@click.group(
    cls=_LazyGroup,
    add_help_option=False,
)
@click.option(
    "-h",
    "--help",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_help,
    help="Print this help.",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version and exit.",
)
def group() -> None:
    """Re-initialize chosen tensors of a PyTorch checkpoint; keep the rest as it is.

    \b
    reinit model.safetensors -r "lm_head.weight=normal:std=0.02" -n
    reinit alexnet -r "features.*.weight=xavier_uniform:relu"
    """
