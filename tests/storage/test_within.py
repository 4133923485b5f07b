"""Where paths lead, as the kernel says it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reinit_cli.storage.destination import place_of
from reinit_cli.storage.within import is_within

LINKS = {
    "a/out": "../../elsewhere",
    "a/back": "../../elsewhere/in",
    "up": "..",
    "deep": "a/b",
    "chain": "a/out",
    "self": ".",
}
"""The links of the working folder; `elsewhere/in` leads into it again."""

NAMES = ("a", "b", "in", "new", "..", *(name.removeprefix("a/") for name in LINKS))


def _tree(top: Path) -> None:
    (top / "work/a/b").mkdir(parents=True)
    (top / "elsewhere").mkdir()
    (top / "elsewhere/in").symlink_to(top / "work/a")
    for name, target in LINKS.items():
        (top / "work" / name).symlink_to(target)


def _made(path: str, top: Path) -> str | None:
    """Make a file at a path, and the folders above it; return where it is found without links."""
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    os.close(fd)
    (place,) = (os.path.join(folder, "file") for folder, _, files in os.walk(top) if files)
    return place


@given(st.lists(st.sampled_from(NAMES), max_size=6), st.booleans())
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_file_appears_where_its_path_was_said_to_lead(
    tmp_path: Path, folders: list[str], is_absolute: bool
) -> None:
    top = tmp_path / "so/deep/that/no/path/leads/out"
    shutil.rmtree(tmp_path / "so", ignore_errors=True)
    _tree(top)
    os.chdir(top / "work")
    path = "/".join([*([os.getcwd()] if is_absolute else []), *folders, "file"])
    said = place_of(path)

    place = _made(path, tmp_path)

    if place is not None:
        assert said == place
        assert is_within(said, ["."]) == place.startswith(f"{top}/work/")
