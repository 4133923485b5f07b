"""Casts by numpy give the bits that torch's casts give."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch

from reinit_cli.tensors.dtype import DTYPES
from reinit_cli.tensors.elements import Elements, stored_dtype
from reinit_cli.tensors.rounding import (
    Array,
    elements_of_tensor,
    numbers,
    recast,
    rounded,
    torch_tensor,
)

EIGHTS = ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"]
NARROW = ["bfloat16", "float16", *EIGHTS]
FLOATS = ["float64", "float32", *NARROW]

SATURATES = torch.tensor([500.0]).to(torch.float8_e4m3fn).item() == 448
"""Torch's e4m3fn made overflow NaN until 2.12; what is expected here is what it does since."""


def _torch_dtype(name: str) -> torch.dtype:
    found = getattr(torch, name)
    assert isinstance(found, torch.dtype)
    return found


def _every_pattern(name: str) -> Elements:
    stored = stored_dtype(name)
    codes = np.arange(256**stored.itemsize, dtype=f"<u{stored.itemsize}")
    return Elements(codes.view(stored), name)


def _torchs(values: Array, name: str) -> torch.Tensor:
    """Return what torch's cast gives."""
    cast = torch.from_numpy(values).to(_torch_dtype(name))
    if name != "float8_e4m3fn" or SATURATES:
        return cast
    limited = torch.from_numpy(np.clip(values, -448, 448))
    return limited.to(_torch_dtype(name))


def _torchs_recast(
    tensor: torch.Tensor, target: torch.dtype, *, saturates: bool
) -> tuple[torch.Tensor, int]:
    """Return torch's cast, and how many numbers it makes infinite or NaN."""
    wide = tensor if tensor.itemsize > 2 else tensor.float()
    largest = torch.finfo(target).max
    if saturates and largest < torch.finfo(tensor.dtype).max:
        wide = torch.where(wide.isinf(), wide, wide.clamp(-largest, largest))
    cast = wide.to(target)
    return cast, int((wide.isfinite() & ~cast.double().isfinite()).sum())


def _differing(ours: torch.Tensor, theirs: torch.Tensor) -> int:
    """Count the elements of which a bit differs, NaNs aside."""
    assert ours.dtype == theirs.dtype
    bits = [torch.uint8, torch.int16, torch.int32, torch.int64][ours.itemsize.bit_length() - 1]
    (apart,) = torch.nonzero(ours.view(bits) != theirs.view(bits), as_tuple=True)
    if not apart.numel():
        return 0
    both_nan = ours[apart].double().isnan() & theirs[apart].double().isnan()
    return int((~both_nan).sum())


def _dense() -> Array:
    """Return float32 patterns: 2,048 around every upper half, ties and their neighbors too."""
    generator = np.random.default_rng(16)
    upper = np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)
    ties = [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0x0FFF, 0x1000, 0x1001, 0x3000, 0x2FFF]
    chosen = generator.choice(1 << 16, 32, replace=False)
    lower = np.array(sorted({*ties, *chosen.tolist()}), np.uint32)
    return (upper[:, None] | lower).reshape(-1).view(np.float32)


def _wide(values: Array) -> Array:
    """Return float32 as float64, signaling NaNs too."""
    with np.errstate(invalid="ignore"):
        return values.astype(np.float64)


@pytest.mark.parametrize("name", NARROW)
def test_every_float32_near_a_narrower_one_is_rounded_as_torch_rounds_it(name: str) -> None:
    values = _dense()

    assert _differing(torch_tensor(rounded(values, name)), _torchs(values, name)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NARROW)
def test_every_float32_is_rounded_as_torch_rounds_it(name: str) -> None:
    last = np.arange(1 << 22, dtype=np.uint32)
    for first in range(0, 1 << 32, 1 << 22):
        values = (last + np.uint32(first)).view(np.float32)
        ours, theirs = rounded(values, name), elements_of_tensor(_torchs(values, name))
        if not np.array_equal(ours.array, theirs.array):
            assert _differing(torch_tensor(ours), torch_tensor(theirs)) == 0


