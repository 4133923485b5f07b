"""List candidates for a word: keys segment by segment, initializers, paths."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reinit_cli.initializers import Initializer


_SAFE = re.compile(r"[\w.+@%/-]+")
"""Words that every shell takes as they are."""


_CACHED_FROM = 2_000
"""Fewer keys than these are read as fast as a cache."""


def keys_starting(keys: Iterable[str], start: str) -> list[str]:
    """Return how the last segment of `start` may go on: with a dot where there is more.

    Segments in front of it may be patterns: `layers.*.w` goes on to `layers.*.weight`.

    Raises:
        PatternError: one of them is not a valid pattern.
    """
    if kind := _KIND.fullmatch(start):
        return _kinds_starting(*kind.groups())
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
    """Return the segments that start with `last` after what a pattern matches."""
    from reinit_cli.request.pattern import Pattern
    from reinit_cli.request.regex import Clock

    pattern, clock = Pattern.parse(base), Clock()
    matched: dict[str, bool] = {}
    found: dict[str, None] = {}
    for key in keys:
        at = key.find(".") + 1
        while at:
            # Layers are alike: most segments are known, and what is in front need not be matched.
            if key.startswith(last, at) and (segment := _segment(key, at)) not in found:
                own = key[:at]
                if own not in matched:
                    matched[own] = pattern.matches(own, clock)
                if matched[own]:
                    found[segment] = None
            at = key.find(".", at) + 1
    return found


_KIND = re.compile(r"((?:.*\[)?\s*kind\s*=\s*(?:\w+\s*,\s*)*)(\w*)", re.DOTALL)
"""A pattern that ends with the name of a kind of layers."""


def _kinds_starting(before: str, start: str) -> list[str]:
    from reinit_cli.tensors.layers.kinds import GROUPS, KINDS

    end = "] " if "[" in before else " "
    names = dict.fromkeys((*GROUPS, *KINDS))
    return [f"{before}{name}{end}" for name in names if name.startswith(start)]


_MASK = re.compile(r"(.*\[ *mask *= *)([^]]*)", re.DOTALL)
"""A rule that ends with the name of a mask."""


def rules_starting(keys: Iterable[str], start: str) -> list[str]:
    """Return how a rule that starts so may go on."""
    if mask := _MASK.fullmatch(start):
        paths = (mask[1] + path for path in paths_starting(mask[2]))
        return [f"{path[:-1]}]=" if path.endswith(" ") else path for path in paths]
    equals = _end_of_pattern(start)
    if equals is not None:
        pattern, init = start[:equals], start[equals + 1 :]
        return [f"{pattern}={each}" for each in inits_starting(init)]
    return [
        each if each.endswith(".") else each.removesuffix(" ") + "="
        for each in keys_starting(keys, start)
    ]


def _end_of_pattern(start: str) -> int | None:
    """Return where the "=" after a rule's pattern is; None where the pattern may go on."""
    from reinit_cli.request.kind import end_of_kinds
    from reinit_cli.request.part import equals_in_parts

    if _KIND.fullmatch(start):
        return None
    inside = set(equals_in_parts(start))
    first = next((at for at, sign in enumerate(start) if sign == "=" and at not in inside), None)
    return first if (after_kinds := end_of_kinds(start)) is None else after_kinds


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
        and entry.name.isprintable()  # no newline, and nothing but text
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
        from reinit_cli.checkpoints.find import find_source

        found = [tensor.key for tensor in find_source(source, weights, root).tensors]
        if stamp and (stamp[0] == "model" or len(found) >= _CACHED_FROM):
            _keep(stamp, found)
    return found


def roots_of(source: str) -> list[str]:
    """Return the places in what a checkpoint holds where there are tensors, or an optimizer.

    Raises:
        ReinitError: there is no such source.
    """
    from reinit_cli.operations.contents import describe

    path = _found(source)
    if not os.path.isfile(path) and not os.path.isdir(path):
        return []  # as above
    held = (each for each in describe(path).parts if each.tensors or each.kind == "optimizer")
    paths = (each.path or "." for each in held if each.kind not in ("tensor", "array"))
    return [each for each in paths if _SAFE.fullmatch(each)]


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
    from reinit_cli.checkpoints.models.model import TIMM
    from reinit_cli.version import __version__

    if source.startswith(TIMM) and not (weights and os.path.isfile(weights)):
        from importlib.metadata import PackageNotFoundError, version

        with suppress(PackageNotFoundError):
            return ("model", source, weights or "", version("timm"), __version__)
        return None
    # Anything else but an identifier is a path, even if a model had that name.
    if source.isidentifier():
        from reinit_cli.checkpoints.models.torchvision import model_names

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
