"""Locate the tensors of one file, as tests do."""

from __future__ import annotations

from reinit_cli.checkpoints.formats import format_of
from reinit_cli.checkpoints.formats.base import Files, Located
from reinit_cli.storage.local import InputFile


def locate(file: InputFile, root: str | None = None) -> Located:
    return format_of(file).locate(Files.lone(file), root)


def located_in(path: str, root: str | None = None) -> Located:
    with InputFile(path) as file:
        return locate(file, root)
