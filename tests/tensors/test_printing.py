"""Tensors as text: torch's own, character for character."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch._tensor_str import printoptions

from reinit_cli.tensors.dtype import DTYPES
from reinit_cli.tensors.elements import Elements
from reinit_cli.tensors.printing import Style, printed, printed_tensor

SHAPES = (
    *((), (0,), (0, 3), (1, 0), (1,), (6,), (7,), (30,), (1000,), (1001,)),
    *((2, 3), (3, 2, 2), (40, 40), (2, 600), (600, 2), (7, 7, 7, 7), (1,) * 70, (2,) * 10),
)

WIDTHS = (5, 30, 72, 80)


def _tiled(values: Sequence[complex], shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    kind = DTYPES[dtype].kind
    if kind == "integer":
        rest = [int(each.real) % 2 ** DTYPES[dtype].nbits for each in map(_finite, values)]
        stored = np.array(rest, f"u{DTYPES[dtype].nbits // 8}")
        flat = torch.from_numpy(stored.view(dtype))
    else:
        flat = torch.tensor(values, dtype=torch.complex128)
        flat = (flat if kind == "complex" else flat.real).to(getattr(torch, dtype))
    return flat[torch.arange(prod(shape)) % len(values)].reshape(shape)


def _finite(value: complex) -> complex:
    return complex(np.nan_to_num(value, posinf=1e20, neginf=-1e20))


numbers = st.one_of(
    st.integers(-20, 20).map(float),
    st.integers(-(2**66), 2**66).map(float),
    st.floats(-2, 2, width=16),
    st.floats(),
    st.sampled_from([0.0, -0.0, 1e-4, 1e8, 99999999.0, 1e-310, 65504.0, 0.99999999]),
)
values = st.lists(st.builds(complex, numbers, numbers), min_size=1, max_size=8)


@given(values, st.sampled_from(SHAPES), st.sampled_from(sorted(DTYPES)), st.sampled_from(WIDTHS))
@example([1e308, 1e-308], (7,), "float64", 80)
@example([0.5, 999.5, 0.05], (7,), "float32", 80)
@example([0.5, -500.5], (3, 4), "float16", 80)
@example([2.0**63, 1.0], (3,), "uint64", 80)
@example([1 - 2j, 0.5 - 0j, complex("nan-infj")], (2, 3), "complex32", 80)
def test_a_tensor_is_written_as_torch_writes_it(
    values: list[complex], shape: tuple[int, ...], dtype: str, width: int
) -> None:
    tensor = _tiled(values, shape, dtype)

    with printoptions(linewidth=width):
        expected = str(tensor)

    assert printed_tensor(tensor, Style(linewidth=width)) == expected


OPTIONS: tuple[dict[str, Any], ...] = (
    {"edgeitems": 0, "threshold": 2},
    {"edgeitems": 1, "threshold": 3},
    {"precision": 2, "linewidth": 30},
    {"precision": 0},
    {"sci_mode": True},
    {"sci_mode": False},
    {"profile": "full"},
)


@pytest.fixture
def own_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "complex64", "complex128"])
@pytest.mark.usefixtures("own_dtype")
def test_options_that_a_process_has_set_in_torch_are_obeyed(
    dtype: str, options: dict[str, Any]
) -> None:
    for shape in SHAPES:
        tensor = _tiled([1.5, -2e5j, 0.001, 12.0], shape, dtype)
        with printoptions(**options):
            assert printed_tensor(tensor, Style.of_process()) == str(tensor)


def test_bits_are_all_that_is_needed() -> None:
    bits = Elements(np.array([[0x3F00, 0xBF80], [0x7F80, 0x4000]], np.uint16), "bfloat16")
    tensor = torch.tensor([[0.5, -1.0], [np.inf, 2.0]])

    assert printed(bits, (2, 2), Style()) == str(tensor.bfloat16())


def test_a_style_is_that_of_torch_where_torch_is_not_imported() -> None:
    code = (
        "import sys; from reinit_cli.tensors.printing import Style;"
        "print(Style.of_process() == Style(), 'torch' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "True False\n"
    assert Style.of_process() == Style()


def test_lines_leave_room_for_brackets_on_a_narrow_screen() -> None:
    lines = printed_tensor(torch.rand(3, 100), Style().full.within(50)).splitlines()

    assert 40 < max(map(len, lines)) <= 50
    assert Style().within(200) == Style().within(None) == Style()
