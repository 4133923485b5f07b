"""Choose the format of a file by its content, never by its suffix."""

from __future__ import annotations

import os
from collections.abc import Sequence

from reinit_cli.checkpoints.formats.base import Format
from reinit_cli.checkpoints.formats.foreign import LOOKED_AT_NBYTES, foreign, refused
from reinit_cli.errors import MalformedFileError
from reinit_cli.storage.reader import Reader

_FEWEST = 9
"""The bytes by which a format is recognized; the last format says that there are fewer."""


def recognized(file: Reader, formats: Sequence[Format]) -> Format:
    """Return the format of a file.

    Args:
        file: the file.
        formats: those that it may have, in the order in which they are tried. What none of
            them recognizes is of the one that its suffix names, which will say what is wrong
            with it.

    Raises:
        UnsupportedFormatError: it is of another kind that is known.
        MalformedFileError: neither its bytes nor its suffix claim any format.
    """
    head = file.head(LOOKED_AT_NBYTES)
    for each in formats:
        if each.recognizes(head):
            return each
    other = foreign(file.path, head)
    if other is not None:
        raise refused(file.path, other)
    suffix = os.path.splitext(file.path)[1].lower()
    for each in formats:
        if suffix in each.suffixes:
            return each
    if len(head) < _FEWEST:
        return formats[-1]
    problem = "it starts neither as a zip archive, nor as a pickle, nor as safetensors"
    raise MalformedFileError(file.path, problem, "checkpoint")
