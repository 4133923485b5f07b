"""Record how a model's constructor fills its tensors, without drawing a value.

A constructor runs with its random in-place fills recorded instead of drawn: `empty` memory
is never touched, so that a model of gigabytes is recorded in megabytes. Everything else is
computed, so that constants such as ones and tables of positions have their values.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from types import FrameType
from typing import TYPE_CHECKING, Any

from reinit_cli.checkpoints.models.borrowing import own_random_state
from reinit_cli.checkpoints.models.module_layers import layers_of_module
from reinit_cli.initializers import Law, UndefinedError
from reinit_cli.initializers.families.replays import Patched, Region, Values
from reinit_cli.initializers.law import Constant, Normal, Uniform
from reinit_cli.initializers.truncated import TruncatedNormal
from reinit_cli.lazy import dataclass
from reinit_cli.streams.chance import Array
from reinit_cli.tensors.layers.layer import Layer

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Unknown:
    """A fill that cannot be replayed.

    Attributes:
        reason: why.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """One entry of a state dict that was recorded.

    Attributes:
        shape: its dimensions.
        law: what it is filled with.
        layer: the layer that it belongs to, where a module was made and tells it.
        equal_to: the first key of an equal tensor, its own where there is none before it.
    """

    shape: tuple[int, ...]
    law: Law | Unknown
    layer: Layer | None = None
    equal_to: str = ""


Fills = Mapping[str, Recorded]
"""What was recorded of a state dict, by key."""


@dataclass(slots=True)
class _Notes:
    """The fills of a storage that holds random values.

    Attributes:
        owner: a tensor that keeps the storage alive, so that its identity is not reused.
        fills: regions of it in elements, and what each was filled with, in order.
    """

    owner: Tensor
    fills: list[tuple[Region, Law | Unknown]] = field(default_factory=list)


class Recording:
    """The fills that were recorded while a constructor ran."""

    def __init__(self) -> None:
        self._notes: dict[int, _Notes] = {}

    def note(self, tensor: Tensor, law: Law | Unknown) -> None:
        """Add a fill of a tensor, which may be a part of its storage."""
        notes = self._notes.setdefault(_storage(tensor), _Notes(tensor.detach()))
        notes.fills.append((_region(tensor), law))

    def knows(self, tensor: Tensor) -> bool:
        """Whether fills of a tensor's storage were recorded, so that its values mean nothing."""
        return _storage(tensor) in self._notes

    def law(self, tensor: Tensor) -> Law:
        """Return the law that a tensor is filled by in the end.

        Raises:
            UndefinedError: that cannot be replayed.
        """
        notes = self._notes.get(_storage(tensor))
        if notes is None:
            return _law_of_values(tensor)
        own = _region(tensor)
        whole: Law | Unknown | None = None
        parts: dict[Region, Law | Unknown] = {}
        for region, law in notes.fills:
            if _covers(region, own):
                whole, parts = law, {}
            elif (inner := _within(region, own)) is not None:
                parts[inner] = law
        return _combined(tensor, whole, parts)

    def copy(self, source: Tensor, target: Tensor) -> None:
        """Note that a tensor gets what another has."""
        try:
            law: Law | Unknown = self.law(source)
        except UndefinedError as error:
            law = Unknown(str(error))
        self.note(target, law)


def _combined(
    tensor: Tensor, whole: Law | Unknown | None, parts: Mapping[Region, Law | Unknown]
) -> Law:
    known = {region: law for region, law in parts.items() if not isinstance(law, Unknown)}
    unknown = [law for law in (whole, *parts.values()) if isinstance(law, Unknown)]
    if isinstance(whole, Unknown) and sum(region.numel for region in known) == tensor.numel():
        unknown.remove(whole)  # all of it was filled later, part by part
        whole = Constant(0.0)
    if unknown:
        raise UndefinedError(unknown[0].reason)
    assert not isinstance(whole, Unknown)
    base = whole if whole is not None else _law_of_values(tensor)
    return Patched(tensor.numel(), base, tuple(known.items())) if known else base


