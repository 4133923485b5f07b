"""Parse an initializer with its arguments: "kaiming_normal:relu,fan_out"."""

from __future__ import annotations

from collections.abc import Iterable

from reinit_cli.errors import ArgumentError
from reinit_cli.initializers.declaration import COMMON, Init, Initializer
from reinit_cli.initializers.parameters import Nested, Text
from reinit_cli.initializers.registry import REGISTRY

_COMMON_NAMES = {parameter.name for parameter in COMMON}


def parse_init(text: str) -> Init:
    """Read "NAME" or "NAME:ARGS".

    ARGS are separated by commas: `name=value`, numbers in the order of torch's signature,
    and words that are recognized by their kind in any order.

    Raises:
        UnknownNameError: no initializer has the name.
        ArgumentError: an argument is not what the initializer takes.
    """
    name, colon, args = text.partition(":")
    declared = REGISTRY[name.strip()]
    words = [word.strip() for word in args.split(",")] if colon else []
    if "" in words:
        raise ArgumentError(declared.name, "an argument is empty", (declared.example,))
    return declared.bind(_by_name(declared, words))


def inner_init(text: str) -> Init:
    """Parse an initializer whose arguments are separated by ;.

    Raises:
        UnknownNameError: there is none of that name.
        ArgumentError: an argument is not what it takes.
    """
    return parse_init(text.replace(";", ","))


def versions_of(inits: Iterable[Init]) -> dict[str, int]:
    """Return the versions of initializers and of those within them, but for version 1."""
    found: dict[str, int] = {}
    for init in inits:
        found[init.initializer.name] = init.initializer.version
        given = dict(init.arguments)
        within = (each for each in init.initializer.parameters if isinstance(each.kind, Nested))
        found |= versions_of(inner_init(str(given[each.name])) for each in within)
    return {name: version for name, version in sorted(found.items()) if version > 1}


def _by_name(declared: Initializer, words: list[str]) -> dict[str, object]:
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
        raise ArgumentError(declared.name, f"{bare[0]} alone is ambiguous", texts)
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
        if word in parameter.kind.words:
            return parameter.name
    for parameter in declared.parameters:
        if isinstance(parameter.kind, Text) and parameter.name not in given:
            return parameter.name
    known = [known for parameter in declared.parameters for known in parameter.kind.words]
    names = [f"{parameter.name}=" for parameter in declared.parameters]
    takes = ", ".join((*names, *known))
    problem = f"unknown argument {word!r}; it takes {takes}"
    raise ArgumentError(declared.name, problem, (*known, *names), word=word)


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
