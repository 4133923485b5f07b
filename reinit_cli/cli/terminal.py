"""What a command says to its terminal beside its report."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

import click

from reinit_cli.text import printable


def warn(warnings: Iterable[str]) -> None:
    """Write warnings, a line each."""
    for warning in warnings:
        click.echo(f"warning: {printable(warning)}", err=True)


def refuse_terminal(stream: TextIO) -> None:
    """Refuse to write a checkpoint to a terminal.

    Raises:
        click.UsageError: the stream is one.
    """
    if stream.isatty():
        problem = "a checkpoint is not written to a terminal; redirect it or name a file"
        raise click.UsageError(problem)
