"""Offer what was perhaps meant: names, rules and patterns that are spelled like what was typed."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from reinit_cli import errors
from reinit_cli.checkpoints.formats import SUFFIXES
from reinit_cli.operations.ways import meant
from reinit_cli.text import listed, near

_FEW = 2
"""How many names are offered where they are meant rather than alike."""

_MOST_IN_FULL = 2
"""How many of the same command are written out, each with another name."""

_MOST_FILES = 3
"""How many files of a folder are named."""

_MOST_KEYS = 5
"""How many keys are put into one pattern."""

_NEW_ROWS = "write it as PATTERN=N:INIT, such as embed.weight=50300:mean or :normal:std=0.02"


def did_you_mean(found: Sequence[str], otherwise: str = "") -> str:
    """Offer what was found, or else say something."""
    return f"did you mean {' or '.join(found)}?" if found else otherwise


def of_timm(name: str) -> list[str]:
    """Return how a model of timm is named that was named without its package; none for others."""
    from reinit_cli.checkpoints.models.timm_names import timm_names_in_source, timm_tags_in_source
    from reinit_cli.initializers.arch import TIMM

    model, _, tag = name.partition(".")
    if model not in timm_names_in_source():
        return []
    # A tag that timm does not have is most likely the suffix of a file: resnet50.pt.
    return [f"{TIMM}{name}"] if not tag or tag in timm_tags_in_source(model) else []


def model(otherwise: str) -> Callable[[errors.UnknownNameError], str]:
    """Offer the model of timm that has the name, or those that are spelled like it."""
    return lambda error: did_you_mean(of_timm(error.about) or meant(error), otherwise)


def spelled(otherwise: str) -> Callable[[Any], str]:
    """Offer the known names that are spelled like the one that is not."""
    return lambda error: did_you_mean(meant(error), otherwise)


def there(error: errors.SourceNotFoundError) -> str:
    """Say which files of the kind there are in the folder of one that there is not."""
    folder, name = os.path.split(error.about)
    suffix = os.path.splitext(name)[1]
    if not folder and not suffix:
        return "reinit models lists the built-in models"
    if folder and not error.known:
        return f"the folder {folder} is empty or does not exist"
    suffixes = SUFFIXES if suffix in ("", *SUFFIXES) else (suffix,)
    found = sorted(each for each in error.known if each.endswith(suffixes))
    if not found:
        return ""
    names = [os.path.join(folder, each) for each in found[:_MOST_FILES]]
    more = [f"{len(found) - _MOST_FILES:,} more"] if found[_MOST_FILES:] else []
    return f"there {'are' if found[1:] else 'is'} {listed((*names, *more))}"


def tag(error: errors.UnknownNameError) -> str:
    """Offer a model's name with the tag of weights that it has."""
    named = [f"{error.of}.{each}" for each in error.known[:1]]
    return did_you_mean(
        [f"{error.of}.{each}" for each in meant(error)], f"such as {named[0]}" if named else ""
    )


def arguments(error: errors.ArgumentError) -> str:
    """Offer whole rules where they are known, and words for one that is misspelled."""
    return did_you_mean(_rules(error), f"reinit inits {error.about} explains its arguments")


def arch_arguments(error: errors.RuleError) -> str:
    """Offer the arguments that a constructor takes, or the one that is misspelled."""
    if error.word is not None and (found := meant(error)):
        return did_you_mean(found)
    if not error.known:
        return "it takes none"
    missing = next((each for each in error.known if f"'{each}'" in error.problem), error.known[0])
    return f"it takes {', '.join(error.known)}; write --arch-args '{{\"{missing}\": ...}}'"


def pointed(error: errors.ArgumentError) -> str:
    """Offer numbers with a decimal point for those with a comma."""
    first, *others = _rules(error)
    return f"did you mean {', or '.join((f'{first}, with a decimal point', *others))}?"


def _rules(error: errors.ArgumentError) -> tuple[str, ...]:
    if error.word is None and error.of:
        return tuple(f"-r {shlex.quote(f'{error.of}={each}')}" for each in error.known)
    return meant(error)


