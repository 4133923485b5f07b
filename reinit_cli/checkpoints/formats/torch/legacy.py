"""Locate the tensors of files that torch wrote before 1.6, and rewrite such files.

    pickle     0x1950a86a20f9469cfc6c
    pickle     1001
    pickle     sys_info: a dictionary with "little_endian"
    pickle     the object; storages are persistent ids of six items
    pickle     the keys of the storages, a list
    for each   int64 numel, then the bytes

There are no digests and there is no padding, so a patched file is as good as a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NoReturn

from reinit_cli.checkpoints.formats.base import (
    Content,
    Edits,
    Files,
    Located,
    Recorded,
    Shortfall,
    Supply,
    spliced,
)
from reinit_cli.checkpoints.formats.foreign import Foreign, refused
from reinit_cli.checkpoints.formats.outline import Part
from reinit_cli.checkpoints.formats.respelling import Respelling
from reinit_cli.checkpoints.formats.torch.contents.outline import outline_of
from reinit_cli.checkpoints.formats.torch.contents.state_dict import (
    Contents,
    contents_of,
    training_of,
)
from reinit_cli.checkpoints.formats.torch.edits.optimizer_numbers import Renumbering
from reinit_cli.checkpoints.formats.torch.edits.respelled import respelled
from reinit_cli.checkpoints.formats.torch.files.new_legacy import (
    NUMEL_NBYTES,
    PROTOCOL,
    legacy_segments,
)
from reinit_cli.checkpoints.formats.torch.files.relaid_legacy import OldStorages, storage_segments
from reinit_cli.checkpoints.formats.torch.glance import MAGIC_NUMBER, SUFFIXES, starts_as_legacy
from reinit_cli.checkpoints.formats.torch.pickles.budget import Budget
from reinit_cli.checkpoints.formats.torch.pickles.machine import read_pickle
from reinit_cli.checkpoints.formats.torch.pickles.records import Pickle, pairs_of
from reinit_cli.checkpoints.formats.torch.pickles.tensor_records import CLASSIC_DTYPES, Storage
from reinit_cli.checkpoints.formats.torch.shortfall import shortfall_of
from reinit_cli.errors import MalformedFileError, UnwritableContentError
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.segments import Check, Copy, Segment
from reinit_cli.tensors.info import TensorInfo

_MAX_OPCODES_OF_INFO = 10_000
_MAX_OPCODES_OF_KEYS = 400_000
"""Two for each storage."""


class TorchLegacy:
    """The format of `torch.save` before torch 1.6."""

    name = "torch legacy"
    suffixes = SUFFIXES
    is_folder = False
    holds_record = False

    def recognizes(self, head: bytes, names: Sequence[str] = ()) -> bool:
        """Whether a file starts with the magic number, written with any protocol."""
        return not names and starts_as_legacy(head)

    def locate(self, files: Files, root: str | None = None) -> Located:
        """Find the tensors of a file.

        Args:
            files: the file.
            root: the path of the state dict in what the file holds; None to look for it.

        Raises:
            MalformedFileError, UnsupportedFormatError, UnknownNameError: as they say.
        """
        return self._located(files[""], lambda pickle, budget: contents_of(pickle, budget, root))

    def training(self, files: Files) -> Located:
        """Find the optimizers of a file whose state dict is in another one.

        Raises:
            MalformedFileError: a tensor in it is not what torch writes.
        """
        return self._located(files[""], training_of)

    def _located(self, file: Reader, find: Callable[[Pickle, Budget], Contents]) -> Located:
        budget, start, pickle = _read(file)
        keys = read_pickle(file, pickle.end, file.nbytes, budget, _MAX_OPCODES_OF_KEYS)
        found = find(pickle, budget)
        offsets = _storage_offsets(file, keys.top, keys.end, found.storages)
        check = partial(_check_lengths, storages=found.storages, offsets=offsets)
        if not file.is_distant:
            check(Files.lone(file))
        located = found.located(self.name, offsets, pickle)
        has_root = found.record is not None
        renumber = Renumbering(start, pickle.end, found.root, has_root=has_root)
        return replace(located, renumber=renumber, confirm=check if file.is_distant else None)

    def outline(self, files: Files, located: Located | None) -> tuple[Part, ...]:
        """Return what a file holds in a few lines."""
        budget, _, pickle = _read(files[""])
        return outline_of(pickle.top, budget, located)

    def checks(self, located: Located, files: Files) -> list[Check]:
        """Return none: the file has no digests."""
        del located, files
        return []

    def rewritten(
        self, located: Located, files: Files, edits: Edits, record: str = ""
    ) -> Mapping[str, list[Segment]]:
        """Return the file with some bytes replaced.

        Raises:
            UnwritableContentError: a record is to be kept in it.
        """
        del located
        file = files[""]
        if record:
            raise UnwritableContentError(file.path, "a record next to its tensors")
        return {"": spliced(file, 0, file.nbytes, edits.get("", {}))}

    def respelled(
        self, located: Located, files: Files, changes: Respelling, record: str = ""
    ) -> Mapping[str, list[Segment]]:
        """Return the file with other tensors in it.

        Raises:
            UnsupportedFormatError: what changes is shared in a way that cannot be kept.
            UnwritableContentError: a record is to be kept in it.
        """
        file, where = files[""], located.renumber
        if record:
            raise UnwritableContentError(file.path, "a record next to its tensors")
        assert isinstance(where, Renumbering)
        new = respelled(file, where, changes)
        keys = read_pickle(file, where.end, file.nbytes, Budget(file.path), _MAX_OPCODES_OF_KEYS)
        offsets = _storage_offsets(file, keys.top, keys.end, new.before)
        _check_lengths(files, new.before, offsets)
        old = OldStorages(file, where.end, keys.end, offsets, changes.edits.get("", {}))
        return {"": [Copy(file, 0, where.start), *new.pickle, *storage_segments(old, new)]}

    def recorded(self, located: Located, files: Files) -> Mapping[str, Recorded]:
        """Return none: there is no place for one."""
        del located, files
        return {}

    def refuses(self, content: Content) -> Shortfall:
        """Return what only another format has, and the dtypes that only an archive has."""
        shortfall = shortfall_of(content)
        newer = [each for each in content.tensors if _is_newer(each)]
        return replace(shortfall, beyond=(*shortfall.beyond, *newer))

    def created(self, content: Content, supply: Supply) -> Mapping[str, list[Segment]]:
        """Return the segments of a file that holds a state dict."""
        del content
        return {"": legacy_segments(supply.state(), supply.data)}


def _is_newer(tensor: TensorInfo) -> bool:
    """Whether torch loads a tensor from archives alone: its storage has no type."""
    return not tensor.carried and tensor.dtype not in CLASSIC_DTYPES


def _read(file: Reader) -> tuple[Budget, int, Pickle]:
    """Return what is left of a file's budget, where the object's pickle starts, and the pickle."""
    file.make_seekable()
    budget = Budget(file.path)
    start = _end_of_start(file, budget)
    return budget, start, read_pickle(file, start, file.nbytes, budget)


def _end_of_start(file: Reader, budget: Budget) -> int:
    """Return where the object's pickle starts, after a look at the three before it."""
    magic = read_pickle(file, 0, file.nbytes, budget, _MAX_OPCODES_OF_INFO)
    protocol = read_pickle(file, magic.end, file.nbytes, budget, _MAX_OPCODES_OF_INFO)
    if magic.top != MAGIC_NUMBER or protocol.top != PROTOCOL:
        raise MalformedFileError(file.path, "it does not start as torch writes it", "torch file")
    info = read_pickle(file, protocol.end, file.nbytes, budget, _MAX_OPCODES_OF_INFO)
    if not any(
        key == "little_endian" and value is True for key, value in pairs_of(info.top, budget)
    ):
        raise refused(file.path, Foreign("a file of big-endian numbers", "big-endian"))
    return info.end


