"""The keys of a checkpoint, as a sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    numel = sum(tensor.numel for tensor in tensors if tensor.key not in aliases)
    total = sum(tensor.nbytes for tensor in tensors if tensor.key not in aliases)
    counted = f"{plural(len(tensors), 'tensor')}, {plural(numel, 'parameter')}, {nbytes(total)}"
    return Sheet(_COLUMNS, rows, (("total", counted),)).without_empty_columns()
