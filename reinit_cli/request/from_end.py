"""Match patterns whose numbers count from the end: `layers.{-2..-1}.*` is the last two layers.

Such a number counts among those that the keys have in the same place: after the same text,
so that an encoder and a decoder of other lengths have last layers of their own.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cached_property

from reinit_cli.errors import PatternError
from reinit_cli.lazy import dataclass
from reinit_cli.request.regex import Clock, Regex

_NUMBER = re.compile(r"(?<![0-9])[0-9]{1,18}(?![0-9])")

_MOST_NUMBERS, _LONGEST = 16, 5_000
"""How many numbers of a key, and how long a key, are looked at; strangers write longer ones."""

_MOST_KNOWN = 100_000
"""How many texts are remembered to fit a part or not: those of layers are alike."""

Ends = tuple[int, int]
"""Two numbers: a negative one counts from the end, another is that number."""


@dataclass(frozen=True, slots=True)
class FromEnd:
    """A pattern with numbers that count from the end.

    Attributes:
        text: as written.
        parts: what is before the first number, between them, and after the last.
        ends: the range of each number.
    """

    text: str
    parts: tuple[Regex, ...]
    ends: tuple[Ends, ...]


@dataclass(frozen=True, slots=True)
class _Place:
    """A number in a key."""

    start: int
    end: int
    value: int
    place: int


class Numbers:
    """The numbers that keys have, by the text before them."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = keys

    @cached_property
    def _places(self) -> tuple[list[list[_Place]], dict[int, list[int]]]:
        """The numbers of each key, and all values at each place.

        A place is known by the place before it and the text between, which takes a time and a
        memory in proportion to the keys.
        """
        numbers: dict[tuple[int, int, str], int] = {}
        values: dict[int, set[int]] = {}
        found = []
        for key in self._keys:
            row: list[_Place] = []
            place, value, reached = -1, 0, 0
            for at in _NUMBER.finditer(key) if len(key) <= _LONGEST else ():
                before = (place, value, key[reached : at.start()])
                place = numbers.setdefault(before, len(numbers))
                value, reached = int(at[0]), at.end()
                values.setdefault(place, set()).add(value)
                row.append(_Place(at.start(), at.end(), value, place))
                if len(row) == _MOST_NUMBERS:
                    break
            found.append(row)
        return found, {place: sorted(each) for place, each in values.items()}

    def select(self, patterns: Sequence[FromEnd], clock: Clock) -> list[int]:
        """Return the positions of the keys that one of some patterns matches, in order.

        Raises:
            PatternError: it takes too long.
        """
        found: set[int] = set()
        for pattern in patterns:
            fits = _Fits(pattern, clock)
            rows, values = self._places
            for at, row in enumerate(rows):
                if row and at not in found and _is_matched(self._keys[at], row, values, fits):
                    found.add(at)
        return sorted(found)

    def ranges(self, before: Regex, clock: Clock) -> Iterator[tuple[str, list[str]]]:
        """Yield the texts that a pattern matches before a number, and the numbers as written."""
        rows, values = self._places
        seen: set[int] = set()
        for key, row in zip(self._keys, rows, strict=True):
            for each in row:
                if each.place not in seen:
                    seen.add(each.place)
                    if before.select([key[: each.start]], clock):
                        written = self._written(each.place)
                        yield key[: each.start], [written[value] for value in values[each.place]]

    def _written(self, place: int) -> dict[int, str]:
        """Return how the numbers of a place are written, such as 007."""
        return {
            each.value: key[each.start : each.end]
            for key, row in zip(self._keys, self._places[0], strict=True)
            for each in row
            if each.place == place
        }


class _Fits:
    """Whether texts fit the parts of a pattern, each looked at once."""

    def __init__(self, pattern: FromEnd, clock: Clock) -> None:
        self.pattern = pattern
        self._clock = clock
        self._known: dict[tuple[int, str], bool] = {}

    def __call__(self, part: int, text: str) -> bool:
        fits = self._known.get((part, text))
        if fits is None:
            if self._clock.is_over:
                raise PatternError(self.pattern.text, "it takes too long to match")
            fits = bool(self.pattern.parts[part].select([text], self._clock))
            if len(self._known) < _MOST_KNOWN:
                self._known[part, text] = fits
        return fits


def _is_matched(key: str, row: Sequence[_Place], values: dict[int, list[int]], fits: _Fits) -> bool:
    starts = {0}
    for part, ends in enumerate(fits.pattern.ends):
        starts = {
            each.end
            for each in row
            if _is_within(each.value, values[each.place], ends)
            and any(start <= each.start and fits(part, key[start : each.start]) for start in starts)
        }
        if not starts:
            return False
    return any(fits(len(fits.pattern.ends), key[start:]) for start in starts)


def _is_within(value: int, values: Sequence[int], ends: Ends) -> bool:
    """Whether a number is in a range, which counts among all numbers at its place."""
    first, last = ends
    if first >= 0:
        at = len(values) + last
        return at >= 0 and first <= value <= values[at]
    return min(first, last) <= bisect_left(values, value) - len(values) <= max(first, last)
