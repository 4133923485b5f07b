"""A checkpoint whose tensors lie in boxes in several files is one like any other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from reinit_cli import apply_, diff, rewrite, stats
from reinit_cli.checkpoints import formats
from reinit_cli.execution import produce
from reinit_cli.execution.draw import Lose
from reinit_cli.execution.fill import Fill
from reinit_cli.operations.prepare import prepare
from reinit_cli.operations.rewrite import execute
from reinit_cli.request.request import Request
from tests.contracts.toy import Toy, read_toy, write_toy

STATE = {
    "a.weight": torch.arange(700 * 900, dtype=torch.float32).view(700, 900) / 1000,
    "a.bias": torch.arange(9).bfloat16(),
    "b.weight": torch.arange(5 * 6 * 7, dtype=torch.float64).view(5, 6, 7),
    "b.scale": torch.tensor(2.5),
    "b.empty": torch.zeros(0, 3),
    "b.sparse": torch.arange(400).view(20, 20).float() * (torch.arange(20) % 3),
    "count": torch.arange(12).view(3, 4),
}

RULES = [
    "a.weight=normal:std=0.1",
    "a.bias=uniform:-1,1",
    "b.weight=orthogonal",
    "b.scale=ones",
    "b.empty=zeros",
    "b.sparse=shuffle:keep_zeros=true",
]


@pytest.fixture(autouse=True)
def boxed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save a checkpoint in boxes, and let its format be known."""
    monkeypatch.setattr(formats, "FOLDER_FORMATS", (Toy(), *formats.FOLDER_FORMATS))
    write_toy(Path("m"), STATE)


@pytest.mark.parametrize("check", [False, True])
def test_a_rewrite_draws_what_any_other_checkpoint_gets(check: bool) -> None:
    expected = {key: tensor.clone() for key, tensor in STATE.items()}
    apply_(expected, [rule for rule in RULES if "shuffle" not in rule])
    save_file(STATE, "m.safetensors")
    rewrite("m.safetensors", RULES, "again.safetensors")

    rewrite("m", RULES, "out", check=check)

    found, again = read_toy(Path("out")), load_file("again.safetensors")
    assert list(found) == list(STATE)
    assert all(torch.equal(found[key], again[key]) for key in STATE)
    assert all(torch.equal(found[key], expected[key]) for key in STATE if key != "b.sparse")
    assert not torch.equal(found["b.sparse"], STATE["b.sparse"])


def test_each_tensor_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    original = produce.draw_fill

    def watched(fill: Fill, device: str, lose: Lose) -> object:
        drawn.append(fill.step.key)
        return original(fill, device, lose)

    monkeypatch.setattr(produce, "draw_fill", watched)

    rewrite("m", RULES, "out")

    assert sorted(drawn) == sorted(rule.partition("=")[0] for rule in RULES)


def test_what_was_there_is_measured() -> None:
    request = Request("m", ("a.weight=normal:std=0.1",), "out", measure_before=True)

    before = execute(prepare(request)).filled["a.weight"].before

    assert before is not None
    assert before.mean == pytest.approx(STATE["a.weight"].double().mean().item(), rel=1e-5)
    assert before.low == 0
    assert before.high == STATE["a.weight"].max()


@pytest.mark.parametrize("output", ["out.safetensors", "out.pt"])
def test_a_conversion_puts_the_boxes_together(output: str) -> None:
    rewrite("m", [], output)

    found = load_file(output) if output.endswith("safetensors") else torch.load(output)
    assert all(torch.equal(found[key], tensor) for key, tensor in STATE.items())


def test_a_cast_is_that_of_torch() -> None:
    rewrite("m", [], "out.safetensors", dtype="float16")

    found = load_file("out.safetensors")
    assert all(
        torch.equal(found[key], tensor.half() if tensor.is_floating_point() else tensor)
        for key, tensor in STATE.items()
    )


def test_it_does_not_differ_from_a_file_of_the_same_tensors() -> None:
    save_file(STATE, "m.safetensors")

    assert {each.change for each in diff("m", "m.safetensors")} == {"same"}


def test_it_is_measured_as_a_file_of_the_same_tensors() -> None:
    save_file(STATE, "m.safetensors")

    ours, theirs = ({each.key: each for each in stats(name)} for name in ("m", "m.safetensors"))

    assert ours.keys() == theirs.keys() == STATE.keys()
    for key, mine in ours.items():
        found, expected = mine.statistics, theirs[key].statistics
        assert (found.numel, found.zeros) == (expected.numel, expected.zeros)
        assert (found.finite.low, found.finite.high) == (expected.finite.low, expected.finite.high)
        assert found.finite.mean == pytest.approx(expected.finite.mean)
