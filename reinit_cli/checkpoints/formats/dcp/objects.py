"""Look at the objects of a folder, which `dcp.load` would unpickle, without unpickling them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from reinit_cli.checkpoints.formats.base import Files
from reinit_cli.checkpoints.formats.dcp.metadata import Piece
from reinit_cli.checkpoints.formats.dcp.slices import Archive
from reinit_cli.checkpoints.formats.torch.pickles.allowed_names import ALLOWED
from reinit_cli.checkpoints.formats.torch.pickles.budget import Budget
from reinit_cli.checkpoints.formats.torch.pickles.record_kinds import kind_of
from reinit_cli.checkpoints.formats.torch.pickles.records import Global, Instance
from reinit_cli.errors import MalformedFileError
from reinit_cli.lazy import dataclass

_WORK = 20_000_000
"""The opcodes of all objects together: some seconds."""

_ARCHIVE_WORK = 300
"""The opcodes that take as long as the look at an archive."""

_NBYTES = 400 * 10**6

_PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class Objects:
    """What is known of the objects.

    Attributes:
        records: for each name a record: its value where that is plain, else what it is.
        unknown_names: what their pickles would import that torch does not allow.
    """

    records: Mapping[str, Any]
    unknown_names: tuple[str, ...]


def objects_of(pieces: Iterable[Piece], files: Files, path: str, *, whole: bool = False) -> Objects:
    """Look at objects.

    Args:
        pieces: where they lie.
        files: the files of the folder.
        path: the folder.
        whole: whether to keep what each pickle says, and not only what it is.
    """
    budget = Budget(path, _WORK, _NBYTES, _NBYTES)
    records: dict[str, Any] = {}
    unknown: dict[str, None] = {}
    for piece in pieces:
        budget.spend(_ARCHIVE_WORK)
        if piece.transforms:
            records[piece.fqn] = _opaque("an object that is compressed")
            unknown.setdefault(f"what {piece.fqn!r} is compressed from")
            continue
        try:
            pickle = Archive(files[piece.file], piece).pickle(budget)
        except MalformedFileError:
            # An object of another serializer: it is copied, and never obeyed.
            records[piece.fqn] = _opaque("an object")
            unknown.setdefault(f"something in {piece.fqn!r}, which is not read")
            continue
        records[piece.fqn] = pickle.top if whole else _seen(pickle.top)
        names = (str(name) for name in pickle.names)
        unknown |= dict.fromkeys(name for name in names if name not in ALLOWED)
    return Objects(records, tuple(unknown))


def _seen(top: Any) -> Any:
    """Return a plain value or a list of some; of anything else, what it is."""
    if isinstance(top, _PLAIN):
        return top
    is_plain = isinstance(top, list) and all(isinstance(each, _PLAIN) for each in top)
    return top if is_plain else _opaque(kind_of(top))


def _opaque(kind: str) -> Instance:
    return Instance(Global("builtins", kind), ())
