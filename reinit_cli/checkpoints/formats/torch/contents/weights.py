"""Weigh the parts of a container by the elements of their tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import starmap, zip_longest
from math import prod
from operator import eq
from typing import Any, NamedTuple

from reinit_cli.checkpoints.formats.torch.contents.entries import entries_of
from reinit_cli.checkpoints.formats.torch.contents.holders import Holders
from reinit_cli.checkpoints.formats.torch.contents.parts import Part, is_sequence, parts_of
from reinit_cli.checkpoints.formats.torch.pickles.numpy_records import array_of
from reinit_cli.checkpoints.formats.torch.pickles.record_kinds import (
    is_module_record,
    is_tensor_record,
)
from reinit_cli.checkpoints.formats.torch.pickles.tensor_records import Reading
from reinit_cli.errors import MalformedFileError
from reinit_cli.tensors.dtype import DTYPES

_PARAMETERS = frozenset(("weight", "bias", "kernel", "scale", "gamma", "beta", "embedding"))
"""The last segments of names that only parameters have."""


class _Tensor(NamedTuple):
    """What counts of a tensor.

    Attributes:
        place: the same for all that are one tensor.
        numel: the number of its elements.
        dims: how many of its dimensions are longer than one.
        is_raw: whether it is not a weight: bytes, such as the state of a random generator, or
            an array of NumPy.
        is_float: whether it has values that are not integers.
        shape: its dimensions.
    """

    place: str
    numel: int
    dims: int
    is_raw: bool
    is_float: bool
    shape: tuple[int, ...]


Weight = Mapping[str, int]
"""The elements of each tensor that counts, by where it lies: each tensor once."""


def numel_of(weights: Iterable[Weight]) -> int:
    """Return the elements of all tensors, those in several of the weights once."""
    together: dict[str, int] = {}
    for weight in weights:
        together |= weight
    return sum(together.values())


class Scale:
    """Weighs containers.

    What lies loose counts only where nothing else does: accuracies, the states of random
    generators and lists of losses lie next to networks, and are larger than small ones.

    Args:
        reading: tells what tensors are.
        holders: the containers with tensors in them.
        takes_loose: whether what lies loose counts.
    """

    def __init__(self, reading: Reading, holders: Holders, *, takes_loose: bool = False) -> None:
        self._reading = reading
        self._holders = holders
        self._takes_loose = takes_loose
        self._tensors: dict[int, _Tensor] = {}
        self._known: dict[int, Weight] = {}

    def of(self, top: Any) -> Weight:
        """Weigh a container, with all that is in it."""
        if id(top) not in self._known:
            self._known[id(top)] = weight = self._weighed(top)
            self._reading.budget.spend(0, _TENSOR_NBYTES * len(weight))
        return self._known[id(top)]

    def _weighed(self, top: Any) -> Weight:
        weight: dict[str, int] = {}
        for record, parts, inner in self._below(top):
            weight |= self._own(record, parts, inner)
        return weight

    def _below(self, top: Any) -> Iterator[tuple[Any, Sequence[Part], Sequence[Any]]]:
        """Yield a container and those in it once, each with its parts and those that are opened."""
        waiting = [top]
        met = {id(top)}
        while waiting:
            record = waiting.pop()
            parts = list(parts_of(record, self._reading.budget))
            inner = [part.value for part in parts if self._holders.opens(part)]
            yield record, parts, inner
            for each in inner:
                if id(each) not in met:
                    met.add(id(each))
                    waiting.append(each)
            self._reading.budget.spend(1, _VISIT_NBYTES * len(inner))

    def has_named(self, top: Any) -> bool:
        """Whether anything in a container counts that is not in a list."""
        return any(
            any(map(is_parameter, parts)) or self._own(record, parts, inner)
            for record, parts, inner in self._below(top)
            if not is_sequence(record)
        )

    def has_floats(self, top: Any) -> bool:
        """Whether anything in a container counts and has floats, as every network has.

        Scalars alone are no network: callbacks keep the best losses, each by the name of a file.
        """
        return any(
            self._tensor(part).is_float and self._tensor(part).dims
            for record, parts, inner in self._below(top)
            if self._own(record, parts, inner)
            for part in parts
            if is_tensor_record(part.value)
        )

    def own(self, record: Any) -> Weight:
        """Weigh what lies in a container itself."""
        parts = list(parts_of(record, self._reading.budget))
        inner = [part.value for part in parts if self._holders.opens(part)]
        return self._own(record, parts, inner)

    def _is_network(self, record: Any) -> bool:
        """Whether a container is more than a list of tensors."""
        if not is_sequence(record):
            return True
        parts = parts_of(record, self._reading.budget)
        return any(self._holders.opens(part) and not is_sequence(part.value) for part in parts)

    def _own(self, record: Any, parts: Iterable[Part], inner: Sequence[Any]) -> dict[str, int]:
        takes_all = self._takes_loose or is_module_record(record, self._reading.budget)
        is_loose = is_sequence(record) or any(map(self._is_network, inner))
        weight = {}
        for part in parts:
            if is_tensor_record(part.value):
                tensor = self._tensor(part)
                if takes_all or not (tensor.is_raw or (is_loose and not _is_weight(part, tensor))):
                    weight[tensor.place] = tensor.numel
        return weight

    def _tensor(self, part: Part) -> _Tensor:
        known = self._tensors.get(id(part.value))
        if known is None:
            budget = self._reading.budget
            info = self._reading.info(budget.text_of(part.key), part.value)
            place = f"{info.storage} {info.offset} {info.shape} {info.stride}"
            if info.storage is None:
                place = f"alone {len(self._tensors)}"
            budget.spend(0, _TENSOR_NBYTES + len(place))
            dims = sum(dim > 1 for dim in info.shape)
            is_bytes = info.dtype == "uint8" and len(info.shape) == 1
            is_raw = is_bytes or array_of(part.value) is not None
            numel = prod(info.shape[:_MOST_DIMS])
            dtype = DTYPES.get(info.dtype)
            is_float = dtype is None or dtype.kind not in ("integer", "bool")
            known = _Tensor(place, numel, dims, is_raw, is_float, info.shape)
            self._tensors[id(part.value)] = known
        return known

    def lies_in(self, top: Any, storages: AbstractSet[str]) -> bool:
        """Whether all tensors of a container lie in some storages."""
        return all(
            str(self._reading.info("", part.value).storage) in storages
            for _, parts, _ in self._below(top)
            for part in parts
            if is_tensor_record(part.value)
        )

    def agree(self, one: Any, other: Any) -> bool:
        """Whether two containers have the same keys, "module." aside, with the same shapes."""
        self._reading.budget.spend(_AGREE_WORK)
        try:
            return all(starmap(eq, zip_longest(self._shapes(one), self._shapes(other))))
        except MalformedFileError:  # it is nested too deeply
            return False

    def _shapes(self, record: Any) -> Iterator[tuple[str, tuple[int, ...]] | None]:
        for entry in entries_of(record, self._reading.budget, self._holders):
            if is_tensor_record(entry.value):
                tensor = self._tensor(Part(entry.key, entry.value, 0))
                yield entry.key.removeprefix("module."), tensor.shape
        yield None


_TENSOR_NBYTES = 100

_VISIT_NBYTES = 120

_AGREE_WORK = 60
"""The opcodes that take as long as a look at the first keys of two containers."""

_MOST_DIMS = 64
"""The dimensions of what torch makes; what has more is not a weight."""


def _is_weight(part: Part, tensor: _Tensor) -> bool:
    """Whether what lies loose is a weight: it is called so, or is a matrix."""
    return tensor.dims > 1 or is_parameter(part)


def is_parameter(part: Part) -> bool:
    """Whether a part is a tensor that is called as parameters are."""
    if not isinstance(part.key, str) or not is_tensor_record(part.value):
        return False
    return "." in part.key or part.key in _PARAMETERS
