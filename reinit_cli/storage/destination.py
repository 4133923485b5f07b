"""Check the place of an output before anything is written."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from reinit_cli.errors import (
    OutputExistsError,
    OutputTakenError,
    OutputUnwritableError,
)
from reinit_cli.lazy import dataclass
from reinit_cli.storage.location import (
    DASH,
    STANDARD_OUTPUT,
    is_remote,
    scheme_of,
    url_meant,
    without_secrets,
)
from reinit_cli.storage.reader import Fingerprint
from reinit_cli.storage.system import naming_output
from reinit_cli.storage.within import is_within


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an output is to go, checked before anything is written.

    Attributes:
        path: as the user wrote it or as the default has it; None for a stream.
        replaces: whether a file that is there is replaced.
        syncs: whether a new file too is forced to the disk before success is reported.
        makes_folders: whether missing folders above it are made.
        kind: "report" or "record" for a file next to an output, as its option is called.
        within: the folders in which it has to be; none for anywhere.
        source: the file that is replaced because the output was made from it, as it was when
            it was located; None where whatever file is there may be replaced.
    """

    path: str | None
    replaces: bool = False
    syncs: bool = False
    makes_folders: bool = False
    kind: str = ""
    within: tuple[str, ...] = ()
    source: Fingerprint | None = None


CHECKPOINT = "a checkpoint"

InUse = Mapping[str, str]
"""Files that a run reads or writes: what each path is, such as "a checkpoint"."""


def check_destination(
    destination: Destination, source: str | None, reads: InUse, *, in_place: bool
) -> None:
    """Refuse a destination that cannot be written.

    Args:
        destination: where the output is to go.
        source: the path of the source, or None.
        reads: the files that are read.
        in_place: whether the destination is meant to be the source.

    Raises:
        OutputTakenError: it is a file that is read, and not meant to be.
        OutputExistsError: it is there, and may not be replaced.
        OutputUnwritableError: its folder is missing or not writable, or it is a folder.
    """
    if destination.path is None:
        _check_redirected(source, reads)
        return
    path = destination.path.rstrip(os.sep) or destination.path
    if is_remote(path):
        _check_remote(destination, path, source, reads)
        return
    _check_name(path)
    if (url := url_meant(path)) and not os.path.lexists(path.partition("/")[0]):
        problem = f"a URL has two slashes, of which pathlib drops one; write it as {url!r}"
        raise OutputUnwritableError(path, problem)
    folder = os.path.dirname(path) or "."
    while destination.makes_folders and not os.path.lexists(folder):
        folder = os.path.dirname(folder) or "."
    if not os.path.isdir(folder):
        is_there = os.path.lexists(folder)
        problem = f"{folder!r} is not a folder" if is_there else f"there is no folder {folder!r}"
        raise OutputUnwritableError(path, problem)
    _check_not_read(path, source, reads, in_place=in_place)
    if os.path.isdir(path):
        problem = "it is a folder, which is never replaced"
        raise OutputUnwritableError(path, problem, kind="file" if destination.kind else "folder")
    if os.path.lexists(path):
        if not destination.replaces:
            raise OutputExistsError(path, kind=destination.kind)
        with naming_output(path):
            kind = stat.S_IFMT(os.lstat(path).st_mode)
        # A link is replaced itself, whatever it leads to.
        if kind not in (stat.S_IFREG, stat.S_IFLNK):
            raise OutputUnwritableError(path, "it is not a regular file")
    if len(os.fsencode(os.path.basename(path))) > 255:
        raise OutputUnwritableError(path, "its name is too long")
    if not os.access(folder, os.W_OK | os.X_OK):
        problem = f"the folder {folder!r} is not writable"
        raise OutputUnwritableError(path, problem, kind="access", of=destination.kind)


def _check_remote(destination: Destination, url: str, source: str | None, reads: InUse) -> None:
    """Refuse a destination with a URL that cannot be written, as far as a look tells.

    Raises:
        OutputTakenError, OutputExistsError, OutputUnwritableError: see `check_destination`.
    """
    _check_url(url)
    place = place_of(url)
    if source is not None and place == place_of(source):
        raise OutputTakenError(url, kind="source")
    if taken := occupant(url, reads):
        raise OutputTakenError(url, taken, kind="read")
    from reinit_cli.storage.remote.look import kind_at_url

    kind = kind_at_url(url)
    if kind == "folder":
        problem = "it is a folder, which is never replaced"
        raise OutputUnwritableError(url, problem, kind="file" if destination.kind else "folder")
    if kind is not None and not destination.replaces:
        raise OutputExistsError(url, kind=destination.kind)


_WRITTEN = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "memory": "memory"}
"""The schemes of places that are written, and the one name of each."""


def check_scheme(url: str) -> None:
    """Refuse a URL of a kind that is never written.

    Raises:
        OutputUnwritableError: it is one.
    """
    scheme, shown = scheme_of(url), without_secrets(url)
    if shown != url and scheme in _WRITTEN:
        raise OutputUnwritableError(shown, "a password in its URL is not used; leave it out")
    url = shown
    if scheme == "hf":
        raise OutputUnwritableError(url, "each file would be a commit of its own", kind="hub")
    if scheme in ("file", "local"):
        raise OutputUnwritableError(url, "files on this machine are named by paths", kind="url")
    if scheme not in _WRITTEN:
        raise OutputUnwritableError(url, "only s3://, gs:// and memory:// are written to")


