"""State what a source is: located tensors, and their bytes once it is open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from reinit_cli.checkpoints.formats.base import Located
from reinit_cli.execution.fill import Fill
from reinit_cli.storage.local import InputFile
from reinit_cli.storage.location import SourceName
from reinit_cli.storage.segments import Check, Segment, View
from reinit_cli.tensors.info import TensorInfo, tied_groups

RECORD_FILE = "reinit.json"
"""The file in a folder that is a record of its making."""


class Contents(Protocol):
    """A source that is open."""

    def view(self, tensor: TensorInfo) -> View:
        """Return a tensor as it lies in bytes."""

    def rewritten(
        self, fills: Mapping[str, Fill], record: str = ""
    ) -> Mapping[str, list[Segment]] | None:
        """Return the source's own bytes with some tensors replaced; None if it has none.

        For each file of a folder its segments, by its path there; of a lone file under "".

        Args:
            fills: what replaces tensors, by key.
            record: a text as long as the record for which room is kept; "" for none.
        """

    def files(self) -> Mapping[str, InputFile]:
        """Return the files it is read from, as `rewritten` calls them; none of a model."""

    def beside(self) -> Mapping[str, list[Segment]]:
        """Return the files that lie beside those of the weights, by their path."""

    def checks(self) -> list[Check]:
        """Return what must be checked before tensors are taken out of the source."""

    def state_dict(self, tensors: Sequence[TensorInfo]) -> Mapping[str, Any]:
        """Return the source as a state dict to pickle; its tensors may hold no values.

        Args:
            tensors: the entries with the dtypes that they are to have.
        """

    def check_unchanged(self) -> None:
        """Compare the source with what was located.

        Raises:
            SourceChangedError: they differ.
        """


class Source(Protocol):
    """A located source."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """Its entries, in order."""

    @property
    def located(self) -> Located | None:
        """What was found in the file that is read; None for a model."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """The strings it holds beside its tensors."""

    @property
    def path(self) -> str | None:
        """The file or folder that is read, or None."""

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of several files."""

    @property
    def weights(self) -> str | None:
        """The weights that were chosen for a model, or None for a file."""

    @property
    def architecture(self) -> str | None:
        """The name of the torchvision model that it is, or None where that is not known."""

    @property
    def called(self) -> SourceName:
        """Its name in parts, of which outputs are named."""

    def open(self, seed: int) -> Any:
        """Open it, as a context manager that gives `Contents`."""


def empty_state(tensors: Sequence[TensorInfo]) -> Mapping[str, Any]:
    """Return a state dict of such tensors without values; ties are ties again."""
    import torch

    # Memory that is never touched is never there: this costs address space alone.
    state: dict[str, Any] = {}
    ties = tied_groups(tuple(tensors))
    first: dict[tuple[str, ...], Any] = {}
    for tensor in tensors:
        if not tensor.carried:
            group = ties.get(tensor.key, (tensor.key,))
            if group not in first:
                first[group] = torch.empty(tensor.shape, dtype=getattr(torch, tensor.dtype))
            state[tensor.key] = first[group].detach()
    return state
