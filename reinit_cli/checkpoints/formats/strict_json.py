"""Parse JSON from strangers: objects as lists of pairs, integers only, at a bounded cost."""

from __future__ import annotations

import json
from typing import NoReturn

from reinit_cli.collector import collector_paused

MAX_ELEMENTS = 800_000
"""The most commas or lists that are read: about 130,000 tensors of a safetensors header.

A comma in JSON may cost a hundred bytes of memory.
"""

MAX_OBJECTS = 250_000


class JsonError(Exception):
    """What is wrong, without the path."""


class Pairs(list[tuple[str, object]]):
    """A JSON object as it was written: members in order, none lost."""


def parse_object(data: bytes, what: str, offset: int = 0, *, allows_floats: bool = False) -> Pairs:
    """Parse one object.

    Args:
        data: the text in UTF-8, which starts with "{".
        what: what it is called: "its header".
        offset: where it starts in its file.
        allows_floats: whether numbers need not be integers.

    Raises:
        JsonError: it is not an object, or takes more than this parser gives.
    """
    if data[:1] != b"{":
        raise JsonError(f"{what} does not start with '{{'")
    if data.count(b",") > MAX_ELEMENTS or data.count(b"[") > MAX_ELEMENTS:
        raise JsonError(f"{what} has more than {MAX_ELEMENTS:,} elements")
    if data.count(b"{") > MAX_OBJECTS:
        raise JsonError(f"{what} has more than {MAX_OBJECTS:,} objects")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise JsonError(f"{what} is not UTF-8 at byte {offset + error.start}") from None

    def refuse(text: str) -> NoReturn:
        raise JsonError(f"{what} has the number {text[:40]}, and only integers are allowed")

    parse_float = float if allows_floats else refuse
    try:
        with collector_paused():
            parsed = json.loads(
                text, object_pairs_hook=Pairs, parse_constant=refuse, parse_float=parse_float
            )
    except (ValueError, RecursionError) as error:
        raise JsonError(f"{what} is no JSON: {error}") from None
    assert isinstance(parsed, Pairs)  # it starts with "{"
    return parsed


def check_text(text: str) -> None:
    """Refuse a text that UTF-8 cannot hold.

    Raises:
        JsonError: it has half of a surrogate pair.
    """
    if not is_valid_text(text):
        raise JsonError(f"the text {text!r} has half of a surrogate pair")


def is_valid_text(text: str) -> bool:
    """Return whether UTF-8 can hold a text: it has no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
