"""Read which kinds of layers a pattern is for: `kind=Conv2d`, `*.weight[kind=Linear]`.

Kinds stand in a bracket of their own at the end of a pattern, before a part, or alone for every key.
A kind is the name of a class of `torch.nn`, or a group such as `norm`; a comma parts several.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from reinit_cli.errors import PatternError
from reinit_cli.lazy import dataclass
from reinit_cli.text import quoted

_WORDS = r"\s*kind\s*=\s*(\w[\w\s,]*)"

_ALONE = re.compile(_WORDS)
_BRACKET = re.compile(rf"\[{_WORDS}\]\s*\Z")
_IN_RULE = re.compile(rf"{_WORDS}=")

EVERY_KEY = "*"


@dataclass(frozen=True, slots=True)
class Kinds:
    """The kinds of layers that a pattern is for.

    Attributes:
        words: as written: names of classes, and of groups of them.
    """

    words: tuple[str, ...]

    def __str__(self) -> str:
        """Return it with its bracket."""
        return f"[kind={','.join(self.words)}]"

    def takes(self, kind: str) -> bool:
        """Whether it is for a kind of layer."""
        return any(_stands_for(word, kind) for word in self.words)


def _stands_for(word: str, kind: str) -> bool:
    from reinit_cli.tensors.layers.kinds import kinds_named

    named = kinds_named(word)
    # A class of an architecture may be none of those that names and shapes tell.
    return kind in named if named else kind.lower() == word.lower()


def split_kinds(text: str) -> tuple[str, Kinds | None]:
    """Split a pattern into that of keys and the kinds of layers; None for any kind.

    Raises:
        PatternError: a kind is missing.
    """
    if "kind" not in text:
        return text, None
    found = _ALONE.fullmatch(text)
    if found is not None:
        return EVERY_KEY, _kinds(text, found[1])
    found = _BRACKET.search(text)
    if found is None:
        return text, None
    return text[: found.start()].rstrip() or EVERY_KEY, _kinds(text, found[1])


def is_kinds(bracket: str) -> bool:
    """Whether a bracket, with its signs, has kinds of layers."""
    return _BRACKET.fullmatch(bracket) is not None


def end_of_kinds(text: str) -> int | None:
    """Return where the "=" after kinds alone is in a rule: 11 of `kind=Linear=zeros`."""
    found = _IN_RULE.match(text)
    return found.end() - 1 if found is not None else None


def _kinds(text: str, written: str) -> Kinds:
    words: Sequence[str] = [word.strip() for word in written.split(",")]
    for word in words:
        if not word or " " in word:
            problem = f"{quoted(word or written)} is not the name of a kind of layer"
            raise PatternError(text, problem)
    return Kinds(tuple(words))
