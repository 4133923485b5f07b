"""Draw a law as its stream wants it: run by run, one block after the other, or whole."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from reinit_cli.initializers.blocks import Take, nothing, pieces
from reinit_cli.initializers.law import Dtype, Law
from reinit_cli.initializers.transform import Transform
from reinit_cli.lazy import LazyModule
from reinit_cli.streams.chance import Array, Chance
from reinit_cli.tensors.moments import BLOCK_NUMEL

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")


def drawn_blocks(
    law: Law, shape: tuple[int, ...], dtype: Dtype, chance: Chance, take: Take = nothing
) -> Iterator[Array]:
    """Yield what a law fills a tensor with, in 1-D arrays, each of which is gone with the next.

    Arguments are those of `Law.blocks`, from any stream and device.
    """
    changes = isinstance(law, Transform)
    if not _is_here(chance) and (law.is_sequential or not changes):
        whole = np.empty(shape, dtype)
        take(whole.reshape(-1))
        law.fill(whole, chance)
        yield whole.reshape(-1)
    elif chance.is_indexed and not changes:
        yield from _runs(law, shape, dtype, chance)
    else:
        yield from law.blocks(shape, dtype, chance, take)


def _is_here(chance: Chance) -> bool:
    """Whether the numbers do not depend on what is drawn together: another device's do."""
    return chance.is_indexed or chance.generator().device.type == "cpu"


def _runs(law: Law, shape: tuple[int, ...], dtype: Dtype, chance: Chance) -> Iterator[Array]:
    numel = math.prod(shape)
    fill = law.filler(shape, dtype, chance)
    together = max(BLOCK_NUMEL, chance.portion_numel)
    buffer = np.empty(min(numel, together), dtype)
    for at in range(0, numel, together):
        drawn = buffer[: numel - at]
        fill(drawn, at)
        yield from pieces(drawn, BLOCK_NUMEL)
