"""What the system refuses: optional calls, closing, syncing, and names that come last."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from reinit_cli.errors import (
    OutputError,
    OutputExistsError,
    OutputUnwritableError,
    UnreadableSourceError,
)
from reinit_cli.storage import names, system, whole_file
from reinit_cli.storage.destination import Destination, check_destination
from reinit_cli.storage.local import InputFile
from reinit_cli.storage.local_output import LocalOutput
from reinit_cli.storage.scratch import ScratchFolder, open_scratch
from reinit_cli.storage.whole_file import WholeFile
from tests.tools import open_files

DATA = bytes(range(250)) * 1000
OPTIONAL = [errno.EPERM, errno.EIO, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV, errno.EBADF]


def _refuse(code: int) -> Callable[..., None]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


class _Library:
    """A libc whose optional calls fail, the first time only where that is asked for."""

    def __init__(self, code: int, *, once: bool = False) -> None:
        self._code = code
        self._once = once

    def fallocate(self, *_: object) -> int:
        if not self._code:
            return 0
        ctypes.set_errno(self._code)
        self._code = 0 if self._once else self._code
        return -1

    renameat2 = fallocate


def _new(content: bytes = DATA) -> None:
    with LocalOutput(Destination("out.bin")) as output:
        output.file("", len(content)).write_at(0, content)
        output.commit()


# --- optional calls --------------------------------------------------------------------------


@pytest.mark.parametrize("code", OPTIONAL)
def test_what_the_kernel_does_not_copy_is_left_to_reads_and_writes(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("in.bin").write_bytes(DATA)
    monkeypatch.setattr(os, "copy_file_range", _refuse(code))
    monkeypatch.setattr(fcntl, "ioctl", _refuse(code))
    with InputFile("in.bin") as source, LocalOutput(Destination("out.bin")) as output:
        file = output.file("", len(DATA))

        assert not file.clone(source)
        assert file.copy_from(source, 0, 0, len(DATA)) == 0


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_copy_for_which_there_is_no_room_is_an_error_immediately(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("in.bin").write_bytes(DATA)
    monkeypatch.setattr(os, "copy_file_range", _refuse(code))
    with InputFile("in.bin") as source, LocalOutput(Destination("out.bin")) as output:
        file = output.file("", len(DATA))
        with pytest.raises(OutputUnwritableError, match=r"cannot write 'out\.bin'"):
            file.copy_from(source, 0, 0, len(DATA))


@pytest.mark.parametrize("code", OPTIONAL)
def test_a_reservation_that_is_not_possible_is_done_without(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: _Library(code))

    _new()

    assert Path("out.bin").read_bytes() == DATA


def test_a_reservation_that_a_signal_interrupts_is_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: _Library(errno.EINTR, once=True))

    _new()

    assert Path("out.bin").read_bytes() == DATA


def test_a_disk_that_fails_while_it_is_read_is_an_error_of_the_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("in.bin").write_bytes(DATA)
    monkeypatch.setattr(os, "preadv", _refuse(errno.EIO))
    monkeypatch.setattr(os, "pread", _refuse(errno.EIO))
    with InputFile("in.bin") as source:
        with pytest.raises(UnreadableSourceError, match="input/output error"):
            source.read(0, 10)
        with pytest.raises(UnreadableSourceError, match="input/output error"):
            source.read_into(memoryview(bytearray(10)), 0)


def test_a_source_of_which_the_system_tells_nothing_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("in.bin").write_bytes(DATA)
    before = len(open_files())
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", _refuse(errno.EIO))
        with pytest.raises(UnreadableSourceError, match=r"'in\.bin': input/output error"):
            InputFile("in.bin")

    assert len(open_files()) == before


def test_a_source_that_is_closed_with_an_error_was_read_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("in.bin").write_bytes(DATA)
    with InputFile("in.bin") as source:
        assert source.read(0, len(DATA)) == DATA
        monkeypatch.setattr(os, "close", _refuse(errno.EIO))


def test_an_old_output_of_which_the_system_tells_nothing_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("out.bin").write_bytes(b"old")
    destination = Destination("out.bin", replaces=True)
    monkeypatch.setattr(os.path, "lexists", lambda _: True)
    monkeypatch.setattr(os, "lstat", _refuse(errno.EIO))
    with pytest.raises(OutputUnwritableError, match=r"'out\.bin': input/output error"):
        check_destination(destination, None, {}, in_place=False)


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize("replaces", [False, True])
@pytest.mark.parametrize("code", [errno.EPERM, errno.EXDEV, errno.ENOSYS, errno.EMLINK])
def test_a_file_without_a_name_that_cannot_be_linked_is_copied(
    code: int, monkeypatch: pytest.MonkeyPatch, *, replaces: bool
) -> None:
    if replaces:
        Path("out.bin").write_bytes(b"old")
        Path("out.bin").chmod(0o640)
    monkeypatch.setattr(os, "link", _refuse(code))
    with LocalOutput(Destination("out.bin", replaces=replaces)) as output:
        output.file("", len(DATA)).write_at(0, DATA)
        output.commit()

    assert (os.listdir(), Path("out.bin").read_bytes()) == (["out.bin"], DATA)
    assert not replaces or Path("out.bin").stat().st_mode & 0o777 == 0o640


def test_where_names_cannot_be_taken_in_one_call_another_file_still_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another process takes the name just before the rename, the last moment there is."""
    rename = os.rename

    def late(old: str, new: str) -> None:
        with pytest.raises(FileExistsError):
            os.open(new, os.O_CREAT | os.O_EXCL)
        rename(old, new)

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: _Library(errno.EINVAL))
    monkeypatch.setattr(os, "link", _refuse(errno.EPERM))
    monkeypatch.setattr(os, "rename", late)

    _new()
    with pytest.raises(OutputExistsError):
        _new(b"other")

    assert (os.listdir(), Path("out.bin").read_bytes()) == (["out.bin"], DATA)


