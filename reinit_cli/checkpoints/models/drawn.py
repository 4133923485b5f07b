"""Draw a model without weights: every tensor as its constructor fills it, from its own stream."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from reinit_cli.checkpoints.models.model import NamedModel
from reinit_cli.checkpoints.state import StateContents, with_own_storages
from reinit_cli.initializers import Architecture, Law, UndefinedError
from reinit_cli.initializers.drawing import drawn_blocks
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.storage.segments import Literal, View
from reinit_cli.streams.chance import Array
from reinit_cli.streams.stream import Stream, stream_named
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.threads import Work, cores

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

_PIECE_NUMEL = 2**20
"""The elements that one thread draws before it takes more."""


class Laws:
    """The laws of the tensors that a model without weights is made of."""

    def __init__(self, architecture: Architecture, tensors: tuple[TensorInfo, ...]) -> None:
        """Remember the model.

        Args:
            architecture: what its constructor fills it with.
            tensors: the entries of its state dict.
        """
        self._architecture = architecture
        self._ties: dict[tuple[object, ...], list[str]] = {}
        for tensor in tensors:
            self._ties.setdefault(_place(tensor), []).append(tensor.key)

    def law(self, tensor: TensorInfo) -> Law:
        """Return what a tensor is filled with.

        Raises:
            UndefinedError: that cannot be replayed.
        """
        return self._architecture.law(tensor.key, tensor.shape)

    def stream_key(self, tensor: TensorInfo) -> str:
        """Return the key whose stream a tensor is drawn from, as `default` has it."""
        return min(map(self._architecture.first_equal, self._ties[_place(tensor)]))

    def lost(self, tensors: tuple[TensorInfo, ...]) -> Iterator[tuple[str, str]]:
        """Yield the keys whose laws cannot be replayed, and why."""
        for tensor in tensors:
            try:
                self.law(tensor)
            except UndefinedError as error:
                yield tensor.key, str(error)


def _place(tensor: TensorInfo) -> tuple[object, ...]:
    if tensor.storage is None:
        return (tensor.key,)
    return (tensor.storage, tensor.offset, tensor.shape, tensor.stride)


class Values:
    """The values of a model without weights."""

    def __init__(self, model: NamedModel, laws: Laws, seed: int, stream: str) -> None:
        """Remember what to draw.

        Args:
            model: the model.
            laws: those of its tensors.
            seed: the seed of the run.
            stream: the exact name of the stream.
        """
        self._model = model
        self._laws = laws
        self._seed = seed
        self._stream = stream_named(stream)
        self._drawn: dict[str, View] = {}

    def view(self, tensor: TensorInfo) -> View:
        """Return the bytes of a tensor; where its law is lost, as the constructor makes it."""
        if tensor.key not in self._drawn:
            self._drawn[tensor.key] = self._made(tensor)
        return self._drawn[tensor.key]

    def _made(self, tensor: TensorInfo) -> View:
        from reinit_cli.tensors.convert import bytes_of
        from reinit_cli.tensors.elements import Elements

        try:
            law = self._laws.law(tensor)
        except UndefinedError:
            return self._built.view(tensor)
        seed = self._stream.seed_for(self._seed, self._laws.stream_key(tensor))
        values = _drawn(law, tensor, seed, self._stream)
        place = Literal(bytes_of(Elements(values, tensor.dtype).array))
        return View.of(place, tensor.dtype, tensor.shape)

    @cached_property
    def _built(self) -> StateContents:
        """The model as its constructor makes it, under its own seed."""
        state: Mapping[str, Any] = self._model.loaded(self._seed)
        return StateContents(with_own_storages(state))


@dataclass(frozen=True, slots=True)
class DrawnContents(StateContents):
    """A model without weights as the contents of a source; a tensor is drawn when it is read.

    Attributes:
        values: draws the tensors, of which `state` has none.
    """

    values: Values

    @classmethod
    def of(cls, model: NamedModel, laws: Laws, seed: int, stream: str) -> Self:
        """Return a model whose tensors are drawn under a seed from a stream."""
        return cls(model.emptied(), Values(model, laws, seed, stream))

    def view(self, tensor: TensorInfo) -> View:
        """Return the bytes of a tensor."""
        return self.values.view(tensor)


def _drawn(law: Law, tensor: TensorInfo, seed: int, stream: Stream) -> Array:
    """Return what a law draws, in several threads where each element is drawn alone."""
    shape, dtype = tensor.shape, np.dtype(tensor.dtype)
    numel = math.prod(shape)
    values = np.empty(numel, dtype)
    if not law.is_elementwise or numel <= _PIECE_NUMEL:
        at = 0
        for block in drawn_blocks(law, shape, dtype, stream.chance(seed, "cpu")):
            values[at : at + block.size] = block
            at += block.size
        return values.reshape(shape)

    def draw(first: int) -> None:
        fill = law.filler(shape, dtype, stream.chance(seed, "cpu"))
        fill(values[first : first + _PIECE_NUMEL], first)

    with Work() as work:
        for _ in work.each(draw, range(0, numel, _PIECE_NUMEL), cores()):
            pass
    return values.reshape(shape)
