"""List the files of a folder, through no link that leads out of it.

A folder may come from a stranger, and what it has is copied. A link may lead to another
place in the folder, or, as in a hub cache, from `snapshots/REVISION` to `blobs`. Any other
file that a link leads to is told apart, and any other folder is left out.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet

from reinit_cli.errors import SourceChangedError, UnreadableSourceError
from reinit_cli.lazy import dataclass
from reinit_cli.storage.destination import place_of
from reinit_cli.storage.reader import Fingerprint, Listed, Listing, Store
from reinit_cli.storage.system import wait_for_next_tick
from reinit_cli.storage.temporary import is_temporary
from reinit_cli.text import why

MAX_FILES = 100_000
"""The most files and folders that are listed."""


@dataclass(frozen=True, slots=True)
class ListedFolder:
    """A folder that was listed.

    Attributes:
        path: the folder.
        files: its files as they were, by their path in it.
        read: the names of those that are read.
        store: where it is.
    """

    path: str
    files: Mapping[str, Listed]
    read: AbstractSet[str]
    store: Store

    def check_unchanged(self, written: Collection[str]) -> None:
        """Compare its files with those that it has now.

        Args:
            written: the paths of files and folders that the command itself writes.

        Raises:
            SourceChangedError: one that is read has changed, one is gone, or one that is
                none of these has appeared.
        """
        now = self.store.list(self.path).files
        changed = {name for name in self.read if now.get(name) != self.files[name]}
        others = now.keys() ^ self.files.keys()
        places = {place_of(path) for path in written} if others else ()
        changed |= {name for name in others if not _is_within(self._path_of(name), places)}
        if changed:
            raise SourceChangedError(self._path_of(min(changed)))

    def _path_of(self, name: str) -> str:
        return os.path.join(self.path, name)


def _is_within(path: str, places: Collection[str]) -> bool:
    """Whether a path is one of others, or in a folder that is."""
    place = place_of(path)
    return any(place == other or place.startswith(other + os.sep) for other in places)


def list_folder(folder: str, called: str | None = None) -> Listing:
    """List the files of a folder and of those below it.

    Args:
        folder: the folder.
        called: what people call it, where that is something else.

    Raises:
        UnreadableSourceError: it, or a folder below it, cannot be listed, or has more files
            than any checkpoint.
    """
    listing = _listed(folder, called or folder)
    last_change = max((each.fingerprint.ctime_ns for each in listing.files.values()), default=0)
    return _listed(folder, called or folder) if wait_for_next_tick(last_change) else listing


def _listed(folder: str, called: str) -> Listing:
    walk = _Walk(folder, called)
    walk.run()
    return Listing(walk.files, walk.folders, tuple(walk.left_out))


class _Walk:
    """The way through a folder."""

    def __init__(self, folder: str, called: str) -> None:
        self.files: dict[str, Listed] = {}
        self.folders: dict[str, int] = {}
        self.left_out: list[str] = []
        self._folder = folder
        self._called = called
        self._real = os.path.realpath(folder)
        self._linked: set[str] = set()  # the folders that links led to
        self._waiting: list[tuple[str, tuple[str, ...]]] = []  # paths, and the folders above

    def run(self) -> None:
        self._enter("", (self._real,))
        count = 0
        while self._waiting:
            self._look_at(*self._waiting.pop())
            count += 1
            if count > MAX_FILES:
                raise UnreadableSourceError(self._called, f"it has more than {MAX_FILES:,} files")

    def _enter(self, name: str, above: tuple[str, ...]) -> None:
        path = os.path.join(self._folder, name)
        try:
            self.folders[name] = _permissions(os.stat(path))
            names = sorted(itertools.filterfalse(is_temporary, os.listdir(path)), reverse=True)
        except OSError as error:
            raise UnreadableSourceError(path if name else self._called, why(error)) from error
        self._waiting += [(os.path.join(name, each), above) for each in names]

    def _look_at(self, name: str, above: tuple[str, ...]) -> None:
        path = os.path.join(self._folder, name)
        is_link = os.path.islink(path)
        try:
            status = os.stat(path)
        except OSError as error:
            if not is_link:
                raise UnreadableSourceError(path, why(error)) from error
            self.left_out.append(name)
            return
        real = os.path.realpath(path) if is_link else ""
        stays = not is_link or real.startswith(f"{self._real}{os.sep}")
        if stat.S_ISREG(status.st_mode):
            leads_out = not stays and not is_blob(real, self._real)
            self.files[name] = Listed(Fingerprint.of(status), _permissions(status), leads_out)
        elif (
            not stat.S_ISDIR(status.st_mode)
            or name.startswith(".")
            or not stays
            or real in self._linked
            or real in above
        ):
            self.left_out.append(name)
        else:
            self._linked |= {real} if is_link else set()
            self._enter(name, (*above, real or os.path.join(above[-1], os.path.basename(name))))


def _permissions(status: os.stat_result) -> int:
    """Return permissions without set-user-ID, which a stranger's program is not to have."""
    return stat.S_IMODE(status.st_mode) & 0o777


def is_blob(path: str, folder: str) -> bool:
    """Whether a file lies in a hub cache, that of the folder or any.

    A cache has a folder `models--OWNER--NAME` with `blobs/HASH` and `snapshots/REVISION`.
    """
    blobs = os.path.dirname(path)
    model, name = os.path.split(blobs)
    snapshots = os.path.join(model, "snapshots")
    is_model = os.path.basename(model).startswith("models--") and os.path.isdir(snapshots)
    return name == "blobs" and (is_model or os.path.dirname(folder) == snapshots)
