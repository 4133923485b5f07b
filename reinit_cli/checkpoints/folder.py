"""Read a checkpoint that is a folder of files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace

from reinit_cli.checkpoints.contents import FileContents
from reinit_cli.checkpoints.formats import format_of_folder
from reinit_cli.checkpoints.formats.base import Files, Format, Located
from reinit_cli.checkpoints.formats.dcp.glance import is_part
from reinit_cli.checkpoints.source import Contents, Source, files_of_weights
from reinit_cli.collector import collector_paused
from reinit_cli.lazy import dataclass
from reinit_cli.storage.listing import ListedFolder
from reinit_cli.storage.location import SourceName, is_fetched, name_of_url, without_secrets
from reinit_cli.storage.reader import Listed, Listing, Modes, Reader, Store
from reinit_cli.storage.stores import store_of
from reinit_cli.tensors.info import TensorInfo


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A folder whose files hold the weights together.

    Attributes:
        name: what people call it.
        path: the folder.
        format: its format.
        located: what its files hold together.
        listed: its files as they were when the tensors were located.
        folders: the permissions of the folders in it, and under "" its own.
        store: where they are.
    """

    name: str
    path: str
    format: Format
    located: Located
    listed: Mapping[str, Listed]
    folders: Mapping[str, int]
    store: Store
    fingerprint = None
    weights = None
    architecture = None
    is_folder = True

    @property
    def reads(self) -> tuple[str, ...]:
        """All its files."""
        return tuple(os.path.join(self.path, name) for name in self.located.files)

    @property
    def leaving(self) -> tuple[str, ...]:
        """The files of weights, and the index unless it was named, that are links out of it."""
        paths = (os.path.join(self.path, name) for name in self.located.files)
        leads_out = (self.listed[name].leads_out for name in self.located.files)
        return tuple(
            path
            for path, leads in zip(paths, leads_out, strict=True)
            if leads and path != self.name
        )

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """Its tensors, in the order of the files."""
        return self.located.tensors

    @property
    def paths_of_weights(self) -> tuple[str, ...]:
        """The files that hold its tensors."""
        return tuple(os.path.join(self.path, name) for name in files_of_weights(self.located))

    @property
    def sizes(self) -> Mapping[str, int]:
        """The size of each of its files."""
        return {name: each.fingerprint.nbytes for name, each in self.listed.items()}

    @property
    def metadata(self) -> Mapping[str, str]:
        """The metadata of its files."""
        return self.located.metadata

    @property
    def called(self) -> SourceName:
        """Those of the folder, whose dots start no suffix."""
        return name_of_folder(self.path)

    def _folders_kept(self) -> Mapping[str, int]:
        """Return the folders in it without those of which no file is read or copied.

        An empty `checkpoint-500/` would be taken for a checkpoint to resume from.
        """
        located = self.located
        left_out = {*located.stale, *located.fitting}.difference(located.files)
        emptied = _folders_of(left_out) - _folders_of(located.files)
        return {
            name: mode
            for name, mode in self.folders.items()
            if emptied.isdisjoint(_folders_of([f"{name}/"]))
        }

    @contextmanager
    def open(self, seed: int) -> Iterator[Contents]:
        """Open its files when their turn comes."""
        del seed
        files = {name: self.listed[name] for name in self.located.files}
        modes = Modes({name: each.mode for name, each in files.items()}, self._folders_kept())
        with ExitStack() as stack:
            opened = Files(self.path, readers_of(self.store, self.path, files, stack))
            if self.located.confirm is not None:
                self.located.confirm(opened)
            folder = ListedFolder(self.path, self.listed, files.keys(), self.store)
            yield FileContents(self.format, self.located, opened, modes, folder)


def looked_into(source: Source, keys: Iterable[str]) -> Source:
    """Return a source of which some tensors are known as their pieces have them.

    Args:
        source: any source.
        keys: the tensors whose values are wanted.
    """
    if not isinstance(source, FolderSource) or source.located.look is None:
        return source
    chosen = frozenset(keys)
    tensors = tuple(
        tensor_looked_into(source, each) if each.key in chosen else each for each in source.tensors
    )
    if tensors == source.tensors:
        return source
    return replace(source, located=replace(source.located, tensors=tensors))


