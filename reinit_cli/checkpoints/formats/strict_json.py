"""Parse JSON from strangers: objects as lists of pairs, integers only, at a bounded cost."""

from __future__ import annotations

import json
import math
import re
from typing import NoReturn

from reinit_cli.collector import collector_paused
from reinit_cli.text import is_wide, quoted, why_not_parsed

MAX_ELEMENTS = 800_000
"""The most commas or lists that are read: about 130,000 tensors of a safetensors header.

A comma in JSON may cost a hundred bytes of memory.
"""

MAX_OBJECTS = 250_000

MAX_TEXTS = 1_000_000
"""The most names and texts: a tensor of a safetensors header has five."""

WHITE_SPACE = b" \t\n\r"
"""What JSON allows around an object."""

_MAX_DEPTH = 127
"""The most lists and objects within each other that serde_json reads, and so safetensors."""

_STRANGE_INTEGER = re.compile(rb"-0[\s,\]}]|[0-9]{309}")
"""What Python takes for an integer and serde_json for a float, or for too large a one."""


class JsonError(Exception):
    """What is wrong, without the path."""


class Pairs(list[tuple[str, object]]):
    """A JSON object as it was written: members in order, none lost."""


def parse_object(data: bytes, what: str, offset: int = 0, *, allows_floats: bool = False) -> Pairs:
    """Parse one object.

    Args:
        data: the text in UTF-8, which starts with "{" after white space.
        what: what it is called: "its header".
        offset: where it starts in its file.
        allows_floats: whether numbers need not be integers, or finite, as Python writes them.

    Raises:
        JsonError: it is not an object, or takes more than this parser gives.
    """
    if not re.match(rb"[ \t\n\r]*{", data):
        raise JsonError(f"{what} does not start with '{{'")
    if data.count(b",") > MAX_ELEMENTS or data.count(b"[") > MAX_ELEMENTS:
        raise JsonError(f"{what} has more than {MAX_ELEMENTS:,} elements")
    if data.count(b"{") > MAX_OBJECTS:
        raise JsonError(f"{what} has more than {MAX_OBJECTS:,} objects")
    if data.count(b'"') - data.count(b'\\"') > 2 * MAX_TEXTS:
        raise JsonError(f"{what} has more than {MAX_TEXTS:,} texts")
    if is_wide(data):
        raise JsonError(f"{what} is too long for text that is not ASCII")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise JsonError(f"{what} is not UTF-8 at byte {offset + error.start}") from None

    def refuse(text: str) -> NoReturn:
        raise JsonError(f"{what} has the number {text[:40]}, and only integers are allowed")

    def integer(text: str) -> int:
        is_strange = text == "-0" or math.isinf(float(text))
        return refuse(text) if is_strange and not allows_floats else int(text)

    try:
        with collector_paused():
            parsed = json.loads(
                text,
                object_pairs_hook=Pairs,
                parse_constant=float if allows_floats else refuse,
                parse_float=float if allows_floats else refuse,
                # A call for each number takes as long as everything else, and few need one.
                parse_int=integer if _STRANGE_INTEGER.search(data) else None,
            )
    except (ValueError, RecursionError) as error:
        raise JsonError(f"{what} is not JSON: {why_not_parsed(error)}") from None
    assert isinstance(parsed, Pairs)  # it starts with "{"
    return parsed


def check_unused(value: object, depth: int) -> None:
    """Refuse in a value that is not used what other readers of JSON refuse.

    Args:
        value: it, as it was parsed.
        depth: the number of lists and objects around it.

    Raises:
        JsonError: it has half of a surrogate pair, or is nested too deeply.
    """
    waiting = [(value, depth)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, str):
            check_text(value)
        elif isinstance(value, list):
            if depth >= _MAX_DEPTH:
                raise JsonError(f"it is nested more than {_MAX_DEPTH} deep")
            inside = (
                (each for pair in value for each in pair) if isinstance(value, Pairs) else value
            )
            waiting += ((each, depth + 1) for each in inside)


def check_text(text: str) -> None:
    """Refuse a text that UTF-8 cannot hold.

    Raises:
        JsonError: it has half of a surrogate pair.
    """
    if not is_valid_text(text):
        raise JsonError(f"the text {quoted(text)} has half of a surrogate pair")


def is_valid_text(text: str) -> bool:
    """Return whether UTF-8 can hold a text: it has no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
