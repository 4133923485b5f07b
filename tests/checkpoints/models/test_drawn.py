"""A model without weights: every tensor as its constructor fills it, from its own stream."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torchvision.models import get_model

from reinit_cli import diff, plan, rewrite, seed_for, stats
from reinit_cli.checkpoints.models import drawn
from reinit_cli.initializers import UndefinedError

NAME = "squeezenet1_1"


def _made(path: str, *rules: str, **options: object) -> dict[str, torch.Tensor]:
    rewrite(NAME, list(rules), path, weights="none", **options)  # type: ignore[arg-type]
    return load_file(path)


def test_what_no_rule_takes_is_drawn_as_default_draws_it() -> None:
    plain = _made("plain.safetensors")
    _made("filled.safetensors", "*=default")

    assert Path("plain.safetensors").read_bytes() == Path("filled.safetensors").read_bytes()
    fresh = get_model(NAME).state_dict()
    for key, values in fresh.items():
        if values.numel() >= 1000:
            std = values.std().item()
            assert plain[key].std().item() == pytest.approx(std, rel=0.1), key


def test_a_tensor_does_not_depend_on_what_rules_do_with_others() -> None:
    plain = _made("plain.safetensors")

    ruled = _made("ruled.safetensors", "features.*=zeros")

    rest = [key for key in plain if not key.startswith("features.")]
    assert rest
    assert all(torch.equal(plain[key], ruled[key]) for key in rest)


def test_a_model_is_built_once_to_list_its_tensors_and_once_to_know_its_layers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torchvision

    calls: list[str] = []
    made = torchvision.models.get_model

    def noted(name: str, **arguments: object) -> object:
        calls.append(name)
        return made(name, **arguments)

    monkeypatch.setattr(torchvision.models, "get_model", noted)
    plan(NAME, ["*=reset"], weights="none")
    assert len(calls) == 2
    calls.clear()
    plan(NAME, ["kind=Conv2d=ones", "*.bias=zeros"], weights="none")
    assert len(calls) == 2


def test_transforms_change_what_is_drawn() -> None:
    plain = _made("plain.safetensors")

    scaled = _made("scaled.safetensors", "classifier.1.weight=scale:2")

    assert torch.equal(scaled["classifier.1.weight"], 2 * plain["classifier.1.weight"])


def test_under_the_stream_of_torch_torch_draws_the_model_as_a_whole() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(3, NAME))
        expected = get_model(NAME).state_dict()

    made = _made("whole.safetensors", stream="torch", seed=3)

    assert all(torch.equal(made[key], values) for key, values in expected.items())


def test_all_commands_see_the_same_values() -> None:
    made = _made("made.safetensors", seed=4)

    (measured,) = stats(NAME, "classifier.1.weight", weights="none", seed=4)

    std = made["classifier.1.weight"].double().std(correction=0).item()
    assert measured.statistics.finite.std == pytest.approx(std, rel=1e-6)
    found = diff(NAME, "made.safetensors", weights="none", seed=4)
    assert all(each.change == "same" for each in found)


def test_what_cannot_be_followed_is_taken_from_the_constructor_and_the_plan_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    law = drawn.Laws.law

    def lost(self: drawn.Laws, tensor: object) -> object:
        if tensor.key == "classifier.1.weight":  # type: ignore[attr-defined]
            raise UndefinedError("its constructor computes it")
        return law(self, tensor)  # type: ignore[arg-type]

    monkeypatch.setattr(drawn.Laws, "law", lost)
    whole = _made("whole.safetensors", stream="torch")

    made = _made("made.safetensors")

    key = "classifier.1.weight"
    assert torch.equal(made[key], whole[key])
    assert not torch.equal(made["features.0.weight"], whole["features.0.weight"])
    outcome = rewrite(NAME, [], "again.safetensors", weights="none")
    assert any(
        f"'{key}' of {NAME} cannot be drawn one by one" in each
        for each in outcome.job.plan.warnings
    )


def test_only_what_is_read_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    made = drawn.Values._made

    def noted(self: drawn.Values, tensor: object) -> object:
        asked.append(tensor.key)  # type: ignore[attr-defined]
        return made(self, tensor)  # type: ignore[arg-type]

    monkeypatch.setattr(drawn.Values, "_made", noted)

    _made("new.safetensors", "features.*=zeros")

    assert asked
    assert all(key.startswith("classifier.") for key in asked)


def test_in_threads_a_tensor_has_the_values_that_it_has_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = _made("alone.safetensors")
    monkeypatch.setattr(drawn, "_PIECE_NUMEL", 1000)

    assert all(torch.equal(alone[key], each) for key, each in _made("together.safetensors").items())
