"""The laws that are recorded of models of timm and transformers, held against real ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy import stats
from torch import nn

from reinit_cli.checkpoints.models.constructor import laws_of
from reinit_cli.checkpoints.models.recording.fills import Unknown
from reinit_cli.initializers import Law
from reinit_cli.initializers.law import Normal, Uniform
from reinit_cli.initializers.truncated import TruncatedNormal
from reinit_cli.streams.torch.stream import TorchStream
from tests.cli.test_arch_transformers import MODELS
from tests.tools import package

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SEEDS = (1, 2, 3)

TIMM = (
    "beit_base_patch16_224",
    "botnet26t_256",
    "convit_tiny",
    "convnext_atto",
    "crossvit_9_240",
    "edgenext_small",
    "efficientformer_l1",
    "efficientvit_m0",
    "fasternet_t0",
    "hieradet_small",
    "inception_next_atto",
    "levit_128",
    "mambaout_femto",
    "mvitv2_tiny",
    "nfnet_f0",
    "pvt_v2_b0",
    "repvit_m0_9",
    "resmlp_12_224",
    "sequencer2d_s",
    "starnet_s1",
    "swiftformer_xs",
    "swinv2_cr_tiny_224",
    "tiny_vit_5m_224",
    "vit_tiny_patch16_224",
    "xcit_nano_12_p8_224",
)
"""One model each of families whose first weights were not followed before, of the small ones."""

COMPUTED = {"mamba": 2}
"""How many tensors of a model are computed from chance by other steps than arithmetic."""


@pytest.mark.parametrize("name", TIMM)
def test_models_of_timm_start_as_their_recorded_laws_say(name: str) -> None:
    timm = package("timm")

    _compare(lambda: timm.create_model(name), 0)


@pytest.mark.parametrize("name", [*MODELS, "mamba"])
def test_models_of_transformers_start_as_their_recorded_laws_say(name: str) -> None:
    transformers = package("transformers")
    small = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 90, "state_size": 8}
    model, sizes = MODELS.get(name, ("MambaModel", small))

    def build() -> nn.Module:
        made: nn.Module = getattr(transformers, model)(transformers.CONFIG_MAPPING[name](**sizes))
        return made

    _compare(build, COMPUTED.get(name, 0))


def _compare(build: Callable[[], nn.Module], computed: int) -> None:
    """Hold every tensor of some real models against the law that was recorded."""
    fills = laws_of(build)
    laws = {key: each.law for key, each in fills.items() if isinstance(each.law, Law)}
    assert sum(isinstance(each.law, Unknown) for each in fills.values()) == computed
    reals = [_real(build, seed) for seed in SEEDS]
    shares: list[float] = []
    for key, law in laws.items():
        values = [real[key] for real in reals]
        if law.is_random:
            shares += _follows(key, law, torch.stack(values).double())
        else:
            assert all(torch.equal(_filled(law, each), each) for each in values), key
    for key, each in fills.items():
        if each.equal_to != key:
            assert all(torch.equal(real[key], real[each.equal_to]) for real in reals), key
    assert not shares or stats.kstest(shares, "uniform").pvalue > 1e-5


def _real(build: Callable[[], nn.Module], seed: int) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        state: dict[str, Any] = build().state_dict()
    return state


def _filled(law: Law, real: torch.Tensor) -> torch.Tensor:
    filled = torch.empty(real.shape, dtype=real.dtype)
    if filled.numel():
        law.fill(filled.numpy(), TorchStream().chance(0, "cpu"))
    return filled


def _follows(key: str, law: Law, values: torch.Tensor) -> list[float]:
    """Test mean, std and bounds; return what the distribution says of some of the values."""
    flat = values.flatten()
    # The values are float32, and bounds that are far from them are rounded as they are.
    sizes = (law.std, law.mean, law.low, law.high)
    room = 1e-6 * max(abs(size) for size in sizes if math.isfinite(size))
    assert law.low - room <= flat.min().item() <= flat.max().item() <= law.high + room, key
    # timm takes the inverse of a distribution at -1 once in 2^24 draws, and clamps infinity.
    far = max(abs(law.low), abs(law.high))
    flat = flat[flat.abs() < far * 0.999] if 20 * law.std < far < math.inf else flat
    count = flat.numel()
    if count >= 100:
        assert flat.mean().item() == pytest.approx(law.mean, abs=6 * law.std / count**0.5), key
        assert flat.std().item() == pytest.approx(law.std, rel=6 / count**0.5), key
    if not isinstance(law, (Normal, Uniform, TruncatedNormal)) or not law.std:
        return []
    some = flat[:: max(1, count // 50)][:50].tolist()
    return [law.cdf(value) for value in some]
