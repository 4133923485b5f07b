"""Print the values of one tensor."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from io import StringIO
from typing import TYPE_CHECKING

import click

from reinit_cli.checkpoints.find import find_source
from reinit_cli.checkpoints.source import Source
from reinit_cli.cli.help import Command
from reinit_cli.cli.options import (
    CONTEXT,
    display_options,
    json_option,
    root_option,
    seed_option,
    weights_option,
)
from reinit_cli.cli.pager import paged
from reinit_cli.cli.parameters import (
    SliceType,
)
from reinit_cli.cli.render.json import VERSION, dumps, values_texts
from reinit_cli.cli.terminal import warn_about
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.text import nbytes, printable, shape

if TYPE_CHECKING:
    from reinit_cli.operations.show import Part
    from reinit_cli.tensors.slice import Index


@click.command("show", cls=Command, context_settings=CONTEXT)
@click.argument("source")
@click.argument("key")
@click.option(
    "--slice",
    "part",
    type=SliceType(),
    metavar="SLICE",
    help="Show this part of it, as Python spells it: 0,:,:,:2 or ...,-1.",
)
@click.option("--full", is_flag=True, help="Show every element, where torch would leave some out.")
@weights_option
@root_option
@seed_option
@json_option
@display_options
def command(
    source: str,
    key: str,
    part: tuple[str, tuple[Index, ...]] | None,
    weights: str | None,
    root: str | None,
    seed: int,
    *,
    full: bool,
    as_json: bool,
) -> None:
    """Print the tensor that SOURCE has under KEY as torch prints it, reading only its bytes.

    \b
    reinit show model.safetensors lm_head.weight
    reinit show alexnet features.0.weight --slice 0,:,:2,:2
    """
    from reinit_cli.operations.show import read_values

    found = find_source(source, weights, root)
    warn_about((found,))
    if as_json:
        _write(json_texts(found, key, part, seed))
        return
    values = read_values(found, key, part, seed, abridged=not full)
    with paged():
        click.echo(tensor_line(values.info, part[0] if part else None))
        click.echo(values.printed(full=full))


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


def json_texts(source: Source, key: str, part: Part | None, seed: int) -> Iterator[str]:
    """Yield the text of the values as JSON, with what is known of their tensor."""
    from reinit_cli.operations.show import opened_view

    with opened_view(source, key, part, seed) as (info, view):
        form = {
            "version": VERSION,
            "key": info.key,
            "shape": info.shape,
            "dtype": info.dtype,
            "slice": part[0] if part else None,
        }
        yield dumps(form).removesuffix("}") + ', "values": '
        yield from values_texts(view)
    yield "}\n"


def tensor_line(tensor: TensorInfo, part: str | None) -> str:
    """Return what is known of a tensor before it is read, and which part of it is shown."""
    shown = f", [{part}]" if part is not None else ""
    size = nbytes(tensor.nbytes)
    return f"{printable(tensor.key)}  {shape(tensor.shape)} {tensor.dtype}, {size}{shown}"
