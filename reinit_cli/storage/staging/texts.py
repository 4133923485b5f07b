"""Read and write the texts of a staging: each appears whole, and is JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

Form = Mapping[str, Any]
"""A text as Python has it."""

_MODE = 0o666


def put_text(path: str, form: Form) -> None:
    """Write a text that appears whole.

    Raises:
        OSError: the file system refuses.
    """
    draft = f"{path}.draft"
    fd = os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, _MODE)
    with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
        json.dump(form, file)
        file.flush()
        with suppress(OSError):  # a server may have the name before the bytes
            os.fsync(fd)
    os.rename(draft, path)


def text_at(path: str) -> Form | None:
    """Return a text; None where there is none, or none of ours."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            form: Any = json.load(file)
    except (OSError, ValueError, RecursionError):
        return None
    return form if isinstance(form, dict) else None


def see_again(folder: str) -> None:
    """Let a network file system look again at what a folder holds.

    A client remembers for seconds that a name was not there; opening the folder asks again.
    """
    with suppress(OSError):
        os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
