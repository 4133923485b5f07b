"""Run a constructor for real, and take what it makes as it is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from reinit_cli.checkpoints.models.borrowing import own_random_state
from reinit_cli.checkpoints.models.recording.fills import Unknown
from reinit_cli.checkpoints.models.recording.found import array_of
from reinit_cli.checkpoints.models.recording.memory import mark
from reinit_cli.checkpoints.models.recording.operations import EMPTY
from reinit_cli.initializers.families.replays import Taken
from reinit_cli.lazy import LazyModule
from reinit_cli.streams.chance import Array

if TYPE_CHECKING:
    import numpy as np
    import torch
else:
    np = LazyModule("numpy")
    torch = LazyModule("torch")

Build = Callable[[], Any]
"""Makes a module or a state dict."""

_VARIES = "two runs of its constructor under one seed give it other values"

_MOST_NUMEL = 2**31
"""The most elements of a model that is made for real."""


class Run:
    """Real runs of a constructor, for the tensors whose laws cannot be followed."""

    def __init__(self, build: Build, keys: Collection[str], numel: int) -> None:
        """Remember how to run it.

        Args:
            build: the constructor.
            keys: the tensors that are taken from a run.
            numel: the elements of all of its tensors.
        """
        self._build = build
        self._keys = keys
        self._numel = numel
        self._latest: tuple[int, Mapping[str, Taken | Unknown]] | None = None

    def law(self, key: str, seed: int) -> Taken | Unknown:
        """Return the values of a tensor as the constructor makes them under a seed."""
        if self._numel > _MOST_NUMEL:
            elements = f"{self._numel:,} elements"
            return Unknown(f"its constructor would have to run for real, and makes {elements}")
        if self._latest is None or self._latest[0] != seed:
            self._latest = seed, _taken(self._build, self._keys, seed)
        return self._latest[1].get(key, Unknown(_VARIES))


def _taken(build: Build, keys: Collection[str], seed: int) -> Mapping[str, Taken | Unknown]:
    """Return the values of some tensors as a constructor makes them.

    It runs twice under the seed, with other bytes in memory that nobody fills: what differs
    then is not known.
    """
    first, second = (_run(build, keys, seed, byte) for byte in (0, 1))
    return {
        key: Taken(values) if _is_same(values, second.get(key)) else Unknown(_VARIES)
        for key, values in first.items()
    }


def _is_same(values: Array, other: Array | None) -> bool:
    if other is None or values.dtype != other.dtype:
        return False
    return bool(np.array_equal(values, other, equal_nan=values.dtype.kind in "fc"))


def _run(build: Callable[[], Any], keys: Collection[str], seed: int, byte: int) -> dict[str, Array]:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Marking(TorchDispatchMode):  # type: ignore[no-untyped-call]
        """Fill memory that nobody has filled."""

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            del types
            done = func(*args, **(kwargs or {}))
            if func._schema.name.removeprefix("aten::") in EMPTY:
                mark(done, byte)
            return done

    with own_random_state(seed), Marking():  # type: ignore[no-untyped-call]
        made = build()
        state = made if isinstance(made, Mapping) else made.state_dict()
    return {key: array_of(state[key]) for key in keys if key in state}
