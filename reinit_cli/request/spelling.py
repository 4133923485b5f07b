"""Suggest what a pattern that matches nothing was meant to be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice

from reinit_cli.errors import PatternError
from reinit_cli.request.from_end import Numbers
from reinit_cli.request.glob import Glob
from reinit_cli.request.kind import split_kinds
from reinit_cli.request.pattern import Pattern
from reinit_cli.request.regex import Clock, Regex
from reinit_cli.text import MOST_COMPARED, near, plain

_LARGEST_SEARCH = 20_000
"""The most keys that are compared in spelling, which is slow."""

_MOST_SEGMENTS = 10**6
_MOST_MISSPELLED = 10

_LONGEST = 500
"""The longest pattern that is looked at."""

_MOST_RANGES, _MOST_SHOWN = 2, 6

_SECONDS = 0.5
"""The processor time that may be taken to look for a pattern that matches."""


def corrected_pattern(pattern: str, keys: Sequence[str]) -> str | None:
    """Return the pattern as it was perhaps meant, which matches a key; None where there is none.

    Signs from elsewhere are replaced (quotes, regular expressions, slices of Python), and plain
    segments spelled as the nearest of the keys' own.
    """
    if len(pattern) > _LONGEST:
        return None
    pattern, kinds = split_kinds(pattern)
    if kinds is not None:
        corrected = corrected_pattern(pattern, keys)
        return f"{corrected}{kinds}" if corrected is not None else None
    clock = Clock(_SECONDS)
    candidates = _regexes(pattern) if pattern.startswith("re:") else _globs(pattern, keys)
    for candidate in dict.fromkeys(candidates):
        if (
            candidate != pattern
            and _NAMES_SOMETHING.search(candidate.removeprefix("re:"))
            and _matches_any(candidate, keys, clock)
        ):
            return candidate
    return None


_NAMES_SOMETHING = re.compile(r"\w")
"""What no pattern is without, but those that match every key: `model.*` did not mean them."""


def _regexes(pattern: str) -> Iterator[str]:
    """Yield regular expressions for whole keys that hold what one matches."""
    source = pattern.removeprefix("re:").strip().removeprefix("^").removesuffix("$")
    if _NESTED_SET.search(source):
        return
    grouped = f"(?:{source})" if "|" in source else source
    yield from (f"re:{each}" for each in (source, f"{grouped}.*", f".*{grouped}", f".*{grouped}.*"))


_NESTED_SET = re.compile(r"\[[^\]]*(?:\[|--|&&|~~|\|\|)")
"""Sets of which Python warns that they may come to mean another thing."""


def _globs(pattern: str, keys: Sequence[str]) -> Iterator[str]:
    """Yield globs, and regular expressions where it looks like one, the likeliest first."""
    clean = _clean(pattern)
    yield from _alternatives(clean, keys)
    if _REGEX.search(pattern):
        yield from _regexes(f"re:{pattern}")
    yield clean
    for sign, meant in _SIGNS:
        yield (clean := sign.sub(meant, clean))
    yield from (clean.replace("-", "_"), clean.replace("_", "-"))
    respelled = _respelled(clean, keys)
    for each in dict.fromkeys((clean, respelled)):
        yield from (each, f"*.{each}", f"{each}.*", f"*{each}*")
    yield respelled.partition(".")[2]
    yield from _regexes(f"re:{pattern}")


def _alternatives(pattern: str, keys: Sequence[str]) -> Iterator[str]:
    """Yield several patterns as alternatives, of which each matches a key."""
    parts = re.split(r"\s*[,;|\s]\s*", pattern)
    clock = Clock(_SECONDS)
    if 1 < len(parts) <= _MOST_MISSPELLED and all(
        _matches_any(each, keys, clock) for each in parts
    ):
        yield f"{{{','.join(parts)}}}"


_REGEX = re.compile(r"\\[.dwsS]|^\.\*|\.\+|\(\?|[)*]\$|\)\||\.\*\.\*|(?<=\w)\|")
"""Signs of regular expressions that globs do not have."""


def _clean(pattern: str) -> str:
    """Return a pattern without quotes and marks around it, in ASCII's signs."""
    ascii_signs = plain(pattern).strip().strip("\"'`").strip()
    return re.sub(r"[\s:=>$-]+$", "", ascii_signs).removeprefix("^")


_SIGNS = (
    (re.compile(r"\[[\"']([^\"']*)[\"']\]"), r".\1"),  # state_dict["fc.weight"]
    (re.compile(r"(?<![^.])(-[0-9]+)(?![^.])"), r"{\1}"),  # layers.-1
    (re.compile(r"\[(-[0-9]+)\]"), r".{\1}"),  # layers[-1]
    (re.compile(r"(?<=\w)\[([0-9]+)\]"), r".\1"),  # layers[0]
    (re.compile(r"[({]([0-9]+)(?:-|:|\.\.\.?)([0-9]+)[)}]"), r"{\1..\2}"),
    (re.compile(r"(?<![^.])([0-9]+)(?:-|:|\.\.\.?)([0-9]+)(?![^.])"), r"{\1..\2}"),
    (re.compile(r"/|::?"), "."),
)
"""Signs of code and paths, and those of a pattern that mean the same."""


