"""Offer the formats without importing what reads them: most folders are of another format."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from reinit_cli.checkpoints.formats.base import Files, Format, Located, NewFormat
from reinit_cli.checkpoints.formats.dcp.glance import ByNames, ShardsByNames

if TYPE_CHECKING:
    from reinit_cli.checkpoints.formats.dcp.format import Dcp
    from reinit_cli.checkpoints.formats.outline import Part


class _Deferred(ByNames):
    """Stands for the format, and imports it when it is asked for more than names tell."""

    def __reduce__(self) -> str:
        """Pickle its name in this module: outcomes come back from other processes."""
        return "DCP"

    def outline(self, files: Files, located: Located | None) -> tuple[Part, ...]:
        """Ask the format itself; from Python 3.12 on, a protocol does not find it by itself."""
        return self._format.outline(files, located)

    def __getattr__(self, attribute: str) -> Any:
        """Ask the format itself."""
        return getattr(self._format, attribute)

    @cached_property
    def _format(self) -> Dcp:
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
