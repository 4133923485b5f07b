"""Read the first word of a command line: a command, a word for one, or the first source."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from reinit_cli.cli.group import COMMANDS, DEFAULT, HELP, SUMMARY, VERSION
from reinit_cli.cli.help import HintedUsageError
from reinit_cli.errors import (
    InputError,
    MissingRuleError,
    ReinitError,
    SourceNotFoundError,
    UnknownNameError,
)
from reinit_cli.storage.location import DASH
from reinit_cli.text import near, one_line

_SYNONYMS = {
    "keys": ("list", "ls", "names", "tensors", "tree"),
    "info": ("inspect", "summary", "summarize", "describe", "view", "open", "file"),
    "show": ("cat", "print", "head", "dump", "values"),
    "diff": ("compare", "cmp"),
    "verify": ("check", "validate"),
    "stats": ("hist", "histogram", "plot", "statistics", "measure"),
    "draw": ("sample",),
    "run": ("initialize", "initialise", "reset", "fill", "rewrite", "reinit", "reinitialize"),
    "inits": ("initializers", "initialisers", "distributions"),
    "models": ("zoo",),
}
"""What other tools and languages call what the commands do."""

_MEANT = {word: command for command, words in _SYNONYMS.items() for word in words}

_CONVERTS = ("convert", "cast", "copy", "cp", "save", "export", "to")
"""Words for what is not a command, because naming an output does it."""


def with_command(args: Sequence[str]) -> list[str]:
    """Return a command line that names its command, as in `reinit alexnet -r …`.

    Raises:
        HintedUsageError: help is asked for about a command that does not exist.
    """
    if args[0] in (*COMMANDS, "-h", "--help", "--version"):
        return list(args)
    if [*args] == [VERSION]:
        return ["--version"]
    # A source may have that name, but nothing is done with it without an option.
    if args[0] == HELP and not any(each.startswith("-") for each in args):
        return [*_topic(args[1:]), "--help"]
    return [SUMMARY if _names_one_source(args) else DEFAULT, *args]


_DISPLAY = ("--wide", "--no-pager", "--json")
"""The options that change nothing but how a summary looks."""


def _names_one_source(args: Sequence[str]) -> bool:
    """Whether a command line has one source, and no option but those of how it is displayed.

    Any other option may come from a script whose rules came out empty, which is an error.
    """
    words = list(args)
    if "--color" in words[:-1]:
        at = words.index("--color")
        del words[at : at + 2]
    sources = [word for word in words if word == DASH or not word.startswith("-")]
    options = (word for word in words if word not in sources)
    is_display = all(word in _DISPLAY or word.startswith("--color=") for word in options)
    return len(sources) == 1 and is_display


def _topic(words: Sequence[str]) -> list[str]:
    if not words or words[0] in COMMANDS:
        return list(words[:1])
    meant = _command_for(words[0], rest=())
    problem = f"there is no command {words[0]!r}"
    if meant is None:
        raise HintedUsageError(problem, None, "reinit --help lists the commands")
    raise HintedUsageError(problem, None, f"did you mean: reinit help {meant}?")


def _command_for(word: str, rest: Sequence[str]) -> str | None:
    """Return the command that a word stands for, or that is spelled like it."""
    if word == "init":  # near "inits", which takes no source
        return "run" if rest else "inits"
    meant = _MEANT.get(word.lower(), "")
    return meant if meant in COMMANDS else next(iter(near(word, COMMANDS, 1)), None)


def explain_word(error: Exception, args: Sequence[str]) -> tuple[str, str] | None:
    """Return what is wrong with a first word that is nothing known, and the way on.

    Args:
        error: what was refused, which may be about something that follows from the word.
        args: the arguments after the program's name.

    Returns:
        None where the word is a command, a model or a file, or the error is about another thing.
    """
    if not args:
        return None
    word, rest = args[0], args[1:]
    if not re.fullmatch(r"[A-Za-z][\w-]*", word) or word in COMMANDS:
        return None
    if not _may_follow(error, word):
        return None
    from reinit_cli.cli.completion.candidates import paths_starting

    files = [each.rstrip(" /") for each in paths_starting("")]
    from reinit_cli.checkpoints.models.torchvision import model_names

    models = model_names()
    if word in (*files, *models):
        return None
    problem = f"{word!r} is not a command, a file or a torchvision model"
    return one_line(problem), one_line(_way(word, rest, [*COMMANDS, *files, *models]))


def _may_follow(error: Exception, word: str) -> bool:
    if isinstance(error, InputError):
        error = error.cause
    if isinstance(error, HintedUsageError):
        return False
    if isinstance(error, (UnknownNameError, SourceNotFoundError)):
        return error.about == word
    # An option that this command lacks is perhaps one of the command that was meant.
    return isinstance(error, MissingRuleError) or not isinstance(error, ReinitError)


def _way(word: str, rest: Sequence[str], known: Sequence[str]) -> str:
    if word.lower() in _CONVERTS:
        is_whole = len(rest) == len(("FILE", "OUTPUT")) and not any(
            each[:1] == "-" for each in rest
        )
        file, output = rest if is_whole else ("FILE", "OUTPUT")
        typed = shlex.join(["reinit", file, "-o", output])
        return f"to convert a file, name the output: {typed}"
    command = _command_for(word, rest)
    if command is not None and (word.lower() in _MEANT or word == "init"):
        return _corrected([command], rest)
    from reinit_cli.cli.offers import of_timm

    found = of_timm(word) or near(word, known)
    return (
        _corrected(found, rest)
        if found
        else ("reinit -h lists the commands, reinit models the models; write a file as ./NAME")
    )


def _corrected(found: Sequence[str], rest: Sequence[str]) -> str:
    if len(found) > 1:
        return f"did you mean {' or '.join(found)}?"
    return f"did you mean: reinit {shlex.join([*found, *rest])}?"
