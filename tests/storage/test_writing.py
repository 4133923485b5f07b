"""Outputs appear whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reinit_cli.errors import (
    OutputExistsError,
    OutputUnwritableError,
)
from reinit_cli.storage import local_output, whole_file
from reinit_cli.storage.destination import Destination
from reinit_cli.storage.local import InputFile
from reinit_cli.storage.local_output import LocalOutput
from reinit_cli.storage.whole_file import WholeFile
from tests.tools import open_files

PATH = Path("out.bin")


@pytest.fixture(params=["unnamed", "named"], autouse=True)
def temporary(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run everything with and without O_TMPFILE."""
    kind: str = request.param
    if kind == "named":
        monkeypatch.delattr(os, "O_TMPFILE")
    return kind


def _write(content: bytes, *, replaces: bool = False, syncs: bool = False) -> None:
    destination = Destination(str(PATH), replaces, syncs)
    with LocalOutput(destination) as output:
        output.file("", len(content)).write_at(0, content)
        output.commit()


def test_a_new_file_has_its_bytes_and_the_mode_of_the_umask() -> None:
    before = os.umask(0o027)
    try:
        _write(b"new", syncs=True)
    finally:
        os.umask(before)

    assert PATH.read_bytes() == b"new"
    assert PATH.stat().st_mode & 0o777 == 0o640
    assert os.listdir() == ["out.bin"]


def test_a_replaced_file_keeps_its_mode() -> None:
    PATH.write_bytes(b"old and longer")
    PATH.chmod(0o604)

    _write(b"new", replaces=True)

    assert (PATH.read_bytes(), PATH.stat().st_mode & 0o777) == (b"new", 0o604)
    assert os.listdir() == ["out.bin"]


def test_nothing_appears_before_it_is_committed(temporary: str) -> None:
    with LocalOutput(Destination(str(PATH))) as output:
        output.file("", 3).write_at(0, b"new")
        assert not PATH.exists()
        assert len(os.listdir()) == (temporary == "named")

    assert os.listdir() == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_whatever_fails_leaves_the_old_file_and_nothing_else(error: type[BaseException]) -> None:
    PATH.write_bytes(b"old")

    with (
        pytest.raises(error),
        LocalOutput(Destination(str(PATH), replaces=True)) as output,
    ):
        output.file("", 3).write_at(0, b"new")
        raise error

    assert (os.listdir(), PATH.read_bytes()) == (["out.bin"], b"old")


def test_a_file_that_appears_meanwhile_is_not_overwritten() -> None:
    with (
        pytest.raises(OutputExistsError, match=r"'out\.bin' already exists"),
        LocalOutput(Destination(str(PATH))) as output,
    ):
        output.file("", 3)
        PATH.write_bytes(b"other")
        output.commit()

    assert (os.listdir(), PATH.read_bytes()) == (["out.bin"], b"other")


def test_a_link_as_destination_is_replaced_and_not_written_through() -> None:
    Path("target").write_bytes(b"precious")
    PATH.symlink_to("target")

    _write(b"new", replaces=True)

    assert not PATH.is_symlink()
    assert (PATH.read_bytes(), Path("target").read_bytes()) == (b"new", b"precious")


def test_a_full_disk_is_one_error_and_the_old_file_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    PATH.write_bytes(b"old")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with (
        pytest.raises(
            OutputUnwritableError, match=r"^cannot write 'out\.bin': no space left on device$"
        ),
        LocalOutput(Destination(str(PATH), replaces=True)) as output,
    ):
        output.file("", 3).write_at(0, b"new")

    assert (os.listdir(), PATH.read_bytes()) == (["out.bin"], b"old")


def test_too_large_a_file_is_known_before_the_first_byte() -> None:
    code = (
        "import resource, signal\n"
        "from reinit_cli.storage.destination import Destination; from reinit_cli.storage.local_output import LocalOutput\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "LocalOutput(Destination('out.bin')).file('', 100_000)\n"
    )

    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)

    assert "OutputUnwritableError: cannot write 'out.bin': file too large" in done.stderr
    assert os.listdir() == []


