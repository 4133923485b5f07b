"""Print the values of one tensor."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from reinit_cli.checkpoints.find import find_source
from reinit_cli.checkpoints.source import Source
from reinit_cli.cli.options import (
    CONTEXT,
    SliceType,
    json_option,
    root_option,
    seed_option,
    weights_option,
)
from reinit_cli.errors import TensorError, UnknownNameError
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.text import nbytes, printable, shape

if TYPE_CHECKING:
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
    found = find_source(source, weights, root)
    tensor = _tensor(found, key)
    from reinit_cli.cli.render.json import VERSION, dumps, values_form
    from reinit_cli.tensors.convert import printed, read
    from reinit_cli.tensors.slice import sliced

    with found.open(seed) as contents:
        view = contents.view(tensor)
        values = read(sliced(view, part[1], part[0]) if part else view)
        contents.check_unchanged()
    if as_json:
        form = {
            "version": VERSION,
            "key": key,
            "shape": tensor.shape,
            "dtype": tensor.dtype,
            "slice": part[0] if part else None,
            "values": values_form(values),
        }
        sys.stdout.write(dumps(form) + "\n")
    else:
        click.echo(tensor_line(tensor, part[0] if part else None))
        click.echo(printed(values, full=full))


def _tensor(source: Source, key: str) -> TensorInfo:
    """Return the tensor of that key.

    Raises:
        UnknownNameError: the source has none.
        TensorError: its values cannot be read.
    """
    keys = [tensor.key for tensor in source.tensors]
    if key not in keys:
        raise UnknownNameError(key, known=keys, kind="key", of=source.name)
    tensor = source.tensors[keys.index(key)]
    if tensor.fillable_dtype is None:
        reason = tensor.carried or f"{tensor.dtype} has no numbers that torch prints"
        raise TensorError(printable(key), reason)
    return tensor


def tensor_line(tensor: TensorInfo, part: str | None) -> str:
    """Return what is known of a tensor before it is read, and which part of it is shown."""
    shown = f", [{part}]" if part is not None else ""
    size = nbytes(tensor.nbytes)
    return f"{printable(tensor.key)}  {shape(tensor.shape)} {tensor.dtype}, {size}{shown}"
