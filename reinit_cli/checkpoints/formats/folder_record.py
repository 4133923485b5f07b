"""Keep the provenance record of a folder, which is a file of its own in it."""

from __future__ import annotations

from collections.abc import Mapping

from reinit_cli.checkpoints.formats.base import (
    RECORD_NAME,
    Files,
    Located,
    Recorded,
    record_text,
)
from reinit_cli.storage.segments import Reserved, Segment


def recorded_in_folder(located: Located, files: Files) -> Mapping[str, Recorded]:
    """Return the record that is a file of a folder, by its name; or none.

    Raises:
        RecordError: it is too large.
    """
    if not located.has_record:
        return {}
    file = files[RECORD_NAME]
    return {RECORD_NAME: Recorded(record_text(file), ((0, file.nbytes),))}


def record_of_folder(record: str) -> dict[str, list[Segment]]:
    """Return the file with room for a record, if there is to be one."""
    return {RECORD_NAME: [Reserved(len(record), "text")]} if record else {}
