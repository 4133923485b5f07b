"""Drawing one tensor: its values, its bytes, what is told of them, and where it happens."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from scipy import stats
from torch import nn

from reinit_cli import apply_, rewrite
from reinit_cli.errors import UnfillableError, UnknownNameError
from reinit_cli.execution.draw import expected_moments
from reinit_cli.initializers import Law, parse_init
from reinit_cli.initializers.law import Constant, Normal, Uniform
from reinit_cli.storage.segments import Literal, View
from reinit_cli.streams.torch.stream import TorchStream
from reinit_cli.tensors.convert import bytes_of, read
from reinit_cli.tensors.device import check_device, one_thread
from reinit_cli.tensors.dtype import DTYPES
from reinit_cli.tensors.moments import BLOCK_NUMEL, Moments, moments_of
from reinit_cli.tensors.rounding import elements_of_tensor, rounded, torch_tensor
from tests.draws import draw, draw_blocks
from tests.tools import needs_safetensors, needs_torch

REAL = [name for name, dtype in DTYPES.items() if dtype.kind != "complex"]
INTEGERS = [name for name, dtype in DTYPES.items() if dtype.kind == "integer"]
NARROW = [
    name for name, dtype in DTYPES.items() if dtype.kind == "float" and dtype.nbits in (8, 16)
]

numbers = st.lists(st.floats(-1e6, 1e6, width=32), max_size=20)
without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


def _law(text: str, shape: tuple[int, ...] = ()) -> Law:
    law = parse_init(text).law(shape)
    assert law is not None
    return law


def _moments(values: list[float]) -> Moments:
    return moments_of(elements_of_tensor(torch.tensor(values, dtype=torch.float64)))


def _close(one: Moments, other: Moments) -> bool:
    return (one.numel, one.low, one.high) == (other.numel, other.low, other.high) and (
        math.isclose(one.mean, other.mean, rel_tol=1e-9, abs_tol=1e-6)
        and math.isclose(one.squares, other.squares, rel_tol=1e-9, abs_tol=1e-3)
    )


@given(numbers, numbers, numbers)
def test_moments_of_parts_add_up_to_those_of_the_whole(
    first: list[float], second: list[float], third: list[float]
) -> None:
    whole = _moments(first + second + third)

    assert _close(_moments(first) + _moments(second) + _moments(third), whole)
    assert _close(_moments(third) + (_moments(second) + _moments(first)), whole)


def test_moments_of_nothing_change_nothing() -> None:
    some = _moments([1.0, 4.0])

    assert some + Moments() == Moments() + some == some
    assert math.isnan(Moments().std)
    assert moments_of(elements_of_tensor(torch.empty(3, 0))) == Moments()


@pytest.mark.parametrize("dtype", REAL)
def test_moments_are_torch_s(dtype: str) -> None:
    signed = 0 if dtype.startswith("uint") else -3
    tensor = torch.tensor([[signed, 0, 1], [1, 2, 3]]).to(getattr(torch, dtype))
    values = tensor.to(torch.float64)

    got = moments_of(elements_of_tensor(tensor))

    assert (got.numel, got.low, got.high) == (6, values.min().item(), values.max().item())
    assert got.mean == pytest.approx(values.mean().item(), rel=1e-6)
    assert got.std == pytest.approx(values.std(correction=0).item(), rel=1e-6)


def test_moments_of_one_element_have_no_spread() -> None:
    assert moments_of(elements_of_tensor(torch.tensor(2.5))) == Moments(1, 2.5, 0.0, 2.5, 2.5)


def test_expected_moments_are_those_of_the_law() -> None:
    expected = expected_moments(_law("uniform:-1,3"), 12)

    assert (expected.numel, expected.mean, expected.low, expected.high) == (12, 1.0, -1.0, 3.0)
    assert expected.std == pytest.approx(4 / math.sqrt(12))


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_the_bytes_of_a_tensor_are_those_that_safetensors_or_torch_write(
    dtype: str, tmp_path: Path
) -> None:
    tensor = torch.tensor([[1, 0, 1], [0, 1, 1]]).to(getattr(torch, dtype))
    path = tmp_path / "one.safetensors"
    try:
        save_file({"a": tensor}, path)
    except (KeyError, ValueError):  # safetensors has no name for the dtype
        expected = tensor.view(torch.uint8).numpy().tobytes()
    else:
        written = path.read_bytes()
        expected = written[8 + int.from_bytes(written[:8], "little") :]

    assert bytes_of(elements_of_tensor(tensor).array).tobytes() == expected
    assert torch.equal(
        torch_tensor(read(View.of(Literal(expected), dtype, (2, 3)))).flatten().view(torch.uint8),
        tensor.flatten().view(torch.uint8),
    )


def test_the_bytes_of_a_tensor_are_no_copy_and_keep_it_alive() -> None:
    array = np.zeros(4, np.uint8)
    view = bytes_of(array)
    array[2] = 7
    del array

    assert (view.format, view.nbytes, bytes(view)) == ("B", 4, b"\0\0\7\0")


def test_the_bytes_of_an_empty_tensor_are_none() -> None:
    assert bytes_of(np.empty((0, 3))).nbytes == 0
    assert read(View.of(Literal(b""), "float16", (0, 3))).array.shape == (0, 3)


@pytest.mark.parametrize("dtype", NARROW)
def test_a_rounded_value_is_the_nearest_there_is(dtype: str) -> None:
    """Checked against every value that the dtype has, ties going to the even one."""
    kind = getattr(torch, dtype)
    whole = torch.int8 if kind.itemsize == 1 else torch.int16
    codes = torch.arange(2 ** (8 * kind.itemsize)).to(whole)
    table = codes.view(kind).double()
    finite = table.isfinite()
    table, order = table[finite].sort()
    is_even = (codes[finite] % 2 == 0)[order]
    drawn = draw(_law("normal:std=2"), (3000,), "float32", 0, "cpu")
    # Halves between neighbours, exact in float32, so that ties are met too.
    near_one = table[(table >= 1) & (table <= 2)]
    drawn = torch.cat([drawn, ((near_one[1:] + near_one[:-1]) / 2).float()])

    got = torch_tensor(rounded(drawn.numpy(), dtype)).double()

    above = torch.searchsorted(table, drawn.double()).clamp(1, len(table) - 1)
    low, high = table[above - 1], table[above]
    to_low, to_high = drawn - low, high - drawn
    is_tie = to_low == to_high
    expected = torch.where(to_low < to_high, low, high)
    expected = torch.where(is_tie & is_even[above - 1], low, expected)
    assert is_tie.any()
    assert torch.equal(got, expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn", "float32"])
def test_other_floats_are_drawn_in_float32(dtype: str) -> None:
    drawn = draw(_law("normal"), (40,), dtype, 3, "cpu")

    assert drawn.dtype == torch.float32
    assert torch.equal(drawn, torch.empty(40).normal_(generator=torch.Generator().manual_seed(3)))


def test_float64_is_drawn_in_float64() -> None:
    drawn = draw(_law("normal"), (40,), "float64", 3, "cpu")

    assert drawn.dtype == torch.float64
    assert not torch.equal(drawn, drawn.float().double())


def _constant(dtype: str, value: str) -> list[object]:
    state = {"w": torch.zeros(2, 1).to(getattr(torch, dtype))}
    apply_(state, [f"w=constant:{value}"])
    return state["w"].flatten().tolist()


@pytest.mark.parametrize("dtype", INTEGERS)
def test_an_integer_holds_its_bounds_exactly(dtype: str) -> None:
    bounds = torch.iinfo(getattr(torch, dtype))

    assert _constant(dtype, str(bounds.max)) == [bounds.max] * 2
    assert _constant(dtype, str(bounds.min)) == [bounds.min] * 2


@pytest.mark.parametrize("dtype", INTEGERS)
def test_an_integer_refuses_what_lies_just_beyond_its_bounds(dtype: str) -> None:
    bounds = torch.iinfo(getattr(torch, dtype))

    for beyond in (bounds.max + 1, bounds.min - 1):
        with pytest.raises(UnfillableError, match=f"(?m){dtype} cannot hold .* exactly$"):
            _constant(dtype, str(beyond))


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("int64", 2**53 + 1), ("int64", -(2**53) - 1), ("int64", 2**62 + 1), ("uint64", 2**63 + 1)],
)
def test_an_integer_that_no_float_can_hold_is_written_as_it_was_given(
    dtype: str, value: int
) -> None:
    assert _constant(dtype, str(value)) == [value] * 2


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("bool", "1", True),
        ("bool", "0", False),
        ("int32", "16777217", 16777217),  # 2^24 + 1, which float32 has not
        ("int8", "-128", -128),
        ("complex64", "0.5", 0.5 + 0j),
        ("complex128", "0.1", 0.1 + 0j),
        ("float64", "0.1", 0.1),
        ("float32", "inf", math.inf),
    ],
)
def test_a_constant_is_exact(dtype: str, value: str, expected: object) -> None:
    assert _constant(dtype, value) == [expected] * 2


def test_a_constant_of_a_complex_dtype_has_that_dtype_at_once() -> None:
    drawn = draw(_law("constant:0.1"), (2,), "complex128", 0, "cpu")

    assert drawn.dtype == torch.complex128
    assert drawn.tolist() == [0.1 + 0j] * 2


def test_a_complex_tensor_is_rewritten_without_a_warning(tmp_path: Path) -> None:
    needs_safetensors("complex64")
    source, output = str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors")
    save_file({"a": torch.full((3,), 2 + 1j, dtype=torch.complex64)}, source)
    torch.set_warn_always(True)  # or torch warns but once in a process
    try:
        rewrite(source, ["a=constant:0.5"], output)
    finally:
        torch.set_warn_always(False)

    with safe_open(output, "pt") as file:
        assert file.get_tensor("a").tolist() == [0.5 + 0j] * 3


@pytest.mark.parametrize(
    ("dtype", "init"),
    [("float32", "uniform:-3e38,3e38"), ("float64", "uniform:-1.7e308,1.7e308")],
)
def test_a_uniform_wider_than_torch_can_draw_is_refused_and_not_met_in_the_run(
    dtype: str, init: str
) -> None:
    with pytest.raises(UnfillableError):
        apply_({"w": torch.zeros(2, dtype=getattr(torch, dtype))}, [f"w={init}"])


def test_one_thread_is_one_thread_and_no_longer() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_one_thread_lasts_as_long_as_anybody_wants_it() -> None:
    before = torch.get_num_threads()
    first, second = one_thread(), one_thread()
    try:
        torch.set_num_threads(2)
        with first:
            second.__enter__()
        assert torch.get_num_threads() == 1
        second.__exit__(None, None, None)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_processor_is_always_there() -> None:
    assert check_device("cpu") == "cpu"


@without_cuda
@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is a Metal device")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps", "tpu", "", "cpu:1"])
def test_a_device_that_is_not_there_is_an_error_that_says_what_there_is(device: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        check_device(device)

    assert str(caught.value) == f"device {device!r} is not available (available: cpu)"
    assert (caught.value.about, caught.value.known) == (device, ("cpu",))


@pytest.mark.parametrize(
    ("cuda", "mps", "there", "auto"),
    [
        (0, False, ("cpu",), "cpu"),
        (2, False, ("cpu", "cuda", "cuda:0", "cuda:1"), "cuda"),
        (0, True, ("cpu", "mps"), "mps"),
        (1, True, ("cpu", "cuda", "cuda:0", "mps"), "cuda"),
    ],
)
def test_auto_takes_the_first_accelerator_there_is(
    cuda: int, mps: bool, there: tuple[str, ...], auto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    assert check_device("auto") == auto
    assert [check_device(device) for device in there] == list(there)
    with pytest.raises(UnknownNameError) as caught:
        check_device("cuda:2")
    assert caught.value.known == there


def _orthogonal(tensor: torch.Tensor, generator: torch.Generator) -> None:
    """Draw as torch's own, but factor in float64 and round once."""
    q, r = torch.linalg.qr(tensor.normal_(generator=generator).double())
    tensor.copy_(q * torch.diag(r).sign())