def _storage_offsets(
    file: Reader, keys: object, start: int, storages: Mapping[str, Storage]
) -> dict[str, int]:
    """Return where each storage starts, as their lengths have it."""
    if not isinstance(keys, list) or any(not isinstance(key, str) for key in keys):
        _refuse(file, "its list of storages is none")
    if len(set(keys)) != len(keys) or set(keys) != set(storages):
        _refuse(file, "its list of storages is not that of its tensors")
    end = start + sum(NUMEL_NBYTES + storage.nbytes for storage in storages.values())
    if end > file.nbytes:
        _refuse(file, f"it is cut off: {end - file.nbytes:,} of {end:,} bytes missing")
    offsets = {}
    for key in keys:
        offsets[key] = start + NUMEL_NBYTES
        start = offsets[key] + storages[key].nbytes
    if start != file.nbytes:
        _refuse(file, "something follows its storages")
    return offsets


def _check_lengths(
    files: Files, storages: Mapping[str, Storage], offsets: Mapping[str, int]
) -> None:
    """Compare the length before each storage with what the pickle says."""
    file = files[""]
    file.gather((offset - NUMEL_NBYTES, offset) for offset in offsets.values())
    for key, offset in offsets.items():
        written = file.read(offset - NUMEL_NBYTES, NUMEL_NBYTES)
        if int.from_bytes(written, "little") != storages[key].numel:
            _refuse(file, f"the storage {key!r} has two sizes")


def _refuse(file: Reader, problem: str) -> NoReturn:
    raise MalformedFileError(file.path, problem, "torch file")
