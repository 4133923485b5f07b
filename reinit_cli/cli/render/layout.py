"""Lay out texts in columns that fit a screen: what leaves, what is wrapped, what is shortened."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace

from reinit_cli.cli.screen import Screen, Style
from reinit_cli.lazy import dataclass

_GAP = "  "
"""Between two columns."""

COMFORTABLE = 24
"""A text is wrapped down to this width before a column leaves, if its column says nothing else."""

_WHOLE = 40
"""Texts up to this width are not wrapped where there is room, and longer ones have the rest."""

_LEAST_KEY, _LEAST_TEXT = 20, 14
"""Keys are shortened, and words broken, down to this width before rows become blocks."""

_LONGEST_NAME = 24
"""A fact with a longer name has its value on the lines below."""

_LEAST_ROOM = 24
"""Facts have their values on the lines below where there is less room next to their names."""

_LEAST_SHARE = 3
"""Rows become blocks where less than one in so many columns would be shown."""

_NARROW = 40
"""A screen below this width shows a row as a block of lines where the table does not fit."""


@dataclass(frozen=True, slots=True)
class Strip:
    """One column as texts.

    Attributes:
        title: its heading.
        texts: its cells.
        styles: the styles of rows that have one.
        is_right: whether its cells are aligned to the right.
        rank: when it leaves; 0 for never.
        is_key: whether its cells are shortened in the middle rather than wrapped.
        comfortable: the width down to which its cells are wrapped before a column leaves.
        is_picture: whether it is left out where rows become blocks.
    """

    title: str
    texts: Sequence[str]
    styles: Mapping[int, Style] = field(default_factory=dict)
    is_right: bool = False
    rank: int = 0
    is_key: bool = False
    comfortable: int = COMFORTABLE
    is_picture: bool = False


@dataclass(frozen=True, slots=True)
class _Room:
    """The widths that a strip can take.

    Attributes:
        whole: that of its widest cell and of its heading on one line.
        folded: the same with its heading folded at spaces.
        comfortable: wrapped as far as reads well.
        least: wrapped or shortened as far as can be.
    """

    whole: int
    folded: int
    comfortable: int
    least: int


def width_of(text: str) -> int:
    """Return the columns that a text takes on a terminal."""
    return len(text) if text.isascii() else sum(map(_cells_of, text))


def _cells_of(char: str) -> int:
    if char == "\ufe0f":
        return 1  # it may turn the character before it into a wide picture
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def table_lines(
    strips: Sequence[Strip], screen: Screen, groups: Sequence[str] = ()
) -> tuple[Iterator[str], list[str]]:
    """Lay out a table.

    Args:
        strips: its columns.
        screen: where it is shown.
        groups: the title that each row is listed under; empty for none.

    Returns:
        its lines, and the headings of the columns that it has no room for.
    """
    rooms = [_room(strip) for strip in strips]
    if screen.is_wide or _total(room.whole for room in rooms) <= screen.width:
        return _lines(strips, [room.whole for room in rooms], screen, groups), []
    if _total(room.folded for room in rooms) <= screen.width:
        return _lines(strips, [room.folded for room in rooms], screen, groups), []
    shown = _chosen(strips, rooms, screen.width)
    if not shown:
        return _blocks(strips, screen, groups), []
    widths = _widths([strips[at] for at in shown], [rooms[at] for at in shown], screen.width)
    if not widths:
        return _blocks(strips, screen, groups), []
    hidden = [strip.title for at, strip in enumerate(strips) if at not in shown]
    return _lines([strips[at] for at in shown], widths, screen, groups), hidden


def _chosen(strips: Sequence[Strip], rooms: Sequence[_Room], width: int) -> list[int]:
    """Return which columns are shown; none where rows become blocks.

    Where one long key would send all others away, keys are shortened to half of the screen.
    """
    if width < _NARROW:
        return []
    halved = [
        replace(room, comfortable=max(room.least, min(room.comfortable, width // 2)))
        if strip.is_key
        else room
        for strip, room in zip(strips, rooms, strict=True)
    ]
    for each in (rooms, halved):
        shown = _staying(strips, each, width)
        if _LEAST_SHARE * len(shown) >= len(strips):
            return shown
    return []


def _room(strip: Strip) -> _Room:
    cells = max(map(width_of, strip.texts), default=0)
    heading = max(map(width_of, strip.title.split(" ")))
    folded = max(cells, heading)
    comfortable = least = folded
    if strip.is_key:
        least = max(min(cells, _LEAST_KEY), heading)
    elif not strip.is_right and not strip.is_picture and cells > _LEAST_TEXT:
        word = max(map(width_of, " ".join(set(strip.texts)).split()), default=0)
        comfortable = min(folded, max(word, heading, strip.comfortable))
        least = min(folded, max(min(word, COMFORTABLE), heading, _LEAST_TEXT))
    return _Room(max(cells, width_of(strip.title)), folded, comfortable, least)


def _total(widths: Iterable[int]) -> int:
    found = list(widths)
    return sum(found) + len(_GAP) * (len(found) - 1)


def _staying(strips: Sequence[Strip], rooms: Sequence[_Room], width: int) -> list[int]:
    """Return which columns stay: the highest rank leaves first, of equals the last."""
    shown = list(range(len(strips)))
    while _total(rooms[at].comfortable for at in shown) > width:
        leaving = max(shown, key=lambda at: (strips[at].rank, at))
        if not strips[leaving].rank:
            break
        shown.remove(leaving)
    return shown


def _widths(strips: Sequence[Strip], rooms: Sequence[_Room], width: int) -> list[int]:
    """Return the widths of columns: keys get what they need first, then what is wrapped most.

    It is empty where there is no room even for the narrowest.
    """
    widths = [room.least for room in rooms]
    if not rooms or _total(widths) > width:
        return []
    free = width - _total(widths)
    in_turn = sorted(range(len(rooms)), key=lambda at: (not strips[at].is_key, strips[at].rank))
    for wanted in ([room.comfortable for room in rooms], [room.folded for room in rooms]):
        for at in in_turn:
            is_whole = strips[at].is_key or wanted[at] <= max(_WHOLE, rooms[at].comfortable)
            if is_whole and widths[at] < wanted[at]:
                more = min(free, wanted[at] - widths[at])
                widths[at] += more
                free -= more
    for _ in range(free):
        at = max(range(len(rooms)), key=lambda each: rooms[each].folded / widths[each])
        if widths[at] >= rooms[at].folded:
            break
        widths[at] += 1
    return widths


def _lines(
    strips: Sequence[Strip], widths: Sequence[int], screen: Screen, groups: Sequence[str]
) -> Iterator[str]:
    ellipsis = "…" if screen.is_unicode else "..."
    strips = [
        replace(strip, texts=[shortened(text, width, ellipsis) for text in strip.texts])
        if strip.is_key
        else strip
        for strip, width in zip(strips, widths, strict=True)
    ]
    yield from _heading(strips, widths, screen)
    styled = set().union(*(strip.styles for strip in strips))
    too_wide = {
        row
        for strip, width in zip(strips, widths, strict=True)
        for row, text in enumerate(strip.texts)
        if len(text) > width // 2 and width_of(text) > width
    }
    special = (styled if screen.has_color else set()) | too_wide
    padded = [
        [_padded(text, width, strip.is_right) for text in strip.texts]
        for strip, width in zip(strips, widths, strict=True)
    ]
    titles = _titles(groups, screen)
    for row, cells in enumerate(zip(*padded, strict=True)):
        yield from titles.get(row, ())
        if row in special:
            yield from _special_row(strips, widths, row, screen)
        else:
            yield _GAP.join(cells).rstrip()


def _titles(groups: Sequence[str], screen: Screen) -> dict[int, list[str]]:
    """Return the lines above the rows with which another group begins."""
    changes = [row for row in range(len(groups)) if not row or groups[row] != groups[row - 1]]
    lines = {row: wrapped(groups[row], screen.limit or len(groups[row])) for row in changes}
    return {
        row: [""] * bool(row) + [screen.paint(line, "strong") for line in lines[row]]
        for row in changes
    }


def _padded(text: str, width: int, is_right: bool) -> str:  # noqa: FBT001
    # It is called for each cell of a hundred thousand rows.
    if text.isascii():
        return text.rjust(width) if is_right else text.ljust(width)
    padding = " " * (width - width_of(text))
    return padding + text if is_right else text + padding


def _heading(strips: Sequence[Strip], widths: Sequence[int], screen: Screen) -> Iterator[str]:
    folded = [wrapped(strip.title, width) for strip, width in zip(strips, widths, strict=True)]
    height = max(map(len, folded))
    for line in range(height):
        cells = []
        for strip, width, title in zip(strips, widths, folded, strict=True):
            at = line - (height - len(title))
            cells.append(_padded(title[at] if at >= 0 else "", width, strip.is_right))
        yield screen.paint(_GAP.join(cells).rstrip(), "strong")
    rule = "─" if screen.is_unicode else "-"
    yield screen.paint(_GAP.join(rule * width for width in widths), "dim")


def _special_row(
    strips: Sequence[Strip], widths: Sequence[int], row: int, screen: Screen
) -> Iterator[str]:
    """Yield a row that has styles, or cells of several lines."""
    columns = [
        wrapped(strip.texts[row], width) for strip, width in zip(strips, widths, strict=True)
    ]
    for line in range(max(map(len, columns))):
        cells = []
        for strip, width, texts in zip(strips, widths, columns, strict=True):
            text = texts[line] if line < len(texts) else ""
            padded = _padded(text, width, strip.is_right)
            cells.append(padded.replace(text, screen.paint(text, strip.styles.get(row)), 1))
        yield _GAP.join(cells).rstrip()


def _blocks(strips: Sequence[Strip], screen: Screen, groups: Sequence[str]) -> Iterator[str]:
    """Yield each row as lines: the first cell, then the others below it with their headings."""
    first, *others = (strip for strip in strips if not strip.is_picture)
    titles = _titles(groups, screen)
    for row, text in enumerate(first.texts):
        yield from titles.get(row, ())
        if row:
            yield ""
        for line in _titled(text, screen.width):
            yield screen.paint(line, first.styles.get(row) or "strong")
        for strip in others:
            if said := strip.texts[row].strip():
                for line in wrapped(f"{strip.title}: {said}", screen.width - 2, "  "):
                    yield "  " + screen.paint(line, strip.styles.get(row))


def _titled(text: str, width: int) -> Iterator[str]:
    """Yield the lines of a block's title, which lines of a tree may come before."""
    branches = _BRANCHES.match(text)
    start = branches.end() if branches and width >= _LEAST_KEY else 0
    for at, line in enumerate(wrapped(text[start:], max(width - start, _LEAST_TEXT // 2))):
        yield (" " * start if at else text[:start]) + line


_BRANCHES = re.compile("[ │├└─]*")


def fact_lines(facts: Sequence[tuple[str, str, Style | None]], screen: Screen) -> Iterator[str]:
    """Yield facts, wrapped at spaces so that their values stay below each other."""
    names = [width_of(name) for name, _, _ in facts]
    width = max((each for each in names if each <= _LONGEST_NAME), default=0)
    room = screen.width - width - len(_GAP)
    for (name, text, style), own in zip(facts, names, strict=True):
        if not screen.is_wide and (own > width or room < _LEAST_ROOM):
            yield from _narrow_fact(name, text, style, screen)
            continue
        label = screen.paint(name, "dim") + " " * (width - own)
        for line in [text] if screen.is_wide else wrapped(text, room):
            yield (label + _GAP + screen.paint(line, style)).rstrip()
            label = " " * width


def _narrow_fact(name: str, text: str, style: Style | None, screen: Screen) -> Iterator[str]:
    for line in wrapped(name, screen.width):
        yield screen.paint(line, "dim")
    for line in wrapped(text, screen.width - 2):
        yield "  " + screen.paint(line, style)


_PIECE = re.compile(r"[^/._,=-]*[/._,=-]*")
"""A word that is too long is broken after these, if it can be."""


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """Return a text as lines of at most `width`, broken at spaces wherever that is possible.

    Args:
        text: one line.
        width: the columns of a line.
        indent: what the lines after the first begin with.
    """
    if width_of(text) <= width:
        return [text]
    lines, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line.strip() else line + word
        if width_of(longer) <= width:
            line = longer
            continue
        if line.strip():
            lines.append(line)
        line = indent if lines else ""
        if width_of(line + word) > width:
            *whole, word = _broken(word, max(1, width - width_of(indent)))  # noqa: PLW2901
            for piece in whole:
                lines.append((indent if lines else "") + piece)
            line = indent if lines else ""
        line += word
    return [*lines, line]


def _broken(word: str, width: int) -> Iterator[str]:
    """Yield the pieces of a word that is wider than a line."""
    line = ""
    for piece in filter(None, _PIECE.findall(word)):
        if width_of(line + piece) <= width:
            line += piece
            continue
        if line:
            yield line
        line = ""
        for char in piece:
            if width_of(line + char) > width:
                yield line
                line = ""
            line += char
    yield line


def shortened(text: str, width: int, ellipsis: str = "…") -> str:
    """Return a text without its middle, where it is wider than `width`."""
    if len(text) <= width // 2 or width_of(text) <= width:
        return text
    room = width - width_of(ellipsis)
    head = _fitting(text, room // 2)
    tail = _fitting(text[::-1], room - room // 2)[::-1]
    return head + ellipsis + tail


def _fitting(text: str, width: int) -> str:
    """Return as much of the beginning of a text as a width has room for."""
    taken = 0
    for at, char in enumerate(text):
        taken += _cells_of(char)
        if taken > width:
            return text[:at]
    return text
