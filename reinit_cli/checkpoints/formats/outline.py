"""Declare the outline of a checkpoint: what it holds, summed up in a few lines."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from reinit_cli.checkpoints.formats.base import Files, Located
from reinit_cli.lazy import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """A line of an outline.

    Attributes:
        path: where it lies in what the file holds, its names and numbers joined by dots; "" for
            the whole.
        kind: what it is: "state dict", "module", "optimizer", "tensor", "array" of NumPy, "more" for
            what is left out, a type of Python such as "dict" or "int", or the full name of a class.
        text: its value, or what is known of it; "" for nothing.
        tensors: how many tensors the line sums up.
        nbytes: the bytes of these tensors, of tied ones once.
    """

    path: str
    kind: str
    text: str = ""
    tensors: int = 0
    nbytes: int = 0


@runtime_checkable
class Outlining(Protocol):
    """A format whose checkpoints may hold more than tensors and metadata."""

    def outline(self, files: Files, located: Located | None) -> tuple[Part, ...]:
        """Return what a checkpoint holds, the whole first, each part before what is in it.

        Args:
            files: its files.
            located: what `locate` found; None where it found no state dict.

        Raises:
            SourceError: it cannot be read as what it is.
        """