def initializer(error: errors.UnknownNameError) -> str:
    """Offer initializers for the name of none."""
    from reinit_cli.initializers.synonyms import initializers_offered, name_meant

    if error.about.endswith(SUFFIXES):
        return did_you_mean([f"rewind:{error.about}"])
    if error.about.lower() in _LEFT_OUT:
        return "--drop PATTERN leaves tensors out"
    name = re.split(r"[(\[:]", error.about)[0].rpartition(".")[2]
    same = name_meant(name, error.known) if name != error.about else None
    offered = (
        initializers_offered(error.about)
        or ((same,) if same else initializers_offered(name))
        or meant(error)
    )
    return did_you_mean(offered, "reinit inits lists the initializers")


_LEFT_OUT = ("drop", "delete", "del", "remove", "rm")
"""What somebody types to leave tensors out, which no initializer does."""


def dtype(error: errors.UnknownNameError) -> str:
    """Offer dtypes for the name of none."""
    likely = error.known if len(error.known) <= _FEW else meant(error)
    return did_you_mean(likely, "use torch's names, such as bfloat16")


def rule(error: errors.RuleError) -> str:
    """Offer the rule that is meant where its "=" is missing."""
    if error.known:
        return f"did you mean -r {shlex.quote(error.known[0])}?"
    if not error.about.strip() or error.about.startswith("-"):
        return "write it as -r PATTERN=INIT, such as -r '*.weight=zeros'"
    return f"give it an initializer, such as -r {shlex.quote(f'{error.about}=zeros')}"


def drawn(error: errors.UnfillableError) -> str:
    """Offer what an initializer can fill, or the key that the constructor of a model knows."""
    if error.problem.endswith("has no such key"):
        return "name one of its keys, such as --key fc.weight"
    return f"reinit inits {error.of} shows what it can fill"


def rows(error: errors.PatternError) -> str:
    """Offer the part of a tensor that a set of numbers at the end of a pattern may be meant as."""
    found = _NUMBERS.fullmatch(error.about)
    if found is None:
        return ""
    start, stop = int(found[2]), int(found[3] or found[2]) + 1
    part = f"[{start}:{stop or ''}]"
    what = "this row" if found[3] is None else "these rows"
    return f"{what} of a tensor: {shlex.quote(found[1] + part)}"


_NUMBERS = re.compile(r"(.*)\[(-?[0-9]{1,18})(?:\.\.\.?(-?[0-9]{1,18}))?\]", re.DOTALL)
"""A pattern that ends with a number in brackets, or with a range in the manner of braces."""


def key(error: errors.UnknownNameError) -> str:
    """Offer keys that are spelled like one that a source does not have."""
    from reinit_cli.request.spelling import nearest_keys

    return did_you_mean(nearest_keys(error.about, error.known), _listing(error))


def head(error: errors.RuleError) -> str:
    """Offer to resize a head of labels by its name."""
    if not error.known:
        return ""
    key = error.known[0] if len(error.known) == 1 else f"{{{','.join(error.known[:_MOST_KEYS])}}}"
    return f"--resize {shlex.quote(f'{key}={error.word}:normal:std=0.02')} keeps the rows that fit"


def resize(error: errors.RuleError) -> str:
    """Offer a pattern that matches a key, or say how new rows are asked for."""
    return _pattern("--resize", error) if error.known else _NEW_ROWS


def selection(option: str) -> Callable[[Any], str]:
    """Offer a pattern of an option that matches a key, or the keys that are spelled like it."""
    return lambda error: _pattern(option, error)