def _sparse(tensor: torch.Tensor, generator: torch.Generator) -> None:
    """Draw as torch's own, but take the zeros from the same generator."""
    tensor.normal_(0, 0.01, generator=generator)
    for column in tensor.T:
        order = torch.randperm(len(column), generator=generator, device=tensor.device)
        column[order[:3]] = 0


ON_GPU = {
    "normal": nn.init.normal_,
    "uniform": nn.init.uniform_,
    "trunc_normal": nn.init.trunc_normal_,
    "orthogonal": _orthogonal,
    "sparse:0.1": _sparse,
}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("text", list(ON_GPU))
def test_a_draw_on_the_gpu_is_torch_s_there_and_comes_back(text: str) -> None:
    if text == "trunc_normal":
        needs_torch("2.12", "trunc_normal_ redraws what is out of bounds")
    state = {"w": torch.zeros(30, 20)}
    expected = torch.empty(30, 20, device="cuda")
    generator = torch.Generator("cuda").manual_seed(TorchStream().seed_for(0, "w"))
    ON_GPU[text](expected, generator=generator)
    before = torch.cuda.get_rng_state()

    apply_(state, [f"w={text}"], device="cuda", stream="torch")

    assert state["w"].device.type == "cpu"
    assert torch.equal(state["w"], expected.cpu())
    assert torch.equal(torch.cuda.get_rng_state(), before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("bounds", ["", ":a=1,b=1.5"])
def test_a_truncated_normal_of_the_gpu_lies_within_its_bounds_and_follows_its_law(
    bounds: str,
) -> None:
    state = {"w": torch.zeros(300_000)}

    plan = apply_(state, [f"w=trunc_normal{bounds}"], device="cuda", stream="torch")

    law = plan.steps[0].law
    assert law is not None
    assert law.low <= state["w"].min() <= state["w"].max() <= law.high
    assert stats.kstest(state["w"].numpy(), np.vectorize(law.cdf)).pvalue > 1e-4


@pytest.mark.parametrize("beyond", [-1, 0, 1, 15, 16, 17, BLOCK_NUMEL + 5])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("law", [Normal(0.5, 2.0), Uniform(-3.0, 1.0), Constant(0.25)])
def test_blocks_of_a_large_tensor_are_the_tensor_that_torch_draws(
    law: Law, dtype: str, beyond: int
) -> None:
    numel = BLOCK_NUMEL + beyond
    whole = draw(law, (numel,), dtype, 11, "cpu")

    blocks = [block.clone() for block in draw_blocks(law, (numel,), dtype, 11, "cpu")]

    assert torch.equal(torch.cat(blocks), whole)
    assert max(block.numel() for block in blocks) < BLOCK_NUMEL + 16


def test_moments_are_those_of_double_precision_whatever_the_mean() -> None:
    values = torch.randn(3 * BLOCK_NUMEL + 7, generator=torch.Generator().manual_seed(1)) + 1000

    found = moments_of(elements_of_tensor(values))

    exact = values.double()
    assert found.mean == pytest.approx(exact.mean().item(), rel=1e-6)
    assert found.std == pytest.approx(exact.std(correction=0).item(), rel=1e-4)
    assert (found.low, found.high) == (exact.min().item(), exact.max().item())
