"""A file that torch reads in another way is refused, or read in the same way."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from reinit_cli.errors import ReinitError
from reinit_cli.storage.local import InputFile
from tests.checkpoints.formats import hostile
from tests.checkpoints.formats.locating import locate
from tests.checkpoints.formats.sharing import (
    ORDERED,
    START,
    again,
    called,
    mapping,
    sequence,
    text,
)

_VALUES = struct.pack("<4f", 1, 2, 3, 4)
_OTHERS = struct.pack("<4f", 5, 6, 7, 8)


def _storage(kind: str = "FloatStorage", key: str = "0", numel: int = 4) -> bytes:
    name = hostile.name("torch", kind, 2)
    return b"(" + text("storage") + name + text(key) + text("cpu") + bytes((75, numel)) + b"tQ"


def _tensor(storage: bytes, size: bytes = b"K\x04\x85", stride: bytes = b"K\x01\x85") -> bytes:
    rest = b"K\x00" + size + stride + b"\x89" + ORDERED + b")R"
    return called("torch._utils", "_rebuild_tensor_v2", storage, rest)


TENSOR = _tensor(_storage())

_OTHER = _tensor(_storage(key="1"))

_LIST_OF_PAIRS = sequence(text("w") + TENSOR + b"\x86")


def _typed(state: bytes) -> bytes:
    """A tensor whose attributes are set after it is made."""
    made = hostile.name("torch._utils", "_rebuild_tensor_v2", 2)
    kind = hostile.name("torch", "Tensor", 2)
    args = b"(" + _storage() + b"K\x00K\x04\x85K\x01\x85\x89" + ORDERED + b")Rt"
    return called("torch._tensor", "_rebuild_from_type_v2", made, kind, args, state)


REFUSED: dict[str, bytes] = {
    "a state dict twice": mapping(
        ("state_dict", mapping(("w", TENSOR))), ("state_dict", mapping(("w", _OTHER)))
    ),
    "an optimizer's entry twice": mapping(
        ("model", mapping(("w", TENSOR))), ("more", mapping(("a", TENSOR), ("a", _OTHER)))
    ),
    "a number twice, as True": mapping(
        ("model", mapping(("w", TENSOR))), ("more", mapping(b"K\x01" + TENSOR, b"\x88" + _OTHER))
    ),
    "a storage of two dtypes": mapping(("a", TENSOR), ("b", _tensor(_storage("IntStorage")))),
    "a tensor that is set to another storage": mapping(
        ("w", TENSOR + b"(" + _storage(key="1") + b"K\x00K\x04\x85K\x01\x85tb")
    ),
    "a tensor whose data is set": mapping(("w", _typed(mapping(("data", _OTHER))))),
    "a tensor whose real part is set": mapping(
        ("w", _typed(b"N" + mapping(("real", _OTHER)) + b"\x86"))
    ),
    "a parameter whose data is set": mapping(
        (
            "w",
            called(
                "torch._utils",
                "_rebuild_parameter_with_state",
                TENSOR + b"\x89" + ORDERED + b")R" + mapping(("data", _OTHER)),
            ),
        )
    ),
    "a dictionary of pairs that is not called": ORDERED + _LIST_OF_PAIRS + b"\x85\x81",
    "a dictionary of a set": (
        ORDERED + called("builtins", "set", sequence(text("w") + TENSOR + b"\x86")) + b"\x85R"
    ),
}
"""What torch reads, and no program writes."""

SAME: dict[str, bytes] = {
    "a dictionary of a list of pairs": ORDERED + _LIST_OF_PAIRS + b"\x85R",
    "a dictionary of a tuple of pairs": ORDERED + text("w") + TENSOR + b"\x86\x85\x85R",
    "a dictionary of a dictionary": ORDERED + mapping(("w", TENSOR)) + b"\x85R",
    "a list that grows after it was read": mapping(
        ("before", _LIST_OF_PAIRS + b"r\0\1\0\0"),
        ("state_dict", ORDERED + again(256) + b"\x85R"),
        ("after", again(256) + text("more") + _OTHER + b"\x86a"),
    ),
    "a tensor with an attribute": mapping(("w", _typed(mapping(("note", text("x")))))),
}


def _write(pickled: bytes, path: str = "m.pt") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", START + pickled + b".")
        archive.writestr("a/data/0", _VALUES)
        archive.writestr("a/data/1", _OTHERS)
        archive.writestr("a/version", b"3\n")


def _loaded(path: str = "m.pt") -> Any:
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("name", REFUSED)
def test_what_torch_reads_in_another_way_is_refused(name: str) -> None:
    _write(REFUSED[name])

    _loaded()
    with InputFile("m.pt") as file, pytest.raises(ReinitError):
        locate(file)


@pytest.mark.parametrize("name", SAME)
def test_what_torch_reads_in_an_unusual_way_is_read_alike(name: str) -> None:
    _write(SAME[name])

    loaded = _loaded()
    loaded = loaded.get("state_dict", loaded)
    with InputFile("m.pt") as file:
        located = locate(file)
        (place,) = located.places["w"]
        data = file.read(place.offset, place.nbytes)
    assert [tensor.key for tensor in located.tensors] == list(loaded) == ["w"]
    assert bytes(loaded["w"].numpy()) == data


def _spelled_in_capitals(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/BYTEORDER", b"big")


def _huge_byteorder(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/byteorder", b"little" + bytes(100))


@pytest.mark.parametrize("spoil", [_spelled_in_capitals, _huge_byteorder])
def test_numbers_of_another_order_are_refused_however_the_archive_says_so(
    spoil: Callable[[Path], None],
) -> None:
    _write(mapping(("w", TENSOR)))
    spoil(Path("m.pt"))

    with InputFile("m.pt") as file, pytest.raises(ReinitError, match="big-endian"):
        locate(file)
    if spoil is _spelled_in_capitals:
        assert _loaded()["w"].tolist() != [1, 2, 3, 4]


def test_a_size_that_64_bits_cannot_count_is_refused() -> None:
    wide = b"\x8a\x08" + struct.pack("<q", 2**62)
    for size in (b"J\xff\xff\xff\x7f" * 3 + b"\x87", wide + wide + b"\x86", wide + b"K\x04\x86"):
        stride = b"(" + b"K\x00" * (3 if size[-1:] == b"\x87" else 2) + b"t"
        _write(mapping(("w", _tensor(_storage(), size, stride))))
        with InputFile("m.pt") as file, pytest.raises(ReinitError):
            locate(file)
