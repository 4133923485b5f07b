"""Read rules on parts of tensors: `embed.weight[50257:]`, `*.bias_ih_l0[1/4]`, `*[mask=m.pt]`.

A part is the bracket at the end of a pattern, if it contains ":", ",", "/" or "=". Every other
bracket is a set of characters. So is one of which another reading is certain: `{[a:]}` is a set,
and what follows a space, `fc.weight [0:1]`, is a part.

    start:stop:step  as Python has it; numbers below 0 count from the end
    1/4              the second of four equal shares, counted from 0
    7                in a list, the element 7 of a dimension
    ...              in a list, all dimensions that are not written
    mask=FILE        where a tensor of the same shape in another checkpoint is 1
    heads=3,7        what some heads of an attention have of it; heads=3,7/32 of 32 heads
    experts=0..3     some experts of a stack

Kinds of layers have a bracket of their own, before the part or after it: `w[kind=Linear][:, :3]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import field

from reinit_cli.errors import PatternError
from reinit_cli.lazy import dataclass
from reinit_cli.request.kind import is_kinds, split_kinds
from reinit_cli.text import plural, quoted

_SIGNS = frozenset(":,/=")
"""A bracket at the end that contains one of them is a part."""

_MOST_DIMENSIONS = 64
"""Of a tensor of torch."""

_SLICE = re.compile(r"(-?[0-9]{1,18})? *: *(-?[0-9]{1,18})? *(?:: *(-?[0-9]{1,18})? *)?")
_SHARE = re.compile(r"([0-9]{1,18}) */ *([0-9]{1,18})")
_NUMBER = re.compile(r"-?[0-9]{1,18}")
_MASK = re.compile(r" *mask *= *(.*\S) *", re.DOTALL)
_MASK_START = re.compile(r"\[ *mask *=")

_END_OF_PATTERN = re.compile(r"\s*(?:=|\[|\Z)")

_FORMS = "write 0:4, -3:, : or 1/4 for each dimension, mask=FILE, heads=0,3 or experts=0..3"

_UNITS = re.compile(r"(heads|experts) *= *([-0-9., ]+?) *(?:/ *([0-9]{1,18}) *)?")
_RUN = re.compile(r"(-?[0-9]{1,18})(?: *\.\. *(-?[0-9]{1,18}))?")


@dataclass(frozen=True, slots=True)
class Slice:
    """From one element of a dimension to before another."""

    start: int | None
    stop: int | None
    step: int

    def of(self, axis: int, dim: int) -> range:
        """Return the elements of a dimension of this size.

        Raises:
            ValueError: the text says why there are none.
        """
        for end in (self.start, self.stop):
            if end is not None and not -dim <= end <= dim:
                raise ValueError(_outside(end, axis, dim))
        return range(dim)[self.start : self.stop : self.step]


@dataclass(frozen=True, slots=True)
class Share:
    """One of several equal shares of a dimension."""

    at: int
    count: int

    def of(self, axis: int, dim: int) -> range:
        """Return the elements of a dimension of this size.

        Raises:
            ValueError: the text says why there are none.
        """
        if dim % self.count:
            raise ValueError(f"dimension {axis} has {dim:,}, which {self.count:,} does not divide")
        return range(self.at * (dim // self.count), (self.at + 1) * (dim // self.count))


@dataclass(frozen=True, slots=True)
class One:
    """One element of a dimension."""

    at: int

    def of(self, axis: int, dim: int) -> range:
        """Return the elements of a dimension of this size.

        Raises:
            ValueError: the text says why there are none.
        """
        if not -dim <= self.at < dim:
            raise ValueError(_outside(self.at, axis, dim))
        return range(self.at % dim, self.at % dim + 1)


def _outside(at: int, axis: int, dim: int) -> str:
    return f"{at:,} is outside dimension {axis}, which has {dim:,}"


Span = Slice | Share | One

Ranges = tuple[range, ...]
"""The elements of a part in each dimension of a tensor."""


@dataclass(frozen=True, slots=True)
class Units:
    """Units of a layer that a part has, such as heads of an attention.

    Attributes:
        name: what they are: "heads" or "experts".
        runs: the first and the last of each run of them, as written.
        count: how many the layer has, where the rule says it; otherwise 0.
    """

    name: str
    runs: tuple[tuple[int, int], ...]
    count: int = 0

    def of(self, count: int) -> list[range]:
        """Return them as runs of numbers, of so many units.

        Raises:
            ValueError: the text says which of them there is not.
        """
        found: set[int] = set()
        for run in self.runs:
            first, last = (each + count if each < 0 else each for each in run)
            if not 0 <= first <= last < count:
                written = run[0] if run[0] == run[1] else f"{run[0]}..{run[1]}"
                raise ValueError(f"there is no {self.name}={written}: it has {count:,}")
            found.update(range(first, last + 1))
        starts = sorted(each for each in found if each - 1 not in found)
        ends = sorted(each + 1 for each in found if each + 1 not in found)
        return [range(start, end) for start, end in zip(starts, ends, strict=True)]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a tensor, as a rule names it.

    Attributes:
        text: as written, without the brackets.
        first: what it takes of the first dimensions.
        last: what it takes of the last dimensions, where a "..." is before them.
        mask: the checkpoint whose tensor says which elements it has, or "".
        units: the units of its layer that it has, which planning resolves; otherwise None.
        problem: why a tensor has no such units, or "".
        is_certain: whether it cannot be read as a set of characters.
    """

    text: str
    first: tuple[Span, ...] = ()
    last: tuple[Span, ...] = ()
    mask: str = ""
    units: Units | None = None
    problem: str = ""
    is_certain: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        """Return it with its brackets."""
        return f"[{self.text}]"

    @property
    def written(self) -> str:
        """Return it as it follows a pattern."""
        return f"{' ' if self.is_certain and self.units is None else ''}{self}"

    def ranges(self, shape: tuple[int, ...]) -> Ranges:
        """Return the elements that it has in each dimension; of a mask all.

        Raises:
            ValueError: a tensor of that shape has no such part; the text says why.
        """
        if self.units is not None:
            raise ValueError(self.problem or f"{self.units.name} are those of a layer")
        spans = len(self.first) + len(self.last)
        if spans > len(shape):
            dimensions = plural(len(shape), "dimension")
            raise ValueError(f"it has {dimensions}, and the part {self} has {spans}")
        between = [range(dim) for dim in shape[len(self.first) : len(shape) - len(self.last)]]
        end = len(shape) - len(self.last)
        ranges = (
            *(span.of(axis, shape[axis]) for axis, span in enumerate(self.first)),
            *between,
            *(span.of(axis, shape[axis]) for axis, span in enumerate(self.last, end)),
        )
        if not all(ranges):
            axis = next(at for at, each in enumerate(ranges) if not each)
            raise ValueError(
                f"the part {self} covers nothing: dimension {axis} has {shape[axis]:,}"
            )
        return ranges


