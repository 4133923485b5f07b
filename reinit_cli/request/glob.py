"""Parse globs, and tell what they spell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice, product

from reinit_cli.errors import PatternError
from reinit_cli.lazy import dataclass
from reinit_cli.request.from_end import Ends, FromEnd
from reinit_cli.request.glob_parts import (
    STAR,
    Choice,
    End,
    Node,
    Nodes,
    Row,
    Wild,
    count_of,
    counts_from_end,
    expanded,
    has_wild,
    joined,
    length_of,
    stars_of,
)
from reinit_cli.request.glob_regex import regex_of
from reinit_cli.request.regex import Regex

MAX_NAMES, MAX_IN_WILDCARD = 100_000, 10_000
"""The most names that the braces of one pattern may stand for; in a regular expression, fewer."""

MAX_CHARACTERS = 10**7
"""The most characters of all these names together."""

MAX_FROM_END = 100
"""The most combinations of numbers of one pattern that count from the end."""


@dataclass(frozen=True, slots=True)
class Glob:
    """A glob in parts.

    Attributes:
        text: as written.
        nodes: its parts.
    """

    text: str
    nodes: Nodes

    @classmethod
    def parse(cls, text: str) -> Glob:
        """Read a glob.

        Raises:
            PatternError: it is empty, malformed, or its braces stand for too many names.
        """
        if not text:
            raise PatternError(text, "it is empty")
        glob = cls(text, _Parser(text).whole())
        most = MAX_IN_WILDCARD if glob.has_wild else MAX_NAMES
        if glob.count > most:
            raise PatternError(text, _too_many(most))
        if glob.characters > MAX_CHARACTERS:
            problem = f"the names in it have more than {MAX_CHARACTERS:,} characters"
            raise PatternError(text[:60], problem)
        return glob

    @property
    def count(self) -> int:
        """The number of names that its braces stand for."""
        return count_of(self.nodes)

    @property
    def characters(self) -> int:
        """The most characters that these names have together."""
        return self.count * length_of(self.nodes)

    @property
    def has_wild(self) -> bool:
        """Whether a part of it stands for any characters."""
        return has_wild(self.nodes)

    @property
    def is_blind_to_numbers(self) -> bool:
        """Whether a match never depends on the numbers in a key: only stars match digits."""
        return all(
            node == STAR or (isinstance(node, str) and not re.search(r"\d", node))
            for node in self.nodes
        )

    def from_end(self) -> tuple[FromEnd, ...]:
        """Return patterns for its numbers that count from the end, none where there are none.

        Raises:
            PatternError: there are too many combinations of them.
        """
        rows = (
            list(islice(_from_end(self.nodes), MAX_FROM_END + 1))
            if counts_from_end(self.nodes)
            else []
        )
        if len(rows) > MAX_FROM_END:
            problem = f"more than {MAX_FROM_END:,} combinations of numbers count from the end"
            raise PatternError(self.text, problem)
        counted = [row for row in rows if _has_ends(row)]
        if sum(map(count_of, counted)) > MAX_IN_WILDCARD:
            raise PatternError(self.text, _too_many(MAX_IN_WILDCARD))
        return tuple(_as_from_end(self.text, row) for row in counted)

    def names(self) -> tuple[str, ...]:
        """Return every name that it spells, with a star for each wild part."""
        return tuple(expanded(self.nodes))

    def regex(self) -> Regex:
        """Return a regular expression that matches the same keys."""
        return regex_of(self.text, self.nodes)

    def taking(self) -> tuple[Regex, int]:
        """Return a regular expression with a group for each star, and how many there are.

        Raises:
            PatternError: a star stands in braces, and so may match nothing.
        """
        stars = sum(node == STAR for node in self.nodes)
        if stars_of(self.nodes) > stars:
            raise PatternError(self.text, "what a '*' in braces matches cannot be taken over")
        return regex_of(self.text, self.nodes, "(.*?)"), stars


class _Parser:
    """Read a glob by recursive descent; `at` is the position of the next character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.spelled = 0  # numbers that ranges stand for, of which each makes a name more

    def whole(self) -> Nodes:
        return self._sequence("")

    def _sequence(self, stops: str) -> Nodes:
        nodes: list[Node] = []
        self._skip_spaces(stops)
        while self.at < len(self.text) and self.text[self.at] not in stops:
            node = self._node()
            if not (node == STAR and nodes and nodes[-1] == STAR):
                nodes.append(node)
            self._skip_spaces(stops, only_before="[,}]")
        return tuple(joined(nodes))

    def _skip_spaces(self, stops: str, only_before: str = "") -> None:
        """Pass spaces around an option in braces, of which they are no part: {4, 5}."""
        spaces = re.compile(f" *(?={only_before})").match(self.text, self.at) if stops else None
        self.at = spaces.end() if spaces else self.at

    def _node(self) -> Node:
        char = self.text[self.at]
        if char == "[":
            return self._class()
        if char == "{":
            return self._braces()
        self.at += 1
        return STAR if char == "*" else Wild(".") if char == "?" else char

    def _class(self) -> Node:
        negated = self.text.startswith("!", self.at + 1)
        start = self.at + 1 + negated
        # A bracket that comes first is a member, so the class has one member at least.
        end = self.text.find("]", start + 1)
        if end < 0:
            raise PatternError(self.text, "'[' is not closed; '[[]' is a literal one")
        members = self.text[start:end]
        self.at = end + 1
        meant = None if negated else _numbers_meant(members, self.text[: start - 1])
        if meant is not None:
            problem = f"[{members}] is a set of characters; {meant}"
            is_part = self.at == len(self.text) and _SLICE.fullmatch(members)
            raise PatternError(self.text, problem, kind="part" if is_part else "")
        if len(members) == 1 and not negated:
            return members
        return Wild(f"[{'^' if negated else ''}{self._class_body(members)}]")

    def _class_body(self, members: str) -> str:
        body = ""
        at = 0
        while at < len(members):
            low, dash, high = members[at], members[at + 1 : at + 2], members[at + 2 : at + 3]
            if dash == "-" and high:
                if low > high:
                    raise PatternError(self.text, f"the range {low}-{high} runs backwards")
                body += f"{re.escape(low)}-{re.escape(high)}"
                at += 3
            else:
                body += re.escape(low)
                at += 1
        return body

    def _braces(self) -> Node:
        start = self.at
        options: list[Nodes] = []
        written: list[str] = []
        while not options or self.text.startswith(",", self.at):
            self.at += 1
            begin = self.at
            options.append(self._sequence(",}"))
            written.append(self.text[begin : self.at].strip(" "))
        if self.at >= len(self.text):
            raise PatternError(self.text, "'{' is not closed; '[{]' is a literal one")
        self.at += 1
        inside = self.text[start + 1 : self.at - 1]
        ends = [(int(each), int(each)) for each in written if _NEGATIVE.fullmatch(each)]
        if len(options) == 1 and ".." in inside:
            names, ends = self._range(inside)
            return Choice(tuple(names), (), tuple(ends))
        names = [name for option in options if (name := _name(option)) is not None]
        options = [option for option in options if _name(option) is None]
        return Choice(tuple(names), tuple(options), tuple(ends))

    def _range(self, inside: str) -> tuple[list[str], list[Ends]]:
        """Return the names of a range, and the range itself where its last number is negative."""
        found = re.fullmatch(r"(-?[0-9]{1,18})\.\.(-?[0-9]{1,18})", inside)
        if not found:
            raise PatternError(self.text, f"'{{{inside}}}' is not a range of integers")
        first, last = int(found[1]), int(found[2])
        self.spelled += abs(last - first)
        if self.spelled >= MAX_NAMES:
            raise PatternError(self.text, _too_many(MAX_NAMES))
        padded = any(re.match(r"-?0[0-9]", end) for end in found.groups())
        width = max(map(len, found.groups())) if padded else 0
        step = 1 if last >= first else -1
        ends = [(first, last)] if last < 0 and not padded else []
        if ends and first >= 0:
            return [inside], ends
        # Keys may hold the negative numbers themselves.
        return [f"{value:0{width}d}" for value in range(first, last + step, step)], ends


