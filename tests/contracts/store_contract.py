"""What every store of files does: a class that makes one passes this by inheriting it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from reinit_cli.errors import SourceChangedError, SourceNotFoundError, UnreadableSourceError
from reinit_cli.storage.reader import Store

DATA = bytes(range(256)) * 3000


class StoreContract:
    """Inherit, make a store, and say how a file comes into it."""

    limit = 64
    """How many of its files are open together at most."""

    def make(self) -> Store:
        """Return a store with no file."""
        raise NotImplementedError

    def put(self, name: str, data: bytes) -> str:
        """Put a file into it, or other bytes into a file of it; return the file's path."""
        raise NotImplementedError

    def put_folder(self, name: str) -> str:
        """Put an empty folder into it; return its path."""
        raise NotImplementedError

    def remove(self, path: str) -> None:
        """Remove a file from it."""
        raise NotImplementedError

    def test_bytes_are_read_from_any_place(self) -> None:
        reader = self.make().open(self.put("file", DATA))
        buffer = bytearray(100_000)

        reader.read_into(memoryview(buffer), 123_456)

        assert (reader.nbytes, reader.is_seekable) == (len(DATA), True)
        assert reader.head(5) == DATA[:5]
        assert reader.head(10**9) == DATA
        assert reader.read(123_456, 100_000) == DATA[123_456:223_456] == buffer
        assert reader.read(len(DATA), 0) == b""
        reader.close()

    def test_to_read_beyond_the_end_is_a_change(self) -> None:
        reader = self.make().open(self.put("file", DATA))

        with pytest.raises(SourceChangedError):
            reader.read(len(DATA) - 10, 11)
        with pytest.raises(SourceChangedError):
            reader.read_into(memoryview(bytearray(11)), len(DATA) - 10)
        reader.close()

    def test_a_missing_file_is_named_with_those_that_are_spelled_alike(self) -> None:
        store, path = self.make(), self.put("model.bin", DATA)

        with pytest.raises(SourceNotFoundError) as refused:
            store.open(path.replace("model", "modle"))

        assert os.path.basename(path) in refused.value.known

    def test_a_folder_is_not_read(self) -> None:
        store, path = self.make(), self.put_folder("folder")

        with pytest.raises(UnreadableSourceError, match="it is a folder"):
            store.open(path)

    def test_files_and_folders_are_distinguished_from_what_is_missing(self) -> None:
        store = self.make()
        file, folder = self.put("file", DATA), self.put_folder("folder")

        kinds = [store.kind_of(path) for path in (file, folder, file + "x", "a\0b")]

        assert kinds == ["file", "folder", None, None]

    def test_a_folder_is_listed_with_what_lies_below_it_and_opened_file_by_file(self) -> None:
        store, folder = self.make(), self.put_folder("folder")
        self.put_folder("folder/below")
        for name in ("one", "below/two"):
            self.put(f"folder/{name}", name.encode())

        listing = store.list(folder)

        assert sorted(listing.files) == ["below/two", "one"]
        assert listing.left_out == ()
        for name, listed in listing.files.items():
            reader = store.open(f"{folder}/{name}", listed.fingerprint)
            assert reader.read(0, len(name)) == name.encode()
            reader.close()

    def test_a_file_that_is_closed_is_opened_again(self) -> None:
        reader = self.make().open(self.put("file", DATA))

        reader.close()

        assert reader.read(7, 9) == DATA[7:16]
        reader.close()

    @pytest.mark.parametrize("data", [DATA[1:], b"x" * len(DATA), None])
    def test_a_change_is_found_when_it_is_looked_for_and_when_a_file_is_opened_again(
        self, data: bytes | None
    ) -> None:
        path = self.put("file", DATA)
        reader = self.make().open(path)
        reader.check_unchanged()
        reader.close()

        if data is None:
            self.remove(path)
        else:
            self.put("file", data)

        with pytest.raises(SourceChangedError):
            reader.check_unchanged()
        with pytest.raises(SourceChangedError):
            reader.read(0, 1)

    def test_what_was_located_is_compared_when_its_first_byte_is_read(self) -> None:
        store, path = self.make(), self.put("file", DATA)
        located = store.open(path).fingerprint
        reader = store.open(path, located)
        assert (reader.nbytes, reader.read(0, 4)) == (len(DATA), DATA[:4])
        reader.close()

        self.put("file", b"x" * len(DATA))
        changed = store.open(path, located)  # which opens nothing

        assert changed.nbytes == len(DATA)
        with pytest.raises(SourceChangedError):
            changed.read(0, 4)
        with pytest.raises(SourceChangedError):
            changed.check_unchanged()

    def test_more_files_than_may_be_open_are_read_by_several_threads(self) -> None:
        store = self.make()
        readers = [
            store.open(self.put(f"file{at}", f"{at:08}".encode() * 100))
            for at in range(3 * self.limit)
        ]

        def read(at: int) -> bool:
            at %= len(readers)
            return readers[at].read(8 * (at % 100), 8) == f"{at:08}".encode()

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(read, range(10 * len(readers))))
        for reader in readers:
            reader.close()
