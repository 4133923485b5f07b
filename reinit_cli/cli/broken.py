"""Recognize a package whose import failed: its installation is broken, and not reinit."""

from __future__ import annotations

from traceback import walk_tb
from types import FrameType

from reinit_cli.errors import PackageError

_OURS = "reinit_cli"


def broken_package(error: ImportError | OSError) -> PackageError | None:
    """Return which package could not be imported; None if something else went wrong.

    A torch without the libraries that it was built for raises an ImportError or an OSError.
    """
    walked = (frame for frame, _ in walk_tb(error.__traceback__))
    frames = [frame for frame in walked if _root(frame) != "importlib"]  # of a lazy module
    roots = [_root(frame) for frame in frames]
    beyond = next((at for at in range(len(roots), 0, -1) if roots[at - 1] == _OURS), 0)
    package = ""
    if beyond < len(frames) and frames[beyond].f_code.co_name == "<module>":
        package = roots[beyond]
    elif beyond == len(frames) and isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
    if package in ("", _OURS):
        return None
    return PackageError(package, str(error).partition("\n")[0], kind="broken")


def _root(frame: FrameType) -> str:
    """Return the package that a frame is of."""
    return str(frame.f_globals.get("__name__")).partition(".")[0]
