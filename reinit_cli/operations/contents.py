"""Tell what a source holds: its state dict, and everything next to it."""

from __future__ import annotations

from contextlib import closing

from reinit_cli.checkpoints.file import FileSource, file_source, stream_source
from reinit_cli.checkpoints.find import find_source, is_folder
from reinit_cli.checkpoints.folder import FolderSource, unlocated
from reinit_cli.checkpoints.formats import format_of
from reinit_cli.checkpoints.formats.base import Files, Format, Located
from reinit_cli.checkpoints.formats.outline import Outlining, Part
from reinit_cli.checkpoints.source import Source
from reinit_cli.errors import UnsupportedFormatError
from reinit_cli.lazy import dataclass
from reinit_cli.storage.location import DASH
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.stores import store_of


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a source holds.

    Attributes:
        name: what people call it.
        format: the name of its format; None of a model.
        source: the source; None where it holds no state dict.
        parts: the lines of its outline; none where its tensors and metadata are all.
    """

    name: str
    format: str | None
    source: Source | None
    parts: tuple[Part, ...] = ()


def describe(text: str, weights: str | None = None, root: str | None = None) -> Holdings:
    """Return what the source that a user names holds; it need not have a state dict.

    Args:
        text: what the user wrote.
        weights: the weights of a model.
        root: the path of the state dict in what a torch file holds; None to look for it.

    Raises:
        SourceError: there is no such source, or it cannot be read.
    """
    if text == DASH:
        return _of_standard_input(root)
    try:
        source = find_source(text, weights, root)
    except UnsupportedFormatError as error:
        if error.kind != "root":
            raise
        return _without_state_dict_at(text, error.about)
    if isinstance(source, FolderSource) and isinstance(source.format, Outlining):
        with source.open(0) as contents:
            files = Files(source.path, contents.files())
            return _of(source, source.format.outline(files, source.located))
    lone = _lone_file(source, root)
    if lone is None:
        return _of(source, ())
    with closing(lone.store.open(lone.path, lone.fingerprint)) as file:
        file.check_unchanged()
        return _of(source, _parts(lone.format, file, lone.located))


def _without_state_dict_at(text: str, path: str) -> Holdings:
    """Return what a source without a state dict holds.

    Args:
        text: what the user wrote.
        path: the file in which it was looked for, or the folder.
    """
    store = store_of(text)
    if is_folder(text, store):
        with unlocated(text, store) as found:
            if isinstance(found.format, Outlining):
                parts = found.format.outline(found.files, None)
                return Holdings(path, found.format.name, None, parts)
    with closing(store.open(path)) as file:
        return _without_state_dict(file)


def _lone_file(source: Source, root: str | None) -> FileSource | None:
    """Return the file that a source is, or the one in a folder that holds all of its weights."""
    if isinstance(source, FileSource):
        return source
    if not isinstance(source, FolderSource) or source.located.parts:
        return None
    paths = source.paths_of_weights
    return file_source(paths[0], paths[0], root, source.store) if len(paths) == 1 else None


def _of_standard_input(root: str | None) -> Holdings:
    from reinit_cli.storage.pipe import StandardInput

    file = StandardInput()
    try:
        source = stream_source(root, file)
    except UnsupportedFormatError as error:
        if error.kind != "root":
            raise
        return _without_state_dict(file)
    return _of(source, _parts(source.format, file, source.located))


def _of(source: Source, parts: tuple[Part, ...]) -> Holdings:
    located = source.located
    return Holdings(source.name, located.format if located else None, source, parts)


def _without_state_dict(file: Reader) -> Holdings:
    format_ = format_of(file)
    return Holdings(file.path, format_.name, None, _parts(format_, file, None))


def _parts(format_: Format, file: Reader, located: Located | None) -> tuple[Part, ...]:
    if not isinstance(format_, Outlining):
        return ()
    return format_.outline(Files.lone(file), located)
