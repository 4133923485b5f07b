"""Read a checkpoint that is one file, or standard input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from reinit_cli.checkpoints.formats import detection, safetensors
from reinit_cli.checkpoints.formats.base import Located
from reinit_cli.checkpoints.source import Contents, empty_state
from reinit_cli.execution.fill import Fill
from reinit_cli.storage.local import Fingerprint, InputFile
from reinit_cli.storage.location import DASH, SourceName
from reinit_cli.storage.pipe import StandardInput
from reinit_cli.storage.segments import Check, Copy, Segment, View
from reinit_cli.tensors.info import TensorInfo


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file, or a model whose weights are taken from one.

    Attributes:
        name: what people call it.
        path: the file.
        located: its tensors and where they lie.
        fingerprint: the file as it was when they were located.
        weights: the path, where the file was given as a model's weights.
    """

    name: str
    path: str
    located: Located
    fingerprint: Fingerprint
    weights: str | None = None
    is_folder = False

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
        """The model's name, where it has a model's weights."""
        return self.name if self.weights is not None else None

    @property
    def called(self) -> SourceName:
        """Those of its path; a model is called by its own name."""
        parts = SourceName.of_file(self.path)
        return parts if self.weights is None else SourceName("", self.name, parts.suffix)

    @contextmanager
    def open(self, seed: int) -> Iterator[Contents]:
        """Open the file."""
        del seed
        with InputFile(self.path) as file:
            file.check_unchanged(self.fingerprint)
            yield _FileContents(file, self.located)


@dataclass(frozen=True, slots=True)
class _FileContents:
    file: InputFile
    located: Located

    def view(self, tensor: TensorInfo) -> View:
        self.file.make_seekable()
        return View.of(self._place(tensor), tensor.dtype, tensor.shape, tensor.stride)

    def _place(self, tensor: TensorInfo) -> Copy:
        first, last = tensor.extent
        return Copy(self.file, self.located.starts.get(tensor.key, 0), last - first)

    def files(self) -> Mapping[str, InputFile]:
        self.file.make_seekable()
        return {"": self.file}

    def rewritten(
        self, fills: Mapping[str, Fill], record: str = ""
    ) -> Mapping[str, list[Segment]] | None:
        edits: dict[int, Segment] = {}
        empty: list[Segment] = []
        for key, fill in fills.items():
            place = self._place(fill.step.tensor)
            under = place if place.nbytes != fill.nbytes else None
            if key != fill.step.seed_key and fill.step.tied:
                continue  # of one tensor under several keys, the first is drawn
            stride = fill.step.tensor.stride
            laid = replace(fill, nbytes=place.nbytes, stride=stride, under=under)
            if place.nbytes:
                edits[self.located.starts[key]] = laid
            else:
                empty.append(laid)
        return {"": [*self.located.layout.patched(self.file, edits, record), *empty]}

    def beside(self) -> Mapping[str, list[Segment]]:
        return {}

    def checks(self) -> list[Check]:
        return self.located.layout.checks(self.file)

    def state_dict(self, tensors: Sequence[TensorInfo]) -> Mapping[str, Any]:
        return empty_state(tensors)

    def check_unchanged(self) -> None:
        self.file.check_unchanged()


@dataclass(frozen=True, slots=True)
class StreamSource:
    """Standard input.

    Attributes:
        file: what it is.
        located: its tensors and where they lie.
    """

    file: StandardInput
    located: Located
    name = DASH
    path = None
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
        is_torch = self.located.format.startswith("torch")
        return SourceName("", "stdin", ".pt" if is_torch else safetensors.SUFFIX)

    @contextmanager
    def open(self, seed: int) -> Iterator[Contents]:
        """Go on where the tensors were located; a second time only a file can."""
        del seed
        yield _FileContents(self.file, self.located)


def file_source(path: str, name: str, root: str | None) -> FileSource:
    """Return a file as a source, its tensors located."""
    with InputFile(path) as file:
        return FileSource(name, path, detection.locate(file, root), file.fingerprint)
