"""Give floating tensors the dtypes that are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from reinit_cli.errors import RuleError, UnknownNameError
from reinit_cli.request.cast import Cast, casts_of
from reinit_cli.request.pattern import NO_KEY, KeyIndex
from reinit_cli.request.request import Request
from reinit_cli.tensors.dtype import DTYPES, FLOATS
from reinit_cli.tensors.info import TensorInfo, tied_groups
from reinit_cli.tensors.layers.layer import Layers
from reinit_cli.text import plural, quoted


def cast(
    source: str,
    tensors: tuple[TensorInfo, ...],
    request: Request,
    outside: Sequence[TensorInfo] = (),
    layers: Layers | None = None,
) -> tuple[tuple[TensorInfo, ...], tuple[str, ...]]:
    """Return tensors with the dtypes that are asked for, and warnings; only floats change.

    Args:
        source: the name of what they are from.
        tensors: all of them.
        request: what is asked for.
        outside: other tensors, which keep their dtype and may share memory.
        layers: the layers of the tensors.

    Raises:
        UnknownNameError: a dtype is not one of floats.
        RuleError: a pattern matches no floating tensor.
    """
    casts = casts_of(request.dtype)
    if not casts:
        return tensors, ()
    for each in casts:
        if DTYPES[each.dtype].kind != "float":
            known = [known.name for known in FLOATS]
            raise UnknownNameError(each.dtype, known=known, kind="float dtype")
    chosen, warnings = _chosen(source, tensors, casts, layers, allows=request.allow_unmatched)
    warnings += _left(tensors, casts, layers)
    ties = tied_groups(tensors)
    for group in dict.fromkeys(ties.values()):
        ranks = [chosen[key] for key in group if key in chosen]
        # A tie is one tensor, and the last that matches any of its keys decides.
        chosen |= dict.fromkeys(group, max(ranks)) if ranks else {}
    is_partial = not all(each.is_for_all for each in casts)
    shared = {str(each.storage) for each in outside if each.storage is not None}
    return tuple(
        _as(
            tensor,
            casts[chosen[tensor.key]].dtype,
            ties,
            is_partial=is_partial or str(tensor.storage) in shared,
        )
        if tensor.key in chosen
        else tensor
        for tensor in tensors
    ), warnings


def _chosen(
    source: str,
    tensors: Sequence[TensorInfo],
    casts: Sequence[Cast],
    layers: Layers | None,
    *,
    allows: bool,
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return the position of the cast that decides each floating tensor, and warnings."""
    keys = [tensor.key for tensor in tensors]
    index = KeyIndex(keys, layers)
    chosen: dict[str, int] = {}
    warnings = []
    for rank, each in enumerate(casts):
        matched = index.select(each.pattern)
        floats = [keys[at] for at in matched if tensors[at].fillable_dtype in FLOATS]
        if not floats and not each.is_for_all:
            missed = index.missed(each.pattern) if not matched else NO_KEY
            what = "floating tensor" if matched else missed.what
            problem = f"dtype {quoted(each.text)} matches no {what} of {source}{missed.instead}"
            if not allows:
                known = () if matched or missed.kinds else keys
                word = each.pattern.text
                raise RuleError(each.text, problem, known, kind="dtype", word=word, of=source)
            warnings.append(problem)
        chosen |= dict.fromkeys(floats, rank)
    return chosen, tuple(warnings)


def _left(
    tensors: Sequence[TensorInfo], casts: Sequence[Cast], layers: Layers | None
) -> tuple[str, ...]:
    """Say which floating tensors keep their dtype though a cast matches them."""
    index = KeyIndex([tensor.key for tensor in tensors], layers)
    matched = {at for each in casts for at in index.select(each.pattern)}
    left = [at for at in sorted(matched) if _keeps_float(tensors[at])]
    if not left:
        return ()
    first = tensors[left[0]]
    more = f", and {plural(len(left) - 1, 'other')} keep their dtypes" if left[1:] else ""
    return (f"{first.key!r}, {first.carried}{more or ', keeps its dtype'}",)


def _keeps_float(tensor: TensorInfo) -> bool:
    return bool(tensor.carried) and DTYPES.get(tensor.dtype) in FLOATS


def _as(
    tensor: TensorInfo, dtype: str, ties: Mapping[str, tuple[str, ...]], *, is_partial: bool
) -> TensorInfo:
    """Return a tensor with another dtype."""
    nbytes = tensor.numel * DTYPES[dtype].nbits // 8
    changed = replace(tensor, dtype=dtype, nbytes=nbytes)
    if not is_partial or dtype == tensor.dtype:
        return changed
    # What it shared memory with may keep its dtype, so it gets a storage that only ties share.
    place = ("cast", ties[tensor.key][0]) if tensor.key in ties else None
    return changed.with_shape(tensor.shape, place)
