"""Run a command line: `main` turns arguments into an exit code."""

from __future__ import annotations

import errno
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
    from reinit_cli.cli.words import with_command

    try:
        if args:
            return _invoke(with_command(args))
        _invoke(["--help"])
    except BrokenPipeError:
        from reinit_cli.cli.streams import discard

        return discard()
    except _EXPLAINED as error:
        return _fail(error, args)
    return COULD_NOT


_EXPLAINED = (
    *(ReinitError, click.ClickException, click.Abort),
    *(KeyboardInterrupt, MemoryError, ImportError, OSError),
)
"""What may be wrong with anything but this program."""


def _fail(error: BaseException, args: Sequence[str]) -> int:
    """Say what went wrong, and return the exit code.

    What knows the errors is imported only now: it knows every room, and takes its time.

    Raises:
        BaseException: the error itself, which is a bug.
    """
    from reinit_cli.cli.broken import broken_package
    from reinit_cli.cli.hints import explain
    from reinit_cli.cli.screen import asks_for_json, color_in
    from reinit_cli.cli.terminal import print_error
    from reinit_cli.cli.usage import explain_usage
    from reinit_cli.cli.words import explain_word
    from reinit_cli.storage.location import hidden_in
    from reinit_cli.storage.working_folder import is_gone

    def say(kind: str, problem: str, hint: str | None = None) -> None:
        problem, hint = hidden_in(problem, args), hint and hidden_in(hint, args)
        print_error(kind, problem, hint, color_in(args), as_json=asks_for_json(args))

    match error:
        case ReinitError():
            cause = error.cause if isinstance(error, InputError) else error
            say(type(cause).__name__, *(explain_word(error, args) or explain(error, args)))
            return NO if cause.is_answer else COULD_NOT
        case click.ClickException():
            say("UsageError", *(explain_word(error, args) or explain_usage(error, args)))
        case KeyboardInterrupt() | click.Abort():
            say("Interrupted", _noted("interrupted", error))
            return 128 + signal.SIGINT
        case MemoryError():  # torch itself takes gigabytes of what `ulimit -v` allows
            say("MemoryError", "this machine does not have enough memory")
        case ImportError() | OSError() if broken := broken_package(error):
            say(type(broken).__name__, *explain(broken, args))
        case FileNotFoundError() if is_gone():
            problem = _noted("the working folder no longer exists", error)
            say("UnreadableSourceError", problem, "change to another folder with cd")
        case OSError() if error.errno in (errno.EMFILE, errno.ENFILE):  # of a module of ours
            problem = _noted("too many files are open", error)
            say("ReinitError", problem, "ulimit -n shows how many this process may open")
        case _:
            raise error
    return COULD_NOT


def _noted(problem: str, error: BaseException) -> str:
    """Add to a problem what an error was given to say of files that exist all the same."""
    return "; ".join((problem, *getattr(error, "__notes__", ())))


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
