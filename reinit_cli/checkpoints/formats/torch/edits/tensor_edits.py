"""Write a tensor with another dtype, shape or storage, and keep everything else of it.

A tensor is the call of a function with a storage, an offset, a size and a stride; after them
come whether it needs a gradient, its hooks and its metadata, which stay as they are. The
storage is a persistent id: a class that says its dtype, a key, a device and a length.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from operator import mul
from typing import Any

from reinit_cli.checkpoints.formats.torch.edits.replacements import Changed
from reinit_cli.checkpoints.formats.torch.edits.spans import Spans
from reinit_cli.checkpoints.formats.torch.edits.writing import (
    FALSE,
    NO_HOOKS,
    written_name,
    written_number,
    written_sizes,
    written_text,
)
from reinit_cli.checkpoints.formats.torch.pickles.budget import MAX_DEPTH
from reinit_cli.checkpoints.formats.torch.pickles.old_tensors import is_old
from reinit_cli.checkpoints.formats.torch.pickles.record_kinds import (
    PARAMETERS,
    TENSOR,
    UTILS,
    WITH_DTYPE,
    is_plain_tensor,
)
from reinit_cli.checkpoints.formats.torch.pickles.records import Global, Instance
from reinit_cli.checkpoints.formats.torch.pickles.tensor_call import CallSpans, Span
from reinit_cli.checkpoints.formats.torch.pickles.tensor_records import STORAGE_CLASSES
from reinit_cli.tensors.dtype import itemsize_of
from reinit_cli.tensors.info import TensorInfo

_OLDEST = "_rebuild_tensor"
"""It takes neither a gradient flag nor hooks."""

_FLAG, _HOOKS, _DTYPE = 4, 5, 6
"""The positions of arguments; a dtype is there in `_rebuild_tensor_v3` alone."""


def changed_tensor(spans: Spans, record: Any, info: TensorInfo) -> Changed:
    """Return a tensor as it is written, with the dtype, shape and storage of another.

    Args:
        spans: of the pickle.
        record: the tensor, or a parameter or typed tensor around it.
        info: what it becomes. Its storage is the key of one that holds nothing after it.

    Raises:
        UnsupportedFormatError: it is not written as torch writes it.
    """
    return _changed(spans, record, info, 0)


def _changed(  # noqa: RET503 (`refuse` raises)
    spans: Spans, record: Any, info: TensorInfo, depth: int
) -> Changed:
    if not isinstance(record, Instance) or depth > MAX_DEPTH:
        spans.refuse(f"{info.key!r} is not a tensor")
    whole = spans.of(record)
    if is_plain_tensor(record):
        call = spans.call(record)
        return Changed(whole, tuple(_edits(record.function, record.args, call, info)))
    items = spans.items(record.args)
    if items and (record.calls(UTILS, *PARAMETERS) or is_old(record)):
        inner = _changed(spans, record.args[0], info, depth + 1)
        return Changed(whole, ((items[0], inner),))
    if record.calls(TENSOR, "_rebuild_from_type_v2") and len(items) >= 3:
        function, _, args, *_ = record.args
        inner_call = _typed_call(spans, record.args, items)
        return Changed(whole, tuple(_edits(function, args, inner_call, info)))
    spans.refuse(f"{info.key!r} is not a dense tensor")


def _typed_call(spans: Spans, outer: tuple[Any, ...], items: list[Span]) -> CallSpans:
    """Return where the parts of a call lie whose function and arguments are arguments."""
    args = outer[2]
    if not isinstance(args, tuple) or not spans.is_made_at(items[2], args):
        spans.refuse("it shares the arguments of tensors")
    inner = spans.items(args)
    return CallSpans(items[0], inner, spans.id_items(args, inner))


def _edits(
    function: Any, args: tuple[Any, ...], call: CallSpans, info: TensorInfo
) -> Iterator[tuple[Span, bytes]]:
    """Yield what changes in the call of a tensor, in the order of the file."""
    class_ = STORAGE_CLASSES.get(info.dtype)
    had_dtype = function.name == WITH_DTYPE
    if class_ is None and not had_dtype:
        yield call.function, written_name(UTILS, WITH_DTYPE)
    elif class_ is not None and had_dtype:
        yield call.function, written_name(UTILS, "_rebuild_tensor_v2")
    yield from _storage_edits(args[0].id, call, info, class_)
    stride = info.stride if info.stride is not None else _strides(info.shape)
    for at, is_same, written in (
        (1, args[1] == info.offset, written_number(info.offset)),
        (2, args[2] == info.shape, written_sizes(info.shape)),
        (3, args[3] == stride, written_sizes(stride)),
    ):
        if not is_same:
            yield call.args[at], written
    dtype = written_name("torch", info.dtype)
    if class_ is None and not had_dtype:
        end = call.args[min(len(call.args), _DTYPE) - 1][1]
        missing = FALSE + NO_HOOKS if len(call.args) <= _FLAG else b""
        yield (end, end), missing + dtype
    elif had_dtype and (class_ is not None or args[_DTYPE] != Global("torch", info.dtype)):
        yield call.args[_DTYPE], dtype if class_ is None else b""


def _storage_edits(
    id_: tuple[Any, ...], call: CallSpans, info: TensorInfo, class_: str | None
) -> Iterator[tuple[Span, bytes]]:
    """Yield what changes in the persistent id of a storage."""
    name = Global("torch", class_) if class_ is not None else Global("torch.storage", _UNTYPED)
    if id_[1].name != name.name:
        yield call.id[1], written_name(name.module, name.name)
    if id_[2] != info.storage:
        yield call.id[2], written_text(str(info.storage))
    nbytes = info.extent[1]
    numel = nbytes // itemsize_of(info.dtype) if class_ is not None else nbytes
    if id_[4] != numel:
        yield call.id[4], written_number(numel)


_UNTYPED = "UntypedStorage"


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of a tensor whose elements lie in row-major order, as torch has them."""
    sizes = (max(dim, 1) for dim in shape[:0:-1])
    return tuple(accumulate(sizes, mul, initial=1))[::-1] if shape else ()
