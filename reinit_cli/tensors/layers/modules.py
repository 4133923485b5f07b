"""Gather the tensors of a state dict by the module that holds them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise

from reinit_cli.tensors.info import TensorInfo

Shape = tuple[int, ...]

_PARAMETRIZED = ".parametrizations."
"""What `torch.nn.utils.parametrize` puts between a module and a tensor that it computes."""

_ORIGINALS = ("original", "original1")
"""Of a parametrization, the tensor with the shape of what it computes."""

_STAND_INS = {"weight_orig": "weight", "bias_orig": "bias", "weight_v": "weight"}
"""What `torch.nn.utils.prune`, `spectral_norm` and `weight_norm` keep in place of a tensor."""


_WRAPPER = re.compile(
    r"\.(?:base_layer|original_module|(?:modules_to_save|ln_tuning_layers)(?:\.[^.]+)?)\Z"
)
"""What PEFT puts between a module and its tensors, the name of an adapter included."""

_DEEPEST = 64
"""How many modules around one are looked at, for text from strangers."""

_MOST_DIGITS = 9
"""The most digits of a number of a module, for text from strangers."""

_LONGEST_GAP = 3
"""How far the number of the next layer may be: an activation and a dropout have no tensors."""


def place_of(key: str) -> tuple[str, str]:
    """Return the path of the module that has a key, and the name of the tensor in it."""
    path, found, role = key.partition(_PARAMETRIZED)
    if found:
        return path, f"{found[1:]}{role}"
    path, _, role = key.rpartition(".")
    return path, role


_PLAIN = frozenset(("weight", "bias"))


class Module:
    """The tensors of a module.

    Attributes:
        path: its place in the model.
        unwrapped: the same without what PEFT wraps it in.
        at: its position among the modules of the state dict.
        held: the shape of each of its own tensors, by name.
    """

    __slots__ = ("at", "held", "last", "name", "path", "unwrapped")

    def __init__(self, path: str, at: int) -> None:
        self.path = path
        self.at = at
        self.held: dict[str, Shape] = {}
        self.last = path.rpartition(".")[2]
        """The last segment of its path."""
        self.unwrapped = _WRAPPER.sub("", path)
        name = self.unwrapped.rpartition(".")[2]
        self.name = _not_number(self.unwrapped) if name.isdigit() else name
        """The last segment of its unwrapped path that is not a number."""

    @property
    def is_plain(self) -> bool:
        """Whether it has nothing but a weight and a bias."""
        return self.held.keys() <= _PLAIN

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The shape of each of its own tensors, and of those that others stand in for."""
        if self.is_plain:
            return self.held
        found = dict(self.held)
        for role, shape in self.held.items():
            meant = _meant(role, self.held)
            if meant:
                found.setdefault(meant, shape)
        return found

    def meant(self, role: str) -> str:
        """Return the name of what a tensor stands for: `weight` for `weight_orig`."""
        return role if role in _PLAIN else _meant(role, self.held) or role

    @property
    def parent(self) -> str:
        """The path of the module around it."""
        return self.path.rpartition(".")[0]


def _not_number(path: str) -> str:
    last = reversed(path.rsplit(".", _DEEPEST))
    return next((each for each in last if not each.isdigit()), "")


def _meant(role: str, held: Mapping[str, Shape]) -> str:
    """Return what a tensor stands in for, or ""."""
    if role.startswith(_PARAMETRIZED[1:]):
        name, _, last = role.removeprefix(_PARAMETRIZED[1:]).rpartition(".")
        return name if last in _ORIGINALS else ""
    if role == "weight_v" and "weight_g" not in held:  # a vector of spectral norm
        return ""
    return _STAND_INS.get(role, "")


class Modules:
    """The modules of a state dict that hold tensors, in its order."""

    def __init__(self, tensors: Sequence[TensorInfo]) -> None:
        self._by_path: dict[str, Module] = {}
        for tensor in tensors:
            path, role = place_of(tensor.key)
            module = self._by_path.get(path)
            if module is None:
                module = self._by_path[path] = Module(path, len(self._by_path))
            module.held[role] = tensor.shape
        self._in_order = tuple(self._by_path.values())

    def __iter__(self) -> Iterator[Module]:
        """Yield them in the order of the state dict."""
        return iter(self._in_order)

    def at(self, path: str) -> Module | None:
        """Return the module of a path, or None where it holds no tensor."""
        return self._by_path.get(path)

    def after(self, module: Module, steps: int = 1) -> Module | None:
        """Return the module some steps after another, or None where there is none."""
        at = module.at + steps
        return self._in_order[at] if 0 <= at < len(self._in_order) else None

    def next_in_parent(self, module: Module, step: int) -> Module | None:
        """Return the module next to one in their parent; None where that is not known.

        Children with numbers are in the order of these, whatever the order of the file is; some
        numbers are of modules without tensors, such as activations. Others are in the order of the
        file, unless it sorts them by name: then their order is not that of the model.

        Args:
            module: where to start.
            step: 1 for the next one, -1 for the one before.
        """
        if not module.last.isdecimal() or len(module.last) > _MOST_DIGITS:
            found = None if self._is_sorted else self.after(module, step)
            return found if found is not None and found.parent == module.parent else None
        for number in range(1, _LONGEST_GAP + 1):
            path = f"{module.parent}.{int(module.last) + step * number}".removeprefix(".")
            if path in self._containers:
                return None
            if path in self._by_path:
                return self._by_path[path]
        return None

    @cached_property
    def _is_sorted(self) -> bool:
        """Whether the paths are in alphabetical order, as in files of safetensors."""
        return all(one.path <= two.path for one, two in pairwise(self._in_order))

    @cached_property
    def _containers(self) -> frozenset[str]:
        """The paths of modules that hold others, at most some levels above a tensor."""
        found: set[str] = set()
        for module in self._in_order:
            path = module.parent
            for _ in range(_DEEPEST):
                if path in found:
                    break
                found.add(path)
                path = path.rpartition(".")[0]
        return frozenset(found)

    @cached_property
    def families_with_kernels(self) -> frozenset[str]:
        """The paths below which, at any depth, a weight has three dimensions or more."""
        found: set[str] = set()
        for module in self._in_order:
            if len(module.shapes.get("weight", ())) > 2:
                path = module.path
                for _ in range(_DEEPEST):
                    if path in found:
                        break
                    found.add(path)
                    path = path.rpartition(".")[0]
                found.add("")
        return frozenset(found)
