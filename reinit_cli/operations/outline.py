"""Summarize many keys: similar layers as one pattern, modules as a tree."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import NamedTuple

from reinit_cli.request.glob import MAX_NAMES
from reinit_cli.request.pattern import Pattern
from reinit_cli.tensors.info import TensorInfo

_NUMBER = re.compile(r"(?<![^.])(0|[1-9][0-9]{0,17})(?![^.])")
"""A whole segment that is a number as the pattern `{0..8}` spells it."""

_MOST_NUMBERS = 8
"""The most numbers of a key that are collapsed; keys come from strangers."""

_SHORTEST_RANGE = 3
"""The fewest numbers that are written as a range: {4,5} and not {4..5}."""

_DEEPEST = 100
"""The deepest nesting of modules that is shown; keys come from strangers."""

_LONGEST = 1_000
"""The characters of a key that are searched for modules."""

_MODULE_CHARS = 300
"""The characters that take the memory of a module."""

_MOST_CHARS = 60_000_000
"""The characters of the paths of all modules, with what they take; other tensors are in none."""

_Box = tuple[frozenset[str], ...]
"""All combinations of a number of each set. Numbers are text: keys come from strangers, who can
choose integers with one hash."""


@dataclass(frozen=True, slots=True)
class Group:
    """Tensors of one shape and dtype whose keys differ in numbers only.

    Attributes:
        pattern: a pattern of braces that names exactly their keys.
        tensors: in their order.
    """

    pattern: str
    tensors: tuple[TensorInfo, ...]


# A named tuple: a tree may have two hundred thousand, and dataclasses take four times as long.
class Branch(NamedTuple):
    """A module with the sums of what is in it, or a tensor.

    Attributes:
        name: the last segment of its path.
        path: all segments.
        depth: how many modules it lies in.
        tensor: the tensor itself, or None for a module.
        leaves: the number of tensors in a module.
        parameters: the elements of those that are parameters; of a tied tensor's once.
        nbytes: the bytes of all; of a tied tensor's once.
    """

    name: str
    path: str
    depth: int
    tensor: TensorInfo | None
    leaves: int
    parameters: int
    nbytes: int


def groups_of(tensors: Sequence[TensorInfo]) -> list[Group]:
    """Return tensors with those together whose keys differ in numbers only.

    Every tensor is in one group; the groups stand in the order of their first tensors.
    """
    alike: dict[tuple[str, ...], dict[tuple[str, ...], int]] = {}
    for at, tensor in enumerate(tensors):
        parts = _NUMBER.split(tensor.key, maxsplit=_MOST_NUMBERS)
        kind = (*parts[::2], str(tensor.shape), tensor.dtype)
        alike.setdefault(kind, {})[tuple(parts[1::2])] = at
    found = []
    for (*literals, _, _), places in alike.items():
        for box in _boxes(places):
            inside = sorted(places[numbers] for numbers in product(*box))
            pattern = _pattern(literals, box)
            found.append((inside, pattern))
    return [Group(text, tuple(tensors[at] for at in inside)) for inside, text in sorted(found)]


def _boxes(combinations: Iterable[tuple[str, ...]]) -> list[_Box]:
    """Return boxes that hold each combination once, and nothing else.

    None of them stands for more names than a pattern may.
    """
    boxes: list[_Box] = [tuple(frozenset((n,)) for n in numbers) for numbers in combinations]
    for axis in reversed(range(len(boxes[0]))):
        merged: dict[_Box, set[str]] = {}
        for box in boxes:
            others = (*box[:axis], *box[axis + 1 :])
            merged.setdefault(others, set()).update(box[axis])
        boxes = [(*others[:axis], frozenset(own), *others[axis:]) for others, own in merged.items()]
    return [part for box in boxes for part in _parts(box)]


def _parts(box: _Box) -> Iterator[_Box]:
    """Yield the box, or parts of it that patterns may stand for, cut along its longest axis."""
    count = prod(map(len, box))
    if count <= MAX_NAMES:
        yield box
        return
    axis = max(range(len(box)), key=lambda at: len(box[at]))
    numbers = sorted(box[axis], key=int)
    step = max(1, MAX_NAMES * len(numbers) // count)
    for start in range(0, len(numbers), step):
        part = frozenset(numbers[start : start + step])
        yield from _parts((*box[:axis], part, *box[axis + 1 :]))


def _pattern(literals: Sequence[str], box: _Box) -> str:
    """Return the pattern of a box's numbers between the literals."""
    escaped = map(Pattern.escape, literals)
    numbers = [*map(_braces, box), ""]
    return "".join(text + number for text, number in zip(escaped, numbers, strict=True))


