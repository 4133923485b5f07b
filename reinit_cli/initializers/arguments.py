"""Parse an initializer with its arguments: "kaiming_normal:relu,fan_out"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from reinit_cli.errors import ArgumentError, UnknownNameError
from reinit_cli.initializers.declaration import COMMON, ROUNDS, Init, Initializer
from reinit_cli.initializers.parameters import Nested, Text
from reinit_cli.initializers.registry import REGISTRY
from reinit_cli.initializers.synonyms import word_meant

_MOST_WORDS, _SUCH = 6, "relu"
"""How many words are listed in an error, and which one stands for more."""

_COMMON_NAMES = {parameter.name for parameter in (*ROUNDS, *COMMON)}


def parse_init(text: str) -> Init:
    """Read "NAME" or "NAME:ARGS".

    ARGS are separated by commas: `name=value`, numbers in the order of torch's signature,
    and words that are recognized by their kind in any order. What people write instead is
    understood where it has one meaning: torch's calls, other libraries' names.

    Raises:
        UnknownNameError: no initializer has the name.
        ArgumentError: an argument is not what the initializer takes.
    """
    try:
        return _parsed(text)
    except (UnknownNameError, ArgumentError) as error:
        from reinit_cli.initializers.loose import respelled

        meant = None if error.kind == "empty" else respelled(text, REGISTRY)
        if meant is None or meant == text:
            raise
        try:
            return _parsed(meant)
        except ArgumentError as closer:
            # A call that is understood but for one argument is refused for that.
            raise (closer if isinstance(error, UnknownNameError) else error) from None


def _parsed(text: str) -> Init:
    """Read an initializer that is written as a rule has it; it raises as `parse_init` does."""
    name, colon, args = text.partition(":")
    declared = REGISTRY[name.strip()]
    words = [word.strip() for word in args.split(",")] if colon else []
    if "" in words:
        # Also where a script leaves out a value, so that nothing else is read into it.
        raise ArgumentError(declared.name, known=(declared.example,), kind="empty")
    return declared.bind(_by_name(declared, words))


def inner_init(text: str) -> Init:
    """Parse an initializer whose arguments are separated by ;.

    Raises:
        UnknownNameError: there is none of that name.
        ArgumentError: an argument is not what it takes.
    """
    return parse_init(text.replace(";", ","))


def inner_text(text: str) -> str:
    """Return the text of an initializer within another, which is kept where it is as a rule has it.

    It raises as `inner_init` does.
    """
    return text if is_plain(text.replace(";", ",")) else str(inner_init(text)).replace(",", ";")


def is_plain(text: str) -> bool:
    """Whether an initializer is written as a rule has it, rather than understood."""
    try:
        _parsed(text)
    except (UnknownNameError, ArgumentError):
        return False
    return text.partition(":")[0].strip() in REGISTRY


def versions_of(inits: Iterable[Init]) -> dict[str, int]:
    """Return the versions of initializers and of those within them, but for version 1."""
    found: dict[str, int] = {}
    for init in inits:
        found[init.initializer.name] = init.initializer.version
        given = dict(init.arguments)
        within = (each for each in init.initializer.parameters if isinstance(each.kind, Nested))
        texts = (given[each.name] for each in within)
        found |= versions_of(inner_init(text) for text in texts if isinstance(text, str))
    return {name: version for name, version in sorted(found.items()) if version > 1}


def _by_name(declared: Initializer, words: list[str]) -> dict[str, object]:
    _refuse_misread(declared, words)
    named = [word.partition("=") for word in words if _is_named(word)]
    bare = [word for word in words if not _is_named(word)]
    given: dict[str, object] = {}
    for name, _, value in named:
        _set(declared, given, name.strip(), value.strip())
    # Words find their argument by kind, so they go first and numbers take what is left.
    for word in sorted(bare, key=_is_number):
        _set(declared, given, _place(declared, given, word), word)
    if declared.lone and len(bare) == 1 and given.keys() - _COMMON_NAMES == {_first(declared)}:
        rest = [word for word in words if word not in bare]
        meant = (",".join((form.format(bare[0]), *rest)) for form in declared.lone)
        texts = tuple(f"{declared.name}:{each}" for each in meant)
        raise ArgumentError(declared.name, bare[0], texts, kind="lone")
    return given


def _first(declared: Initializer) -> str:
    return declared.parameters[0].name


def _set(declared: Initializer, given: dict[str, object], name: str, value: str) -> None:
    if name in given:
        raise ArgumentError(declared.name, f"{name} is given twice, as {given[name]} and {value}")
    given[name] = value


def _place(declared: Initializer, given: dict[str, object], word: str) -> str:
    """Return the name of the argument that a bare word or number is."""
    if not declared.parameters:
        *first, last = ("", *(f"{parameter.name}=" for parameter in declared.all_parameters))
        common = f"{', '.join(first[1:])} and {last}" if first[1:] else last
        only = f", only {common}" if common else ""
        raise ArgumentError(declared.name, f"it takes no argument {word!r}{only}")
    if _is_number(word):
        for parameter in declared.parameters:
            if parameter.kind.takes_numbers and parameter.name not in given:
                return parameter.name
        raise ArgumentError(declared.name, f"{word} is one number too many", (declared.example,))
    for parameter in declared.parameters:
        if word_meant(word, parameter.kind.words) is not None:
            return parameter.name
    for parameter in declared.parameters:
        if isinstance(parameter.kind, Text) and parameter.name not in given:
            return parameter.name
    known = [known for parameter in declared.parameters for known in parameter.kind.words]
    names = [f"{parameter.name}=" for parameter in declared.parameters]
    problem = f"unknown argument {word!r}; it takes {_taken(declared)}"
    raise ArgumentError(declared.name, problem, (*known, *names), word=word)


def _taken(declared: Initializer) -> str:
    """Say what it takes: names of arguments, and words where they are few."""
    names = [f"{parameter.name}=" for parameter in declared.parameters]
    groups = [parameter.kind.words for parameter in declared.parameters]
    words = [word for group in groups if len(group) <= _MOST_WORDS for word in group]
    many = (
        [f"a nonlinearity such as {_SUCH}"]
        if any(len(group) > _MOST_WORDS for group in groups)
        else []
    )
    *first, last = (*names, *words, *many)
    return f"{', '.join(first)} or {last}" if first else last


def _refuse_misread(declared: Initializer, words: Sequence[str]) -> None:
    """Refuse a number after a named argument, as Python does, and a decimal comma.

    Raises:
        ArgumentError: there is one; `known` is what was perhaps meant.
    """
    for at, word in enumerate(words):
        if at == 0 or _is_named(word) or not _is_number(word):
            continue
        named = next((each for each in words[:at] if _is_named(each)), None)
        if named is not None:
            problem = f"the number {word} comes after the named argument {named}"
            raise _misread(declared, words, at, problem)
        if _FRACTION.fullmatch(word):
            raise _misread(declared, words, at, f"{word!r} is not a number of its own")
    takes = sum(parameter.kind.takes_numbers for parameter in declared.parameters)
    are_halves = len(words) % 2 == 0 and all(_INTEGER.fullmatch(word) for word in words)
    if are_halves and len(words) > takes > 0:
        raise _misread(declared, words, len(words) - 1, f"{words[-1]} is one number too many")


_FRACTION, _INTEGER = re.compile("0[0-9]+"), re.compile("-?[0-9]+")


def _misread(declared: Initializer, words: Sequence[str], at: int, problem: str) -> ArgumentError:
    """Return the error, with the texts that may be meant, a decimal fraction first."""
    joined = _with_points(words)
    pointed = _likely(declared, joined) if len(joined) < len(words) else ()
    named: tuple[str, ...] = ()
    given = {word.partition("=")[0].strip() for word in words if _is_named(word)}
    numbers = [each.name for each in declared.parameters if each.kind.takes_numbers]
    free = [name for name in numbers if name not in given]
    if free and given and not _FRACTION.fullmatch(words[at]):
        named = _likely(declared, [*words[:at], f"{free[0]}={words[at]}", *words[at + 1 :]])
    meant = (*pointed, *named)
    return ArgumentError(declared.name, problem, meant, kind="point" if pointed else "")


def _likely(declared: Initializer, words: Sequence[str]) -> tuple[str, ...]:
    """Return the text of some arguments, if it is a valid one, or lacks only others."""
    text = f"{declared.name}:{','.join(words)}"
    try:
        _parsed(text)
    except ArgumentError as error:
        lone = error.known[:1] if error.kind == "lone" else ()
        return (text,) if error.kind == "missing" else lone
    return (text,)


def _with_points(words: Sequence[str]) -> list[str]:
    """Join integers that a comma parts to decimal fractions."""
    joined: list[str] = []
    is_open = False
    for word in words:
        if is_open and re.fullmatch("[0-9]+", word):
            joined[-1] += f".{word}"
            is_open = False
        else:
            joined.append(word)
            is_open = re.fullmatch(r"(?:\w+\s*=\s*)?-?[0-9]+", word) is not None
    return joined


def _is_named(word: str) -> bool:
    """Whether a word names its argument; the arguments of an inner initializer belong to that one."""
    name, equals, _ = word.partition("=")
    return bool(equals) and ":" not in name


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
