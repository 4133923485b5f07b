"""A device draws the numbers of philox-1, bit for bit, or leaves them to the processor."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reinit_cli.streams.chance import Array
from reinit_cli.streams.philox import device as on_device
from reinit_cli.streams.philox import device_chance
from reinit_cli.streams.philox.chance import PhiloxChance
from reinit_cli.streams.philox.device_chance import DeviceChance, fault_of
from reinit_cli.streams.philox.stream import PhiloxStream
from tests.streams import slow_philox
from tests.streams.test_philox import DRAWS, KEY, MORE_DRAWS, VECTORS, Draw, bits, drawn

# On "cpu" the operations are those of a device, carried out by the processor.
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
        ],
    ),
]


@pytest.fixture
def tried_again() -> Iterator[None]:
    """Forget what is known of devices."""
    fault_of.cache_clear()
    yield
    fault_of.cache_clear()


def _drawn(draw: Draw, numel: int, element: int, device: str, dtype: type) -> Array:
    out = np.full(numel, np.nan, dtype)
    draw(DeviceChance(KEY, element, device), out)
    return out


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_device_is_found_to_draw_right(device: str, dtype: str) -> None:
    assert fault_of(device, dtype) == ""


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", DRAWS)
@pytest.mark.parametrize("name", [name for name in VECTORS if ":" in name])
def test_a_device_draws_the_published_numbers(name: str, kind: str, device: str) -> None:
    draw, dtype = DRAWS[kind]
    out = np.empty(8, dtype)

    draw(DeviceChance(int(VECTORS[name]["philox_key"], 16), 0, device), out)

    assert [f"{each:0{2 * out.itemsize}x}" for each in bits(out)] == VECTORS[name][kind]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", MORE_DRAWS)
@pytest.mark.parametrize("element", [0, 5, 2**33 + 5, 2**66 + 3])
def test_a_device_draws_what_the_processor_draws(kind: str, element: int, device: str) -> None:
    draw, dtype = MORE_DRAWS[kind]
    numel = 20_003 if device == "cpu" else on_device.PORTION_NUMEL + 20_003

    there = _drawn(draw, numel, element, device, dtype)

    assert bits(there) == bits(drawn(draw, numel, element, dtype=dtype))


@settings(max_examples=50)
@given(st.integers(0, 2**128 - 1), st.integers(0, 2**65), st.integers(0, 2), st.integers(1, 20))
def test_words_are_those_of_the_paper(key: int, at: int, lane: int, count: int) -> None:
    words = on_device.words(key, lane, at, count, "cpu").numpy().view("u4")

    assert words.tolist() == [slow_philox.word(key, at + i, lane) for i in range(count)]


@pytest.mark.parametrize("device", DEVICES)
def test_a_tensor_larger_than_a_portion_has_no_seam(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, dtype = DRAWS["normal(0, 1) float32"]
    monkeypatch.setattr(on_device, "PORTION_NUMEL", 1001)

    assert bits(_drawn(draw, 10_000, 3, device, dtype)) == bits(drawn(draw, 10_000, 3))


def test_calls_go_on_where_the_last_one_ended() -> None:
    chance, other = DeviceChance(KEY, 0, "cpu"), PhiloxChance(KEY)
    for each in (chance, other):
        out = np.empty(1003, np.float32)
        each.normal(out, 0.0, 1.0)
        each.truncated(out[:7], 0.0, 1.0, 3.0, 4.0)
        each.uniform(out[7:20], 0.0, 1.0)

    assert chance.element == other.element == 1023
    assert isinstance(chance.at(7), DeviceChance)
    assert chance.at(7).device == "cpu"
    assert chance.permutation(100).tolist() == other.permutation(100).tolist()


@pytest.mark.usefixtures("tried_again")
def test_a_device_that_draws_other_numbers_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    draw, dtype = DRAWS["normal(0, 1) float32"]
    right = on_device.normal
    monkeypatch.setattr(on_device, "normal", lambda words, mean, std: right(words, mean, -std))

    assert fault_of("cpu", "float32") == "131,078 of 196,617 numbers differ"
    assert bits(_drawn(draw, 1000, 0, "cpu", dtype)) == bits(drawn(draw, 1000))


@pytest.mark.usefixtures("tried_again")
def test_a_device_without_float64_leaves_it_to_the_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw, dtype = DRAWS["normal(0, 1) float64"]

    def fails(*_: object, **__: object) -> torch.Tensor:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype\nas MPS has none")

    monkeypatch.setattr(device_chance.on_device64, "uniform", fails)

    assert fault_of("cpu", "float64") == "Cannot convert a MPS Tensor to float64 dtype"
    assert fault_of("cpu", "float32") == ""
    assert bits(_drawn(draw, 1000, 0, "cpu", dtype)) == bits(drawn(draw, 1000, dtype=dtype))


def test_a_device_without_memory_of_its_own_is_not_used() -> None:
    assert fault_of("meta", "float32") == "Cannot copy out of meta tensor; no data!"


def test_the_stream_draws_where_it_is_told_to() -> None:
    stream = PhiloxStream()

    assert type(stream.chance(KEY, "cpu")) is PhiloxChance
    assert isinstance(stream.chance(KEY, "cuda"), DeviceChance)


@pytest.mark.slow
@pytest.mark.parametrize("capability", ["default", "avx2", "avx512"])
def test_the_bits_are_the_same_whatever_torch_makes_of_the_processor(capability: str) -> None:
    code = (
        "from reinit_cli.streams.philox.device_chance import fault_of\n"
        "assert not fault_of('cpu', 'float32') and not fault_of('cpu', 'float64')"
    )
    root = Path(__file__).parents[2]
    environment = {"ATEN_CPU_CAPABILITY": capability, "PYTHONPATH": str(root)}

    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
