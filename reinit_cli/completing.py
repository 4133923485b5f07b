"""What a word on the command line may become: keys segment by segment, initializers, paths.

Nothing here imports torch, but the first look at a model's keys. Keys come from strangers:
one that a shell could take for anything but a word is left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.metadata import version

from reinit_cli.initializers import REGISTRY
from reinit_cli.patterns import Pattern

_SAFE = re.compile(r"[\w.+@%/-]+")
"""Words that every shell takes as they are."""

_BRACES = re.compile(r"\{[^{}]*\}")

_CACHED_FROM = 2_000
"""Fewer keys than these are read as fast as a cache."""


def keys_starting(keys: Iterable[str], start: str) -> list[str]:
    """Return how the last segment of `start` may go on: with a dot where there is more.

    Segments in front of it may be patterns: `layers.*.w` goes on to `layers.*.weight`.

    Raises:
        PatternError: one of them is none.
    """
    base = start[: start.rfind(".") + 1]
    last = start[len(base) :]
    depth = _BRACES.sub("", base).count(".")  # {0..3} has dots of its own
    is_plain = _SAFE.fullmatch(base) is not None
    pattern = Pattern.parse(base) if base and not is_plain else None
    found: dict[str, None] = {}
    matched: dict[str, bool] = {}
    for key in keys:
        segments = key.split(".", depth + 1)
        if len(segments) <= depth or not segments[depth].startswith(last):
            continue
        own = key[: sum(map(len, segments[:depth])) + depth]
        if own not in matched:
            matched[own] = own == base if pattern is None else pattern.matches(own)
        if matched[own]:
            more = "." if len(segments) > depth + 1 else ""
            found[segments[depth] + more] = None
    return [base + each for each in found if _SAFE.fullmatch(each)]


def rules_starting(keys: Sequence[str], start: str) -> list[str]:
    """Return how a rule that starts so may go on."""
    pattern, equals, init = start.partition("=")
    if not equals:
        going_on = keys_starting(keys, pattern)
        return [each if each.endswith(".") else f"{each}=" for each in going_on]
    return [f"{pattern}={each}" for each in inits_starting(init)]


def inits_starting(start: str) -> list[str]:
    """Return how an initializer that starts so may go on: its name, then its arguments."""
    name, colon, arguments = start.partition(":")
    if not colon:
        return [each.name for each in REGISTRY if each.name.startswith(start)]
    known = {spelled: each for each in REGISTRY for spelled in (each.name, *each.aliases)}
    if name not in known:
        return []
    done, comma, last = arguments.rpartition(",")
    words = [f"{parameter.name}=" for parameter in known[name].parameters]
    words += [word for parameter in known[name].parameters for word in parameter.kind.words]
    given = [each.partition("=")[0] for each in done.split(",")]
    return [
        f"{name}:{done}{comma}{word}"
        for word in words
        if word.startswith(last) and word.removesuffix("=") not in given
    ]


def paths_starting(start: str) -> list[str]:
    """Return the files and folders whose path starts so; folders end with a slash."""
    folder, name = os.path.split(start)
    base = start[: len(start) - len(name)]
    try:
        entries = sorted(os.scandir(os.path.expanduser(folder) or "."), key=lambda each: each.name)
    except OSError:
        return []
    return [
        base + entry.name + ("/" if entry.is_dir() else "")
        for entry in entries
        if entry.name.startswith(name)
        and (name or not entry.name.startswith("."))
        and _SAFE.fullmatch(entry.name)
    ]


def keys_of(source: str) -> list[str]:
    """Return the keys of a model or a checkpoint, from a cache where that is faster.

    Raises:
        ReinitError: there is no such source.
    """
    from reinit_cli.sources import find_source

    stamp = _stamp(source)
    found = _cached(stamp) if stamp else None
    if found is None:
        # What a model is built with does not change its keys, but would be looked for.
        weights = "none" if stamp and stamp[0] == "model" else None
        found = [tensor.key for tensor in find_source(source, weights).tensors]
        if stamp and (stamp[0] == "model" or len(found) >= _CACHED_FROM):
            _keep(stamp, found)
    return found


def _stamp(source: str) -> tuple[str, ...] | None:
    """Return what a source's keys depend on; None where that is not known."""
    from reinit_cli.models import model_names

    if source in model_names():
        return ("model", source, version("torchvision"))
    try:
        status = os.stat(source)
    except OSError:
        return None
    if not os.path.isfile(source):
        return None
    path = os.path.realpath(source)
    return ("file", path, str(status.st_size), str(status.st_mtime_ns), version("reinit"))


def _place(stamp: tuple[str, ...]) -> str:
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    digest = hashlib.sha256("\0".join(stamp[:2]).encode(errors="surrogateescape")).hexdigest()
    return os.path.join(root, "reinit", f"keys-{digest[:32]}.json")


def _cached(stamp: tuple[str, ...]) -> list[str] | None:
    """Return what was kept, if it is of the same stamp and whole."""
    try:
        with open(_place(stamp), encoding="utf-8") as file:
            kept = json.load(file)
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(kept, dict) or kept.get("stamp") != list(stamp):
        return None
    keys = kept.get("keys")
    is_whole = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    return keys if is_whole else None


def _keep(stamp: tuple[str, ...], keys: list[str]) -> None:
    """Keep keys for the next time; a cache that cannot be written is none."""
    place = _place(stamp)
    with suppress(OSError, ValueError):
        os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=os.path.dirname(place), delete=False
        ) as file:
            json.dump({"stamp": stamp, "keys": keys}, file)
        os.replace(file.name, place)


def words_of(line: str) -> tuple[list[str], str]:
    """Split a line as a shell would, as far as it is written.

    Returns:
        Its words, the last being the one that is written, without quotes; and the quote
        that is still open, or "".
    """
    words: list[str] = []
    word = ""
    quote = ""
    has_word = False
    characters = iter(line)
    for char in characters:
        if char == "\\" and quote != "'":
            word += next(characters, "")
            has_word = True
        elif quote:
            quote, word = ("", word) if char == quote else (quote, word + char)
        elif char in "'\"":
            quote, has_word = char, True
        elif char.isspace():
            if has_word:
                words.append(word)
            word, has_word = "", False
        else:
            word, has_word = word + char, True
    return [*words, word], quote


def unbroken(candidates: Iterable[str], word: str, breaks: str, quote: str) -> Iterator[str]:
    """Yield candidates without what bash has set apart as words of its own.

    Args:
        candidates: what `word` may become.
        word: the word so far.
        breaks: the characters at which bash splits words outside quotes.
        quote: the quote that is open, within which it does not.
    """
    kept = 0 if quote else max((word.rfind(char) + 1 for char in breaks), default=0)
    yield from (candidate[kept:] for candidate in candidates)
