"""Make, join and remove the temporary that several processes share."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from errno import EEXIST, ENOENT, ENOTEMPTY

from reinit_cli.errors import OutputError
from reinit_cli.storage.closing import close_quietly
from reinit_cli.storage.folders import make_folders_in
from reinit_cli.storage.reader import Modes
from reinit_cli.storage.staging.ranks import Ranks
from reinit_cli.storage.staging.texts import Form, put_text, see_again, text_at
from reinit_cli.storage.system import lock_if_possible, naming_output, reserve_space
from reinit_cli.storage.temporary import RANKS_MARK, name_of_temporary

VERSION = 1
"""Of the texts in a staging."""

_SHORTEST, _LONGEST = 0.005, 0.5
"""The seconds between two looks at what another rank is to do."""

_NEW_MODE = 0o666
"""The permissions of a new file, before the umask."""

_MARK, _FOLDER, _FILE, _DONE = RANKS_MARK, "folder", "file", "done"


GONE = "rank gone"
"""The kind of error where a rank is gone, and not because of anything that it found."""


PLAN = "rank plan"
"""The kind of error where ranks do not plan the same."""

KINDS = ("ranks", GONE, PLAN)
"""The kinds of errors that say which rank they are about."""


def failure(path: str, problem: str, kind: str = KINDS[0]) -> OutputError:
    """Return the error of several processes that cannot write an output together."""
    return OutputError(path, problem, kind=kind)


class Staging:
    """The temporary of an output that several processes write.

    Attributes:
        path: that of the output, without a slash at its end.
        ranks: which of them this one is.
        outer: the temporary.
    """

    def __init__(self, path: str, ranks: Ranks, kind: str = "staging") -> None:
        """Name it, and make nothing.

        Args:
            path: that of the output.
            ranks: which of the processes this one is.
            kind: what it is for.
        """
        self.path = path.rstrip(os.sep)
        self.ranks = ranks
        self.outer = self._named(kind)
        self._draft = self._named("draft" if kind == "staging" else f"draft of {kind}")
        self._lock: int | None = None

    def _named(self, what: str) -> str:
        """Return a name next to the output that every rank of this run has for something."""
        words = (os.path.basename(self.path), self.ranks.run_id, what)
        digits = hashlib.sha256("\0".join(words).encode(errors="surrogateescape")).hexdigest()
        return name_of_temporary(self.path, digits[:12])

    @property
    def folder(self) -> str:
        """Where the files of a folder are."""
        return os.path.join(self.outer, _FOLDER)

    def place(self, name: str) -> str:
        """Return where a file of the output is; a lone one is called ""."""
        return os.path.join(self.folder, name) if name else os.path.join(self.outer, _FILE)

    @property
    def content(self) -> str:
        """The path of what gets the name of the output: a folder or a lone file."""
        lone = self.place("")
        return lone if os.path.lexists(lone) else self.folder

    def text(self, what: str, rank: int) -> str:
        """Return the path of what a rank says, such as its note."""
        return os.path.join(self.outer, f"{what}-{rank}")

    def failed(self) -> list[int]:
        """Return the other ranks that said why they failed."""
        see_again(self.outer)
        try:
            names = set(os.listdir(self.outer))
        except OSError:
            return []
        found = (name.partition("-") for name in names if name.startswith("failed-"))
        ranks = {int(rank) for _, _, rank in found if rank.isdecimal()}
        return sorted(ranks - {self.ranks.rank})  # also of another world size

    # --- by rank 0 ----------------------------------------------------------------------

    def make(self, sizes: Mapping[str, int], plan: Form, modes: Modes) -> None:
        """Let it appear with every file at its size, or go on with one that is the same.

        Args:
            sizes: the size of each file.
            plan: what this rank planned.
            modes: the permissions of what a folder holds.

        Raises:
            OutputError: another run with the same id is writing it.
            OutputUnwritableError: the folder or the disk refuses.
        """
        with naming_output(self.path):
            self._refuse_second()
            if not (self.ranks.resumes and self._has(sizes, plan)):
                self._make_new(sizes, plan, modes)
            self._set_aside()

    def _has(self, sizes: Mapping[str, int], plan: Form) -> bool:
        """Whether a run with the same plan left it, with all of its files."""
        mark = self.mark()
        if mark is None or mark.get("plan") != plan or self.is_done:
            return False
        try:
            return all(os.lstat(self.place(name)).st_size == sizes[name] for name in sizes)
        except OSError:
            return False

    def _set_aside(self) -> None:
        """Take from the ranks of an earlier run what they say; their notes are to be checked."""
        for name in os.listdir(self.outer):
            what, _, rank = name.partition("-")
            path = os.path.join(self.outer, name)
            if what == "note" and rank.isdecimal():
                os.rename(path, self.text("old", int(rank)))
            elif what in ("beat", "failed", "note"):
                os.unlink(path)

    def _make_new(self, sizes: Mapping[str, int], plan: Form, modes: Modes) -> None:
        draft = self._draft
        if self._lock is not None or not os.path.lexists(os.path.join(self.outer, _MARK)):
            _remove(self.outer)  # else another has made it since
        self.close()
        left = self._lock_on(draft)
        _remove(draft)
        if left is not None:
            close_quietly(left)
        try:
            self._fill(draft, sizes, plan, modes)
            if not self._has_made(draft):
                raise self._second()
            os.rename(draft, self.outer)
        except BaseException as error:
            is_second = _is_of_two(error) and os.path.isdir(os.path.dirname(draft) or os.curdir)
            if not is_second or self._has_made(draft):
                _remove(draft)
            if not is_second:
                raise
            self.close()
            raise self._second() from error

    def _has_made(self, draft: str) -> bool:
        """Whether a draft has the mark that this process holds the lock of."""
        try:
            mark = os.stat(os.path.join(draft, _MARK))
        except OSError:
            return False
        return self._lock is not None and os.path.samestat(os.fstat(self._lock), mark)

    def _fill(self, draft: str, sizes: Mapping[str, int], plan: Form, modes: Modes) -> None:
        """Make the files, under a mark by which what a killed run leaves is known."""
        mark = os.path.join(draft, _MARK)
        form = {"version": VERSION, "made": os.urandom(16).hex(), "plan": plan}
        os.mkdir(draft, 0o700)
        while not _has_put(mark, form):
            os.mkdir(draft, 0o700)
        self._lock = os.open(mark, os.O_RDWR | os.O_CLOEXEC)
        lock_if_possible(self._lock)
        for name, nbytes in sizes.items():
            place = os.path.join(draft, os.path.relpath(self.place(name), self.outer))
            _make_file(place, nbytes, modes.files.get(name, _NEW_MODE))
        if "" not in sizes:
            os.makedirs(os.path.join(draft, _FOLDER), exist_ok=True)
            make_folders_in(os.path.join(draft, _FOLDER), modes.folders)

    def _refuse_second(self) -> None:
        """Refuse to write where another run with the same id does, and keep others from it."""
        self._lock = self._lock_on(self.outer)

    def _lock_on(self, outer: str) -> int | None:
        """Return the lock of a temporary, or None where there is none that is whole.

        Raises:
            OutputError: another process holds it.
        """
        try:
            lock = os.open(os.path.join(outer, _MARK), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            close_quietly(lock)
            raise self._second() from error
        except OSError:  # some file systems have no locks
            pass
        return lock

    def _second(self) -> OutputError:
        problem = f"another rank 0 of the run {self.ranks.run_id!r} is writing {self.path!r}"
        return failure(self.path, problem)

    @property
    def is_in_use(self) -> bool:
        """Whether another process is rank 0 of it, as far as locks tell."""
        try:
            self._refuse_second()
        except OutputError:
            return True
        self.close()
        return False

    def remove(self) -> bool:
        """Remove it; return whether it is gone."""
        is_gone = _remove(self.outer)
        self.close()
        return is_gone

    def close(self) -> None:
        """Let its lock go."""
        if self._lock is not None:
            close_quietly(self._lock)
            self._lock = None

    def declare_done(self) -> None:
        """Let the others know that the output has its name."""
        with suppress(OSError):
            put_text(os.path.join(self.outer, _DONE), {"version": VERSION})

    # --- by the others ------------------------------------------------------------------

    def mark(self) -> Form | None:
        """Return what rank 0 says of it; None where there is none yet."""
        see_again(os.path.dirname(self.outer) or os.curdir)
        form = text_at(os.path.join(self.outer, _MARK))
        return form if form is not None and form.get("version") == VERSION else None

    @property
    def is_done(self) -> bool:
        """Whether the output has its name."""
        see_again(self.outer)
        return os.path.lexists(os.path.join(self.outer, _DONE))

    @property
    def is_there(self) -> bool:
        """Whether it has not been removed."""
        see_again(os.path.dirname(self.outer) or os.curdir)
        return os.path.lexists(os.path.join(self.outer, _MARK))


def wait(is_ready: Callable[[], bool], check: Callable[[], object]) -> None:
    """Wait until something is there.

    Args:
        is_ready: whether it is.
        check: called between two looks; raises where waiting longer is in vain.
    """
    pause = _SHORTEST
    while not is_ready():
        check()
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST)


def _has_put(mark: str, form: Form) -> bool:
    """Write a mark; return whether its folder was not removed while it was empty.

    Any run to the same output takes an empty one for what a killed run left.
    """
    try:
        put_text(mark, form)
    except FileNotFoundError:
        return False
    return True


def _make_file(place: str, nbytes: int, mode: int) -> None:
    os.makedirs(os.path.dirname(place), exist_ok=True)
    fd = os.open(place, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, mode)
    try:
        reserve_space(fd, nbytes)
        os.ftruncate(fd, nbytes)
    finally:
        os.close(fd)


def _is_of_two(error: BaseException) -> bool:
    """Whether two processes make the same draft: each removes what it finds, and one is first."""
    if isinstance(error, OutputError):
        return error.kind == KINDS[0]
    return isinstance(error, OSError) and error.errno in (ENOENT, EEXIST, ENOTEMPTY)


def _remove(outer: str) -> bool:
    """Remove a temporary, its mark last; return whether it is gone."""
    for _ in range(2):  # what a network refuses once, it often does the next time
        shutil.rmtree(os.path.join(outer, _FOLDER), ignore_errors=True)
        with suppress(OSError):
            for name in sorted(os.listdir(outer), key=_MARK.__eq__):
                os.unlink(os.path.join(outer, name))
        with suppress(OSError):
            os.rmdir(outer)
        if not os.path.lexists(outer):
            return True
    return False
