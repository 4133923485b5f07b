"""Suggest what a pattern that matches nothing was meant to be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice

from reinit_cli.errors import PatternError
from reinit_cli.request.pattern import Pattern
from reinit_cli.request.regex import Clock
from reinit_cli.text import MOST_COMPARED, near

_LARGEST_SEARCH = 20_000
"""The most keys that are compared in spelling, which is slow."""

_MOST_SEGMENTS = 10**6
_MOST_MISSPELLED = 10

_SECONDS = 0.5
"""The processor time that may be taken to look for a pattern that matches."""


def corrected_pattern(pattern: str, keys: Sequence[str]) -> str | None:
    """Return the pattern with its plain segments spelled as the nearest of the keys' own.

    None where no such spelling matches a key.
    """
    if pattern.startswith("re:"):
        return None
    # In the order of the keys, so that of equally near ones the same is always suggested.
    known = dict.fromkeys(islice((each for key in keys for each in key.split(".")), _MOST_SEGMENTS))
    segments = pattern.split(".")
    unknown = [each for each in segments if each not in known and re.fullmatch(r"\w+", each)]
    if len(unknown) > _MOST_MISSPELLED:
        return None
    most = MOST_COMPARED // max(1, len(unknown))
    nearest = {each: next(iter(near(each, known, 1, most)), each) for each in unknown}
    respelled = ".".join(nearest.get(segment, segment) for segment in segments)
    clock = Clock(_SECONDS)
    for candidate in (respelled, f"*.{respelled}", f"*{respelled}*"):
        if candidate != pattern and _matches_any(candidate, keys, clock):
            return candidate
    return None


def _matches_any(pattern: str, keys: Sequence[str], clock: Clock) -> bool:
    try:
        return bool(Pattern.parse(pattern).select(keys, clock))
    except PatternError:
        return False


def nearest_keys(pattern: str, keys: Sequence[str]) -> list[str]:
    """Return up to three keys whose spelling is nearest to the pattern."""
    return near(pattern, keys[:_LARGEST_SEARCH])