def parted(text: str) -> tuple[str, Part | None]:
    """Split a pattern into that of keys and the part of each tensor; None for all of it.

    Raises:
        PatternError: its last bracket is neither a part nor a set of characters.
    """
    at = _start_of_part(text)
    if at is None:
        return text, None
    if is_kinds(text[at:]):
        rest = text[:at].rstrip(" ")
        if split_kinds(rest)[1] is not None:
            raise PatternError(text, "it has kinds of layers twice")
        before, part = parted(rest)
        return f"{before}{text[at:]}", part
    pattern, inside = text[:at], text[at + 1 : -1]
    is_certain = pattern != (pattern := pattern.rstrip(" "))
    if not pattern:
        raise PatternError(text, f"{text} is a part of a tensor, and there is no pattern before it")
    try:
        return pattern, _parse(inside.strip(), is_certain=is_certain)
    except ValueError as error:
        # What has letters may have been meant as a set of characters.
        may_be_set = re.search(r"[^-0-9:,/ .]", inside) and not _MASK.fullmatch(inside)
        otherwise = f"; a set of characters is {as_set(pattern, inside)!r}" if may_be_set else ""
        problem = f"[{inside}] is a part of a tensor, and {error}{otherwise}"
        raise PatternError(text, problem) from None


def part_of(text: str) -> Part:
    """Read a part without its brackets.

    Raises:
        ValueError: it is not a valid part; the text says why.
    """
    return _parse(text, is_certain=False)


def equals_in_parts(text: str) -> Iterator[int]:
    """Yield the positions of each "=" in a rule that is in a part, and so does not split it."""
    for start, end in _brackets(text):
        if _END_OF_PATTERN.match(text, end + 1):
            yield from (at for at in range(start, end) if text[at] == "=")


def as_set(pattern: str, inside: str) -> str:
    """Return a pattern whose last bracket is a set of characters, and never a part."""
    opening, closing = ("(?:", ")") if pattern.startswith("re:") else ("{", "}")
    return f"{pattern}{opening}[{inside}]{closing}"


