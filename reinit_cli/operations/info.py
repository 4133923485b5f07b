"""Sum up what a source is, without reading any tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from reinit_cli.checkpoints.file import FileSource
from reinit_cli.checkpoints.folder import FolderSource
from reinit_cli.checkpoints.formats.outline import Part
from reinit_cli.checkpoints.model import ModelSource
from reinit_cli.checkpoints.source import Source, doubts_about
from reinit_cli.errors import RecordError
from reinit_cli.lazy import dataclass
from reinit_cli.operations.contents import Holdings, describe
from reinit_cli.operations.folder_facts import Config, Shards, config_of, shards_of
from reinit_cli.operations.next_commands import Command, next_commands
from reinit_cli.operations.optimizer_kind import optimizer_kind
from reinit_cli.operations.sums import Sums, sums_of
from reinit_cli.storage.location import without_secrets
from reinit_cli.tensors.info import TensorInfo, overlapping
from reinit_cli.text import plural, quoted

if TYPE_CHECKING:
    from reinit_cli.checkpoints.models.published import PublishedWeights
    from reinit_cli.provenance.record import Form

_MOST_NAMES = 3
"""The names that torch refuses of which each is listed."""

_WRAPPERS = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put in front of every key."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of a model.

    Attributes:
        chosen: the name of those that were chosen: "none", or the path of a file.
        available: those that its library publishes, the default first.
    """

    chosen: str
    available: tuple[PublishedWeights, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a source is.

    Attributes:
        holdings: the source, its format and what lies next to its state dict.
        parts: what lies next to the state dict, each without what is in it.
        sums: how much is in the state dict; None where there is none.
        file_nbytes: the bytes that it takes on the disk; None where that is not known.
        weights: the weights of a model; None of others.
        optimizers: the path of each optimizer in a file, and its kind.
        config: what the configs of a folder say; None of others.
        shards: how the weights of a folder are distributed; None of others.
        record: the provenance record; None where there is none.
        notes: what is unusual.
        commands: what may be typed next, as arguments of `reinit`.
    """

    holdings: Holdings
    parts: tuple[Part, ...]
    sums: Sums | None = None
    file_nbytes: int | None = None
    weights: Weights | None = None
    optimizers: Mapping[str, str] = field(default_factory=dict)
    config: Config | None = None
    shards: Shards | None = None
    record: Form | None = None
    notes: tuple[str, ...] = ()
    commands: tuple[Command, ...] = ()


def info(text: str, weights: str | None = None, root: str | None = None) -> Summary:
    """Return what a source is: its names, shapes and metadata alone are read.

    Args:
        text: the name of a model, a path, or "-".
        weights: the weights of a model.
        root: the path of the state dict in what a torch file holds; None to look for it.

    Raises:
        SourceError: there is no such source, or it cannot be read.
    """
    holdings = describe(text, weights, root)
    text = without_secrets(text)
    parts = tuple(_parts(holdings))
    source = holdings.source
    if source is None:
        return Summary(holdings, parts, commands=next_commands(text, root, (), None))
    sums = sums_of(source.tensors)
    record, notes = _record(source)
    shards = shards_of(source)
    optimizers = source.located.optimizers if source.located else ()
    return Summary(
        holdings,
        parts,
        sums,
        _file_nbytes(source),
        _weights(source),
        {each.path: optimizer_kind(each, holdings.parts) for each in optimizers},
        config_of(source),
        shards,
        record,
        (*notes, *_said_otherwise(shards, sums), *_odd(source)),
        next_commands(
            text,
            root,
            source.tensors,
            sums,
            has_record=record is not None,
            wrapper=_wrapper(source.tensors),
        ),
    )


def _file_nbytes(source: Source) -> int | None:
    if isinstance(source, FileSource):
        return source.fingerprint.nbytes
    if isinstance(source, FolderSource):
        return sum(source.sizes.values())
    return None


def _weights(source: Source) -> Weights | None:
    model = source.model if isinstance(source, (ModelSource, FileSource)) else None
    if model is None or source.weights is None:
        return None
    return Weights(source.weights, model.published())


def _record(source: Source) -> tuple[Form | None, tuple[str, ...]]:
    """Return the provenance record that a source holds, and what is wrong with it."""
    if source.located is None or source.path is None or not source.located.has_record:
        return None, ()
    from reinit_cli.provenance.record import parse_record

    try:
        with source.open(0) as contents:
            texts = [each.text for each in contents.recorded().values()]
        return (parse_record(texts[0], source.path), ()) if texts else (None, ())
    except RecordError as error:
        return None, (f"its record cannot be read: {error.problem}",)


def _odd(source: Source) -> Iterator[str]:
    """Yield what is unusual in a source."""
    tensors, located = source.tensors, source.located
    others = sum(tensor.is_no_tensor for tensor in tensors)
    if others:
        yield "1 entry is not a tensor" if others == 1 else f"{others:,} entries are not tensors"
    overlaps = overlapping(tensors)
    if overlaps:
        yield f"{plural(len(overlaps), 'tensor')} share some memory, and cannot be filled"
    prefix = _wrapper(tensors)
    if prefix:
        yield f"every key starts with {prefix!r}, as a wrapper leaves it"
    names = located.unknown_names if located else ()
    if names:
        more = ", ..." if len(names) > _MOST_NAMES else ""
        named = ", ".join(map(quoted, names[:_MOST_NAMES])) + more
        # What ranks wrote is read by dcp.load, whatever it names.
        if located is not None and located.pieces:
            yield f"dcp.load would import {named}"
        else:
            yield f"torch.load(weights_only=True) refuses it, because of {named}"
    yield from doubts_about(source)


def _said_otherwise(shards: Shards | None, sums: Sums) -> Iterator[str]:
    """Yield what an index says of its shards otherwise than they are."""
    total = shards.total if shards else None
    if total not in (None, sums.counts.nbytes):
        there = sums.counts.nbytes
        yield f"its index says {total:,} bytes of tensors, and there are {there:,}"


def _wrapper(tensors: Sequence[TensorInfo]) -> str:
    """Return the prefix that a wrapper put in front of all keys, or ""."""
    first = tensors[0].key if tensors else ""
    for prefix in _WRAPPERS:
        if first.startswith(prefix) and all(each.key.startswith(prefix) for each in tensors):
            return prefix
    return ""


def _parts(holdings: Holdings) -> Iterator[Part]:
    """Yield what lies next to the state dict in a file, each without what is in it."""
    located = holdings.source.located if holdings.source else None
    root = located.root if located else ""
    networks = {each.root for each in located.neighbors} if located else set()
    last = ""
    for part in holdings.parts:
        holds_it = not part.path or f"{root}.".startswith(f"{part.path}.")
        is_in_it = bool(root) and part.path.startswith(f"{root}.")
        if holds_it or is_in_it or (last and part.path.startswith(f"{last}.")):
            continue
        last = part.path
        if part.path not in networks:  # which are named as what they are
            yield part
    if isinstance(holdings.source, FolderSource):
        yield from _other_files(holdings.source)


def _other_files(source: FolderSource) -> Iterator[Part]:
    """Yield the files of a folder that hold what goes with the weights, or other weights."""
    sizes = source.sizes
    for name in source.located.fitting:
        yield Part(name, "training state", nbytes=sizes.get(name, 0))
    for name, size in source.located.stale.items():
        yield Part(name, "other weights", nbytes=size)
