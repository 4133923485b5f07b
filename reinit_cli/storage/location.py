"""Take the names of sources and outputs apart."""

from __future__ import annotations

import os
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


DASH = "-"
"""The source that stands for standard input, and the output for standard output."""
