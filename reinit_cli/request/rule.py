"""Read rules, such as "features.*.weight=xavier_uniform:relu"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from math import isfinite

from reinit_cli.errors import ArgumentError, RuleError, UnknownNameError
from reinit_cli.initializers import REGISTRY, Init, parse_init
from reinit_cli.initializers.arguments import is_plain
from reinit_cli.initializers.declaration import KEEP
from reinit_cli.request.pattern import Pattern


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern and what the tensors it matches are filled with.

    Attributes:
        pattern: which keys.
        init: the initializer with its arguments.
        text: the rule as it was written, or as a rule has it where it was written otherwise.
        is_exclusion: whether `-x` asked for it.
    """

    pattern: Pattern
    init: Init
    text: str
    is_exclusion: bool = field(default=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read "PATTERN=INIT[:ARGS]".

        Spaces around the pattern are not part of it; `[ ]` is one that is.

        Raises:
            RuleError: there is no "=", or the pattern or an argument is wrong.
            UnknownNameError: no initializer has its name.
        """
        asked, written = _split(text)
        pattern = Pattern.parse(asked.strip())
        try:
            init = parse_init(written)
        except ArgumentError as error:
            error.of = pattern.text
            raise
        has_own_words = asked == pattern.text and is_plain(written)
        return cls(pattern, init, text if has_own_words else f"{pattern.text}={init}")

    @classmethod
    def of(cls, pattern: str, init: str, /, **arguments: object) -> Rule:
        """Make a rule from Python: `Rule.of("head.*", "normal", std=0.02)`.

        Args:
            pattern: a pattern over keys.
            init: an initializer, with arguments as in a rule, or without.
            arguments: its arguments by name, instead of those in `init`.

        Raises:
            RuleError: the pattern or an argument is wrong.
            UnknownNameError: no initializer has its name.
        """
        name = init.partition(":")[0]
        bound = REGISTRY[name].bind(arguments) if arguments else parse_init(init)
        return cls(Pattern.parse(pattern), bound, f"{pattern}={bound}")

    @classmethod
    def keeping(cls, pattern: str) -> Rule:
        """Make the rule that leaves alone what a pattern matches."""
        return cls.of(pattern, KEEP)

    @classmethod
    def excluding(cls, pattern: Pattern) -> Rule:
        """Make the rule by which `-x` leaves alone what a pattern matches."""
        kept = cls.keeping(pattern.text)
        return cls(pattern, kept.init, kept.text, is_exclusion=True)

    @property
    def cost(self) -> int:
        """The cost of reading it: that of its pattern."""
        return self.pattern.cost

    def serial(self) -> Mapping[str, object]:
        """Return the rule as a recipe has it: match, init, and the arguments by name.

        A number that is not finite is a text, since JSON has none.
        """
        return {
            "match": self.pattern.text,
            "init": self.init.initializer.name,
            **{
                name: str(value) if isinstance(value, float) and not isfinite(value) else value
                for name, value in self.init.given.items()
            },
        }


def rules_of(rules: Iterable[Rule | str]) -> tuple[Rule, ...]:
    """Read the rules that are given as text.

    Raises:
        RuleError: one of them is wrong.
    """
    return tuple(Rule.parse(rule) if isinstance(rule, str) else rule for rule in rules)


def _split(text: str) -> tuple[str, str]:
    """Split at the first "=" that a known initializer follows, since keys may hold "=".

    Otherwise the first "=" splits that is followed by what can be understood as one, and where
    there is none, the first, so that the error can name what was meant.

    Raises:
        RuleError: there is no "=" between a pattern and an initializer.
    """
    pieces = text.split("=")
    splits = [("=".join(pieces[:at]), "=".join(pieces[at:])) for at in range(1, len(pieces))]
    for pattern, init in splits:
        if init.partition("=")[0].partition(":")[0].strip() in REGISTRY:
            return pattern, init
    if _is_init(text) and text.partition(":")[0].strip() in REGISTRY:
        raise RuleError(text, f"rule {text!r} has no pattern: PATTERN=INIT", kind="pattern")
    meant = _meant_rule(text)
    if meant is not None or not splits:
        problem = f"rule {text!r} needs an '=': PATTERN=INIT"
        raise RuleError(text, problem, () if meant is None else (meant,), kind="rule")
    # A number fills only where nothing else is between it and the pattern, as in a=std=0.02.
    clear = (splits[0], *(each for each in splits[1:_MOST_SPLITS] if not _NUMBER.match(each[1])))
    return next((each for each in clear if _is_init(each[1])), splits[0])


_MOST_SPLITS = 20
"""How many "=" are tried; text from strangers may have many."""

_NUMBER = re.compile(r"\s*[-+.0-9]")

_BREAK = re.compile(r"\s*(?:[-=:]*>|:=|[:,;＝]|\s)\s*")
"""What is written instead of the "=" between a pattern and an initializer."""


def _meant_rule(text: str) -> str | None:
    """Return the rule that is meant where its "=" is missing: `lm_head.weight:normal:std=0.02`."""
    for found in islice(_BREAK.finditer(text.strip()), _MOST_SPLITS):
        pattern, init = text.strip()[: found.start()], text.strip()[found.end() :]
        if "=" in pattern:
            return None
        if pattern and re.match("[a-z]", init.lower()) and _is_init(init):
            return f"{pattern}={init if is_plain(init) else parse_init(init)}"
    return None


def _is_init(text: str) -> bool:
    try:
        parse_init(text)
    except (RuleError, UnknownNameError):
        return False
    return True