def kind(error: errors.UnmatchedRuleError) -> str:
    """Offer the kind of layer that is spelled like one that there is not."""
    from reinit_cli.request.kind import split_kinds
    from reinit_cli.tensors.layers.kinds import GROUPS

    keys, kinds = split_kinds(error.word or "")
    words = kinds.words if kinds is not None else ()
    groups = [
        name for name, of_group in GROUPS.items() if not set(of_group).isdisjoint(error.known)
    ]
    known = {each.lower(): each for each in (*groups, *error.known)}
    nearest = [known[each] for word in words for each in near(word.lower(), [*known], 1)]
    if nearest and len(nearest) == len(words):
        init = error.about.removeprefix(error.word or "")
        meant = f"{keys}[kind={','.join(nearest)}]" if keys != "*" else f"kind={','.join(nearest)}"
        return f"did you mean -r {shlex.quote(meant + init)}?"
    first = shlex.quote(f"kind={error.known[0]}")
    return f"reinit keys {shlex.quote(error.of)} {first} lists the tensors of a kind"


def unmatched(error: errors.UnmatchedRuleError) -> str:
    """Offer a rule that fills tensors for one that matches no key, or fills none."""
    pattern = error.word or ""
    alone, equals, _ = pattern.partition("=")
    if error.kind == "exclude" and equals and alone:
        return f"-x takes a pattern without an initializer: -x {shlex.quote(alone)}"
    if error.known:
        return _pattern("-x" if error.kind == "exclude" else "-r", error)
    if _FLAT in error.problem:
        ones = shlex.quote(f"{pattern}=ones")
        return f"for 1-D tensors use ones, zeros or normal, such as -r {ones}"
    return f"reinit keys {shlex.quote(error.of)} {shlex.quote(pattern)} -l shows their shapes"


_FLAT = "fans need at least 2 dimensions"
"""What a rule says of tensors that have no fans."""


def _pattern(option: str, error: errors.RuleError) -> str:
    from reinit_cli.request.spelling import (
        corrected_pattern,
        layers_meant,
        nearest_keys,
        numbers_there,
        rows_meant,
    )

    pattern = error.word or ""
    written = error.about.removeprefix(pattern)
    layers, one_row = layers_meant(pattern, written, error.known), rows_meant(pattern, error.known)
    if layers or one_row:
        what = "these layers" if layers else "this row of the tensor"
        init = "" if option == "-x" else f"={written.partition('=')[2]}"
        return f"{what}: {option} {shlex.quote(f'{layers or one_row}{init}')}"
    corrected = corrected_pattern(pattern, error.known)
    rest = "" if option == "-x" else error.about.removeprefix(pattern)
    if corrected and option == "--rename":
        rest = _renaming(pattern, corrected, rest)
        # Several keys would have one name.
        corrected = corrected if corrected.count("*") == rest.count("*") else None
    if corrected:
        meant = f"{option} {shlex.quote(corrected + rest)}"
        whole = "a regular expression must match the whole key: " if pattern[:3] == "re:" else ""
        return f"{whole}did you mean {meant}?"
    numbers = numbers_there(pattern, error.known)
    if numbers:
        return numbers
    nearest = nearest_keys(pattern, error.known)
    if not nearest:
        return _listing(error)
    return f"similar {'keys' if nearest[1:] else 'key'}: {', '.join(nearest)}; {_listing(error)}"


def _renaming(pattern: str, corrected: str, rest: str) -> str:
    """Return the new name behind a pattern that takes more, which stays in the names."""
    new = rest.removeprefix("=")
    return f"={corrected.replace(pattern, new) if pattern in corrected else new}"


def _listing(error: errors.ReinitError) -> str:
    return f"list the keys with: reinit keys {shlex.quote(error.of)}"


def one_by_one(error: errors.ReinitError, args: Sequence[str]) -> str:
    """Return the same command for each of the sources that can be named instead, or for one."""
    named = error.known if len(error.known) <= _MOST_IN_FULL else error.known[:1]
    commands = ([path if arg == error.about else arg for arg in args] for path in named)
    several, many = len(error.known) > 1, len(named) < len(error.known)
    return (
        f"name {'one of them' if several else 'it'}{', such as' if many else ''}: "
        + " or ".join(f"reinit {shlex.join(each)}" for each in commands)
    )