def _law_of_values(tensor: Tensor) -> Law:
    if not tensor.numel():
        return Constant(0.0)
    values = _array(tensor.detach().clone())
    first = values.flat[0]
    return Constant(first.item()) if (values == first).all() else Values(values)


def _array(tensor: Tensor) -> Array:
    """Return values as an array, in the next wider dtype where numpy has not theirs."""
    import torch

    wider = {torch.bfloat16: torch.float32, torch.complex32: torch.complex64}
    is_narrow = tensor.is_floating_point() and tensor.element_size() == 1
    of_numpy = torch.float32 if is_narrow else wider.get(tensor.dtype, tensor.dtype)
    return tensor.to("cpu", of_numpy).contiguous().numpy()


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _region(tensor: Tensor) -> Region:
    return Region(int(tensor.storage_offset()), tuple(tensor.shape), tuple(tensor.stride()))


def _extent(region: Region) -> tuple[int, int]:
    reach = sum((dim - 1) * step for dim, step in zip(region.shape, region.stride, strict=True))
    return region.offset, region.offset + reach + 1


def _is_dense(region: Region) -> bool:
    first, last = _extent(region)
    return last - first == region.numel


def _covers(region: Region, own: Region) -> bool:
    """Whether a region without gaps has all of another."""
    (start, end), (first, last) = _extent(region), _extent(own)
    return _is_dense(region) and start <= first and last <= end


def _within(region: Region, own: Region) -> Region | None:
    """Return a region of the storage as one of a tensor that lies in it without gaps."""
    (start, end), (first, last) = _extent(region), _extent(own)
    if not region.numel or end <= first or last <= start:
        return None
    return Region(region.offset - own.offset, region.shape, region.stride)


@contextmanager
def recording() -> Iterator[Recording]:
    """Record what fills tensors in this block, instead of drawing it."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    found = Recording()

    class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            del types
            kwargs = kwargs or {}
            name = func._schema.name.removeprefix("aten::")
            tensors = [
                each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)
            ]
            is_recorded = name in _DRAWS or any(map(found.knows, tensors))
            if is_recorded and (truncated := _truncated_draw()) is not None:
                return _pass_through(found, func, args, kwargs, truncated)
            if name in _DRAWS:
                found.note(args[0], _DRAWS[name](*args[1:]))
                return args[0]
            if not is_recorded:
                done = func(*args, **kwargs)
                if torch.Tag.nondeterministic_seeded in func.tags:
                    for each in tree_leaves(done):
                        found.note(each, Unknown(f"its constructor draws it by torch's {name}"))
                return done
            if func._schema.is_mutable:
                return _note_change(found, name, args)
            if name in _COPIES:
                made = torch.empty_like(args[0], **_layout_of(kwargs))
                found.copy(args[0], made)
                return made
            done = func(*args, **kwargs)
            for each in tree_leaves(done):
                if isinstance(each, torch.Tensor) and not found.knows(each):
                    found.note(each, Unknown(f"its constructor computes it by torch's {name}"))
            return done

    with own_random_state(), Recorder():  # type: ignore[no-untyped-call]
        yield found


def _truncated_draw() -> Mapping[str, Any] | None:
    """Return the arguments of torch's trunc_normal_ where that is what is running."""
    import torch

    code = torch.nn.init._no_grad_trunc_normal_.__code__
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame.f_locals if frame is not None else None


def _pass_through(
    found: Recording,
    func: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    truncated: Mapping[str, Any],
) -> Any:
    """Note the draw of torch's trunc_normal_, and let it end without drawing.

    It draws again until no value lies outside the bounds, which it finds out by comparisons.

    Args:
        found: where the draw is noted.
        func: what it calls now.
        args: what it calls it with.
        kwargs: the same.
        truncated: its own arguments.
    """
    import torch

    name = func._schema.name.removeprefix("aten::")
    if name in _DRAWS:
        bounds = (truncated[each] for each in ("mean", "std", "a", "b"))
        found.note(truncated["tensor"], TruncatedNormal(*bounds))
    if func._schema.is_mutable:
        return args[0]
    if name in _COMPARISONS:
        return torch.zeros((), dtype=torch.bool)
    made = func(*args, **kwargs)
    found.note(made, Unknown("it is a part of torch's trunc_normal_"))
    return made


