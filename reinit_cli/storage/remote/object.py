"""Write an object that appears at a URL when it is whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from reinit_cli.errors import OutputExistsError
from reinit_cli.storage.destination import Destination, check_new
from reinit_cli.storage.in_order import InOrderWriter, SpooledWriter
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.remote.upload import Upload, upload_to
from reinit_cli.threads import aside, in_main_thread

Result = TypeVar("Result")


class RemoteObject:
    """One object of an output; see `Whole`.

    Bytes go up in order as they are written, or when it is closed if they come in any order:
    an upload cannot be read again, so what is digested at the end waits in TMPDIR.
    """

    syncs = False

    def __init__(self, destination: Destination, nbytes: int, *, waits: bool = False) -> None:
        """Prepare to write, without a request.

        Args:
            destination: a checked destination with a URL.
            nbytes: the size that it will have.
            waits: whether its bytes are written in any order and sent off at the end.

        Raises:
            OutputUnwritableError: the place takes no uploads, or TMPDIR refuses.
        """
        assert destination.path is not None
        self.destination = destination
        self._url = destination.path
        is_new = not destination.replaces
        self._upload: Upload = upload_to(self._url, nbytes, is_new=is_new)
        self._writer = (SpooledWriter if waits else InOrderWriter)(self._upload)
        self.is_seekable = waits
        self._has_begun = False
        self._is_closed = False
        self._has_appeared = False

    def begin(self) -> None:
        """Find out whether the place takes an object.

        Raises:
            OutputUnwritableError: it does not.
        """
        _off_main_thread(self._begin)

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of `data` there."""
        _off_main_thread(lambda: self._write_at(offset, data))

    def copy_from(self, reader: Reader, start: int, offset: int, nbytes: int) -> int:
        """Copy nothing: all bytes pass through this process."""
        return self._writer.copy_from(reader, start, offset, nbytes)

    def clone(self, reader: Reader) -> bool:
        """Share nothing."""
        return self._writer.clone(reader)

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return bytes that were written and not sent off."""
        return self._writer.read(offset, nbytes)

    def close(self) -> None:
        """Send off what waits, and wait until all of it has arrived."""
        if not self._is_closed:
            _off_main_thread(self._finish)
            self._is_closed = True
            self._writer.discard()

    def stage(self) -> None:
        """Do all that can fail before the object appears."""
        self.close()
        check_new(self.destination)

    def appear(self, *, may_return: bool) -> None:
        """Let the object appear.

        Raises:
            OutputExistsError: there is another by now.
            OutputUnwritableError: the place refuses.
        """
        del may_return  # what is replaced is gone
        _off_main_thread(self._complete)

    def withdraw(self) -> bool:
        """Remove the object; return whether what was there before is there again."""
        if not self._has_appeared:
            return True
        return not self.destination.replaces and _off_main_thread(self._upload.remove)

    def discard(self) -> list[str]:
        """Take back what has not appeared; return what is left of it."""
        if not self._is_closed:
            self._is_closed = True
            self._writer.discard()
        is_gone = self._has_appeared or _off_main_thread(self._upload.abort)
        return [] if is_gone else [f"{self._url} (an unfinished upload)"]

    def _begin(self) -> None:
        if not self._has_begun:
            self._upload.begin()
            self._has_begun = True

    def _write_at(self, offset: int, data: bytes | memoryview) -> None:
        self._begin()
        self._writer.write_at(offset, data)

    def _finish(self) -> None:
        self._begin()
        self._writer.send()
        self._upload.finish()

    def _complete(self) -> None:
        try:
            self._upload.complete()
        except FileExistsError as error:
            raise OutputExistsError(self._url, kind=self.destination.kind) from error
        self._has_appeared = True


def _off_main_thread(work: Callable[[], Result]) -> Result:
    """Do work in another thread if this is the main one, where a signal cannot interrupt it.

    A request that Ctrl-C parts from its answer would leave an upload that nobody knows.
    """
    return aside(work) if in_main_thread() else work()
