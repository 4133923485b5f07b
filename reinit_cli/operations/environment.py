"""Say what this tool runs on, for those who report a fault."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from reinit_cli.lazy import dataclass
from reinit_cli.version import __version__

_PACKAGES = (
    *("torch", "torchvision", "safetensors", "numpy", "click", "rich", "jinja2", "matplotlib"),
    *("transformers", "triton"),
)
"""Packages whose versions matter to what is read, drawn, written or shown."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What this tool runs on.

    Attributes:
        reinit: its own version.
        python: the version of Python.
        platform: the system and the machine.
        packages: for each package that matters its version, or None where it is not installed.
        devices: what torch can draw on.
    """

    reinit: str
    python: str
    platform: str
    packages: dict[str, str | None]
    devices: tuple[str, ...]


def environment() -> Environment:
    """Return what this tool runs on; torch is imported only where it may know of more than a CPU."""
    packages = {name: _version(name) for name in _PACKAGES}
    return Environment(
        __version__,
        f"{platform.python_version()} ({platform.python_implementation()})",
        platform.platform(),
        packages,
        tuple(_devices(packages["torch"])),
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices(torch_version: str | None) -> Iterator[str]:
    yield "cpu"
    if torch_version is None or torch_version.endswith("+cpu"):
        return
    try:
        import torch
    except (ImportError, OSError):
        return
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            yield f"cuda:{index} ({torch.cuda.get_device_name(index)})"
    if torch.backends.mps.is_available():
        yield "mps"