def _normal(mean: float = 0.0, std: float = 1.0) -> Law:
    return Normal(mean, std)


def _uniform(low: float = 0.0, high: float = 1.0) -> Law:
    return Uniform(low, high)


_DRAWS: Mapping[str, Callable[..., Law]] = {"normal_": _normal, "uniform_": _uniform}
"""The in-place draws that are recorded, as laws of their arguments."""

_COMPARISONS = frozenset(("lt", "le", "gt", "ge"))

_COPIES = frozenset(("clone", "_to_copy"))


def _layout_of(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    known = ("dtype", "layout", "device", "memory_format")
    return {name: kwargs[name] for name in known if kwargs.get(name) is not None}


def _note_change(found: Recording, name: str, args: tuple[Any, ...]) -> Any:
    """Note what changes a tensor that holds random values, or gets them."""
    import torch

    target = args[0]
    if name == "zero_":
        found.note(target, Constant(0.0))
    elif name == "fill_" and not isinstance(args[1], torch.Tensor):
        found.note(target, Constant(args[1]))
    elif name == "copy_" and args[1].shape == target.shape:
        found.copy(args[1], target)
    else:
        found.note(target, Unknown(f"its constructor changes it by torch's {name}"))
    return target


def laws_of(build: Callable[[], nn.Module | Mapping[str, Any]]) -> Fills:
    """Return what a function fills the module or the state dict with that it makes, by key."""
    with recording() as found:
        made = build()
        state = made if isinstance(made, Mapping) else made.state_dict()
    layers = {} if isinstance(made, Mapping) else layers_of_module(made, state)
    return _laws(found, state, layers)


def laws_of_layers(module: nn.Module) -> Fills:
    """Return what the layers' own `reset_parameters` fill a module with, by key.

    The module itself is left as it is. What a whole model's constructor changes afterwards
    is not recorded.
    """
    import copy

    import torch

    # Copies of everything but the values: empty memory is never touched.
    tensors = (*module.parameters(), *module.buffers())
    memo = {
        id(each): torch.nn.Parameter(torch.empty_like(each, device="cpu"), each.requires_grad)
        if isinstance(each, torch.nn.Parameter)
        else torch.empty_like(each, device="cpu")
        for each in tensors
    }
    empty = copy.deepcopy(module, dict(memo))
    with recording() as found, torch.no_grad():
        for each in memo.values():
            found.note(each, Unknown("no layer has a reset_parameters that fills it"))
        for layer in reversed(list(empty.modules())):  # children before those who hold them
            reset = getattr(layer, "reset_parameters", getattr(layer, "_reset_parameters", None))
            if reset is not None:
                _try(reset, layer, found)
        state = empty.state_dict()
    return _laws(found, state, layers_of_module(module, state))


def _try(reset: Callable[[], object], layer: nn.Module, found: Recording) -> None:
    """Reset a layer; where that fails, as it may for one that was changed since, note it."""
    try:
        reset()
    except Exception as error:  # noqa: BLE001 (a layer of strangers may raise anything)
        problem = f"its layer's reset_parameters fails: {type(error).__name__}"
        for each in layer.parameters(recurse=False):
            found.note(each, Unknown(problem))


def _laws(found: Recording, state: Mapping[str, Any], layers: Mapping[str, Layer]) -> Fills:
    import torch

    fills: dict[str, Recorded] = {}
    for key, value in state.items():
        if isinstance(value, torch.Tensor) and not value.is_quantized:
            try:
                law: Law | Unknown = found.law(value)
            except UndefinedError as error:
                law = Unknown(str(error))
            fills[key] = Recorded(tuple(value.shape), law, layers.get(key), key)
    return fills
