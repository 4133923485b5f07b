"""Local files, and a bounded number of descriptors for any number of them."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from reinit_cli.storage.destination import Destination
from reinit_cli.storage.local import MAX_OPEN_FILES, LocalStore
from reinit_cli.storage.local_output import LocalOutput
from reinit_cli.storage.writer import Output
from tests.contracts.output_contract import DATA, OutputContract
from tests.contracts.store_contract import StoreContract
from tests.tools import open_files


class TestLocalStore(StoreContract):
    limit = 5

    def make(self) -> LocalStore:
        return LocalStore(self.limit)

    def put(self, name: str, data: bytes) -> str:
        Path(name).write_bytes(data)
        return name

    def put_folder(self, name: str) -> str:
        Path(name).mkdir()
        return name

    def remove(self, path: str) -> None:
        Path(path).unlink()


def test_links_have_the_kind_of_what_they_lead_to_and_pipes_another() -> None:
    Path("file").touch()
    Path("to-file").symlink_to("file")
    Path("to-folder").symlink_to(".")
    Path("to-nothing").symlink_to("nowhere")
    os.mkfifo("pipe")

    names = ("to-file", "to-folder", "to-nothing", "pipe")

    assert list(map(LocalStore().kind_of, names)) == ["file", "folder", "other", "other"]


def _found() -> dict[str, bytes]:
    path = Path("out")
    if path.is_file():
        return {"": path.read_bytes()}
    found = {str(each.relative_to(path)): each for each in path.rglob("*") if each.is_file()}
    return {name: each.read_bytes() for name, each in found.items()}


class _LocalContract(OutputContract):
    def make(self) -> Output:
        return LocalOutput(Destination("out"))

    def holds(self, files: Mapping[str, bytes]) -> bool:
        return _found() == files and os.listdir() == (["out"] if files else [])


class TestLocalFile(_LocalContract):
    pass


class TestLocalFileWithATemporaryName(_LocalContract):
    @pytest.fixture(autouse=True)
    def named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(os, "O_TMPFILE")


class TestLocalFolder(_LocalContract):
    files: ClassVar = {
        "config.json": DATA[:7000],
        "weights/part": DATA,
        "weights/more/part": DATA[::-1],
    }


# --- descriptors -----------------------------------------------------------------------------


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256 + len(os.listdir("/proc/self/fd")), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_files_are_read_and_written_with_few_descriptors(few_descriptors: None) -> None:
    for at in range(1100):
        Path(f"in{at}").write_bytes(b"%d" % at)
    store = LocalStore()
    readers = [store.open(f"in{at}") for at in range(1100)]
    assert len(open_files()) == MAX_OPEN_FILES

    with LocalOutput(Destination("out")) as output:
        for at, reader in enumerate(readers):
            writer = output.file(f"part{at}", reader.nbytes)
            writer.write_at(0, reader.read(0, reader.nbytes))
            writer.close()
        output.commit()
    for reader in readers:
        reader.check_unchanged()
        reader.close()

    assert all(Path(f"out/part{at}").read_text() == str(at) for at in range(1100))


def test_a_file_stays_open_while_a_thread_reads_it() -> None:
    store = LocalStore(1)
    for name in ("one", "two"):
        Path(name).write_text(name)
    one, two = store.open("one"), store.open("two")
    with one.descriptor() as fd:
        thread = threading.Thread(target=two.read, args=(0, 3))
        thread.start()
        thread.join()
        assert os.pread(fd, 3, 0) == b"one"
    one.close()
    two.close()


def test_the_file_that_was_read_longest_ago_is_closed() -> None:
    store = LocalStore(2)
    for name in "abc":
        Path(name).write_text(name)
    a, b, c = (store.open(name) for name in "abc")
    b.read(0, 1)
    c.read(0, 1)

    opened = {os.path.basename(os.readlink(f"/proc/self/fd/{fd}")) for fd in _open()}

    assert opened >= {"b", "c"}
    assert "a" not in opened
    for each in (a, b, c):
        each.close()


def _open() -> list[str]:
    return [fd for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}")]
