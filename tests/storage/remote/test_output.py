"""Objects at URLs, which appear when all of them are whole."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

import pytest

from reinit_cli.storage.destination import Destination
from reinit_cli.storage.outputs import output_to
from reinit_cli.storage.reader import Modes
from reinit_cli.storage.writer import Output
from tests.contracts.output_contract import DATA, OutputContract

if TYPE_CHECKING:
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
