"""Know by the names in a folder whether it is one of torch.distributed.checkpoint."""

from __future__ import annotations

import re
from collections.abc import Sequence

from reinit_cli.checkpoints.formats.hugging_face.names import is_index, series_of, shards_in

METADATA_NAME = ".metadata"

SUFFIX = ".distcp"

_PART = re.compile(rf"(__\d+)?{re.escape(METADATA_NAME)}|[^/]*{re.escape(SUFFIX)}")


def is_part(name: str) -> bool:
    """Whether a file of this name is one of such a folder."""
    return _PART.fullmatch(name) is not None


def is_folder_of_dcp(names: Sequence[str]) -> bool:
    """Whether a folder with such files is one; one with weights that libraries load is not."""
    top = [name for name in names if "/" not in name]
    return any(map(is_part, top)) and not _has_whole_weights(top)


def _has_whole_weights(top: Sequence[str]) -> bool:
    return any(is_index(name) or _is_loaded(name) for name in top)


def _is_loaded(name: str) -> bool:
    series = series_of(name)
    return series is not None and bool(series.library)


class ByNames:
    """What can be said of the format without a look into files."""

    name = "DCP folder"
    suffixes = (SUFFIX,)
    is_folder = True
    holds_record = True

    def recognizes(self, head: bytes, names: Sequence[str] = ()) -> bool:
        """Whether a folder has files of such pieces."""
        return not head and is_folder_of_dcp(names)


class ShardsByNames:
    """What can be said of folders of sharded safetensors without a look into files."""

    name = "folder of sharded safetensors"
    suffixes: tuple[str, ...] = ()
    is_folder = True
    holds_record = True

    def recognizes(self, head: bytes, names: Sequence[str] = ()) -> bool:
        """Whether a folder has files of several ranks, and none that libraries load."""
        if head or not shards_in(names):
            return False
        return not _has_whole_weights([name for name in names if "/" not in name])
