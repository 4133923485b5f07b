"""Read an array of NumPy, whose file is a short text and the elements behind it."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from types import MappingProxyType

from reinit_cli.errors import MalformedFileError, UnsupportedFormatError
from reinit_cli.lazy import dataclass
from reinit_cli.storage.location import SourceName
from reinit_cli.storage.reader import Fingerprint, Reader, Store
from reinit_cli.storage.segments import Copy, Part, View
from reinit_cli.storage.stores import store_of
from reinit_cli.tensors.dtype import itemsize_of
from reinit_cli.tensors.info import TensorInfo

MAGIC = b"\x93NUMPY"
SUFFIX = ".npy"

_KIND = "NumPy file (.npy)"
_WAY = "array"
_MOST_HEADER = 2**16
_MOST_DIMENSIONS = 64

_DTYPES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("|b1",), "bool"),
        **dict.fromkeys(("|i1", "<i1"), "int8"),
        **dict.fromkeys(("|u1", "<u1"), "uint8"),
        **{f"<i{size}": f"int{8 * size}" for size in (2, 4, 8)},
        **{f"<u{size}": f"uint{8 * size}" for size in (2, 4, 8)},
        **{f"<f{size}": f"float{8 * size}" for size in (2, 4, 8)},
        **{f"<c{size}": f"complex{8 * size}" for size in (8, 16)},
    }
)
"""torch's names of the dtypes of NumPy."""

_VALUE = r"'[^'\\]{0,16}'|True|False|\([0-9, ]{0,1400}\)"
_FIELDS = re.compile(rf"'(descr|fortran_order|shape)': *({_VALUE})", re.ASCII)
_HEADER = re.compile(rf"\{{(?:'[a-z_]{{1,16}}': *(?:{_VALUE}),? ?){{3}}\}}[ \n]*", re.ASCII)
"""The text of a dictionary of three fields; nothing of it is evaluated."""


@dataclass(frozen=True, slots=True)
class ArraySource:
    """A file with one array, as a source of its one tensor, which has the name of the file.

    Attributes:
        name: what people call it.
        path: the file.
        tensor: the array.
        first: where its elements begin.
        fingerprint: the file as it was when the array was located.
        store: where it is.
    """

    name: str
    path: str
    tensor: TensorInfo
    first: int
    fingerprint: Fingerprint
    store: Store
    format = None
    located = None
    weights = None
    architecture = None
    is_folder = False

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """The array."""
        return (self.tensor,)

    @property
    def metadata(self) -> Mapping[str, str]:
        """None."""
        return {}

    @property
    def reads(self) -> tuple[str, ...]:
        """The file."""
        return (self.path,)

    @property
    def called(self) -> SourceName:
        """Its name in parts."""
        return SourceName.of_file(self.path, SUFFIX)

    @contextmanager
    def open(self, seed: int) -> Iterator[ArrayContents]:
        """Open the file."""
        del seed
        with closing(self.store.open(self.path, self.fingerprint)) as file:
            file.check_unchanged()
            yield ArrayContents(file, self.first)


@dataclass(frozen=True, slots=True)
class ArrayContents:
    """The file of an array that is open.

    Attributes:
        file: the file.
        first: where its elements begin.
    """

    file: Reader
    first: int

    def view(self, tensor: TensorInfo) -> View:
        """Return the array as it lies there."""
        copy = Copy(self.file, self.first, tensor.nbytes)
        return View((Part(copy, None, tensor.stride),), tensor.dtype, tensor.shape)

    def files(self) -> Mapping[str, Reader]:
        """Return the file, by its name without the folders above, which hosts may call otherwise."""
        return {os.path.basename(self.file.path): self.file}

    def check_unchanged(self, written: Collection[str] | None = None) -> None:
        """Compare the file with what was located."""
        del written
        self.file.check_unchanged()


def array_source(path: str) -> ArraySource:
    """Return a file with an array as a source.

    Raises:
        SourceError: there is no such file, or it is not an array that a tensor can be.
    """
    store = store_of(path)
    with closing(store.open(path)) as file:
        path = file.path
        text, first = _header(file)
        tensor = _tensor(path, text)
        if first + tensor.nbytes > file.nbytes:
            problem = f"it ends before the last of its {tensor.numel:,} elements"
            raise MalformedFileError(path, problem, _KIND)
        return ArraySource(path, path, tensor, first, file.fingerprint, store)


def _header(file: Reader) -> tuple[str, int]:
    """Return the text of the header, and where it ends."""
    head = file.read(0, min(file.nbytes, 12))
    if not head.startswith(MAGIC):
        problem = "it does not start as NumPy writes it; rewind takes tensors of checkpoints"
        raise MalformedFileError(file.path, problem, _KIND)
    size, start = (2, 10) if head[6:7] == b"\x01" else (4, 12)
    length = int.from_bytes(head[8 : 8 + size], "little")
    if len(head) < start or length > _MOST_HEADER or start + length > file.nbytes:
        raise MalformedFileError(file.path, "its header is longer than it can be", _KIND)
    return bytes(file.read(start, length)).decode("latin-1"), start + length


def _tensor(path: str, text: str) -> TensorInfo:
    """Return what a header says of an array."""
    fields = dict(_FIELDS.findall(text)) if _HEADER.fullmatch(text) else {}
    if len(fields) != 3:
        if "'descr': [" in text:
            raise UnsupportedFormatError(path, "an array of records", word=_WAY)
        raise MalformedFileError(path, "its header is not that of an array", _KIND)
    dtype = _dtype(path, fields["descr"].strip("'"))
    shape = _shape(path, fields["shape"])
    numel = math.prod(shape)
    stride = None
    if fields["fortran_order"] == "True" and len(shape) > 1 and numel:
        stride = tuple(math.prod(shape[:at]) for at in range(len(shape)))
    key = os.path.basename(path)
    return TensorInfo(key, dtype, shape, numel * itemsize_of(dtype), stride=stride)


def _dtype(path: str, written: str) -> str:
    """Return torch's name of a dtype."""
    if written in _DTYPES:
        return _DTYPES[written]
    if written == "|O":
        problem = "an array of Python objects, which are pickled"
        raise UnsupportedFormatError(path, problem, word=_WAY)
    if written.startswith(">"):
        raise UnsupportedFormatError(path, "an array of big-endian numbers", word=_WAY)
    raise UnsupportedFormatError(path, f"an array of {written!r}", word=_WAY)


def _shape(path: str, written: str) -> tuple[int, ...]:
    """Return the dimensions."""
    words = [word.strip() for word in written.strip("()").split(",")]
    dims = words[:-1] if words[-1] == "" else words
    if len(dims) > _MOST_DIMENSIONS or not all(re.fullmatch("[0-9]{1,18}", dim) for dim in dims):
        raise MalformedFileError(path, "its header is not that of an array", _KIND)
    return tuple(map(int, dims))
