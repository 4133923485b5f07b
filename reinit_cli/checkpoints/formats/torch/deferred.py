"""Offer torch's formats without importing what reads them: most files are of another format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, cast

from reinit_cli.checkpoints.formats.base import Files, Located, NewFormat
from reinit_cli.checkpoints.formats.respelling import KeepingFormat
from reinit_cli.checkpoints.formats.torch.glance import SUFFIXES, starts_as_legacy, starts_as_zip

if TYPE_CHECKING:
    from reinit_cli.checkpoints.formats.outline import Part


class TorchFormat(KeepingFormat, NewFormat, Protocol):
    """A format of `torch.save`."""

    def outline(self, files: Files, located: Located | None) -> tuple[Part, ...]:
        """Return what a file holds, as `Outlining` says."""


class _Deferred:
    """Stands for a format, and imports it when it is asked for more than a glance tells."""

    suffixes = SUFFIXES

    def __init__(
        self, name: str, starts: Callable[[bytes], bool], load: Callable[[], TorchFormat]
    ) -> None:
        self._name = name
        self._starts = starts
        self._load = load

    def __reduce__(self) -> str:
        """Pickle its name in this module: outcomes come back from other processes."""
        return self._name

    def recognizes(self, head: bytes, names: Sequence[str] = ()) -> bool:
        """Whether a file starts as one of this format."""
        return not names and self._starts(head)

    def outline(self, files: Files, located: Located | None) -> tuple[Part, ...]:
        """Ask the format itself; from Python 3.12 on, a protocol does not find it by itself."""
        return self._format.outline(files, located)

    def __getattr__(self, attribute: str) -> Any:
        """Ask the format itself."""
        return getattr(self._format, attribute)

    @cached_property
    def _format(self) -> TorchFormat:
        return self._load()


def _load_zip() -> TorchFormat:
    from reinit_cli.checkpoints.formats.torch.zip import TorchZip

    return TorchZip()


def _load_legacy() -> TorchFormat:
    from reinit_cli.checkpoints.formats.torch.legacy import TorchLegacy

    return TorchLegacy()


ZIP = cast("TorchFormat", _Deferred("ZIP", starts_as_zip, _load_zip))
LEGACY = cast("TorchFormat", _Deferred("LEGACY", starts_as_legacy, _load_legacy))
