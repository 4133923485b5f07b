"""Print notes, warnings and errors to standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

import click

from reinit_cli.cli.render.json import VERSION, dumps
from reinit_cli.cli.screen import When, screen_of
from reinit_cli.text import nbytes, one_line

if TYPE_CHECKING:
    from reinit_cli.checkpoints.source import Source
    from reinit_cli.storage.reader import Download


def note(line: str) -> None:
    """Print a line."""
    click.echo(one_line(line), err=True)


def warn(warnings: Iterable[str]) -> None:
    """Print warnings, a line each."""
    label = screen_of(sys.stderr).paint("warning:", "warning")
    for warning in warnings:
        click.echo(f"{label} {one_line(warning)}", err=True, color=True)


def warn_about(sources: Sequence[Source], root: str | None) -> None:
    """Print what a user should know of sources that are only looked at.

    Args:
        sources: all of a command.
        root: the path of a state dict that was asked for, or None.
    """
    from reinit_cli.checkpoints.source import doubts_about, unused_root

    for source in sources:
        warn(doubts_about(source))
    warn(unused_root(root, sources))


def note_downloads(sources: Iterable[Source], others: Iterable[Download | None] = ()) -> None:
    """Say which pretrained weights are downloaded when sources are opened, and how large they are.

    Args:
        sources: those that are opened.
        others: what else is downloaded; None where nothing is.
    """
    from reinit_cli.checkpoints.model import ModelSource

    noted = set()
    for source in sources:
        download = source.download if isinstance(source, ModelSource) else None
        if download is None or download.path in noted:
            continue
        noted.add(download.path)
        size = f", {nbytes(download.nbytes)}" if download.nbytes is not None else ""
        weights = f"{download.model} ({download.weights}{size})"
        note(f"downloading the weights of {weights} to {download.path}")
    for each in dict.fromkeys(filter(None, others)):
        note(f"downloading {each.what} ({nbytes(each.nbytes)}) to {each.folder}")


def warn_of_inputs(warnings: Mapping[str, Sequence[str]]) -> None:
    """Print the warnings of several inputs, each once with the inputs it is about.

    Args:
        warnings: for each warning, the inputs.
    """
    for warning, sources in warnings.items():
        more = f" and {len(sources) - 1:,} more" if len(sources) > 1 else ""
        warn([f"{sources[0]}{more}: {warning}"])


def print_error(
    kind: str,
    problem: str,
    hint: str | None,
    color: When | None = None,
    *,
    as_json: bool = False,
) -> None:
    """Print an error, and the way on.

    Args:
        kind: what a program knows it by.
        problem: one line.
        hint: another, or None.
        color: as `--color` says, where no command runs anymore that would know.
        as_json: whether a program reads it.
    """
    if as_json:
        form = {"kind": kind, "message": problem, "hint": hint}
        click.echo(dumps({"version": VERSION, "error": form}), err=True)
        return
    screen = screen_of(sys.stderr, color)
    click.echo(f"{screen.paint('error:', 'error')} {problem}", err=True, color=True)
    if hint:
        click.echo(f"{screen.paint('hint:', 'changed')} {hint}", err=True, color=True)


def refuse_terminal(stream: TextIO) -> None:
    """Refuse to write a checkpoint to a terminal.

    Raises:
        click.UsageError: the stream is one.
    """
    if stream.isatty():
        problem = "refusing to write a checkpoint to a terminal; redirect it or name a file with -o"
        raise click.UsageError(problem)
