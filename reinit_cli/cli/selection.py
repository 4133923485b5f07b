"""Choose keys on the command line: the same arguments and options for every command that looks."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import wraps
from typing import Any

import click

from reinit_cli.cli.help import argument, option
from reinit_cli.cli.options import CountType
from reinit_cli.cli.parameters import PatternType
from reinit_cli.cli.terminal import warn
from reinit_cli.errors import UnknownNameError
from reinit_cli.operations.keys import ORDERS, Choice, Selectors, no_match
from reinit_cli.request.pattern import NO_KEY, Pattern
from reinit_cli.text import listed, near, plural, quoted

_OTHER_NAMES = {
    "name": "key",
    "nbytes": "bytes",
    "size": "bytes",
    "numel": "parameters",
    "elements": "parameters",
    "average": "mean",
    "max_diff": "max_abs",
    "l2": "relative_l2",
}
"""What people, and JSON, call that by which keys are sorted."""


class SortType(click.Choice):  # type: ignore[type-arg]  # generic only since click 8.2
    """What rows are sorted by; also under its name in JSON."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read it."""
        name = str(value).lower().replace("-", "_")
        known = name if name in self.choices else _OTHER_NAMES.get(name, name)
        if known not in self.choices and (nearest := near(known, self.choices, 1)):
            self.fail(
                f"{quoted(str(value))} is not one of them; did you mean {nearest[0]}?", param, ctx
            )
        return str(super().convert(known, param, ctx))


