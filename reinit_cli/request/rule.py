"""Read rules, such as "features.*.weight=xavier_uniform:relu"."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from functools import partial
from itertools import islice
from math import isfinite
from typing import TypeAlias

from reinit_cli.errors import ArgumentError, PatternError, RuleError, UnknownNameError
from reinit_cli.initializers import REGISTRY, Init, parse_init
from reinit_cli.initializers.arguments import is_plain
from reinit_cli.initializers.declaration import KEEP
from reinit_cli.lazy import dataclass
from reinit_cli.request.kind import end_of_kinds, split_kinds
from reinit_cli.request.part import Part, equals_in_parts, parted
from reinit_cli.request.pattern import Pattern
from reinit_cli.text import kind_of, plain, quoted, shortened


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Rule:
    """A pattern and the initializer that fills the tensors whose keys it matches.

    >>> Rule("fc.*", "normal:std=0.02")
    Rule.parse('fc.*=normal:std=0.02')

    Attributes:
        pattern: which keys.
        init: the initializer with its arguments.
        text: the rule as it was written, or in the usual form if it was written in another.
        is_exclusion: whether it comes from `-x`.
        part: the part of each tensor that it is for; None for all of it.
    """

    pattern: Pattern
    init: Init
    text: str
    is_exclusion: bool = field(default=False, compare=False)
    part: Part | None = None

    def __init__(
        self,
        pattern: Pattern | str,
        init: AnyInit,
        text: str | None = None,
        *,
        is_exclusion: bool = False,
        part: Part | None = None,
    ) -> None:
        """Make a rule from a pattern and an initializer.

        Args:
            pattern: a pattern over keys; a text may end with a part, such as "fc.weight[:4]".
            init: an initializer, with or without arguments, as in a rule; or a function of
                `torch.nn.init`, alone or in a `functools.partial` with its arguments.
            text: the rule as it was written; None to generate it.
            is_exclusion: whether it comes from `-x`.
            part: the part of each tensor that it is for, where the pattern does not say it.

        Raises:
            RuleError: the pattern or an argument is wrong.
            UnknownNameError: the initializer is unknown.
            TypeError: an argument has the wrong type.
        """
        if isinstance(pattern, str):
            asked, part = parted(pattern.strip())
            pattern = _pattern(asked)
        filled = _init_of(init)
        _need("the pattern of a rule", pattern, Pattern, "a text such as 'fc.*'")
        object.__setattr__(self, "pattern", pattern)
        object.__setattr__(self, "part", part)
        object.__setattr__(self, "init", filled)
        written = init if isinstance(init, str) and is_plain(init) else str(filled)
        object.__setattr__(self, "text", f"{self.match}={written}" if text is None else text)
        object.__setattr__(self, "is_exclusion", is_exclusion)

    def __repr__(self) -> str:
        """Show it as it was written."""
        return f"Rule.parse({shortened(self.text)!r})"

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read "PATTERN=INIT[:ARGS]".

        Spaces around the pattern are ignored; write `[ ]` for one that counts.

        Raises:
            RuleError: the "=" is missing, or the pattern or an argument is wrong.
            UnknownNameError: the initializer is unknown.
        """
        text = _unquoted(text)
        asked, written = _split(text)
        if not written.strip():
            problem = f"rule {quoted(text)} has no initializer: PATTERN=INIT"
            raise RuleError(asked.strip(), problem, kind="rule")
        if not asked.strip():
            problem = f"rule {quoted(text)} has no pattern: PATTERN=INIT"
            raise RuleError(written.strip(), problem, kind="pattern")
        keys, part = parted(asked.strip())
        pattern = _pattern(keys)
        match = pattern.text + (part.written if part else "")
        try:
            init = parse_init(written)
        except ArgumentError as error:
            error.of = match
            raise
        has_own_words = asked == match and is_plain(written)
        return cls(pattern, init, text if has_own_words else f"{match}={init}", part=part)

    @classmethod
    def of(cls, pattern: str, init: str, /, **arguments: object) -> Rule:
        """Make a rule from an initializer and its arguments by name.

        >>> Rule.of("fc.weight", "kaiming_normal", mode="fan_out", nonlinearity="relu")
        Rule.parse('fc.weight=kaiming_normal:mode=fan_out,nonlinearity=relu')

        Args:
            pattern: a pattern over keys.
            init: an initializer, with or without arguments, as in a rule.
            arguments: its arguments by name, instead of those in `init`.

        Raises:
            RuleError: the pattern or an argument is wrong.
            UnknownNameError: the initializer is unknown.
        """
        name = init.partition(":")[0]
        return cls(pattern, REGISTRY[name].bind(arguments) if arguments else parse_init(init))

    @property
    def match(self) -> str:
        """What it is for, as a recipe has it: a pattern, and the part of each tensor."""
        return self.pattern.text + (self.part.written if self.part else "")

    @property
    def mask(self) -> str:
        """The checkpoint that says which elements of tensors it is for, or ""."""
        return self.part.mask if self.part is not None else ""

    @property
    def reads(self) -> tuple[str, ...]:
        """The checkpoints that it names."""
        return (*self.init.checkpoints, *filter(None, (self.mask,)))

    @classmethod
    def keeping(cls, pattern: str) -> Rule:
        """Make a rule that leaves matching tensors unchanged."""
        return cls.of(pattern, KEEP)

    @classmethod
    def excluding(cls, pattern: str) -> Rule:
        """Make the rule by which `-x` leaves alone what a pattern matches."""
        return cls(pattern, KEEP, is_exclusion=True)

    @property
    def cost(self) -> int:
        """The cost of reading its pattern."""
        return self.pattern.cost

    def serial(self) -> Mapping[str, object]:
        """Return the rule as a recipe has it: match, init, and the arguments by name.

        A number that is not finite is a text, since JSON has none.
        """
        return {
            "match": self.match,
            "init": self.init.initializer.name,
            **{
                name: str(value) if isinstance(value, float) and not isfinite(value) else value
                for name, value in self.init.given.items()
            },
        }


