"""Locate the tensors of folders of torch.distributed.checkpoint, and rewrite such folders.

    .metadata                   a pickle: each tensor's boxes, and their places (`metadata.py`)
    __{rank}_{number}.distcp    pieces end to end, each what torch.save writes for it alone

A process writes the boxes that it has, so that a tensor lies in as many files. No path in
`.metadata` leaves the folder, and it is never changed.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NoReturn

from reinit_cli.checkpoints.formats.base import (
    RECORD_NAME,
    Content,
    Edits,
    FileEdits,
    Files,
    Located,
    Recorded,
    Shortfall,
    Supply,
    spliced,
    whole,
)
from reinit_cli.checkpoints.formats.dcp.boxes import fault_of_chunks, overlap_of
from reinit_cli.checkpoints.formats.dcp.edges import gather_edges
from reinit_cli.checkpoints.formats.dcp.glance import METADATA_NAME, ByNames
from reinit_cli.checkpoints.formats.dcp.metadata import Metadata, Piece, Stored, read_metadata
from reinit_cli.checkpoints.formats.dcp.new.folder import created, refused
from reinit_cli.checkpoints.formats.dcp.numbers import ObjectNumbers
from reinit_cli.checkpoints.formats.dcp.objects import objects_of
from reinit_cli.checkpoints.formats.dcp.places import Boxes, Places, sizes_of, start_of_safetensors
from reinit_cli.checkpoints.formats.dcp.slices import Archive
from reinit_cli.checkpoints.formats.dcp.tree import tree_of
from reinit_cli.checkpoints.formats.folder_record import record_of_folder, recorded_in_folder
from reinit_cli.checkpoints.formats.outline import Part
from reinit_cli.checkpoints.formats.torch.contents.outline import outline_of
from reinit_cli.checkpoints.formats.torch.contents.state_dict import Contents, contents_of
from reinit_cli.checkpoints.formats.torch.pickles.budget import Budget
from reinit_cli.checkpoints.formats.torch.pickles.records import Pickle
from reinit_cli.errors import MalformedFileError, SourceNotFoundError, UnsupportedFormatError
from reinit_cli.lazy import dataclass
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.segments import Check, Copy, Segment
from reinit_cli.tensors.dtype import has_itemsize
from reinit_cli.tensors.info import TensorInfo

_WORK = 40_000_000
"""The opcodes that take as long as the way through what the most pieces make up."""

_NBYTES = 600 * 10**6


@dataclass(frozen=True, slots=True)
class _Pieces:
    """What the format needs to rewrite a folder.

    Attributes:
        of_file: the pieces of each file, in its order.
        stored: the tensors by their keys.
    """

    of_file: Mapping[str, tuple[Piece, ...]]
    stored: Mapping[str, Stored]


class Dcp(ByNames):
    """The format of `torch.distributed.checkpoint`."""

    def locate(self, files: Files, root: str | None = None) -> Located:
        """Find the tensors of a folder.

        Args:
            files: its files.
            root: the path of the state dict in what was saved; None to look for it.

        Raises:
            SourceError: `.metadata` is not there or not valid, or what it says is not there.
        """
        if files.index:
            path = os.path.join(files.path, files.index)
            if files.index not in {*files.readers, *files.left_out}:
                raise SourceNotFoundError(path, known=files.readers)
            problem = "is a part of a DCP folder; name the folder"
            raise UnsupportedFormatError(path, problem, (files.path,), kind="several")
        file = _metadata_of(files)
        metadata = read_metadata(file)
        of_file = _pieces_of_files(metadata, files)
        for stored in metadata.tensors.values():
            _check_boxes(stored, file.path)
        objects = objects_of(metadata.objects.values(), files, files.path)
        tree = tree_of(metadata, objects.records, file.path)
        numbers = ObjectNumbers.of(files.path, metadata, objects.records)
        names = tuple(metadata.paths)
        metadata = replace(metadata, paths={})  # as large as the keys, which are in the tree
        found = contents_of(Pickle(tree, file.nbytes, (), ()), _budget(files), root)
        order = _order_of(found.tensors, names) if found.optimizers else ()
        pieces = _Pieces(of_file, _by_key(found, metadata))
        places = Places(pieces.stored, files)
        own = {METADATA_NAME, *of_file}
        record = [RECORD_NAME] if _has_record(files) else []
        taken = {*own, *record, *files.outside}
        others = tuple(name for name in files.readers if name not in taken)
        return Located(
            self.name,
            tuple(_of_folder(each, metadata) for each in found.tensors),
            places,
            framework="pt",
            root=found.root,
            outside=tuple(_of_folder(each, metadata) for each in found.outside),
            rest=tuple(found.rest),
            unknown_names=tuple(dict.fromkeys((*metadata.unknown_names, *objects.unknown_names))),
            notes=tuple(found.notes),
            optimizers=tuple(replace(each, order=order) for each in found.optimizers),
            neighbors=tuple(found.neighbors),
            has_record=bool(record),
            files=(METADATA_NAME, *of_file, *others, *record),
            others=others,
            unreachable=tuple(sorted({*files.left_out, *files.outside} - own)),
            renumber=numbers if found.optimizers else None,
            parts=tuple(of_file),
            facts=_facts(metadata),
            pieces=Boxes(pieces.stored),
            look=places.carried,
            own=pieces,
        )

    def outline(self, files: Files, located: Located | None) -> tuple[Part, ...]:
        """Return what was saved, the whole first; objects as their pickles describe them.

        Raises:
            SourceError: `.metadata` is not there or not valid, or what it says is not there.
        """
        file = _metadata_of(files)
        metadata = read_metadata(file)
        objects = objects_of(metadata.objects.values(), files, files.path, whole=True)
        tree = tree_of(metadata, objects.records, file.path)
        return outline_of(tree, _budget(files), located)

    def checks(self, located: Located, files: Files) -> list[Check]:
        """Return a check of every piece of the state dict's tensors."""
        stored = _pieces(located).stored
        for name, pieces in _pieces(located).of_file.items():
            gather_edges(files[name], pieces)
        return [
            check
            for tensor in located.tensors
            if tensor.key in stored
            for piece in stored[tensor.key].pieces
            if _is_archive_with_elements(piece)
            if start_of_safetensors((piece,), files[piece.file]) is None
            for check in Archive(files[piece.file], piece).checks()
        ]

    def rewritten(
        self, located: Located, files: Files, edits: Edits, record: str = ""
    ) -> Mapping[str, list[Segment]]:
        """Return the files with some bytes replaced, the others as they are, and a record."""
        of_file = _pieces(located).of_file
        parts = {
            name: _rewritten(files[name], pieces, edits.get(name, {}))
            for name, pieces in of_file.items()
        }
        others = {name: whole(files[name]) for name in located.others}
        metadata = {METADATA_NAME: whole(files[METADATA_NAME])}
        return {**metadata, **parts, **others, **record_of_folder(record)}

    def recorded(self, located: Located, files: Files) -> Mapping[str, Recorded]:
        """Return the record that is a file of the folder.

        Raises:
            RecordError: it is too large.
        """
        return recorded_in_folder(located, files)

    def refuses(self, content: Content) -> Shortfall:
        """Return what a new folder cannot hold."""
        return refused(content)

    def created(self, content: Content, supply: Supply) -> Mapping[str, list[Segment]]:
        """Return the segments of the files that one rank would write."""
        return created(content, supply)


