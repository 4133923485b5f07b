"""Replace parts of a pickle, and keep every other byte.

What a replaced part stored in the memo is missing afterwards. Where it is recalled outside,
the bytes that made it are put in the place of the opcode that recalls it, so that everything
that shared a value with a replaced part keeps the old one. For that the memo is followed
twice through the file: as it was, and as it will be.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

from reinit_cli.checkpoints.formats.torch.edits.pieces import segments_of, without_cut_frames
from reinit_cli.checkpoints.formats.torch.edits.replacements import (
    Changed,
    Replacement,
    lost_in,
    often_in,
)
from reinit_cli.checkpoints.formats.torch.edits.spans import Spans
from reinit_cli.checkpoints.formats.torch.pickles.tensor_call import Span
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.segments import Segment

MAX_DEPTH = 100

_MAX_NEW_NBYTES = 64 * 2**20
"""The most that the pickle may grow by what is made again."""

_MEMOIZE = b"\x94"


def edited(
    file: Reader, start: int, end: int, spans: Spans, replacements: Mapping[Span, Replacement]
) -> list[Segment]:
    """Return a pickle with some values replaced.

    Whatever shares a replaced value outside the replaced spans keeps the old one. Equal
    replacements of one value, where it is made and where it is recalled, are shared.

    Args:
        file: the file.
        start: where the pickle starts in it.
        end: where it ends.
        spans: of this pickle.
        replacements: what replaces the bytes of a key, a value or a pair.

    Raises:
        UnsupportedFormatError: what is shared cannot be kept as it was.
    """
    editor = _Editor(file, spans)
    editor.edit(start, end, replacements)
    return segments_of(file, without_cut_frames(editor.pieces, spans.frames))


class _Editor:
    """Walks through a pickle with two memos: as it was, and as it will be.

    Attributes:
        pieces: the new pickle: bytes, and spans of the file.
    """

    def __init__(self, file: Reader, spans: Spans) -> None:
        self.pieces: list[bytes | Span] = []
        self._file = file
        self._spans = spans
        self._events = spans.events
        # By index: the number of the event that stored it in the file, or what replaced that.
        self._memo: dict[int, _Stored] = {}
        self._lost: list[tuple[int, int]] = []  # what `Spans.late` has in replaced spans
        self._homes: dict[Replacement, int] = {}  # the indices of what comes again
        self._often: frozenset[Changed] = frozenset()
        self._recalls: list[int] = []  # where a changed value recalls what changes in it
        self._making: list[int] = []
        self._wanted: set[int] = set()  # events that store what others recall, and are replaced
        self._nbytes = 0

    def edit(self, start: int, end: int, replacements: Mapping[Span, Replacement]) -> None:
        """Put the pieces together."""
        ordered = sorted(replacements)
        self._check(ordered)
        self._wanted = self._missed(ordered, replacements)
        self._often = often_in(replacements)
        reached = start
        for span in ordered:
            self._keep(reached, span[0])
            self._replace(span, replacements[span])
            reached = span[1]
        self._keep(reached, end)

    def _check(self, ordered: Sequence[Span]) -> None:
        """Refuse spans that hold more than values."""
        starts = [start for start, _ in ordered]
        for (_, end), (start, _) in pairwise(ordered):
            if start < end:
                self._spans.refuse("a part of it is replaced twice")

        def around(at: int) -> Span | None:
            found = bisect_left(starts, at + 1) - 1
            return ordered[found] if found >= 0 and at < ordered[found][1] else None

        for at, made_at in self._spans.late:
            span = around(at)
            if span is not None and not span[0] <= made_at < span[1]:
                self._spans.refuse(_FROM_WITHIN)
            if span is not None:
                self._lost.append((at, made_at))
        for at, below in self._spans.doubled:
            span = around(below)
            if span is not None and not span[0] <= at < span[1]:
                self._spans.refuse("it doubles a value in an unusual way")

    def _missed(
        self, ordered: Sequence[Span], replacements: Mapping[Span, Replacement]
    ) -> set[int]:
        """Return the events in what is replaced that something outside relies on."""
        events = self._events
        is_lost = bytearray(len(events.at))
        for span in ordered:
            for lost in lost_in(span, replacements[span]):
                for number in events.within(lost):
                    is_lost[number] = 1
        recalled = (
            stored
            for number, (stored, end) in enumerate(zip(events.start, events.end, strict=True))
            if end < 0 and not is_lost[number]
        )
        return {stored for stored in recalled if is_lost[stored]}

    # What stays

    def _keep(self, start: int, end: int, changed: Changed | None = None) -> None:
        """Keep bytes in their place, and recall from the memo what they recalled.

        Args:
            start: the first of them.
            end: where they end.
            changed: the value that they are a part of, if others are replaced.
        """
        events, memo = self._events, self._memo
        reached = start
        for number in self._events.within((start, end)):
            key = events.key[number]
            if events.is_put(number):
                if events.counts_itself(number) and len(memo) != events.index_of(number):
                    self._spans.refuse("it counts its memo, and what counts is replaced")
                memo[key] = self._stored(number, changed)
            elif changed is not None and memo.get(key) == (events.start[number], changed):
                self._recalls.append(events.at[number])  # what it becomes, within it
            elif memo.get(key) != events.start[number]:
                self._put((reached, events.at[number]))
                self._make(events.start[number])
                reached = events.after[number]
        self._put((reached, end))

    def _stored(self, number: int, changed: Changed | None) -> _Stored:
        """Return what is stored within a changed value: it, or a part of it that stays."""
        if changed is None:
            return number
        start, end = self._events.start[number], self._events.end[number]
        at = bisect_right(changed.inner, start, key=lambda each: each[0][1])
        has_changes = at < len(changed.inner) and changed.inner[at][0][0] < end
        recalled = bisect_left(self._recalls, start)
        if has_changes or (recalled < len(self._recalls) and self._recalls[recalled] < end):
            return number, changed
        return number

    # What is replaced

    def _replace(self, span: Span, replacement: Replacement, *, is_in_place: bool = True) -> None:
        """Put something in the place of a value.

        Args:
            span: the bytes of the value.
            replacement: what comes there.
            is_in_place: whether it does; else it comes where all around it is written again.
        """
        events = self._events
        numbers = events.within(span)
        first = numbers.start
        if len(numbers) == 1 and not events.is_put(first):
            is_all = (events.at[first], events.after[first]) == span
            stored = events.start[first], replacement
            if is_all and self._memo.get(events.key[first]) == stored:
                self._put(span)
                return
        if isinstance(replacement, Changed) and replacement.source == span and is_in_place:
            self._change(replacement, is_in_place=True)
            return
        if replacement in self._homes:
            self._put(_get(self._homes[replacement]))
        elif isinstance(replacement, Changed):
            self._change(replacement, is_in_place=False)
        else:
            self._put(replacement)
        if is_in_place and isinstance(replacement, bytes):
            self._store_again(span, numbers, replacement)
        self._house(replacement)

    def _house(self, replacement: Replacement) -> None:
        """Store what comes again under an index after all others.

        Few names are written, and most of them often.
        """
        events, homes = self._events, self._homes
        if isinstance(replacement, Changed):
            is_often = replacement in self._often
        else:
            is_often = replacement[:1] == _NAME
        has_room = not events.count and events.free < _MAX_FREE and len(homes) < _MOST_HOMES
        if is_often and has_room and replacement not in homes:
            homes[replacement] = events.free + len(homes)
            self._put(_opcode(b"q", b"r", homes[replacement]))

    def _store_again(self, span: Span, numbers: range, replacement: bytes) -> None:
        """Store what replaces a value where the value was stored.

        So the indices of everything after it stay in order, and those that count themselves
        stay right.
        """
        events = self._events
        counted = [number for number in numbers if events.counts_itself(number)]
        if counted:
            stores = _MEMOIZE * len(counted)
            self._put(stores if replacement else b"N" + stores + b"0")
            for number in counted:
                is_whole = (events.start[number], events.end[number]) == span
                self._memo[events.key[number]] = (number if is_whole else -1, replacement)
            return
        last = numbers[-1] if numbers else -1
        is_last = last >= 0 and (events.start[last], events.after[last]) == span
        if is_last and replacement and last not in self._wanted:
            self._put((events.at[last], events.after[last]))
            self._memo[events.key[last]] = last, replacement

    def _change(self, changed: Changed, *, is_in_place: bool) -> None:
        """Put a value with other parts."""
        reached, end = changed.source
        write = self._keep if is_in_place else self._repeat
        for span, replacement in changed.inner:
            write(reached, span[0], changed)
            self._replace(span, replacement, is_in_place=is_in_place)
            reached = span[1]
        write(reached, end, changed)

    # What is made again

    def _make(self, number: int) -> None:
        """Make again what an event stored, and store it there."""
        events = self._events
        if number in self._making or len(self._making) >= MAX_DEPTH:
            self._spans.refuse(_OF_ITSELF)
        unmade = [each for each in self._making if not self._is_stored(each)]
        self._making.append(number)
        self._repeat(events.start[number], events.end[number], None)
        self._making.pop()
        if any(map(self._is_stored, unmade)):
            self._spans.refuse(_OF_ITSELF)  # what is left of it would be made twice
        if self._is_passing(number):
            return
        if not self._is_stored(number):
            self._spans.refuse(_TWICE)

    def _is_stored(self, number: int) -> bool:
        return self._memo.get(self._events.key[number]) == number

    def _repeat(self, start: int, end: int, changed: Changed | None) -> None:
        """Write bytes of the file again, and recall what is still stored of them.

        Args:
            start: the first of them.
            end: where they end.
            changed: the value that they are a part of, if others are replaced.
        """
        events, memo = self._events, self._memo
        numbers = events.within((start, end))
        self._pay(start, end, len(numbers))
        live = self._live(start, numbers, end)
        reached = start
        for number in numbers:
            while live and live[-1][0] < reached:
                live.pop()
            if live and live[-1][0] <= events.at[number] >= reached:
                first, last, stored = live.pop()
                self._put((reached, first))
                self._put(_get(events.index_of(stored)))
                reached = last
            if events.at[number] < reached:
                continue
            key = events.key[number]
            if events.is_put(number):
                reached = self._put_again(number, reached, changed)
            elif memo.get(key) != events.start[number]:
                self._put((reached, events.at[number]))
                self._make(events.start[number])
                reached = events.after[number]
            elif self._stored(events.start[number], changed) != events.start[number]:
                self._spans.refuse(_OF_ITSELF)  # what is stored is not what it becomes
        self._put((reached, end))

    def _live(self, start: int, numbers: range, end: int) -> list[tuple[int, int, int]]:
        """Return the spans whose values are still stored, each with its number.

        They are in reverse order, and of those that start together the longest comes last.
        """
        events, memo = self._events, self._memo
        found = [
            (events.start[number], events.end[number], number)
            for number in numbers
            if memo.get(events.key[number]) == number and events.is_put(number)
        ]
        return sorted(
            (each for each in found if start <= each[0] and each[1] <= end),
            key=lambda each: (-each[0], each[1]),
        )

    def _put_again(self, number: int, reached: int, changed: Changed | None) -> int:
        """Store a value that is written again; return how far the file is then written."""
        events = self._events
        key = events.key[number]
        stored = self._memo.get(key)
        at, after = events.at[number], events.after[number]
        is_kept = stored == number or (changed is not None and isinstance(stored, int))
        if is_kept or self._is_passing(number):
            self._put((reached, at))
            return after
        if isinstance(stored, int) and stored > number:
            self._spans.refuse(_TWICE)
        self._memo[key] = self._stored(number, changed)
        if not events.counts_itself(number):
            return reached
        self._put((reached, at))
        self._put(_opcode(b"q", b"r", events.index_of(number)))
        return after

    def _is_passing(self, number: int) -> bool:
        """Whether something is made again wherever it is recalled, since its index is in use."""
        return self._events.counts_itself(number) and bool(self._events.is_atom[number])

    def _pay(self, start: int, end: int, count: int) -> None:
        self._spans.budget.spend(1 + count + len(self._spans.late))
        self._nbytes += end - start
        if self._nbytes > _MAX_NEW_NBYTES:
            self._spans.refuse("it shares too much of what is replaced")
        # A change that is made twice, and one that is not made at all.
        apart = (*self._spans.late, *((made, at) for at, made in self._lost))
        if any(start <= one < end and not start <= other < end for one, other in apart):
            self._spans.refuse(_FROM_WITHIN)

    def _put(self, piece: bytes | Span) -> None:
        if piece and (isinstance(piece, bytes) or piece[0] < piece[1]):
            last = self.pieces[-1] if self.pieces else b""
            if isinstance(piece, tuple) and isinstance(last, tuple) and last[1] == piece[0]:
                self.pieces[-1] = last[0], piece[1]
            else:
                self.pieces.append(piece)


_Stored: TypeAlias = int | tuple[int, Replacement]
"""The number of an event that stored something; and what replaces that, or what it is part of."""

_NAME = b"c"

_MAX_FREE = 2**31

_MOST_HOMES = 100_000

_OF_ITSELF = "it shares a value with what that value is made of"

_TWICE = "it stores two values in one place of its memo"

_FROM_WITHIN = "it changes a value from within another"


def _get(index: int) -> bytes:
    return _opcode(b"h", b"j", index)


def _opcode(short: bytes, long: bytes, index: int) -> bytes:
    return short + bytes((index,)) if index < 256 else long + struct.pack("<I", index)
