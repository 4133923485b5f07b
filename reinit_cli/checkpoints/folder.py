"""Read a checkpoint that is a folder of files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from reinit_cli.checkpoints.contents import FileContents
from reinit_cli.checkpoints.formats import format_of_folder
from reinit_cli.checkpoints.formats.base import Files, Format, Located
from reinit_cli.checkpoints.source import Contents
from reinit_cli.collector import collector_paused
from reinit_cli.errors import UnreadableSourceError
from reinit_cli.storage.local import InputFile, LocalStore
from reinit_cli.storage.location import SourceName
from reinit_cli.storage.reader import Fingerprint
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.text import why


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A folder whose files hold the weights together.

    Attributes:
        name: what people call it.
        path: the folder.
        format: its format.
        located: what its files hold together.
        fingerprints: the files that were read when the tensors were located.
    """

    name: str
    path: str
    format: Format
    located: Located
    fingerprints: Mapping[str, Fingerprint]
    weights = None
    architecture = None
    is_folder = True

    @property
    def reads(self) -> tuple[str, ...]:
        """All its files."""
        return tuple(os.path.join(self.path, name) for name in self.located.files)

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
        """Open its files when their turn comes."""
        del seed
        store = LocalStore()
        with ExitStack() as stack:
            readers = {}
            for name in self.located.files:
                file = store.open(os.path.join(self.path, name), self.fingerprints.get(name))
                readers[name] = stack.enter_context(file)
            yield FileContents(self.format, self.located, Files(self.path, readers))


class _InTurn(Mapping[str, InputFile]):
    """The files of a folder, of which one is open at a time."""

    def __init__(self, folder: str, names: tuple[str, ...]) -> None:
        self.fingerprints: dict[str, Fingerprint] = {}
        self._folder = folder
        self._names = dict.fromkeys(names)
        self._open: tuple[str, InputFile] | None = None

    def __getitem__(self, name: str) -> InputFile:
        if self._open is None or self._open[0] != name:
            self.close()
            file = InputFile(os.path.join(self._folder, name))
            self.fingerprints.setdefault(name, file.fingerprint)
            self._open = name, file
        return self._open[1]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None


def folder_source(path: str, root: str | None) -> FolderSource:
    """Return a folder as a source, the tensors of all its files located.

    Args:
        path: the folder, or an index in it.
        root: the path of the state dict in what torch files hold; None to look for it.

    Raises:
        SourceError: it cannot be listed, or holds no weights that can be told.
    """
    is_folder = os.path.isdir(path)
    folder = path if is_folder else os.path.dirname(path) or "."
    try:
        names, left_out = _listed(folder)
    except OSError as error:
        raise UnreadableSourceError(path, why(error)) from error
    readers = _InTurn(folder, names)
    try:
        files = Files(folder, readers, "" if is_folder else os.path.basename(path), left_out)
        format_ = format_of_folder(names)
        with collector_paused():
            located = format_.locate(files, root)
    finally:
        readers.close()
    return FolderSource(path, folder, format_, located, readers.fingerprints)


def _listed(folder: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the paths of the files in a folder, and the hidden folders, which are left out."""
    found: list[str] = []
    hidden = []
    for name in sorted(os.listdir(folder)):
        if not os.path.isdir(os.path.join(folder, name)):
            found.append(name)
        elif name.startswith("."):
            hidden.append(name)
        else:
            found += _files_below(folder, name)
    return tuple(found), tuple(hidden)


def _files_below(folder: str, name: str) -> list[str]:
    found = []
    for place, _, names in os.walk(os.path.join(folder, name)):
        found += [os.path.relpath(os.path.join(place, each), folder) for each in sorted(names)]
    return found
