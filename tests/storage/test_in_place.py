"""A file is replaced by what was made from it, and by nothing that was made from another."""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reinit_cli.cli.hints import hint_of
from reinit_cli.errors import OutputUnwritableError, SourceChangedError
from reinit_cli.storage import in_place
from reinit_cli.storage.destination import Destination
from reinit_cli.storage.in_place import check_no_link, locked, replace_source
from reinit_cli.storage.local_output import LocalOutput
from reinit_cli.storage.reader import Fingerprint
from tests.tools import missing

PATH = Path("m.bin")


@pytest.fixture(autouse=True)
def source() -> Fingerprint:
    PATH.write_bytes(b"old")
    return Fingerprint.of(PATH.stat())


def _replace_by(data: bytes) -> None:
    Path("theirs").write_bytes(data)
    Path("theirs").rename(PATH)


def _no_exchange(one: str, other: str) -> bool:
    del one, other
    return False


@pytest.fixture(params=["exchange", "rename"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "rename":
        monkeypatch.setattr(in_place, "exchanged", _no_exchange)
    return str(request.param)


@pytest.mark.usefixtures("way")
def test_the_source_is_replaced_and_nothing_else_is_left(source: Fingerprint) -> None:
    with LocalOutput(Destination("m.bin", replaces=True, source=source)) as output:
        output.file("", 3).write_at(0, b"new")
        output.commit()

    assert (PATH.read_bytes(), os.listdir()) == (b"new", ["m.bin"])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "meddle", [lambda: _replace_by(b"abc"), PATH.unlink, lambda: PATH.chmod(0o600)]
)
def test_another_file_is_not_replaced(source: Fingerprint, meddle: Callable[[], None]) -> None:
    with (
        pytest.raises(SourceChangedError, match=r"'m\.bin' changed while"),
        LocalOutput(Destination("m.bin", replaces=True, source=source)) as output,
    ):
        output.file("", 3).write_at(0, b"new")
        output.commit(meddle)

    assert {path.read_bytes() for path in Path().iterdir()} <= {b"abc", b"old"}


def _then(monkeypatch: pytest.MonkeyPatch, *meddlers: Callable[[], object], late: bool) -> None:
    """Let others act immediately before, or after, each exchange of names."""
    exchange, pending = in_place.exchanged, list(meddlers)

    def exchanged(one: str, other: str) -> bool:
        if pending and not late:
            pending.pop(0)()
        done = exchange(one, other)
        if pending and late:
            pending.pop(0)()
        return done

    monkeypatch.setattr(in_place, "exchanged", exchanged)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_others_put_there_between_the_comparison_and_the_exchange_is_put_back(
    source: Fingerprint, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("new").write_bytes(b"new")
    theirs = [f"their {at}".encode() for at in range(count)]
    _then(monkeypatch, *(lambda data=data: _replace_by(data) for data in theirs), late=False)

    with pytest.raises(SourceChangedError):
        replace_source("new", "m.bin", source)

    assert PATH.read_bytes() == theirs[-1]


def test_a_source_of_which_the_system_tells_nothing_after_the_exchange_is_put_back(
    source: Fingerprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("new").write_bytes(b"new")
    lstat, refusals = os.lstat, [PermissionError(13, "Permission denied")]

    def refuse() -> None:
        monkeypatch.setattr(os, "lstat", lambda path: _raise(refusals) or lstat(path))

    _then(monkeypatch, refuse, late=True)
    with pytest.raises(PermissionError):
        replace_source("new", "m.bin", source)

    assert (PATH.read_bytes(), Path("new").read_bytes()) == (b"old", b"new")


def _raise(errors: list[PermissionError]) -> None:
    if errors:
        raise errors.pop()


def test_what_others_put_there_while_it_is_put_back_stays(
    source: Fingerprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("new").write_bytes(b"new")
    exchange, calls = in_place.exchanged, []

    def exchanged(one: str, other: str) -> bool:
        calls.append(one)
        if len(calls) == 1:
            _replace_by(b"first")
            done = exchange(one, other)
            _replace_by(b"second")
            return done
        return exchange(one, other)

    monkeypatch.setattr(in_place, "exchanged", exchanged)
    with pytest.raises(SourceChangedError):
        replace_source("new", "m.bin", source)

    assert (PATH.read_bytes(), Path("new").read_bytes()) == (b"second", b"first")


def test_a_source_that_is_removed_at_the_last_moment_stays_removed(
    source: Fingerprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("new").write_bytes(b"new")
    _then(monkeypatch, PATH.unlink, late=False)

    with pytest.raises(SourceChangedError):
        replace_source("new", "m.bin", source)

    assert not PATH.exists()


# --- leases --------------------------------------------------------------------------------


def _needs_leases() -> None:
    with PATH.open("rb") as file:
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError as error:
            missing(f"this file system has no leases: {error}")


@pytest.mark.parametrize("is_mapped", [False, True])
def test_a_file_that_another_program_has_open_to_write_is_not_replaced(
    source: Fingerprint, is_mapped: bool
) -> None:
    _needs_leases()
    Path("new").write_bytes(b"new")
    with PATH.open("r+b") as file:
        writable = mmap.mmap(file.fileno(), 3) if is_mapped else file
        if is_mapped:
            file.close()

        with pytest.raises(OutputUnwritableError) as refused:
            replace_source("new", "m.bin", source)

        writable.close()

    said = "cannot replace 'm.bin': another program has it open to write"
    assert (str(refused.value), PATH.read_bytes()) == (said, b"old")
    assert hint_of(refused.value) is not None
    replace_source("new", "m.bin", source)
    assert PATH.read_bytes() == b"new"


def test_who_opens_it_to_write_at_the_last_moment_writes_what_has_its_name(
    source: Fingerprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    _needs_leases()
    Path("new").write_bytes(b"new")
    code = "from pathlib import Path; Path('m.bin').open('r+b').write(b'abc')"
    writers = []
    exchange = in_place.exchanged

    def exchanged(one: str, other: str) -> bool:
        if not writers:
            writers.append(subprocess.Popen([sys.executable, "-c", code]))
            while PATH.read_bytes() == b"old" and not _waits(writers[0].pid):
                time.sleep(0.01)
        return exchange(one, other)

    monkeypatch.setattr(in_place, "exchanged", exchanged)
    with pytest.raises(SourceChangedError):
        replace_source("new", "m.bin", source)

    assert writers[0].wait() == 0
    assert (PATH.read_bytes(), Path("new").read_bytes()) == (b"abc", b"new")


def _waits(pid: int) -> bool:
    """Whether a process waits for a lease, as the kernel says it."""
    return "BREAKING" in Path("/proc/locks").read_text() and Path(f"/proc/{pid}").exists()


# --- locks -----------------------------------------------------------------------------------


@contextmanager
def _other_lock() -> Iterator[None]:
    with PATH.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_a_second_run_is_refused_immediately_and_then_may(source: Fingerprint) -> None:
    destination = Destination("m.bin", replaces=True, source=source)
    with (
        _other_lock(),
        pytest.raises(OutputUnwritableError) as refused,
        LocalOutput(destination),
    ):
        pass

    assert str(refused.value) == "cannot replace 'm.bin': another run is replacing it"
    assert hint_of(refused.value) == "try again when the other run has finished"
    with LocalOutput(destination) as output:
        output.file("", 3).write_at(0, b"new")
        output.commit()
    with _other_lock():  # nothing is held any more
        assert PATH.read_bytes() == b"new"


@pytest.mark.parametrize("change", [lambda: _replace_by(b"old"), PATH.unlink])
def test_a_file_that_another_run_has_replaced_before_is_not_locked(
    source: Fingerprint, change: Callable[[], None]
) -> None:
    change()

    with pytest.raises(SourceChangedError), locked("m.bin", source):
        pass


def test_a_file_system_without_locks_is_no_reason_not_to_write(
    source: Fingerprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(fd: int, operation: int) -> None:
        del fd, operation
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)

    with locked("m.bin", source):
        assert PATH.read_bytes() == b"old"


# --- links -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "target", "typed"),
    [
        ("link.pt", "real.pt", "real.pt"),
        ("below/link.pt", "below/real.pt", "below/real.pt"),
        ("link.pt", "alexnet", "./alexnet"),
        ("link.pt", "a b.pt", "'a b.pt'"),
    ],
)
def test_a_link_is_not_replaced_and_the_hint_names_the_file(
    link: str, target: str, typed: str
) -> None:
    Path("below").mkdir()
    Path(target).write_bytes(b"x")
    Path(link).symlink_to(os.path.relpath(target, Path(link).parent))

    with pytest.raises(OutputUnwritableError) as refused:
        check_no_link(link)

    assert str(refused.value) == f"cannot replace {link!r}: it is a link to {target!r}"
    assert hint_of(refused.value) == f"name the file itself: {typed}"
    check_no_link(target)


def test_a_link_to_a_blob_of_a_cache_has_no_hint_to_replace_the_blob() -> None:
    blob, link = Path("hub/blobs/0123"), Path("hub/snapshots/main/model.safetensors")
    for path in (blob, link):
        path.parent.mkdir(parents=True)
    blob.write_bytes(b"x")
    link.symlink_to("../../blobs/0123")

    with pytest.raises(OutputUnwritableError, match="it is a link to 'hub/blobs/0123'") as refused:
        check_no_link(str(link))

    assert hint_of(refused.value) == "name a new file with -o: other checkpoints may share this one"


def test_a_file_that_is_named_through_a_linked_folder_is_no_link() -> None:
    Path("real").mkdir()
    Path("real/m.pt").write_bytes(b"x")
    Path("alias").symlink_to("real")

    check_no_link("alias/m.pt")


def test_the_lock_belongs_to_a_file_and_leaves_no_trace(source: Fingerprint) -> None:
    before = PATH.stat()

    with locked("m.bin", source):
        pass

    assert PATH.stat() == before
    assert stat.S_ISREG(before.st_mode)
    assert os.listdir() == ["m.bin"]
