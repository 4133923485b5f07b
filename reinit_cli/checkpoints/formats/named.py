"""Read which files of a folder its index names, where nothing else lists them."""

from __future__ import annotations

import os

from reinit_cli.checkpoints.formats.dcp.glance import METADATA_NAME, is_part
from reinit_cli.checkpoints.formats.hugging_face.index import weight_map_of
from reinit_cli.errors import UnsupportedFormatError
from reinit_cli.storage.reader import Reader


def files_named_by(index: Reader, name: str) -> tuple[str, ...]:
    """Return the paths in a folder of the files that an index names, and its own first.

    Args:
        index: the index of a Hugging Face folder, or `.metadata` of a DCP folder.
        name: its name.

    Raises:
        SourceError: it is neither.
    """
    if name == METADATA_NAME:
        from reinit_cli.checkpoints.formats.dcp.metadata import read_metadata

        named = [piece.file for piece in read_metadata(index).pieces]
    elif is_part(name):
        problem = f"is a part of a DCP folder; name the {METADATA_NAME} next to it"
        way = os.path.join(os.path.dirname(index.path), METADATA_NAME)
        raise UnsupportedFormatError(index.path, problem, (way,), kind="several")
    else:
        named = list(weight_map_of(index).values())
    return tuple(dict.fromkeys((name, *named)))
