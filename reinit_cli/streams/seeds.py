"""Derive the seed of each key's random stream."""

from __future__ import annotations

import hashlib
import re

from reinit_cli.errors import RuleError
from reinit_cli.text import MAX_DIGITS, has_too_many_digits, quoted

MAX_SEEDS = 10_000
"""The most seeds of one command."""

_SEEDS = re.compile(rf"([+-]?[0-9]{{1,{MAX_DIGITS}}})(?:\.\.([+-]?[0-9]{{1,{MAX_DIGITS}}}))?")


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds that "3", "0..4" or "0,3,7" stands for; both ends are included.

    Raises:
        ValueError: it is not one of these, or stands for too many; the text says what is wrong.
    """
    seeds: list[int] = []
    for part in text.split(","):
        found = _SEEDS.fullmatch(part.strip())
        if not found and has_too_many_digits(part):
            raise ValueError(f"a seed has at most {MAX_DIGITS} digits")
        if not found:
            raise ValueError(f"{quoted(text)} is not a seed; use N, N..M or N,M")
        first, last = int(found[1]), int(found[2] or found[1])
        if len(seeds) + abs(last - first) >= MAX_SEEDS:
            raise ValueError(f"{quoted(text)} stands for more than {MAX_SEEDS:,} seeds")
        step = 1 if last >= first else -1
        seeds.extend(range(first, last + step, step))
    return tuple(seeds)


def digest_of(seed: int, key: str, name: str = "") -> bytes:
    """Return the SHA-256 of "{seed}:{key}", or of "{seed}:{key}:{name}", in UTF-8.

    Args:
        seed: the seed of the run.
        key: the state_dict key.
        name: the name of the initializer if it is a transform, or "".

    Raises:
        RuleError: the seed has too many digits.
    """
    try:
        text = f"{seed}:{key}:{name}" if name else f"{seed}:{key}"
    except ValueError as error:
        raise RuleError("seed", "the seed has too many digits") from error
    # A pickle may hold half of a surrogate pair, as three bytes like those of any other code point.
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
