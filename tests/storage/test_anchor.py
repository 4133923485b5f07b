"""The folder of an output is moved, and another put in its place, while files are written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reinit_cli.errors import OutputUnwritableError
from reinit_cli.storage import whole_file
from reinit_cli.storage.destination import Destination
from reinit_cli.storage.local_output import LocalOutput
from reinit_cli.storage.temporary import open_named
from tests.tools import open_files

WAYS = {"a new file": "", "a named temporary": "", "a replaced file": "", "a folder": "inside/two"}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    Path("out").mkdir()
    if request.param == "a named temporary":
        monkeypatch.setattr(whole_file, "open_temporary", open_named)
    if request.param == "a replaced file":
        Path("out/new").write_bytes(b"old")
    return str(request.param)


def _swap() -> None:
    Path("out").rename("gone")
    Path("out").mkdir()


def _move() -> None:
    Path("out").rename("gone")


@pytest.mark.parametrize("meddle", [_swap, _move])
@pytest.mark.parametrize("is_late", [False, True])
def test_nothing_is_written_and_nothing_left_where_a_folder_is_moved(
    way: str, meddle: object, is_late: bool
) -> None:
    assert callable(meddle)
    before = open_files()
    old = Path("out/new").read_bytes() if way == "a replaced file" else None
    with (
        pytest.raises(OutputUnwritableError, match="cannot write 'out/new"),
        LocalOutput(Destination("out/new", replaces=way == "a replaced file")) as output,
    ):
        output.file("inside/one" if WAYS[way] else "", 3).write_at(0, b"new")
        if not is_late:
            meddle()
        if WAYS[way]:
            output.file(WAYS[way], 3).write_at(0, b"new")
        output.commit(meddle if is_late else lambda: None)

    assert open_files() == before
    assert {str(path) for path in Path().rglob("*")} == {
        *(["out"] if meddle is _swap else []),
        "gone",
        *(["gone/new"] if old is not None else []),
    }
    assert old is None or Path("gone/new").read_bytes() == old


def test_a_folder_that_is_moved_back_is_the_same_folder(way: str) -> None:
    with LocalOutput(Destination("out/new", replaces=way == "a replaced file")) as output:
        output.file("inside/one" if WAYS[way] else "", 3).write_at(0, b"one")
        _swap()
        if WAYS[way]:
            output.file(WAYS[way], 3).write_at(0, b"two")
        shutil.rmtree("out")
        Path("gone").rename("out")
        output.commit()

    found = {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    folder = {"out/new/inside/one": b"one", "out/new/inside/two": b"two"}
    assert found == (folder if WAYS[way] else {"out/new": b"one"})