def _check_url(url: str) -> None:
    """Refuse a URL that is not that of a file, or of a kind that is never written.

    Raises:
        OutputUnwritableError: it is one.
    """
    check_scheme(url)
    bucket, _, key = place_of(url).partition("://")[2].partition("/")
    if not bucket or (not key and scheme_of(url) != "memory"):
        raise OutputUnwritableError(url, "it has no name in a bucket")


def exists(destination: Destination) -> bool:
    """Whether something exists at a destination, be it a link that leads nowhere."""
    path = destination.path
    if path is None:
        return False
    if is_remote(path):
        from reinit_cli.storage.remote.look import kind_at_url

        return kind_at_url(path) is not None
    return os.path.lexists(path.rstrip(os.sep) or path)


def check_new(destination: Destination) -> None:
    """Refuse a destination at which something has appeared since it was checked.

    Raises:
        OutputExistsError: it exists, and may not be replaced.
    """
    if exists(destination) and not destination.replaces:
        raise OutputExistsError(destination.path or "", kind=destination.kind)


def _check_name(path: str) -> None:
    """Refuse a path that no file system has.

    Raises:
        OutputUnwritableError: it has a NUL, or a character that the system cannot encode.
    """
    if "\0" in path:
        raise OutputUnwritableError(path, "its name has a NUL")
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        problem = f"its name has {error.object[error.start]!r}, which the system cannot encode"
        raise OutputUnwritableError(path, problem) from error


def _check_not_read(path: str, source: str | None, reads: InUse, *, in_place: bool) -> None:
    """Refuse an output in the place of a file that is read.

    Raises:
        OutputTakenError: it would be there.
    """
    identity = identity_of(path)
    if identity is None:
        return
    if source is not None and identity_of(source) == identity:
        if in_place:
            return
        raise OutputTakenError(path, kind="source", of="a folder" if os.path.isdir(path) else "")
    if taken := occupant(path, reads):
        raise OutputTakenError(path, taken, kind="read")


def _check_redirected(source: str | None, reads: InUse) -> None:
    """Refuse standard output where it is a file that is read, as `>>` makes it.

    Raises:
        OutputTakenError: it is one.
    """
    if not os.path.isfile(STANDARD_OUTPUT):
        return
    if source is not None and identity_of(source) == identity_of(STANDARD_OUTPUT):
        raise OutputTakenError(DASH, kind="source")
    if taken := occupant(STANDARD_OUTPUT, reads):
        raise OutputTakenError(DASH, taken, kind="read")


def check_not_inside(destination: Destination, source: str | None) -> None:
    """Refuse a folder inside the folder that it is made from, as `cp -r` does.

    It would be copied with the next rewrite, and deleted with its source.

    Raises:
        OutputTakenError: it would be there.
    """
    path = destination.path
    if path is None or source is None or is_remote(path) != is_remote(source):
        return
    folder = place_of(source) if is_remote(source) else os.path.realpath(source)
    if place_of(path).startswith(os.path.join(folder, "")):
        raise OutputTakenError(path, kind="inside", of=source)


def check_within(destination: Destination) -> None:
    """Refuse a destination that a link leads out of the folders where it has to be.

    It was checked when it was planned, but a link may have appeared since.

    Raises:
        OutputUnwritableError: it is not in one of them.
    """
    path, folders = destination.path, destination.within
    if path is not None and folders and not is_within(place_of(path), folders):
        raise OutputUnwritableError(path, "a link leads it out of the folders where it may be")


def check_extra_file(path: str, in_use: InUse, what: str, *, replaces: bool) -> Destination:
    """Return where a file next to an output goes, or refuse it.

    Args:
        path: where it is to go.
        in_use: the other files that are read and written.
        what: "report" or "record", as its option is called.
        replaces: whether an existing file is replaced.

    Raises:
        OutputTakenError: it is one of the others.
        OutputExistsError: it is there, and may not be replaced.
        OutputUnwritableError: it cannot be written there.
    """
    if not is_remote(path):
        _check_name(path)
    elif path.endswith("/"):
        raise OutputUnwritableError(path, f"name the {what} too, not its folder alone")
    if taken := occupant(path, in_use):
        raise OutputTakenError(path, taken, kind=what)
    destination = Destination(path, replaces, kind=what, makes_folders=True)
    check_destination(destination, None, {}, in_place=False)
    return destination


def occupant(path: str, in_use: InUse) -> str:
    """Return what a path leads to, whatever it is called; "" for nothing that is in use."""
    identity, place = identity_of(path), os.path.realpath(path)
    for other, what in in_use.items():
        if identity is None:
            is_it = os.path.realpath(other) == place
        else:
            is_it = identity_of(other) == identity
        if is_it:
            return what
    return ""


def place_of(path: str) -> str:
    """Return one spelling of a path; a link at its end stays, since it would be replaced."""
    if is_remote(path):
        scheme, rest = scheme_of(path), path.partition("://")[2].rstrip("/")
        is_memory = scheme == "memory"
        return f"{_WRITTEN.get(scheme, scheme)}://{rest.lstrip('/') if is_memory else rest}"
    folder, name = os.path.split(path.rstrip(os.sep))
    if name in ("", os.curdir, os.pardir):
        return os.path.realpath(path)
    return os.path.join(os.path.realpath(folder or os.curdir), name)


def identity_of(path: str) -> tuple[int, int] | str | None:
    """Return what tells a file from all others, whatever it is called; None for no file.

    A URL tells it, whether or not there is a file.
    """
    if is_remote(path):
        return place_of(path)
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
