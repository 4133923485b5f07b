"""Print the lowest versions that pyproject.toml allows, as constraints for pip."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]

FLOOR = re.compile(r"([\w-]+)>=([\w.]+)")


def floors() -> dict[str, str]:
    """Return the lowest version of each package that the tool itself needs."""
    return dict(found.groups() for each in PROJECT["dependencies"] if (found := FLOOR.match(each)))


if __name__ == "__main__":
    sys.stdout.writelines(f"{name}=={version}\n" for name, version in floors().items())
