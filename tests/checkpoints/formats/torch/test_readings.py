"""A file that torch reads in another way is refused, or read in the same way."""

from __future__ import annotations

import pickle
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


# What follows changes the tensor "w" without a trace in the record of "w".

_SET = b"(" + _storage(key="1") + b"K\x00K\x04\x85K\x01\x85tb"

_REST = hostile.name("torch", "float32", 2) + text("cpu") + b"\x89"

_FROM_CPU = hostile.name("torch._utils", "_rebuild_device_tensor_from_cpu_tensor", 2)

_OF_TENSORS = hostile.name("torch", "Tensor", 2)

_W = text("w") + TENSOR + b"r\0\1\0\0"

_AGAIN = called("torch._utils", "_rebuild_device_tensor_from_cpu_tensor", again(256), _REST)

_DATA = mapping(("data", _OTHER))

_CHANGE = called(
    "torch._tensor",
    "_rebuild_from_type_v2",
    _FROM_CPU + _OF_TENSORS + b"(" + again(256) + _REST + b"t" + _DATA,
)
"""The same tensor, whose data is set."""

_IN_LIST = called(
    "torch._tensor",
    "_rebuild_from_type_v2",
    hostile.name("torch._tensor", "_rebuild_from_type_v2", 2)
    + _OF_TENSORS
    + sequence(_FROM_CPU, _OF_TENSORS, b"(" + again(256) + _REST + b"t", _DATA)
    + b"N",
)


def _counted(key: str, value: bytes) -> bytes:
    return called("collections", "Counter", mapping((key, value)))


def _tensor_with(
    hooks: bytes = ORDERED + b")R", metadata: bytes = b"", device: bytes = b""
) -> bytes:
    storage = _storage().replace(text("cpu"), device or text("cpu"))
    rest = b"K\x00K\x04\x85K\x01\x85\x89" + hooks + metadata
    return called("torch._utils", "_rebuild_tensor_v2", storage, rest)


CHANGED: dict[str, bytes] = {
    "metadata of a call": mapping(("w", _tensor_with(metadata=_counted("neg", b"\x88")))),
    "a state of a call": mapping(
        (
            "w",
            called(
                "torch._utils",
                "_rebuild_parameter_with_state",
                TENSOR + b"\x89" + ORDERED + b")R" + _counted("data", _OTHER),
            ),
        )
    ),
    "an alias that is set": mapping(_W, text("x") + _AGAIN + _SET),
    "an alias that is set, in a list": mapping(_W, text("x") + sequence(_AGAIN + _SET)),
    "items of an alias": mapping(_W, text("x") + _AGAIN + b"K\x00G" + struct.pack(">d", 9) + b"s"),
    "items of another tensor of its storage": mapping(
        _W,
        text("x")
        + called("torch.nn.parameter", "Parameter", again(256) + b"\x89")
        + b"K\x00G"
        + struct.pack(">d", 9)
        + b"s",
    ),
    "a call through a list": mapping(_W, text("x") + _IN_LIST),
    "a state in the hooks of another": mapping(
        _W, text("z") + _tensor_with(ORDERED + b")R(" + text("k") + _CHANGE + b"u")
    ),
    "a state in the device of a storage": mapping(_W, text("z") + _tensor_with(device=_CHANGE)),
}
"""What gives "w" other values than its record says."""

POPPED: dict[str, bytes] = {
    "a popped state": mapping(_W) + _CHANGE + b"0",
    "a state popped to a mark": mapping(_W) + b"(" + _CHANGE + b"1",
    "a popped state, in the memo until it is overwritten": (
        mapping(_W) + _CHANGE + b"r\1\1\0\0000Nr\1\1\0\0000"
    ),
    # Of the dtypes of one storage torch takes the first.
    "a popped storage of another dtype": _storage("IntStorage") + b"0" + mapping(("w", TENSOR)),
}


