"""Parse the JSON of plans and records from strangers at a bounded cost.

Time and memory are bounded before anything is parsed: a member of an object may cost a
hundred bytes, an object two hundred, and a new name or a long text as much as it likes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from reinit_cli.collector import collector_paused
from reinit_cli.errors import ReinitError
from reinit_cli.text import why_not_parsed

MAX_TEXT = 2**18
"""The most characters of a text: some are read in more than linear time."""

MAX_NAMES = 10_000
"""The most different names of members: a plan has some fifty."""

_MOST = {",": 3_000_000, "{": 600_000, "[": 600_000}
"""The most of each: half as many again as a plan or a record of 100,000 tensors has."""

_MOST_MEMBERS = 2_000_000

_STRING = re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)(?:"(\s*+:)?|\Z)', re.DOTALL)
"""A string, and the colon after it where it is the name of a member."""


def parse_json(
    text: str,
    what: str,
    kind: str,
    object_pairs_hook: Callable[[list[tuple[str, object]]], object] | None = None,
    parse_constant: Callable[[str], object] | None = None,
) -> object:
    """Parse a text.

    Args:
        text: the JSON.
        what: what it is called: "its record".
        kind: what it needs no more for: "checkpoint".
        object_pairs_hook: that of `json.loads`.
        parse_constant: that of `json.loads`.

    Raises:
        ValueError: it takes more than it should, or is not JSON; the text says what is wrong.
    """
    _check(text, what, kind)
    try:
        with collector_paused():
            return json.loads(
                text, object_pairs_hook=object_pairs_hook, parse_constant=parse_constant
            )
    except ReinitError:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} is not JSON: {why_not_parsed(error)}") from error


def _check(text: str, what: str, kind: str) -> None:
    if any(text.count(each) > most for each, most in _MOST.items()):
        raise ValueError(f"{what} has more parts than any {kind} needs")
    names: set[str] = set()
    members = 0
    for found in _STRING.finditer(text):
        if found.end() - found.start() > MAX_TEXT:
            raise ValueError(f"a text in {what} has more than {MAX_TEXT:,} characters")
        if found[2] is not None:
            names.add(found[1])
            members += 1
            if len(names) > MAX_NAMES or members > _MOST_MEMBERS:
                raise ValueError(f"{what} has more names than any {kind} needs")
