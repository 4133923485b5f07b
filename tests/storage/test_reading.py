"""Files that are read, and that change meanwhile."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from reinit_cli.cli.hints import hint_of
from reinit_cli.errors import SourceChangedError, SourceNotFoundError, UnreadableSourceError
from reinit_cli.storage.local import InputFile


@pytest.fixture
def path() -> Path:
    path = Path("in.bin")
    path.write_bytes(b"0123456789")
    return path


def test_bytes_are_read_where_they_are(path: Path) -> None:
    with InputFile(str(path)) as file:
        assert (file.nbytes, file.read(3, 4), file.read(10, 0)) == (10, b"3456", b"")


def test_a_missing_file_is_told_with_its_neighbours(path: Path) -> None:
    with pytest.raises(SourceNotFoundError) as refused:
        InputFile("im.bin")

    assert str(refused.value) == "no such file: 'im.bin'"
    assert hint_of(refused.value) == "did you mean in.bin?"
    assert isinstance(refused.value, FileNotFoundError)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("folder", "it is a folder"),
        ("fifo", "it is not a regular file"),
        ("x" * 300, "file name too long"),
        ("a\0b", "embedded null byte"),
    ],
)
def test_what_is_no_readable_file_is_told(name: str, problem: str) -> None:
    Path("folder").mkdir()
    os.mkfifo("fifo")

    with pytest.raises(UnreadableSourceError) as refused:
        InputFile(name)

    assert str(refused.value) == f"cannot read {name!r}: {problem}"


def test_a_file_that_stays_is_unchanged(path: Path) -> None:
    with InputFile(str(path)) as file:
        file.check_unchanged()


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def _touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def _replace(path: Path) -> None:
    status = path.stat()
    Path("other").write_bytes(path.read_bytes())
    os.utime("other", ns=(status.st_atime_ns, status.st_mtime_ns))
    Path("other").rename(path)


def _rewrite(path: Path) -> None:
    status = path.stat()
    path.write_bytes(b"9876543210")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _link(path: Path) -> None:
    os.link(path, "other")


@pytest.mark.parametrize("change", [_grow, _touch, _replace, _rewrite, _link, Path.unlink])
def test_a_change_meanwhile_is_an_error(path: Path, change: object) -> None:
    assert callable(change)
    with InputFile(str(path)) as file:
        change(path)

        with pytest.raises(
            SourceChangedError,
            match=r"^'in\.bin' changed while it was being read; nothing was written$",
        ):
            file.check_unchanged()


def test_a_file_that_became_shorter_is_an_error_and_no_crash(path: Path) -> None:
    with InputFile(str(path)) as file:
        os.truncate(path, 4)

        with pytest.raises(SourceChangedError):
            file.read(2, 8)


def test_a_file_that_has_just_been_written_is_read_when_a_change_would_show(path: Path) -> None:
    """Times have the resolution of the kernel's ticks, of which the longest is 10 ms."""
    path.write_bytes(b"9876543210")

    with InputFile(str(path)):
        assert time.time_ns() - path.stat().st_ctime_ns >= 10_000_000
