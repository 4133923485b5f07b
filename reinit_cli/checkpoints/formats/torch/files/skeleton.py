"""Create a torch archive as torch.save would.

torch itself writes the archive with holes in place of the storages (`skip_data`), which
takes kilobytes of a sparse file whatever its size. The holes are then filled and what
depends on them is mended, so that the whole is what `torch.save` would have written.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from io import BytesIO
from itertools import accumulate
from typing import Any

from reinit_cli.checkpoints.formats.torch.files.archive import ZipEntry, read_entries
from reinit_cli.checkpoints.formats.torch.files.assembly import layout_of
from reinit_cli.errors import OutputUnwritableError
from reinit_cli.storage.local import InputFile
from reinit_cli.storage.scratch import ScratchFolder, check_room, scratch_place
from reinit_cli.storage.segments import Copy, Literal, Segment


def segments_of(
    state: Mapping[str, Any],
    contents: Mapping[str, Sequence[Segment]],
    name: str,
    record: str = "",
) -> list[Segment]:
    """Return the segments of an archive that holds a state dict.

    Args:
        state: the object as `torch.save` takes it. Its tensors' values are used only
            where `contents` says nothing of them.
        contents: for a key, the bytes of its tensor, which is its storage's only one or
            equal to the others.
        name: the file's name, whose stem is the archive's folder.
        record: a text as long as the record for which room is kept; "" for none.
    """
    storages = _storages(state)
    by_storage = {state[key].untyped_storage()._cdata: parts for key, parts in contents.items()}
    # A signal may raise as the first call to remove it begins; no other does after it.
    with ExitStack() as backstop, backstop.push(ScratchFolder()) as folder:
        path = os.path.join(folder, name)
        _save_skeleton(state, path, has_data=len(contents) < len(state))
        with InputFile(path) as skeleton:
            entries = read_entries(skeleton)
            data: dict[int, Segment] = {}
            for entry, storage in zip(_data_entries(entries), storages, strict=True):
                parts = by_storage.get(storage._cdata) or (_bytes_of_storage(storage),)
                starts = accumulate((part.nbytes for part in parts), initial=entry.offset)
                data |= {at: part for at, part in zip(starts, parts, strict=False) if part.nbytes}
            laid = replace(layout_of(skeleton, entries), is_skeleton=True)
            segments = laid.patched(skeleton, data, record)
            return [_in_memory(segment, skeleton) for segment in segments]


def _in_memory(segment: Segment, skeleton: InputFile) -> Segment:
    """Keep what is copied of the skeleton, which is about to go, and nothing of the source."""
    if isinstance(segment, Copy) and segment.file is skeleton:
        return Literal(segment.file.read(segment.offset, segment.nbytes))
    return segment


def _save_skeleton(state: Mapping[str, Any], path: str, *, has_data: bool) -> None:
    """Save the object without its data, or with it where torch insists.

    It does for quantized tensors, which are small and lie in memory.

    Raises:
        OutputUnwritableError: there is no room for it.
    """
    import torch

    try:
        with nullcontext() if has_data else torch.serialization.skip_data():
            torch.save(state, path)
    except (RuntimeError, OSError) as error:
        check_room()  # torch does not say why
        problem = f"torch cannot save there: {str(error).partition(chr(10))[0]}"
        raise OutputUnwritableError(scratch_place(), problem, kind="scratch") from error


def _storages(state: Mapping[str, Any]) -> list[Any]:
    """Return the storages of an object in the order in which pickling meets them.

    torch numbers them so.
    """
    import torch

    class Tracer(pickle.Pickler):
        def __init__(self) -> None:
            super().__init__(BytesIO(), protocol=2)
            self.found: dict[int, Any] = {}

        def persistent_id(self, obj: Any) -> str | None:
            if not torch.is_storage(obj) and not isinstance(obj, torch.storage.TypedStorage):
                return None
            storage = getattr(obj, "_untyped_storage", obj)
            self.found.setdefault(storage._cdata, storage)
            return "storage"

    tracer = Tracer()
    tracer.dump(state)
    return list(tracer.found.values())


def _bytes_of_storage(storage: Any) -> Literal:
    import torch

    from reinit_cli.tensors.convert import bytes_of

    return Literal(bytes_of(torch.empty(0, dtype=torch.uint8).set_(storage).numpy()))


def _data_entries(entries: Sequence[ZipEntry]) -> list[ZipEntry]:
    found = [entry for entry in entries if "/data/" in entry.name]
    return sorted(found, key=lambda entry: int(entry.name.rpartition("/")[2]))
