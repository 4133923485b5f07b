"""Find which tensors the parameters of an optimizer may be, by their order and shapes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from reinit_cli.lazy import dataclass

Token = str
"""What a parameter and its tensor have in common, as text: a file chooses the numbers in it, and
whoever chooses integers can choose thousands with one hash."""

Sequences = Sequence[Sequence[Token | None]]
"""The tokens of parameters, of each group in order; None where nothing is known of one."""

MOST_ROUNDS = 10
"""Each takes a time of n log n, and settles what the one before made certain."""


@dataclass(frozen=True, slots=True)
class Range:
    """The tensors that a parameter may be: those of its token from one position to another.

    Attributes:
        token: what they have in common, or None.
        low: the first.
        high: the last.
        is_settled: whether it is one and the same, which no other parameter can be.
    """

    token: Token | None
    low: int
    high: int
    is_settled: bool = False


class Positions:
    """The positions of tensors in a state dict, by their tokens."""

    def __init__(self, tokens: Iterable[tuple[int, Token]]) -> None:
        self._all: list[int] = []
        self._of: dict[Token, list[int]] = {}
        for at, token in tokens:
            self._all.append(at)
            self._of.setdefault(token, []).append(at)

    def of(self, token: Token | None) -> Sequence[int]:
        """Return those of a token, ascending; all where the token is not known."""
        return self._all if token is None else self._of.get(token, ())

    def within(self, range_: Range) -> Sequence[int]:
        """Return those that a parameter may be."""
        found = self.of(range_.token)
        return found[bisect_left(found, range_.low) : bisect_right(found, range_.high)]


def by_shape(sequences: Sequences, positions: Positions) -> list[list[Range]] | None:
    """Return what parameters may be in whatever order; None if there are not enough tensors."""
    wanted: dict[Token | None, int] = {}
    for sequence in sequences:
        for token in sequence:
            wanted[token] = wanted.get(token, 0) + 1
    if any(len(positions.of(token)) < count for token, count in wanted.items()):
        return None
    if sum(wanted.values()) > len(positions.of(None)):
        return None
    return [[_whole(token, positions) for token in sequence] for sequence in sequences]


def _whole(token: Token | None, positions: Positions) -> Range:
    found = positions.of(token)
    return Range(token, found[0], found[-1], len(found) == 1)


def by_order(
    sequences: Sequences, tokens: Sequence[Token]
) -> tuple[list[list[Range]], Positions] | None:
    """Return what parameters may be where each group is in the order of the tensors.

    Some tensors may belong to no parameter: buffers, and what is frozen.

    Returns:
        For each group its ranges, and the tensors among which they are; None where no choice
        keeps the order.
    """
    settled: list[dict[int, int]] = [{} for _ in sequences]
    ranges: list[list[Range]] = []
    free = Positions(())
    for _ in range(MOST_ROUNDS):
        taken = {position for of in settled for position in of.values()}
        free = Positions((at, token) for at, token in enumerate(tokens) if at not in taken)
        ranges = []
        for sequence, known in zip(sequences, settled, strict=True):
            found = _spans(sequence, known, free, len(tokens))
            if found is None:
                return None
            ranges.append(found)
        news = _settle(ranges, settled)
        if news is None:
            return None
        if not news:
            break
    return ranges, free


def _settle(ranges: Sequence[Sequence[Range]], settled: Sequence[dict[int, int]]) -> int | None:
    """Note which parameters can be one tensor alone.

    Returns:
        How many that are new; None where two can only be the same one.
    """
    news = 0
    owners = {position for of in settled for position in of.values()}
    for of, known in zip(ranges, settled, strict=True):
        for at, each in enumerate(of):
            if each.low == each.high and at not in known:
                if each.low in owners:
                    return None
                owners.add(each.low)
                known[at] = each.low
                news += 1
    return news


def _spans(
    sequence: Sequence[Token | None], known: Mapping[int, int], free: Positions, end: int
) -> list[Range] | None:
    """Return the first and the last tensor that each parameter of a group may be."""
    lows = list(_firsts(sequence, known, free))
    highs = list(_lasts(sequence, known, free, end))[::-1]
    if len(lows) < len(sequence) or len(highs) < len(sequence):
        return None
    return [
        Range(token, low, high, at in known)
        for at, (token, low, high) in enumerate(zip(sequence, lows, highs, strict=True))
    ]


def _firsts(
    sequence: Sequence[Token | None], known: Mapping[int, int], free: Positions
) -> Iterator[int]:
    reached = -1
    for at, token in enumerate(sequence):
        if at in known:
            if known[at] <= reached:
                return
            reached = known[at]
        else:
            found = free.of(token)
            next_ = bisect_right(found, reached)
            if next_ == len(found):
                return
            reached = found[next_]
        yield reached


def _lasts(
    sequence: Sequence[Token | None], known: Mapping[int, int], free: Positions, end: int
) -> Iterator[int]:
    reached = end
    for at in range(len(sequence) - 1, -1, -1):
        if at in known:
            if known[at] >= reached:
                return
            reached = known[at]
        else:
            found = free.of(sequence[at])
            before = bisect_left(found, reached) - 1
            if before < 0:
                return
            reached = found[before]
        yield reached


class Filled:
    """Which tensors are filled, counted so that a range of them is asked in little time."""

    def __init__(self, positions: Positions, filled: Sequence[bool]) -> None:
        self._positions = positions
        self._filled = filled
        self._sums: dict[Token | None, list[int]] = {}

    def share(self, range_: Range) -> bool | None:
        """Say whether all (or none) of what a parameter may be is filled; None if some is."""
        if range_.is_settled:
            return self._filled[range_.low]
        found = self._positions.of(range_.token)
        first, last = bisect_left(found, range_.low), bisect_right(found, range_.high)
        sums = self._sums.get(range_.token)
        if sums is None:
            flags = (self._filled[at] for at in found)
            sums = self._sums[range_.token] = list(accumulate(flags, initial=0))
        count = sums[last] - sums[first]
        return None if 0 < count < last - first else count > 0
