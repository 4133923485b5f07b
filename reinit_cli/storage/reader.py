"""State the contracts of what bytes are read from: a file, and a store of files."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import field, replace
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from reinit_cli.lazy import dataclass


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What changes when a file does.

    A program can set the time of the last change of its bytes, but not that of its entry.
    The latter moves with permissions and hard links too: such a change counts as one.

    Attributes:
        version: what a remote store has instead of all these, such as an ETag; "" of a file
            on this machine.
    """

    device: int
    inode: int
    nbytes: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    owner: int
    group: int
    version: str = ""

    @classmethod
    def remote(cls, nbytes: int, version: str) -> Fingerprint:
        """Return that of a remote file: its size, and what its store calls this version of it."""
        return cls(0, 0, nbytes, 0, 0, 0, 0, 0, version)

    @classmethod
    def of(cls, status: os.stat_result) -> Fingerprint:
        """Take it from a status."""
        return cls(
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_mode,
            status.st_uid,
            status.st_gid,
        )

    def is_renamed(self, status: os.stat_result) -> bool:
        """Whether a status is that of the same file, perhaps under another name."""
        return replace(self, ctime_ns=status.st_ctime_ns) == Fingerprint.of(status)


class Readable(Protocol):
    """Bytes that are read from any place."""

    @property
    def path(self) -> str:
        """What people call them."""

    @property
    def nbytes(self) -> int:
        """Their number."""

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return exactly those bytes."""


class Reader(Protocol):
    """A file that is read from any place, or a pipe that is read in order."""

    @property
    def path(self) -> str:
        """Its path as the user wrote it; "-" for standard input."""

    @property
    def nbytes(self) -> int:
        """Its size; of a pipe, as far as is known."""

    @property
    def fingerprint(self) -> Fingerprint:
        """The file as it was when it was first opened."""

    @property
    def is_seekable(self) -> bool:
        """Whether its bytes can be read in any order, and more than once."""

    @property
    def is_distant(self) -> bool:
        """Whether each read may be a request to a server, which takes as long as a megabyte."""

    def head(self, nbytes: int) -> bytes:
        """Return the first bytes, fewer where it has no more."""

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return exactly those bytes.

        Raises:
            SourceChangedError: the file has become shorter.
            UnreadableSourceError: the system fails to read them.
        """

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill a buffer with the bytes from an offset on; raises as `read`."""

    def will_read(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Learn, in order, what is to be copied out of it, so that it can be fetched ahead."""

    def gather(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Have some short ranges at hand, which a remote file fetches together."""

    def make_seekable(self) -> None:
        """Let its bytes be read in any order, if need be through a copy."""

    def ends_at(self, nbytes: int) -> None:
        """Learn where a pipe has to end."""

    def check_unchanged(self, expected: Fingerprint | None = None) -> None:
        """Compare the file, and what its path now names, with how it was.

        Args:
            expected: how it was; None means when it was first opened.

        Raises:
            SourceChangedError: they differ.
        """

    def descriptor(self) -> AbstractContextManager[int | None]:
        """Lend a descriptor that the kernel can copy from; None where there is none."""

    def close(self) -> None:
        """Give back what it holds open."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A regular file of a folder.

    Attributes:
        fingerprint: the file as it is.
        mode: its permissions, without the bits that let it run as its owner or group.
        leads_out: whether it is a link to a file outside the folder.
    """

    fingerprint: Fingerprint
    mode: int
    leads_out: bool = False


@dataclass(frozen=True, slots=True)
class Modes:
    """The permissions of what a folder holds, before the umask, by the path in it.

    Attributes:
        files: those of files; what is missing has those of any new file.
        folders: those of the folders in it, and under "" its own.
    """

    files: Mapping[str, int] = field(default_factory=dict)
    folders: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a folder.

    Attributes:
        files: every regular file, by its path in the folder.
        folders: the permissions of every folder in it that was entered, and of itself as "".
        left_out: hidden folders, links that lead nowhere, out of it, or to a folder that
            was entered already, and what is neither a file nor a folder.
    """

    files: Mapping[str, Listed]
    folders: Mapping[str, int]
    left_out: tuple[str, ...]


Kind = Literal["file", "folder", "other"]
"""What a path leads to: "other" is a link that leads nowhere, a device, a pipe."""


class Fetched(NamedTuple):
    """What has come from a server.

    Attributes:
        requests: how many requests it answered.
        nbytes: how many bytes of files came.
    """

    requests: int
    nbytes: int


class Store(Protocol):
    """Where files have names."""

    @property
    def fetched(self) -> Fetched | None:
        """What has come from its server so far; None where it has none."""

    @property
    def lists(self) -> bool:
        """Whether it can say which files a folder has."""

    def kind_of(self, path: str) -> Kind | None:
        """Return what a path leads to, or None where there is nothing."""

    def open(self, path: str, expected: Fingerprint | None = None) -> Reader:
        """Return a reader of a file.

        Args:
            path: the file.
            expected: the file as it was when it was located; then it is opened, and
                compared, when its first byte is read.

        Raises:
            SourceNotFoundError: there is no such file.
            UnreadableSourceError: it is not a regular file or may not be read.
            SourceChangedError: it is not as expected.
        """

    def list(self, folder: str, called: str | None = None) -> Listing:
        """List the files of a folder and of those below it, and open none.

        Args:
            folder: the folder.
            called: what people call it, where that is something else.

        Raises:
            UnreadableSourceError: it cannot be listed, or has more files than any checkpoint.
        """


@dataclass(frozen=True, slots=True)
class Revision:
    """A version of a source that its store keeps.

    Attributes:
        name: what it was asked for by: a branch, a tag, or the commit.
        commit: what stands for exactly this version.
    """

    name: str
    commit: str


@dataclass(frozen=True, slots=True)
class Download:
    """What is to be fetched before it can be read.

    Attributes:
        what: it, as people call it.
        nbytes: how much it is.
        folder: where it goes.
    """

    what: str
    nbytes: int
    folder: str


@runtime_checkable
class FetchingStore(Store, Protocol):
    """A store that keeps versions, and fetches whole files where their tensors are read."""

    @property
    def revision(self) -> Revision:
        """The version that its files are of."""

    @property
    def doubts(self) -> tuple[str, ...]:
        """What a user should know of its list of files."""

    def fetch(self, paths: Collection[str], tell: Callable[[str], object]) -> None:
        """Have files on this machine; readers that are opened from then on read them there.

        Args:
            paths: the files.
            tell: called with how far it is, now and then; with "" at the end.

        Raises:
            SourceError: they cannot be fetched.
        """

    def download_of(self, paths: Collection[str]) -> Download | None:
        """Return what `fetch` downloads; None where it has all files."""