def _braces(numbers: frozenset[str]) -> str:
    """Return "7", "{0..31}", "{1,3}" or "{{0..5},9}"."""
    runs: list[list[int]] = []
    for number in sorted(map(int, numbers)):
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


@dataclass(slots=True)
class _Module:
    """A module under construction, with the sums of its contents."""

    prefix: str  # of the keys in it, with the dot
    depth: int = -1
    around: _Module | None = None
    inside: list[TensorInfo | _Module] = field(default_factory=list)
    leaves: int = 0
    parameters: int = 0
    nbytes: int = 0


def tree_of(
    tensors: Sequence[TensorInfo], repeated: Collection[str] = (), buffers: Collection[str] = ()
) -> list[Branch]:
    """Return modules and tensors as they lie in each other, each before what is in it.

    Segments are parted by dots. What has one name but comes apart in the state dict stands
    together at the first place.

    Args:
        tensors: the entries.
        repeated: the keys that add nothing to a sum, since a tied one does.
        buffers: the keys of the buffers.
    """
    whole = _Module("")
    modules = {"": whole}
    left = _MOST_CHARS
    for tensor in tensors:
        prefix = _prefix(tensor.key) if left > 0 else ""
        known = len(modules)
        module = _module(modules, prefix)
        left -= (len(modules) - known) * (len(prefix) + _MODULE_CHARS)
        module.inside.append(tensor)
        module.leaves += 1
        if tensor.key not in repeated:
            module.parameters += tensor.numel if tensor.key not in buffers else 0
            module.nbytes += tensor.nbytes
    # What is inside was made after what is around it.
    for module in reversed(modules.values()):
        if module.around is not None:
            module.around.leaves += module.leaves
            module.around.parameters += module.parameters
            module.around.nbytes += module.nbytes
    found: list[Branch] = []
    _collect(whole, found, buffers)
    return found


def _prefix(key: str) -> str:
    key = key[:_LONGEST]
    if key.count(".") <= _DEEPEST:
        return key[: key.rfind(".") + 1]
    return ".".join((*key.split(".", _DEEPEST)[:_DEEPEST], ""))


def _module(modules: dict[str, _Module], prefix: str) -> _Module:
    """Return the module of a prefix, made with those around it where it is new."""
    missing = []
    while prefix not in modules:
        missing.append(prefix)
        prefix = prefix[: prefix.rfind(".", 0, -1) + 1]
    module = modules[prefix]
    for longer in reversed(missing):
        modules[longer] = inner = _Module(longer, module.depth + 1, module)
        module.inside.append(inner)
        module = inner
    return module


def _collect(module: _Module, found: list[Branch], buffers: Collection[str]) -> None:
    start = len(module.prefix)
    depth = module.depth + 1
    for each in module.inside:
        if isinstance(each, _Module):
            path = each.prefix[:-1]
            sums = (each.leaves, each.parameters, each.nbytes)
            found.append(Branch(path[start:], path, depth, None, *sums))
            _collect(each, found, buffers)
        else:
            sums = (1, each.numel if each.key not in buffers else 0, each.nbytes)
            found.append(Branch(each.key[start:], each.key, depth, each, *sums))
