"""Write a part of an output into a staging; rank 0 commits the whole."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from reinit_cli.errors import OutputUnwritableError, ReinitError
from reinit_cli.storage.anchor import Anchor
from reinit_cli.storage.closing import close_quietly
from reinit_cli.storage.destination import Destination
from reinit_cli.storage.local_output import LocalOutput
from reinit_cli.storage.reader import Modes
from reinit_cli.storage.staging.joining import compare, join
from reinit_cli.storage.staging.ranks import Ranks
from reinit_cli.storage.staging.refusal import remove_refusal, tell
from reinit_cli.storage.staging.shared_file import SharedFile
from reinit_cli.storage.staging.staging import Staging, wait
from reinit_cli.storage.staging.texts import Form, put_text, text_at
from reinit_cli.storage.staging.watch import Watch, ended, is_interruption
from reinit_cli.storage.system import naming_output
from reinit_cli.storage.temporary import TemporaryFolder, remove_stale
from reinit_cli.storage.whole_file import WholeFile
from reinit_cli.storage.writer import Writer, nothing
from reinit_cli.threads import Follower, Progress, unwatched

_FAREWELL_SECONDS = 5.0
"""How long rank 0 lets the others see how the run ended before it removes the staging."""


class SharedOutput(LocalOutput):
    """An output of which this rank writes a part."""

    def __init__(self, destination: Destination, modes: Modes, ranks: Ranks) -> None:
        """Write to a checked destination with a path, together with other processes.

        Args:
            destination: where the output goes.
            modes: the permissions of what a folder is to hold.
            ranks: which of the processes this one is.
        """
        super().__init__(destination, modes)
        self.ranks = ranks
        self._staging = Staging(self._path, ranks)
        self._opened: list[SharedFile] = []
        self._sizes: Mapping[str, int] = {}
        self._watch: Watch | None = None

    def begin(self, sizes: Mapping[str, int], plan: Form, progress: Progress = unwatched) -> None:
        """Meet the other ranks, all of which must have the same plan.

        Args:
            sizes: the size of each file.
            plan: what was planned, by names for people.
            progress: called with the bytes that others have written.

        Raises:
            OutputError: they do not come, or have another plan.
            OutputUnwritableError: the folder or the disk refuses.
        """
        raise NotImplementedError

    def file(self, name: str, nbytes: int) -> Writer:
        """Return the writer of a file, of which others write the rest."""
        del nbytes
        syncs = self._destination.syncs or self._destination.replaces
        path = os.path.join(self._path, name) if name else self._path
        with self._in_staging():
            self._opened.append(SharedFile(path, self._staging.place(name), syncs=syncs))
        return self._opened[-1]

    def counted(self, progress: Progress) -> Progress:
        """Return what also counts the bytes for the others, and raises where one has failed."""
        return _Counted(self._watched, progress)

    def leave(self, note: Form) -> None:
        """Say that this rank has written its part.

        Args:
            note: what rank 0 needs to know of it.
        """
        for file in self._opened:
            file.close()
        self._opened.clear()
        self._watched.check()
        with self._in_staging(), naming_output(self._path):
            put_text(self._staging.text("note", self.ranks.rank), note)

    @contextmanager
    def _in_staging(self) -> Iterator[None]:
        """Say why the staging is gone where that is why something fails."""
        try:
            yield
        except OutputUnwritableError as error:
            self._watched.check()
            if not self._staging.is_there:
                raise ended(self._staging) from error
            raise

    def note_of_before(self) -> Form | None:
        """Return what this rank left when it wrote its part in a run that was interrupted."""
        if not self.ranks.resumes:
            return None
        return text_at(self._staging.text("old", self.ranks.rank))

    @property
    def _watched(self) -> Watch:
        assert self._watch is not None
        return self._watch

    def _close_files(self) -> None:
        for file in self._opened:
            file.discard()


class FirstOutput(SharedOutput):
    """The output of rank 0, which makes the staging and commits it."""

    def __init__(self, destination: Destination, modes: Modes, ranks: Ranks) -> None:
        super().__init__(destination, modes, ranks)
        self._has_ended = False

    def begin(self, sizes: Mapping[str, int], plan: Form, progress: Progress = unwatched) -> None:
        """Make the staging."""
        self._sizes = sizes
        remove_stale(self._staging.path)
        remove_refusal(self._staging)
        try:
            self._staging.make(sizes, plan, self._modes)
        except ReinitError as error:
            self._staging.close()
            tell(self._path, self.ranks, error)
            raise
        self._watch = Watch(self._staging, self.ranks.others, progress)
        self._watch.begin()

    def notes(self) -> list[Form]:
        """Wait until every rank has written its part, and return what they say of it.

        Raises:
            OutputError: one has failed or gives no sign of life.
        """
        found: dict[int, Form] = {}

        def are_all_there() -> bool:
            for rank in range(self.ranks.count):
                if rank not in found and (note := text_at(self._staging.text("note", rank))):
                    found[rank] = note
                    self._watched.expect_no_more_of(rank)
            return len(found) == self.ranks.count

        wait(are_all_there, self._watched.check)
        return [found[rank] for rank in sorted(found)]

    def commit(self, check: Callable[[], object] = nothing) -> None:
        """Give the files their names."""
        self._close_files()
        with naming_output(self._path):
            if "" in self._sizes:
                self._lone.append(_StagedFile(self._destination, self._staging.place("")))
            else:
                self._anchor = Anchor(self._staging.path)
                self._folder = _StagedFolder(self._staging)
        super().commit(check)
        self._staging.declare_done()

    def refuse(self, error: ReinitError) -> None:
        """Let the others know why nothing is committed."""
        self._watched.leave(error)

    def __exit__(self, *raised: object) -> None:
        """Let the others see how it ended; keep what they wrote only if one was interrupted."""
        if self._has_ended:
            return
        self._has_ended = True
        error = raised[1] if isinstance(raised[1], BaseException) else None
        self._close_files()
        try:
            super().__exit__(*raised)
        finally:
            if self._watch is not None:
                self._end(self._watch, error)

    def _end(self, watch: Watch, error: BaseException | None) -> None:
        if error is not None:
            watch.leave(error)
        is_there = self._staging.is_there
        is_kept = is_there and not self.written and is_interruption(error)
        until = time.monotonic() + (_FAREWELL_SECONDS if is_there and not is_kept else 0)
        while time.monotonic() < until and not watch.have_others_left:
            time.sleep(0.01)
        watch.end()
        if is_kept:
            self._staging.close()
            left = f"{self._staging.outer!r} is left"
            if isinstance(error, ReinitError):
                error.notes += (left,)
            elif error is not None:
                error.add_note(left)
        else:
            self._staging.remove()


class OtherOutput(SharedOutput):
    """The output of another rank than 0, which waits for the commit."""

    def __init__(self, destination: Destination, modes: Modes, ranks: Ranks) -> None:
        super().__init__(destination, modes, ranks)
        self._content: tuple[int, int] | None = None

    def begin(self, sizes: Mapping[str, int], plan: Form, progress: Progress = unwatched) -> None:
        """Wait for the staging."""
        del sizes, progress
        of_first = join(self._staging)
        self._content = _inode(self._staging.content)
        self._watch = Watch(self._staging, (0,))
        self._watch.begin()
        compare(self._staging, plan, of_first)

    def commit(self, check: Callable[[], object] = nothing) -> None:
        """Wait until rank 0 has committed.

        Raises:
            OutputError: it does not.
        """
        check()
        wait(self._is_done, self._watched.check)

    def _is_done(self) -> bool:
        if self._staging.is_done:
            return True
        # This rank may have slept until the staging was gone.
        return not self._staging.is_there and _inode(self._staging.path) == self._content

    def __exit__(self, *raised: object) -> None:
        """Let the others know where this rank fails."""
        self._close_files()
        if self._watch is not None:
            if isinstance(raised[1], BaseException):
                self._watch.leave(raised[1])
            self._watch.end()
            self._watch = None


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def shared_output(destination: Destination, modes: Modes, ranks: Ranks) -> SharedOutput:
    """Return the output of a rank."""
    kind = FirstOutput if ranks.is_first else OtherOutput
    return kind(destination, modes, ranks)


class _Counted:
    """Counts bytes for the other ranks, and for who watches this one."""

    def __init__(self, watch: Watch, progress: Progress) -> None:
        self._watch = watch
        self._progress = progress

    def __call__(self, nbytes: int, /) -> None:
        self._watch.count(nbytes)
        self._progress(nbytes)

    def follow(self, key: str) -> None:
        """Note the tensor that this thread works on now."""
        if isinstance(self._progress, Follower):
            self._progress.follow(key)


class _StagedFile(WholeFile):
    """The lone file of a staging."""

    def __init__(self, destination: Destination, place: str) -> None:
        self._place = place
        super().__init__(destination, 0)

    def _opened(self, nbytes: int) -> int:
        del nbytes
        self._temporary = self._place
        return os.open(self._place, os.O_RDWR | os.O_CLOEXEC)

    def discard(self) -> list[str]:
        """Close it: it goes with the staging."""
        close_quietly(self._fd)
        self._anchor.close()
        return []


class _StagedFolder(TemporaryFolder):
    """The folder of a staging."""

    def __init__(self, staging: Staging) -> None:
        self.outer, self.path = staging.outer, staging.folder

    def remove(self) -> bool:
        """Leave it: it goes with the staging."""
        return True
