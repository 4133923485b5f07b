"""One tensor, drawn as `rewrite` draws it for a checkpoint."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from reinit_cli import rewrite
from reinit_cli.errors import TensorError, UnfillableError
from reinit_cli.initializers import parse_init
from reinit_cli.operations.draw import Drawn, draw_tensor


def _draw(init: str, shape: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> Drawn:
    return draw_tensor(
        parse_init(init), shape, key="a[0].weight", dtype=dtype, seed=seed, device="cpu", arch=None
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_is_what_a_checkpoint_gets_under_that_key(dtype: str) -> None:
    save_file({"a[0].weight": torch.zeros(5, 7, dtype=getattr(torch, dtype))}, "m.safetensors")
    rewrite("m.safetensors", ["*=xavier_normal:relu"], "out.safetensors", seed=3)

    drawn = _draw("xavier_normal:relu", (5, 7), dtype, seed=3)

    assert torch.equal(drawn.tensor, load_file("out.safetensors")["a[0].weight"])
    assert drawn.moments.std == pytest.approx(drawn.tensor.double().std(correction=0).item())
    assert [step.key for step in drawn.plan.steps] == ["a[0].weight"]


@pytest.mark.parametrize("shape", [(10**12,), (10**12, 10**12), (2**63, 4)])
def test_what_no_memory_holds_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(TensorError, match=r"^'a\[0\]\.weight' cannot be drawn: "):
        _draw("zeros", shape)


def test_a_shape_that_cannot_be_filled_is_named() -> None:
    with pytest.raises(UnfillableError):
        _draw("xavier_normal", (3,))
