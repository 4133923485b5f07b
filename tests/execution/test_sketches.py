"""Outlines of fills: what did not change looks as it did."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from reinit_cli.cli.render.panels import Panel, steps_of
from reinit_cli.execution.sketches import Sketch
from reinit_cli.operations.prepare import prepare
from reinit_cli.operations.rewrite import execute
from reinit_cli.request.request import Request


def _sketch(values: torch.Tensor, init: str) -> Sketch:
    save_file({"w": values}, "m.safetensors")
    job = prepare(Request("m.safetensors", (f"w={init}",), "o.safetensors", sketch=True))
    return execute(job).sketches["w"]


def _heights(sketch: Sketch) -> list[float]:
    panel = Panel("w", "", "", sketch.before, sketch.after)
    return [
        max(y for _, y in panel.outline(each))
        for each in (sketch.before, sketch.after)
        if each is not None
    ]


@pytest.mark.parametrize(
    ("value", "init"),
    [
        (1.0, "ones"),
        (0.0, "zeros"),
        (5.0, "constant:5"),
        (1.0, "scale:1"),
        (-3e-5, "constant:-3e-5"),
    ],
)
def test_a_constant_that_stays_has_the_same_height(value: float, init: str) -> None:
    before, after = _heights(_sketch(torch.full((64,), value), init))

    assert before == pytest.approx(after)


@pytest.mark.parametrize("init", ["scale:1", "clamp:min=-100,max=100"])
def test_values_that_stay_have_the_same_outline(init: str) -> None:
    sketch = _sketch(torch.randn(5000, generator=torch.Generator().manual_seed(0)), init)

    assert sketch.before is not None
    assert sketch.after is not None
    before = {point for point in steps_of(sketch.before) if point[1]}
    after = {point for point in steps_of(sketch.after) if point[1]}
    assert len(before) > 100
    for one, other in zip(sorted(before), sorted(after), strict=True):
        assert one == pytest.approx(other)


def test_a_constant_far_from_the_values_before_is_in_the_picture() -> None:
    sketch = _sketch(torch.randn(500) * 1e-3, "constant:7")

    assert sketch.after is not None
    assert sum(sketch.after.counts) == 500