_RANGE = re.compile(r"([0-9]+)-([0-9]+)|(-?[0-9]+)\.\.(-?[0-9]+)")
_SLICE = re.compile(r"(-?[0-9]+)?:(-?[1-9][0-9]*)?")
_LIST = re.compile(r"-?[0-9]+(?:, *-?[0-9]+)+")


def _too_many(most: int) -> str:
    return f"its braces stand for more than {most:,} names"


def _numbers_meant(members: str, before: str) -> str | None:
    """Return how the numbers are written that a set of characters was meant to be, or None.

    The set would match too, but other numbers: [1:3] the layers 1 and 3, [-1] the layer 1.
    """
    found = _RANGE.fullmatch(members)
    if found and not re.fullmatch("[0-9]-[0-9]", members):
        first, last = (each for each in found.groups() if each is not None)
        return f"a range is {{{first}..{last}}}"
    found = _SLICE.fullmatch(members)
    if found and members != ":":
        return f"a range is {{{found[1] or 0}..{int(found[2] or 0) - 1}}}"
    if _LIST.fullmatch(members) and re.search("-|[0-9]{2}", members):
        return f"a choice is {{{members.replace(' ', '')}}}"
    # layers[-1] matches no key, and so is answered with the whole pattern that does.
    if re.fullmatch("-[0-9]+", members) and not before.endswith("s"):
        return f"numbers from the end are {{{members}}}"
    return None


def _name(option: Nodes) -> str | None:
    """Return the name that an option is, where it is plain text or empty."""
    if not option:
        return ""
    return option[0] if len(option) == 1 and isinstance(option[0], str) else None


_NEGATIVE = re.compile("-[1-9][0-9]{0,17}")


def _from_end(nodes: Nodes) -> Iterator[Row]:
    """Yield the nodes with every combination of what braces with such numbers stand for."""
    return map(_chained, product(*map(_rows_of, nodes)))


def _rows_of(node: Node) -> list[Row]:
    if not isinstance(node, Choice) or not counts_from_end((node,)):
        return [(node,)]
    names = [(Choice(node.names),)] if node.names else []
    options = [row for option in node.options for row in islice(_from_end(option), MAX_FROM_END)]
    return [*names, *options, *((End(ends),) for ends in node.ends)]


def _chained(rows: tuple[Row, ...]) -> Row:
    return tuple(node for row in rows for node in row)


def _has_ends(row: Row) -> bool:
    return any(isinstance(node, End) for node in row)


def _as_from_end(text: str, row: Row) -> FromEnd:
    parts: list[list[Node]] = [[]]
    ends: list[Ends] = []
    for node in row:
        if isinstance(node, End):
            ends.append(node.ends)
            parts.append([])
        else:
            parts[-1].append(node)
    return FromEnd(text, tuple(regex_of(text, tuple(joined(part))) for part in parts), tuple(ends))
