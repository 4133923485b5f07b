"""The keys of a checkpoint, as a sheet."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from reinit_cli.report.sheets import Column, Sheet
from reinit_cli.tensors import TensorInfo
from reinit_cli.text import nbytes, plural, shape

_COLUMNS = (
    Column("key"),
    Column("shape"),
    Column("dtype"),
    Column("parameters", is_number=True),
    Column("bytes", is_number=True),
    Column("notes", is_note=True),
)


def keys_sheet(tensors: Sequence[TensorInfo], aliases: Mapping[str, str]) -> Sheet:
    """Return a row for each key, and the totals.

    Args:
        tensors: the entries.
        aliases: for a tied key the first of its ties.
    """
    rows = [
        (
            tensor.key,
            shape(tensor.shape) if tensor.nbytes or not tensor.carried else "",
            tensor.dtype,
            f"{tensor.numel:,}",
            nbytes(tensor.nbytes),
            f"tied to {aliases[tensor.key]}" if tensor.key in aliases else tensor.carried or "",
        )
        for tensor in tensors
    ]
    total = summed(tensors, aliases)
    return Sheet(_COLUMNS, rows, (("total", total),)).without_empty_columns()


def summed(tensors: Sequence[TensorInfo], aliases: Collection[str] = ()) -> str:
    """Return how many tensors, parameters and bytes there are; those of aliases count once."""
    own = [tensor for tensor in tensors if tensor.key not in aliases]
    numel = plural(sum(tensor.numel for tensor in own), "parameter")
    total = nbytes(sum(tensor.nbytes for tensor in own))
    return f"{plural(len(tensors), 'tensor')}, {numel}, {total}"