def _respelled(pattern: str, keys: Sequence[str]) -> str:
    """Return a pattern with its plain segments spelled as the nearest of the keys' own."""
    # In the order of the keys, so that of equally near ones the same is always suggested.
    known = dict.fromkeys(islice((each for key in keys for each in key.split(".")), _MOST_SEGMENTS))
    segments = pattern.split(".")
    unknown = [
        each for each in segments if each not in known and re.fullmatch(r"\w*[^\W\d]\w*", each)
    ]
    if len(unknown) > _MOST_MISSPELLED:
        return pattern
    most = MOST_COMPARED // max(1, len(unknown))
    nearest = {each: next(iter(near(each, known, 1, most)), each) for each in unknown}
    return ".".join(nearest.get(segment, segment) for segment in segments)


def numbers_there(pattern: str, keys: Sequence[str]) -> str:
    """Say which numbers the keys have where a pattern has others; "" where that is not why."""
    clock = Clock(_SECONDS)
    pattern, _ = split_kinds(pattern)
    if len(pattern) > _LONGEST or pattern.startswith("re:"):
        return ""
    for found in _WRITTEN_NUMBER.finditer(pattern):
        start, end = pattern[: found.start()], pattern[found.end() :]
        for before in (start, f"*.{start}"):
            if _matches_any(f"{before}*{end}", keys, clock):
                return _ranges(before, keys, clock)
    return ""


_WRITTEN_NUMBER = re.compile(r"\{-?[0-9]+(?:(?:,|\.\.)-?[0-9]+)*\}|(?<![\w*?\]}])[0-9]+(?!\w)")


def _ranges(before: str, keys: Sequence[str], clock: Clock) -> str:
    try:
        prefix = Glob.parse(before).regex() if before else Regex("", "")
        found = list(islice(Numbers(keys[:_LARGEST_SEARCH]).ranges(prefix, clock), _MOST_RANGES))
    except PatternError:
        return ""
    return "; ".join(_said(*each) for each in found)


def _said(text: str, numbers: Sequence[str]) -> str:
    where = f" after {text!r}" if text else ""
    if not numbers[1:]:
        return f"the only number{where} is {numbers[0]}"
    return f"the numbers{where} are {_as_ranges(numbers)}"


def _as_ranges(numbers: Sequence[str]) -> str:
    """Return "0..5", "1, 3" or "00..02, 05, 07, ..., 11"."""
    runs: list[list[str]] = []
    for number in numbers:
        if runs and int(number) == int(runs[-1][-1]) + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    shown = [f"{run[0]}..{run[-1]}" if run[1:] else run[0] for run in runs]
    return ", ".join(shown if len(shown) <= _MOST_SHOWN else [*shown[:3], "...", shown[-1]])


def layers_meant(pattern: str, written: str, keys: Sequence[str]) -> str:
    """Return the pattern of the layers that a part of a tensor was meant to be; "" where none.

    Args:
        pattern: what matches no key, such as "model.layers".
        written: what follows it in its rule, such as "[1:3]=zeros".
        keys: all of them.
    """
    found = _SLICE.match(written)
    if found is None or len(pattern) > _LONGEST:
        return ""
    meant = f"{pattern}.{{{found[1] or 0}..{int(found[2] or 0) - 1}}}.*"
    return meant if _matches_any(meant, keys, Clock(_SECONDS)) else ""


def rows_meant(pattern: str, keys: Sequence[str]) -> str:
    """Return the pattern and the row of a tensor that a number in brackets was meant to be, or ""."""
    found = _ROW.fullmatch(pattern)
    if found is None or not _matches_any(found[1], keys, Clock(_SECONDS)):
        return ""
    return f"{found[1]}[{found[2]}:{int(found[2]) + 1 or ''}]"


_SLICE = re.compile(r"\[(-?[0-9]{1,18})?:(-?[1-9][0-9]{0,17})?\]")
_ROW = re.compile(r"(.{1,500})\[(-?[0-9]{1,18})\]", re.DOTALL)


def _matches_any(pattern: str, keys: Sequence[str], clock: Clock) -> bool:
    try:
        return bool(Pattern.parse(pattern).select(keys, clock))
    except PatternError:
        return False


def nearest_keys(pattern: str, keys: Sequence[str]) -> list[str]:
    """Return up to three keys whose spelling is nearest to the pattern."""
    return near(split_kinds(pattern)[0], keys[:_LARGEST_SEARCH])
