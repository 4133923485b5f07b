"""Keep the provenance record of a folder, which is a file of its own in it."""

from __future__ import annotations

from collections.abc import Mapping

from reinit_cli.checkpoints.formats.base import (
    MAX_RECORD_NBYTES,
    RECORD_NAME,
    Files,
    Located,
    Recorded,
)
from reinit_cli.errors import RecordError
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.segments import Reserved, Segment
from reinit_cli.text import is_wide


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


def record_text(file: Reader) -> str:
    """Return the text of a file that is a provenance record.

    Raises:
        RecordError: it is too large.
    """
    if file.nbytes > MAX_RECORD_NBYTES:
        raise RecordError(file.path, "it is too large for a record")
    data = file.read(0, file.nbytes)
    if is_wide(data):
        raise RecordError(file.path, "it is too long for text that is not ASCII")
    return data.decode(errors="replace")
