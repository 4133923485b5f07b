"""A file of a source whose bytes nobody reads."""

from __future__ import annotations

from typing import cast

from reinit_cli.storage.reader import Reader

UNREAD = cast("Reader", object())
