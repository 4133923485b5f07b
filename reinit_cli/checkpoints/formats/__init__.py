"""List the checkpoint formats, and choose among them.

They read hostile bytes: nothing in them is called, imported or executed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from reinit_cli.checkpoints.formats.base import Content, Format, NewFormat
from reinit_cli.checkpoints.formats.dcp.deferred import DCP, SHARDED
from reinit_cli.checkpoints.formats.dcp.glance import is_part
from reinit_cli.checkpoints.formats.detection import recognized
from reinit_cli.checkpoints.formats.hugging_face.format import HuggingFace
from reinit_cli.checkpoints.formats.hugging_face.names import is_index, series_of
from reinit_cli.checkpoints.formats.respelling import KeepingFormat
from reinit_cli.checkpoints.formats.safetensors import Safetensors
from reinit_cli.checkpoints.formats.torch.deferred import LEGACY, ZIP
from reinit_cli.storage.reader import Reader
from reinit_cli.tensors.info import TensorInfo

_SAFETENSORS = Safetensors()

FILE_FORMATS: tuple[Format, ...] = (ZIP, LEGACY, _SAFETENSORS)
"""The formats of a checkpoint that is one file, in the order in which they are tried."""

NEW_FOLDER: NewFormat = HuggingFace(FILE_FORMATS, _SAFETENSORS)
"""The format of a new checkpoint of several files."""

FOLDER_FORMATS: tuple[Format, ...] = (DCP, SHARDED, NEW_FOLDER)
"""The formats of a checkpoint of several files, in the order in which they are tried."""

LAYOUTS: Mapping[str, NewFormat] = {"dcp": DCP}
"""The formats of new folders that have a name, which no suffix can say."""

FORMATS: tuple[Format, ...] = (*FILE_FORMATS, *FOLDER_FORMATS)
"""Every format."""

NEW_FILES: tuple[NewFormat, ...] = (_SAFETENSORS, ZIP)
"""The formats of a new checkpoint of one file, the usual one first."""

_CREATED: tuple[NewFormat, ...] = (*NEW_FILES, LEGACY)
"""The formats in which new files are written, where their source has the format already."""

_KEEPING: tuple[KeepingFormat, ...] = (ZIP, LEGACY)
"""The formats whose files hold more than tensors, which stays where these change."""

SUFFIXES = tuple(suffix for each in NEW_FILES for suffix in each.suffixes)
"""The suffixes that name the format of a new file."""


def suffix_of(path: str) -> str:
    """Return the suffix of a file's name, such as ".pt", ".pth.tar" or ".safetensors.bak"."""
    stem, last = os.path.splitext(os.path.basename(path))
    before = os.path.splitext(stem)[1]
    is_double = before.lower() in SUFFIXES and last.lower() not in SUFFIXES
    return before + last if is_double else last


def keeping(own: Format | None) -> KeepingFormat | None:
    """Return a format as one whose tensors can change where everything else stays."""
    return next((each for each in _KEEPING if each is own), None)


def training_format(file: Reader) -> KeepingFormat:
    """Return the format of a file that holds an optimizer.

    Raises:
        UnsupportedFormatError, MalformedFileError: it is none of those that can.
    """
    own = recognized(file, _KEEPING)
    return next(each for each in _KEEPING if each is own)


def format_of(file: Reader) -> Format:
    """Return the format of a file, by its content.

    Raises:
        UnsupportedFormatError: it is of another kind that is known.
    """
    return recognized(file, FILE_FORMATS)


def format_of_folder(names: Sequence[str], index: str = "") -> Format:
    """Return the format of a folder with such files.

    Args:
        names: the names of its files.
        index: the file among them that the user named instead, or "".
    """
    if is_part(index):  # also where the folder has weights of another format
        return DCP
    found = (each for each in FOLDER_FORMATS if each.recognizes(b"", names))
    return next(found, NEW_FOLDER)


def names_folder(path: str) -> bool:
    """Whether a path is that of an index, which stands for the folder that it lies in."""
    name = os.path.basename(path)
    return leads_to_others(name) or is_part(name)


def leads_to_others(path: str) -> bool:
    """Whether a file of a folder says which others hold its tensors."""
    name = os.path.basename(path)
    return is_index(name) or any(name.endswith(each.suffixes) for each in FOLDER_FORMATS)


def is_of_folder(name: str) -> bool:
    """Whether a library looks for a file of weights of this name in a folder."""
    series = series_of(name)
    return is_index(name) or is_part(name) or (series is not None and bool(series.library))


def new_folder(file: str) -> NewFormat:
    """Return the format of new files that are called as if they replaced one of weights."""
    return HuggingFace(FILE_FORMATS, _SAFETENSORS, file)


def new_file(
    suffix: str, own: Format | None = None, dtypes: Iterable[str] = ()
) -> NewFormat | None:
    """Return the format of a new file with a suffix, if that names one.

    Args:
        suffix: that of its name.
        own: the format of the source, which a new file keeps where the suffix allows it.
        dtypes: some that it is to hold.
    """
    able = [each for each in _CREATED if suffix in each.suffixes]
    content = Content(tuple(TensorInfo("", dtype, (), 0) for dtype in dtypes))
    kept = (each for each in able if each is own and not each.refuses(content).beyond)
    return next(kept, next(iter(able), None))


def new_file_for(tensors: tuple[TensorInfo, ...]) -> NewFormat:
    """Return the first format that a new file of such tensors, all in memory, can have."""
    content = Content(tensors, is_live=True)
    able = (each for each in NEW_FILES if not each.refuses(content).beyond)
    return next(able, NEW_FILES[-1])
