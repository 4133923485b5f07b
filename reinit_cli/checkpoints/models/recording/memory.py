"""Know what the memory of tensors is filled with while a constructor runs.

A storage is noted from the moment on when nobody has filled it, or chance has. Its own bytes
mean nothing where a draw was only noted; what is computed without chance is in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING

from reinit_cli.checkpoints.models.recording.fills import (
    ALIKE,
    COMPUTED,
    UNFILLED,
    Fill,
    Unknown,
    Why,
)
from reinit_cli.checkpoints.models.recording.regions import (
    clipped,
    covers,
    located,
    meet,
    overlap_as_runs,
    placed,
    region_of,
    repeats,
    run,
    whole,
    within,
)
from reinit_cli.initializers import Law
from reinit_cli.initializers.families.replays import Region
from reinit_cli.initializers.law import Constant
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.streams.stream import stream_named

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor
    from torch.multiprocessing.reductions import StorageWeakRef
else:
    np = LazyModule("numpy")
    torch = LazyModule("torch")

_FEW = 64
"""How many notes on a storage are looked through for those that a new one hides."""

Piece = tuple[Region, Fill]
"""Some elements, and what they are filled with."""


@dataclass(slots=True)
class _Notes:
    """What a storage is filled with.

    Attributes:
        storage: refers to it without keeping its bytes; its identity is not reused meanwhile.
        dtype: that of the elements that are counted.
        fills: what regions of it were filled with, in order.
        is_drawn: whether its bytes are a draw too.
    """

    storage: StorageWeakRef
    dtype: torch.dtype
    fills: list[Piece] = field(default_factory=list)
    is_drawn: bool = False


class Memory:
    """The notes on all storages."""

    def __init__(self, seed: int = 0) -> None:
        """Begin without notes.

        Args:
            seed: of what is drawn where a constructor looks at values, and of the bytes that
                nobody fills.
        """
        self._notes: dict[int, _Notes] = {}
        self._seed = seed
        self._draws = 0

    def knows(self, tensor: Tensor) -> bool:
        """Whether there are notes on a tensor's storage, so that its bytes may mean nothing."""
        return _storage(tensor) in self._notes

    def is_drawn(self, tensor: Tensor) -> bool:
        """Whether a tensor's bytes are a draw of what is noted."""
        notes = self._notes.get(_storage(tensor))
        return notes is not None and notes.is_drawn

    def mark_drawn(self, tensor: Tensor) -> None:
        """Say that a tensor's bytes are a draw of what is noted."""
        self._notes[_storage(tensor)].is_drawn = True

    def note(self, tensor: Tensor, fill: Fill) -> None:
        """Note what a tensor is filled with, which may be a part of its storage."""
        self._note(tensor, region_of(tensor), fill)

    def _note(self, tensor: Tensor, region: Region, fill: Fill) -> None:
        notes = self._notes.get(_storage(tensor))
        if notes is None:
            notes = self._notes[_storage(tensor)] = _notes_on(tensor)
        if not region.numel:
            return
        # Of many, hidden ones are found in the end: a loop over rows would look at all for each.
        if len(notes.fills) <= _FEW or region.numel == numel_of_storage(tensor):
            notes.fills = [each for each in notes.fills if not covers(region, each[0])]
        notes.fills.append((region, fill))

    def note_empty(self, tensor: Tensor) -> None:
        """Note that nobody has filled the storage of a new tensor."""
        self._note(tensor, run(numel_of_storage(tensor)), UNFILLED)

    def note_growth(self, tensor: Tensor, before: int) -> None:
        """Note that nobody has filled what a storage has beyond its elements before."""
        numel = numel_of_storage(tensor)
        if numel > before:
            self._note(tensor, run(numel - before, before), UNFILLED)

    def note_draw(self, tensor: Tensor, law: Law) -> None:
        """Note that a tensor is drawn, all of it and by itself."""
        self._draws += 1
        self.note(tensor, Fill(law, self._draws, whole(tensor.shape)))
        if self.is_drawn(tensor):
            tensor.detach().copy_(self._drawn(law, self._draws, tuple(tensor.shape)))

    def note_unknown(
        self, tensor: Tensor, problem: str, of: Iterable[Tensor] = (), why: Why = "chance"
    ) -> None:
        """Note that a tensor's bytes are computed from chance.

        Args:
            tensor: the tensor.
            problem: how, for people.
            of: what it is computed from.
            why: the kind of the problem.
        """
        self._draws += 1
        draws = {self._draws}.union(*(self.draws(each) for each in of))
        self.note(tensor, Fill(Unknown(problem, why, frozenset(draws))))
        self._notes[_storage(tensor)].is_drawn = True

    def draws(self, tensor: Tensor) -> frozenset[int]:
        """Return the numbers of the draws that a tensor depends on."""
        return frozenset().union(*(fill.draws for _, fill in self.pieces(tensor)))

    def pieces(self, tensor: Tensor) -> list[Piece]:
        """Return what a tensor is filled with: all of it first, then parts of it, in order."""
        own = region_of(tensor)
        everything = whole(own.shape)
        found = [(everything, COMPUTED)]
        notes = self._notes.get(_storage(tensor))
        if notes is None:
            return found
        if notes.dtype.itemsize != tensor.element_size():
            return [(everything, Fill(Unknown("its constructor reads it as another dtype")))]
        for region, fill in notes.fills:
            if covers(region, own):
                found = [(everything, fill.of_part(own, region))]
            elif meet(region, own) and repeats(own):
                return [(everything, Fill(Unknown("its constructor repeats parts of it")))]
            elif meet(region, own):
                found.append(_piece(region, own, fill))
        return found

    def is_random(self, tensor: Tensor) -> bool:
        """Whether any of a tensor depends on chance."""
        return self.knows(tensor) and any(
            fill.is_random and fill != UNFILLED for _, fill in self.pieces(tensor)
        )

    def is_unfilled(self, tensor: Tensor) -> bool:
        """Whether nobody has filled any of a tensor."""
        return [fill for _, fill in self.pieces(tensor)] == [UNFILLED]

    def refill(self, tensor: Tensor, pieces: Sequence[Piece]) -> None:
        """Note that a tensor is filled with pieces, as `pieces` returns them."""
        own = region_of(tensor)
        for region, fill in pieces:
            place = located(region, whole(own.shape))
            if place is None:
                self.note(tensor, Fill(Unknown("its constructor moves a part of it")))
            else:
                self._note(tensor, placed(place, region, own), fill)

    def settle(self, tensor: Tensor) -> None:
        """Write into a storage what is noted but for draws, so that its bytes have it."""
        notes = self._notes.get(_storage(tensor))
        if notes is None:
            return
        for at, (region, fill) in enumerate(notes.fills):
            if isinstance(fill.law, Constant):
                _bytes_of(tensor, notes, region).fill_(fill.law.value)
            elif fill == UNFILLED:
                mark(_bytes_of(tensor, notes, region), self._seed)
            else:
                continue
            notes.fills[at] = (region, COMPUTED)

    def draw(self, tensor: Tensor) -> None:
        """Write into a storage what is noted, draws too: a constructor looks at the values."""
        notes = self._notes.get(_storage(tensor))
        if notes is None or notes.is_drawn:
            return
        notes.is_drawn = True
        for region, fill in notes.fills:
            target = _bytes_of(tensor, notes, region)
            if fill == UNFILLED:
                mark(target, self._seed)
            elif isinstance(fill.law, Law):
                target.copy_(self._drawn(fill.law, fill.draw, region.shape))

    def _drawn(self, law: Law, draw: int, shape: tuple[int, ...]) -> Tensor:
        values = np.empty(shape, np.float32)
        stream = stream_named("philox-1")
        law.fill(values, stream.chance(stream.seed_for(self._seed, str(draw)), "cpu"))
        return torch.from_numpy(values)

    def adopt(self, tensor: Tensor, copy: Tensor) -> None:
        """Note that a new storage has the bytes of another, which were copied as bytes."""
        notes = self._notes.get(_storage(tensor))
        if notes is not None and _storage(copy) != _storage(tensor):
            new = self._notes[_storage(copy)] = _notes_on(copy)
            new.dtype, new.fills, new.is_drawn = notes.dtype, [*notes.fills], notes.is_drawn


