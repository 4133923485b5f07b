"""Suggest what a pattern that matches nothing was meant to be."""

from __future__ import annotations

import re
from collections.abc import Sequence

from reinit_cli.errors import PatternError
from reinit_cli.request.pattern import Pattern
from reinit_cli.text import near

_LARGEST_SEARCH = 20_000
"""The most keys that are compared in spelling, which is slow."""


def corrected_pattern(pattern: str, keys: Sequence[str]) -> str | None:
    """Return the pattern with its plain segments spelled as the nearest of the keys' own.

    None where no such spelling matches a key.
    """
    if pattern.startswith("re:"):
        return None
    # In the order of the keys, so that of equally near ones the same is always suggested.
    known = dict.fromkeys(segment for key in keys for segment in key.split("."))
    segments = re.split(r"\.", pattern)
    respelled = ".".join(_respelled(segment, known) for segment in segments)
    for candidate in (respelled, f"*.{respelled}", f"*{respelled}*"):
        if candidate != pattern and _matches_any(candidate, keys):
            return candidate
    return None


def _respelled(segment: str, known: dict[str, None]) -> str:
    if segment in known or not re.fullmatch(r"\w+", segment):
        return segment
    return next(iter(near(segment, known, 1)), segment)


def _matches_any(pattern: str, keys: Sequence[str]) -> bool:
    try:
        return bool(Pattern.parse(pattern).select(keys))
    except PatternError:
        return False


def nearest_keys(pattern: str, keys: Sequence[str]) -> list[str]:
    """Return up to three keys whose spelling is nearest to the pattern."""
    return near(pattern, keys[:_LARGEST_SEARCH])