@pytest.mark.parametrize("name", NARROW)
def test_every_pattern_is_widened_exactly(name: str) -> None:
    every = _every_pattern(name)

    assert numbers(every).dtype == np.float32
    assert _differing(torch.from_numpy(numbers(every)), torch_tensor(every).float()) == 0


@pytest.mark.parametrize("name", NARROW)
def test_what_is_widened_rounds_back_to_itself(name: str) -> None:
    every = _every_pattern(name)

    assert _differing(torch_tensor(rounded(numbers(every), name)), torch_tensor(every)) == 0


@pytest.mark.parametrize("name", ["float32", *NARROW])
def test_float64_is_rounded_as_torch_rounds_it_by_way_of_float32(name: str) -> None:
    narrow, halves = (_wide(numbers(_every_pattern(each))) for each in ("float16", "bfloat16"))
    factors = [1 + sign * 2.0**-place for place in range(1, 53) for sign in (1, -1)]
    tilted = [1 + 2.0**-place + 2.0**-40 for place in (4, 3, 9, 8, 12, 11)]
    with np.errstate(all="ignore"):
        values = np.concatenate(
            [each * f for f in (*factors, *tilted) for each in (narrow, halves)]
        )

    assert _differing(torch_tensor(rounded(values, name)), _torchs(values, name)) == 0


@pytest.mark.parametrize(
    ("name", "nan"),
    [("bfloat16", 0x7FC0), ("float16", 0x7E00), ("float8_e4m3fn", 0x7F), ("float8_e5m2", 0x7F)],
)
def test_a_nan_gets_the_bits_that_one_number_gets_from_torch(name: str, nan: int) -> None:
    cast = rounded(np.array([np.nan, 1.0], np.float32), name)

    assert cast.array.view(f"<u{cast.array.itemsize}")[0] == nan
    assert numbers(cast)[1] == 1


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (70_001,), (3, 5, 7)])
def test_any_shape_and_stride_is_rounded_and_widened(name: str, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32).T

    cast = rounded(values, name)

    assert cast.array.shape == values.shape
    assert cast.array.flags.c_contiguous
    assert torch.equal(
        torch_tensor(cast).float(), torch.from_numpy(values).to(_torch_dtype(name)).float()
    )
    assert numbers(Elements(cast.array.T, name)).shape == shape


@pytest.mark.parametrize(
    ("source", "target"), [pair for pair in itertools.product(FLOATS, FLOATS) if pair[0] != pair[1]]
)
@pytest.mark.parametrize("saturates", [False, True])
def test_recasting_gives_torchs_bits_and_counts_what_is_lost(
    source: str, target: str, *, saturates: bool
) -> None:
    tensor = torch.from_numpy(_dense()[::7]).to(_torch_dtype(source))
    if source == "float64":
        tensor = torch.cat((tensor, tensor * 2.0**-140, tensor * 2.0**900))

    ours, lost = recast(elements_of_tensor(tensor), target, saturates=saturates)
    theirs, theirs_lost = _torchs_recast(tensor, _torch_dtype(target), saturates=saturates)

    if target == "float8_e4m3fn" and not SATURATES:
        pytest.skip("this torch makes overflow NaN")
    assert _differing(torch_tensor(ours), theirs) == 0
    assert lost == theirs_lost


@pytest.mark.parametrize("name", DTYPES)
def test_a_dtype_recast_to_itself_keeps_every_bit(name: str) -> None:
    data = np.random.default_rng(1).bytes(64 * 16)
    array = np.frombuffer(data, "?" if name == "bool" else stored_dtype(name))
    if name == "bool":
        array = array.view(np.uint8) % 2 == 1

    same, lost = recast(Elements(array[::2], name), name)

    assert lost == 0
    assert same.array.flags.c_contiguous
    assert same.array.tobytes() == array[::2].tobytes()