# --- the end ---------------------------------------------------------------------------------


def test_what_is_refused_when_a_file_is_closed_is_known_before_it_has_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a quota does, or a server far away."""
    close, dup, copies = os.close, os.dup, set[int]()

    def copied(fd: int) -> int:
        copies.add(made := dup(fd))
        return made

    def full(fd: int) -> None:
        close(fd)
        if fd in copies:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "dup", copied)
    monkeypatch.setattr(os, "close", full)
    with pytest.raises(OutputUnwritableError, match="disk quota exceeded"):
        _new()

    assert os.listdir() == []


def _write_three(*, replaces: bool = True) -> None:
    with LocalOutput(Destination("out.bin", replaces=replaces)) as output:
        output.file("", 3).write_at(0, b"new")
        for name in ("record.json", "report.html"):
            output.file_at(Destination(name, replaces=replaces), 3).write_at(0, b"new")
        output.commit()


@pytest.fixture
def late_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Old files, of which the last cannot be replaced."""
    for name in ("out.bin", "record.json", "report.html"):
        Path(name).write_bytes(b"old")
    appear = WholeFile.appear

    def fail(self: WholeFile, *, may_return: bool) -> None:
        if self.destination.path == "out.bin":
            raise OutputUnwritableError("out.bin", "input/output error")
        appear(self, may_return=may_return)

    monkeypatch.setattr(WholeFile, "appear", fail)


