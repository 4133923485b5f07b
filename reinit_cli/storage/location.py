"""Take the names of sources and outputs apart."""

from __future__ import annotations

import os
import re

from reinit_cli.lazy import dataclass


@dataclass(frozen=True, slots=True)
class SourceName:
    """The name of a source, in parts.

    Attributes:
        parent: the folder it lies in; "" for the current one.
        stem: its name there without the suffix.
        suffix: it, with its dots; "" for a folder.
    """

    parent: str
    stem: str
    suffix: str

    @classmethod
    def of_file(cls, path: str, suffix: str) -> SourceName:
        """Take the path of a file apart."""
        parent, name = os.path.split(path)
        return cls(parent, name.removesuffix(suffix), suffix)


_IN_HUB_CACHE = re.compile(
    r"(?:^|/)(?:models|datasets|spaces)--(?:[^/]+--)?([^/]+)/(?:snapshots|blobs)(?:/|$)"
)


def name_in_hub_cache(folder: str) -> str:
    """Return the model's name where a folder is one of a hub cache, or "".

    Such a folder is models--OWNER--NAME/snapshots, one below it, or that of the blobs; a link
    may have brought it where its name does not tell.
    """
    for path in (os.path.abspath(folder), os.path.realpath(folder)):
        found = _IN_HUB_CACHE.search(path)
        if found is not None:
            return found[1]
    return ""


DASH = "-"
"""The source that stands for standard input, and the output for standard output."""