def _start_of_part(text: str) -> int | None:
    """Return where the bracket of a part begins; None where the pattern ends otherwise."""
    if not text.endswith("]"):
        return None
    start = next((start for start, end in _brackets(text) if end == len(text) - 1), None)
    if start is None:  # the name of a file may have brackets
        found = _MASK_START.search(text)
        return found.start() if found else None
    inside = text[start + 1 : -1]
    is_part = not _SIGNS.isdisjoint(inside) and not {"[", "]"} & set(inside)
    return start if is_part or is_kinds(text[start:]) or _MASK.fullmatch(inside) else None


def _brackets(text: str) -> Iterator[tuple[int, int]]:
    """Yield where each bracket of a pattern begins and ends, as the pattern is read."""
    at, is_regex = 0, text.startswith("re:")
    while at < len(text):
        if is_regex and text[at] == "\\":
            at += 2
            continue
        if text[at] == "[":
            end = _end(text, at, is_regex=is_regex)
            if end < 0:
                return
            yield at, end
            at = end
        at += 1


def _end(text: str, start: int, *, is_regex: bool) -> int:
    """Return where a bracket ends; -1 where it does not."""
    at = start + 1
    at += text[at : at + 1] in (("^",) if is_regex else ("!",))
    at += 1  # a bracket that comes first is a member
    if is_regex and text[at - 1 : at] == "\\":
        at += 1
    while is_regex and at < len(text) and text[at] != "]":
        at += 2 if text[at] == "\\" else 1
    return text.find("]", at)


def _parse(inside: str, *, is_certain: bool) -> Part:
    """Read what a part has in its brackets.

    Raises:
        ValueError: it is not a valid part; the text says why.
    """
    mask = _MASK.fullmatch(inside)
    if mask:
        return Part(f"mask={mask[1]}", mask=mask[1], is_certain=is_certain)
    units = _UNITS.fullmatch(inside)
    if units:
        found = Units(units[1], tuple(map(_run, units[2].split(","))), int(units[3] or 0))
        return Part(inside, units=found, is_certain=True)
    if inside.startswith("kind"):
        raise ValueError("kinds of layers have a bracket of their own: [kind=Linear][:4]")
    if "=" in inside:
        raise ValueError(f"it has an '=' but no mask=FILE; {_FORMS}")
    words = [word.strip() for word in inside.split(",")]
    if len(words) > _MOST_DIMENSIONS:
        raise ValueError(f"no tensor has {len(words):,} dimensions")
    if words.count("...") > 1:
        raise ValueError("'...' can stand in it once")
    at = words.index("...") if "..." in words else len(words)
    first, last = (tuple(map(_span, some)) for some in (words[:at], words[at + 1 :]))
    return Part(", ".join(words), first, last, is_certain=is_certain)


def _run(word: str) -> tuple[int, int]:
    """Read one unit, or a run of them.

    Raises:
        ValueError: it is neither.
    """
    found = _RUN.fullmatch(word.strip())
    if found is None:
        raise ValueError(f"{quoted(word)} is not a number or a range such as 0..3")
    return int(found[1]), int(found[2] or found[1])


def _span(word: str) -> Span:
    """Read what a part takes of one dimension.

    Raises:
        ValueError: it takes nothing of any.
    """
    if found := _SLICE.fullmatch(word):
        start, stop, step = (None if each is None else int(each) for each in found.groups())
        return _checked(Slice(start, stop, 1 if step is None else step), word)
    if found := _SHARE.fullmatch(word):
        share = Share(int(found[1]), int(found[2]))
        if not share.count:
            raise ValueError(f"there is no {quoted(word)}")
        if share.at >= share.count:
            last = f"{share.count - 1}/{share.count}"
            raise ValueError(f"there is no {word}: the first is 0/{share.count}, the last {last}")
        return share
    if _NUMBER.fullmatch(word):
        return One(int(word))
    raise ValueError(f"{quoted(word)} is not a range; {_FORMS}")


def _checked(found: Slice, word: str) -> Slice:
    """Refuse a range that is empty in every dimension.

    Raises:
        ValueError: it is.
    """
    start, stop = found.start or 0, found.stop
    if found.step < 1:
        raise ValueError("a step is at least 1")
    if stop is not None and (start < 0) == (stop < 0) and start >= stop:
        raise ValueError(f"{quoted(word)} is empty: it ends before it starts")
    if stop == 0:
        raise ValueError(f"{quoted(word)} is empty: it ends before it starts")
    return found
