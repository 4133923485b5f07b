"""Replace and add members of a JSON text, and leave every other byte as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import field
from typing import Any

from reinit_cli.lazy import dataclass

_WHITE = re.compile(r"[ \t\n\r]*")

_DECODER = json.JSONDecoder()

MAX_DEPTH = 8
"""The most objects around one whose members are told apart."""

MAX_OBJECTS = 256
"""The most objects whose members are told apart."""

MAX_MEMBERS = 20_000
"""The most members of these."""


@dataclass(frozen=True, slots=True)
class Node:
    """A value in a text.

    Attributes:
        value: what it is in Python; of an object that is looked into, None.
        start, end: where it is in the text.
        members: of an object, each by its name; of a name that is there twice, the last.
        names: of an object, where each of these names starts.
    """

    value: Any
    start: int
    end: int
    members: Mapping[str, Node] | None = None
    names: Mapping[str, int] = field(default_factory=dict)

    def get(self, name: str) -> Any:
        """Return the value of a member that is not an object, or None."""
        found = (self.members or {}).get(name)
        return None if found is None else found.value


@dataclass(frozen=True, slots=True)
class Edit:
    """A part of a text and what replaces it."""

    start: int
    end: int
    text: str


def parse(text: str, whole: AbstractSet[str] = frozenset()) -> Node:
    """Return the object that a text holds.

    Args:
        text: JSON, which is known to be valid.
        whole: the names of objects that are not looked into.

    Raises:
        ValueError: it is not an object, is nested too deeply, or has too many members.
    """
    try:
        node = _Parser(text, whole).value(_skip(text, 0), 0)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if node.members is None:
        raise ValueError("it is not an object")
    return node


class _Parser:
    """Tells the members of objects apart, those of the first objects that it meets."""

    def __init__(self, text: str, whole: AbstractSet[str]) -> None:
        self._text = text
        self._whole = whole
        self._objects = 0
        self._members = 0

    def value(self, start: int, depth: int) -> Node:
        """Return the value that starts at a place."""
        is_object = self._text[start : start + 1] == "{"
        if is_object and depth < MAX_DEPTH and self._objects < MAX_OBJECTS:
            self._objects += 1
            return self._object(start, depth)
        value, end = _DECODER.raw_decode(self._text, start)
        return Node(value, start, end)

    def _object(self, start: int, depth: int) -> Node:
        text = self._text
        members: dict[str, Node] = {}
        names: dict[str, int] = {}
        at = _skip(text, start + 1)
        while text[at] != "}":
            self._members += 1
            if self._members > MAX_MEMBERS:
                raise ValueError(f"it has more than {MAX_MEMBERS:,} members")
            name, end = _DECODER.raw_decode(text, at)
            names[name] = at
            value = _skip(text, _skip(text, end) + 1)
            members[name] = self.value(value, MAX_DEPTH if name in self._whole else depth + 1)
            at = _skip(text, members[name].end)
            at = _skip(text, at + 1) if text[at] == "," else at
        return Node(None, start, at + 1, members, names)


def _skip(text: str, at: int) -> int:
    found = _WHITE.match(text, at)
    return found.end() if found is not None else at


def objects(node: Node, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Node]]:
    """Yield an object and those in it, with the names on the way to each."""
    yield path, node
    for name, member in (node.members or {}).items():
        if member.members is not None:
            yield from objects(member, (*path, name))


def replacing(text: str, parent: Node, name: str, value: object) -> Edit:
    """Return the edit that gives a member of an object another value."""
    assert parent.members is not None
    member = parent.members[name]
    return Edit(member.start, member.end, _written(text, parent, value))


def adding(text: str, parent: Node, name: str, value: object) -> Edit:
    """Return the edit that adds a member to an object, in its place where they are sorted."""
    assert parent.members is not None
    added = f"{json.dumps(name)}: {_written(text, parent, value)}"
    lead = _lead(text, parent)
    if not parent.members:
        return Edit(parent.start, parent.end, f"{{{added}}}")
    in_order = list(parent.members)
    if in_order == sorted(in_order):
        for other in in_order:
            if other > name:
                at = parent.names[other]
                return Edit(at, at, f"{added},{lead or ' '}")
    end = parent.members[in_order[-1]].end
    return Edit(end, end, f",{lead or ' '}{added}")


def edited(text: str, edits: Iterable[Edit]) -> str:
    """Return a text with edits, none of which overlaps another."""
    parts: list[str] = []
    reached = 0
    # Those that add something at one place do so in the order in which they were made.
    for edit in sorted(edits, key=lambda edit: edit.start):
        parts += (text[reached : edit.start], edit.text)
        reached = edit.end
    return "".join((*parts, text[reached:]))


def _lead(text: str, parent: Node) -> str:
    """Return the white space before the first member of an object."""
    return text[parent.start + 1 : _skip(text, parent.start + 1)]


def _written(text: str, parent: Node, value: object) -> str:
    """Return a value as the members of an object are written."""
    # Half of a surrogate pair can be written as an escape alone.
    is_half = any("\ud800" <= each <= "\udfff" for each in json.dumps(value, ensure_ascii=False))
    is_ascii = text.isascii() or is_half
    inner = _lead(text, parent).rpartition("\n")
    if not inner[1]:
        return json.dumps(value, ensure_ascii=is_ascii)
    before = text[: parent.end - 1]
    outer = before[len(before.rstrip(" \t")) :]
    unit = inner[2].removeprefix(outer) or "  "
    lines = json.dumps(value, ensure_ascii=is_ascii, indent=unit)
    return lines.replace("\n", f"\n{inner[2]}")
