"""Print the values of one tensor."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from reinit_cli.checkpoints.find import find_source
from reinit_cli.cli.options import (
    CONTEXT,
    SliceType,
    json_option,
    root_option,
    seed_option,
    weights_option,
)
from reinit_cli.cli.render.json import VERSION, dumps, values_form
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.text import nbytes, printable, shape

if TYPE_CHECKING:
    from reinit_cli.operations.show import Values
    from reinit_cli.tensors.slice import Index


@click.command("show", context_settings=CONTEXT)
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
    values = read_values(found, key, part, seed)
    text = part[0] if part else None
    if as_json:
        sys.stdout.write(dumps(values_form_of(values, text)) + "\n")
    else:
        click.echo(tensor_line(values.info, text))
        click.echo(values.printed(full=full))


def values_form_of(values: Values, part: str | None) -> dict[str, Any]:
    """Return the values for JSON, with what is known of their tensor."""
    return {
        "version": VERSION,
        "key": values.info.key,
        "shape": values.info.shape,
        "dtype": values.info.dtype,
        "slice": part,
        "values": values_form(values.tensor),
    }


def tensor_line(tensor: TensorInfo, part: str | None) -> str:
    """Return what is known of a tensor before it is read, and which part of it is shown."""
    shown = f", [{part}]" if part is not None else ""
    size = nbytes(tensor.nbytes)
    return f"{printable(tensor.key)}  {shape(tensor.shape)} {tensor.dtype}, {size}{shown}"
