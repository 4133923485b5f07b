"""Read rules, such as "features.*.weight=xavier_uniform:relu"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite

from reinit_cli.errors import RuleError
from reinit_cli.initializers import REGISTRY, Init, parse_init
from reinit_cli.initializers.declaration import KEEP
from reinit_cli.request.pattern import Pattern


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern and what the tensors it matches are filled with.

    Attributes:
        pattern: which keys.
        init: the initializer with its arguments.
        text: the rule as it was written.
    """

    pattern: Pattern
    init: Init
    text: str

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read "PATTERN=INIT[:ARGS]".

        Raises:
            RuleError: there is no "=", or the pattern or an argument is wrong.
            UnknownNameError: no initializer has its name.
        """
        pattern, init = _split(text)
        return cls(Pattern.parse(pattern), parse_init(init), text)

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

    Where none is known, the first "=" splits, so that the error can name what was meant.
    """
    pieces = text.split("=")
    if len(pieces) == 1:
        raise RuleError(text, f"rule {text!r} has no '='; a rule is PATTERN=INIT[:ARGS]")
    for at in range(1, len(pieces)):
        name = pieces[at].partition(":")[0].strip()
        if name in REGISTRY:
            return "=".join(pieces[:at]), "=".join(pieces[at:])
    return pieces[0], "=".join(pieces[1:])
