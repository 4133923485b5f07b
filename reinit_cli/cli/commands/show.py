"""Print the values of tensors."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

import click

from reinit_cli.checkpoints.find import find_source
from reinit_cli.checkpoints.model import drawn_from
from reinit_cli.cli.help import Command, HintedUsageError, argument, option
from reinit_cli.cli.options import (
    CONTEXT,
    VIEW,
    display_options,
    json_option,
    root_option,
    seed_option,
    source_argument,
    source_stream_option,
    weights_option,
)
from reinit_cli.cli.pager import paged
from reinit_cli.cli.parameters import (
    SliceType,
)
from reinit_cli.cli.render.json import VERSION, dumps, values_texts
from reinit_cli.cli.render.layout import wrapped
from reinit_cli.cli.screen import Screen, Style, screen_of
from reinit_cli.cli.selection import refuse_unmatched, selection_options, warn_of_exclusions
from reinit_cli.cli.terminal import note, note_downloads, warn, warn_about
from reinit_cli.operations.downloads import download_of_tensors, fetch_tensors
from reinit_cli.operations.keys import ORDERS, Selectors
from reinit_cli.operations.show import Chosen, chosen_tensors, opened_views, read_values
from reinit_cli.storage.location import without_secrets
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.text import nbytes, plural, printable, quoted, shape

if TYPE_CHECKING:
    from reinit_cli.checkpoints.source import Source
    from reinit_cli.operations.show import Part
    from reinit_cli.storage.segments import View
    from reinit_cli.tensors.moments import Statistics
    from reinit_cli.tensors.slice import Index


@click.command("show", cls=Command, context_settings=CONTEXT)
@source_argument
@argument(
    "texts",
    nargs=-1,
    metavar="[KEY|PATTERN]...",
    help="Keys, and patterns as in a rule: * ? [abc] {a,b} {0..8} re:REGEX kind=Linear",
)
@selection_options(ORDERS, "tensors", has_patterns=False)
@option(
    "--slice",
    "part",
    type=SliceType(),
    metavar="SLICE",
    heading=VIEW,
    brief="Only this part: 0,:,:,:2 or ...,-1",
    help="Show only this part of each tensor, in Python's notation: 0,:,:,:2 or ...,-1",
)
@option(
    "--full",
    is_flag=True,
    heading=VIEW,
    brief="Every element",
    help="Print every element",
)
@weights_option
@root_option
@seed_option
@source_stream_option
@json_option
@display_options
def command(
    source: str,
    texts: tuple[str, ...],
    part: tuple[str, tuple[Index, ...]] | None,
    weights: str | None,
    root: str | None,
    seed: int,
    stream: str,
    *,
    selectors: Selectors,
    full: bool,
    as_json: bool,
) -> None:
    """Print the tensor KEY of SOURCE, or those that match a PATTERN, as PyTorch would.

    Only what is printed is read, and tensors of up to 16 million elements for their statistics.
    On a terminal, a tensor that is longer than the screen is abbreviated.

    \b
    reinit show model.safetensors lm_head.weight
    reinit show model.safetensors "*.bias" --head 3
    reinit show alexnet features.0.weight --slice 0,:,:2,:2
    """
    if not texts and selectors == Selectors():
        hint = "write it as reinit show SOURCE KEY; '*' shows every tensor"
        raise HintedUsageError("missing KEY or PATTERN", None, hint)
    found = drawn_from(find_source(source, weights, root), stream)
    source = without_secrets(source)
    warn_about((found,), root)
    _refuse_slices(source, texts, {each.key for each in found.tensors})
    listing = chosen_tensors(found, texts, selectors)
    warn_of_exclusions(listing.choice, source)
    refuse_unmatched(listing.choice, [each.key for each in found.tensors], source)
    tensors = listing.tensors[: selectors.head]
    _fetch(found, [each.key for each in tensors])
    with opened_views(found, tensors, part, seed, texts) as chosen:
        warn(f"skipped {quoted(key)}: {problem}" for key, problem in chosen.skipped.items())
        is_alone = len(texts) == 1 and texts[0] in (each.key for each in tensors)
        if as_json:
            _write(json_texts(chosen, part, is_alone=is_alone))
        else:
            with paged():
                _write(printed_texts(chosen, part, full=full))


def _fetch(found: Source, keys: Sequence[str]) -> None:
    """Fetch the files of tensors, with a bar on a terminal."""
    download = download_of_tensors(found, keys)
    note_downloads((found,), (download,))
    if download is not None:
        from reinit_cli.cli.render.meter import Meter

        with Meter(download.what, is_shown=True) as meter:
            fetch_tensors(found, keys, meter.of(download.nbytes))


_PART = re.compile(r"(.+)\[([-0-9:., ]+)\]")
"""A part behind a key, as in Python and in a rule."""

_SLICE = re.compile(r"\[?[-0-9:., ]*[:,][-0-9:., ]*\]?")


def _refuse_slices(source: str, texts: Sequence[str], keys: Collection[str]) -> None:
    """Refuse a slice in place of a key.

    Raises:
        HintedUsageError: there is one.
    """
    for text in texts:
        found = _PART.fullmatch(text)
        if found is not None and found[1] in keys and text not in keys:
            others = [found[1] if each == text else each for each in texts]
            meant = shlex.join(("show", source, *others, "--slice", found[2]))
            problem = f"{quoted(text)} is a part of a tensor, not a key"
            raise HintedUsageError(problem, None, f"did you mean: reinit {meant}?")
        is_index = text.isdecimal() and texts[1:] and not any(map(_behind(text), keys))
        if (is_index or _SLICE.fullmatch(text)) and text not in keys:
            others = [each for each in texts if each != text]
            meant = shlex.join(("show", source, *others, "--slice", text.strip("[]")))
            problem = f"{text!r} is a slice, not a key"
            raise HintedUsageError(problem, None, f"did you mean: reinit {meant}?")


def _behind(module: str) -> Callable[[str], bool]:
    return lambda key: key.startswith(f"{module}.")


_TEXT_LENGTH = 2**20
"""What is written together: up to here, nothing is when the source turns out to be damaged."""


def _write(texts: Iterable[str]) -> None:
    """Write texts in turn, several together."""
    waiting = StringIO()
    for text in texts:
        if waiting.write(text) and waiting.tell() > _TEXT_LENGTH:
            sys.stdout.write(waiting.getvalue())
            waiting = StringIO()
    sys.stdout.write(waiting.getvalue())


def json_texts(chosen: Chosen, part: Part | None, *, is_alone: bool) -> Iterator[str]:
    """Yield the text of tensors as JSON.

    Args:
        chosen: the tensors.
        part: which part of each is shown, or None.
        is_alone: whether one key was asked for, which is not in a list.
    """
    if is_alone:
        ((info, view),) = chosen.views
        yield from _form_texts({"version": VERSION}, info, view, part)
    else:
        yield dumps({"version": VERSION}).removesuffix("}") + ', "tensors": ['
        for at, (info, view) in enumerate(chosen.views):
            yield ", " if at else ""
            yield from _form_texts({}, info, view, part)
        yield "]}"
    yield "\n"


def _form_texts(
    form: Mapping[str, Any], info: TensorInfo, view: View, part: Part | None
) -> Iterator[str]:
    about = {
        "key": info.key,
        "shape": info.shape,
        "dtype": info.dtype,
        "slice": part[0] if part else None,
    }
    yield dumps({**form, **about}).removesuffix("}") + ', "values": '
    yield from values_texts(view)
    yield "}"


def printed_texts(chosen: Chosen, part: Part | None, *, full: bool) -> Iterator[str]:
    """Yield what is known of each tensor, and its values as torch prints them."""
    from reinit_cli.tensors.printing import Style

    screen = screen_of(sys.stdout)
    width, most_lines = (
        (screen.limit, screen.height - _OTHER_LINES) if screen.is_terminal else (None, None)
    )
    for at, (info, view) in enumerate(chosen.views):
        values = read_values(view, info, abridged=not full, measures=True)
        yield "\n" if at else ""
        yield from _fitting(tensor_line(info, part[0] if part else None), screen)
        found = values.statistics
        if found is not None and found.numel > 1:
            line = statistics_line(found)
            if screen.is_terminal:
                yield from _fitting(line, screen, None if found.is_finite else "error")
            else:
                note(f"{info.key}: {line}")
        style = Style.of_process().within(width)
        yield f"{values.printed(style, full=full, most_lines=most_lines)}\n"


def _fitting(text: str, screen: Screen, style: Style | None = None) -> Iterator[str]:
    """Yield a line, or those that it takes on a narrow terminal."""
    for line in [text] if screen.limit is None else wrapped(text, screen.limit):
        yield screen.paint(line, style) + "\n"


_OTHER_LINES = 4
"""Of a screen: what is known of a tensor, and the prompts around it."""


def tensor_line(tensor: TensorInfo, part: str | None) -> str:
    """Return what is known of a tensor before it is read, and which part of it is shown."""
    shown = f", [{part}]" if part is not None else ""
    size = nbytes(tensor.nbytes)
    return f"{printable(tensor.key)}  {shape(tensor.shape)} {tensor.dtype}, {size}{shown}"


def statistics_line(found: Statistics) -> str:
    """Return the moments of values in a line, and how many are not finite."""
    finite = found.finite
    moments = {"mean": finite.mean, "std": finite.std, "min": finite.low, "max": finite.high}
    words = [f"{name} {value:.4g}" for name, value in moments.items() if finite.numel]
    words += [plural(found.zeros, "zero")] if found.zeros else []
    counts = {"NaN": found.nan, "Inf": found.inf}
    return ", ".join((*words, *(f"{count:,} {name}" for name, count in counts.items() if count)))
