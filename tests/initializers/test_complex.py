"""Complex tensors are filled as torch fills them, or as Trabelsi et al. 2018 publish it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy import stats

from reinit_cli import apply_, rewrite, verify
from reinit_cli.initializers import Site, parse_init
from reinit_cli.streams.stream import seed_for
from reinit_cli.tensors.moments import BLOCK_NUMEL
from tests.initializers.made import made

COMPLEX = pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(seed_for(5, "weight"))


@COMPLEX
@pytest.mark.parametrize("shape", [(3,), (41, 7), (BLOCK_NUMEL + 5,), ()], ids=str)
def test_a_normal_is_the_normal_of_torch(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    expected = torch.empty(shape, dtype=dtype).normal_(0.5, 0.02, generator=generator())

    assert made("normal:0.5,0.02", shape, 5, dtype, "torch-1").equal(expected)


@COMPLEX
def test_a_uniform_has_both_parts_of_torch_s_uniform(dtype: torch.dtype) -> None:
    expected = torch.rand(41, 7, dtype=dtype, generator=generator())

    assert made("uniform", (41, 7), 5, dtype, "torch-1").equal(expected)


@pytest.mark.parametrize("stream", ["philox-1", "torch-1"])
@pytest.mark.parametrize(
    ("init", "sigma"),
    [
        ("xavier_normal", 1 / math.sqrt(300 + 200)),  # of Glorot, equation 10
        ("kaiming_normal:relu", 1 / math.sqrt(200)),  # of He
        ("normal:std=1", 1 / math.sqrt(2)),
    ],
)
def test_the_magnitude_is_a_rayleigh_variable_and_the_phase_uniform(
    init: str, sigma: float, stream: str
) -> None:
    weight = made(init, (300, 200), 1, torch.complex128, stream).flatten()

    assert stats.kstest(weight.abs().numpy(), stats.rayleigh(0, sigma).cdf).pvalue > 1e-4
    phase = weight.angle().numpy()
    assert stats.kstest(phase, stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 1e-4
    assert weight.abs().square().mean().item() == pytest.approx(2 * sigma**2, rel=0.02)


def test_a_half_precision_complex_tensor_is_the_draw_rounded_once() -> None:
    wide = made("normal", (40,), 5, torch.complex64)

    assert (
        made("normal", (40,), 5, torch.complex32)
        .view(torch.int32)
        .equal(wide.to(torch.complex32).view(torch.int32))
    )


def test_any_run_is_that_of_the_whole_tensor() -> None:
    state = {"weight": torch.zeros(60, 50, dtype=torch.complex64)}

    apply_(state, ["weight[17:31]=normal"], seed=5)

    whole = made("normal", (60, 50), 5, torch.complex64)
    assert state["weight"][17:31].equal(whole[17:31])
    assert not state["weight"][:17].any()


def test_moments_and_statistics_are_those_of_real_parts() -> None:
    law = parse_init("normal:1,2").law((4, 4), Site(dtype="complex64"))

    assert law is not None
    assert (law.mean, law.std) == (1, pytest.approx(math.sqrt(2)))
    assert "distribution" not in law.statistics


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    torch.save({"wave": torch.ones(300, 40, dtype=torch.complex64), "real": torch.ones(9)}, "m.pt")
    return "m.pt"


def test_a_wildcard_fills_complex_tensors_and_the_record_verifies(file: str) -> None:
    outcome = rewrite(file, {"*": "normal:std=0.5"}, "new.safetensors", check=True, record=True)

    filled = load_file("new.safetensors")["wave"]
    assert filled.real.std().item() == pytest.approx(0.5 / math.sqrt(2), rel=0.05)
    parts = np.corrcoef(filled.real.flatten(), filled.imag.flatten())
    assert parts[0, 1] == pytest.approx(0, abs=0.05)
    assert not outcome.failures
    assert verify("new.safetensors").record["laws"] == {"complex": 2}
    assert verify("new.safetensors").findings == ()
    assert verify("new.safetensors", source=file).findings == ()


OLD, OLD_SOURCE = (
    str(Path(__file__).parents[1] / "provenance" / "data" / f"{name}.safetensors")
    for name in ("complex_1", "complex_1_source")
)
"""reinit complex_1_source.safetensors -r "*=normal:std=0.5" --record, of the time before."""


@pytest.mark.parametrize("source", [None, OLD_SOURCE], ids=["alone", "with its source"])
def test_a_record_of_the_time_when_wildcards_left_them_alone_verifies(source: str | None) -> None:
    verdict = verify(OLD, source=source)

    assert verdict.drawn == ("real",)
    assert verdict.findings == ()
    assert load_file(OLD)["wave"].equal(load_file(OLD_SOURCE)["wave"])
