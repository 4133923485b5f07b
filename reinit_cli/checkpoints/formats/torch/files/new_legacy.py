"""Create a file as torch did before 1.6, and still does where it is asked to.

    pickle     0x1950a86a20f9469cfc6c
    pickle     1001
    pickle     sys_info
    pickle     the object; storages are persistent ids of six items
    pickle     the keys of the storages, sorted
    for each   int64 numel, then the bytes

torch names storages by their addresses; here they are counted, so that a file is the same
each time.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any

from reinit_cli.checkpoints.formats.torch.glance import MAGIC_NUMBER
from reinit_cli.storage.segments import Literal, Segment

PROTOCOL = 1001
NUMEL_NBYTES = 8

_PICKLE_PROTOCOL = 2
_SYS_INFO = {
    "protocol_version": PROTOCOL,
    "little_endian": True,
    "type_sizes": {"short": 2, "int": 4, "long": 4},
}
"""What torch writes on every machine that it supports (torch/serialization.py)."""


def legacy_segments(
    state: Mapping[str, Any], contents: Mapping[str, Sequence[Segment]]
) -> list[Segment]:
    """Return the segments of a file that holds a state dict.

    Args:
        state: tensors, whose values are not looked at.
        contents: for each key the bytes of its tensor, which is its storage's only one or equal
            to the others.
    """
    named = _Storages()
    stream = BytesIO()
    for part in (MAGIC_NUMBER, PROTOCOL, _SYS_INFO):
        pickle.dump(part, stream, _PICKLE_PROTOCOL)
    named.pickler(stream).dump(dict(state))
    keys = sorted(named.numels)
    pickle.dump(keys, stream, _PICKLE_PROTOCOL)
    parts = {named.key_of(state[key]): data for key, data in contents.items()}
    return [Literal(stream.getvalue()), *_storages(keys, named.numels, parts)]


def _storages(
    keys: Sequence[str], numels: Mapping[str, int], parts: Mapping[str, Sequence[Segment]]
) -> Iterator[Segment]:
    for key in keys:
        yield Literal(numels[key].to_bytes(NUMEL_NBYTES, "little"))
        yield from (part for part in parts[key] if part.nbytes)


class _Storages:
    """The names of storages, in the order in which pickling meets them."""

    def __init__(self) -> None:
        self.numels: dict[str, int] = {}
        self._keys: dict[int, str] = {}

    def key_of(self, tensor: Any) -> str:
        """Return the name of the storage of a tensor that was pickled."""
        return self._keys[tensor.untyped_storage()._cdata]

    def pickler(self, stream: BytesIO) -> pickle.Pickler:
        """Return what pickles an object into a stream and names its storages."""
        import torch

        storages = self

        class Pickler(pickle.Pickler):
            def persistent_id(self, obj: Any) -> tuple[Any, ...] | None:
                if isinstance(obj, torch.storage.TypedStorage):
                    typed: Any = obj  # whose methods are not annotated
                    kind = getattr(torch, typed._pickle_storage_type())
                    return storages.id_of(kind, typed._untyped_storage, typed._size())
                if torch.is_storage(obj):
                    return storages.id_of(torch.UntypedStorage, obj, obj.nbytes())
                return None

        return Pickler(stream, _PICKLE_PROTOCOL)

    def id_of(self, kind: type, storage: Any, numel: int) -> tuple[Any, ...]:
        """Return the persistent id of a storage; a view's metadata, the last, is always None."""
        key = self._keys.setdefault(storage._cdata, str(len(self._keys)))
        self.numels[key] = numel
        return "storage", kind, key, "cpu", numel, None
