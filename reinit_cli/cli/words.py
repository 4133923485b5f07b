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
    "keys": ("list", "ls", "names", "tensors", "tree", "layers", "params", "parameters"),
    "info": ("inspect", "summary", "summarize", "describe", "explain", "view", "open", "file"),
    "show": ("cat", "print", "head", "dump", "values"),
    "diff": ("compare", "cmp"),
    "verify": ("check", "validate"),
    "stats": ("stat", "hist", "histogram", "plot", "statistics", "measure"),
    "draw": ("sample",),
    "run": (
        *("initialize", "initialise", "reinitialize", "reinitialise", "reinit", "rewrite", "reset"),
        *("fill", "randomize", "randomise", "edit", "modify", "change", "patch"),
    ),
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
    return _means(word, rest) or next(iter(near(word, COMMANDS, 1)), None)


def _means(word: str, rest: Sequence[str]) -> str | None:
    """Return the command that a word stands for."""
    lower = word.lower()
    if lower == "init":  # near "inits", which takes no source
        return DEFAULT if rest else "inits"
    return lower if lower in COMMANDS else _MEANT.get(lower)


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
    return one_line(problem), one_line(_way(word, rest, files, models))


def _may_follow(error: Exception, word: str) -> bool:
    if isinstance(error, InputError):
        error = error.cause
    if isinstance(error, HintedUsageError):
        return False
    if isinstance(error, (UnknownNameError, SourceNotFoundError)):
        return error.about == word
    # An option that this command lacks is perhaps one of the command that was meant.
    return isinstance(error, MissingRuleError) or not isinstance(error, ReinitError)


def _way(word: str, rest: Sequence[str], files: Sequence[str], models: Sequence[str]) -> str:
    """Return what to type instead of a word and what follows it."""
    return (
        _of_program(word)
        or _conversion(word, rest)
        or _file(word, rest, files)
        or _listing(word, rest, files)
        or _rewrite(word, rest, files)
        or _edit(word, rest, files)
        or _command(word, rest)
        or _option(word)
        or _alike(word, rest, files, models)
        or "reinit -h lists the commands, reinit models the models; "
        "write a file as ./NAME, and a model of the Hugging Face Hub as hf://NAME"
    )


def _of_program(word: str) -> str:
    return _did_you_mean(word.lower()) if word.lower() in (HELP, VERSION) else ""


def _conversion(word: str, rest: Sequence[str]) -> str:
    if word.lower() not in _CONVERTS:
        return ""
    typed = list(rest)
    if "-o" not in rest:
        is_plain = len(rest) <= len(_CONVERTED) and not any(each[:1] == "-" for each in rest)
        file, output = [*rest, *_CONVERTED[len(rest) :]] if is_plain else _CONVERTED
        typed = [file, "-o", output]
    return f"to convert a file, name the output: reinit {shlex.join(typed)}"


_CONVERTED = ("FILE", "OUTPUT")


def _file(word: str, rest: Sequence[str], files: Sequence[str]) -> str:
    """Return the command with the file whose name a word is without its suffix."""
    from reinit_cli.operations.ways import without_suffix

    found = without_suffix(word, files)
    if not found or (rest and rest[0] in files):
        return ""
    if found[1:]:
        return f"did you mean {' or '.join(found)}?"
    if rest and rest[0] in COMMANDS:
        return _did_you_mean(rest[0], *found, *rest[1:])
    return _did_you_mean(*found, *rest)


_EDITS = {
    **dict.fromkeys(("drop", "delete", "remove", "rm"), "--drop"),
    **dict.fromkeys(("rename", "mv"), "--rename"),
    "resize": "--resize",
}
"""What one thing that a rewrite does is called, and the option that does it."""


def _edit(word: str, rest: Sequence[str], files: Sequence[str]) -> str:
    """Return the rewrite or the search that a word and its file stand for."""
    if word.lower() in _SEARCHES and len(rest) == 2:
        pattern, file = rest if rest[1] in files else reversed(rest)
        return _did_you_mean("keys", file, f"*{pattern.strip('*')}*") if file in files else ""
    option = _EDITS.get(word.lower())
    if option is None or not rest[1:] or rest[0] not in files or rest[1].startswith("-"):
        return ""
    value, *others = rest[1:]
    if option == "--rename" and "=" not in value and others and not others[0].startswith("-"):
        value = f"{value}={others.pop(0)}"
    return _did_you_mean(rest[0], option, value, *others)


_SEARCHES = ("grep", "find", "search", "filter")


def _listing(word: str, rest: Sequence[str], files: Sequence[str]) -> str:
    """Return the command that lists or explains what is named: list models, describe normal."""
    if not rest and _means(word, rest) is None and _example_of(word.lower()):
        return _did_you_mean("inits", word.lower())
    if not rest or rest[0] in files or _command_for(word, rest) is None:
        return ""
    if rest[0] in COMMANDS:
        return _did_you_mean(*rest)
    return _did_you_mean("inits", *rest) if len(rest) == 1 and _example_of(rest[0]) else ""


def _rewrite(word: str, rest: Sequence[str], files: Sequence[str]) -> str:
    """Return a rewrite with a rule for a word like "initialize", or the name of an initializer."""
    init, meant = _example_of(word.lower()), _means(word, rest)
    if meant not in (DEFAULT, None) or (meant is None and init is None):
        return ""
    if meant == DEFAULT and any(each[:1] == "-" for each in rest):
        return _did_you_mean(DEFAULT, *rest)
    source, *more = rest or ("FILE",)
    pattern, otherwise = "*.weight", "xavier_uniform:relu"
    if more and more[0][:1] != "-" and more[0] not in files:
        pattern, otherwise = more.pop(0), "normal:std=0.02"
        if more and _example_of(more[0]):
            init = more.pop(0)
    return _did_you_mean(source, *more, "-r", f"{pattern}={init or otherwise}")


def _example_of(name: str) -> str | None:
    """Return how an initializer is written with its arguments; None for another word."""
    from reinit_cli.initializers import REGISTRY

    return REGISTRY[name].example if name in REGISTRY else None


def _command(word: str, rest: Sequence[str]) -> str:
    command = _means(word, rest)
    return _did_you_mean(command, *rest) if command is not None else ""


def _option(word: str) -> str:
    """Return the option that a word is the name of."""
    from reinit_cli.cli.usage import option_named

    return option_named(f"--{word.lower()}")


def _alike(word: str, rest: Sequence[str], files: Sequence[str], models: Sequence[str]) -> str:
    """Return what is spelled like a word, which before a file is a command."""
    from reinit_cli.cli.offers import of_timm

    is_command = bool(rest) and rest[0] in files
    found = of_timm(word) or near(word, COMMANDS if is_command else [*COMMANDS, *files, *models])
    if found == [DEFAULT]:
        return _rewrite(DEFAULT, rest, files)
    if len(found) > 1:
        return f"did you mean {' or '.join(found)}?"
    return _did_you_mean(*found, *rest) if found else ""


def _did_you_mean(*words: str) -> str:
    return f"did you mean: reinit {shlex.join(words)}?"
