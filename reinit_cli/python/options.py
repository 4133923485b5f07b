"""Declare the options of `plan` and `rewrite`, as Python users may give them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from reinit_cli.lazy import LazyModule
from reinit_cli.request.partial import PlainOptions, PlainPlanOptions
from reinit_cli.request.request import described

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")

AnyPath: TypeAlias = str | os.PathLike[str]
"""A path."""


class PlanOptions(PlainPlanOptions, total=False):
    """The options of `plan`."""

    weights: AnyPath | None
    device: str | torch.device
    optimizer_order: AnyPath | None
    allow_paths: Sequence[AnyPath]


class RewriteOptions(PlanOptions, PlainOptions, total=False):
    """The options of `rewrite`."""

    dtype: str | torch.dtype | Sequence[str] | Mapping[str, str | torch.dtype] | None
    shard_nbytes: int | str | None
    record: AnyPath | bool


for _options in (PlanOptions, RewriteOptions):
    _options.__doc__ = f"{_options.__doc__}{described(_options.__annotations__)}"
