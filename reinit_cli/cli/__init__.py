"""Run a command line: `main` turns arguments into an exit code."""

from __future__ import annotations

import signal
from collections.abc import Sequence

import click

from reinit_cli.cli.group import group
from reinit_cli.errors import InputError, ReinitError

DONE, NO, COULD_NOT = 0, 1, 2
"""Exit codes; a command also returns the second itself."""


def main(args: Sequence[str]) -> int:
    """Run a command line and return its exit code.

    Args:
        args: the arguments after the program's name.
    """
    from reinit_cli.cli.broken import broken_package
    from reinit_cli.cli.hints import explain
    from reinit_cli.cli.screen import color_in
    from reinit_cli.cli.streams import discard
    from reinit_cli.cli.terminal import print_error
    from reinit_cli.cli.usage import explain_usage
    from reinit_cli.cli.words import explain_word, with_command

    color = color_in(args)
    try:
        if args:
            return _invoke(with_command(args))
        _invoke(["--help"])
    except ReinitError as error:
        print_error(*(explain_word(error, args) or explain(error, args)), color)
        cause = error.cause if isinstance(error, InputError) else error
        return NO if cause.is_answer else COULD_NOT
    except click.ClickException as error:
        print_error(*(explain_word(error, args) or explain_usage(error, args)), color)
    except (KeyboardInterrupt, click.Abort):
        print_error("interrupted", None, color)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        return discard()
    except MemoryError:  # torch itself takes gigabytes of what `ulimit -v` allows
        print_error("this machine has not enough memory", None, color)
    except (ImportError, OSError) as error:
        broken = broken_package(error)
        if broken is None:
            raise
        print_error(*explain(broken, args), color)
    return COULD_NOT


def _invoke(args: list[str]) -> int:
    """Run a command; unlike `group.main` this leaves every exception to the caller."""
    from reinit_cli.cli.streams import flush_output

    ctx = None
    try:
        with group.make_context("reinit", args) as ctx:
            code = group.invoke(ctx)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    if ctx is None or not ctx.meta.get("has flushed"):
        flush_output()
    return code if isinstance(code, int) else DONE
