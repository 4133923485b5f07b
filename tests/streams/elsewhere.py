"""Find other versions of numpy, and a Python for another kind of processor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.pages import ROOT
from tests.tools import missing, tool

DEBIAN = ROOT / "build" / "aarch64"


def installed(version: str, folder: Path, *options: str) -> Path:
    """Install numpy alone into a folder, and return the folder."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run = subprocess.run(
        [*pip, "--no-deps", "--only-binary=:all:", "--target", folder, *options, version],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        missing(f"{version} cannot be installed: {run.stderr.strip()}")
    return folder


def numpy_for_aarch64(folder: Path) -> Path:
    """Install the newest numpy of that Python into a folder, and return the folder."""
    platforms = ["manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64"]
    options = [*(f"--platform={each}" for each in platforms), "--implementation=cp"]
    return installed("numpy", folder, *options, "--python-version=3.11")


def aarch64() -> tuple[list[str], dict[str, str]]:
    """Return the command of a Python for AArch64, and the setting that it needs."""
    qemu = tool("qemu-aarch64")
    if not DEBIAN.exists():
        missing("there is no Python for AArch64 in build/aarch64: .ci/aarch64 fetches it")
    python = str(DEBIAN / "usr" / "bin" / "python3.11")
    setting = {"PYTHONHOME": str(DEBIAN / "usr"), "PYTHONDONTWRITEBYTECODE": "1"}
    return [qemu, "-L", str(DEBIAN), python], setting
