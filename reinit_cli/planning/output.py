"""Choose the place and the format of an output, and say what would be lost."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from reinit_cli.checkpoints.formats import (
    LAYOUTS,
    NEW_FILES,
    NEW_FOLDER,
    SUFFIXES,
    keeping,
    new_file,
    suffix_of,
)
from reinit_cli.checkpoints.formats.base import Content, Format, NewFormat, Shortfall
from reinit_cli.checkpoints.formats.hugging_face.names import PEFT_STEM, series_of
from reinit_cli.checkpoints.formats.respelling import KeepingFormat
from reinit_cli.checkpoints.source import Source, files_of_weights, unused_root
from reinit_cli.errors import OutputUnwritableError, RuleError, UnwritableContentError
from reinit_cli.lazy import dataclass
from reinit_cli.planning.lost import holds_more, unwritten
from reinit_cli.planning.plan import Plan
from reinit_cli.request.cast import casts_of
from reinit_cli.request.output_name import OutputName
from reinit_cli.request.request import Request
from reinit_cli.storage.location import DASH
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.text import nbytes, near, plural


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The source's own files, with bytes replaced."""

    format: Format
    is_created = False


@dataclass(frozen=True, slots=True)
class Created:
    """New files."""

    format: NewFormat
    is_created = True


@dataclass(frozen=True, slots=True)
class Respelled:
    """The source's own file with other tensors or keys, and everything else as it is."""

    format: KeepingFormat
    is_created = False


Layout = Rewritten | Created | Respelled
"""How the files of an output come about."""


BESIDE = OutputName("{stem}-reinit{suffix}", is_beside=True)
"""The default name of an output."""


BESIDE_AS_FOLDER = OutputName("{stem}-reinit", is_beside=True)
"""The default name of a folder of shards."""


def source_notes(source: Source, request: Request) -> Iterator[str]:
    """Say what a user should know of the source that is read."""
    # What is written as a DCP folder goes under the path, wherever it comes from.
    if request.to is None:
        yield from unused_root(request.root, (source,))
    located = source.located
    if located is None:
        return
    if located.unknown_names:
        names = ", ".join(located.unknown_names[:3])
        more = len(located.unknown_names) - 3
        names += f" and {more} more" if more > 0 else ""
        # What ranks wrote is read by dcp.load, which imports whatever a pickle names.
        reader = "dcp.load" if located.pieces else "torch.load refuses by default and"
        otherwise = "imports" if located.pieces else "would otherwise import"
        yield f"the pickle in {source.path!r} names {names}, which {reader} {otherwise}"
    if located.has_record:
        yield f"the record in {source.name!r} describes that file itself and was not copied"
    yield from located.notes
    yield from located.doubts(source.path or source.name)


def layout_form(request: Request, source: Source, layout: Layout) -> dict[str, bool]:
    """Return what plans and records say of a layout that is not the one they had before.

    Those of before say `drop_non_tensors`, which was ignored where a source kept its format.
    """
    if isinstance(layout, Respelled):
        return {"tensors_only": False}
    if not isinstance(layout, Created) or layout.format is not source.format:
        return {}
    is_new = request.tensors_only and not request.changes_entries
    return {"tensors_only": True} if is_new else {}


def root_form(request: Request, source: Source) -> str | None:
    """Return what plans and records say of the root: where it is in the source.

    In a new DCP folder it leads to the keys, too, whether the source has it or not.
    """
    if request.to is not None:
        return request.root
    return source.located.root if source.located else None


