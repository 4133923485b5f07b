"""Torch's stream starts where torch itself starts with the seed of a key."""

from __future__ import annotations

import torch

from reinit_cli.streams.stream import seed_for
from reinit_cli.streams.torch.stream import TorchStream


def test_the_numbers_of_a_key_are_those_of_a_generator_of_torch_with_its_seed() -> None:
    seed = TorchStream().seed_for(3, "lm_head.weight")
    expected = torch.Generator().manual_seed(seed_for(3, "lm_head.weight"))

    drawn = torch.randn(100, generator=TorchStream().chance(seed, "cpu").generator())

    assert torch.equal(drawn, torch.randn(100, generator=expected))


def test_every_generator_starts_at_the_first_number() -> None:
    first = torch.rand(5, generator=TorchStream().chance(7, "cpu").generator())

    assert torch.equal(torch.rand(5, generator=TorchStream().chance(7, "cpu").generator()), first)


def test_a_transform_draws_from_a_stream_of_its_own() -> None:
    assert TorchStream().seed_for(0, "w") != TorchStream().seed_for(0, "w", "noise")
