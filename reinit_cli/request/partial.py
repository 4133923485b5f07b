"""Hold requests with gaps, as recipes, command lines and Python give them, and merge them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict, cast

from reinit_cli.initializers.arch import Arguments
from reinit_cli.initializers.site import Arch
from reinit_cli.request.bounds import Bounds
from reinit_cli.request.cast import Casts
from reinit_cli.request.output_name import OutputName
from reinit_cli.request.pattern import Pattern
from reinit_cli.request.rename import Rename
from reinit_cli.request.resize import Resize
from reinit_cli.request.rule import Rule


class PlainPlanOptions(TypedDict, total=False):
    """The options of a plan that are of one type, whoever gives them."""

    root: str | None
    seed: int
    stream: str
    strict: bool
    allow_unmatched: bool
    arch: Arch | None
    arch_args: Arguments | None
    rename: Sequence[Rename | str]
    drop: Sequence[Pattern | str]
    only: Sequence[Pattern | str]
    resize: Sequence[Resize | str]
    num_classes: int | None
    reset_buffers: bool
    untie: bool
    reset_optimizer: bool
    saturate: bool


class PlainOptions(PlainPlanOptions, total=False):
    """The options of a run that are of one type, whoever gives them."""

    to: str | None
    keep_config: bool
    tensors_only: bool
    fix_index: bool
    copy: Sequence[Pattern | str]
    safe_pickle: bool
    verify_crc: bool
    check: bool
    force: bool
    skip_existing: bool
    in_place: bool
    fsync: bool
    rank: int | None
    world_size: int | None
    run_id: str | None
    timeout: float
    resume: bool
    measure: bool
    measure_before: bool
    sketch: bool


class RequestOptions(PlainOptions, total=False):
    """The options of a request, once what Python users give for them is read."""

    weights: str | None
    device: str
    optimizer_order: str | None
    allow_paths: Sequence[str] | Bounds
    dtype: Casts
    shard_nbytes: int | None
    record: str | bool


class PartialRequest(RequestOptions, total=False):
    """A request with gaps, as a recipe or a command line gives it; a gap is a key that is missing."""

    rules: tuple[Rule, ...]
    sources: tuple[str, ...]
    seeds: tuple[int, ...]
    output: str | OutputName


def override(lower: PartialRequest, upper: PartialRequest) -> PartialRequest:
    """Merge two requests with gaps: the upper overrides, and its rules come later.

    So do its resizes, its renames, and what it drops or takes.

    The output, weights and root of the lower are dropped with its source, and the arguments of
    its architecture with that.
    """
    with_source = ("output", "weights", "root")
    has_other = lower.get("sources") not in (None, upper.get("sources"))
    if "sources" in upper and has_other:
        lower = without(lower, *with_source)
    if "arch" in upper and upper["arch"] != lower.get("arch"):
        lower = without(lower, "arch_args")
    both: PartialRequest = {**lower, **upper}
    both["rules"] = (*lower.get("rules", ()), *upper.get("rules", ()))
    both["resize"] = (*lower.get("resize", ()), *upper.get("resize", ()))
    if rename := (*lower.get("rename", ()), *upper.get("rename", ())):
        both["rename"] = rename
    if drop := (*lower.get("drop", ()), *upper.get("drop", ())):
        both["drop"] = drop
    if only := (*lower.get("only", ()), *upper.get("only", ())):
        both["only"] = only
    if copy := (*lower.get("copy", ()), *upper.get("copy", ())):
        both["copy"] = copy
    return both


def without(asked: PartialRequest, *names: str) -> PartialRequest:
    """Return a request with more gaps."""
    left = {name: value for name, value in asked.items() if name not in names}
    return cast("PartialRequest", left)
