"""A slice takes what torch takes, and reads no byte beyond it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reinit_cli.errors import TensorError
from reinit_cli.storage.local import InputFile
from reinit_cli.storage.segments import Copy, Literal, View
from reinit_cli.tensors.convert import read
from reinit_cli.tensors.rounding import torch_tensor
from reinit_cli.tensors.slice import parse_slice, sliced


def _view(tensor: torch.Tensor) -> View:
    data = tensor.contiguous().numpy().tobytes()
    return View.of(Literal(data), str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


@pytest.mark.parametrize(
    "text",
    [
        *("0", "-1", ":", "1:", ":2", "::2", "1:4:2", "-2:", ":-1", "...", "...,0", "0,...", "3:1"),
        *("0,:,1", ":,1:3,::3", "1,2,3", "...,1:,:", "[0, 1:2]", "-4:-1, 0", "9:"),
    ],
)
def test_a_slice_is_that_of_torch(text: str) -> None:
    tensor = torch.arange(4 * 3 * 5, dtype=torch.int32).reshape(4, 3, 5)

    found = torch_tensor(read(sliced(_view(tensor), parse_slice(text), text)))

    expected = eval(f"tensor[{text.strip('[]')}]", {"tensor": tensor})
    assert torch.equal(found, expected)


_PARTS = st.one_of(
    st.integers(-3, 2).map(str),
    st.tuples(
        *(st.one_of(st.just(""), st.integers(-4, 4).map(str)),) * 2,
        st.one_of(st.just(""), st.integers(1, 3).map(str)),
    ).map(":".join),
)


@given(st.lists(_PARTS, min_size=1, max_size=3), st.booleans())
def test_any_slice_of_any_layout_is_that_of_torch(parts: list[str], is_transposed: bool) -> None:
    base = torch.arange(60.0).reshape(3, 4, 5)
    tensor = base.permute(2, 0, 1)[:3] if is_transposed else base
    view = _view(base)
    if is_transposed:
        view = View.of(
            Literal(base.numpy().tobytes()), view.dtype, tuple(tensor.shape), tensor.stride()
        )
    text = ",".join(parts)
    try:
        expected = eval(f"tensor[{text}]", {"tensor": tensor})
    except IndexError:
        with pytest.raises(TensorError):
            sliced(view, parse_slice(text), text)
        return

    assert torch.equal(torch_tensor(read(sliced(view, parse_slice(text), text))), expected)


@pytest.mark.parametrize("text", ["", "a", "1:2:3:4", "0,,1", "::0", "::-1", "...,...", "1.5"])
def test_an_invalid_slice_is_refused(text: str) -> None:
    with pytest.raises(TensorError):
        parse_slice(text)


@pytest.mark.parametrize("text", ["3", "-4", "0,0,0"])
def test_what_a_tensor_does_not_have_is_refused(text: str) -> None:
    with pytest.raises(TensorError):
        sliced(_view(torch.zeros(3, 2)), parse_slice(text), text)


def test_only_the_bytes_between_the_first_and_the_last_element_are_read() -> None:
    Path("x").write_bytes(bytes(4000))
    with InputFile("x") as file:
        view = View.of(Copy(file, 0, 4000), "float32", (10, 100))

        part = sliced(view, parse_slice("3,10:20:2"), "")

    sole = part.sole
    assert sole is not None
    assert isinstance(sole.data, Copy)
    assert (sole.data.offset, sole.data.nbytes) == (4 * 310, 4 * 9)
