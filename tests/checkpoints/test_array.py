"""Arrays of NumPy are read as NumPy writes them, and nothing in them is run."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from reinit_cli import ReinitError, apply_, rewrite, verify
from reinit_cli.checkpoints.array import array_source
from reinit_cli.cli import main
from reinit_cli.errors import SourceError

DTYPES = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16"]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _saved(array: np.ndarray, name: str = "a.npy", version: tuple[int, int] = (1, 0)) -> str:
    with open(name, "wb") as file:
        np.lib.format.write_array(file, array, version=version)
    return name


@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_shape_and_order_is_what_numpy_reads(
    dtype: str, order: str, shape: tuple[int, ...]
) -> None:
    array = np.asarray(np.random.default_rng(1).normal(0, 50, shape).astype(dtype), order=order)
    there = torch.zeros(shape, dtype=torch.from_numpy(np.zeros(1, dtype)).dtype)

    apply_({"w": there}, [f"w=values:{_saved(array)}"])

    assert there.numpy().tobytes() == np.load("a.npy").tobytes()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format_is_read(version: tuple[int, int]) -> None:
    state = {"w": torch.zeros(3)}

    apply_(state, [f"w=values:{_saved(np.float32([1, 2, 3]), version=version)}"])

    assert state["w"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_another_dtype_of_floats_is_rounded_once(dtype: torch.dtype) -> None:
    array = np.random.default_rng(1).normal(size=(40, 30))
    state = {"w": torch.zeros(40, 30, dtype=dtype)}

    apply_(state, [f"w=values:{_saved(array)}"])

    assert state["w"].equal(torch.from_numpy(array).float().to(dtype))


def test_a_run_writes_it_and_its_record_verifies() -> None:
    save_file({"w": torch.zeros(4, 3), "b": torch.zeros(2)}, "m.safetensors")
    array = np.arange(12, dtype="f4").reshape(4, 3)

    rewrite("m.safetensors", [f"w=values:{_saved(array)}"], "new.safetensors", record=True)

    found = load_file("new.safetensors")
    assert np.array_equal(found["w"].numpy(), array)
    assert not found["b"].any()
    assert verify("new.safetensors", source="m.safetensors").findings == ()


def _bytes(change: Callable[[bytes], bytes]) -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros((4, 3), "f4"))
    return change(file.getvalue())


def _objects() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([print, None], dtype=object), allow_pickle=True)
    return file.getvalue()


def _array(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


REFUSED = {
    "a shape": (_array(np.zeros((3, 4), "f4")), r"in 'a.npy' its shape is 3x4"),
    "integers": (_array(np.zeros((4, 3), "i4")), "in 'a.npy' it is int32, not float32"),
    "objects": (_objects(), "an array of Python objects, which are pickled, which cannot be read"),
    "big-endian": (_array(np.zeros((4, 3), ">f4")), "an array of big-endian numbers"),
    "records": (_array(np.zeros(3, [("x", "f4")])), "an array of records"),
    "texts": (_array(np.array(["a"])), "an array of '<U1'"),
    "truncated": (_bytes(lambda some: some[:-1]), "it ends before the last of its 12 elements"),
    "a head alone": (_bytes(lambda some: some[:9]), "its header is longer than it can be"),
    "no array": (b"PK\x03\x04 and so on", "it does not start as NumPy writes it"),
    "nothing": (b"", "it does not start as NumPy writes it"),
    "a call": (_bytes(lambda some: some.replace(b"False", b"f(10)")), "its header is not that of"),
    "no shape": (_bytes(lambda some: some.replace(b"(4, 3)", b"(4,,3)")), "its header is not that"),
    "huge": (
        _bytes(lambda some: some.replace(b"(4, 3), }   ", b"(4, 99999999999999999), }   "[:13])),
        "not that of an array|it ends before",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_such_an_array_is_refused(name: str) -> None:
    content, problem = REFUSED[name]
    Path("a.npy").write_bytes(content)

    with pytest.raises(ReinitError, match=problem):
        apply_({"w": torch.zeros(4, 3)}, ["w=values:a.npy"])


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(ReinitError, match=r"no such file: 'gone\.npy'"):
        apply_({"w": torch.zeros(4, 3)}, ["w=values:gone.npy"])


@given(st.integers(0, 127), st.binary(min_size=1, max_size=4))
def test_a_damaged_header_is_read_or_refused(at: int, some: bytes) -> None:
    whole = _bytes(bytes)
    Path("damaged.npy").write_bytes(whole[:at] + some + whole[at + len(some) :])

    try:
        source = array_source("damaged.npy")
    except SourceError:
        return
    tensor = source.tensors[0]
    assert tensor.nbytes + source.first <= len(whole) + 4


@pytest.mark.parametrize(
    "array",
    [np.array([1, None]), np.zeros(2, ">f8"), np.zeros(2, [("a", "f4")]), np.zeros(2, "U3")],
    ids=lambda array: str(array.dtype),
)
def test_an_array_that_cannot_be_read_comes_with_a_call_of_numpy(array: np.ndarray) -> None:
    np.save("a.npy", array)

    with pytest.raises(SourceError) as error:
        apply_({"w": torch.zeros(2)}, ["w=values:a.npy"])

    assert error.value.hint == "save it as numbers, such as numpy.save(FILE, array.astype('<f4'))"


def test_a_missing_array_is_not_taken_for_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"w": torch.ones(3)}, "m.safetensors")
    assert main(["m.safetensors", "-r", "w=values:x.npy"]) == 2
    assert capsys.readouterr().err == "error: no such file: 'x.npy'\n"
