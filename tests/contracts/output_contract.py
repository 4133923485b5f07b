"""What every output does: a class that makes one passes this by inheriting it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from reinit_cli.errors import OutputExistsError
from reinit_cli.storage.destination import Destination
from reinit_cli.storage.local import InputFile
from reinit_cli.storage.writer import Output, Writer
from tests.tools import open_files

DATA = bytes(range(256)) * 3000
ELSEWHERE = Path("elsewhere.json")


def write(writer: Writer, data: bytes, start: int = 0) -> None:
    """Write bytes in pieces, the last piece first where that is possible."""
    pieces = [(at, data[at : at + 100_000]) for at in range(0, len(data), 100_000)]
    for at, piece in reversed(pieces) if writer.is_seekable else pieces:
        writer.write_at(start + at, piece)


class OutputContract:
    """Inherit, make an output, and say what it holds."""

    files: ClassVar[Mapping[str, bytes]] = {"": DATA}
    """What is written, by the name in the output."""

    writes_elsewhere = True
    """Whether it writes files elsewhere too."""

    def make(self) -> Output:
        """Return an output that may be written in this folder."""
        raise NotImplementedError

    def holds(self, files: Mapping[str, bytes]) -> bool:
        """Whether the output has taken exactly these files."""
        raise NotImplementedError

    def _write_all(self, output: Output) -> list[Writer]:
        writers = []
        for name, data in self.files.items():
            writers.append(output.file(name, len(data)))
            write(writers[-1], data)
        return writers

    def test_every_byte_arrives_with_the_commit(self) -> None:
        output = self.make()
        before = len(open_files())
        with output:
            for writer in self._write_all(output):
                writer.close()
            output.commit()

        assert self.holds(self.files)
        assert len(open_files()) == before

    def test_a_commit_closes_every_file(self) -> None:
        with self.make() as output:
            self._write_all(output)
            output.commit()

        assert self.holds(self.files)

    def test_nothing_arrives_without_a_commit(self) -> None:
        output = self.make()
        before = sorted(os.listdir())
        with output:
            writers = self._write_all(output)

        assert sorted(os.listdir()) == before
        assert self.holds({}) or not all(writer.is_seekable for writer in writers)

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
    def test_whatever_fails_leaves_no_file_and_no_descriptor(
        self, error: type[BaseException]
    ) -> None:
        output = self.make()
        before = sorted(os.listdir()), len(open_files())
        with pytest.raises(error), output:
            self._write_all(output)
            output.file_at(Destination(str(ELSEWHERE)), 3).write_at(0, b"new")
            raise error

        assert (sorted(os.listdir()), len(open_files())) == before

    def test_written_bytes_are_read_again_where_they_can_be(self) -> None:
        with self.make() as output:
            writers = self._write_all(output)
            for writer, data in zip(writers, self.files.values(), strict=True):
                if writer.is_seekable:
                    assert writer.read(1000, 5000) == data[1000:6000]

    def test_bytes_are_copied_from_a_file_as_far_as_the_output_can(self) -> None:
        with self.make() as output:
            for name, data in self.files.items():
                Path("source").write_bytes(b"before" + data)
                writer = output.file(name, len(data))
                with InputFile("source") as source:
                    done = 0
                    while count := writer.copy_from(source, 6 + done, done, len(data) - done):
                        done += count
                write(writer, data[done:], done)
            output.commit()
        Path("source").unlink()

        assert self.holds(self.files)

    def test_a_clone_is_the_whole_file_or_nothing(self) -> None:
        with self.make() as output:
            for name, data in self.files.items():
                Path("source").write_bytes(data)
                writer = output.file(name, len(data))
                with InputFile("source") as source:
                    if not writer.clone(source):
                        write(writer, data)
            output.commit()
        Path("source").unlink()

        assert self.holds(self.files)

    def test_a_file_elsewhere_appears_with_the_commit(self) -> None:
        with self.make() as output:
            self._write_all(output)
            output.file_at(Destination(str(ELSEWHERE)), 3).write_at(0, b"new")
            assert not ELSEWHERE.exists()
            output.commit()

        assert ELSEWHERE.exists() == self.writes_elsewhere
        assert not self.writes_elsewhere or ELSEWHERE.read_bytes() == b"new"
        ELSEWHERE.unlink(missing_ok=True)
        assert self.holds(self.files)

    def test_a_file_elsewhere_whose_name_is_taken_leaves_the_output_without_its_name(self) -> None:
        if not self.writes_elsewhere:
            return
        with pytest.raises(OutputExistsError), self.make() as output:
            writers = self._write_all(output)
            output.file_at(Destination(str(ELSEWHERE)), 3)
            ELSEWHERE.write_bytes(b"other")
            output.commit()

        assert ELSEWHERE.read_bytes() == b"other"
        ELSEWHERE.unlink()
        assert self.holds({}) or not all(writer.is_seekable for writer in writers)
