"""A plan says how much memory its draws take, and is refused where there is less."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from reinit_cli.errors import TensorError
from reinit_cli.initializers import Array, Chance, Law, UndefinedError, parse_init
from reinit_cli.planning.decide import decide
from reinit_cli.planning.entries import Entries, as_asked
from reinit_cli.planning.memory import refuse_too_large, working_nbytes
from reinit_cli.planning.plan import Plan
from reinit_cli.request.request import Request
from reinit_cli.streams.torch.stream import TorchStream
from reinit_cli.tensors.info import TensorInfo

LARGE = (32768, 32768)  # 4 GiB of float32
BLOCKS = 2**28
"""What counts as blocks here: small tensors that are drawn whole are below it, too."""


def _plan(
    *rules: str, shape: tuple[int, ...] = LARGE, dtype: str = "float32", **options: Any
) -> Plan:
    nbytes = math.prod(shape) * getattr(torch, dtype).itemsize
    request = Request("net", rules, **options)
    entries = as_asked(Entries("net", (TensorInfo("w", dtype, shape, nbytes),)), request, {})
    return decide(entries, request)


def _working_nbytes(rule: str, **given: Any) -> int | None:
    (step,) = _plan(f"w={rule}", **given).fills
    return working_nbytes(step)


@pytest.mark.parametrize(
    ("init", "shape"),
    [
        *(
            (text, LARGE)
            for text in ("normal", "uniform", "zeros", "kaiming_uniform", "trunc_normal")
        ),
        *((text, LARGE) for text in ("eye", "identity:std=1", "sparse:0.1", "icnr", "noise:std=1")),
        *((text, LARGE) for text in ("block:4", "block:4,axis=1", "block:4,inner=trunc_normal")),
        ("dirac", (32768, 16384, 3, 3)),
    ],
)
def test_what_is_drawn_in_blocks_takes_little_of_a_large_tensor(
    init: str, shape: tuple[int, ...]
) -> None:
    working = _working_nbytes(init, shape=shape)

    assert working is not None
    assert working <= BLOCKS


@pytest.mark.parametrize(
    ("init", "dtype", "per_element"),
    [
        ("orthogonal", "float32", 8),
        ("orthogonal", "bfloat16", 8),
        ("block:4,inner=orthogonal", "float32", 2),
        ("icnr:inner=orthogonal", "float32", 2),
        ("shuffle", "float32", 12),
        ("shuffle", "bfloat16", 10),
        ("shuffle", "float64", 16),
    ],
)
def test_what_is_held_is_counted(init: str, dtype: str, per_element: float) -> None:
    working = _working_nbytes(init, dtype=dtype)

    assert working == pytest.approx(per_element * math.prod(LARGE), rel=0.01)


@pytest.mark.parametrize(
    "init",
    ["normal", "trunc_normal", "identity:std=1", "block:2,axis=1,inner=trunc_normal", "icnr"],
)
def test_elementwise_draws_from_philox_take_runs_alone(init: str) -> None:
    assert _working_nbytes(init, stream="philox-1") == 0


def test_a_draw_from_philox_is_counted_whatever_the_device() -> None:
    limits = {"this machine has": 2**30}
    refuse_too_large(_plan("w=orthogonal", device="cuda", stream="torch-1"), limits)

    with pytest.raises(TensorError, match="it takes"):
        refuse_too_large(_plan("w=orthogonal", device="cuda", stream="philox-1"), limits)


@pytest.mark.parametrize("check", [False, True])
def test_a_draw_that_is_tested_as_a_whole_is_counted_too(check: bool) -> None:
    plan = _plan("w=eye", check=check)
    limits = {"this machine has": 4 * math.prod(LARGE) - 1}

    if check:
        with pytest.raises(
            TensorError, match=r"^'w' cannot be drawn: it takes 4,294,967,296 bytes"
        ):
            refuse_too_large(plan, limits)
    else:
        refuse_too_large(plan, limits)


def test_the_least_of_the_limits_counts_and_is_named() -> None:
    plan = _plan("w=orthogonal", shape=(1024, 1024))
    needed = working_nbytes(plan.fills[0])
    assert needed is not None
    enough = {"this machine has": 10 * needed, "ulimit -v leaves": needed}
    refuse_too_large(plan, enough)

    with pytest.raises(TensorError) as caught:
        refuse_too_large(plan, enough | {"ulimit -v leaves": needed - 1})

    assert str(caught.value) == (
        f"'w' cannot be drawn: it takes {needed:,} bytes of memory, and "
        f"ulimit -v leaves {needed - 1:,}"
    )
    assert (caught.value.about, caught.value.kind) == ("w", "draw")


def test_the_largest_draw_is_named_and_what_is_copied_is_not_counted() -> None:
    tensors = tuple(
        TensorInfo(key, "float32", (rows, 512), 4 * rows * 512)
        for key, rows in (("a", 512), ("b", 1024), ("copied", 4096))
    )
    plan = decide(Entries("net", tensors), Request("net", ("[ab]=orthogonal",)))

    with pytest.raises(TensorError, match=r"^'b' cannot be drawn"):
        refuse_too_large(plan, {"this machine has": 10})


def test_new_rows_are_counted_alone() -> None:
    resized = _plan(resize=(f"w={LARGE[0] + 64}:orthogonal",))

    refuse_too_large(resized, {"this machine has": 2**25})
    with pytest.raises(TensorError, match="it takes"):
        refuse_too_large(resized, {"this machine has": 2**20})


def test_without_a_limit_nothing_is_refused() -> None:
    refuse_too_large(_plan("w=orthogonal"), {})


def test_the_law_of_a_package_is_refused_for_the_tensor_alone() -> None:
    class Theirs(Law):
        """A law that says nothing of its memory."""

        mean = 0.0
        std = 1.0

        def fill(self, values: Array, chance: Chance) -> None:
            """Fill it."""

    assert Theirs().working_nbytes((4,), 4) is None
    assert Theirs().words(4, 4) is None
    drawn = list(Theirs().blocks((4, 2), np.dtype("float64"), TorchStream().chance(0, "cpu")))
    assert [(each.shape, each.dtype.name) for each in drawn] == [((8,), "float64")]


@pytest.mark.parametrize(
    "text", ["orthogonal", "shuffle", "sparse:0.1", "icnr", "delta_orthogonal"]
)
def test_the_memory_of_a_law_grows_with_its_tensor(text: str) -> None:
    init = parse_init(text)
    sizes = []
    for rows in (64, 4096, 65536):
        try:
            law = init.law((rows, 64))
        except UndefinedError:
            law = init.law((rows, 64, 3))
        assert law is not None
        working = law.working_nbytes((rows, 64), 4)
        assert working is not None
        sizes.append(working)

    assert sizes == sorted(sizes)


@pytest.mark.parametrize("init", ["sparse:0.5", "orthogonal", "normal"])
def test_a_part_of_a_resized_tensor_takes_what_one_of_a_tensor_of_that_size_takes(
    init: str,
) -> None:
    rule, limit = f"w[60:]={init}", "this machine has"
    resized = _plan(rule, shape=(60, 8), resize=("w=72:normal",))
    same_size = _plan(rule, shape=(72, 8))

    for plan in (resized, same_size):
        refuse_too_large(plan, {limit: 2**16})
    needed = [_refusal(plan) for plan in (resized, same_size)]
    assert needed[0] == needed[1]


def _refusal(plan: Plan) -> str:
    try:
        refuse_too_large(plan, {"this machine has": -1})
    except TensorError as error:
        return str(error)
    return ""
