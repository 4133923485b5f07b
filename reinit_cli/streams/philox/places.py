"""Choose the same number of rows in every column of a matrix.

Each element has a 64-bit word of its own, the low bits of which are replaced by its row; in a
column, the elements with the smallest words are chosen. To choose them again one number for each
column is enough, the largest of these words: no list of places is kept, and whether an element is
chosen can be asked of any run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.streams.chance import Array
from reinit_cli.streams.philox.words import Words

np = LazyModule("numpy")

_PART_NUMEL = 2**16
"""About as many words are worked on together."""

_MOST_ROWS = 255
"""The number of rows that are counted in a byte."""

_FIRST_REACH = 5.0
"""How many standard deviations the window reaches to either side of the word that is expected."""


@dataclass(frozen=True)
class Chosen:
    """Elements of a matrix, as many in each column.

    Attributes:
        words: those of a lane for places.
        at: the index of the word of the first element.
        rows: those of the matrix.
        columns: those of the matrix.
        last: the largest word of a chosen element in each column; None where none is chosen.
    """

    words: Words
    at: int
    rows: int
    columns: int
    last: Array | None

    def mask(self, start: int, numel: int) -> Array:
        """Return which elements of a run are chosen, in row-major order; any thread may ask.

        Args:
            start: the index of the first.
            numel: how many there are.
        """
        import numpy as np

        found, words = np.zeros(numel, np.bool_), self.words.reread()
        if self.last is None:
            return found
        for row, column, part in _parts(start, numel, self.columns):
            ranked = _ranked(words, self.at, self.rows, self.columns, row, column, part)
            here = found[row * self.columns + column - start :][: part[0] * part[1]]
            np.less_equal(ranked, self.last[column : column + part[1]], out=here.reshape(part))
        return found


def chosen(words: Words, at: int, rows: int, columns: int, count: int) -> Chosen:
    """Choose elements of a matrix: the same number in each column.

    Args:
        words: those of a lane for places.
        at: the index of the word of the first element.
        rows: those of the matrix.
        columns: those of the matrix.
        count: how many of each column.
    """
    last = _last_words(words, at, rows, columns, count) if count and columns else None
    return Chosen(words, at, rows, columns, last)


def _parts(start: int, numel: int, columns: int) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Cut a run into rectangles: the row and the column of each, and its rows and columns."""
    end = start + numel
    while start < end:
        row, column = divmod(start, columns)
        if column or end - start < columns or columns > _PART_NUMEL:
            part = 1, min(columns - column, end - start, _PART_NUMEL)
        else:
            most = min(_MOST_ROWS, max(1, _PART_NUMEL // columns))
            part = min((end - start) // columns, most), columns
        yield row, column, part
        start += part[0] * part[1]


def _ranked(
    words: Words, at: int, rows: int, columns: int, row: int, column: int, part: tuple[int, int]
) -> Array:
    """Return the words of a rectangle, their low bits replaced by the row."""
    import numpy as np

    mask = np.uint64(2 ** max(1, (rows - 1).bit_length()) - 1)
    taken = words.take(at + row * columns + column, part[0] * part[1], 64).reshape(part)
    np.bitwise_and(taken, ~mask, out=taken)
    numbers = np.arange(row, row + part[0], dtype=np.uint64)[:, None]
    return np.bitwise_or(taken, numbers, out=taken)


def choice_nbytes(rows: int, columns: int, count: int) -> int:
    """Return what is kept of all columns until the choice is made."""
    return 8 * columns * (_expected(rows, count, _FIRST_REACH)[2] if count > 0 else 0)


def _expected(rows: int, count: int, reach: float) -> tuple[float, float, int]:
    """Return the shares of all words between which the `count`-th smallest of a column lies.

    And how many words of a column lie there, at most.
    """
    share = count / rows
    apart = reach * math.sqrt(share * (1 - share) / rows) + reach**2 / rows
    low, high = max(0.0, share - apart), min(1.0, share + apart)
    expected = rows * (high - low)
    return low, high, min(rows, math.ceil(expected + reach * math.sqrt(expected) + reach**2))


def _last_words(words: Words, at: int, rows: int, columns: int, count: int) -> Array:
    """Return the `count`-th smallest word of each column.

    It lies near the same share of all words as `count` is of the rows. So one pass counts the
    words below a window and keeps those inside; should it be missed, there is another pass.
    """
    import numpy as np

    reach = _FIRST_REACH
    while True:
        window = _Window.around(rows, columns, count, reach)
        for row, column, part in _parts(0, rows * columns, columns):
            window.look_at(_ranked(words, at, rows, columns, row, column, part), column)
        wanted = count - 1 - window.below
        if window.has_room and np.all((wanted >= 0) & (wanted < window.sizes)):
            window.inside.sort(axis=1)
            return window.inside[np.arange(columns), wanted]
        reach *= 2


class _Window:
    """The words of each column between two bounds.

    Attributes:
        below: how many words of each column are smaller.
        sizes: how many of each column are inside.
        inside: these, (columns, the most that are expected), and the largest number after them.
    """

    def __init__(self, low: int, high: int, columns: int, room: int) -> None:
        """Prepare to look.

        Args:
            low: the least word inside.
            high: the largest.
            columns: those of the matrix.
            room: how many words of a column can be kept.
        """
        import numpy as np

        self._low, self._width = np.uint64(low), np.uint64(high - low)
        self.below = np.zeros(columns, np.int64)
        self.sizes = np.zeros(columns, np.int64)
        self.inside = np.full((columns, room), 2**64 - 1, np.uint64)

    @classmethod
    def around(cls, rows: int, columns: int, count: int, reach: float) -> _Window:
        """Return the window in which the `count`-th smallest word of a column is expected."""
        low, high, room = _expected(rows, count, reach)
        return cls(int(2**64 * low), min(int(2**64 * high), 2**64 - 1), columns, room)

    @property
    def has_room(self) -> bool:
        """Whether all words inside were kept."""
        return int(self.sizes.max()) <= self.inside.shape[1]

    def look_at(self, ranked: Array, column: int) -> None:
        """Count the words of a rectangle that are below, and keep those inside.

        Args:
            ranked: the words, at most 255 rows.
            column: the column of the matrix in which the rectangle begins.
        """
        import numpy as np

        here = slice(column, column + ranked.shape[1])
        counted = np.add.reduce((ranked < self._low).view(np.uint8), axis=0, dtype=np.uint8)
        self.below[here] += counted
        flat = ranked.reshape(-1)
        found = np.flatnonzero(flat - self._low <= self._width)  # those below wrap around
        in_columns = found % ranked.shape[1]
        order = np.argsort(in_columns, kind="stable")
        in_columns = in_columns[order]
        counts = np.bincount(in_columns, minlength=ranked.shape[1])
        firsts = np.cumsum(counts) - counts - self.sizes[here]
        places = np.arange(len(found)) - firsts[in_columns]
        fits = places < self.inside.shape[1]
        self.inside[here][in_columns[fits], places[fits]] = flat[found[order[fits]]]
        self.sizes[here] += counts