def _pieces(located: Located) -> _Pieces:
    assert isinstance(located.own, _Pieces)
    return located.own


def _budget(files: Files) -> Budget:
    return Budget(files.path, _WORK, _NBYTES)


def _facts(metadata: Metadata) -> dict[str, str]:
    """Return what `.metadata` says of the folder itself."""
    names = [*metadata.objects]
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    facts = {
        "DCP version": metadata.version,
        "written to": metadata.written_to,
        "objects": ", ".join(names[:_MOST_NAMED]) + more,
    }
    return {name: text for name, text in facts.items() if text}


_MOST_NAMED = 20
"""The objects that are named: there may be one for each parameter's learning rate."""


def _metadata_of(files: Files) -> Reader:
    """Return the reader of `.metadata`.

    Raises:
        MalformedFileError, UnreadableSourceError: there is none, or it is not a file.
    """
    if METADATA_NAME in files.left_out:
        raise files.dead(METADATA_NAME)
    problem = f"its save did not finish: there is no {METADATA_NAME}"
    if METADATA_NAME in files.outside:
        problem = f"{METADATA_NAME} is a link out of the folder"
    elif METADATA_NAME in files.readers:
        return files[METADATA_NAME]
    elif any(name.endswith(METADATA_NAME) and "/" not in name for name in files.readers):
        each = "each rank has its own metadata (use_collectives=False)"
        problem = f"{each}, which cannot be put together"
    return _refuse(files.path, problem)


def _has_record(files: Files) -> bool:
    return RECORD_NAME in files.readers and RECORD_NAME not in files.outside


def _by_key(found: Contents, metadata: Metadata) -> dict[str, Stored]:
    """Return the tensors of a folder by the keys that they have here."""
    return {
        each.key: metadata.tensors[str(each.storage)]
        for each in (*found.tensors, *found.outside)
        if each.storage is not None
    }


def _order_of(tensors: Sequence[TensorInfo], names: Iterable[str]) -> tuple[str, ...]:
    """Return the keys of tensors in the order of the state dict, which the names of its leaves have.

    `.metadata` has the tensors themselves rank by rank, each with the first that saved it.
    """
    keys = {each.storage: each.key for each in tensors if each.storage is not None}
    return tuple(keys[fqn] for fqn in names if fqn in keys)


def _refuse(path: str, problem: str) -> NoReturn:
    raise MalformedFileError(path, problem, "DCP folder")


