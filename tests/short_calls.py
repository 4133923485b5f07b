"""Let system calls do a part of what they are asked to do, as FUSE, 9p and NFS may."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def shorten_calls(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Let every call read, write or copy at most this many bytes."""
    pread, preadv, pwrite, copy = os.pread, os.preadv, os.pwrite, os.copy_file_range
    monkeypatch.setattr(os, "pread", lambda fd, count, at: pread(fd, min(count, most), at))
    monkeypatch.setattr(os, "preadv", lambda fd, parts, at: preadv(fd, [parts[0][:most]], at))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:most], at))
    monkeypatch.setattr(
        os,
        "copy_file_range",
        lambda source, target, count, *places: copy(source, target, min(count, most), *places),
    )
