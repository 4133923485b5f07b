"""Offer the formats without importing what reads them: most folders are of another format."""

from __future__ import annotations

from functools import cached_property
from typing import Any, cast

from reinit_cli.checkpoints.formats.base import Format, NewFormat
from reinit_cli.checkpoints.formats.dcp.glance import ByNames, ShardsByNames


class _Deferred(ByNames):
    """Stands for the format, and imports it when it is asked for more than names tell."""

    def __reduce__(self) -> str:
        """Pickle its name in this module: outcomes come back from other processes."""
        return "DCP"

    def __getattr__(self, attribute: str) -> Any:
        """Ask the format itself."""
        return getattr(self._format, attribute)

    @cached_property
    def _format(self) -> NewFormat:
        from reinit_cli.checkpoints.formats.dcp.format import Dcp

        return Dcp()


class _DeferredShards(ShardsByNames):
    """Stands for the format of sharded safetensors in the same way."""

    def __reduce__(self) -> str:
        """Pickle its name in this module."""
        return "SHARDED"

    def __getattr__(self, attribute: str) -> Any:
        """Ask the format itself."""
        return getattr(self._format, attribute)

    @cached_property
    def _format(self) -> Format:
        from reinit_cli.checkpoints.formats.dcp.shards import ShardedSafetensors

        return ShardedSafetensors()


DCP = cast("NewFormat", _Deferred())

SHARDED = cast("Format", _DeferredShards())