def selection_options(
    orders: Collection[str], shown: str, *, has_patterns: bool = True
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return what adds PATTERN..., -x, --sort, --reverse and --head to a command.

    The command gets them as one argument, `selectors`.

    Args:
        orders: what it can sort by.
        shown: what --head counts.
        has_patterns: whether PATTERN... is added.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def selecting(
            *args: Any,
            excluded: tuple[Pattern, ...],
            order: str | None,
            is_reversed: bool,
            head: int | None,
            patterns: tuple[Pattern, ...] = (),
            **options: Any,
        ) -> Any:
            selectors = Selectors(patterns, excluded, order, is_reversed, head)
            return command(*args, selectors=selectors, **options)

        for add in reversed(_options(orders, shown)):
            selecting = add(selecting)
        return _PATTERNS(selecting) if has_patterns else selecting

    return decorate


_PATTERNS = argument(
    "patterns",
    type=PatternType(),
    nargs=-1,
    metavar="[PATTERN]...",
    help="Keys that match, as in a rule: * ? [abc] {a,b} {0..8} re:REGEX kind=Linear  [default: all]",
)


def _options(orders: Collection[str], shown: str) -> Sequence[Callable[..., Any]]:
    return (
        option(
            "-x",
            "--exclude",
            "excluded",
            type=PatternType(),
            multiple=True,
            metavar="PATTERN",
            heading=_HEADING,
            brief="Leave out keys that match",
            help="Leave out keys that match. Repeatable.",
        ),
        option(
            "--sort",
            "order",
            type=SortType(list(orders)),
            metavar="ORDER",
            heading=_HEADING,
            brief=_brief_orders(orders),
            help=f"Sort by {listed_or(list(orders))}; numbers from the largest.  "
            "[default: as stored]",
        ),
        option(
            "--reverse",
            "is_reversed",
            is_flag=True,
            heading=_HEADING,
            help="Reverse the order",
        ),
        option(
            "--head",
            type=CountType(),
            metavar="N",
            heading=_HEADING,
            brief=f"Show the first N {shown}",
            help=f"Show the first N {shown}",
        ),
    )


_HEADING = "Which keys"

_MOST_ORDERS = 5
"""Those that a line of short help has room for."""


def _brief_orders(orders: Collection[str]) -> str:
    """Return what fits into a line of short help: of many those of the command alone."""
    own = [name for name in orders if name not in ORDERS]
    shown = ["key", *own] if own else list(orders)
    return f"By {', '.join(shown[:_MOST_ORDERS])}" + (", …" if len(shown) > _MOST_ORDERS else "")


def listed_or(words: Sequence[str]) -> str:
    """Return "a", "a or b", "a, b or c"."""
    return " or ".join((listed(words[:-1]).replace(" and ", ", "), words[-1]))


def warn_of_exclusions(choice: Choice, name: str) -> None:
    """Warn of exclusions that exclude nothing.

    Args:
        choice: what was chosen.
        name: what the source is called.
    """
    warn(f"-x {quoted(each.text)} matches no key of {name}" for each in choice.useless)


def refuse_unmatched(
    choice: Choice, keys: Sequence[str], name: str, *, of: str = "", is_answer: bool = False
) -> None:
    """Refuse a choice of nothing, and a pattern that matches nothing.

    Args:
        choice: what was chosen.
        keys: all keys.
        name: what the source is called.
        of: the source whose keys may be listed; "" for that name.
        is_answer: whether the command asks which keys there are, and this answers it.

    Raises:
        UnknownNameError: nothing was chosen, or nothing by one of the patterns.
    """
    if choice.unmatched:
        pattern = choice.unmatched[0]
        missed = choice.missed.get(pattern.text, NO_KEY)
        known = () if missed.kinds else keys
        error = no_match(pattern, known, missed.in_source(name), of or name)
    elif not choice.positions:
        kind = "excluded" if keys else "empty"
        error = UnknownNameError(f"key of {name}", kind=kind, of=name)
    else:
        return
    error.is_answer = is_answer
    raise error


def hint_of_pattern(error: UnknownNameError, args: Sequence[str]) -> str:
    """Return the command with a pattern that matches, and the keys that are spelled like it.

    Args:
        error: which pattern matches nothing.
        args: the arguments after the program's name.
    """
    from reinit_cli.cli.misplaced import exists
    from reinit_cli.request.spelling import corrected_pattern, nearest_keys, numbers_there

    keys, pattern = error.known, error.about
    is_file = bool(os.path.splitext(pattern)[1]) and exists(pattern)
    if error.of and is_file and args[:1] != ["diff"]:
        return f"to compare two files, type: reinit diff {shlex.join((error.of, pattern))}"
    meant = (
        _containing(pattern, keys)
        or corrected_pattern(pattern, keys)
        or corrected_pattern(pattern.strip("*."), keys)
    )
    if meant is None and (numbers := numbers_there(pattern, keys)):
        return numbers
    if meant is None:
        nearest = nearest_keys(pattern, keys)
        return f"similar: {', '.join(nearest)}; {_lists(error)}" if nearest else _lists(error)
    found = Pattern.parse(meant).select(keys)
    matches = keys[found[0]] + (f" and {len(found) - 1:,} more" if len(found) > 1 else "")
    command = f"reinit {shlex.join(_replaced(args, pattern, meant))}"
    return (
        f"did you mean: {command}" if meant == matches else f"to match {matches}, type: {command}"
    )


def _containing(pattern: str, keys: Iterable[str]) -> str | None:
    """Return the pattern of all keys that contain a plain word."""
    escaped = Pattern.escape(pattern)
    is_plain = escaped == pattern or pattern in keys
    return (
        (escaped if pattern in keys else f"*{pattern}*")
        if is_plain and any(pattern in key for key in keys)
        else None
    )


def _replaced(args: Sequence[str], word: str, other: str) -> list[str]:
    """Return the arguments with the last that is the word replaced."""
    at = len(args) - 1 - list(reversed(args)).index(word) if word in args else None
    return [other if here == at else arg for here, arg in enumerate(args)]


def _lists(error: UnknownNameError) -> str:
    return (
        f"reinit keys {shlex.quote(error.of)} lists the keys"
        if error.of
        else "reinit models lists all of torchvision, and reinit models timm: those of timm"
    )


def head_fact(shown: int, of: int, noun: str) -> tuple[tuple[str, str], ...]:
    """Return the fact that not all rows are shown, where that is so."""
    return (("shown", f"{shown:,} of {plural(of, noun)}"),) if shown < of else ()
