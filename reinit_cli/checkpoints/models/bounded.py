"""Bound what a constructor makes of numbers that strangers wrote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from math import prod
from typing import Any

from reinit_cli.errors import RuleError
from reinit_cli.lazy import dataclass
from reinit_cli.tensors.info import TensorInfo

_TIMES, _NUMEL = 8, 2**28
"""What a constructor may make: so many times the elements of a checkpoint, which may be a part of
the model and lacks the tables that are computed, and a gigabyte more."""

_CALLS_EACH, _CALLS = 200, 200_000
"""How often it may call torch: for each tensor of the checkpoint, and besides."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that a constructor may make.

    Attributes:
        numel: the elements of all tensors.
        calls: the operations of torch.
    """

    numel: int
    calls: int

    @classmethod
    def of(cls, tensors: Iterable[TensorInfo]) -> Bounds:
        """Return those of a model whose checkpoint has these tensors."""
        numels = [prod(tensor.shape) for tensor in tensors]
        return cls(_TIMES * sum(numels) + _NUMEL, _CALLS_EACH * len(numels) + _CALLS)


@contextmanager
def bounded(arch: str, bounds: Bounds) -> Iterator[None]:
    """Stop what makes more in this block.

    Args:
        arch: the architecture, as the user names it.
        bounds: the most that it may make.

    Raises:
        RuleError: it would make more.
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
        numel = calls = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            del types
            self.calls += 1
            if not func._schema.is_mutable:  # before it is made: that may be all of the memory
                self.numel += _numel(func._schema.name.removeprefix("aten::"), args)
            if self.numel > bounds.numel or self.calls > bounds.calls:
                problem = "it would be many times as large as the checkpoint"
                raise RuleError(arch, problem, kind="arch")
            return func(*args, **(kwargs or {}))

    with Counting():  # type: ignore[no-untyped-call]
        yield


_BY_SIZES = ("empty", "zeros", "ones", "full", "rand", "randn", "empty_strided")
_BY_NUMBERS = ("arange", "linspace", "logspace", "eye", "randperm", "tril_indices", "triu_indices")
"""The operations that make tensors of sizes, and of numbers."""


def _numel(name: str, args: tuple[Any, ...]) -> int:
    """Return about how many elements an operation makes.

    Args:
        name: its name.
        args: what it is called with.
    """
    import torch

    if name in _BY_SIZES:
        return prod(args[0])
    if name in _BY_NUMBERS:
        return prod(max(1, int(abs(each))) for each in args if isinstance(each, (int, float)))
    numel = 1
    if name == "repeat" or name.startswith("new_"):
        numel = prod(args[1])
        args = args[:1] if name == "repeat" else ()
    shapes = [each.shape for each in args if isinstance(each, torch.Tensor)]
    return numel * prod(map(max, zip_longest(*(shape[::-1] for shape in shapes), fillvalue=1)))
