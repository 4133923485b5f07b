"""Suggest what to type after a look at a source, with its name and patterns that match."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from reinit_cli.operations.sums import Sums
from reinit_cli.planning.counted import LABELS, counted_as, is_head
from reinit_cli.request.pattern import Pattern
from reinit_cli.storage.location import DASH
from reinit_cli.tensors.info import TensorInfo


class Command(NamedTuple):
    """A command line of `reinit`.

    Attributes:
        verb: the name of the command; "" where the source comes first.
        source: the name of the source, as the user calls it.
        arguments: what follows it.
    """

    verb: str
    source: str
    arguments: tuple[str, ...] = ()


_FEW = 12
"""As many tensors are listed one by one."""

_LONGEST = 200
"""The longest pattern that is suggested; keys come from strangers."""


def next_commands(
    name: str,
    root: str | None,
    tensors: Sequence[TensorInfo],
    sums: Sums | None,
    *,
    has_record: bool = False,
    wrapper: str = "",
) -> tuple[Command, ...]:
    """Return commands that work on a source.

    Args:
        name: what the user calls it.
        root: the path of the state dict, where the user gives it.
        tensors: the entries of its state dict.
        sums: the same summed up; None where it has no state dict.
        has_record: whether it holds a provenance record.
        wrapper: what a wrapper put in front of all keys, or "".
    """
    if name == DASH:
        return ()
    at = () if root is None else ("--root", root)
    if sums is None:
        return (Command("keys", name, ("--meta",)),)
    commands = [*_looks(name, at, sums)]
    if rule := _rule(tensors, sums):
        commands.append(Command("", name, ("-r", rule, "-n", *at)))
    if wrapper:
        commands.append(Command("", name, ("--rename", f"{wrapper}*=*", "-n", *at)))
    if has_record:
        commands.append(Command("verify", name))
    return tuple(commands)


def _looks(name: str, at: tuple[str, ...], sums: Sums) -> Iterator[Command]:
    """Yield commands that look closer at the tensors of a source."""
    is_long = sums.counts.tensors > _FEW
    yield Command("keys", name, (*(("--tree",) if is_long else ()), *at))
    if pattern := _most(sums):
        yield Command("stats", name, (*((pattern,) if is_long else ()), *at))


def _most(sums: Sums) -> str:
    """Return the pattern of the largest group, or ""."""
    patterns = (group.pattern for group in sums.groups)
    return next((each for each in patterns if len(each) <= _LONGEST), "")


def _rule(tensors: Sequence[TensorInfo], sums: Sums) -> str:
    """Return a rule that fills a tensor that people fill again: the last head, or weight."""
    last = (group.tensors[-1] for group in sums.groups)
    weights = [each for each in last if len(each.shape) > 1 and _is_filled(each, sums.buffers)]
    heads = [each for each in weights if is_head(each.key) or LABELS in counted_as(each.key)]
    keys = {each.key for each in heads or weights}
    chosen = next((each for each in reversed(tensors) if each.key in keys), None)
    return f"{_pattern(chosen.key)}={_init(chosen)}" if chosen else ""


def _pattern(key: str) -> str:
    # A rule ends its pattern at an "=" that the name of an initializer follows.
    return Pattern.escape(key).replace("=", "[=]")


def _is_filled(tensor: TensorInfo, buffers: Collection[str]) -> bool:
    dtype = tensor.fillable_dtype
    is_float = dtype is not None and dtype.kind == "float" and dtype.nbits > 8
    return (
        is_float
        and bool(tensor.numel)
        and tensor.key not in buffers
        and len(tensor.key) <= _LONGEST
    )


def _init(weight: TensorInfo) -> str:
    if is_head(weight.key):
        return "normal:std=0.02"
    return "xavier_uniform" if len(weight.shape) == 2 else "kaiming_normal:relu"