def _piece(region: Region, own: Region, fill: Fill) -> Piece:
    """Return a fill of a part of a tensor."""
    inside = within(region, own)
    if inside is not None:
        return inside, fill
    rows = clipped(region, own)
    inside = within(rows, own) if rows is not None else None
    if rows is not None and inside is not None:
        return inside, fill.of_part(rows, region)
    common = overlap_as_runs(region, own)
    is_known = common is not None and (not fill.is_random or isinstance(fill.law, ALIKE))
    if common is not None and is_known:
        inside = within(common, own)
        if inside is not None:
            return inside, replace(fill, home=None)
    problem = "its constructor fills a part of it together with more of its storage"
    return whole(own.shape), Fill(Unknown(problem, draws=fill.draws))


def _notes_on(tensor: Tensor) -> _Notes:
    from torch.multiprocessing.reductions import StorageWeakRef

    return _Notes(StorageWeakRef(tensor.untyped_storage()), tensor.dtype)  # type: ignore[no-untyped-call]


def _bytes_of(tensor: Tensor, notes: _Notes, region: Region) -> Tensor:
    """Return a region of a tensor's storage."""
    made = torch.empty(0, dtype=notes.dtype, device=tensor.device)
    made.set_(tensor.untyped_storage(), region.offset, region.shape, region.stride)
    return made


def mark(tensor: Tensor, seed: int) -> None:
    """Write what differs from seed to seed into memory that nobody fills."""
    tensor.fill_(bool(seed % 2) if tensor.dtype == torch.bool else seed % 2 + 1)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def numel_of_storage(tensor: Tensor) -> int:
    """Return how many elements of a tensor's dtype its storage has."""
    return int(tensor.untyped_storage().nbytes()) // max(1, tensor.element_size())
