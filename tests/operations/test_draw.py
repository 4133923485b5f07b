"""One tensor, drawn as `rewrite` draws it for a checkpoint."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from reinit_cli import rewrite
from reinit_cli.errors import TensorError, UnfillableError
from reinit_cli.initializers import parse_init
from reinit_cli.operations.draw import Drawn, draw_tensor
from reinit_cli.streams.stream import DEFAULT_STREAM, STREAMS
from reinit_cli.tensors.rounding import torch_tensor
from reinit_cli.tensors.slice import parse_slice


def _draw(
    init: str,
    shape: tuple[int, ...],
    dtype: str = "float32",
    seed: int = 0,
    *,
    stream: str = DEFAULT_STREAM,
    part: str = "",
) -> Drawn:
    return draw_tensor(
        parse_init(init),
        shape,
        key="a[0].weight",
        dtype=dtype,
        seed=seed,
        stream=stream,
        device="cpu",
        arch=None,
        part=(part, parse_slice(part)) if part else None,
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_is_what_a_checkpoint_gets_under_that_key(dtype: str) -> None:
    save_file({"a[0].weight": torch.zeros(5, 7, dtype=getattr(torch, dtype))}, "m.safetensors")
    rewrite("m.safetensors", ["*=xavier_normal:relu"], "out.safetensors", seed=3)

    drawn = _draw("xavier_normal:relu", (5, 7), dtype, seed=3)

    tensor = torch_tensor(drawn.elements)
    assert torch.equal(tensor, load_file("out.safetensors")["a[0].weight"])
    assert drawn.moments.std == pytest.approx(tensor.double().std(correction=0).item())
    assert [step.key for step in drawn.plan.steps] == ["a[0].weight"]


@pytest.mark.parametrize("shape", [(10**12,), (10**12, 10**12), (2**63, 4)])
def test_what_no_memory_holds_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(TensorError, match=r"^'a\[0\]\.weight' cannot be drawn: "):
        _draw("zeros", shape)


def test_a_shape_that_cannot_be_filled_is_named() -> None:
    with pytest.raises(UnfillableError):
        _draw("xavier_normal", (3,))


# --- a part -------------------------------------------------------------------------------------

PARTS = {
    "7:": (slice(7, None),),
    ":, :3": (slice(None), slice(3)),
    "...,-1": (..., -1),
    "3,::2": (3, slice(None, None, 2)),
    "2:9:3, 1:-1": (slice(2, 9, 3), slice(1, -1)),
    "4,5": (4, 5),
    "20:": (slice(20, None),),
}
INITS = [
    *("normal:std=0.02", "xavier_uniform", "trunc_normal", "zeros", "eye", "orthogonal"),
    *("sparse:sparsity=0.3", "block:parts=3,inner=normal", "prior_bias"),
]


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("init", INITS)
def test_a_part_has_the_elements_of_the_whole(init: str, dtype: str, stream: str) -> None:
    whole = torch_tensor(_draw(init, (12, 10), dtype, stream=stream).elements)

    for part, index in PARTS.items():
        drawn = _draw(init, (12, 10), dtype, stream=stream, part=part)

        assert drawn.part == part
        assert torch.equal(torch_tensor(drawn.elements), whole[index])


def test_a_part_of_a_huge_tensor_takes_the_time_of_its_elements() -> None:
    def seconds(shape: tuple[int, ...], part: str) -> float:
        start = time.process_time()
        _draw("normal", shape, stream="philox-1", part=part)
        return time.process_time() - start

    seconds((1000, 1000), ":")
    alone = min(seconds((1000, 1000), ":") for _ in range(5))
    within = min(seconds((10**5, 10**5), "70000:70010") for _ in range(5))

    assert within < 3 * alone


def test_a_part_that_no_memory_holds_is_refused() -> None:
    with pytest.raises(
        TensorError, match=r"^'a\[0\]\.weight' cannot be drawn: it takes 8,000,000,"
    ):
        _draw("normal", (10**12,), stream="philox-1", part=":")


def test_a_part_of_what_is_drawn_whole_is_refused_where_memory_lacks_room_for_the_whole() -> None:
    with pytest.raises(TensorError, match=r"^'a\[0\]\.weight' cannot be drawn: it takes"):
        _draw("orthogonal", (10**6, 10**6), stream="philox-1", part=":2,:2")


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        ("12:,:,:", "it has 3 dimensions, and the tensor has 2"),
        ("12", "12 is outside dimension 0, which has 12"),
    ],
)
def test_a_part_that_the_tensor_does_not_have_is_named(part: str, problem: str) -> None:
    with pytest.raises(TensorError, match=problem):
        _draw("zeros", (12, 10), part=part)


def test_plain_laws_are_drawn_without_torch_from_philox() -> None:
    code = """
import sys
from reinit_cli.cli import main
main(["draw", "trunc_normal", "100,100", "--slice", "50:,:2", "--dtype", "bfloat16"]
     + ["--stream", "philox"])
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
