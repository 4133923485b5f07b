"""What a word on the command line may become: keys segment by segment, initializers, paths.

A candidate is a whole word without quotes; a space at its end says that it is finished.
Nothing here imports torch, but the first look at a model's keys. Keys come from strangers:
one that a shell could take for anything but a word is left out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from reinit_cli.initializers import Initializer

_SAFE = re.compile(r"[\w.+@%/-]+")
"""Words that every shell takes as they are."""

_CACHED_FROM = 2_000
"""Fewer keys than these are read as fast as a cache."""

# --- keys and rules ------------------------------------------------------------------------


def keys_starting(keys: Iterable[str], start: str) -> list[str]:
    """Return how the last segment of `start` may go on: with a dot where there is more.

    Segments in front of it may be patterns: `layers.*.w` goes on to `layers.*.weight`.

    Raises:
        PatternError: one of them is none.
    """
    base = start[: start.rfind(".") + 1]
    last = start[len(base) :]
    if not base or _SAFE.fullmatch(base):
        places = ((key, len(base)) for key in keys if key.startswith(start))
        found = dict.fromkeys(_segment(key, at) for key, at in places)
    else:
        found = _segments_behind(base, last, keys)
    return [base + each for each in found if _SAFE.fullmatch(each.removesuffix(" "))]


def _segment(key: str, at: int) -> str:
    """Return the segment that starts there, with its dot; the last with a space."""
    end = key.find(".", at)
    return key[at : end + 1] if end >= 0 else f"{key[at:]} "


def _segments_behind(base: str, last: str, keys: Iterable[str]) -> dict[str, None]:
    """Return the segments that start with `last` behind what a pattern matches."""
    from reinit_cli.patterns import Pattern

    pattern = Pattern.parse(base)
    matched: dict[str, bool] = {}
    found: dict[str, None] = {}
    for key in keys:
        at = key.find(".") + 1
        while at:
            # Layers are alike: most segments are known, and what is in front need not be matched.
            if key.startswith(last, at) and (segment := _segment(key, at)) not in found:
                own = key[:at]
                if own not in matched:
                    matched[own] = pattern.matches(own)
                if matched[own]:
                    found[segment] = None
            at = key.find(".", at) + 1
    return found


def rules_starting(keys: Iterable[str], start: str) -> list[str]:
    """Return how a rule that starts so may go on."""
    pattern, equals, init = start.partition("=")
    if equals:
        return [f"{pattern}={each}" for each in inits_starting(init)]
    return [
        each if each.endswith(".") else each.removesuffix(" ") + "="
        for each in keys_starting(keys, pattern)
    ]


def inits_starting(start: str) -> list[str]:
    """Return how an initializer that starts so may go on: its name, then its arguments."""
    from reinit_cli.initializers import REGISTRY

    known = {each.name: each for each in REGISTRY}
    known |= {alias: each for each in REGISTRY for alias in each.aliases}
    name, colon, arguments = start.partition(":")
    if colon:
        done, comma, last = arguments.rpartition(",")
        words = _words_of_arguments(known[name], done, last) if name in known else ()
        return [f"{name}:{done}{comma}{word}" for word in words if word.startswith(last)]
    # Other names of an initializer are offered to those who begin to write them.
    first = [each.name for each in REGISTRY if each.name.startswith(start)]
    found = first or [each for each in known if each.startswith(start)]
    return [start, f"{start}:"] if found == [start] else found


def _words_of_arguments(initializer: Initializer, done: str, last: str) -> Iterator[str]:
    """Yield the arguments that may follow others, or the values of one that is named.

    Args:
        initializer: whose they are.
        done: the arguments in front, with commas between them.
        last: what is written of this one.
    """
    from reinit_cli.initializers.declaration import REQUIRED

    named, equals, _ = last.partition("=")
    given = {each.partition("=")[0] for each in done.split(",")}
    for parameter in initializer.all_parameters:
        words = parameter.kind.words
        if parameter.name in given or given.intersection(words):
            continue
        if not equals:
            yield f"{parameter.name}="
            yield from words
        elif parameter.name == named:
            has_default = parameter.default is not REQUIRED and parameter.default is not None
            default = [str(parameter.default)] if has_default else []
            yield from (f"{named}={word}" for word in dict.fromkeys([*words, *default]))


# --- sources -------------------------------------------------------------------------------


def paths_starting(start: str) -> list[str]:
    """Return the files and folders whose path starts so; folders end with a slash."""
    folder, name = os.path.split(start)
    base = start[: len(start) - len(name)]
    try:
        entries = sorted(os.scandir(_expanded(folder) or "."), key=lambda each: each.name)
    except OSError:
        return []
    return [
        base + entry.name + ("/" if entry.is_dir() else " ")
        for entry in entries
        if entry.name.startswith(name)
        and (name or not entry.name.startswith("."))
        and entry.name.isprintable()  # no newline, and nothing that is no text
        and not entry.name.endswith(" ")
    ]


def _expanded(path: str) -> str:
    """Return what a shell would make of a path that starts with `~` or holds a variable."""
    if os.path.lexists(path):
        return path
    return os.path.expanduser(os.path.expandvars(path))


def keys_of(source: str, weights: str | None = None, root: str | None = None) -> list[str]:
    """Return the keys of a model or a checkpoint, from a cache where that is faster.

    Args:
        source: its name or path, as a user writes it.
        weights: the weights of a model, which may change what it has.
        root: the path of the state dict in what a torch file holds.

    Raises:
        ReinitError: there is no such source.
    """
    source = _found(source)
    stamp = _stamp(source, weights, root)
    if stamp is None and not os.path.isdir(source):
        return []  # standard input and named pipes give their bytes once, to the command
    found = _cached(stamp) if stamp else None
    if found is None:
        from reinit_cli.sources import find_source

        found = [tensor.key for tensor in find_source(source, weights, root).tensors]
        if stamp and (stamp[0] == "model" or len(found) >= _CACHED_FROM):
            _keep(stamp, found)
    return found


def _found(source: str) -> str:
    """Return the path that a shell would make of a source; of several the first."""
    path = _expanded(source)
    if not os.path.lexists(path) and any(char in path for char in "*?["):
        from glob import iglob

        return min(iglob(path), default=path)
    return path


def _stamp(source: str, weights: str | None, root: str | None) -> tuple[str, ...] | None:
    """Return what a source's keys depend on; None where that is not known.

    The first three say where they are kept, the others whether they still hold.
    """
    from reinit_cli import __version__

    # What is no identifier is a path, whatever models there are.
    if source.isidentifier():
        from reinit_cli.models import model_names

        if source in model_names() and not (weights and os.path.isfile(weights)):
            from importlib.metadata import version

            return ("model", source, weights or "", version("torchvision"), __version__)
        if source in model_names():
            return _stamp_of_file(weights or "", f"{source} {root or ''}", __version__)
    return _stamp_of_file(source, root or "", __version__)


def _stamp_of_file(path: str, way: str, version: str) -> tuple[str, ...] | None:
    if not os.path.isfile(path):
        return None
    status = os.stat(path)
    # The inode too: another file of that size may take its place within a tick of the clock.
    changes = (status.st_size, status.st_mtime_ns, status.st_ino)
    return ("file", os.path.realpath(path), way, *map(str, changes), version)


# --- the cache -----------------------------------------------------------------------------


def _place(stamp: tuple[str, ...]) -> str:
    from hashlib import sha256

    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    digest = sha256("\0".join(stamp[:3]).encode(errors="surrogateescape")).hexdigest()
    return os.path.join(root, "reinit", f"keys-{digest[:32]}.json")


def _cached(stamp: tuple[str, ...]) -> list[str] | None:
    """Return what was kept, if it is of the same stamp and whole."""
    import json

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


def _keep(stamp: tuple[str, ...], keys: Sequence[str]) -> None:
    """Keep keys for the next time; a cache that cannot be written is none."""
    import json
    from tempfile import mkstemp

    place = _place(stamp)
    with suppress(OSError, ValueError):
        os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
        descriptor, temporary = mkstemp(dir=os.path.dirname(place))  # of mode 0600
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump({"stamp": stamp, "keys": keys}, file)
            os.replace(temporary, place)
        except BaseException:
            os.unlink(temporary)
            raise


# --- shells --------------------------------------------------------------------------------


class Line(NamedTuple):
    """A line as far as it is written.

    Attributes:
        before: its words but the last, without quotes.
        word: the last, without quotes; "" behind a space.
        typed: the end of it that the shell takes for the word, as it is typed.
        quote: the quote that is still open, or "".
    """

    before: tuple[str, ...]
    word: str
    typed: str
    quote: str


def read_line(line: str, breaks: str = "") -> Line:
    """Split a line as a shell would.

    Args:
        line: what is written in front of the cursor.
        breaks: the characters at which bash begins a word of its own, outside quotes.
    """
    words: list[str] = []
    word = quote = ""
    has_word = False
    at = typed_from = opened_at = 0
    while at < len(line):
        char = line[at]
        at += 1
        if char == "\\" and _is_escape(line[at : at + 1], quote):
            word, has_word = word + line[at : at + 1], True
            at += 1
        elif quote:
            quote, word = ("", word) if char == quote else (quote, word + char)
        elif char in "'\"":
            quote, has_word, opened_at = char, True, at
        elif char.isspace():
            words += [word] if has_word else []
            word, has_word, typed_from = "", False, at
        else:
            word, has_word = word + char, True
            typed_from = at if char in breaks else typed_from
    return Line(tuple(words), word, line[opened_at if quote else typed_from :], quote)


def _is_escape(following: str, quote: str) -> bool:
    """Whether a backslash takes the meaning of what follows, within that quote."""
    return quote == "" or (quote == '"' and following in {"$", "`", '"', "\\"})


def shown(candidates: Iterable[str], line: Line, shell: str) -> Iterator[str]:
    """Yield candidates as a shell takes them, in place of what is typed.

    fish quotes them itself. The others get what is typed as it stands, and behind it
    what follows, quoted as the word is.
    """
    for candidate in candidates:
        text = candidate.removesuffix(" ")
        is_finished = text != candidate
        following = _quoted(text[len(line.word) :], line.quote)
        if shell == "fish":
            yield text
        elif following is not None and text.startswith(line.word):
            # bash would put the space inside the quotes, which it closes itself.
            has_space = is_finished and not (shell == "bash" and line.quote)
            yield line.typed + following + (" " if has_space else "")


_SPECIAL = re.compile(r"[^\w.+@%/:=,-]")


def _quoted(text: str, quote: str) -> str | None:
    """Return text so that it stands for itself behind an open quote, or behind none.

    Returns:
        None where it cannot be written: single quotes hold all but themselves, and in
        double quotes a backslash that keeps "!" from being obeyed stays.
    """
    if quote == "'":
        return None if "'" in text else text
    if quote:
        return None if "!" in text else re.sub(r'[$`"\\]', r"\\\g<0>", text)
    return _SPECIAL.sub(r"\\\g<0>", text)