def tensor_looked_into(source: Source, tensor: TensorInfo) -> TensorInfo:
    """Return a tensor as its pieces have it.

    They alone may say that their bytes are not its values: those of a conjugate view, say.
    """
    look = source.located.look if source.located is not None else None
    why = look(tensor.key) if look is not None and not tensor.carried else None
    return replace(tensor, carried=why) if why else tensor


def name_of_folder(path: str) -> SourceName:
    """Return the name of a folder in parts, also where it is called ".", say."""
    if is_fetched(path):
        return SourceName("", name_of_url(path), "")
    bare = path.rstrip(os.sep)
    is_name = os.path.basename(bare) not in ("", ".", "..")
    return SourceName(*os.path.split(bare if is_name else os.path.abspath(path)), "")


def folder_source(path: str, root: str | None, store: Store | None = None) -> FolderSource:
    """Return a folder as a source, the tensors of all its files located.

    Args:
        path: the folder, or an index in it.
        root: the path of the state dict in what torch files hold; None to look for it.
        store: where it is; None to choose that by the path.

    Raises:
        SourceError: it cannot be listed, or holds no weights, or several that could be meant.
    """
    with unlocated(path, store) as found, collector_paused():
        located = found.format.locate(found.files, root)
    listing = found.listing
    return FolderSource(
        without_secrets(path),
        found.files.path,
        found.format,
        located,
        listing.files,
        listing.folders,
        found.store,
    )


@dataclass(frozen=True, slots=True)
class Unlocated:
    """A folder before its tensors are looked for.

    Attributes:
        format: its format.
        files: its files.
        listing: the same as they were when they were listed.
        store: where they are.
    """

    format: Format
    files: Files
    listing: Listing
    store: Store


@contextmanager
def unlocated(path: str, store: Store | None = None) -> Iterator[Unlocated]:
    """Open a folder without a look for its tensors.

    Args:
        path: the folder, or an index in it.
        store: where it is; None to choose that by the path.

    Raises:
        SourceError: it cannot be listed, or no format knows it.
    """
    store = store or store_of(path)
    path = without_secrets(path)
    is_folder = store.kind_of(path) == "folder"
    folder = path if is_folder else os.path.dirname(path) or "."
    index = "" if is_folder else os.path.basename(path)
    if index and not store.lists:
        store, index = _named(store, path, index)
    listing = store.list(folder, path)
    format_ = format_of_folder(tuple(listing.files), index)
    with ExitStack() as stack:
        readers = readers_of(store, folder, listing.files, stack)
        outside = frozenset(name for name, each in listing.files.items() if each.leads_out)
        files = Files(folder, readers, index, listing.left_out, outside)
        yield Unlocated(format_, files, listing, store)


def _named(store: Store, path: str, index: str) -> tuple[Store, str]:
    """Return a store that has the files that an index names, and the index that others need."""
    from reinit_cli.checkpoints.formats.named import files_named_by
    from reinit_cli.storage.remote.named import NamedFiles
    from reinit_cli.storage.remote.store import RemoteStore

    assert isinstance(store, RemoteStore)
    with closing(store.open(path)) as file:
        names = files_named_by(file, index)
    return NamedFiles(store, names), "" if is_part(index) else index


def _folders_of(names: Iterable[str]) -> set[str]:
    """Return all folders in which files lie, those above included."""
    found: set[str] = set()
    for name in names:
        folder = os.path.dirname(name)
        while folder and folder not in found:
            found.add(folder)
            folder = os.path.dirname(folder)
    return found


def readers_of(
    store: Store, folder: str, files: Mapping[str, Listed], stack: ExitStack
) -> Mapping[str, Reader]:
    """Return readers of files, each opened when its first byte is read."""
    readers = {
        name: store.open(os.path.join(folder, name), each.fingerprint)
        for name, each in files.items()
    }
    for reader in readers.values():
        stack.callback(reader.close)
    return readers
