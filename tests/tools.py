"""Find the programs that tests run besides Python, and what a process has open."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from importlib import import_module
from types import ModuleType

import pytest


def tool(name: str) -> str:
    """Return the path of a program; a test without it is skipped, and in CI it fails."""
    found = shutil.which(name)
    if found is None:
        missing(f"{name} is not installed")
    assert found is not None
    return found


def package(name: str) -> ModuleType:
    """Return a package that is not always there; a test without it is skipped, and in CI it fails."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        missing(f"{name} is not installed")
        raise


def open_files() -> list[str]:
    """Return the open files and folders of this process that lie in a test's own folder, sorted.

    What earlier tests left is closed when it is collected, which may be at any time.
    """
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the listing itself
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return sorted(path for path in found if path.startswith(os.getcwd()))


def needs_torch(version: str, why: str) -> None:
    """Skip a test whose oracle is a newer torch than the one that is installed."""
    pytest.importorskip("torch", minversion=version, reason=f"{why} since torch {version}")


def needs_safetensors(*dtypes: str) -> None:
    """Skip a test whose oracle is a safetensors that knows these dtypes."""
    for version, names in _SINCE.items():
        if names.intersection(dtypes):
            pytest.importorskip(
                "safetensors", minversion=version, reason=f"these dtypes are new in {version}"
            )


_SINCE = {
    "0.6": {"uint16", "uint32", "uint64", "float8_e8m0fnu"},
    "0.7": {"complex64"},
    "0.8": {"float8_e4m3fnuz", "float8_e5m2fnuz"},
}
"""The version of safetensors that learned these dtypes."""


def missing(reason: str) -> None:
    """Skip a test for lack of something; in CI, where all of it is installed, fail."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
