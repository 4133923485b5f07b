"""Choose the place and the format of an output, and say what would be lost."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Literal as OneOf

from reinit_cli.checkpoints.formats import safetensors
from reinit_cli.checkpoints.formats.torch import zip as torch_zip
from reinit_cli.checkpoints.source import Source
from reinit_cli.errors import OutputUnwritableError, UnwritableContentError
from reinit_cli.request.output_name import OutputName
from reinit_cli.request.request import Request
from reinit_cli.storage.location import DASH
from reinit_cli.tensors.info import TensorInfo, tied_groups
from reinit_cli.text import plural

Format = OneOf["same", "safetensors", "torch", "shards"]
"""same: the source's bytes with tensors replaced; the others: laid out anew."""


SUFFIXES = (safetensors.SUFFIX, *torch_zip.SUFFIXES)
"""Those that name a format."""


BESIDE = OutputName("{stem}-reinit{suffix}", is_beside=True)
"""The default name of an output."""


BESIDE_AS_FOLDER = OutputName("{stem}-reinit", is_beside=True)
"""The default name of a folder of shards."""


def source_notes(source: Source) -> Iterator[str]:
    """Say what a user should know of the file that is read."""
    located = source.located
    if located is None:
        return
    if located.unknown_names:
        names = ", ".join(located.unknown_names[:3])
        more = len(located.unknown_names) - 3
        yield (
            f"the pickle in {source.path!r} names {names}{f' and {more} more' if more > 0 else ''}, "
            "which torch.load refuses by default and would otherwise import"
        )
    if located.has_record:
        yield f"the record in {source.name!r} is of its own making, and is not carried along"
    yield from located.notes


def choose_format(request: Request, path: str | None, source: Source) -> Format:
    """Choose the format by the suffix; a file's own format keeps its layout."""
    suffix = os.path.splitext(path or "")[1].lower()
    own = source.located.format if source.located else ""
    is_laid_out = request.dtype is not None or request.reshapes or not own
    if _is_folder(request, path, source):
        if path is None or request.in_place or suffix in SUFFIXES:
            problem = "shards go into a folder: name one without a suffix such as .pt"
            raise OutputUnwritableError(path or DASH, problem)
        is_same = source.is_folder and not is_laid_out and request.shard_nbytes is None
        return "same" if is_same else "shards"
    if source.is_folder:
        return "safetensors" if suffix == safetensors.SUFFIX else "torch"
    if request.in_place or path is None:
        suffix = torch_zip.SUFFIXES[0] if own.startswith("torch") else safetensors.SUFFIX
    if suffix == safetensors.SUFFIX:
        return "same" if own == "safetensors" and not is_laid_out else "safetensors"
    if suffix in torch_zip.SUFFIXES:
        return "same" if own.startswith("torch") and not is_laid_out else "torch"
    if source.path and suffix == os.path.splitext(source.path)[1].lower() and not is_laid_out:
        return "same"
    problem = f"its suffix names no format; known are {', '.join(SUFFIXES)}, or a folder/"
    raise OutputUnwritableError(path or DASH, problem)


def _is_folder(request: Request, path: str | None, source: Source) -> bool:
    if request.shard_nbytes is not None or (path or "").endswith(os.sep):
        return True
    return source.is_folder and os.path.splitext(path or "")[1].lower() not in SUFFIXES


def content_notes(
    source: Source,
    tensors: tuple[TensorInfo, ...],
    path: str | None,
    format_: Format,
    *,
    drops: bool,
) -> Iterator[str]:
    """Say what the format of a new file changes.

    Args:
        source: what is read.
        tensors: its entries as they are written.
        path: the output, or None for standard output.
        format_: how it is laid out.
        drops: whether what it cannot hold may be lost.

    Raises:
        UnwritableContentError: it cannot hold an entry.
        UnwritableContentError: it cannot hold what lies beside the tensors.
    """
    if format_ != "same" and source.located and source.located.attributes:
        yield f"dropped, since it is no tensor: {', '.join(source.located.attributes)}"
    if format_ in ("safetensors", "shards"):
        rest = source.located.rest if source.located else ()
        beyond = [tensor for tensor in source.tensors if not safetensors.holds(tensor)]
        beyond = [tensor for tensor in beyond if not (rest and tensor.is_no_tensor)]
        if beyond:
            raise UnwritableContentError(path or DASH, _some(beyond), (".pt",))
        if rest and not drops:
            raise _loss(path, rest, (".pt",))
        if rest:
            yield f"dropped, since safetensors holds tensors only: {', '.join(rest)}"
        yield from _written_twice(tensors)
    elif format_ == "torch" and source.located is not None:
        rest = source.located.rest
        beyond = [tensor for tensor in source.tensors if not _torch_has(tensor)]
        if beyond:
            raise UnwritableContentError(path or DASH, _some(beyond), (safetensors.SUFFIX,))
        if rest and not drops:
            raise _loss(path, rest, ())
        if rest:
            yield f"dropped, since the file is written anew: {', '.join(rest)}"
        lost = [name for name in source.metadata if name not in ("format", safetensors.RECORD)]
        if lost:
            yield f"the metadata of {source.name} is not carried along: {', '.join(lost)}"


def _torch_has(tensor: TensorInfo) -> bool:
    """Whether a file laid out anew can hold it: F4 and F6 of safetensors have no torch name."""
    return tensor.is_no_tensor or (tensor.dtype.islower() and not tensor.carried)


def _loss(
    path: str | None, lost: Sequence[str], suffixes: tuple[str, ...]
) -> UnwritableContentError:
    """Return that a format cannot hold what lies next to the tensors."""
    more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
    problem = f"{', '.join(lost[:5])}{more}"
    return UnwritableContentError(path or DASH, problem, suffixes, kind="rest")


def _some(tensors: Sequence[TensorInfo]) -> str:
    first = tensors[0]
    more = f" and {plural(len(tensors) - 1, 'other entry')}" if len(tensors) > 1 else ""
    return f"{first.key!r}, {first.carried or 'of dtype ' + first.dtype}{more}"


def _written_twice(tensors: tuple[TensorInfo, ...]) -> Iterator[str]:
    for group in dict.fromkeys(tied_groups(tensors).values()):
        keys = " and ".join(map(repr, group))
        yield f"{keys} are one tensor; a safetensors file holds it under each name"
