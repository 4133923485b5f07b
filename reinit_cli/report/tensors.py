"""One tensor, in a line."""

from __future__ import annotations

from reinit_cli.tensors import TensorInfo
from reinit_cli.text import nbytes, printable, shape


def tensor_line(tensor: TensorInfo, part: str | None) -> str:
    """Return what is known of a tensor before it is read, and which part of it is shown."""
    shown = f", [{part}]" if part is not None else ""
    size = nbytes(tensor.nbytes)
    return f"{printable(tensor.key)}  {shape(tensor.shape)} {tensor.dtype}, {size}{shown}"
