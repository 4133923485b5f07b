"""Tell from names, shapes and the order of keys which layer the input of a BatchNorm is from."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cached_property

Shape = tuple[int, ...]

Shapes = Mapping[str, Shape]
"""The shapes of the tensors of a module, by their names in it."""

_NORMS = ("batch_norm", "batchnorm", "normalization", "norm", "bn")
"""What BatchNorms are called; the first of these that a name holds counts."""

_LAYERS = ("conv", "convolution", "conv2d", "conv1d", "linear", "lin", "fc", "proj")
"""What the layer is called that has the same name otherwise."""

_IN_ORDER = (
    ("conv_pw", "conv_dw", "conv_pwl"),
    ("conv_dw", "conv_pw"),
    ("_expand_conv", "_depthwise_conv", "_project_conv"),
    ("_depthwise_conv", "_project_conv"),
    ("conv_stem", "conv_head"),
    ("_conv_stem", "_conv_head"),
)
"""Layers whose BatchNorms are numbered in their order, in timm (_efficientnet_blocks.py and
efficientnet.py) and in EfficientNet-PyTorch (model.py)."""

_LAST_OF_SEPARABLE = ("pointwise", "conv_pw")
"""The second layer of a separable convolution, which is a module of two."""

_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)
_LAST_NUMBER = re.compile(r"(.*?)([0-9]{0,9})", re.ASCII | re.DOTALL)


class NormInputs:
    """The layers before the BatchNorms of a checkpoint."""

    def __init__(self, modules: Mapping[str, Shapes]) -> None:
        """Look at modules.

        Args:
            modules: the shapes of the tensors of each, in the order of the checkpoint.
        """
        self._modules = modules
        self._at = {module: at for at, module in enumerate(modules)}
        self._in_order = list(modules)
        self._is_ordered = self._in_order != sorted(modules)  # safetensors sorts them

    def layer_before(self, norm: str) -> str:
        """Return the layer whose outputs a BatchNorm normalizes, or "" where nothing tells."""
        numel = self._numel(norm)
        for module in self._candidates(norm):
            layer = self._last_layer(module)
            if layer and numel in self._outputs(layer, in_sequence=_is_number(_name(norm))):
                return layer
        return ""

    def _numel(self, norm: str) -> int:
        shapes = self._modules[norm]
        found = shapes.get("running_mean") or shapes.get("running_var") or (0,)
        return found[0]

    def _outputs(self, layer: str, *, in_sequence: bool) -> Shape:
        """Return how many outputs a layer may have."""
        shape = self._modules[layer]["weight"]
        # A transposed convolution has them in the second dimension.
        return shape[:2] if in_sequence else shape[:1]

    def _candidates(self, norm: str) -> Iterator[str]:
        """Yield modules that may come before a BatchNorm, the most likely first."""
        parent, name = _parent(norm), _name(norm)
        if name.startswith("pre"):
            return
        if _is_number(name):
            yield from self._numbered_before(parent, int(name))
            grandparent, words = _parent(parent), _name(parent)
            yield from self._named_alike(norm, grandparent, words, f".{name}")
            return
        yield from self._named_alike(norm, parent, name, "")
        by_position = self._by_position(parent, name)
        if by_position:
            yield by_position
        elif self._is_ordered:
            yield from self._in_order[max(0, self._at[norm] - 1) : self._at[norm]]
        elif not self._is_before(parent):
            fitting = [each for each in self._siblings[parent] if self._fits(each, norm)]
            yield from fitting if len(fitting) == 1 else ()

    def _numbered_before(self, parent: str, number: int) -> Iterator[str]:
        """Yield the last module before a number: activations between them have no tensors."""
        lower = [each for each in self._numbers[parent] if each < number]
        if lower:
            yield _joined(parent, str(max(lower)))

    def _named_alike(self, norm: str, parent: str, name: str, rest: str) -> Iterator[str]:
        """Yield layers that are called like a BatchNorm, but for the word."""
        for twin in _twins(name, shift=1 if self._is_before(_parent(norm)) else 0):
            module = _joined(parent, twin) + rest
            comes_later = self._is_ordered and self._at.get(module, -1) > self._at[norm]
            if not comes_later:
                yield module

    def _by_position(self, parent: str, name: str) -> str:
        """Return the layer that has the position in its block that the number of a norm says."""
        names = self._children[parent]
        norms = sorted(
            (each for each in names if _word(each) and _ends_in_number(each)), key=_numbered
        )
        for layers in _IN_ORDER:
            if names.issuperset(layers) and len(norms) == len(layers) and name in norms:
                return _joined(parent, layers[norms.index(name)])
        return ""

    def _is_before(self, parent: str) -> bool:
        """Whether the norms of such blocks come before the layers with their names."""
        return _without_numbers(parent) in self._blocks_of_norms_first

    @cached_property
    def _blocks_of_norms_first(self) -> frozenset[str]:
        """The blocks, without numbers, whose norms fit the inputs of the layers of their names.

        Some of them have as many inputs as outputs, and tell nothing.
        """
        found: dict[str, set[str]] = defaultdict(set)
        for norm in self._modules:
            parent = _parent(norm)
            twins = (_joined(parent, each) for each in _twins(_name(norm)))
            shapes = (self._modules[each].get("weight", ()) for each in twins if each in self._at)
            shape = next(shapes, ())
            if "running_mean" in self._modules[norm] and len(shape) > 1 and shape[0] != shape[1]:
                numel = self._numel(norm)
                fits = "in" if numel == shape[1] else "out" if numel == shape[0] else ""
                found[_without_numbers(parent)].add(fits)
        return frozenset(block for block, fits in found.items() if fits == {"in"})

    def _fits(self, layer: str, norm: str) -> bool:
        shape = self._modules[layer].get("weight", ())
        return len(shape) > 1 and shape[0] == self._numel(norm)

    def _last_layer(self, module: str) -> str:
        """Return a module if it is a layer, or the last layer of what it consists of, or ""."""
        while module not in self._at and (numbers := self._numbers[module]):
            module = _joined(module, str(max(numbers)))
        if module not in self._at:
            inner = [each for each in self._siblings.get(module, ()) if self._is_layer(each)]
            last = [each for each in inner if _name(each) in _LAST_OF_SEPARABLE]
            module = inner[0] if len(inner) == 1 else last[0] if len(last) == 1 else ""
        return module if module and self._is_layer(module) else ""

    def _is_layer(self, module: str) -> bool:
        return len(self._modules[module].get("weight", ())) > 1

    @cached_property
    def _siblings(self) -> Mapping[str, list[str]]:
        """The modules with tensors in each module."""
        found: dict[str, list[str]] = defaultdict(list)
        for module in self._modules:
            found[_parent(module)].append(module)
        return found

    @cached_property
    def _children(self) -> Mapping[str, set[str]]:
        """The names of the parts of each module, of those whose own parts have tensors too."""
        found: dict[str, set[str]] = defaultdict(set)
        for module in self._modules:
            for path in _paths(module):
                found[_parent(path)].add(_name(path))
        return found

    @cached_property
    def _numbers(self) -> Mapping[str, set[int]]:
        """The numbers among these names."""
        numbered = {
            module: {int(name) for name in names if _is_number(name)}
            for module, names in self._children.items()
        }
        return defaultdict(set, numbered)


def _twins(name: str, shift: int = 0) -> Iterator[str]:
    """Yield what the layer of a BatchNorm may be called.

    Args:
        name: that of the BatchNorm.
        shift: how much lower the number of the layer is.
    """
    word = _word(name)
    if not word:
        return
    if shift:
        found = _LAST_NUMBER.fullmatch(name)
        if found is None or not found[2] or int(found[2]) < shift:
            return
        name = f"{found[1]}{int(found[2]) - shift}"
    for layer in _LAYERS:
        yield name.replace(word, layer)


def _word(name: str) -> str:
    return next((word for word in _NORMS if word in name), "")


def _parent(module: str) -> str:
    return module.rpartition(".")[0]


def _name(module: str) -> str:
    return module.rpartition(".")[2]


def _joined(parent: str, name: str) -> str:
    return f"{parent}.{name}" if parent else name


def _paths(module: str) -> Iterator[str]:
    """Yield a module and all that it is in."""
    while module:
        yield module
        module = _parent(module)


def _is_number(name: str) -> bool:
    return _NUMBER.fullmatch(name) is not None


def _ends_in_number(name: str) -> bool:
    return _NUMBER.fullmatch(name[-1:]) is not None


def _numbered(name: str) -> int:
    found = _LAST_NUMBER.fullmatch(name)
    return int(found[2]) if found is not None and found[2] else 0


def _without_numbers(module: str) -> str:
    return re.sub(r"[0-9]+", "#", module)
