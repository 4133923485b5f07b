"""Recognize words of a command line that are in the place of others."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Sequence

import click

from reinit_cli.cli.group import COMMANDS, DEFAULT, HELP, group
from reinit_cli.errors import MissingRuleError, ReinitError
from reinit_cli.lazy import dataclass
from reinit_cli.text import quoted

Explained = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a command line.

    Attributes:
        at: its position.
        text: the word, or the value of an option.
        option: the option whose value it is, or "" for a source.
    """

    at: int
    text: str
    option: str = ""


def behind_pattern(args: Sequence[str]) -> Explained | None:
    """Recognize a command whose source is behind a pattern, or that asks for help.

    Args:
        args: the arguments after the program's name, the first of which is a command.
    """
    if args[1:] == [HELP] and not exists(HELP):
        return f"{HELP!r} comes before the command", f"type: reinit {HELP} {args[0]}"
    words = [at for at, arg in enumerate(args) if at and not arg.startswith("-")]
    if args[0] not in _TAKING_PATTERNS or not words:
        return None
    if not words[1:]:
        pattern = args[words[0]]
        if not re.search(r"[*?\[{]", pattern) or exists(pattern):
            return None
        typed = [*args[: words[0]], "FILE", *args[words[0] :]]
        return f"missing SOURCE before {quoted(pattern)}", f"write it as reinit {shlex.join(typed)}"
    first, second = words[:2]
    if exists(args[first]) or not exists(args[second]):
        return None
    typed = list(args)
    typed[first], typed[second] = args[second], args[first]
    return f"the source comes before {quoted(args[first])}", f"type: reinit {shlex.join(typed)}"


_TAKING_PATTERNS = ("keys", "show", "stats")


def misplaced(args: Sequence[str], words: Iterable[Word], error: ReinitError) -> Explained | None:
    """Recognize sources of a rewrite that are a command, an output, a recipe, or seeds.

    Args:
        args: the arguments after the program's name.
        words: the sources and values of options among them.
        error: what was refused.
    """
    all_words = list(words)
    is_named = args[:1] == [DEFAULT]
    sources = [word for word in all_words if not word.option and not (is_named and word.at == 0)]
    return (
        late_command(args)
        or _record(args, sources)
        or _seeds(all_words)
        or _recipe(args, sources)
        or (_two(sources) if isinstance(error, MissingRuleError) else None)
        or _output(args, all_words, sources)
    )


def late_command(args: Sequence[str]) -> Explained | None:
    """Recognize a command that is not the first word: model.pt keys.

    Args:
        args: the arguments after the program's name.
    """
    for at, word in enumerate(args[1:], 1):
        is_value = args[at - 1].startswith("-") and not _is_flag(args[at - 1])
        if word in (*COMMANDS, HELP) and not is_value and not exists(word):
            rest = [*args[:at], *args[at + 1 :]]
            rest = rest[rest[:1] == [DEFAULT] and word != HELP :]
            if word == HELP and rest[0] not in COMMANDS:
                rest = []
            return (
                f"{word!r} is a command, and comes first",
                f"type: reinit {shlex.join([word, *rest])}",
            )
    return None


def _is_flag(name: str) -> bool:
    """Whether an option of a rewrite takes no value."""
    command = group.get_command(click.Context(group), DEFAULT)
    return any(
        name in each.opts and each.is_flag
        for each in (command.params if command is not None else ())
        if isinstance(each, click.Option)
    )


def file_like_option(args: Sequence[str]) -> Explained | None:
    """Recognize a file whose name begins with a hyphen.

    Args:
        args: the arguments after the program's name.
    """
    for at, word in enumerate(args):
        if word.startswith("-") and word.strip("-") and exists(word):
            typed = [*args[:at], f".{os.sep}{word}", *args[at + 1 :]]
            return f"{quoted(word)} is taken for an option", f"type: reinit {shlex.join(typed)}"
    return None


def _record(args: Sequence[str], sources: Sequence[Word]) -> Explained | None:
    """Recognize the file of a record behind the option that takes none."""
    for word in sources:
        if word.text.endswith(".json") and not exists(word.text):
            before = args[word.at - 1] if word.at else ""
            if before == "--record":
                problem = f"--record takes no file, such as {quoted(word.text)}"
                return problem, f"write it as --record-to {shlex.quote(word.text)}"
    return None


def _seeds(words: Sequence[Word]) -> Explained | None:
    """Recognize seeds that are words of their own: -s 0 3 7, or -s {0..4} that was expanded."""
    for at, word in enumerate(words):
        if word.option not in {"-s", "--seed"}:
            continue
        seeds = [word.text]
        for each in words[at + 1 :]:
            if each.option or not each.text.isdecimal() or exists(each.text):
                break
            seeds.append(each.text)
        if seeds[1:]:
            return "several seeds are one word", f"write them as -s {','.join(seeds)}"
    return None


def _recipe(args: Sequence[str], sources: Sequence[Word]) -> Explained | None:
    """Recognize a recipe among sources."""
    for word in sources:
        if word.text.endswith(".toml") and exists(word.text) and sources[1:]:
            typed = [*args[: word.at], "-c", *args[word.at :]]
            problem = f"{quoted(word.text)} is a recipe, and needs -c before it"
            return problem, f"type: reinit {shlex.join(typed)}"
    return None


def _two(sources: Sequence[Word]) -> Explained | None:
    """Recognize a pattern, or a second file, where nothing was asked for."""
    if len(sources) != len(("one", "other")):
        return None
    names = [word.text for word in sources]
    missing = [name for name in names if not exists(name)]
    if len(missing) == 1:
        there = next(name for name in names if name not in missing)
        return f"no such file: {missing[0]!r}", (
            f"if it is a pattern, type: reinit keys {shlex.join((there, *missing))}"
        )
    if missing or names[0] == names[1]:
        return None
    problem = "no rule was given, so there is nothing to do"
    return problem, f"to compare them, type: reinit diff {shlex.join(names)}"


def _output(
    args: Sequence[str], words: Sequence[Word], sources: Sequence[Word]
) -> Explained | None:
    """Recognize an output that follows its source, as with cp."""
    from reinit_cli.checkpoints.formats import SUFFIXES

    if len(sources) != len(("source", "output")) or any(
        word.option in {"-o", "--output"} for word in words
    ):
        return None
    source, output = sources
    if not exists(source.text) or exists(output.text):
        return None
    if not output.text.endswith((*SUFFIXES, os.sep)):
        return None
    typed = [*args[: output.at], "-o", *args[output.at :]]
    return (
        f"no such file: {output.text!r}",
        f"if it is the output, type: reinit {shlex.join(typed)}",
    )


def exists(name: str) -> bool:
    """Whether a word names a file, a folder or a model of torchvision."""
    from reinit_cli.checkpoints.models.torchvision import model_names
    from reinit_cli.cli.completion.candidates import paths_starting

    path = name.rstrip(os.sep)
    if name and os.path.basename(path) in {"", os.curdir, os.pardir}:
        return True
    return path in (each.rstrip(" /") for each in paths_starting(path)) or name in model_names()
