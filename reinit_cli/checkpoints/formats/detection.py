"""Choose the format of a file by its content, never by its suffix."""

from __future__ import annotations

import os
from collections.abc import Sequence

from reinit_cli.checkpoints.formats.base import Format
from reinit_cli.errors import UnsupportedFormatError
from reinit_cli.storage.reader import Reader

_FOREIGN = (
    (0, b"GGUF", "a GGUF file"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (257, b"ustar", "a tar archive, such as torch wrote before 0.1.12"),
    (0, b"\x93NUMPY", "a NumPy file"),
)
"""How files of other kinds start."""

_LOOKED_AT_NBYTES = 512


def recognized(file: Reader, formats: Sequence[Format]) -> Format:
    """Return the format of a file.

    Args:
        file: the file.
        formats: those that it may have, in the order in which they are tried. What none of
            them recognizes is of the one that its suffix names, or of the last, which will
            say what is wrong with it.

    Raises:
        UnsupportedFormatError: it is of another kind that is known.
    """
    head = file.head(_LOOKED_AT_NBYTES)
    for each in formats:
        if each.recognizes(head):
            return each
    for offset, magic, kind in _FOREIGN:
        if head[offset : offset + len(magic)] == magic:
            raise UnsupportedFormatError(file.path, kind)
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        raise UnsupportedFormatError(file.path, "a pickle that torch.save did not write")
    suffix = os.path.splitext(file.path)[1].lower() if head else ""
    return next((each for each in formats if suffix in each.suffixes), formats[-1])
