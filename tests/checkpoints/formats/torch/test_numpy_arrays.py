"""NumPy arrays in a torch file are listed with what they are, and carried along."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reinit_cli import plan, rewrite
from reinit_cli.cli import main
from reinit_cli.errors import UnfillableError
from reinit_cli.operations.contents import describe
from reinit_cli.tensors.info import TensorInfo
from tests.checkpoints.formats.locating import located_in


class Own(np.ndarray[Any, Any]):
    """A class of arrays, as units and masks are."""


ARRAYS = {
    "float16": np.ones((2, 3), "f2"),
    "float32": np.ones((2, 3), "f4"),
    "float64": np.full((200, 300), 0.1),
    "int8": np.arange(-3, 3, dtype="i1"),
    "uint8": np.arange(200, 256, dtype="u1"),
    "int64": np.arange(6).reshape(1, 2, 3),
    "uint16": np.arange(6, dtype="u2"),
    "bool": np.array([True, False]),
    "complex64": np.ones(3, "c8"),
    "scalar": np.array(0.5),
    "none": np.zeros((0, 3), "f4"),
    "columns": np.asfortranarray(np.ones((2, 3), "f4")),
    "big": np.arange(3, dtype=">i4"),
    "sliced": np.arange(20.0)[::2],
}


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_are_listed_by_shape_and_dtype(protocol: int, is_old: bool) -> None:
    torch.save(
        {"blobs": ARRAYS},
        "m.pt",
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=not is_old,
    )

    found = located_in("m.pt")

    assert found.root == "blobs"
    assert {each.key: (each.shape, each.dtype, each.nbytes) for each in found.tensors} == {
        key: (array.shape, array.dtype.name, array.nbytes) for key, array in ARRAYS.items()
    }
    assert all(each.carried for each in found.tensors)


def test_the_modules_of_numpy_1_are_known_too() -> None:
    torch.save({"w": ARRAYS["float32"]}, "m.pt", _use_new_zipfile_serialization=False)
    data = Path("m.pt").read_bytes()
    assert b"numpy._core" in data
    Path("m.pt").write_bytes(data.replace(b"numpy._core", b"numpy.core"))

    (tensor,) = located_in("m.pt").tensors

    assert tensor == TensorInfo("w", "float32", (2, 3), 24, carried="a NumPy array")


@pytest.mark.parametrize(
    ("array", "dtype", "why"),
    [
        (np.array([1, "x", None], dtype=object), "object", "a NumPy array of objects"),
        (ARRAYS["big"], "int32", "a NumPy array of big-endian numbers"),
        (ARRAYS["columns"], "float32", "a NumPy array in Fortran order"),
        (np.array(["abc"]), "str", "a NumPy array"),
        (np.ones(2).view(Own), "float64", f"a NumPy array ({__name__}.Own)"),
        (np.ones(2, "M8[s]"), "datetime64", "a NumPy array"),
    ],
    ids=["objects", "big-endian", "Fortran", "texts", "a class of its own", "times"],
)
def test_what_is_special_about_an_array_is_named(array: Any, dtype: str, why: str) -> None:
    torch.save({"a": array}, "m.pt")

    (tensor,) = located_in("m.pt").tensors

    assert (tensor.dtype, tensor.carried) == (dtype, why)


def test_an_array_among_tensors_is_carried_along_byte_for_byte() -> None:
    torch.save({"w": torch.ones(2), "a": ARRAYS["float32"], "b": ARRAYS["columns"]}, "m.pt")

    outcome = rewrite("m.pt", ["*=zeros"], "out.pt")

    skipped = {step.key: step.reason for step in outcome.job.plan.steps if step.action == "skip"}
    assert skipped.keys() == {"a", "b"}
    written = torch.load("out.pt", weights_only=False)
    assert written["w"].tolist() == [0, 0]
    assert (written["a"] == ARRAYS["float32"]).all()
    assert written["b"].flags.f_contiguous
    with pytest.raises(UnfillableError, match="a NumPy array in Fortran order"):
        plan("m.pt", ["b=zeros"])


def test_numbers_of_numpy_are_shown_by_value() -> None:
    numbers = {
        "f": np.float64(0.76),
        "h": np.float16(0.5),
        "i": np.int32(-7),
        "u": np.uint8(255),
        "b": np.array([True])[0],
    }
    torch.save(numbers, "m.pt")

    found = {part.path: (part.kind, part.text) for part in describe("m.pt").parts}

    assert {path: text for path, (_, text) in found.items() if path} == {
        key: repr(number.item()) for key, number in numbers.items()
    }
    assert found["f"][0] == "numpy.float64"


def test_arrays_next_to_a_state_dict_are_outlined() -> None:
    state = np.random.RandomState(0).get_state()
    torch.save({"model": {"w": torch.ones(1)}, "rng": state, "n": 1}, "m.pt")

    found = {part.path: (part.kind, part.text) for part in describe("m.pt").parts}

    assert found["rng.1"] == ("array", "624 uint32")


@pytest.mark.parametrize("shape", [(2, 4), (1, 3), (2**62, 4), (-2, -3)])
def test_an_array_whose_bytes_do_not_fit_its_shape_is_not_one(
    shape: tuple[int, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = ARRAYS["float32"].__reduce__()

    class Liar:
        def __reduce__(self) -> tuple[Any, ...]:
            state = list(whole[2])
            state[1] = shape
            return whole[0], whole[1], tuple(state)

    with pytest.raises((ValueError, TypeError, OverflowError, MemoryError)):
        pickle.loads(pickle.dumps(Liar()))
    torch.save({"w": torch.ones(1), "a": Liar()}, "m.pt")

    assert main(["keys", "m.pt", "-l"]) == 0
    assert "not a tensor" in capsys.readouterr().out
