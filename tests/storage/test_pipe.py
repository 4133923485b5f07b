"""Standard output and pipes."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from reinit_cli.errors import SourceChangedError
from reinit_cli.storage.destination import Destination
from reinit_cli.storage.pipe import PipeOutput
from reinit_cli.storage.pipe_end import PipeEnd
from reinit_cli.storage.writer import Output
from tests.contracts.output_contract import OutputContract


class _PipeContract(OutputContract):
    waits: bool

    def make(self) -> Output:
        self.stream = io.BytesIO()
        return PipeOutput(self.stream, waits=self.waits)

    def holds(self, files: Mapping[str, bytes]) -> bool:
        return self.stream.getvalue() == b"".join(files.values()) and os.listdir() == []


class TestPipe(_PipeContract):
    waits = False


class TestPipeThatWaits(_PipeContract):
    waits = True


class _ShortWrites(io.RawIOBase):
    """A stream that takes seven bytes at once, as a pipe under `python -u` may."""

    def __init__(self) -> None:
        self.taken = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        part = memoryview(data)[:7]  # type: ignore[arg-type]
        self.taken += part
        return len(part)


@pytest.mark.parametrize("waits", [False, True])
def test_a_stream_that_takes_a_part_at_once_gets_all(waits: bool) -> None:
    stream = _ShortWrites()

    with PipeOutput(stream, waits=waits) as output:  # type: ignore[arg-type]
        output.file("", 1000).write_at(0, bytes(range(250)) * 4)
        output.commit()

    assert bytes(stream.taken) == bytes(range(250)) * 4


def test_nothing_is_written_of_nothing() -> None:
    stream = _ShortWrites()

    PipeEnd(stream).write(b"")  # type: ignore[arg-type]

    assert stream.taken == b""


def test_a_record_is_whole_before_the_stream_is_sent_and_appears_after_it() -> None:
    class Stream(io.BytesIO):
        def write(self, data: object) -> int:
            seen.append((sorted(os.listdir()), bytes(data)))  # type: ignore[call-overload]
            return super().write(data)  # type: ignore[arg-type]

    seen: list[tuple[list[str], bytes]] = []
    with PipeOutput(Stream(), waits=True) as output:
        output.file("", 3).write_at(0, b"new")
        output.file_at(Destination("record.json"), 2).write_at(0, b"{}")
        assert seen == []
        output.commit()

    assert seen == [([], b"new")]
    assert Path("record.json").read_bytes() == b"{}"


@pytest.mark.parametrize(
    ("waits", "sent", "said"),
    [
        (False, b"new", "standard output has a part"),
        (False, b"", "nothing was written"),
        (True, b"new", "nothing was written"),
    ],
)
def test_a_source_that_changes_is_said_to_leave_what_it_left(
    waits: bool, sent: bytes, said: str
) -> None:
    stream = io.BytesIO()

    with pytest.raises(SourceChangedError) as raised, PipeOutput(stream, waits=waits) as output:
        output.file("", 3).write_at(0, sent)
        raise SourceChangedError("a.pt")

    assert str(raised.value) == f"'a.pt' changed while it was being read; {said}"
    assert bool(stream.getvalue()) == (said != "nothing was written")


def test_a_stream_that_breaks_leaves_no_record() -> None:
    class Broken(io.BytesIO):
        def write(self, *_: object) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError), PipeOutput(Broken(), waits=True) as output:
        output.file("", 3).write_at(0, b"new")
        output.file_at(Destination("record.json"), 2).write_at(0, b"{}")
        output.commit()

    assert os.listdir() == []


def test_what_waits_lies_in_the_folder_for_temporaries(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))

    with pytest.raises(OSError, match=r"cannot write '.*missing': no such file"):
        PipeOutput(io.BytesIO(), waits=True).file("", 3)
