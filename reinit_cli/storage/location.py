"""Take the names of sources and outputs apart."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceName:
    """The name of a source, in parts.

    Attributes:
        parent: the folder it lies in; "" for the current one.
        stem: its name there without the suffix.
        suffix: from the last dot on; "" for a folder.
    """

    parent: str
    stem: str
    suffix: str

    @classmethod
    def of_file(cls, path: str) -> SourceName:
        """Take the path of a file apart."""
        parent, name = os.path.split(path)
        return cls(parent, *os.path.splitext(name))


_IN_HUB_CACHE = re.compile(r"(^|/)(models|datasets|spaces)--[^/]+/(snapshots|blobs)(/|$)")


def in_hub_cache(folder: str) -> bool:
    """Whether a folder is one of a hub cache, such as models--OWNER--NAME/snapshots/REVISION."""
    return _IN_HUB_CACHE.search(folder) is not None


DASH = "-"
"""The source that stands for standard input, and the output for standard output."""
