"""Write globs as regular expressions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from math import prod
from os.path import commonprefix

from reinit_cli.request.glob_parts import (
    STAR,
    Choice,
    Node,
    Nodes,
    Wild,
    has_choice,
    has_wild,
    names_of,
    stars_of,
)
from reinit_cli.request.regex import ANY_LENGTH, Regex

MAX_TRIES = 10**6
"""The most ways in which backtracking tries a glob on a key, which take some milliseconds."""


def regex_of(text: str, nodes: Nodes, any_text: str = "") -> Regex:
    """Return a regex for the whole glob, in which `any_text` stands for each star.

    Between stars the leftmost place of a fixed part is always as good as a later one, so
    from three stars on it is found once and kept (an atomic group), which takes a time
    linear in a key's length. Plain backtracking is twice as fast, and quadratic for two.
    """
    stars = [at for at, node in enumerate(nodes) if node == STAR]
    if len(stars) < 3 or (has_choice(nodes) and not any_text):
        parts = (any_text if any_text and node == STAR else _node_regex(node) for node in nodes)
        return Regex(text, "".join(parts), re.DOTALL, _reach(nodes))
    source = "".join(map(_node_regex, nodes[: stars[0]]))
    for star, after in pairwise(stars):
        source += f"(?>{any_text or '.*?'}{''.join(map(_node_regex, nodes[star + 1 : after]))})"
    source += (any_text or ".*") + "".join(map(_node_regex, nodes[stars[-1] + 1 :]))
    return Regex(text, source, re.DOTALL, ANY_LENGTH)


def _reach(nodes: Nodes) -> int:
    """Return the longest key that backtracking matches quickly."""
    stars, tries = stars_of(nodes), _overlap(nodes)
    if stars > 2 or tries > MAX_TRIES:
        return 0
    return int((MAX_TRIES / tries) ** (1 / stars)) if stars else ANY_LENGTH


def _overlap(nodes: Nodes) -> int:
    """Return the most combinations of options that can match in one place."""
    return prod(_alternatives(node) for node in nodes if isinstance(node, Choice))


def _alternatives(choice: Choice) -> int:
    if any(map(has_wild, choice.options)):
        return len(choice.names) + sum(map(_overlap, choice.options))
    names = set(names_of(choice))
    longest = max(map(len, names), default=0)
    if longest > 100:
        return len(names)
    # Options share their beginnings, so those that can match in one place begin each other.
    return max(
        (sum(name[:end] in names for end in range(len(name) + 1)) for name in names), default=1
    )


def _node_regex(node: Node) -> str:
    if isinstance(node, str):
        return re.escape(node)
    if isinstance(node, Wild):
        return node.regex
    if any(map(has_wild, node.options)):
        wild = ("".join(map(_node_regex, option)) for option in node.options)
        return f"(?:{'|'.join((*map(re.escape, node.names), *wild))})"
    return _alternation(names_of(node))


def _alternation(names: Sequence[str]) -> str:
    """Return a regex for one of the names that tries shared beginnings once.

    A flat alternation of ten thousand names would try each of them on every key. Letters
    with the same endings make one class, so that the regex of a range is short.
    """
    shared = commonprefix(names)  # noqa: RUF071 (characters, not folders, are meant)
    by_first: dict[str, list[str]] = {}
    for name in names:
        rest = name[len(shared) :]
        by_first.setdefault(rest[:1], []).append(rest[1:])
    ends_here = by_first.pop("", None) is not None
    if not by_first:
        return re.escape(shared)
    by_rest: dict[tuple[str, str], list[str]] = {}
    for first, rests in by_first.items():
        # A class of letters beyond ASCII takes longer to compile than the letters do.
        together = "" if first.isascii() else first
        by_rest.setdefault((_alternation(rests), together), []).append(first)
    branches = (f"{_any_of(firsts)}{rest}" for (rest, _), firsts in by_rest.items())
    return f"{re.escape(shared)}(?:{'|'.join(branches)}){'?' if ends_here else ''}"


def _any_of(letters: Sequence[str]) -> str:
    if len(letters) == 1:
        return re.escape(letters[0])
    return f"[{''.join(map(re.escape, letters))}]"
