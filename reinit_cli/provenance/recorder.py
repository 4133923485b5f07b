"""Write a provenance record while its output is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Self

from reinit_cli.checkpoints.formats.base import RECORD_NAME
from reinit_cli.checkpoints.source import Contents
from reinit_cli.planning.plan import Plan, Step
from reinit_cli.provenance.digests import (
    FileDigests,
    digest_of_source,
    digests_of,
    filled_digests,
    joined,
    nbytes_of_source,
    ranges_of,
)
from reinit_cli.provenance.record import BLANK, Form, blank_record, drawn_steps, text_of
from reinit_cli.storage.crc32 import crc32
from reinit_cli.storage.segments import Range, Reserved, Segment
from reinit_cli.storage.writer import Output, Writer, put_file

if TYPE_CHECKING:
    from reinit_cli.planning.job import Job


def finished(form: Form, plan: Plan, files: Mapping[str, FileDigests]) -> Form:
    """Return a record with the digests of what was written.

    Args:
        form: the record without them.
        plan: what was done.
        files: the digests of what was written, by path.
    """
    found = filled_digests(files)
    by_key = {step.key: _own(step, found) for step in drawn_steps(plan)}
    _, rest = joined({name: (each.nbytes, each.rest) for name, each in files.items()})
    return {
        **form,
        "filled": [{**row, "sha256": by_key[row["key"]]} for row in form["filled"]],
        "rest": {"sha256": rest},
    }


def _own(step: Step, found: Mapping[str, str]) -> str:
    """Return the digest of a tensor; of a tie it may be known by another key.

    A tensor without elements has no place in a new torch archive.
    """
    digest = next((found[key] for key in (step.key, *step.tied) if key in found), None)
    assert digest is not None or not step.tensor.nbytes
    return digest or hashlib.sha256().hexdigest()


class Recorder:
    """Writes the record of a job where one is asked for."""

    def __init__(self, job: Job, form: Form | None, undigested: Contents | None = None) -> None:
        self._job = job
        self._form = form
        self._undigested = undigested
        self._files: dict[str, FileDigests] = {}
        self._of_source: dict[str, str] = {}

    @classmethod
    def of(cls, job: Job, contents: Contents) -> Self:
        """Digest the source, if there is to be a record.

        Where other processes wait for this one, it is digested when their parts are written.
        """
        if not job.request.record:
            return cls(job, None)
        is_inside = job.request.record is True
        if job.request.is_shared:
            size = nbytes_of_source(job.source, contents)
            return cls(job, blank_record(job, (size, BLANK), is_inside=is_inside), contents)
        digest = digest_of_source(job.source, contents)
        return cls(job, blank_record(job, digest, is_inside=is_inside))

    @property
    def blank(self) -> str:
        """A text as long as the record that the output is to hold; "" for none."""
        is_inside = self._form is not None and self._job.request.record is True
        return text_of(self._form) if is_inside and self._form is not None else ""

    def learn(self, files: Mapping[str, FileDigests], of_source: Mapping[str, str]) -> None:
        """Take over what other processes have digested.

        Args:
            files: files of the output, none of which has room for the record.
            of_source: the digests of files of the source.
        """
        self._files.update(files)
        self._of_source.update(of_source)

    def needs(self, name: str) -> bool:
        """Whether a file of the output is to be sealed."""
        return self._form is not None and name not in self._files

    def seal(
        self,
        name: str,
        segments: Sequence[Segment],
        filled: Mapping[str, tuple[Range, ...]],
        writer: Writer,
    ) -> None:
        """Digest a file that was written, and write the record into the room kept for it.

        Args:
            name: the file's path in the output.
            segments: all of its bytes.
            filled: for each key that is filled in it, its bytes.
            writer: what wrote it.
        """
        if self._form is None:
            return
        if name != RECORD_NAME:
            self._files[name] = digests_of(writer.read, ranges_of(segments, filled))
        if any(isinstance(segment, Reserved) for segment in segments):
            for offset, data in pieces_of(self._text, segments):
                writer.write_at(offset, data)

    def write_extra(self, output: Output) -> None:
        """Write the record to a file of its own, where that is asked for.

        Raises:
            OutputUnwritableError: the disk is full or the folder refuses.
        """
        for place in self._job.destinations[1:]:
            put_file(output, place, f"{self._text}\n".encode())

    @property
    def _text(self) -> str:
        assert self._form is not None
        if self._undigested is not None:
            _, digest = digest_of_source(self._job.source, self._undigested, self._of_source)
            self._form = {**self._form, "source": {**self._form["source"], "sha256": digest}}
            self._undigested = None
        return text_of(finished(self._form, self._job.plan, self._files))


class FixedRecorder:
    """Leaves room for a record that is known, and writes none."""

    def __init__(self, text: str) -> None:
        """Leave room for a text; "" for none."""
        self.blank = text

    def learn(self, files: Mapping[str, FileDigests], of_source: Mapping[str, str]) -> None:
        """Learn nothing: the record is there."""

    def needs(self, name: str) -> bool:
        """Need no file."""
        del name
        return False

    def seal(
        self,
        name: str,
        segments: Sequence[Segment],
        filled: Mapping[str, tuple[Range, ...]],
        writer: Writer,
    ) -> None:
        """Write nothing: the record is there."""

    def write_extra(self, output: Output) -> None:
        """Write nothing: the record is there."""


def recorder_of(job: Job, contents: Contents) -> Recorder | FixedRecorder:
    """Return what writes the record of a job; of several processes, the first does."""
    recorder = Recorder.of(job, contents)
    return FixedRecorder(recorder.blank) if job.request.rank else recorder


def pieces_of(text: str, segments: Iterable[Segment]) -> Iterator[tuple[int, bytes]]:
    """Yield what is written into the room that segments keep for a record, and where."""
    offset = 0
    for segment in segments:
        if isinstance(segment, Reserved):
            data = text.encode()
            if segment.holds == "json":
                data = json.dumps(text, ensure_ascii=False)[1:-1].encode()
            elif segment.holds == "crc":
                data = crc32(data).to_bytes(4, "little")
            assert len(data) == segment.nbytes
            yield offset, data
        offset += segment.nbytes
