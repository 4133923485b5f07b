"""Remote stores keep the contract of all stores."""

from __future__ import annotations

from collections.abc import Iterator

import fsspec
import pytest

from reinit_cli.storage.reader import Store
from reinit_cli.storage.stores import store_of
from tests.contracts.store_contract import StoreContract

MEMORY = fsspec.filesystem("memory")


@pytest.fixture(autouse=True)
def _empty_memory() -> Iterator[None]:
    yield
    MEMORY.store.clear()
    MEMORY.pseudo_dirs[:] = [""]


class TestMemory(StoreContract):
    def make(self) -> Store:
        return store_of("memory://x/file")

    def put(self, name: str, data: bytes) -> str:
        MEMORY.pipe_file(f"/x/{name.removeprefix('memory://x/')}", data)
        return f"memory://x/{name}"

    def put_folder(self, name: str) -> str:
        MEMORY.makedirs(f"/x/{name}", exist_ok=True)
        return f"memory://x/{name}"

    def remove(self, path: str) -> None:
        MEMORY.rm(path)


def test_names_that_no_folder_has_are_left_out_of_a_listing() -> None:
    for name in ("m.pt", "sub/n.pt", ".git/x", "a//b", "c/../d", ".name.reinit-0123456789ab"):
        MEMORY.store[f"/f/{name}"] = MEMORY.pipe_file("/one", b"1") or MEMORY.store["/one"]

    listing = store_of("memory://f").list("memory://f")

    assert sorted(listing.files) == ["m.pt", "sub/n.pt"]
    assert listing.folders == {"": 0o777, "sub": 0o777}
    assert sorted(listing.left_out) == [".git", "a/", "c/.."]
