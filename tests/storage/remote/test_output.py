"""Objects at URLs, which appear when all of them are whole."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

import pytest

from reinit_cli.errors import OutputExistsError, OutputUnwritableError
from reinit_cli.storage.destination import Destination
from reinit_cli.storage.outputs import output_to
from reinit_cli.storage.reader import Modes
from reinit_cli.storage.writer import Output
from tests.contracts.output_contract import DATA, OutputContract, write

if TYPE_CHECKING:
    from tests.servers.gs import GSServer
    from tests.servers.s3 import Bucket

FOLDER = {
    "config.json": DATA[:7000],
    "model.safetensors.index.json": b"{}",
    "weights/part": DATA,
    "empty": b"",
}


@pytest.fixture
def memory() -> Iterator[dict[str, bytes]]:
    """Return fsspec's memory, empty before the test and after it."""
    from fsspec import filesystem

    fs = filesystem("memory")
    fs.store.clear()
    yield fs.store
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


@pytest.fixture
def gs(monkeypatch: pytest.MonkeyPatch) -> Iterator[GSServer]:
    """Return Google Cloud Storage on the loopback, which has nothing."""
    if not os.environ.get("CI"):
        pytest.importorskip("gcsfs")
    from fsspec.config import conf

    from tests.servers.gs import GSServer

    server = GSServer()
    running = server.start()
    monkeypatch.setitem(conf, "gs", {"token": "anon", "endpoint_url": server.url})
    _tell_that_it_is_not_zonal("bucket")
    yield server
    running.shutdown()
    running.server_close()


def _tell_that_it_is_not_zonal(bucket: str) -> None:
    """Spare gcsfs the question, which goes to Google by another protocol."""
    from fsspec.core import url_to_fs

    fs, _ = url_to_fs(f"gs://{bucket}/")
    if hasattr(fs, "_storage_layout_cache"):
        from gcsfs.extended_gcsfs import BucketType

        fs._storage_layout_cache[bucket] = BucketType.NON_HIERARCHICAL


class _RemoteContract(OutputContract):
    waits: ClassVar[bool] = False
    url: str

    def make(self) -> Output:
        destination = Destination(self.url)
        is_last = lambda name: name.endswith(".index.json")  # noqa: E731
        return output_to(destination, Modes(), lambda _: self.waits, is_last)

    def found(self) -> dict[str, bytes]:
        raise NotImplementedError

    def holds(self, files: Mapping[str, bytes]) -> bool:
        wanted = {f"out/{name}".rstrip("/"): data for name, data in files.items()}
        return self.found() == wanted and os.listdir() == []


class _MemoryContract(_RemoteContract):
    url = "memory://out"

    @pytest.fixture(autouse=True)
    def keeps(self, memory: dict[str, bytes]) -> None:
        self._store = memory

    def found(self) -> dict[str, bytes]:
        return {path.lstrip("/"): each.getvalue() for path, each in self._store.items()}  # type: ignore[attr-defined]


class TestMemory(_MemoryContract):
    pass


class TestMemoryThatWaits(_MemoryContract):
    waits = True


class TestFolderInMemory(_MemoryContract):
    files: ClassVar = FOLDER


class _S3Contract(_RemoteContract):
    @pytest.fixture(autouse=True)
    def keeps(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self.url = bucket.url("out")

    def found(self) -> dict[str, bytes]:
        assert self._bucket.uploads == []
        return self._bucket.objects


class TestS3(_S3Contract):
    pass


class TestS3ThatWaits(_S3Contract):
    waits = True


class TestFolderInS3(_S3Contract):
    files: ClassVar = FOLDER


class _GSContract(_RemoteContract):
    @pytest.fixture(autouse=True)
    def keeps(self, gs: GSServer) -> None:
        self._server = gs
        self.url = "gs://bucket/out"

    def found(self) -> dict[str, bytes]:
        assert self._server.sessions == {}
        return {path.removeprefix("bucket/"): data for path, data in self._server.objects.items()}


class TestGS(_GSContract):
    pass


class TestFolderInGS(_GSContract):
    files: ClassVar = FOLDER


# aiohttp warns of bodies over a megabyte, which gcsfs sends.
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
def test_an_object_of_several_requests_is_whole_in_gs(gs: GSServer) -> None:
    data = bytes(range(256)) * (70 * 2**20 // 256) + b"end"
    with output_to(Destination("gs://bucket/out"), Modes()) as output:
        write(output.file("", len(data)), data)
        assert gs.objects == {}
        output.commit()

    assert gs.objects == {"bucket/out": data}


def test_an_object_that_appears_meanwhile_in_gs_is_kept(gs: GSServer) -> None:
    output = output_to(Destination("gs://bucket/out"), Modes())
    with pytest.raises(OutputExistsError), output:
        write(output.file("", len(DATA)), DATA)
        output.commit(lambda: gs.objects.update({"bucket/out": b"other"}))

    assert gs.objects == {"bucket/out": b"other"}
    assert gs.sessions == {}


def test_a_place_in_gs_that_may_not_be_written_is_one_line(gs: GSServer) -> None:
    gs.denied.add("POST")
    output = output_to(Destination("gs://bucket/out"), Modes())

    with (
        pytest.raises(OutputUnwritableError, match=r"\A.*no permission to write there.*\Z"),
        output,
    ):
        write(output.file("", len(DATA)), DATA)
        output.commit()

    assert gs.objects == {}
