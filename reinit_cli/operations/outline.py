"""Summarize many keys: those that differ in numbers only as one pattern."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import product
from math import prod

from reinit_cli.lazy import dataclass
from reinit_cli.request.glob import MAX_CHARACTERS, MAX_NAMES
from reinit_cli.request.pattern import Pattern
from reinit_cli.tensors.info import TensorInfo

_LONGEST_NUMBER = 18
"""Its digits."""

NUMBER = rf"0|[1-9][0-9]{{0,{_LONGEST_NUMBER - 1}}}"
"""A number as the pattern `{0..8}` spells it."""

_NUMBER = re.compile(rf"(?<![^.])({NUMBER})(?![^.])")
"""A whole segment that is such a number."""

_MOST_NUMBERS = 8
"""The most numbers of a key that are collapsed; keys come from strangers."""

_SHORTEST_RANGE = 3
"""The fewest numbers that are written as a range: {4,5} and not {4..5}."""

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


def groups_of(tensors: Sequence[TensorInfo]) -> list[Group]:
    """Return tensors with those together whose keys differ in numbers only.

    Every tensor is in one group; the groups stand in the order of their first tensors.
    """
    keys = [tensor.key for tensor in tensors]
    kinds = [f"{tensor.shape} {tensor.dtype}" for tensor in tensors]
    return [
        Group(pattern, tuple(tensors[at] for at in inside))
        for pattern, inside in alike(keys, kinds)
    ]


def alike(keys: Sequence[str], kinds: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Return patterns that name exactly the keys of one kind that differ in numbers only.

    Args:
        keys: the keys.
        kinds: for each key what else its group has in common.

    Returns:
        Each pattern with the positions of its keys, in the order of the first of these.
    """
    places: dict[tuple[str, ...], dict[tuple[str, ...], int]] = {}
    for at, (key, kind) in enumerate(zip(keys, kinds, strict=True)):
        parts = _NUMBER.split(key, maxsplit=_MOST_NUMBERS)
        places.setdefault((*parts[::2], kind), {})[tuple(parts[1::2])] = at
    found = []
    for (*literals, _), by_numbers in places.items():
        longest = sum(map(len, literals)) + _LONGEST_NUMBER * len(literals)
        most = max(1, min(MAX_NAMES, MAX_CHARACTERS // longest))
        for box in _boxes(by_numbers, most):
            inside = sorted(by_numbers[numbers] for numbers in product(*box))
            found.append((inside, _pattern(literals, box)))
    return [(pattern, inside) for inside, pattern in sorted(found)]


def _boxes(combinations: Iterable[tuple[str, ...]], most: int) -> list[_Box]:
    """Return boxes that hold each combination once, and nothing else, and at most so many."""
    boxes: list[_Box] = [tuple(frozenset((n,)) for n in numbers) for numbers in combinations]
    for axis in reversed(range(len(boxes[0]))):
        merged: dict[_Box, set[str]] = {}
        for box in boxes:
            others = (*box[:axis], *box[axis + 1 :])
            merged.setdefault(others, set()).update(box[axis])
        boxes = [(*others[:axis], frozenset(own), *others[axis:]) for others, own in merged.items()]
    return [part for box in boxes for part in _parts(box, most)]


def _parts(box: _Box, most: int) -> Iterator[_Box]:
    """Yield the box, or parts of it that patterns may stand for, cut along its longest axis."""
    count = prod(map(len, box))
    if count <= most:
        yield box
        return
    axis = max(range(len(box)), key=lambda at: len(box[at]))
    numbers = sorted(box[axis], key=int)
    step = max(1, most * len(numbers) // count)
    for start in range(0, len(numbers), step):
        part = frozenset(numbers[start : start + step])
        yield from _parts((*box[:axis], part, *box[axis + 1 :]), most)


def _pattern(literals: Sequence[str], box: _Box) -> str:
    """Return the pattern of a box's numbers between the literals."""
    escaped = map(Pattern.escape, literals)
    numbers = [*map(braces, box), ""]
    return "".join(text + number for text, number in zip(escaped, numbers, strict=True))


def braces(numbers: Collection[str]) -> str:
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
