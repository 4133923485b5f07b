"""System calls that do a part of what they are asked to do, or that a file system lacks."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from reinit_cli.errors import SourceChangedError
from reinit_cli.storage import names as naming
from reinit_cli.storage.destination import Destination
from reinit_cli.storage.local import InputFile
from reinit_cli.storage.local_output import LocalOutput
from reinit_cli.storage.names import rename_to_new
from reinit_cli.storage.system import pread_all, pread_into
from tests.short_calls import shorten_calls

DATA = bytes(range(250))


@pytest.fixture
def short_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every call read, write or copy seven bytes."""
    shorten_calls(monkeypatch, 7)


@pytest.mark.usefixtures("short_calls")
def test_short_reads_are_repeated() -> None:
    Path("in.bin").write_bytes(DATA)
    buffer = bytearray(100)

    with InputFile("in.bin") as file:
        file.read_into(memoryview(buffer), 20)
        assert file.read(20, 100) == buffer == DATA[20:120]
        with pytest.raises(SourceChangedError):
            file.read(200, 51)
        with pytest.raises(SourceChangedError):
            file.read_into(memoryview(buffer), 200)


@pytest.mark.usefixtures("short_calls")
def test_short_writes_are_repeated() -> None:
    with LocalOutput(Destination("out.bin")) as output:
        writer = output.file("", 250)
        writer.write_at(0, DATA)
        assert writer.read(0, 250) == DATA
        output.commit()

    assert Path("out.bin").read_bytes() == DATA


@pytest.mark.usefixtures("short_calls")
def test_what_lies_beyond_the_end_is_not_read() -> None:
    Path("in.bin").write_bytes(DATA)
    buffer = bytearray(b"x" * 20)
    with open("in.bin", "rb") as file:
        assert pread_all(file.fileno(), 240, 20) == DATA[240:]
        assert pread_into(file.fileno(), 240, memoryview(buffer)) == 10

    assert buffer == DATA[240:] + b"x" * 10


# --- names -----------------------------------------------------------------------------------


def _refuse(*_: object) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


@pytest.fixture(params=["renameat2", "hard links", "neither"])
def names(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that names files in its own way, as exFAT or NFS do."""
    if request.param != "renameat2":
        monkeypatch.setattr(naming, "_renamed", lambda *_: False)
    if request.param != "hard links":
        monkeypatch.setattr(os, "link", _refuse)


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
def test_a_new_name_is_given_on_every_file_system(make: Callable[[Path], None]) -> None:
    make(Path("old"))

    rename_to_new("old", "new")

    assert os.listdir() == ["new"]


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
@pytest.mark.parametrize("taken", [Path.touch, Path.mkdir, lambda path: path.symlink_to("x")])
def test_a_name_that_is_taken_stays_with_its_file(
    make: Callable[[Path], None], taken: Callable[[Path], None]
) -> None:
    make(Path("old"))
    taken(Path("new"))
    before = os.lstat("new").st_ino

    with pytest.raises(FileExistsError):
        rename_to_new("old", "new")

    assert os.lstat("new").st_ino == before
    assert Path("old").exists()


@pytest.mark.usefixtures("names")
def test_an_output_appears_on_every_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "O_TMPFILE")
    with LocalOutput(Destination("out.bin")) as output:
        output.file("", 3).write_at(0, b"new")
        output.commit()

    assert (os.listdir(), Path("out.bin").read_bytes()) == (["out.bin"], b"new")
