"""The parts of globs, and what can be counted in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, product
from math import prod

from reinit_cli.lazy import dataclass
from reinit_cli.request.from_end import Ends


@dataclass(frozen=True, slots=True)
class Wild:
    """A part of a glob that stands for characters; `regex` is "." or ".*" or a class."""

    regex: str


@dataclass(frozen=True, slots=True)
class Choice:
    """Braces: any one of the options, or a number that counts from the end.

    Attributes:
        names: options that are plain text; a range has up to a hundred thousand of them.
        options: those that have parts of their own.
        ends: ranges of numbers that count from the end.
    """

    names: tuple[str, ...]
    options: tuple[Nodes, ...] = ()
    ends: tuple[Ends, ...] = ()


@dataclass(frozen=True, slots=True)
class End:
    """A number that counts from the end."""

    ends: Ends


Node = str | Wild | Choice
Row = tuple[Node | End, ...]
Nodes = tuple[Node, ...]
STAR = Wild(".*")


def joined(nodes: Sequence[Node]) -> Iterator[Node]:
    """Yield nodes with the characters that follow each other as one text."""
    for is_text, group in groupby(nodes, key=lambda node: isinstance(node, str)):
        if is_text:
            yield "".join(map(str, group))
        else:
            yield from group


def length_of(nodes: Nodes) -> int:
    """Return the length of the longest name that the nodes spell."""
    return sum(
        max((*map(len, node.names), *map(length_of, node.options)))
        if isinstance(node, Choice)
        else len(node)
        if isinstance(node, str)
        else 1
        for node in nodes
    )


def count_of(nodes: Nodes | Row) -> int:
    """Count the names that the nodes spell."""
    return prod(
        len(node.names) + sum(map(count_of, node.options))
        for node in nodes
        if isinstance(node, Choice)
    )


def has_wild(nodes: Nodes) -> bool:
    """Whether a part of the nodes stands for any characters."""
    return any(
        isinstance(node, Wild) or (isinstance(node, Choice) and any(map(has_wild, node.options)))
        for node in nodes
    )


def expanded(nodes: Nodes) -> Iterator[str]:
    """Yield every name that the nodes spell, with a star for each wild part."""
    parts: list[list[str]] = []
    for node in nodes:
        if isinstance(node, Choice):
            parts.append(names_of(node))
        else:
            parts.append([node if isinstance(node, str) else "*"])
    return map("".join, product(*parts))


def names_of(choice: Choice) -> list[str]:
    """Return every name that braces spell, with a star for each wild part."""
    return [*choice.names, *(name for option in choice.options for name in expanded(option))]


def stars_of(nodes: Nodes) -> int:
    """Count the stars, including those in braces."""
    return sum(
        sum(map(stars_of, node.options)) if isinstance(node, Choice) else node == STAR
        for node in nodes
    )


def counts_from_end(nodes: Nodes) -> bool:
    """Whether numbers in it count from the end."""
    return any(
        isinstance(node, Choice) and (bool(node.ends) or any(map(counts_from_end, node.options)))
        for node in nodes
    )


def has_choice(nodes: Nodes) -> bool:
    """Whether there are braces among the nodes."""
    return any(isinstance(node, Choice) for node in nodes)
