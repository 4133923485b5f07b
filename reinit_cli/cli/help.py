"""Declare options under headings, and print them: short with -h, long with --help."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

import click

from reinit_cli.cli.render.manual import (
    WIDEST,
    Entry,
    Section,
    columns,
    heading,
    page_width,
    paragraph,
    print_page,
    section,
)

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])

OPTIONS = "Options"
"""The heading of options that name none."""

_MOST_EXAMPLES = 2
"""Examples in short help."""


class HintedUsageError(click.UsageError):
    """A command line that is wrong, where the way on is known."""

    def __init__(self, message: str, ctx: click.Context | None, hint: str) -> None:
        super().__init__(message, ctx)
        self.hint = hint


class Option(click.Option):
    """An option that says where help shows it.

    Attributes:
        heading: the section of --help that explains it.
        brief: its text in -h, or None to leave it out there. One that begins with "|" goes on
            the line of the option before it.
        was: what it was called before; still understood, and shown nowhere. A name may stand
            for a name with a value: {"--no-weights": "--weights=none"}.
        shows: which of the names that turn it on and off help shows.
    """

    def __init__(
        self,
        param_decls: Sequence[str] | None = None,
        *,
        heading: str = OPTIONS,
        brief: str | None = None,
        was: Sequence[str] | Mapping[str, str] = (),
        shows: Literal["on", "off", "both"] = "on",
        **attrs: Any,
    ) -> None:
        super().__init__(param_decls, **attrs)
        self.help = attrs.get("help")  # click would take the indent of tables in it away
        self.heading = heading
        self.brief = brief
        self.was = dict(was) if isinstance(was, Mapping) else dict(self._renamed(was))
        self.shows = shows

    def _renamed(self, was: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield each former name with the present one, and those that turn it off likewise."""
        for name in was:
            yield name, self.opts[-1]
            if self.secondary_opts:
                yield name.replace("--", "--no-", 1), self.secondary_opts[-1]


class Argument(click.Argument):
    """An argument that help explains."""

    def __init__(self, *args: Any, help: str = "", **attrs: Any) -> None:  # noqa: A002 (as of options)
        super().__init__(*args, **attrs)
        self.help = help


def option(
    *names: str, cls: type[Option] = Option, **attrs: Any
) -> Callable[[_Decorated], _Decorated]:
    """Declare an option of a command: those of `Option`, and click's own attributes."""
    return click.option(*names, cls=cls, **attrs)


def argument(name: str, **attrs: Any) -> Callable[[_Decorated], _Decorated]:
    """Declare an argument of a command, which `help` explains."""
    return click.argument(name, cls=Argument, **attrs)


