"""Read a checkpoint that is a folder of files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from reinit_cli.checkpoints.file import FileSource, file_source
from reinit_cli.checkpoints.formats.base import Located
from reinit_cli.checkpoints.formats.hugging_face import Shards, check_keys, find_shards
from reinit_cli.checkpoints.source import RECORD_FILE, Contents, empty_state
from reinit_cli.execution.fill import Fill
from reinit_cli.storage.local import InputFile
from reinit_cli.storage.location import SourceName
from reinit_cli.storage.segments import Check, Copy, Reserved, Segment, View
from reinit_cli.tensors.info import TensorInfo


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A folder whose files hold the weights together.

    Attributes:
        name: what people call it.
        shards: which files it has.
        parts: the files of weights, by their names.
        located: what they hold together.
    """

    name: str
    shards: Shards
    parts: Mapping[str, FileSource]
    located: Located
    weights = None
    architecture = None
    is_folder = True

    @property
    def path(self) -> str:
        """The folder."""
        return self.shards.folder

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """Its tensors, in the order of the files."""
        return self.located.tensors

    @property
    def metadata(self) -> Mapping[str, str]:
        """The metadata of its files."""
        return self.located.metadata

    @property
    def called(self) -> SourceName:
        """Those of the folder, whose dots start no suffix."""
        path = self.path.rstrip(os.sep)
        is_name = os.path.basename(path) not in ("", ".", "..")
        return SourceName(*os.path.split(path if is_name else os.path.abspath(self.path)), "")

    @contextmanager
    def open(self, seed: int) -> Iterator[Contents]:
        """Open all its files."""
        with ExitStack() as stack:
            opened = {
                name: stack.enter_context(part.open(seed)) for name, part in self.parts.items()
            }
            index = self.shards.index
            beside = {
                name: stack.enter_context(InputFile(os.path.join(self.path, name)))
                for name in (*((index,) if index is not None else ()), *self.shards.others)
            }
            of = {tensor.key: name for name, part in self.parts.items() for tensor in part.tensors}
            yield _FolderContents(opened, beside, of, index)


@dataclass(frozen=True, slots=True)
class _FolderContents:
    parts: Mapping[str, Contents]
    others: Mapping[str, InputFile]
    of: Mapping[str, str]
    index: str | None

    def view(self, tensor: TensorInfo) -> View:
        return self.parts[self.of[tensor.key]].view(tensor)

    def files(self) -> Mapping[str, InputFile]:
        parts = {name: part.files()[""] for name, part in self.parts.items()}
        return {**parts, **self.others}

    def rewritten(
        self, fills: Mapping[str, Fill], record: str = ""
    ) -> Mapping[str, list[Segment]] | None:
        files: dict[str, list[Segment]] = {}
        for name, part in self.parts.items():
            here = {key: fill for key, fill in fills.items() if self.of[key] == name}
            files[name] = (part.rewritten(here) or {})[""]
        if self.index is not None:
            files[self.index] = _whole(self.others[self.index])
        own: dict[str, list[Segment]] = (
            {RECORD_FILE: [Reserved(len(record), "text")]} if record else {}
        )
        return {**files, **self.beside(), **own}

    def beside(self) -> Mapping[str, list[Segment]]:
        left_out = (self.index, RECORD_FILE)
        return {name: _whole(file) for name, file in self.others.items() if name not in left_out}

    def checks(self) -> list[Check]:
        return [check for part in self.parts.values() for check in part.checks()]

    def state_dict(self, tensors: Sequence[TensorInfo]) -> Mapping[str, Any]:
        return empty_state(tensors)

    def check_unchanged(self) -> None:
        for part in self.parts.values():
            part.check_unchanged()
        for file in self.others.values():
            file.check_unchanged()


def _whole(file: InputFile) -> list[Segment]:
    return [Copy(file, 0, file.nbytes)]


def folder_source(path: str, root: str | None) -> FolderSource:
    """Return a folder as a source, the tensors of all its files located."""
    shards = find_shards(path)
    paths = {name: os.path.join(shards.folder, name) for name in shards.files}
    parts = {name: file_source(paths[name], paths[name], root) for name in shards.files}
    keys = {name: tuple(tensor.key for tensor in part.tensors) for name, part in parts.items()}
    check_keys(shards, keys)
    return FolderSource(path, shards, parts, _together(shards, parts))


def _together(shards: Shards, parts: Mapping[str, FileSource]) -> Located:
    """Return what the files of a folder hold together; storages stay apart."""
    found = [(name, part.located) for name, part in parts.items()]
    metadata: dict[str, str] = {}
    for _, located in found:
        metadata |= located.metadata
    notes = tuple(note for _, located in found for note in located.notes)
    if shards.left_out:
        notes += (f"not copied from {shards.folder!r}: {', '.join(shards.left_out)}",)
    return Located(
        found[0][1].format,
        tuple(
            tensor if tensor.storage is None else replace(tensor, storage=(name, tensor.storage))
            for name, located in found
            for tensor in located.tensors
        ),
        {},  # an offset means nothing without its file
        metadata=metadata,
        root=found[0][1].root,
        outside=tuple(
            replace(tensor, storage=(name, tensor.storage))
            for name, located in found
            for tensor in located.outside
        ),
        rest=tuple(item for _, located in found for item in located.rest),
        attributes=tuple(
            dict.fromkeys(each for _, located in found for each in located.attributes)
        ),
        unknown_names=tuple(
            dict.fromkeys(each for _, located in found for each in located.unknown_names)
        ),
        notes=notes,
        has_record=RECORD_FILE in shards.others,
    )
