"""Import packages that not every user has."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from types import ModuleType

from reinit_cli.checkpoints.models.own_code import searching_packages_alone
from reinit_cli.checkpoints.models.strangers import explained
from reinit_cli.errors import PackageError
from reinit_cli.text import quoted


def imported(package: str, arch: str, kind: str = "architecture") -> ModuleType:
    """Import a package from where Python has packages installed.

    Args:
        package: its name.
        arch: the architecture or source that needs it, as the user names it.
        kind: which of both that is.

    Raises:
        PackageError: it is not installed, or cannot be imported.
    """
    with explained(arch), searching_packages_alone():
        try:
            return import_module(package)
        except ModuleNotFoundError as error:
            if error.name != package:
                problem = str(error).partition("\n")[0]
                raise PackageError(package, problem, kind="broken") from error
            raise PackageError(package, of=f"the {kind} {quoted(arch)}") from error


def version_of(package: str) -> str:
    """Return the version of a package that is installed."""
    return version(package)
