"""Temporaries are removed by the next run where they are reinit's own and nobody writes them."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reinit_cli.storage import temporary
from reinit_cli.storage.temporary import (
    RANKS_MARK,
    TemporaryFolder,
    open_named,
    open_temporary,
    remove_stale,
    temporary_name,
)
from tests.tools import open_files

HEX = "0123456789ab"


@pytest.mark.parametrize("name", ["out.bin", "o[u]t.*", "n" * 250])
def test_a_file_that_a_killed_run_left_is_removed_unless_it_is_locked(name: str) -> None:
    stale, locked, other = (
        Path(f".{name[:200]}.reinit-{HEX}"),
        Path(f".{name[:200]}.reinit-ba9876543210"),
        Path(f".x{name[:200]}.reinit-{HEX}"),
    )
    for path in (stale, locked, other):
        path.touch()
    with locked.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        remove_stale(name)

    assert sorted(os.listdir()) == sorted([locked.name, other.name])


@pytest.mark.parametrize(
    "ending",
    ["notes", "", "0123456789a", f"{HEX}c", "0123456789AB", f"{HEX}.bak", f"{HEX}\n"],
)
@pytest.mark.parametrize("is_folder", [False, True])
def test_what_is_not_named_as_a_temporary_is_never_removed(ending: str, is_folder: bool) -> None:
    mine = Path(f".model.pt.reinit-{ending}")
    if is_folder:
        mine.mkdir()
        (mine / "reinit-temporary").touch()
    else:
        mine.write_text("mine")

    remove_stale("model.pt")

    assert mine.exists()


def test_a_folder_without_the_marker_is_never_removed() -> None:
    mine = Path(f".model.reinit-{HEX}")
    (mine / "folder").mkdir(parents=True)
    (mine / "folder/mine").write_text("mine")

    remove_stale("model")

    assert (mine / "folder/mine").read_text() == "mine"


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("mine")])
def test_what_is_neither_file_nor_folder_of_ours_is_never_removed(
    make: Callable[[Path], object],
) -> None:
    Path("mine").write_text("mine")
    path = Path(f".model.pt.reinit-{HEX}")
    make(path)

    remove_stale("model.pt")

    assert os.path.lexists(path)
    assert Path("mine").read_text() == "mine"


def test_a_folder_that_a_killed_run_left_is_removed_when_its_lock_is_free() -> None:
    folder = TemporaryFolder("model")
    Path(folder.path, "part").write_text("part")

    remove_stale("model")
    assert Path(folder.path, "part").exists()
    assert folder._lock is not None
    os.close(folder._lock)  # as the kernel does when a process is killed
    remove_stale("model")

    assert os.listdir() == []


@pytest.mark.parametrize("inside", ["nothing", "a marker that has no name yet"])
def test_a_folder_of_a_run_that_was_killed_before_it_had_its_marker_is_removed(
    inside: str,
) -> None:
    folder = Path(f".model.reinit-{HEX}")
    folder.mkdir()
    if inside != "nothing":
        (folder / f".reinit-temporary.reinit-{HEX}").touch()

    remove_stale("model")

    assert os.listdir() == []


def test_a_stale_folder_keeps_what_others_put_into_it() -> None:
    folder = TemporaryFolder("model")
    outer = Path(folder.path).parent
    (outer / "mine").write_text("mine")
    assert folder._lock is not None
    os.close(folder._lock)

    remove_stale("model")

    assert os.listdir(outer) == ["mine"]


def test_a_temporary_folder_is_gone_once_its_content_has_its_name() -> None:
    folder = TemporaryFolder("model")
    Path(folder.path, "part").write_text("part")

    os.rename(folder.path, "model")
    folder.remove()

    assert (os.listdir(), os.listdir("model")) == (["model"], ["part"])


# --- two runs to one destination -------------------------------------------------------------


def test_a_folder_is_never_seen_with_a_marker_that_is_not_locked() -> None:
    """Another run cleans up after each system call of the one that makes its folder.

    What has no lock yet is removed, and made again.
    """
    made: list[str] = []

    def interleaved(call: Callable[..., object]) -> Callable[..., object]:
        def run(*args: object, **kwargs: object) -> object:
            result = call(*args, **kwargs)
            is_inner = str(args[0]).endswith("/folder")
            made.append(call.__name__ + (" folder" if is_inner else ""))
            if made.count(made[-1]) == 1:
                with pytest.MonkeyPatch.context() as alone:
                    for each in originals:
                        alone.setattr(os, each.__name__, each)
                    remove_stale("model")
            return result

        return run

    originals = (os.mkdir, os.open, os.rename)
    with pytest.MonkeyPatch.context() as patch:
        for call in originals:
            patch.setattr(os, call.__name__, interleaved(call))
        folder = TemporaryFolder("model")

    assert made == ["mkdir", "mkdir", "open", "mkdir", "open", "rename", "mkdir folder"]
    assert sorted(os.listdir(Path(folder.path).parent)) == ["folder", "reinit-temporary"]
    folder.remove()
    assert os.listdir() == []


def test_a_file_that_is_removed_before_it_is_locked_is_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original, removed = temporary.lock_if_possible, []

    def late(fd: int) -> None:
        if not removed:
            removed.append(remove_stale("out.bin"))
            assert os.listdir() == []
        original(fd)

    monkeypatch.setattr(temporary, "lock_if_possible", late)
    fd, name = open_named("out.bin")

    assert os.path.samestat(os.fstat(fd), os.stat(name))
    remove_stale("out.bin")
    assert os.listdir() == [name]
    os.close(fd)


def test_what_several_processes_share_may_be_removed_while_another_run_looks_at_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared = Path(".out.bin.reinit-0123456789ab")
    shared.mkdir()
    (shared / RANKS_MARK).touch()
    look = os.scandir

    def late(path: str) -> Iterator[os.DirEntry[str]]:
        (shared / RANKS_MARK).unlink()
        return look(path)

    monkeypatch.setattr(os, "scandir", late)
    remove_stale("out.bin")

    assert os.listdir() == [shared.name]  # whoever removes it does the rest


# --- what fails ------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_made_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(open_files())
    original = os.mkdir

    def full(path: str, *args: int) -> None:
        if path.endswith("folder"):
            raise OSError(errno.ENOSPC, "No space left on device")
        original(path, *args)

    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(OSError, match="No space left"):
        TemporaryFolder("model")

    assert (os.listdir(), len(open_files())) == ([], before)


def test_without_locks_a_temporary_is_written_and_none_is_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    fd, name = open_named("out.bin")
    remove_stale("out.bin")

    assert os.listdir() == [name]
    os.close(fd)


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="this system names every file")
def test_without_proc_a_temporary_has_a_name_from_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, exists = len(open_files()), os.path.exists
    monkeypatch.setattr(
        os.path, "exists", lambda path: not str(path).startswith("/proc/") and exists(path)
    )

    fd, name = open_temporary("out.bin")

    assert name is not None
    assert os.listdir() == [name]
    assert len(open_files()) == before + 1
    os.close(fd)


def test_the_name_of_a_temporary_is_short_enough_and_its_own() -> None:
    names = {temporary_name(f"folder/{'é' * 127}x") for _ in range(100)}

    assert len(names) == 100
    assert all(len(os.fsencode(os.path.basename(name))) <= 255 for name in names)
