"""Understand an initializer that is not written as a rule has it: `nn.init.normal_(w, std=0.02)`.

It is asked only for texts that are not valid as they are, so that these keep their meaning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from reinit_cli.initializers.declaration import Initializer
from reinit_cli.initializers.parameters import Flag
from reinit_cli.initializers.registry import Registry
from reinit_cli.initializers.synonyms import argument_meant, word_meant
from reinit_cli.text import parse_number, plain

LONGEST = 1_000
"""The most characters of a text that is looked at."""

_NAME = re.compile(r"[\"'`]?([A-Za-z_][\w.-]*)[\"'`]?")
_TWO_WORDS = re.compile(r"([A-Za-z]+ [A-Za-z]+)(?=[\s:,;=(\[{]|$)")
_CALL = re.compile(r"[\s:=,]*[(\[{](.*)[)\]}]\s*", re.DOTALL)
_MARK = re.compile(r"\s*[:,;=/|]\s*|\s+")
_TENSOR = re.compile(r"(?:[\w\[\]]+\.)*(?:weight|bias|data|tensor|param|self|[a-z])(?:\.data)?")
_CALCULATED = re.compile(r"(?:\w+\.)*calculate_gain\((.*)\)", re.DOTALL)
_APPLIED = re.compile(r"([A-Za-z][\w.]*)\((.*)\)", re.DOTALL)
_SPACED = re.compile(r"\s*([=:])\s*")


def respelled(text: str, registry: Registry) -> str | None:
    """Return what a text that is not valid says, as a rule would; None where it is not clear."""
    if len(text) > LONGEST:
        return None
    words = plain(text).strip().strip("\"'`").strip()
    if _is_number(words):
        return _constant(words)
    declared, rest = _declared(words, registry)
    if declared is None:
        return None
    arguments = list(_arguments(declared, rest))
    return f"{declared.name}:{','.join(arguments)}" if arguments else declared.name


def _constant(number: str) -> str:
    return {0.0: "zeros", 1.0: "ones"}.get(parse_number(number), f"constant:{number}")


def _declared(text: str, registry: Registry) -> tuple[Initializer | None, str]:
    """Return the initializer that a text begins with, and what follows it."""
    for pattern in (_TWO_WORDS, _NAME):
        found = pattern.match(text)
        declared = registry.meant(found[1]) if found else None
        if found and declared is not None:
            return declared, text[found.end() :]
    return None, ""


def _arguments(declared: Initializer, text: str) -> Iterator[str]:
    called = _CALL.fullmatch(text)
    inside = called[1] if called else _MARK.sub("", text, count=1) if _MARK.match(text) else text
    words = _words(inside)
    if called and words and _TENSOR.fullmatch(words[0]) and not _is_argument(declared, words[0]):
        del words[0]  # torch's functions take the tensor first
    for word in words:
        yield from _argument(declared, word)


def _words(text: str) -> list[str]:
    """Split at commas, semicolons and spaces that are not in parentheses."""
    words, depth = [""], 0
    for char in _SPACED.sub(r"\1", text.strip()):
        depth += (char in "([{") - (char in ")]}")
        if depth == 0 and char in ",; ":
            words.append("")
        else:
            words[-1] += char
    return [word for word in words if word]


def _argument(declared: Initializer, word: str) -> Iterator[str]:
    """Yield the arguments that one word stands for."""
    names = [parameter.name for parameter in declared.all_parameters]
    found = re.fullmatch(r"([A-Za-z_]\w*)[=:](.*)", word, re.DOTALL)
    name = argument_meant(found[1], names) if found else None
    if found and name is not None:
        value, *slope = _applied(declared, _value(found[2]))
        yield f"{name}={value}"
        yield from slope
        return
    flag = argument_meant(
        word, [each.name for each in declared.all_parameters if each.kind == Flag()]
    )
    if flag is not None:
        yield f"{flag}=true"
        return
    yield from _applied(declared, _value(word))


def _applied(declared: Initializer, value: str) -> tuple[str, ...]:
    """Return a value, and the slope that is within it: `nn.LeakyReLU(0.2)`."""
    applied = _APPLIED.fullmatch(value)
    if applied and word_meant(applied[1], _known_words(declared)) == "leaky_relu" and applied[2]:
        return ("leaky_relu", f"a={applied[2].rpartition('=')[2].strip()}")
    return (value,)


def _value(text: str) -> str:
    calculated = _CALCULATED.fullmatch(text)
    return (calculated[1] if calculated else text).strip("\"'`")


def _is_argument(declared: Initializer, word: str) -> bool:
    return _is_number(word) or word_meant(word, _known_words(declared)) is not None


def _known_words(declared: Initializer) -> Sequence[str]:
    return [word for parameter in declared.parameters for word in parameter.kind.words]


def _is_number(text: str) -> bool:
    try:
        parse_number(text)
    except ValueError:
        return False
    return any(char.isdigit() for char in text)
