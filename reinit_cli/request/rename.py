r"""Read how keys are renamed: "module.*=*", or "re:(.*)\.gamma=\1.weight".

The left side is a pattern over keys, braces included. Each `*` on the right takes the text
of one `*` on the left, in their order, and of several texts that a `*` could take, it takes
the shortest. What `?`, classes and braces match is not taken over. The right side is written
as a pattern is, so that `[*]` is a star, and nothing but stars may stand for anything in it.

The first "=" outside of brackets, braces and groups splits; `[=]` is one in a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import field

from reinit_cli.errors import PatternError, RuleError
from reinit_cli.lazy import dataclass
from reinit_cli.request.glob import Glob
from reinit_cli.request.pattern import Pattern
from reinit_cli.request.regex import Clock, Regex
from reinit_cli.text import plural, quoted

MAX_CHARACTERS = 2**26
"""The most characters of all new names together; a header of safetensors has fewer."""

_CLASS = re.compile(r"\[!?.[^\]]*\]", re.DOTALL)
_CLASS_OF_REGEX = re.compile(r"\[\^?(?:\\.|[^\\])(?:\\.|[^\]\\])*\]", re.DOTALL)
"""Brackets; what comes first in them is a member, be it a bracket."""

_GROUP = re.compile(r"\\(?:g<|\d)")
"""The start of a reference to a group, in a replacement."""


@dataclass(frozen=True, slots=True)
class Rename:
    """Which keys get other names.

    Attributes:
        pattern: the keys that are renamed.
        text: as it was written.
    """

    pattern: Pattern
    text: str
    _template: str = field(compare=False)  # the text decides
    _regex: Regex | None = field(compare=False)

    @property
    def cost(self) -> int:
        """The cost of reading it: its pattern is compiled twice."""
        return 2 * self.pattern.cost

    @classmethod
    def parse(cls, text: str) -> Rename:
        """Read "OLD=NEW".

        Raises:
            RuleError: there is no "=", or nothing after it.
            PatternError: one side is not a pattern, or the right side takes what the left has not.
        """
        at = _split(text)
        if at is None:
            raise RuleError(
                text, f"rename {quoted(text)} has no '='; a rename is OLD=NEW", kind="form"
            )
        old, new = text[:at], text[at + 1 :]
        pattern = Pattern.parse(old)
        if pattern.kinds is not None:
            problem = f"rename {quoted(text)} asks for a kind of layer, and names alone choose keys"
            raise RuleError(text, problem, kind="form")
        if not new:
            problem = f"rename {quoted(text)} has no new name; to leave tensors out, drop them"
            raise RuleError(text, problem, kind="form")
        if old.startswith("re:"):
            regex = Regex(old, old.removeprefix("re:"))
            regex.check_replacement(new)
            return cls(pattern, text, new, regex)
        if pattern.counts_from_end:
            problem = "a rename cannot count from the end; write the numbers, such as {10..11}"
            raise PatternError(old, problem)
        taking, stars = Glob.parse(old).taking() if pattern.is_wildcard else (None, 0)
        return cls(pattern, text, _template_of(new, stars), taking)

    def renamed(self, keys: Sequence[str], clock: Clock) -> dict[int, str]:
        """Return the new names of the keys that match, by their positions.

        Args:
            keys: all of them.
            clock: the time that may be taken.

        Raises:
            PatternError: it takes too long, or the names are too long.
        """
        if clock.is_over:
            raise PatternError(self.text, "it takes too long to match")
        found: dict[int, str] = {}
        left = MAX_CHARACTERS
        references = len(_GROUP.findall(self._template))
        for at in self.pattern.select(keys, clock):
            # Before the name is made: each reference may stand for the whole key.
            left -= len(self._template) + references * len(keys[at])
            if left < 0:
                raise PatternError(self.text, "the new names are too long")
            found[at] = self._new_name(keys[at], clock)
        return found

    def _new_name(self, key: str, clock: Clock) -> str:
        if self._regex is None:
            return self._template.replace("\\\\", "\\")
        try:
            match = self._regex.match(key, clock)
        except TimeoutError:
            match = None
        if match is None:
            raise PatternError(self.text, "it takes too long to match")
        return match.expand(self._template)


def renames_of(renames: Iterable[Rename | str]) -> tuple[Rename, ...]:
    """Read the renames that are given as text.

    Raises:
        RuleError: one of them is wrong.
    """
    each = (renames,) if isinstance(renames, str) else renames
    return tuple(Rename.parse(one) if isinstance(one, str) else one for one in each)


def _split(text: str) -> int | None:
    """Return where the "=" is that splits, or None."""
    is_regex = text.startswith("re:")
    opening, closing = ("(", ")") if is_regex else ("{", "}")
    depth = at = 0
    while at < len(text):
        char = text[at]
        if char == "\\" and is_regex:
            at += 1
        elif char == "[":
            found = (_CLASS_OF_REGEX if is_regex else _CLASS).match(text, at)
            at = found.end() - 1 if found else at
        elif char == opening:
            depth += 1
        elif char == closing:
            depth -= 1
        elif char == "=" and depth <= 0:
            return at
        at += 1
    return None


_RIGHT = re.compile(r"\*|\[(.)\]|[?{\[]|[^*?{\[]+", re.DOTALL)
"""A star, a character in brackets, what may not stand there, or other characters."""


def _template_of(new: str, stars: int) -> str:
    """Return the right side of a glob as a replacement of regular expressions.

    Raises:
        PatternError: something else than a star stands for anything, or there are more stars
            than on the left.
    """
    template, count = "", 0
    for found in _RIGHT.finditer(new):
        if found[0] == "*":
            count += 1
            template += f"\\g<{count}>"
        elif found[0] in {"?", "{", "["}:
            problem = f"only '*' stands for what is matched; [{found[0]}] is a literal one"
            raise PatternError(new, problem)
        else:
            template += (found[1] or found[0]).replace("\\", "\\\\")
    if count > stars:
        problem = f"it has {plural(count, 'star')}, and the left side {stars}"
        raise PatternError(new, problem)
    return template
