"""Files that are fetched hear beforehand what is copied out of them, and are read in that order."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from reinit_cli.execution.engine import write_together
from reinit_cli.storage.destination import Destination
from reinit_cli.storage.local import InputFile
from reinit_cli.storage.local_output import LocalOutput
from reinit_cli.storage.segments import Check, Copy, Literal, Segment
from reinit_cli.threads import unwatched

DATA = bytes(range(256)) * 4000


class _Far(InputFile):
    """A file without a descriptor to lend, which notes what it hears and what is read."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.heard: list[tuple[int, int]] = []
        self.read_at: list[int] = []
        self.threads: set[int] = set()

    def will_read(self, ranges: Iterable[tuple[int, int]]) -> None:
        assert not self.read_at
        self.heard += ranges

    def read_into(self, buffer: memoryview, offset: int) -> None:
        self.read_at.append(offset)
        self.threads.add(threading.get_ident())
        buffer[:] = DATA[offset : offset + len(buffer)]

    def descriptor(self) -> AbstractContextManager[int | None]:  # type: ignore[override]
        return nullcontext()


def _write(files: Mapping[str, list[Segment]]) -> None:
    with LocalOutput(Destination("out")) as output:
        writers = {
            name: output.file(name, sum(each.nbytes for each in segments))
            for name, segments in files.items()
        }
        write_together(files, writers, "cpu", unwatched)
        output.commit()


@pytest.fixture
def far() -> _Far:
    Path("far").write_bytes(DATA)
    return _Far("far")


def test_a_file_hears_what_is_copied_and_nothing_of_what_is_written_instead(far: _Far) -> None:
    _write(
        {
            "": [
                Copy(far, 0, 1000),
                Copy(far, 1000, 500_000),
                Literal(b"x" * 100_000),
                Copy(far, 601_000, 2000),
                Check(far, 700_000, 1000, 0, "checked"),
                Copy(far, 900_000, 0),
            ]
        }
    )

    assert far.heard == [(0, 501_000), (601_000, 603_000), (700_000, 701_000)]
    assert Path("out").read_bytes() == DATA[:501_000] + b"x" * 100_000 + DATA[601_000:603_000]


def test_a_file_is_read_by_one_thread_in_the_order_that_it_heard(far: _Far) -> None:
    _write({"": [Copy(far, at, 10_000) for at in range(0, 1_000_000, 20_000)]})

    assert far.read_at == sorted(far.read_at)
    assert len(far.threads) == 1


def test_files_that_are_written_together_are_heard_of_in_the_order_of_the_files(far: _Far) -> None:
    _write({"a": [Copy(far, 500, 1000)], "b": [Copy(far, 0, 100), Copy(far, 9000, 100)]})

    assert far.heard == [(500, 1500), (0, 100), (9000, 9100)]
