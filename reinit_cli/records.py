"""What made a checkpoint: written beside its tensors, or in a file, so that it can be verified.

A record is one line of JSON. It holds no time, path or host, so that the same command gives
the same bytes. Its digests are SHA-256s in hexadecimal:

    source.sha256   of the SHA-256s of the source's pieces of 4 MiB; of a folder, of the lines
                    "NAME NBYTES DIGEST" of its files by name; of a model, of its tensors
    filled[].sha256 of the bytes from a tensor's first element to its last
    rest.sha256     of the SHA-256s of the output's pieces, without what was filled and
                    without the record itself; of a folder as above
    sha256          of the record, with 64 zeros in this place
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Self

from reinit_cli import __version__
from reinit_cli.digests import crc32
from reinit_cli.errors import RecordError
from reinit_cli.formats import safetensors, torch_zip
from reinit_cli.formats.located import MAX_RECORD_NBYTES, Recorded
from reinit_cli.hashing import Read, sha256_of, sha256_of_pieces
from reinit_cli.inputs import InputFile
from reinit_cli.output import Destination, OutputFile, Sink
from reinit_cli.planning import Plan, Step
from reinit_cli.reading import bytes_at
from reinit_cli.resizing import resizes_of
from reinit_cli.seeds import STREAM
from reinit_cli.segments import Fill, Range, Reserved, Segment
from reinit_cli.sources import RECORD_FILE, Contents, Source, find_source

if TYPE_CHECKING:
    from reinit_cli.jobs import Job, Request

VERSION = 1

BLANK = "0" * 64
"""What stands for a digest that is not known yet."""

# --- the form --------------------------------------------------------------------------------


def options_form(request: Request, plan: Plan) -> dict[str, Any]:
    """Return the options of a rewrite, as recipes, plans and records have them."""
    options = plan.options
    return {
        "seed": options.seed,
        "device": options.device,
        "strict": options.strict,
        "allow_unmatched": options.allow_unmatched,
        "dtype": request.dtype,
        "shard_size": request.shard_nbytes,
        "drop_non_tensors": request.drop_non_tensors,
        "refuse_unknown_globals": request.refuse_unknown_globals,
        "verify_crc": request.verify_crc,
        "arch": request.arch if isinstance(request.arch, str) else None,
        "resize": [each.text for each in resizes_of(request.resize)],
        "num_classes": request.num_classes,
        "with_buffers": options.with_buffers,
        "untie": options.untie,
        "reset_optimizer": options.reset_optimizer,
    }


def blank_record(
    request: Request, plan: Plan, source: Source, digest: tuple[int, str], *, is_inside: bool
) -> Form:
    """Return a record without the digests of what is written: it is as long as it will be.

    Args:
        request: what was asked for.
        plan: what was decided.
        source: what is read.
        digest: the size and the digest of the source.
        is_inside: whether the record is kept in the output; else it has a row per tensor.
    """
    weights = source.weights and os.path.basename(source.weights)
    located = source.located
    return {
        "version": VERSION,
        "reinit": __version__,
        "torch": torch_version(),
        "stream": STREAM,
        **options_form(request, plan),
        "record": is_inside,
        "source": {
            "name": os.path.basename(source.name.rstrip(os.sep)),
            "weights": weights,
            "format": located.format if located else None,
            "root": located.root if located else None,
            "nbytes": digest[0],
            "sha256": digest[1],
        },
        "rule": [rule.serial() for rule in plan.rules[plan.implied :]],
        "filled": [_filled_form(step, plan) for step in drawn_steps(plan)],
        **({} if is_inside else {"tensors": [_tensor_form(step) for step in plan.steps]}),
        "rest": {"sha256": BLANK},
        "sha256": BLANK,
    }


Form = dict[str, Any]


def torch_version() -> str:
    """Return torch's version, without the name of its build."""
    import torch

    return torch.__version__.partition("+")[0]


def drawn_steps(plan: Plan) -> Iterator[Step]:
    """Return the steps of all keys of which something is drawn, those beside the state dict last."""
    return (step for step in (*plan.steps, *plan.beside) if step.law is not None)


def _filled_form(step: Step, plan: Plan) -> Form:
    form: Form = {"key": step.key, "init": plan.init_of(step), "sha256": BLANK}
    if step.seed_key != step.key:
        form["seed_key"] = step.seed_key
    if step.kept_rows:
        form["from_row"] = step.kept_rows
    return form


def _tensor_form(step: Step) -> Form:
    return {
        "key": step.key,
        "shape": step.tensor.shape,
        "dtype": step.tensor.dtype,
        "nbytes": step.tensor.nbytes,
        "action": step.action,
        "seed": step.seed if step.law is not None and step.law.is_random else None,
    }


