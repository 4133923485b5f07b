"""Find the programs that tests run besides Python."""

from __future__ import annotations

import os
import shutil

import pytest


def tool(name: str) -> str:
    """Return the path of a program; a test without it is skipped, and in CI it fails."""
    found = shutil.which(name)
    if found is None:
        missing(f"{name} is not installed")
    assert found is not None
    return found


def missing(reason: str) -> None:
    """Skip a test for lack of something; in CI, where all of it is installed, fail."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