@pytest.mark.usefixtures("late_failure")
@pytest.mark.parametrize("way", ["exchange", "link"])
def test_files_that_were_replaced_come_back_where_a_later_one_fails(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "link":
        monkeypatch.setattr(names, "_renamed", lambda *_: False)
    before = {name: os.stat(name).st_ino for name in os.listdir()}
    with pytest.raises(OutputError) as refused:
        _write_three()

    assert str(refused.value) == "cannot write 'out.bin': input/output error"
    assert {name: os.stat(name).st_ino for name in os.listdir()} == before


@pytest.mark.usefixtures("late_failure")
def test_files_that_cannot_come_back_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system has neither an exchange nor hard links."""
    monkeypatch.setattr(names, "_renamed", lambda *_: False)
    monkeypatch.setattr(os, "link", _refuse(errno.EPERM))
    with pytest.raises(OutputError) as refused:
        _write_three()

    assert str(refused.value) == (
        "cannot write 'out.bin': input/output error; 'record.json' and 'report.html' were written"
    )
    assert {name: Path(name).read_bytes() for name in os.listdir()} == {
        "out.bin": b"old",
        "record.json": b"new",
        "report.html": b"new",
    }


def test_a_sync_that_fails_after_the_names_says_what_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("record.json").write_bytes(b"old")
    monkeypatch.setattr(whole_file, "sync_folder", _refuse(errno.EIO))
    with pytest.raises(OutputUnwritableError) as refused:
        _write_three()

    assert str(refused.value) == (
        "cannot force 'record.json' to the disk: input/output error; "
        "'record.json', 'report.html' and 'out.bin' were written"
    )
    assert sorted(os.listdir()) == ["out.bin", "record.json", "report.html"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF])
def test_a_folder_that_cannot_be_synced_is_accepted(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", _refuse(code))

    system.sync_folder(".")


def test_a_temporary_that_cannot_be_removed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "O_TMPFILE")
    monkeypatch.setattr(os, "unlink", _refuse(errno.EROFS))
    with (
        pytest.raises(OutputExistsError) as refused,
        LocalOutput(Destination("out.bin")) as output,
    ):
        output.file("", 3)
        raise OutputExistsError("out.bin")

    (left,) = os.listdir()
    assert str(refused.value) == f"'out.bin' already exists; {left!r} could not be removed"


def test_a_temporary_folder_that_cannot_be_looked_into_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        pytest.raises(OutputExistsError, match=r"'\.out\.reinit-.*' could not be removed"),
        LocalOutput(Destination("out")) as output,
    ):
        output.file("part", 3)
        monkeypatch.setattr(shutil, "rmtree", _refuse(errno.EIO))
        raise OutputExistsError("out")


def test_a_temporary_is_removed_by_a_second_call_where_the_first_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unlink, failed = os.unlink, list[str]()

    def once(path: str) -> None:
        if path not in failed:
            failed.append(path)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        unlink(path)

    monkeypatch.delattr(os, "O_TMPFILE")
    monkeypatch.setattr(os, "unlink", once)
    with LocalOutput(Destination("out.bin")) as output:
        output.file("", 3)

    assert len(failed) == 1
    assert os.listdir() == []


# --- TMPDIR ----------------------------------------------------------------------------------


def test_a_folder_for_temporaries_that_is_missing_is_one_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TMPDIR", "missing")
    with pytest.raises(OutputUnwritableError, match="'missing': no such file or directory"):
        open_scratch()
    with (
        pytest.raises(OutputUnwritableError, match="'missing': no such file or directory"),
        ScratchFolder(),
    ):
        pass


def test_what_a_killed_run_left_in_the_folder_for_temporaries_is_removed_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("scratch").mkdir()
    monkeypatch.setenv("TMPDIR", "scratch")
    left = Path("scratch/.reinit.reinit-0123456789ab")
    (left / "folder").mkdir(parents=True)
    (left / "folder/out.pt").touch()
    (left / "reinit-temporary").touch()

    with ScratchFolder() as folder:
        assert os.listdir(folder) == []
        assert os.stat(os.path.dirname(folder)).st_mode & 0o777 == 0o700
        assert not left.exists()

    assert os.listdir("scratch") == []


def test_a_folder_in_the_folder_for_temporaries_that_cannot_be_removed_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("scratch").mkdir()
    monkeypatch.setenv("TMPDIR", "scratch")
    with (
        pytest.raises(OutputUnwritableError, match=r"^'scratch/\.reinit.*could not be removed$"),
        ScratchFolder(),
    ):
        monkeypatch.setattr(shutil, "rmtree", _refuse(errno.EIO))