def _pieces_of_files(metadata: Metadata, files: Files) -> dict[str, tuple[Piece, ...]]:
    """Return the pieces of each file in order, after a look at their bounds.

    Raises:
        MalformedFileError: one is not there or leads out of the folder, or pieces lie outside
            it or overlap.
    """
    found: dict[str, list[Piece]] = {}
    for piece in metadata.pieces:
        found.setdefault(piece.file, []).append(piece)
    for name in found:
        is_own = name in files.readers and name not in files.outside
        if os.path.isabs(name) or ".." in name.split("/") or (name in files.outside):
            _refuse(files.path, f"{found[name][0].called} lies in {name!r}, out of the folder")
        if not is_own:
            _refuse(files.path, f"{found[name][0].called} lies in {name!r}, which is not there")
    return {name: _in_order(files[name], pieces) for name, pieces in sorted(found.items())}


def _in_order(file: Reader, pieces: list[Piece]) -> tuple[Piece, ...]:
    """Return the pieces of a file in its order."""
    pieces.sort(key=_offset)
    last = max(pieces, key=_end)
    if _end(last) > file.nbytes:
        problem = f"{last.called} ends at byte {_end(last):,}, and the file at {file.nbytes:,}"
        _refuse(file.path, problem)
    at = overlap_of([(piece.offset, _end(piece)) for piece in pieces])
    if at is not None and not _are_in_safetensors(pieces, file):
        _refuse(file.path, f"{pieces[at].called} overlaps {pieces[at - 1].called}")
    return tuple(pieces)


def _are_in_safetensors(pieces: Sequence[Piece], file: Reader) -> bool:
    """Whether the pieces of a file are objects and, after them, one file of safetensors."""
    start = start_of_safetensors(pieces, file)
    if start is None:
        return False
    objects = [piece for piece in pieces if piece.chunk is None]
    names = {piece.fqn for piece in pieces if piece.chunk is not None}
    # Of two pieces of one tensor the file has the last alone: torch calls both by its name.
    has_all = len(names) + len(objects) == len(pieces)
    spans = [*((piece.offset, _end(piece)) for piece in objects), (start, file.nbytes)]
    return has_all and overlap_of(spans) is None


def _offset(piece: Piece) -> int:
    return piece.offset


def _end(piece: Piece) -> int:
    return piece.offset + piece.nbytes


def _check_boxes(stored: Stored, path: str) -> None:
    """Refuse boxes that do not make up a tensor."""
    chunks = [piece.chunk for piece in stored.pieces if piece.chunk is not None]
    fault = fault_of_chunks(stored.fqn, chunks, stored.shape)
    if fault:
        raise MalformedFileError(path, fault, "DCP metadata")


def _of_folder(tensor: TensorInfo, metadata: Metadata) -> TensorInfo:
    """Return a tensor as it is in the folder, where a compressed or quantized one is carried."""
    if not tensor.carried and not has_itemsize(tensor.dtype):  # torch quantizes to such dtypes
        return replace(tensor, carried=f"a quantized tensor ({tensor.dtype})")
    stored = metadata.tensors.get(str(tensor.storage)) if tensor.storage is not None else None
    transforms = [piece.transforms for piece in stored.pieces if piece.transforms] if stored else []
    if not transforms or tensor.carried:
        return tensor
    return replace(tensor, carried=f"compressed ({', '.join(transforms[0])})")


def _is_archive_with_elements(piece: Piece) -> bool:
    return not piece.transforms and 0 not in sizes_of(piece)


def _rewritten(file: Reader, pieces: Sequence[Piece], edits: FileEdits) -> list[Segment]:
    """Return a file with some bytes of its pieces replaced, and everything else checked."""
    gather_edges(file, pieces)
    start = start_of_safetensors(pieces, file)
    segments: list[Segment] = []
    waiting = sorted(edits, reverse=True)
    reached = 0
    for piece in pieces if start is None else _edited_objects(pieces, start, edits):
        own: dict[int, Segment] = {}
        while waiting and waiting[-1] < _end(piece):
            at = waiting.pop()
            own[at] = edits[at]
        if own:
            if piece.offset > reached:
                segments.append(Copy(file, reached, piece.offset - reached))
            segments += Archive(file, piece).patched(own, len(segments))
            reached = _end(piece)
        elif not piece.transforms:
            for check in Archive(file, piece).checks():
                segments += _checked(file, reached, check)
                reached = check.offset + check.length
    assert start is not None or not waiting
    return [*segments, *spliced(file, reached, file.nbytes, {at: edits[at] for at in waiting})]


def _edited_objects(pieces: Sequence[Piece], start: int, edits: FileEdits) -> Iterator[Piece]:
    """Yield the objects with edits, which come before tensors that are in safetensors."""
    offsets = sorted(edits)
    for piece in pieces:
        if piece.chunk is None and _end(piece) <= start:
            at = bisect_left(offsets, piece.offset)
            if at < len(offsets) and offsets[at] < _end(piece):
                yield piece


def _checked(file: Reader, reached: int, check: Check) -> Iterator[Segment]:
    """Yield a copy up to what is checked, and one of that."""
    yield Copy(file, reached, check.offset - reached)
    yield Copy(file, check.offset, check.length, check)