AnyInit: TypeAlias = Init | str | Callable[..., object]
"""An initializer, a text such as "normal:std=0.02", or a function of `torch.nn.init`."""

AnyRule: TypeAlias = Rule | str | tuple[Pattern | str, AnyInit]
"""A rule, a text such as "fc.*=zeros", or a pattern and an initializer."""

Rules: TypeAlias = Rule | str | Mapping[str, AnyInit] | Sequence[AnyRule] | Iterator[AnyRule]
"""One rule or several: in a list, or as a dictionary of patterns and initializers.

A dictionary of anything is an iterable of its keys, which a type checker would let pass.
"""

_RULES = "'fc.*=zeros', {'fc.*': 'zeros'}, [('fc.*', 'zeros')], or a list of rules and texts"


def rules_of(rules: Rules) -> tuple[Rule, ...]:
    """Read rules, however they are given.

    Raises:
        RuleError: one of them is wrong.
        UnknownNameError: no initializer has the name that one of them says.
        TypeError: they are something else.
    """
    if isinstance(rules, Rule | str):
        return (_rule(rules),)
    if isinstance(rules, Mapping):
        return tuple(Rule(pattern, init) for pattern, init in rules.items())
    if not isinstance(rules, Iterable):
        raise TypeError(f"rules must be such as {_RULES}, not {kind_of(rules)}")
    return tuple(map(_rule, rules))


def _rule(rule: AnyRule) -> Rule:
    if isinstance(rule, Rule):
        return rule
    if isinstance(rule, str):
        return Rule.parse(rule)
    if isinstance(rule, tuple | list) and len(rule) == 2:
        return Rule(*rule)
    raise TypeError(
        f"a rule must be a text such as 'fc.*=zeros', a pair of a pattern and an initializer, "
        f"or a Rule, not {kind_of(rule)}"
    )


def _pattern(text: str) -> Pattern:
    """Read the pattern of a rule, of which errors say how rows of a tensor are written.

    Raises:
        PatternError: it is not a valid pattern.
    """
    try:
        return Pattern.parse(text)
    except PatternError as error:
        error.kind = "rule"
        raise


def _init_of(given: AnyInit) -> Init:
    """Read an initializer, however it is given.

    Raises:
        TypeError: it is not one.
    """
    if isinstance(given, Init):
        return given
    if isinstance(given, str):
        return parse_init(given)
    function, arguments = (
        (given.func, given.keywords)
        if isinstance(given, partial) and not given.args
        else (given, {})
    )
    name = getattr(function, "__name__", "")
    if getattr(function, "__module__", "") == "torch.nn.init" and name in REGISTRY:
        return REGISTRY[name].bind(arguments)
    taken = "a text such as 'normal:std=0.02', or a function of torch.nn.init"
    raise TypeError(f"the initializer of a rule must be {taken}, not {kind_of(given)}")


def _need(what: str, given: object, kind: type, taken: str) -> None:
    """Refuse a value of another type.

    Raises:
        TypeError: it is one.
    """
    if not isinstance(given, kind):
        raise TypeError(f"{what} must be {taken}, not {kind_of(given)}")


def _unquoted(text: str) -> str:
    """Return a rule without the quotes around the whole of it, which a shell has not removed."""
    inside = text.strip()[1:-1]
    around = plain(text.strip()[:1] + text.strip()[-1:])
    return inside if around in {"''", '""', "``"} and not set(plain(inside)) & {*"'\""} else text


def _split(text: str) -> tuple[str, str]:
    """Split at the first "=" that a known initializer follows, since keys may hold "=".

    Otherwise the first "=" splits that is followed by what can be understood as one, and where
    there is none, the first, so that the error can name what was meant.

    Raises:
        RuleError: there is no "=" between a pattern and an initializer.
    """
    inside = set(equals_in_parts(text))
    places = [at for at, sign in enumerate(text) if sign == "=" and at not in inside]
    splits = [(text[:at], text[at + 1 :]) for at in places]
    for pattern, init in splits:
        if init.partition("=")[0].partition(":")[0].strip() in REGISTRY:
            return pattern, init
    at = end_of_kinds(text)
    if at is not None:
        return text[:at], text[at + 1 :]
    if split_kinds(text)[1] is not None and not _is_init(text.partition("=")[2]):
        problem = f"rule {quoted(text)} needs an '=': PATTERN=INIT"
        raise RuleError(text, problem, kind="rule")
    if _is_init(text) and text.partition(":")[0].strip() in REGISTRY:
        raise RuleError(text, f"rule {quoted(text)} has no pattern: PATTERN=INIT", kind="pattern")
    meant = _meant_rule(text)
    if meant is not None or not splits:
        problem = f"rule {quoted(text)} needs an '=': PATTERN=INIT"
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
