"""Lay out the storages of a file of before torch 1.6 again: their list, and one after the other."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping

from reinit_cli.checkpoints.formats.base import FileEdits, spliced
from reinit_cli.checkpoints.formats.torch.edits.respelled import Respelled
from reinit_cli.checkpoints.formats.torch.files.new_legacy import NUMEL_NBYTES
from reinit_cli.lazy import dataclass
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.segments import Copy, Literal, Segment

_PROTOCOL = 2


@dataclass(frozen=True, slots=True)
class OldStorages:
    """The storages of a file as they were.

    Attributes:
        file: the file.
        start: where the list of their names starts.
        end: where it ends.
        offsets: where each starts, in the order of the file.
        edits: what replaces bytes of those that stay.
    """

    file: Reader
    start: int
    end: int
    offsets: Mapping[str, int]
    edits: FileEdits


def storage_segments(old: OldStorages, new: Respelled) -> Iterator[Segment]:
    """Yield the list of storages, and the storages in its order; new ones come last."""
    order = [key for key in old.offsets if key not in new.gone]
    order += (key for key in new.storages if key not in old.offsets)
    if order == list(old.offsets):
        yield Copy(old.file, old.start, old.end - old.start)
    else:
        yield Literal(pickle.dumps(order, _PROTOCOL))
    for key in order:
        if key in new.storages:
            yield Literal(new.numels[key].to_bytes(NUMEL_NBYTES, "little"))
            yield from new.storages[key]
        else:
            start = old.offsets[key]
            end = start + new.before[key].nbytes
            yield Copy(old.file, start - NUMEL_NBYTES, NUMEL_NBYTES)
            yield from spliced(old.file, start, end, old.edits)
