"""Which format a file has, told by its content and never by its suffix."""

from __future__ import annotations

import os

from reinit_cli.checkpoints.formats import safetensors
from reinit_cli.checkpoints.formats.base import Located
from reinit_cli.checkpoints.formats.torch import legacy as torch_legacy
from reinit_cli.checkpoints.formats.torch import zip as torch_zip
from reinit_cli.collector import collector_paused
from reinit_cli.errors import MalformedFileError, UnsupportedFormatError
from reinit_cli.storage.local import InputFile

_OTHERS = (
    (0, b"GGUF", "a GGUF file"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (257, b"ustar", "a tar archive, such as torch wrote before 0.1.12"),
    (0, b"\x93NUMPY", "a NumPy file"),
)
"""How other files start. A length of safetensors that starts so is beyond its limit."""

_LOOKED_AT_NBYTES = 512


def locate(file: InputFile, root: str | None = None) -> Located:
    """Find the tensors of a file of any format.

    Args:
        file: the file.
        root: the path of the state dict in what a torch file holds; None to look for it.

    Raises:
        UnsupportedFormatError: it is of another format that is recognised.
        MalformedFileError, UnsupportedFormatError, UnknownNameError: it cannot be read as what it is.
    """
    with collector_paused():
        return _locate(file, root)


def _locate(file: InputFile, root: str | None) -> Located:
    start = file.head(_LOOKED_AT_NBYTES)
    for offset, magic, kind in _OTHERS:
        if start[offset : offset + len(magic)] == magic:
            raise UnsupportedFormatError(file.path, kind)
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        file.make_seekable()
        return torch_zip.locate(file, root)
    if torch_legacy.is_legacy(start):
        file.make_seekable()
        return torch_legacy.locate(file, root)
    # The length of a safetensors header ends with four zeros.
    if start[:1] == b"\x80" and start[1:2] <= b"\x05" and any(start[4:8]):
        raise UnsupportedFormatError(file.path, "a pickle that torch.save did not write")
    suffix = os.path.splitext(file.path)[1].lower()
    if suffix in torch_zip.SUFFIXES and not safetensors.may_be(start):
        problem = "it starts neither as a zip archive, nor as a pickle, nor as safetensors"
        raise MalformedFileError(file.path, problem, "torch file")
    return safetensors.locate(file)
