"""Say what was found of a state dict: the law of each tensor, and which are equal."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from reinit_cli.checkpoints.models.recording.fills import ALIKE, COMPUTED, Fill, Unknown
from reinit_cli.checkpoints.models.recording.memory import Memory, Piece
from reinit_cli.checkpoints.models.recording.regions import extent, is_dense, meet, run, simplified
from reinit_cli.initializers import Law
from reinit_cli.initializers.families.replays import Patched, Region, Values, visible
from reinit_cli.initializers.law import Constant
from reinit_cli.initializers.truncated import TruncatedNormal
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.streams.chance import Array

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor
else:
    np = LazyModule("numpy")
    torch = LazyModule("torch")

_MOST_PARTS = 1000
"""The most parts of a tensor that are drawn one by one."""

_FAR = 40.0
"""How many deviations from the center stand for no bound."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found of one tensor.

    Attributes:
        shape: its dimensions.
        law: what it is filled with.
        pieces: the same, piece by piece.
    """

    shape: tuple[int, ...]
    law: Law | Unknown
    pieces: tuple[Piece, ...]

    @property
    def draws(self) -> frozenset[int]:
        """The numbers of the draws that it depends on."""
        return frozenset().union(*(fill.draws for _, fill in self.pieces))

    @property
    def sign(self) -> Hashable:
        """What equal tensors have in common, and no others."""
        parts = tuple(
            (region, fill.draw, fill.home, fill.changes) if fill.draw else (region, fill.law)
            for region, fill in self.pieces
        )
        return self.shape, parts


def found_in(memory: Memory, state: Mapping[str, Any]) -> dict[str, Found]:
    """Return what was found of each tensor of a state dict."""
    tensors = {key: each for key, each in state.items() if isinstance(each, torch.Tensor)}
    return {
        key: _found(memory, tensor) for key, tensor in tensors.items() if not tensor.is_quantized
    }


def _found(memory: Memory, tensor: Tensor) -> Found:
    if torch.nn.parameter.is_lazy(tensor):
        return Found((), Unknown("its constructor leaves its shape open", "unfilled"), ())
    shape = tuple(tensor.shape)
    if tensor.is_meta or tensor.layout != torch.strided:
        return Found(shape, Unknown("its constructor makes it without memory", "unfilled"), ())
    pieces = _seen(shape, memory.pieces(tensor))
    return Found(shape, _law(tensor, pieces), tuple(pieces))


def _seen(shape: tuple[int, ...], pieces: Sequence[Piece]) -> list[Piece]:
    """Return pieces without those that later ones hide."""
    if len(pieces) == 1:
        return list(pieces)
    regions = [region for region, _ in pieces]
    counts = visible(math.prod(shape), regions)
    kept = [piece for piece, count in zip(pieces, counts, strict=True) if count]
    return kept or list(pieces[:1])


def _law(tensor: Tensor, pieces: Sequence[Piece]) -> Law | Unknown:
    unknown = [fill.law for _, fill in pieces if isinstance(fill.law, Unknown)]
    if unknown:
        return replace(unknown[0], draws=frozenset().union(*(each.draws for each in unknown)))
    parts = _merged(pieces)
    if len(parts) > _MOST_PARTS:
        return Unknown("its constructor fills it in more parts than are drawn one by one")
    region, first = parts[0]
    base: Law = Constant(0.0)  # of which nothing is left
    if simplified(region) == simplified(run(tensor.numel())):
        parts = parts[1:]
        base = _bounded(first.law) if first != COMPUTED else law_of_values(_kept(tensor, parts))
    drawn = tuple(
        (region, law_of_values(_at(tensor, region)) if fill == COMPUTED else _bounded(fill.law))
        for region, fill in parts
    )
    return Patched(tensor.numel(), base, drawn) if drawn else base


def _merged(pieces: Sequence[Piece]) -> list[Piece]:
    """Return pieces with those put together that follow one another and are filled alike."""
    merged: list[Piece] = []
    for region, fill in pieces:
        if merged and isinstance(fill.law, ALIKE) and merged[-1][1].law == fill.law:
            before = merged[-1][0]
            if before.is_run and region.is_run and extent(before)[1] == region.offset:
                numel = before.numel + region.numel
                merged[-1] = (run(numel, before.offset), Fill(fill.law))
                continue
        merged.append((region, fill))
    return merged


def _bounded(law: Law | Unknown | None) -> Law:
    """Return a law whose bounds are numbers."""
    assert isinstance(law, Law)
    if not isinstance(law, TruncatedNormal):
        return law
    room = _FAR * law.scale
    low = law.low if math.isfinite(law.low) else min(law.center, law.high) - room
    high = law.high if math.isfinite(law.high) else max(law.center, law.low) + room
    return replace(law, low=low, high=high)


def _at(tensor: Tensor, region: Region) -> Tensor:
    """Return some elements of a tensor, which are counted in row-major order."""
    flat = tensor.detach().contiguous().view(-1)
    return flat.as_strided(region.shape, region.stride, flat.storage_offset() + region.offset)


def _kept(tensor: Tensor, parts: Sequence[Piece]) -> Tensor:
    """Return what is computed of a tensor, with zeros where its bytes mean nothing."""
    kept = tensor.detach().clone(memory_format=torch.contiguous_format)
    for region, _ in parts:
        _at(kept, region).zero_()
    return kept


def law_of_values(tensor: Tensor) -> Law:
    """Return the law of values that are computed without chance."""
    if not tensor.numel():
        return Constant(0.0)
    values = array_of(tensor.detach().clone())
    first = values.flat[0]
    return Constant(first.item()) if (values == first).all() else Values(values)


def array_of(tensor: Tensor) -> Array:
    """Return values as an array, in the next wider dtype where numpy has not theirs."""
    wider = {torch.bfloat16: torch.float32, torch.complex32: torch.complex64}
    is_narrow = tensor.is_floating_point() and tensor.element_size() == 1
    of_numpy = torch.float32 if is_narrow else wider.get(tensor.dtype, tensor.dtype)
    return tensor.to("cpu", of_numpy).contiguous().numpy()


def with_consistency(found: Mapping[str, Found]) -> tuple[dict[str, Found], dict[str, str]]:
    """Find the tensors that hold the same draw.

    Returns:
        What was found, where a tensor that shares some of its draws with one that is not equal
        to it cannot be replayed, since both would be drawn for themselves; and for each key the
        first of those whose tensors are equal.
    """
    found = {key: _of_norms(key, each, found) for key, each in found.items()}
    firsts: dict[Hashable, str] = {}
    for key in sorted(found):
        if found[key].draws:
            firsts.setdefault(found[key].sign, key)
    equal = {key: firsts.get(each.sign, key) if each.draws else key for key, each in found.items()}
    shared = _shared(found, equal)
    while True:
        lost = frozenset().union(
            *(
                each.law.draws
                for each in found.values()
                if isinstance(each.law, Unknown) and each.law.why == "chance"
            )
        )
        spoiled = {
            key: shared.get(key, "its constructor computes others from it")
            for key, each in found.items()
            if isinstance(each.law, Law) and (key in shared or each.draws & lost)
        }
        if not spoiled:
            return dict(found), equal
        found = {
            key: replace(each, law=Unknown(spoiled[key], draws=each.draws))
            if key in spoiled
            else each
            for key, each in found.items()
        }


def _of_norms(key: str, each: Found, found: Mapping[str, Found]) -> Found:
    """Return what was found of norms, unless no weight is beside them that they are of."""
    if not isinstance(each.law, Unknown) or each.law.why != "norms":
        return each
    weights = (key[: -len(end)] + of for end, of in _WEIGHT_NORM.items() if key.endswith(end))
    is_one = any(other in found for other in weights)
    return each if is_one else replace(each, law=replace(each.law, why="chance"))


_WEIGHT_NORM = {"_g": "_v", ".original0": ".original1"}
"""How the norms of weights are called, and the weights."""


def _shared(found: Mapping[str, Found], equal: Mapping[str, str]) -> dict[str, str]:
    """Return the keys that have some elements of a draw that others, not equal, have too."""
    holders: dict[int, list[tuple[str, Region | None]]] = {}
    for key, each in found.items():
        if equal[key] == key and isinstance(each.law, Law):
            for _, fill in each.pieces:
                if fill.draw:
                    holders.setdefault(fill.draw, []).append((key, fill.home))
    shared: dict[str, str] = {}
    for several in holders.values():
        for at, (key, home) in enumerate(several):
            for other, its_home in several[:at]:
                if _have_common(home, its_home):
                    shared[key] = f"its constructor draws it together with {other}"
                    shared[other] = f"its constructor draws it together with {key}"
    return {key: shared[equal[key]] for key in found if equal[key] in shared}


def _have_common(one: Region | None, other: Region | None) -> bool:
    """Whether two regions of a draw have common elements, or may have some."""
    if one is None or other is None:
        return True
    if not meet(one, other):
        return False
    if is_dense(one) and is_dense(other):
        return True
    last = max(extent(one)[1], extent(other)[1])
    return visible(last, [one, other])[0] < one.numel