INTEGERS = [name for name, dtype in DTYPES.items() if dtype.kind in {"integer", "bool"}]


@pytest.mark.parametrize("source", INTEGERS)
@pytest.mark.parametrize("target", [*FLOATS, *INTEGERS])
def test_integers_become_floats_and_integers_as_in_torch(source: str, target: str) -> None:
    stored = stored_dtype(source)
    array = np.frombuffer(np.random.default_rng(2).bytes(4096 * stored.itemsize), np.uint8)
    array = array % 2 == 1 if source == "bool" else array.view(stored)
    tensor = torch_tensor(Elements(array.copy(), source))

    ours = torch_tensor(recast(Elements(array, source), target)[0])

    assert _differing(ours, tensor.to(_torch_dtype(target))) == 0


def _parts(tensor: torch.Tensor) -> torch.Tensor:
    """Return real and imaginary parts in turn; a tensor of real numbers as it is."""
    if not tensor.is_complex():
        return tensor
    return tensor.view([torch.float16, torch.float32, torch.float64][tensor.itemsize // 8])


@pytest.mark.parametrize("source", FLOATS)
@pytest.mark.parametrize("target", [*INTEGERS, "complex32", "complex128"])
def test_floats_become_integers_as_in_torch(source: str, target: str) -> None:
    tensor = torch.arange(0, 100, 0.25).to(_torch_dtype(source))

    ours = torch_tensor(recast(elements_of_tensor(tensor), target)[0])

    assert _differing(_parts(ours), _parts(tensor.to(_torch_dtype(target)))) == 0


@pytest.mark.parametrize("source", ["complex32", "complex64", "complex128"])
@pytest.mark.parametrize("target", ["complex32", "complex64", "complex128"])
def test_complex_numbers_are_rounded_part_by_part(source: str, target: str) -> None:
    parts = torch.from_numpy(_wide(_dense()[: 2 * 10**6 : 3]))
    tensor = torch.complex(parts, parts.flip(0) * (1 + 2.0**-30)).to(_torch_dtype(source))

    ours = torch_tensor(recast(elements_of_tensor(tensor), target)[0])
    theirs = tensor.to(_torch_dtype(target))

    assert _differing(_parts(ours), _parts(theirs)) == 0


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(), (2, 3), (0, 4)])
def test_a_tensor_of_torch_and_its_elements_share_memory(name: str, shape: tuple[int, ...]) -> None:
    tensor = torch.zeros(shape).to(_torch_dtype(name)).t()

    elements = elements_of_tensor(tensor)
    back = torch_tensor(elements)

    assert elements.array.dtype == stored_dtype(name)
    assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
    assert back.stride() == tensor.stride() or not tensor.numel()
    assert back.data_ptr() == tensor.data_ptr()


def test_elements_that_may_not_be_written_are_copied_for_torch() -> None:
    elements = Elements(np.frombuffer(b"\0\x01\x02\x03", "<u2"), "bfloat16")
    reversed_elements = Elements(np.arange(3, dtype="<f4")[::-1], "float32")

    torch_tensor(elements).zero_()

    assert elements.array.tobytes() == b"\0\x01\x02\x03"
    assert torch_tensor(reversed_elements).tolist() == [2, 1, 0]


def test_elements_of_a_conjugate_view_are_what_the_view_shows() -> None:
    tensor = torch.tensor([1 + 2j], dtype=torch.complex64, requires_grad=True)

    assert elements_of_tensor(tensor.conj()).array.tolist() == [1 - 2j]


def test_casting_imports_no_torch() -> None:
    code = """
import sys, numpy
from reinit_cli.tensors.rounding import recast, rounded
for name in ("bfloat16", "float16", "float8_e4m3fn", "complex32"):
    recast(rounded(numpy.ones(9, numpy.float32), name), name)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_module_imports_no_numpy() -> None:
    code = "import sys, reinit_cli.tensors.rounding; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