@pytest.mark.parametrize("name", ["", "inside/part"])
def test_a_name_that_is_taken_at_the_last_moment_takes_back_those_that_were_given(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("replaced.json").write_bytes(b"old")
    appear = WholeFile.appear

    def late(self: WholeFile, *, may_return: bool) -> None:
        if self.destination.path == "last.json":
            Path("last.json").write_bytes(b"other")
        appear(self, may_return=may_return)

    monkeypatch.setattr(WholeFile, "appear", late)
    with (
        pytest.raises(OutputExistsError, match=r"'last\.json'"),
        LocalOutput(Destination(str(PATH))) as output,
    ):
        output.file(name, 3).write_at(0, b"new")
        output.file_at(Destination("first.json"), 3).write_at(0, b"new")
        output.file_at(Destination("replaced.json", replaces=True), 3).write_at(0, b"new")
        output.file_at(Destination("last.json"), 3).write_at(0, b"new")
        output.commit()

    assert sorted(os.listdir()) == ["last.json", "replaced.json"]
    assert Path("last.json").read_bytes() == b"other"
    assert Path("replaced.json").read_bytes() == b"old"


@pytest.mark.parametrize("name", ["", "inside/part"])
def test_a_reservation_that_fails_leaves_no_descriptor_and_no_temporary(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_files()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(local_output if name else whole_file, "reserve_space", full)
    with (
        pytest.raises(OutputUnwritableError, match="no space left on device"),
        LocalOutput(Destination(str(PATH))) as output,
    ):
        output.file(name, 3)

    assert open_files() == before
    assert os.listdir() == []


def test_a_file_without_its_context_is_cleaned_up_where_it_cannot_be_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = open_files()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(whole_file, "reserve_space", full)
    with pytest.raises(OutputUnwritableError):
        WholeFile(Destination(str(PATH)), 3)

    assert (open_files(), os.listdir()) == (before, [])


@pytest.mark.parametrize("name", ["", "inside/part"])
def test_a_signal_while_a_temporary_is_made_leaves_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_files()
    module, made = (local_output, "TemporaryFolder") if name else (whole_file, "open_temporary")
    make = getattr(module, made)

    def interrupted(path: str) -> object:
        result = make(path)
        signal.raise_signal(signal.SIGINT)  # to this thread: another might notice it too late
        return result

    monkeypatch.setattr(module, made, interrupted)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), LocalOutput(Destination(str(PATH))) as output:
            output.file(name, 3)
    finally:
        signal.signal(signal.SIGINT, handler)

    assert os.listdir() == []
    assert open_files() == before


def test_bytes_can_be_copied_by_the_kernel() -> None:
    Path("in.bin").write_bytes(b"0123456789")
    with InputFile("in.bin") as source, LocalOutput(Destination(str(PATH))) as output:
        file = output.file("", 6)
        done = 0
        while done < 4:
            count = file.copy_from(source, 3 + done, 1 + done, 4 - done)
            if not count:
                file.write_at(1 + done, source.read(3 + done, 4 - done))
                break
            done += count
        output.commit()

    assert PATH.read_bytes() == b"\x003456\x00"


def test_a_missing_kernel_copy_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> int:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", unsupported)
    Path("in.bin").write_bytes(b"0123456789")
    with InputFile("in.bin") as source, LocalOutput(Destination(str(PATH))) as output:
        file = output.file("", 6)
        assert file.copy_from(source, 0, 0, 6) == 0


@pytest.mark.slow
def test_a_killed_run_leaves_the_old_file_or_the_new_one(temporary: str) -> None:
    nbytes = 30_000_000
    PATH.write_bytes(b"o" * nbytes)
    code = (
        ("import os; del os.O_TMPFILE\n" if temporary == "named" else "")
        + "from reinit_cli.storage.destination import Destination; from reinit_cli.storage.local_output import LocalOutput\n"
        + "with LocalOutput(Destination('out.bin', replaces=True)) as output:\n"
        + f"    file = output.file('', {nbytes})\n"
        + "    print(flush=True)\n"
        + f"    for at in range(0, {nbytes}, 100_000): file.write_at(at, b'n' * 100_000)\n"
        + "    output.commit()\n"
    )
    for delay in range(8):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            with pytest.raises(subprocess.TimeoutExpired) if delay == 0 else _either():
                process.wait(delay / 100)
            process.send_signal(signal.SIGKILL)
        content = PATH.read_bytes()
        assert content in (b"o" * nbytes, b"n" * nbytes)
        left = [name for name in os.listdir() if name != "out.bin"]
        assert len(left) <= 1
        assert all(name.startswith(".out.bin.reinit-") for name in left)
    _write(b"last", replaces=True)
    assert os.listdir() == ["out.bin"]


class _either:  # noqa: N801 (reads as a word)
    """Whether the process is killed or has ended, both are well."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is subprocess.TimeoutExpired


def test_a_replaced_file_without_any_permission_stays_so() -> None:
    PATH.write_bytes(b"old")
    PATH.chmod(0)

    _write(b"new", replaces=True)

    assert PATH.stat().st_mode & 0o777 == 0
