"""Say what is wrong with the options of a command line, and what to type instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher

import click

from reinit_cli.cli.group import COMMANDS, DEFAULT, group
from reinit_cli.cli.help import Command, HintedUsageError, Option, names_of
from reinit_cli.initializers.synonyms import initializers_offered
from reinit_cli.text import listed, near, one_line

_DESTRUCTIVE = {"--force", "--in-place"}
"""Options that replace files, which nobody should add because a hint says so."""

_CHOOSING = ("--include", "--filter", "--grep", "--match", "--pattern", "--select")

_MEANT: dict[str, tuple[str, ...]] = {
    "--pretrained": ("--weights DEFAULT",),
    "--no-pretrained": ("--weights none",),
    "--format": ("--json", "a suffix of -o"),
    "--tsv": ("a pipe, where tables are separated by tabs",),
    "-O": ("-o",),
    "-R": ("-r",),
    **dict.fromkeys(("--version", "-V"), ("reinit --version",)),
    **dict.fromkeys(("--outfile", "--out-file"), ("--output",)),
    **dict.fromkeys(("--outdir", "--out-dir"), ("--output, with a folder",)),
    **dict.fromkeys(("--half", "--fp16"), ("--dtype float16",)),
    "--bf16": ("--dtype bfloat16",),
    "--fp32": ("--dtype float32",),
    "--precision": ("--dtype",),
    **dict.fromkeys(("--cuda", "--gpu"), ("--device cuda",)),
    "--cpu": ("--device cpu",),
    "--mps": ("--device mps",),
    "--no-clobber": ("--skip-existing",),
    **dict.fromkeys(("--simulate", "--what-if", "--preview"), ("--dry-run",)),
    "--silent": ("--quiet",),
    "--brief": ("--quiet", "--stat"),
    "--debug": ("--verbose",),
    "--no-color": ("--color never",),
    "--seeds": ("--seed",),
    "--rules": ("--rule",),
    "--dtypes": ("--dtype",),
    "--ema": ("--root",),
    "--jsonl": ("--json",),
    **dict.fromkeys(("-n", "--limit", "--first", "--top", "--lines", "--max"), ("--head",)),
    "--tail": ("--head with --reverse",),
    **dict.fromkeys(("--skip", "--ignore", "--freeze"), ("--exclude",)),
    "--keep": ("--exclude or --only",),
    **dict.fromkeys(_CHOOSING, ("--rule PATTERN=INIT", "--only")),
    "--init": ("--rule PATTERN=INIT",),
}
"""What options are called that other tools have."""

_ARGUMENTS = {
    **dict.fromkeys(("-i", "--input", "--in", "--file", "--model", "--source"), "SOURCE"),
    **dict.fromkeys(_CHOOSING, "PATTERN"),
    "--init": "INIT",
    **dict.fromkeys(("--shape", "--size"), "SHAPE"),
}
"""Options that other tools have for what is an argument here."""


def explain_usage(error: click.ClickException, args: Sequence[str]) -> tuple[str, str | None]:
    """Return what an error in the options says, and the way on.

    Args:
        error: what click found.
        args: the arguments after the program's name.
    """
    command = _command_of(args)
    message = " ".join(error.format_message().split())
    problem = message[:1].lower() + message[1:].removesuffix(".")
    hint = f"reinit {command.name} {_help_with(error)} shows how"
    if isinstance(error, HintedUsageError):
        hint = error.hint
    elif isinstance(error, click.NoSuchOption) and (words := _words_instead(command, args)):
        problem, hint = words
    elif isinstance(error, click.NoSuchOption):
        problem = f"there is no option {error.option_name}"
        hint = _option_instead(error.option_name, command, args)
    elif isinstance(error, click.BadParameter) and error.param and error.param.name == "to":
        hint = "the suffix of -o chooses another format, such as -o new.safetensors or -o new.pt"
    elif isinstance(error, click.BadOptionUsage):
        hint = _with_value(error.option_name, command) or hint
    elif isinstance(error, click.MissingParameter):
        missing = error.param or next(iter(_arguments(command)))
        problem, hint = _missing(missing, command)
    return one_line(problem), one_line(hint)


def _help_with(error: click.ClickException) -> str:
    """Return the help that has the option that an error is about: short help has few."""
    about = getattr(error, "param", None)
    return "--help" if isinstance(about, Option) and about.brief is None else "-h"


def _words_instead(command: Command, args: Sequence[str]) -> tuple[str, str] | None:
    """Recognize a file like an option, and options of a command that is not the first word."""
    from reinit_cli.cli.misplaced import file_like_option, late_command

    late = late_command(args) if command.name == DEFAULT else None
    return late or file_like_option(args)


def _command_of(args: Sequence[str]) -> Command:
    name = args[0] if args and args[0] in COMMANDS else DEFAULT
    return _command(name)


def _command(name: str) -> Command:
    found = group.get_command(click.Context(group), name)
    assert isinstance(found, Command)
    return found


def _option_instead(typed: str, command: Command, args: Sequence[str]) -> str:
    """Return the option that was perhaps meant, or where the options are listed."""
    is_negation = typed.startswith("--no-")
    names = _negations(command) if is_negation else _long_names(command)
    meant = [each for each in _MEANT.get(typed, ()) if _has_options(command, each)]
    if meant:
        return f"did you mean {' or '.join(meant)}?"
    usage = _usage(command)
    if (argument := _ARGUMENTS.get(typed)) and re.search(rf"\b{argument}\b", usage):
        return f"{argument} needs no option: {usage}"
    argument_of = f"{typed.removeprefix('--')}={_value_of(typed, args)}"
    if command.name in (DEFAULT, "draw") and (inits := initializers_offered(argument_of)):
        return f"arguments follow their initializer: {inits[0]}"
    if of_others := option_named(typed):
        return of_others
    found = _spelled_like(typed.removeprefix("--"), names) if typed.startswith("--") else []
    if found:
        return f"did you mean {' or '.join(names[name] for name in found)}?"
    return f"reinit {command.name} --help lists the options"


def _value_of(typed: str, args: Sequence[str]) -> str:
    """Return what was typed as the value of an option that does not exist, or what stands for it."""
    for arg, following in zip(args, (*args[1:], ""), strict=True):
        if arg.startswith(f"{typed}="):
            return arg.removeprefix(f"{typed}=")
        if arg == typed and following[:1] not in ("", "-"):
            return following
    return "VALUE"


def _has_options(command: Command, text: str) -> bool:
    """Whether a command has the options that a text names, or the program has them."""
    names = re.findall(r"(?:^|(?<= ))--?\w[\w-]*", text)
    return text.startswith("reinit ") or _every_name(command).issuperset(names)


def option_named(name: str) -> str:
    """Return a hint with the commands that have an option; "" where none does."""
    commands = [each for each in COMMANDS if name in _every_name(_command(each))]
    return f"{name} is an option of reinit {listed(commands)}" if commands else ""


def _spelled_like(typed: str, names: Iterable[str]) -> list[str]:
    """Return the names that a word begins, or those that it nearly is."""
    begun = [name for name in names if name.startswith(typed)]
    if begun and typed:
        return begun[:_MOST_OFFERED]
    return [
        name for name in near(typed, names) if SequenceMatcher(None, name, typed).ratio() > _NEAR
    ]


_MOST_OFFERED = 3
_NEAR = 0.7
"""What words must have in common; those of options are short, and so are often half alike."""


def _long_names(command: Command) -> dict[str, str]:
    """Return the names that may be offered, by what is compared with a word that is not one."""
    shown = {
        name: name
        for name in _long(name for each in command.shown_options for name in names_of(each))
    }
    known = {**command.former_names(), **shown}
    offered = {
        name.removeprefix("--"): present
        for name, present in known.items()
        if present not in _DESTRUCTIVE and not name.startswith("--no-")
    }
    # It belongs to no command, and so to a line without one.
    return offered | ({"version": "reinit --version"} if command.name == DEFAULT else {})


def _negations(command: Command) -> dict[str, str]:
    """Return the names that unset an option, which alone may be offered for a word like them."""
    names = _long(name for each in command.params for name in (*each.opts, *each.secondary_opts))
    return {name.removeprefix("--"): name for name in names if name.startswith("--no-")}


def _long(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith("--")]


def _every_name(command: Command) -> set[str]:
    return {name for each in command.shown_options for name in names_of(each)}


def _with_value(typed: str, command: Command) -> str | None:
    """Return how an option is written that lacks its value."""
    context = click.Context(command)
    for each in command.shown_options:
        if typed in each.opts and not each.is_flag:
            return f"write it as {typed} {each.make_metavar(context)}"
    return None


def _arguments(command: Command) -> list[click.Argument]:
    return [each for each in command.params if isinstance(each, click.Argument)]


def _missing(argument: click.Parameter, command: Command) -> tuple[str, str]:
    """Return which argument is missing, and how the command is called."""
    if isinstance(argument.type, click.Choice):
        *first, last = argument.type.choices
        named = f"{', '.join(first)} or {last}"
        return (
            f"missing {argument.name}: {named}",
            f"reinit {command.name} {argument.type.choices[0]}",
        )
    missing = argument.make_metavar(_context(command))
    return f"missing {missing}", f"write it as {_usage(command)}"


def _usage(command: Command) -> str:
    return command.usage_line(_context(command)).removeprefix("Usage: ")


def _context(command: Command) -> click.Context:
    return click.Context(command, info_name=f"reinit {command.name}")
