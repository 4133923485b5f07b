"""Write checkpoints as others wrote them years ago, byte for byte what their tools wrote."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C


def write_of_python_2(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write float32 tensors as torch 0.4 did under Python 2, from a GPU (the weights of LPIPS).

    Texts are byte strings, sizes of storages are long integers, an OrderedDict is made from
    a list of lists and has `_metadata` set on it, and keys of storages are addresses in
    memory, which the list of storages sorts.
    """
    start = [_pickle(_long(_MAGIC_NUMBER)), _pickle(_small(1001)), _pickle(_INFO)]
    addresses = {key: str(1933719376 - 4096 * at) for at, key in enumerate(state)}
    body = _pickle(_state_dict(state, addresses))
    listed = b"]q\x01(" + b"".join(map(_text, sorted(addresses.values()))) + b"e"
    by_address = {addresses[key]: tensor for key, tensor in state.items()}
    data = [
        struct.pack("<q", by_address[each].numel()) + by_address[each].numpy().tobytes()
        for each in sorted(by_address)
    ]
    path.write_bytes(b"".join((*start, body, _pickle(listed), *data)))


def write_legacy(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write a state dict as torch 1.0 did (the weights of facenet-pytorch)."""
    torch.save(dict(state), path, _use_new_zipfile_serialization=False)


def write_unpadded(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write float32 tensors with a header of no metadata and no padding (silero-vad)."""
    header: dict[str, object] = {}
    reached = 0
    for key, tensor in state.items():
        end = reached + 4 * tensor.numel()
        header[key] = {"dtype": "F32", "shape": [*tensor.shape], "data_offsets": [reached, end]}
        reached = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (len(text) % 8 == 0)  # whatever is not a multiple of eight
    data = b"".join(tensor.numpy().tobytes() for tensor in state.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def _pickle(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def _text(text: str) -> bytes:
    return b"U" + bytes((len(text),)) + text.encode()


def _small(number: int) -> bytes:
    return bytes((0x4B, number)) if number < 256 else b"M" + struct.pack("<H", number)


def _long(number: int) -> bytes:
    data = number.to_bytes(number.bit_length() // 8 + 1, "little")
    return b"\x8a" + bytes((len(data),)) + data


def _size(numbers: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_small, numbers)) + b"t"


_INFO = (
    b"}q\x01("
    + (_text("protocol_version") + _small(1001) + _text("type_sizes"))
    + (b"}q\x02(" + _text("int") + _small(4) + _text("short") + _small(2) + _text("long"))
    + (_small(4) + b"u" + _text("little_endian") + b"\x88u")
)


def _state_dict(state: Mapping[str, Tensor], addresses: Mapping[str, str]) -> bytes:
    memo = count(1)
    items = b"".join(
        b"]q%c(%s%se" % (next(memo), _text(key), _tensor(tensor, addresses[key]))
        for key, tensor in state.items()
    )
    modules = dict.fromkeys(key.rpartition(".")[0] for key in state)
    versions = b"".join(
        b"]q%c(%s}q%c%s%sse" % (next(memo), _text(name), next(memo), _text("version"), _small(1))
        for name in modules
    )
    ordered = b"ccollections\nOrderedDict\n"
    metadata = b"}q\xfb" + _text("_metadata") + ordered + b"](" + versions + b"e\x85Rs"
    return ordered + b"](" + items + b"e\x85R" + metadata + b"b"


def _tensor(tensor: Tensor, address: str) -> bytes:
    storage = _text("storage") + b"ctorch\nFloatStorage\n" + _text(address) + _text("cuda:0")
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(("
        + (storage + _long(tensor.numel()) + b"NtQ" + _small(0))
        + (_size(tuple(tensor.shape)) + _size(tensor.stride()) + b"\x89NtR")
    )
