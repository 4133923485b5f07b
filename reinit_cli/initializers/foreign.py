"""Name the package of an initializer that fails by a fault of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from reinit_cli.errors import PackageError, ReinitError
from reinit_cli.initializers.fans import UndefinedError
from reinit_cli.initializers.law import Law
from reinit_cli.tensors.device import is_out_of_memory
from reinit_cli.threads import StoppedError

_OWN = ("reinit_cli", "__main__")
"""Faults here are ours, or in the script that somebody runs: both want a traceback."""


@contextmanager
def blaming(module: str, name: str) -> Iterator[None]:
    """Let faults of an initializer from another package be one error that names it.

    Args:
        module: where the initializer or its law is defined.
        name: what it is called.

    Raises:
        PackageError: it failed by an exception that says nothing about tensors or requests.
    """
    try:
        yield
    except (ReinitError, UndefinedError, OverflowError, MemoryError, StoppedError):
        raise
    except Exception as error:
        root = module.partition(".")[0]
        if root in _OWN or (isinstance(error, RuntimeError) and is_out_of_memory(error)):
            raise
        said = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise PackageError(_package(root), said, kind="law", of=name) from error


def checked(law: object, module: str, name: str) -> Law | None:
    """Return a law whose numbers can be asked for.

    Args:
        law: what an initializer returned.
        module: where the initializer is defined.
        name: what it is called.

    Raises:
        PackageError: it is not a law, or fails.
    """
    with blaming(module, name):
        if law is None:
            return None
        if not isinstance(law, Law):
            raise TypeError(f"it returned {type(law).__name__}, which is not a Law")
        if module.partition(".")[0] not in _OWN:
            _ = law.mean, law.std, law.low, law.high, law.is_random, law.is_elementwise
        return law


def _package(root: str) -> str:
    """Return the name under which a module was installed, or its own."""
    from importlib.metadata import packages_distributions

    return next(iter(packages_distributions().get(root, ())), root)
