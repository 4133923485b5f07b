"""Say what is wrong with a command line, and what to type instead."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import click

from reinit_cli.cli.group import COMMANDS
from reinit_cli.cli.help import HintedUsageError
from reinit_cli.text import near, one_line


def explain_usage(error: click.ClickException, args: Sequence[str]) -> tuple[str, str | None]:
    """Return what an error in the options says, and the way on.

    Args:
        error: what click found.
        args: the arguments after the program's name.
    """
    message = " ".join(error.format_message().split())
    problem = message[:1].lower() + message[1:].removesuffix(".")
    if isinstance(error, click.NoSuchOption):
        problem = f"there is no option {error.option_name}"
        hint = _nearest_option(error) or f"{_command_of(error)} -h lists the options"
    elif isinstance(error, HintedUsageError):
        hint = error.hint
    else:
        hint = meant_command(args) or f"{_command_of(error)} -h shows how"
    return one_line(problem), one_line(hint)


def _nearest_option(error: click.NoSuchOption) -> str | None:
    possible = near(error.option_name, error.possibilities or ())
    return f"did you mean {' or '.join(possible)}?" if possible else None


def _command_of(error: click.ClickException) -> str:
    ctx = getattr(error, "ctx", None)
    return ctx.command_path if ctx is not None else "reinit"


def meant_command(args: Sequence[str]) -> str | None:
    """Return a hint where the first word is nearly a command, as in `reinit kyes FILE`."""
    if not args or args[0] in COMMANDS:
        return None
    command = next(iter(near(args[0], COMMANDS, 1)), None)
    return f"did you mean: reinit {shlex.join((command, *args[1:]))}?" if command else None