KEYS: dict[str, tuple[bytes, bytes]] = {
    "a number and a complex one": (
        b"K\x01",
        called("builtins", "complex", b"K\x01K\x00"),
    ),
    "bytes": (b"C\x01a", b"C\x01a"),
    "halves": (b"G" + struct.pack(">d", 0.5), b"G" + struct.pack(">d", 0.5)),
    "tuples of equal numbers": (b"K\x01\x85", b"\x88\x85"),
    "tuples of tuples": (b"N\x85\x85", b"N\x85\x85"),
    "sizes": (b"K\x01\x85", called("torch", "Size", b"K\x01\x85")),
    "None": (b"N", b"N"),
    "long texts": (text("w" * 70_000), text("w" * 70_000)),
}


@pytest.mark.parametrize("name", KEYS)
def test_equal_keys_of_any_kind_are_refused(name: str) -> None:
    first, second = KEYS[name]
    inner = mapping(first + TENSOR, second + _OTHER)
    _write(mapping(("state_dict", mapping(("w", TENSOR))), ("more", inner)))

    (kept,) = torch.load("m.pt", weights_only=False)["more"].values()
    assert kept.tolist() == [5, 6, 7, 8]
    with InputFile("m.pt") as file, pytest.raises(ReinitError, match="twice"):
        locate(file)


def test_keys_of_any_kind_that_differ_are_read() -> None:
    keys = [b"K\x02", b"G" + struct.pack(">d", 2.5), b"C\x012", b"N", b"K\x02\x85", text("2")]
    inner = mapping(*(key + TENSOR for key in keys))
    _write(mapping(("state_dict", mapping(("w", TENSOR))), ("more", inner)))

    assert len(torch.load("m.pt", weights_only=False)["more"]) == len(keys)
    with InputFile("m.pt") as file:
        assert len(locate(file).outside) == len(keys)


@pytest.mark.parametrize("name", CHANGED | POPPED)
def test_what_changes_a_tensor_from_another_place_is_refused(name: str) -> None:
    _write((CHANGED | POPPED)[name])

    loaded = torch.load("m.pt", weights_only=False)
    assert loaded["w"].tolist() != [1, 2, 3, 4]
    with InputFile("m.pt") as file, pytest.raises(ReinitError):
        locate(file)


def test_a_call_whose_result_is_dropped_is_refused() -> None:
    dropped = called("torch.nn.parameter", "Parameter", TENSOR + b"\x89")
    _write(mapping(("w", TENSOR)) + sequence(dropped) + b"0")

    torch.load("m.pt", weights_only=False)
    with InputFile("m.pt") as file, pytest.raises(ReinitError, match="drops"):
        locate(file)


def test_a_tuple_in_itself_of_which_pickle_drops_a_copy_is_read() -> None:
    inner: list[Any] = []
    inner.append((inner, torch.ones(2)))
    torch.save({"state_dict": {"w": torch.zeros(2)}, "more": inner[0]}, "m.pt")

    with InputFile("m.pt") as file:
        located = locate(file)
    assert [tensor.key for tensor in located.tensors] == ["w"]
    assert len(located.outside) == 1


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"I010\n", 8),
        (b"I0x10\n", 16),
        (b"I-010\n", -8),
        (b"I 7\n", 7),
        (b"L0x10L\n", 16),
        (b"L0b11L\n", 3),
        (b"F 1.5\n", None),
        (b"F1_0\n", None),
    ],
)
def test_a_number_that_pickle_may_read_in_another_way_is_refused(
    line: bytes, value: int | None
) -> None:
    _write(mapping(("state_dict", mapping(("w", TENSOR))), ("more", line)))

    if value is not None:
        assert torch.load("m.pt", weights_only=False)["more"] == value
    with InputFile("m.pt") as file, pytest.raises(ReinitError):
        locate(file)


@pytest.mark.parametrize("value", [0, -7, 2**70, 0.5, 1e300, -1e-300, float("inf"), True])
def test_a_number_as_the_oldest_protocol_writes_it_is_read(value: float) -> None:
    line = pickle.dumps(value, 0).removesuffix(b".")
    _write(mapping(("state_dict", mapping(("w", TENSOR))), ("more", line)))

    with InputFile("m.pt") as file:
        assert [tensor.key for tensor in locate(file).tensors] == ["w"]


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