def choose_layout(request: Request, path: str | None, source: Source) -> Layout:
    """Choose the format by the suffix; a source's own format keeps its files.

    Args:
        request: what is asked for.
        path: the output, or None for standard output.
        source: what is read.

    Raises:
        OutputUnwritableError: the suffix does not name a format that can hold it.
    """
    suffix = _suffix(path)
    own = source.format
    drops = request.tensors_only and source.located is not None and holds_more(source.located)
    stays = own is not None and not request.changes_entries and not drops
    if _is_folder(request, path, source):
        if path is None or request.in_place or suffix in SUFFIXES:
            what = "--to writes" if request.to else "shards go into"
            problem = f"{what} a folder: name one without a suffix such as .pt"
            raise OutputUnwritableError(path or DASH, problem)
        if request.to is not None:
            return Created(LAYOUTS[request.to])
        stays = stays and source.is_folder and request.shard_nbytes is None
        return Rewritten(own) if own is not None and stays else Created(NEW_FOLDER)
    if request.in_place or path is None:
        suffix = (own or NEW_FILES[0]).suffixes[0]
    new = new_file(suffix, own, [cast.dtype for cast in casts_of(request.dtype)])
    is_as_before = new is None and source.path is not None and suffix == _suffix(source.path)
    if own is not None and (suffix in own.suffixes or is_as_before):
        keeps = keeping(own) if not request.tensors_only else None
        if stays:
            return Rewritten(own)
        if keeps is not None:
            return Respelled(keeps)
    if new is not None:
        return Created(new)
    problem = f"its suffix does not name a format; use one of {', '.join(SUFFIXES)}"
    raise OutputUnwritableError(path or DASH, problem, _named_like(path or DASH), kind="suffix")


def _named_like(path: str) -> tuple[str, ...]:
    """Return names that can be meant by one whose suffix names no format.

    Without a suffix it is perhaps a folder, or a file.
    """
    if path.startswith("/dev/"):
        return (DASH,) if path in ("/dev/stdout", "/dev/fd/1") else ()
    suffix = _suffix(path)
    if not suffix:
        return os.path.join(path, ""), path + NEW_FILES[0].suffixes[0]
    # Short suffixes are all alike: .h5 is not a mistyped .th, but .tp is .pt.
    alike = [
        each
        for each in near(suffix, SUFFIXES, 2)
        if len(suffix) > len(".h5") or sorted(each) == sorted(suffix)
    ]
    return tuple(path[: -len(suffix)] + each for each in alike)


def layout_for(plan: Plan, source: Source, layout: Layout) -> Layout:
    """Return how files come about once it is known what is left out of them.

    Raises:
        RuleError: the format cannot leave out what a new optimizer does not have.
    """
    if not plan.forgotten or not isinstance(layout, Rewritten):
        return layout
    keeps = keeping(layout.format)
    if keeps is None:
        problem = f"its format keeps {plan.forgotten[0]!r}, which a new optimizer does not have"
        raise RuleError(source.name, problem, kind="optimizer")
    return Respelled(keeps)


def _suffix(path: str | None) -> str:
    return suffix_of(path or "").lower()


def _is_folder(request: Request, path: str | None, source: Source) -> bool:
    if request.makes_folder or (path or "").endswith(os.sep):
        return True
    return source.is_folder and _suffix(path) not in SUFFIXES


def content_of(source: Source, tensors: tuple[TensorInfo, ...]) -> Content:
    """Return what a new file of a source is to hold.

    Args:
        source: what is read.
        tensors: its entries as they are written.
    """
    located = source.located
    if located is None:
        return Content(tensors, source.metadata, source=source.name, is_live=True)
    metadata = {"format": located.framework} if located.framework else located.plain_metadata
    file = located.files[0] or os.path.basename(source.path or "")
    return Content(tensors, metadata, unwritten(located), source.name, file)


