"""Draws run side by side within a budget, by the memory that their laws name."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from reinit_cli.execution import budget, engine
from reinit_cli.execution.fill import Fill
from reinit_cli.execution.pieces import OpenFile
from reinit_cli.execution.produce import Producer, products_of
from reinit_cli.initializers import parse_init
from reinit_cli.initializers.families.orthogonals import Orthogonal
from reinit_cli.planning.plan import Step
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.moments import BLOCK_NUMEL
from reinit_cli.threads import unwatched
from tests.execution.test_engine import _Memory

if TYPE_CHECKING:
    from reinit_cli.streams.chance import Array, Chance

SIDE = 600


def _step(key: str, text: str, side: int = SIDE) -> Step:
    init = parse_init(text)
    tensor = TensorInfo(key, "float32", (side, side), 4 * side * side)
    law = init.law(tensor.shape)
    return Step(tensor, "fill", law=law, seed_key=key, init=init)


def _peak_nbytes(text: str, *, kept: bool = False) -> int:
    step = _step("w", text, 4096)
    fill = Fill(step, step.tensor.nbytes, is_kept=kept)
    (product,) = products_of(OpenFile([fill], _Memory(), unwatched).pieces)
    return Producer("cpu", lambda _: (), keeps_whole=False).peak_nbytes(product)


BLOCKS = 6 * 4 * BLOCK_NUMEL
"""What draws of float32 take for a block, its candidates, masks and bytes."""


@pytest.mark.parametrize("text", ["normal", "eye", "identity:std=1", "icnr", "block:2,normal"])
def test_what_comes_in_blocks_is_admitted_for_its_blocks(text: str) -> None:
    assert _peak_nbytes(text) <= 1.1 * BLOCKS


def test_what_is_held_is_admitted_for_that() -> None:
    numel = 4096 * 4096

    assert 8 * numel < _peak_nbytes("orthogonal") < 8.3 * numel + BLOCKS
    assert _peak_nbytes("eye", kept=True) - _peak_nbytes("eye") == 4 * numel


@pytest.mark.parametrize("room", [1, 20])
def test_two_matrices_are_not_factored_together_beyond_the_budget(
    room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = most = 0
    lock, both = threading.Lock(), threading.Event()
    factor = Orthogonal._factor

    def counted(law: Orthogonal, matrix: Array, chance: Chance) -> None:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
            if together == 2:
                both.set()
        both.wait(0.2 if room == 1 else 10)
        factor(law, matrix, chance)
        with lock:
            together -= 1

    monkeypatch.setattr(Orthogonal, "_factor", counted)
    monkeypatch.setattr(budget, "BUDGET", budget._Budget(room * 8 * SIDE * SIDE))
    monkeypatch.setattr(engine, "cores", lambda: 2)
    fills = [Fill(step, step.tensor.nbytes) for step in (_step(key, "orthogonal") for key in "ab")]

    engine.write_together({"": fills}, {"": _Memory()}, "cpu", unwatched)

    assert most == (1 if room == 1 else 2)
    assert budget.BUDGET.taken == 0
