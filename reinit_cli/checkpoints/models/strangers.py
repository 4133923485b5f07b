"""Run what others wrote, constructors above all, so that whatever they do ends in one error.

What they print goes to standard error: standard output may be a checkpoint.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any

from reinit_cli.checkpoints.models.borrowing import own_random_state
from reinit_cli.errors import ReinitError, RuleError
from reinit_cli.text import kind_of
from reinit_cli.threads import ENDING_SIGNALS

if TYPE_CHECKING:
    from torch.nn import Module

_CODES_OF_SIGNALS = frozenset(128 + number for number in ENDING_SIGNALS)


@contextmanager
def explained(arch: str, file: str = "") -> Iterator[None]:
    """Turn whatever is raised in this block into one error about an architecture.

    Args:
        arch: how the user names it.
        file: the file that it comes from, whose line is then named.

    Raises:
        RuleError: something was raised.
    """
    try:
        with own_random_state(), _silent():
            yield
    except ReinitError:
        raise
    except SystemExit as stop:
        if stop.code in _CODES_OF_SIGNALS:  # a signal that ends this process, not the constructor
            raise
        raise RuleError(arch, "it ends the program", kind="arch") from stop
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise RuleError(arch, _said(error, file), kind="arch") from error


def module_of(made: Any, arch: str) -> Module:
    """Return what a constructor returned.

    Raises:
        RuleError: it is not a module.
    """
    import torch

    if not isinstance(made, torch.nn.Module):
        problem = f"it returns {kind_of(made)}, not a torch.nn.Module"
        raise RuleError(arch, problem, kind="arch")
    return made


def _said(error: BaseException, file: str) -> str:
    """Return an exception in one line, with the line of the file that it passed last."""
    text = ""
    with suppress(Exception):  # its own __str__ may fail
        text = str(error).strip().partition("\n")[0]
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg}" + (f" in line {error.lineno}" if error.lineno else "")
    line = None
    trace = error.__traceback__
    while trace is not None:
        if file and trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{said} (line {line} of {file!r})" if line is not None else said


@contextmanager
def _silent() -> Iterator[None]:
    """Send what is written to standard output to standard error, by other programs too."""
    with redirect_stdout(sys.stderr):
        _flush()
        kept = _opened_again(1)
        try:
            if kept is not None:
                with suppress(OSError):
                    os.dup2(2, 1)
            yield
        finally:
            _flush()
            if kept is not None:
                os.dup2(kept, 1)
                os.close(kept)


def _flush() -> None:
    """Write what is buffered for the descriptor of standard output while that leads elsewhere."""
    with suppress(OSError, ValueError, AttributeError):
        sys.__stdout__.flush()  # type: ignore[union-attr]  # None is an AttributeError


def _opened_again(descriptor: int) -> int | None:
    try:
        return os.dup(descriptor)
    except OSError:
        return None