def text_of(form: Mapping[str, Any]) -> str:
    """Return a record as it is written, with its own digest in it."""
    blank = _dumps({**form, "sha256": BLANK})
    return _dumps({**form, "sha256": hashlib.sha256(blank.encode()).hexdigest()})


def _dumps(form: Mapping[str, Any]) -> str:
    return json.dumps(form, separators=(",", ":"), allow_nan=False)


def is_whole(form: Mapping[str, Any], text: str) -> bool:
    """Whether a record is, to the last byte, the one that was written with its digest."""
    return text_of(form) == text


# --- digests ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ranges:
    """What of a file was filled, and what is its record.

    Attributes:
        nbytes: its size.
        filled: for each key that has bytes in it, which.
        reserved: the bytes of the record.
    """

    nbytes: int
    filled: Mapping[str, Range]
    reserved: tuple[Range, ...] = ()


def ranges_of(segments: Sequence[Segment]) -> Ranges:
    """Return the ranges of a file that is made of segments."""
    filled: dict[str, Range] = {}
    reserved = []
    reached = 0
    for segment in segments:
        place = reached, reached + segment.nbytes
        if isinstance(segment, Fill):
            filled[segment.step.key] = place
        elif isinstance(segment, Reserved):
            reserved.append(place)
        reached += segment.nbytes
    return Ranges(reached, filled, tuple(reserved))


@dataclass(frozen=True, slots=True)
class FileDigests:
    """The digests of one file.

    Attributes:
        nbytes: its size.
        filled: for each key that was filled in it.
        rest: of all else.
    """

    nbytes: int
    filled: Mapping[str, str]
    rest: str


def digests_of(read: Read, ranges: Ranges) -> FileDigests:
    """Digest a file.

    Args:
        read: gives its bytes.
        ranges: what is left out of the rest.
    """
    filled = dict(zip(ranges.filled, sha256_of(read, list(ranges.filled.values())), strict=True))
    without = (*ranges.filled.values(), *ranges.reserved)
    return FileDigests(ranges.nbytes, filled, sha256_of_pieces(read, ranges.nbytes, without))


def joined(files: Mapping[str, tuple[int, str]]) -> tuple[int, str]:
    """Return the size and the digest of files together; of a lone one its own.

    Args:
        files: size and digest of each, by its path.
    """
    if list(files) == [""]:
        return files[""]
    lines = [f"{name} {nbytes} {digest}\n" for name, (nbytes, digest) in sorted(files.items())]
    whole = hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()
    return sum(nbytes for nbytes, _ in files.values()), whole


def digest_of_source(source: Source, contents: Contents) -> tuple[int, str]:
    """Return the size and the digest of what is read."""
    files = contents.files()
    if files:
        return joined(
            {
                name: (file.nbytes, sha256_of_pieces(file.read, file.nbytes))
                for name, file in files.items()
            }
        )
    whole = hashlib.sha256()
    nbytes = 0
    for tensor in source.tensors:
        whole.update(f"{tensor.key} {tensor.dtype} {tensor.shape}\n".encode())
        if not tensor.carried:
            view = contents.view(tensor)
            whole.update(bytes_at(view.place))
            nbytes += view.place.nbytes
    return nbytes, whole.hexdigest()


def finished(form: Form, plan: Plan, files: Mapping[str, FileDigests]) -> Form:
    """Return a record with the digests of what was written.

    Args:
        form: the record without them.
        plan: what was done.
        files: the digests of what was written, by path.
    """
    found = {key: digest for each in files.values() for key, digest in each.filled.items()}
    by_key = {step.key: _own(step, found) for step in drawn_steps(plan)}
    _, rest = joined({name: (each.nbytes, each.rest) for name, each in files.items()})
    return {
        **form,
        "filled": [{**row, "sha256": by_key[row["key"]]} for row in form["filled"]],
        "rest": {"sha256": rest},
    }


def _own(step: Step, found: Mapping[str, str]) -> str:
    """Return the digest of a tensor; of a tie it may be told under another key.

    A tensor without elements has no place in a torch archive that is laid out anew.
    """
    told = next((found[key] for key in (step.key, *step.tied) if key in found), None)
    assert told is not None or not step.tensor.nbytes
    return told or hashlib.sha256().hexdigest()


# --- written ---------------------------------------------------------------------------------