def content_notes(
    source: Source, content: Content, path: str | None, layout: Layout, request: Request
) -> Iterator[str]:
    """Say what the format of a new file changes.

    Args:
        source: what is read.
        content: what the file is to hold.
        path: the output, or None for standard output.
        layout: how its files come about.
        request: whether what it cannot hold may be lost, and how large its shards are.

    Raises:
        UnwritableContentError: it cannot hold an entry, or what the source has besides its tensors.
    """
    if isinstance(layout, Rewritten):
        return
    shortfall = layout.format.refuses(content)
    if isinstance(layout, Respelled):
        beyond = [each for each in shortfall.beyond if not each.carried]
        if beyond:
            raise UnwritableContentError(path or DASH, _some(beyond))
        return
    if source.located and source.located.attributes:
        yield f"not stored, since it is not a tensor: {', '.join(source.located.attributes)}"
    if shortfall.beyond:
        # A piece that is compressed fits into no file, and a tensor of a pickle into a .pt.
        is_in_pieces = source.located is not None and bool(source.located.parts)
        able = () if is_in_pieces else shortfall.suffixes
        raise UnwritableContentError(path or DASH, _some(shortfall.beyond), able)
    if shortfall.lost and not request.tensors_only:
        raise _loss(path, shortfall, source, request)
    yield from shortfall.notes
    if request.to is not None:
        yield from _root_notes(request, source.located.root if source.located else "")
    if request.shard_nbytes is not None:
        yield from _shard_notes(content, request.shard_nbytes)
        yield from _adapter_notes(content, request.shard_nbytes)


def _root_notes(request: Request, root: str) -> Iterator[str]:
    """Say where the keys of a source's state dict go, if that is another place."""
    if root and not request.root:
        yield f"keys are at the top of the new folder; --root {root} keeps them under {root!r}"
    elif root and request.root != root:
        yield f"the state dict is at {root!r} in the source, and under {request.root!r} in the output"


_SMALL_SHARD_NBYTES = 10**6
"""Shards below this size are most likely a unit that was left out."""


def _shard_notes(content: Content, shard_nbytes: int) -> Iterator[str]:
    """Say where shards are tiny, and where tensors are larger than they are to be."""
    if shard_nbytes < _SMALL_SHARD_NBYTES:
        size = nbytes(shard_nbytes)
        yield f"shards of at most {size} are very small; --shard-size takes units, such as 5GB"
    larger = [tensor for tensor in content.tensors if tensor.nbytes > shard_nbytes]
    if larger:
        first = larger[0]
        more = f" and {plural(len(larger) - 1, 'more tensor')}" if larger[1:] else ""
        verb, its = ("are", "each has") if larger[1:] else ("is", "it has")
        yield (
            f"{first.key!r} ({nbytes(first.nbytes)}){more} {verb} larger than --shard-size; "
            f"{its} a shard to itself"
        )


def _adapter_notes(content: Content, shard_nbytes: int) -> Iterator[str]:
    """Say where an adapter is split, which PEFT loads from one file alone."""
    series = series_of(content.file)
    is_split = sum(tensor.nbytes for tensor in content.tensors) > shard_nbytes
    if series is not None and series.stem == PEFT_STEM and is_split:
        yield "PEFT loads an adapter from one file alone, which it is without --shard-size"


def _loss(
    path: str | None, shortfall: Shortfall, source: Source, request: Request
) -> UnwritableContentError:
    """Return that a format cannot hold what lies next to the tensors."""
    lost, suffixes = shortfall.lost, shortfall.suffixes_of_lost
    more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
    problem = f"{', '.join(lost[:5])}{more}"
    if request.to is not None or (source.located is not None and source.located.parts):
        return UnwritableContentError(path or DASH, problem, kind="left out")
    return UnwritableContentError(
        path or DASH, problem, suffixes, kind="rest", of=_only_file(source)
    )


def _only_file(source: Source) -> str:
    """Return the path of the file that holds all weights of a folder, or ""."""
    if source.located is None or source.located.parts or not source.is_folder:
        return ""
    found = files_of_weights(source.located)
    return os.path.join(source.path or "", *found) if len(found) == 1 else ""


def _some(tensors: Sequence[TensorInfo]) -> str:
    first = tensors[0]
    more = f" and {plural(len(tensors) - 1, 'other')}" if len(tensors) > 1 else ""
    return f"{first.key!r}, {first.carried or 'of dtype ' + first.dtype}{more}"
