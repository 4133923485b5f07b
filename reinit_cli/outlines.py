"""Many keys at a glance: layers that are alike as one pattern, modules as a tree."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from reinit_cli.patterns import Pattern
from reinit_cli.tensors import TensorInfo

_NUMBER = re.compile(r"(?<![^.])(0|[1-9][0-9]{0,17})(?![^.])")
"""A whole segment that is a number as the pattern `{0..8}` spells it."""

_MOST_NUMBERS = 8
"""The numbers of a key that are collapsed; keys come from strangers."""

_SHORTEST_RANGE = 3
"""Two numbers are written as a list: {4,5} and not {4..5}."""

_DEEPEST = 100
"""Modules in modules that are told apart; keys come from strangers."""

_Box = tuple[frozenset[int], ...]
"""All combinations of a number of each set."""


@dataclass(frozen=True, slots=True)
class Group:
    """Tensors of one shape and dtype whose keys differ in numbers only.

    Attributes:
        pattern: a pattern of braces that names exactly their keys.
        tensors: in their order.
    """

    pattern: str
    tensors: tuple[TensorInfo, ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """A module, or a tensor in it.

    Attributes:
        name: the last segment of its path.
        path: all segments.
        depth: how many modules it lies in.
        tensors: all in it, in their order.
        is_tensor: whether it is the tensor itself.
    """

    name: str
    path: str
    depth: int
    tensors: tuple[TensorInfo, ...]
    is_tensor: bool


def groups_of(tensors: Sequence[TensorInfo]) -> list[Group]:
    """Return tensors with those together whose keys differ in numbers only.

    Every tensor is in one group; the groups stand in the order of their first tensors.
    """
    alike: dict[tuple[object, ...], dict[tuple[int, ...], int]] = {}
    for at, tensor in enumerate(tensors):
        parts = _NUMBER.split(tensor.key, maxsplit=_MOST_NUMBERS)
        kind = (*parts[::2], tensor.shape, tensor.dtype)
        alike.setdefault(kind, {})[tuple(map(int, parts[1::2]))] = at
    found = []
    for (*literals, _, _), places in alike.items():
        for box in _boxes(places):
            inside = sorted(places[numbers] for numbers in product(*box))
            pattern = _pattern([str(literal) for literal in literals], box)
            found.append((inside, pattern))
    return [Group(text, tuple(tensors[at] for at in inside)) for inside, text in sorted(found)]


def _boxes(combinations: Iterable[tuple[int, ...]]) -> list[_Box]:
    """Return boxes that hold each combination once, and nothing else."""
    boxes: list[_Box] = [tuple(frozenset((n,)) for n in numbers) for numbers in combinations]
    for axis in reversed(range(len(boxes[0]))):
        merged: dict[_Box, frozenset[int]] = {}
        for box in boxes:
            others = (*box[:axis], *box[axis + 1 :])
            merged[others] = merged.get(others, frozenset()) | box[axis]
        boxes = [(*others[:axis], own, *others[axis:]) for others, own in merged.items()]
    return boxes


def _pattern(literals: Sequence[str], box: _Box) -> str:
    """Return the pattern of a box's numbers between the literals."""
    escaped = map(Pattern.escape, literals)
    numbers = [*map(_braces, box), ""]
    return "".join(text + number for text, number in zip(escaped, numbers, strict=True))


def _braces(numbers: frozenset[int]) -> str:
    """Return "7", "{0..31}", "{1,3}" or "{{0..5},9}"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    texts = [
        f"{{{run[0]}..{run[-1]}}}" if len(run) >= _SHORTEST_RANGE else ",".join(map(str, run))
        for run in runs
    ]
    is_single = len(numbers) == 1 or (len(runs) == 1 and len(numbers) >= _SHORTEST_RANGE)
    return texts[0] if is_single else f"{{{','.join(texts)}}}"


def tree_of(tensors: Sequence[TensorInfo]) -> list[Branch]:
    """Return modules and tensors as they lie in each other, each before what is in it.

    Segments are parted by dots. What has one name but comes apart in the state dict stands
    together at the first place.
    """
    return list(_branches(tensors, "", 0))


def _branches(tensors: Sequence[TensorInfo], path: str, depth: int) -> Iterable[Branch]:
    prefix = f"{path}." if depth else ""
    inside: dict[tuple[str, bool], list[TensorInfo]] = {}
    for tensor in tensors:
        name, dot, rest = tensor.key[len(prefix) :].partition(".")
        if depth == _DEEPEST:
            name, dot = name + dot + rest, ""
        inside.setdefault((name, not dot), []).append(tensor)
    for (name, is_tensor), own in inside.items():
        yield Branch(name, prefix + name, depth, tuple(own), is_tensor)
        if not is_tensor:
            yield from _branches(own, prefix + name, depth + 1)