class Recorder:
    """Writes the record of a job where one is asked for."""

    def __init__(self, job: Job, form: Form | None) -> None:
        self._job = job
        self._form = form
        self._files: dict[str, FileDigests] = {}

    @classmethod
    def of(cls, job: Job, contents: Contents) -> Self:
        """Digest the source, if there is to be a record."""
        if job.request.record is None:
            return cls(job, None)
        digest = digest_of_source(job.source, contents)
        is_inside = job.request.record == ""
        return cls(
            job, blank_record(job.request, job.plan, job.source, digest, is_inside=is_inside)
        )

    @property
    def blank(self) -> str:
        """A text as long as the record that the output is to hold; "" for none."""
        is_inside = self._form is not None and self._job.request.record == ""
        return text_of(self._form) if is_inside and self._form is not None else ""

    def seal(self, name: str, segments: Sequence[Segment], sink: Sink) -> None:
        """Digest a file that was written, and write the record into the room kept for it."""
        if self._form is None:
            return
        if name != RECORD_FILE:
            self._files[name] = digests_of(sink.read, ranges_of(segments))
        if any(isinstance(segment, Reserved) for segment in segments):
            for offset, data in pieces_of(self._text, segments):
                sink.write_at(offset, data)

    def write_beside(self) -> None:
        """Write the record to a file of its own, where that is asked for.

        Raises:
            OutputUnwritableError: the disk is full or the folder refuses.
        """
        if self._job.request.record:
            data = f"{self._text}\n".encode()
            place = Destination(self._job.request.record, self._job.request.force)
            with OutputFile(place, len(data)) as file:
                file.write_at(0, data)
                file.commit()

    @property
    def _text(self) -> str:
        assert self._form is not None
        return text_of(finished(self._form, self._job.plan, self._files))


class FixedRecorder:
    """Leaves room for a record that is known, and writes none."""

    def __init__(self, text: str) -> None:
        """Leave room for a text; "" for none."""
        self.blank = text

    def seal(self, name: str, segments: Sequence[Segment], sink: Sink) -> None:
        """The record is there."""

    def write_beside(self) -> None:
        """The record is there."""


# --- in a file -------------------------------------------------------------------------------


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


def find_record(source: Source, contents: Contents) -> Mapping[str, Recorded]:
    """Return the record that a source holds of its making, by the file that holds it; or none.

    Raises:
        MalformedFileError: it is not as it was written.
        RecordError: it is too large.
    """
    located, files = source.located, contents.files()
    if located is None:
        return {}
    if source.is_folder:
        file = files.get(RECORD_FILE)
        if file is None:
            return {}
        text = text_of_file(file)
        return {RECORD_FILE: Recorded(text, ((0, file.nbytes),))}
    found = None
    if located.format == "safetensors":
        found = safetensors.find_record(files[""], located)
    elif isinstance(located.layout, torch_zip.ZipLayout):
        found = torch_zip.find_record(files[""], located.layout)
    return {"": found} if found is not None else {}


def record_in(path: str) -> str | None:
    """Return the record that a checkpoint holds, or None.

    Raises:
        ReinitError: it cannot be read.
    """
    source = find_source(path)
    with source.open(0) as contents:
        return next((each.text for each in find_record(source, contents).values()), None)


def text_of_file(file: InputFile) -> str:
    """Return the text of a file that is a record.

    Raises:
        RecordError: it is too large.
    """
    if file.nbytes > MAX_RECORD_NBYTES:
        raise RecordError(file.path, "it is too large for a record")
    return file.read(0, file.nbytes).decode(errors="replace")


def parse_record(text: str, path: str) -> Form:
    """Read a record.

    Args:
        text: the record.
        path: where it is from, for messages.

    Raises:
        RecordError: it is none.
    """
    try:
        form = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RecordError(path, f"its record is no JSON: {error}") from error
    if not isinstance(form, dict) or "filled" not in form:
        raise RecordError(path, "it holds no record")
    if form.get("version") != VERSION or form.get("stream") != STREAM:
        problem = f"its record is of version {form.get('version')!r}, stream {form.get('stream')!r}"
        raise RecordError(path, problem)
    wrong = next(_wrong(form, "", _MEMBERS), None)
    if wrong is not None:
        raise RecordError(path, f"its record has no {wrong}")
    for row in form["filled"]:
        wrong = next(_wrong(row, "filled.", _MEMBERS_OF_FILLED), None)
        if wrong is not None:
            raise RecordError(path, f"its record has no {wrong}")
    return form


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


_Kinds = Mapping[str, type | tuple[type, ...]]

_MEMBERS: _Kinds = {
    "seed": int,
    "device": str,
    "source": dict,
    "source.name": str,
    "source.nbytes": int,
    "source.sha256": str,
    "source.root": (str, type(None)),
    "source.weights": (str, type(None)),
    "arch": (str, type(None)),
    "record": bool,
    "rule": list,
    "filled": list,
    "rest": dict,
    "rest.sha256": str,
    "sha256": str,
}

_MEMBERS_OF_FILLED: _Kinds = {"key": str, "init": str, "sha256": str}


def _wrong(form: Any, prefix: str, members: _Kinds) -> Iterator[str]:
    """Yield the members of a record that are missing or of another kind."""
    for name, kind in members.items():
        value: Any = form
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        is_number = kind is int and isinstance(value, bool)
        if not isinstance(form, dict) or not isinstance(value, kind) or is_number:
            yield f"{prefix}{name}"
