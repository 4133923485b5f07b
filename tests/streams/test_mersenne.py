"""A generator that is moved ahead gives what torch's own gives after as many numbers."""

from __future__ import annotations

import pytest
import torch

from reinit_cli.streams.torch import mersenne
from reinit_cli.streams.torch.mersenne import is_known, later


def _after(words: int, seed: int = 5) -> torch.Generator:
    """Return a generator that has given some numbers."""
    generator = torch.Generator().manual_seed(seed)
    torch.empty(words, dtype=torch.uint8).random_(generator=generator)
    return generator


def _following(generator: torch.Generator) -> torch.Tensor:
    return torch.empty(2000).normal_(generator=generator)


@pytest.fixture
def _always_jumps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mersenne, "_SKIPPED_WORDS", 624)


@pytest.mark.usefixtures("_always_jumps")
@pytest.mark.parametrize("before", [0, 1, 623, 624, 1000])
@pytest.mark.parametrize("words", [625, 1248, 19_936, 19_937, 19_938, 40_000, 1_000_003])
def test_it_jumps_to_the_place_that_torch_reaches(before: int, words: int) -> None:
    found = later(_after(before), words)

    assert torch.equal(_following(found), _following(_after(before + words)))


@pytest.mark.slow
def test_it_jumps_over_billions_of_numbers() -> None:
    words = 2**31 + 7
    reached = torch.Generator().manual_seed(5)
    for _ in range(2**11):
        torch.empty(2**20, dtype=torch.uint8).random_(generator=reached)
    torch.empty(7, dtype=torch.uint8).random_(generator=reached)

    assert torch.equal(_following(later(_after(0), words)), _following(reached))


@pytest.mark.parametrize("words", [0, 1, 623, 5000])
def test_a_short_way_is_gone_by_drawing(words: int) -> None:
    assert torch.equal(_following(later(_after(3), words)), _following(_after(3 + words)))


def test_the_generator_that_is_moved_from_stays_as_it_is() -> None:
    generator = _after(10)
    later(generator, 2**23)

    assert torch.equal(_following(generator), _following(_after(10)))


@pytest.mark.parametrize("before", [0, 1, 600, 624])
def test_the_generator_of_this_torch_is_known(before: int) -> None:
    assert is_known(_after(before))


def test_a_state_that_is_kept_in_another_way_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mersenne, "_STATE", slice(32, 32 + 8 * 624))

    assert not is_known(_after(0))
