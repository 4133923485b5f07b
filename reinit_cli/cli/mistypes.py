"""Recognize what a shell, a word processor or haste made of a command line."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from itertools import takewhile

import click

from reinit_cli.cli.group import COMMANDS, DEFAULT, group
from reinit_cli.cli.misplaced import Explained, Word, behind_pattern, misplaced
from reinit_cli.errors import ArgumentError, ReinitError, RuleError, UnknownNameError
from reinit_cli.text import plain

_RULE = ("-r", "--rule")


def mistyped(args: Sequence[str], error: ReinitError) -> Explained | None:
    """Return what is wrong with the words of a command that failed, and what to type.

    Args:
        args: the arguments after the program's name.
        error: what was refused.
    """
    if args and args[0] in COMMANDS and args[0] != DEFAULT:
        return behind_pattern(args)
    words = list(_words(args))
    if isinstance(error, ArgumentError):
        return _several_rules(args, words)
    return (
        _several_rules(args, words)
        or _dash(args, words)
        or _quotes_left_out(words)
        or _without_r(args, words)
        or misplaced(args, words, error)
    )


def _words(args: Sequence[str]) -> Iterator[Word]:
    """Yield sources and the values of options."""
    takes_value = _options_with_values()
    at, has_options = 0, True
    while at < len(args):
        arg = args[at]
        name, equals, value = arg.partition("=")
        short = arg[:2]
        if has_options and arg == "--":
            has_options = False
        elif has_options and name in takes_value and (equals or len(arg) > len(short)):
            yield Word(at, value if equals else "".join(args[at + 1 : at + 2]), name)
            at += not equals
        elif has_options and not arg.startswith("--") and short in takes_value:
            yield Word(at, arg[2:] or "".join(args[at + 1 : at + 2]), short)
            at += not arg[2:]
        elif not (has_options and arg.startswith("-") and arg != "-"):
            yield Word(at, arg)
        at += 1


def _options_with_values() -> set[str]:
    command = group.get_command(click.Context(group), DEFAULT)
    return {
        name
        for parameter in (command.params if command is not None else ())
        if parameter.param_type_name == "option" and not getattr(parameter, "is_flag", False)
        for name in parameter.opts
    }


def _dash(args: Sequence[str], words: Sequence[Word]) -> Explained | None:
    """Recognize the long dash that a word processor makes of hyphens."""
    for word in words:
        if not word.option and word.text[:1] not in {"", "-"} and plain(word.text)[:1] == "-":
            bare = plain(word.text).lstrip("-")
            option = f"--{bare}" if len(bare.partition("=")[0]) > 1 else f"-{bare}"
            typed = shlex.join([*args[: word.at], option, *args[word.at + 1 :]])
            return f"{word.text!r} begins with a dash, not with a hyphen", f"type: reinit {typed}"
    return None


def _quotes_left_out(words: Sequence[Word]) -> Explained | None:
    """Recognize a rule that the shell has split at spaces, or expanded at braces."""
    for at, word in enumerate(words):
        if word.option not in _RULE:
            continue
        rest = [each.text for each in _following(words, at)]
        expanded = [word.text, *(each for each in rest if _is_rule(each))]
        if _brackets(word.text) > 0:  # w[:, and then :3]=zeros
            rest = list(takewhile(lambda each: _brackets(each) < 0 or not _is_rule(each), rest))
        elif word.text and expanded[1:]:
            braces = _in_braces(expanded)
            if braces is not None:
                return "the shell expanded the braces of a rule", f"quote it: -r {braces}"
            continue
        for count in range(len(rest), 0, -1):
            joined = _rule_of(" ".join([word.text, *rest[:count]]))
            if joined is not None:
                return "the shell split a rule at its spaces", f"quote it: -r {shlex.quote(joined)}"
    return None


def _several_rules(args: Sequence[str], words: Sequence[Word]) -> Explained | None:
    """Recognize several rules in one value."""
    for word in words:
        rules = _rules_in(word.text) if word.option in _RULE else []
        if rules:
            given = [part for rule in rules for part in ("-r", rule)]
            width = 2 if args[word.at] in _RULE else 1
            typed = shlex.join([*args[: word.at], *given, *args[word.at + width :]])
            problem = f"{word.text!r} holds {len(rules)} rules, and -r takes one"
            return problem, f"type: reinit {typed}"
    return None


def _rules_in(text: str) -> list[str]:
    """Return the rules that are separated by commas, semicolons or spaces; [] for one rule."""
    breaks = [found for found in _BREAK.finditer(text) if _RULE_START.match(text, found.end())]
    starts = (0, *(found.end() for found in breaks))
    ends = (*(found.start() for found in breaks), len(text))
    rules = [text[start:end] for start, end in zip(starts, ends, strict=True)]
    return rules if 1 < len(rules) <= _MOST_PIECES and all(map(_is_rule, rules)) else []


_BREAK = re.compile(r"\s*[,;\s]\s*")
_RULE_START = re.compile(r"[^=,;\s]+=[A-Za-z]")


def _brackets(text: str) -> int:
    """Return how many more brackets are opened than closed."""
    return text.count("[") - text.count("]")


def _following(words: Sequence[Word], at: int) -> Iterator[Word]:
    """Yield the sources that follow a value immediately, and are no paths."""
    for word in words[at + 1 : at + 1 + _MOST_PIECES]:
        if word.option or os.sep in word.text:
            return
        yield word


_MOST_PIECES = 20


def _in_braces(rules: Sequence[str]) -> str | None:
    """Return the rule with braces that a shell expands to some, or None."""
    start = re.sub(r"\w+$", "", os.path.commonprefix(list(rules)))  # noqa: RUF071 (characters)
    reversed_rules = [rule[len(start) :][::-1] for rule in rules]
    end = re.sub(r"^\w+", "", os.path.commonprefix(reversed_rules)[::-1])  # noqa: RUF071
    middles = [rule[len(start) : len(rule) - len(end)] for rule in rules]
    if "=" not in end or any("=" in middle for middle in middles):
        return None
    numbers = [int(each) for each in middles if each.isdecimal() and each.isascii()]
    is_range = len(numbers) == len(middles) > len("..") and numbers == list(
        range(numbers[0], numbers[0] + len(numbers))
    )
    inside = f"{numbers[0]}..{numbers[-1]}" if is_range else ",".join(middles)
    return shlex.quote(f"{start}{{{inside}}}{end}")


def _without_r(args: Sequence[str], words: Sequence[Word]) -> Explained | None:
    """Recognize a rule in the place of a source."""
    rules = [word for word in words if not word.option and _is_rule(word.text)]
    if not rules:
        return None
    positions = {word.at for word in rules}
    meant = [
        part
        for at, arg in enumerate(args)
        for part in (("-r", _rule_of(arg) or arg) if at in positions else (arg,))
    ]
    problem = f"{rules[0].text!r} is a rule, and needs -r before it"
    return problem, f"type: reinit {shlex.join(meant)}"


def _is_rule(text: str) -> bool:
    """Whether a word is a whole rule, and not the arguments of one: std=0.02."""
    from reinit_cli.initializers import REGISTRY

    arguments = {each.name for declared in REGISTRY for each in declared.all_parameters}
    is_argument = text.partition("=")[0].strip() in arguments
    return os.sep not in text and not is_argument and _rule_of(text) is not None


def _rule_of(text: str) -> str | None:
    """Return the rule that a text is, or is meant to be; None where it is none."""
    from reinit_cli.request.rule import Rule

    try:
        Rule.parse(text)
    except RuleError as error:
        return error.known[0] if error.kind == "rule" and error.known else None
    except UnknownNameError:
        return None
    pattern, _, init = text.partition("=")
    return f"{pattern.strip()}={init.strip()}"


def concerns_words(error: ReinitError) -> bool:
    """Whether an error may come from words that are not what they seem."""
    from reinit_cli import errors

    cause = error.cause if isinstance(error, errors.InputError) else error
    is_name = isinstance(cause, UnknownNameError) and cause.kind in {"model", "initializer"}
    families = (
        *(errors.MissingRuleError, errors.UnmatchedRuleError, errors.SourceNotFoundError),
        ArgumentError,
    )
    is_rule = isinstance(cause, RuleError) and cause.kind in {"rule", "pattern"}
    return is_name or is_rule or isinstance(cause, families)
