"""Write objects that appear at URLs when all of them are whole.

A store of objects cannot let several appear in one step. So all are sent first, which shows
nothing, and then completed: those that say which others belong together come last, since a
folder without them is not taken for a checkpoint.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Self

from reinit_cli.storage.destination import Destination, check_new
from reinit_cli.storage.elsewhere import file_elsewhere
from reinit_cli.storage.remote.object import RemoteObject
from reinit_cli.storage.remote.upload import abort_stale_uploads
from reinit_cli.storage.whole_file import discarded, note_left
from reinit_cli.storage.writer import Whole, Writer, note_written, nothing
from reinit_cli.threads import Work

_TOGETHER = 8
"""How many objects are completed side by side."""


class RemoteOutput:
    """A lone object, or a folder of objects; see `Output`."""

    def __init__(
        self,
        destination: Destination,
        waits: Callable[[str], bool],
        is_last: Callable[[str], bool],
    ) -> None:
        """Write to a checked destination with a URL.

        Args:
            destination: where the output goes.
            waits: whether a file of the output is written in any order.
            is_last: whether a file of a folder says which others belong to it.
        """
        assert destination.path is not None
        self._destination = destination
        self._url = destination.path.rstrip("/")
        self._waits = waits
        self._is_last = is_last
        self._files: dict[str, RemoteObject] = {}
        self._extras: list[Whole] = []
        self.written: list[str] = []
        self._is_closed = False

    def __enter__(self) -> Self:
        """Hand it out."""
        return self

    def __exit__(self, *failure: object) -> None:
        """Abort what was not committed, once.

        Signals are not held: a place that does not answer must not keep the command from
        ending, and what is left is not visible.
        """
        if self._is_closed:
            return
        self._is_closed = True
        left = discarded(self._whole)
        note_left(left, failure[1], self.written)

    def file(self, name: str, nbytes: int) -> Writer:
        """Return the writer of the lone object, or of one in the folder."""
        if not self._files:
            if name:  # a folder replaces nothing, be it allowed or not
                self._destination = replace(self._destination, replaces=False)
                check_new(self._destination)
            abort_stale_uploads(self._url)
        url = posixpath.join(self._url, name) if name else self._url
        destination = replace(self._destination, path=url)
        file = RemoteObject(destination, nbytes, waits=self._waits(name))
        self._files[name] = file
        file.begin()
        return file

    def file_at(self, destination: Destination, nbytes: int) -> Writer:
        """Return the writer of a file elsewhere."""
        self._extras.append(file_elsewhere(destination, nbytes))
        return self._extras[-1]

    def commit(self, check: Callable[[], object] = nothing) -> None:
        """Wait until everything has arrived, and let it appear, what leads to the rest last."""
        for each in self._whole:
            each.stage()
        if "" not in self._files:
            check_new(self._destination)
        check()
        last = [file for name, file in self._files.items() if not name or self._is_last(name)]
        others = [file for file in self._whole if file not in last]
        appeared: list[Whole] = []
        try:
            _let_appear(others, appeared)
            for file in last:
                _let_appear([file], appeared)
        except BaseException as error:
            stay = [str(each.destination.path) for each in appeared if not each.withdraw()]
            note_written(stay, error)
            raise
        self.written = [str(each.destination.path) for each in self._extras]
        self.written.append(self._url)

    @property
    def _whole(self) -> list[Whole]:
        return [*self._extras, *self._files.values()]


def _let_appear(files: Sequence[Whole], appeared: list[Whole]) -> None:
    """Let files appear side by side, and note those that have."""

    def appear(file: Whole) -> None:
        file.appear(may_return=True)
        appeared.append(file)

    with Work() as work:
        for _ in work.each(appear, files, _TOGETHER):
            pass