class Command(click.Command):
    """A command with short and long help, whose options may have former names.

    Its docstring has a sentence, paragraphs, and examples as the last block that click
    leaves unwrapped.

    Attributes:
        usage: how it is called, where that is not to be made from its parameters.
        tip: the last line of short help.
        headings: the sections of long help in their order, if that is not the order of options.
    """

    def __init__(
        self,
        *args: Any,
        usage: str = "",
        tip: str = "",
        headings: Sequence[str] = (),
        **attrs: Any,
    ) -> None:
        attrs["add_help_option"] = False
        super().__init__(*args, **attrs)
        self.params = [*self.params, *_help_options()]
        self.usage = usage
        self.tip = tip
        self.headings = headings

    @property
    def shown_options(self) -> list[click.Option]:
        """The options that help shows."""
        return [each for each in self.params if isinstance(each, click.Option) and not each.hidden]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words, those of former names included.

        Raises:
            click.UsageError: they do not fit.
        """
        ctx.allow_extra_args = True
        extra = super().parse_args(ctx, list(self.in_present_names(ctx, args)))
        if extra and not ctx.resilient_parsing:
            self.refuse_extra(ctx, extra)
        return extra

    def refuse_extra(self, ctx: click.Context, extra: Sequence[str]) -> None:
        """Refuse words that no argument takes.

        Raises:
            click.UsageError: always.
        """
        usage = self.usage_line(ctx).removeprefix("Usage: ")
        raise HintedUsageError(f"unexpected argument {extra[0]!r}", ctx, f"write it as {usage}")

    def in_present_names(self, ctx: click.Context, args: Sequence[str]) -> Iterator[str]:
        """Yield the words of a command line with the present names of its options.

        Raises:
            HintedUsageError: a long option has one dash, and would be read as short ones.
        """
        former = self.former_names()
        is_value = False
        for at, word in enumerate(args):
            if word == "--":
                yield from args[at:]
                return
            if is_value or not word.startswith("-"):
                is_value = False
                yield word
                continue
            name, equals, value = word.partition("=")
            self._check_dashes(ctx, name, args, at)
            present = former.get(name, name)
            is_value = not equals and self._waits(present)
            if equals and len(present) == len("-o") and present in self._taking():
                yield from (present, value)  # or -o=NAME would write a file called =NAME
                continue
            yield present + equals + value

    def former_names(self) -> dict[str, str]:
        """Return what former names of options stand for."""
        options = [each for each in self.params if isinstance(each, Option)]
        return {was: name for each in options for was, name in each.was.items()}

    def _waits(self, word: str) -> bool:
        """Whether the next word is the value of an option in this one."""
        if word.startswith("--"):
            return word in self._taking()
        taking = self._taking()
        first = next((at for at, char in enumerate(word) if f"-{char}" in taking), None)
        return first is not None and first == len(word) - 1

    def _taking(self) -> set[str]:
        return {
            name
            for each in self.params
            if isinstance(each, click.Option) and not (each.is_flag or each.count)
            for name in each.opts
        }

    def _check_dashes(self, ctx: click.Context, name: str, args: Sequence[str], at: int) -> None:
        names = {name for each in self.shown_options for name in each.opts} | {*self.former_names()}
        if name.startswith("--") or f"-{name}" not in names:
            return
        meant = shlex.join([*args[:at], f"-{args[at]}", *args[at + 1 :]])
        problem = f"there is no option {name}"
        raise HintedUsageError(problem, ctx, f"did you mean: {ctx.command_path} {meant}?")

    # --- pages -------------------------------------------------------------------------------

    def get_help(self, ctx: click.Context) -> str:
        """Return long help, without colors."""
        return click.unstyle("\n".join(self.long_help(ctx, WIDEST)))

    def usage_line(self, ctx: click.Context) -> str:
        """Return how the command is called."""
        if self.usage:
            return f"Usage: {self.usage}"
        arguments = [each for each in self.params if isinstance(each, click.Argument)]
        words = [each.make_metavar(ctx) for each in arguments]
        return " ".join(("Usage:", ctx.command_path, *words, "[OPTIONS]"))

    def short_help_page(self, ctx: click.Context, width: int) -> Iterator[str]:
        """Yield the lines of -h: a line for each option that is often needed."""
        sentence, _, examples = self.described()
        yield from paragraph(self.usage_line(ctx), width)
        yield ""
        yield from paragraph(sentence, width)
        entries = list(_brief(self.shown_options, ctx))
        if entries:
            yield ""
            yield from columns(entries, width)
        yield from _examples(examples[:_MOST_EXAMPLES])
        yield ""
        yield from paragraph(self.tip or f"More: {ctx.command_path} --help", width)

    def long_help(self, ctx: click.Context, width: int) -> Iterator[str]:
        """Yield the lines of --help: every option, under headings."""
        sentence, paragraphs, examples = self.described()
        yield from paragraph(sentence, width)
        yield ""
        yield from paragraph(self.usage_line(ctx), width)
        for each in paragraphs:
            yield ""
            yield from paragraph(each, width)
        for part in self.sections(ctx):
            yield ""
            yield from section(part, width)
        if self.epilog:
            yield ""
            yield from paragraph(self.epilog, width)
        yield from _examples(examples)

    def described(self) -> tuple[str, list[str], list[str]]:
        """Return the sentence of the docstring, its other paragraphs, and its examples."""
        sentence, *paragraphs = inspect.cleandoc(self.help or "").split("\n\n")
        examples: list[str] = []
        if paragraphs and paragraphs[-1].startswith("\b\n"):
            examples = paragraphs.pop().removeprefix("\b\n").splitlines()
        return sentence, paragraphs, examples

    def sections(self, ctx: click.Context) -> list[Section]:
        """Return what long help explains, under its headings."""
        arguments = [
            Entry(each.make_metavar(ctx), each.help)
            for each in self.params
            if isinstance(each, Argument) and each.help
        ]
        found: dict[str, list[Entry]] = {"Arguments": arguments} | {
            each: [] for each in self.headings
        }
        for each in self.shown_options:
            under = each.heading if isinstance(each, Option) else OPTIONS
            found.setdefault(under, []).append(Entry(_names(each, ctx), text_of(each)))
        return [Section(name, entries) for name, entries in found.items() if entries]


def text_of(shown: click.Option) -> str:
    """Return what long help says of an option."""
    text = (
        re.sub(r"\s*\[default: .*\]$", "", shown.help or "") if shown.show_default else shown.help
    )
    default = f"  [default: {shown.default}]" if shown.show_default else ""
    return f"{text or ''}{default}"


def names_of(shown: click.Option) -> list[str]:
    """Return the names of an option that help shows."""
    shows = shown.shows if isinstance(shown, Option) else "on"
    on, off = shown.opts, shown.secondary_opts
    return {"on": on, "off": off, "both": [*on, *off]}[shows]


def _names(shown: click.Option, ctx: click.Context) -> str:
    names = names_of(shown)
    value = "" if shown.is_flag or shown.count else f" {shown.make_metavar(ctx)}"
    margin = "" if len(names[0]) == len("-x") else "    "
    return f"{margin}{', '.join(names)}{value}"


def _brief(options: Iterable[click.Option], ctx: click.Context) -> Iterator[Entry]:
    """Yield the entries of short help; a brief that begins with "|" joins the entry before it."""
    last: Entry | None = None
    for each in options:
        if not isinstance(each, Option) or each.brief is None:
            continue
        if last is not None and each.brief.startswith("|"):
            last = Entry(f"{last.name} | {each.opts[0]}", f"{last.text} {each.brief}")
            continue
        if last is not None:
            yield last
        last = Entry(_shorter(_names(each, ctx)), each.brief)
    if last is not None:
        yield last


def _shorter(names: str) -> str:
    """Return names with the plainest form of a value: without parts that may be left out."""
    return re.sub(r"\[[^\]]*\]|\|.*", "", names)


def _examples(lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield ""
        yield heading("Examples:")
        yield from (f"  {line}" for line in lines)


# --- the options that print them -------------------------------------------------------------


def _help_options() -> list[click.Parameter]:
    shared: dict[str, Any] = {
        "is_flag": True,
        "expose_value": False,
        "is_eager": True,
        "heading": "Display",
    }
    short = Option(["-h", "short_help"], callback=_print_short, help="Print short help", **shared)
    long = Option(["--help", "long_help"], callback=_print_long, help="Print this help", **shared)
    return [short, long]


def _print_short(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
    del parameter
    if value and not ctx.resilient_parsing and isinstance(ctx.command, Command):
        print_page(ctx.command.short_help_page(ctx, page_width()))
        ctx.exit()


def _print_long(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
    del parameter
    if value and not ctx.resilient_parsing and isinstance(ctx.command, Command):
        print_page(ctx.command.long_help(ctx, page_width()))
        ctx.exit()
