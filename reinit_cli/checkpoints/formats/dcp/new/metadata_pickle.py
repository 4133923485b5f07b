"""Write `.metadata` as torch's planner and Python's pickler write it for one rank.

No class is needed for it: the opcodes of the few that there are, are known. What a pickler
meets twice it recalls from its memo, and it cuts its output into frames of 64 KB, which end
where an object begins. The uuid of a save and the path of its folder are left empty, so that
the same tensors give the same bytes anywhere and at any time.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from reinit_cli.checkpoints.formats.dcp.phrases import FILESYSTEM, METADATA
from reinit_cli.checkpoints.formats.torch.edits.writing import FALSE, written_number

VERSION = "1.0.0"
"""That of the form, which torch has written since 2.9."""

_FRAME_NBYTES = 64 * 2**10
"""After as many bytes a frame ends (`_FRAME_SIZE_TARGET` of Python's pickle)."""

_BATCH = 1000
"""How many items of a dictionary are set together (`_BATCHSIZE` of Python's pickle)."""

_PROTOCOL, _FRAME, _STOP = b"\x80\x04", b"\x95", b"."
_STORE, _BUILD, _SET, _SET_ALL, _APPEND = b"\x94", b"b", b"s", b"u", b"a"
_MARK, _DICT, _LIST, _NONE = b"(", b"}", b"]", b"N"
_NAMED, _NEW, _CALLED, _TUPLE, _OF_ONE = b"\x93", b")\x81", b"R", b"t", b"\x85"


class Laid(NamedTuple):
    """A tensor in a file of the folder.

    Attributes:
        path: the keys that lead to it in the state dict.
        dtype: torch's name of its dtype.
        shape: its dimensions.
        file: the file.
        offset, nbytes: where its archive lies there.
    """

    path: tuple[str, ...]
    dtype: str
    shape: tuple[int, ...]
    file: str
    offset: int
    nbytes: int

    @property
    def fqn(self) -> str:
        """Its name in the folder."""
        return ".".join(self.path)


def metadata_of(tensors: Sequence[Laid]) -> bytes:
    """Return `.metadata` of a folder with such tensors."""
    pickler = _Pickler()
    pickler.put_metadata(tensors)
    return pickler.finish()


class _Pickler:
    """Writes the objects of `.metadata`."""

    def __init__(self) -> None:
        self._data = bytearray(_PROTOCOL)
        self._frame = bytearray()
        self._count = 0
        self._stored: dict[object, int] = {}

    def finish(self) -> bytes:
        """Return all that was written."""
        self._end_frame()
        return bytes(self._data)

    def put_metadata(self, tensors: Sequence[Laid]) -> None:
        """Write the object of the class Metadata, which is the whole."""
        self._put_object(METADATA, "Metadata")
        self._put_text("state_dict_metadata")
        self._put_dict(self._put_tensor, tensors)
        self._put_text("planner_data")
        self._put_dict(self._put_path, tensors)
        self._put_text("storage_data")
        self._put_dict(self._put_place, tensors)
        self._put_text("storage_meta")
        self._put_storage_meta()
        self._put_text("version")
        self._put_text(VERSION)
        self._add(_SET_ALL + _BUILD + _STOP)

    # --- the classes ---------------------------------------------------------------------

    def _put_tensor(self, laid: Laid) -> None:
        """Write what a tensor is, with the one box that it has."""
        self._put_text(laid.fqn, _called(laid.path))
        self._put_object(METADATA, "TensorStorageMetadata")
        self._put_text("properties")
        self._put_properties(laid.dtype)
        self._put_text("size")
        self._put_size(laid.shape)
        self._put_text("chunks")
        self._begin(_LIST)
        self._store()
        self._put_object(METADATA, "ChunkStorageMetadata")
        self._put_text("offsets")
        self._put_size((0,) * len(laid.shape))
        self._put_text("sizes")
        self._put_size(laid.shape)
        self._add(_SET_ALL + _BUILD + _APPEND + _SET_ALL + _BUILD)

    def _put_properties(self, dtype: str) -> None:
        self._put_class(METADATA, "TensorProperties")
        self._begin(_MARK)
        self._put_name("torch", dtype, "dtype")
        if not self._recall("layout"):
            self._put_name("torch.serialization", "_get_layout")
            self._put_text("torch.strided")
            self._call("layout")
        self._begin(FALSE)  # requires_grad
        if not self._recall("memory format"):
            self._put_name(METADATA, "_MEM_FORMAT_ENCODING")
            self._begin(written_number(0))
            self._call("memory format")
        self._begin(FALSE)  # pin_memory
        self._add(_TUPLE)
        self._store()
        self._add(_BUILD)

    def _put_path(self, laid: Laid) -> None:
        """Write the keys that lead to a tensor."""
        self._put_text(laid.fqn, _called(laid.path))
        if len(laid.path) > _MOST_WITHOUT_MARK:
            self._begin(_MARK)
        for at, key in enumerate(laid.path, 1):
            is_shared = at == 1 or at < len(laid.path)
            self._put_text(key, _called(laid.path[:at]) if is_shared else None)
        self._end_tuple(len(laid.path))

    def _put_place(self, laid: Laid) -> None:
        """Write where a tensor lies."""
        self._put_object(METADATA, "MetadataIndex")
        self._put_text("fqn")
        self._put_text(laid.fqn, _called(laid.path))
        self._put_text("index")
        self._begin(written_number(0))
        self._put_text("offset")
        self._put_size((0,) * len(laid.shape))
        self._add(_SET_ALL + _BUILD)
        self._put_object(FILESYSTEM, "_StorageInfo")
        self._put_text("relative_path")
        self._put_text(laid.file)
        self._put_text("offset")
        self._begin(written_number(laid.offset))
        self._put_text("length")
        self._begin(written_number(laid.nbytes))
        self._add(_SET_ALL + _BUILD)

    def _put_storage_meta(self) -> None:
        """Write what torch says of a save: its path and its uuid, which are left empty."""
        self._put_object(METADATA, "StorageMeta")
        for name in ("checkpoint_id", "save_id", "load_id"):
            self._put_text(name)
            self._begin(_NONE)
        self._put_text("modules")
        self._begin(_LIST)
        self._store()
        self._add(_SET_ALL + _BUILD)

    # --- their parts ---------------------------------------------------------------------

    def _put_object(self, module: str, name: str) -> None:
        """Write an object and begin its members, which `_SET_ALL` and `_BUILD` end."""
        self._put_class(module, name)
        self._begin(_DICT)
        self._store()
        self._add(_MARK)

    def _put_class(self, module: str, name: str) -> None:
        """Write an object that has no members yet."""
        self._put_name(module, name)
        self._begin(_NEW)
        self._store()

    def _put_name(self, module: str, name: str, of: str = "") -> None:
        """Write a name of a module; dtypes have a text of their own for theirs."""
        if self._recall((module, name)):
            return
        self._put_text(module, (of, module))
        self._put_text(name)
        self._add(_NAMED)
        self._store((module, name))

    def _put_size(self, sizes: tuple[int, ...]) -> None:
        self._put_name("torch", "Size")
        if len(sizes) > _MOST_WITHOUT_MARK:
            self._begin(_MARK)
        for size in sizes:
            self._begin(written_number(size))
        self._end_tuple(len(sizes))
        self._call()

    def _put_dict(self, put: Callable[[Laid], None], tensors: Sequence[Laid]) -> None:
        self._begin(_DICT)
        self._store()
        if len(tensors) == 1:
            put(tensors[0])
            self._add(_SET)
            return
        # After a batch that is full comes another one, even where nothing is left.
        for start in range(0, len(tensors) + 1, _BATCH) if tensors else ():
            self._add(_MARK)
            for laid in tensors[start : start + _BATCH]:
                put(laid)
            self._add(_SET_ALL)

    def _put_text(self, text: str, called: object = "") -> None:
        """Write a text, or recall it.

        Args:
            text: the text.
            called: by what it is recalled: itself unless it says something else; None for never.
        """
        called = text if called == "" else called
        if called is not None and self._recall(called):
            return
        data = text.encode("utf-8", "surrogatepass")
        is_short = len(data) < 2**8
        start = b"\x8c%c" % len(data) if is_short else b"X" + struct.pack("<I", len(data))
        self._begin(start + data)
        self._store(called)

    # --- opcodes -------------------------------------------------------------------------

    def _end_tuple(self, count: int) -> None:
        """Make a tuple of what was written last; the empty one is not stored."""
        if count == 0:
            self._begin(b")")
            return
        self._add(_TUPLE if count > _MOST_WITHOUT_MARK else bytes((0x84 + count,)))
        self._store()

    def _call(self, called: object = None) -> None:
        """Call what was named before with what was written last."""
        self._add(_OF_ONE)
        self._store()
        self._add(_CALLED)
        self._store(called)

    def _recall(self, called: object) -> bool:
        """Write again what is stored, if it is."""
        at = self._stored.get(called)
        if at is not None:
            self._begin(b"h%c" % at if at < 2**8 else b"j" + struct.pack("<I", at))
        return at is not None

    def _store(self, called: object = None) -> None:
        self._add(_STORE)
        if called is not None:
            self._stored[called] = self._count
        self._count += 1

    def _begin(self, opcodes: bytes) -> None:
        """Write the start of an object, where a frame may end."""
        if len(self._frame) >= _FRAME_NBYTES:
            self._end_frame()
        self._frame += opcodes

    def _add(self, opcodes: bytes) -> None:
        self._frame += opcodes

    def _end_frame(self) -> None:
        self._data += _FRAME + struct.pack("<Q", len(self._frame)) + self._frame
        self._frame.clear()


def _called(path: tuple[str, ...]) -> tuple[str | None, ...]:
    """Return what the name of a path is recalled by, which nothing else is."""
    return (None, *path)


_MOST_WITHOUT_MARK = 3
"""The longest tuple that has an opcode of its own."""
