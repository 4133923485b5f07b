"""Read a checkpoint that is one file, or standard input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import field
from typing import TYPE_CHECKING

from reinit_cli.checkpoints.contents import FileContents
from reinit_cli.checkpoints.formats import format_of, suffix_of
from reinit_cli.checkpoints.formats.base import Files, Format, Located
from reinit_cli.checkpoints.source import Contents
from reinit_cli.collector import collector_paused
from reinit_cli.lazy import dataclass
from reinit_cli.storage.local import LocalStore
from reinit_cli.storage.location import DASH, STANDARD_INPUT, SourceName, without_secrets
from reinit_cli.storage.reader import Fingerprint, Reader, Store
from reinit_cli.storage.stores import store_of
from reinit_cli.tensors.info import TensorInfo

if TYPE_CHECKING:
    from reinit_cli.checkpoints.models.model import NamedModel
    from reinit_cli.storage.pipe import StandardInput


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file, or a model whose weights are taken from one.

    Attributes:
        name: what people call it.
        path: the file.
        format: its format.
        located: its tensors and where they lie.
        fingerprint: the file as it was when they were located.
        weights: the path, where the file was given as a model's weights.
        store: where it is.
        model: that model, or None.
    """

    name: str
    path: str
    format: Format
    located: Located
    fingerprint: Fingerprint
    weights: str | None = None
    store: Store = field(default_factory=LocalStore)
    model: NamedModel | None = None
    is_folder = False

    @property
    def reads(self) -> tuple[str, ...]:
        """The file."""
        return (self.path,)

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """Its tensors, in the order of the file."""
        return self.located.tensors

    @property
    def metadata(self) -> Mapping[str, str]:
        """The file's metadata."""
        return self.located.metadata

    @property
    def architecture(self) -> str | None:
        """The name of the model's architecture, where it has a model's weights."""
        return self.model.arch if self.model is not None else None

    @property
    def called(self) -> SourceName:
        """Those of its path; a model is called by its own name."""
        parts = SourceName.of_file(self.path, suffix_of(self.path))
        return parts if self.model is None else SourceName("", self.model.stem, parts.suffix)

    @contextmanager
    def open(self, seed: int) -> Iterator[Contents]:
        """Open the file."""
        del seed
        with closing(self.store.open(self.path, self.fingerprint)) as file:
            file.check_unchanged()
            opened = Files.lone(file)
            if self.located.confirm is not None:
                self.located.confirm(opened)
            yield FileContents(self.format, self.located, opened)


@dataclass(frozen=True, slots=True)
class StreamSource:
    """Standard input.

    Attributes:
        file: its bytes.
        format: their format.
        located: its tensors and where they lie.
    """

    file: StandardInput
    format: Format
    located: Located
    name = DASH
    path = None
    fingerprint = None
    reads = (STANDARD_INPUT,)
    weights = None
    architecture = None
    is_folder = False

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """Its tensors, in their order."""
        return self.located.tensors

    @property
    def metadata(self) -> Mapping[str, str]:
        """The metadata that came with them."""
        return self.located.metadata

    @property
    def called(self) -> SourceName:
        """What a file of it is called where one is named after it."""
        return SourceName("", "stdin", self.format.suffixes[0])

    @contextmanager
    def open(self, seed: int) -> Iterator[Contents]:
        """Go on where the tensors were located; a second time only a file can."""
        del seed
        yield FileContents(self.format, self.located, Files.lone(self.file))


def file_source(path: str, name: str, root: str | None, store: Store | None = None) -> FileSource:
    """Return a file as a source, its tensors located.

    Args:
        path: the file, or its URL.
        name: what people call it.
        root: the path of the state dict in what it holds; None to look for it.
        store: where it is; None to choose that by the path.
    """
    store = store or store_of(path)
    with closing(store.open(path)) as file:
        found = _located(file, root)
        path, name = without_secrets(path), without_secrets(name)
        return FileSource(name, path, *found, file.fingerprint, store=store)


def stream_source(root: str | None, file: StandardInput | None = None) -> StreamSource:
    """Return standard input as a source, its tensors located.

    Args:
        root: the path of the state dict in what it holds; None to look for it.
        file: its bytes, where it was taken over already.
    """
    # What reads and writes pipes takes longer to import than a header takes to read.
    from reinit_cli.storage.pipe import StandardInput

    file = file or StandardInput()
    return StreamSource(file, *_located(file, root))


def _located(file: Reader, root: str | None) -> tuple[Format, Located]:
    with collector_paused():
        format_ = format_of(file)
        return format_, format_.locate(Files.lone(file), root)
