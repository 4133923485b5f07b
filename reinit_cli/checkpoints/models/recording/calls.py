"""Describe the calls of torch's operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from reinit_cli.lazy import LazyModule, dataclass

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = LazyModule("torch")


class _Kind(NamedTuple):
    """What kind of operation one is: see the properties of `Call`."""

    name: str
    base: str
    changes: bool
    is_view: bool
    draws: bool


@cache
def _kind(func: Any) -> _Kind:
    name = str(func._schema.name).removeprefix("aten::")
    infos = [each.alias_info for each in func._schema.returns]
    is_alias = any(info is not None and not info.is_write for info in infos)
    is_view = is_alias or torch.Tag.inplace_view in func.tags
    draws = torch.Tag.nondeterministic_seeded in func.tags
    return _Kind(name, name.removesuffix("_"), bool(func._schema.is_mutable), is_view, draws)


_STATISTICS = ("running_mean", "running_var")
"""What normalization changes while it trains, and nothing while it does not."""

_UNDECLARED = frozenset(("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm"))
"""Operations that change statistics without a word of it in their schemas."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an operation of torch's.

    Attributes:
        func: the operation, with its overload.
        args: what it is given.
        kwargs: what it is given by name.
    """

    func: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its name, as aten has it."""
        return _kind(self.func).name

    @property
    def base(self) -> str:
        """Its name without the underscore of those that change a tensor."""
        return _kind(self.func).base

    @property
    def changes(self) -> bool:
        """Whether it changes what it is given."""
        return _kind(self.func).changes

    @property
    def is_view(self) -> bool:
        """Whether it returns the memory that it is given, unchanged."""
        return _kind(self.func).is_view

    @property
    def draws(self) -> bool:
        """Whether it takes random numbers."""
        return _kind(self.func).draws

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors that it is given."""
        from torch.utils._pytree import tree_leaves

        leaves = tree_leaves((self.args, dict(self.kwargs)))
        return [each for each in leaves if isinstance(each, torch.Tensor)]

    @property
    def changed(self) -> list[Tensor]:
        """The tensors that it changes."""
        given = dict(zip((each.name for each in self._parameters), self.args, strict=False))
        given |= self.kwargs
        written = [each.name for each in self._parameters if _is_written(each)]
        if self.name in _UNDECLARED:
            written += _STATISTICS
        if given.get("training") is False:
            written = [name for name in written if name not in _STATISTICS]
        from torch.utils._pytree import tree_leaves

        leaves = tree_leaves([given.get(name) for name in written])
        return [each for each in leaves if isinstance(each, torch.Tensor)]

    @property
    def _parameters(self) -> Sequence[Any]:
        parameters: Sequence[Any] = self.func._schema.arguments
        return parameters

    def run(self) -> Any:
        """Do it."""
        return self.func(*self.args, **self.kwargs)


def _is_written(parameter: Any) -> bool:
    return parameter.alias_info is not None and parameter.alias_info.is_write
