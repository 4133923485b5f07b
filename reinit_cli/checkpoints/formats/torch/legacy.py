"""torch's format from before 1.6: where tensors lie.

    pickle     0x1950a86a20f9469cfc6c
    pickle     1001
    pickle     sys_info: a dictionary with "little_endian"
    pickle     the object; storages are persistent ids of six items
    pickle     the keys of the storages, a list
    for each   int64 numel, then the bytes

There are no digests and there is no padding, so a patched file is as good as a new one.
"""

from __future__ import annotations

from typing import NoReturn

from reinit_cli.checkpoints.formats.base import Located
from reinit_cli.checkpoints.formats.torch.pickle_machine import read_pickle
from reinit_cli.checkpoints.formats.torch.records import pairs_of
from reinit_cli.checkpoints.formats.torch.state_dict import (
    Storage,
    contents_of,
    starts_of,
    unknown_names,
)
from reinit_cli.errors import MalformedFileError, UnsupportedFormatError
from reinit_cli.storage.local import InputFile

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
_NUMEL_NBYTES = 8

_MAX_OPCODES_OF_INFO = 10_000
_MAX_OPCODES_OF_KEYS = 400_000
"""Two for each storage. Together the five pickles may take hardly more than one."""


def is_legacy(start: bytes) -> bool:
    """Whether a file that starts so is of this format, written with any protocol."""
    digits = MAGIC_NUMBER.to_bytes(10, "little")
    binary = b"\x8a\x0a" + digits  # LONG1
    return binary in start[:32] or start.startswith(b"L%dL\n" % MAGIC_NUMBER)


def locate(file: InputFile, root: str | None = None) -> Located:
    """Find the tensors of a file.

    Args:
        file: the file.
        root: the path of the state dict in what the file holds; None to look for it.

    Raises:
        MalformedFileError, UnsupportedFormatError, UnknownNameError: as they say.
    """
    magic = read_pickle(file, 0, file.nbytes, _MAX_OPCODES_OF_INFO)
    protocol = read_pickle(file, magic.end, file.nbytes, _MAX_OPCODES_OF_INFO)
    if magic.top != MAGIC_NUMBER or protocol.top != PROTOCOL:
        raise MalformedFileError(file.path, "it does not start as torch writes it", "torch file")
    info = read_pickle(file, protocol.end, file.nbytes, _MAX_OPCODES_OF_INFO)
    if ("little_endian", True) not in ((key, value) for key, value in pairs_of(info.top)):
        raise UnsupportedFormatError(file.path, "a file of big-endian numbers")
    pickle = read_pickle(file, info.end, file.nbytes)
    keys = read_pickle(file, pickle.end, file.nbytes, _MAX_OPCODES_OF_KEYS)
    found = contents_of(pickle, file.path, root)
    offsets = _storage_offsets(file, keys.top, keys.end, found.storages)
    return Located(
        "torch legacy",
        tuple(found.tensors),
        starts_of((*found.tensors, *found.outside), offsets),
        root=found.root,
        outside=tuple(found.outside),
        rest=tuple(found.rest),
        attributes=tuple(found.attributes),
        unknown_names=unknown_names(pickle),
        notes=tuple(found.notes),
        optimizers=tuple(found.optimizers),
    )


def _storage_offsets(
    file: InputFile, keys: object, start: int, storages: dict[str, Storage]
) -> dict[str, int]:
    """Return where each storage starts, after a look at every length."""
    if not isinstance(keys, list) or any(not isinstance(key, str) for key in keys):
        _refuse(file, "its list of storages is none")
    if len(set(keys)) != len(keys) or set(keys) != set(storages):
        _refuse(file, "its list of storages is not that of its tensors")
    offsets = {}
    for key in keys:
        storage = storages[key]
        if start + _NUMEL_NBYTES + storage.nbytes > file.nbytes:
            _refuse(file, f"it is cut off in the storage {key!r}")
        if int.from_bytes(file.read(start, _NUMEL_NBYTES), "little") != storage.numel:
            _refuse(file, f"the storage {key!r} has two sizes")
        offsets[key] = start + _NUMEL_NBYTES
        start = offsets[key] + storage.nbytes
    if start != file.nbytes:
        _refuse(file, "something follows its storages")
    return offsets


def _refuse(file: InputFile, problem: str) -> NoReturn:
    raise MalformedFileError(file.path, problem, "torch file")
