"""Locate the tensors of torch's zip archives (`torch.save` since 1.6), and create new ones.

    NAME/data.pkl                     the pickled object; tensors in it name their storages
    NAME/.format_version, .storage_alignment, byteorder
    NAME/data/0 ... n                 the storages, aligned to 64 bytes
    NAME/version
    NAME/.data/serialization_id       40 digits: a hash of the names, a hash of the CRCs

NAME is the stem of the file's name when it was written, and any name will do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from reinit_cli.checkpoints.formats.base import (
    MAX_RECORD_NBYTES,
    Content,
    Edits,
    Files,
    Located,
    Recorded,
    Shortfall,
    Supply,
    spliced,
)
from reinit_cli.checkpoints.formats.foreign import Foreign, foreign_archive, refused
from reinit_cli.checkpoints.formats.outline import Part
from reinit_cli.checkpoints.formats.respelling import Respelling
from reinit_cli.checkpoints.formats.torch.contents.outline import outline_of
from reinit_cli.checkpoints.formats.torch.contents.state_dict import Contents as Found
from reinit_cli.checkpoints.formats.torch.contents.state_dict import contents_of, training_of
from reinit_cli.checkpoints.formats.torch.edits.optimizer_numbers import Renumbering
from reinit_cli.checkpoints.formats.torch.edits.respelled import respelled
from reinit_cli.checkpoints.formats.torch.files.archive import (
    CompressedArchiveError,
    ZipEntry,
    check_entries,
    read_entries,
)
from reinit_cli.checkpoints.formats.torch.files.assembly import Layout, layout_of
from reinit_cli.checkpoints.formats.torch.files.relaid import Contents, relaid
from reinit_cli.checkpoints.formats.torch.files.skeleton import segments_of
from reinit_cli.checkpoints.formats.torch.glance import SUFFIXES, starts_as_zip
from reinit_cli.checkpoints.formats.torch.pickles.budget import Budget
from reinit_cli.checkpoints.formats.torch.pickles.machine import read_pickle
from reinit_cli.checkpoints.formats.torch.pickles.records import Pickle
from reinit_cli.checkpoints.formats.torch.pickles.tensor_records import Storage
from reinit_cli.checkpoints.formats.torch.shortfall import shortfall_of
from reinit_cli.errors import MalformedFileError
from reinit_cli.storage.crc32 import crc32
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.segments import Check, Segment


class TorchZip:
    """The format of `torch.save` since torch 1.6."""

    name = "torch zip"
    suffixes = SUFFIXES
    is_folder = False
    holds_record = True

    def recognizes(self, head: bytes, names: Sequence[str] = ()) -> bool:
        """Whether a file starts as a zip archive does, an empty one included."""
        return not names and starts_as_zip(head)

    def locate(self, files: Files, root: str | None = None) -> Located:
        """Find the tensors of an archive.

        Args:
            files: its file.
            root: the path of the state dict in what the archive holds; None to look for it.

        Raises:
            MalformedFileError, UnsupportedFormatError, UnknownNameError: as they say.
        """
        return self._located(files[""], lambda pickle, budget: contents_of(pickle, budget, root))

    def training(self, files: Files) -> Located:
        """Find the optimizers of an archive whose state dict is in another file.

        Raises:
            MalformedFileError: a tensor in it is not what torch writes.
        """
        return self._located(files[""], training_of)

    def _located(self, file: Reader, find: Callable[[Pickle, Budget], Found]) -> Located:
        if not self.recognizes(file.head(4)):
            problem = "it starts neither as a zip archive, nor as a pickle, nor as safetensors"
            raise MalformedFileError(file.path, problem, "torch file")
        file.make_seekable()
        folder, entries, budget, pickle = _read(file)
        found = find(pickle, budget)
        offsets = _storage_offsets(file, folder, entries, found.storages)
        layout = layout_of(file, tuple(entries.values()))
        has_record = layout.record_entry is not None
        located = found.located(self.name, offsets, pickle)
        start = entries[f"{folder}/data.pkl"].offset
        on_trust = tuple(entries.values()) if file.is_distant else ()
        return replace(
            located,
            own_name=folder,
            has_record=has_record,
            own=layout,
            confirm=partial(_confirm, on_trust) if on_trust else None,
            renumber=Renumbering(start, pickle.end, found.root, has_root=found.record is not None),
        )

    def outline(self, files: Files, located: Located | None) -> tuple[Part, ...]:
        """Return what an archive holds in a few lines."""
        file = files[""]
        file.make_seekable()
        _, _, budget, pickle = _read(file)
        return outline_of(pickle.top, budget, located)

    def checks(self, located: Located, files: Files) -> list[Check]:
        """Return a check of every storage, and of the pickle."""
        return _layout(located).checks(files[""])

    def rewritten(
        self, located: Located, files: Files, edits: Edits, record: str = ""
    ) -> Mapping[str, list[Segment]]:
        """Return the archive with some bytes of its entries replaced, and another record."""
        return {"": _layout(located).patched(files[""], edits.get("", {}), record)}

    def respelled(
        self, located: Located, files: Files, changes: Respelling, record: str = ""
    ) -> Mapping[str, list[Segment]]:
        """Return the archive with other tensors in it.

        Raises:
            UnsupportedFormatError: what changes is shared in a way that cannot be kept.
        """
        file, layout = files[""], _layout(located)
        assert isinstance(located.renumber, Renumbering)
        new = respelled(file, located.renumber, changes)
        edits = changes.edits.get("", {})
        edited = {
            entry.name: spliced(file, entry.offset, entry.offset + entry.nbytes, edits)
            for entry in layout.edited(edits)
        }
        data = f"{layout.folder}/data"
        changed = {f"{data}/{name}": parts for name, parts in new.storages.items()}
        contents = Contents(
            {**edited, f"{layout.folder}/data.pkl": new.pickle, **changed},
            {f"{data}/{name}" for name in new.gone},
        )
        return {"": relaid(file, layout, contents, record)}

    def recorded(self, located: Located, files: Files) -> Mapping[str, Recorded]:
        """Return the record that is the archive's last entry.

        Raises:
            MalformedFileError: its CRC-32 does not match, or it is not text.
        """
        entry = _layout(located).record_entry
        return {"": _recorded(files[""], entry)} if entry is not None else {}

    def refuses(self, content: Content) -> Shortfall:
        """Return what only another format has: float4 and float6, and metadata."""
        return shortfall_of(content)

    def created(self, content: Content, supply: Supply) -> Mapping[str, list[Segment]]:
        """Return the segments of an archive that holds a state dict."""
        del content
        return {"": segments_of(supply.state(), supply.data, supply.name, supply.record)}


def _confirm(entries: Sequence[ZipEntry], files: Files) -> None:
    """Check the entries of an archive that were taken on trust."""
    check_entries(files[""], entries)


def _layout(located: Located) -> Layout:
    assert isinstance(located.own, Layout)
    return located.own


def _read(file: Reader) -> tuple[str, dict[str, ZipEntry], Budget, Pickle]:
    """Return the folder in an archive, its entries, what is left to spend, and its pickle."""
    folder, entries = _entries(file)
    budget = Budget(file.path)
    budget.spend(0, _ENTRY_NBYTES * len(entries))
    return folder, entries, budget, _pickle(file, folder, entries, budget)


def _entries(file: Reader) -> tuple[str, dict[str, ZipEntry]]:
    """Return the folder in an archive, and its entries by name."""
    try:
        entries = {entry.name: entry for entry in read_entries(file, on_trust=file.is_distant)}
    except CompressedArchiveError as error:
        _refuse_others(file, error.names)
        kind = Foreign("a compressed or encrypted zip archive", "compressed")
        raise refused(file.path, kind) from None
    _refuse_others(file, entries)
    return next(iter(entries), "").partition("/")[0], entries


_ENTRY_NBYTES = 350
"""What an entry of the archive takes."""


def _pickle(file: Reader, folder: str, entries: Mapping[str, ZipEntry], budget: Budget) -> Pickle:
    """Return what the pickle of an archive says."""
    if any(not name.startswith(f"{folder}/") for name in entries):
        raise MalformedFileError(file.path, "its entries lie in several folders", "torch archive")
    orders = tuple(_spelled(f"{folder}/byteorder", entries))
    file.gather(
        (each.offset, each.offset + each.nbytes)
        for each in (entries[f"{folder}/data.pkl"], *orders)
        if each.nbytes
    )
    if any(not _is_little(file, entry) for entry in orders):
        raise refused(file.path, Foreign("an archive of big-endian numbers", "big-endian"))
    pickled = entries[f"{folder}/data.pkl"]
    end = pickled.offset + pickled.nbytes
    pickle = read_pickle(file, pickled.offset, end, budget)
    if pickle.end != end:
        raise MalformedFileError(file.path, "something follows its pickle", "torch archive")
    return pickle


def _spelled(name: str, entries: Mapping[str, ZipEntry]) -> Iterator[ZipEntry]:
    """Yield the entry that torch takes for a name: capitals are the same to it."""
    for each, entry in entries.items():
        if len(each) == len(name) and each.lower() == name.lower():
            yield entry


def _is_little(file: Reader, byteorder: ZipEntry) -> bool:
    nbytes = len(b"little")
    return byteorder.nbytes == nbytes and file.read(byteorder.offset, nbytes) == b"little"


def _refuse_others(file: Reader, names: Iterable[str]) -> None:
    kind = foreign_archive(names)
    if kind is not None:
        raise refused(file.path, kind)


def _storage_offsets(
    file: Reader, folder: str, entries: Mapping[str, ZipEntry], storages: Mapping[str, Storage]
) -> dict[str, int]:
    """Return where each storage starts in the file."""
    offsets = {}
    for storage in storages.values():
        entry = entries.get(f"{folder}/data/{storage.key}")
        if entry is None or entry.nbytes != storage.nbytes:
            problem = f"its storage {storage.key!r} is missing or has another size"
            raise MalformedFileError(file.path, problem, "torch archive")
        offsets[storage.key] = entry.offset
    return offsets


def _recorded(file: Reader, entry: ZipEntry) -> Recorded:
    """Return the record in an entry."""
    if entry.nbytes > MAX_RECORD_NBYTES:
        raise MalformedFileError(file.path, "its record is too large", "torch archive")
    data = file.read(entry.offset, entry.nbytes)
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        text = ""
    if crc32(data) != entry.crc or not text:
        raise MalformedFileError(file.path, "its record is damaged", "torch archive")
    crcs = ((at, at + 4) for at in entry.crc_offsets)
    return Recorded(text, ((entry.offset, entry.offset + entry.nbytes), *crcs))
