"""Compare an output with the files that are there, instead of writing it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from reinit_cli.provenance.compare import Comparer, ComparingOutput, Gap
from reinit_cli.storage.local import LocalStore
from reinit_cli.tensors.info import TensorInfo
from tests.contracts.output_contract import DATA, OutputContract


class TestComparingOutput(OutputContract):
    files: ClassVar = {"one": DATA, "two": DATA[::-1]}
    writes_elsewhere = False

    def make(self) -> ComparingOutput:
        store = LocalStore()
        for name, data in self.files.items():
            Path(name).write_bytes(data)
        self.output = ComparingOutput({name: store.open(name) for name in self.files}, {})
        return self.output

    def holds(self, files: Mapping[str, bytes]) -> bool:
        compared = {
            name: comparer.other is None and not comparer.gaps
            for name, comparer in self.output.comparers.items()
        }
        is_alike = compared == dict.fromkeys(files, True) and not self.output.unlike
        return (is_alike or not files) and sorted(os.listdir()) == sorted(self.files)


def _compared(written: Mapping[str, bytes], there: Mapping[str, bytes]) -> ComparingOutput:
    store = LocalStore()
    for name, data in there.items():
        Path(name).write_bytes(data)
    with ComparingOutput({name: store.open(name) for name in there}, {}) as output:
        for name, data in written.items():
            output.file(name, len(data)).write_at(0, data)
        output.commit()
    return output


def test_the_first_byte_that_differs_is_found() -> None:
    output = _compared({"one": b"abcdef"}, {"one": b"abXdeX"})

    assert (output.comparers["one"].other, output.unlike) == (2, [])


def test_a_file_of_another_size_is_unlike_and_one_that_would_not_be_written_too() -> None:
    output = _compared({"one": b"abc", "new": b"x"}, {"one": b"abcd", "old": b"y"})

    assert sorted(output.unlike) == ["new", "old", "one"]


FLOATS = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2fnuz")


def _gap(there: torch.Tensor, drawn: torch.Tensor) -> Gap:
    Path("f").write_bytes(_bytes(there))
    nbytes = Path("f").stat().st_size
    dtype = str(there.dtype).removeprefix("torch.")
    info = TensorInfo("w", dtype, tuple(there.shape), nbytes)
    comparer = Comparer(LocalStore().open("f"), [((0, nbytes), info)])
    comparer.write_at(0, _bytes(drawn))
    return comparer.gaps["w"]


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_gap_is_measured_in_steps_between_floats(dtype: str) -> None:
    named = getattr(torch, dtype)
    # The bits of floats of one sign are in their order, so 40 steps lie between these two.
    bits = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[named.itemsize]
    first = torch.tensor([1.0, 1.0, 0.5]).to(named)
    second = (first.view(bits) + torch.tensor([0, 40, -3], dtype=bits)).view(named)

    gap = _gap(first, second)

    far = (first.double() - second.double()).abs().max().item()
    assert (gap.changed, gap.max_abs, gap.max_ulps) == (2, far, 40)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_steps_are_counted_across_zero(dtype: str) -> None:
    least = torch.tensor([1], dtype=torch.int64)
    named = getattr(torch, dtype)
    first = least.view(torch.uint8)[: named.itemsize].view(named)  # the smallest above zero

    assert _gap(first, -first).max_ulps == 2
    assert _gap(torch.full((1,), math.nan, dtype=named), first).max_abs == math.inf


def test_floats_of_two_signs_may_be_further_apart_than_integers_reach() -> None:
    largest = torch.tensor([math.inf], dtype=torch.float64)

    assert _gap(largest, -largest).max_ulps == 2 * 0x7FF0_0000_0000_0000


def test_gaps_of_complex_numbers_and_integers_have_no_steps() -> None:
    one, two = torch.tensor([1 + 2j, 3j]), torch.tensor([1 + 2.5j, 3j])

    assert _gap(one, two) == Gap(1, 0.5, None)
    assert _gap(torch.tensor([2**62, 5]), torch.tensor([2**62, 7])) == Gap(1, 2.0, None)
