"""Tell the kind of each layer of a state dict from names and shapes.

No class is known, so each kind is told by what its tensors are called, by their shapes, and by
what lies next to it. What several kinds fit is not told, or told as their family: a layer that is
taken for another would be filled with the wrong numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import cached_property
from types import MappingProxyType

from reinit_cli.lazy import dataclass
from reinit_cli.tensors.info import RUNNING_STATISTICS, TensorInfo
from reinit_cli.tensors.layers.convolutions import convolution
from reinit_cli.tensors.layers.experts import is_expert, sizes_of_experts
from reinit_cli.tensors.layers.heads import bias_of_head
from reinit_cli.tensors.layers.kernels import EITHER, has_kernel, is_kernel, may_be_kernel
from reinit_cli.tensors.layers.layer import Layer, Layers, Told
from reinit_cli.tensors.layers.modules import Module, Modules, Shape, place_of
from reinit_cli.tensors.layers.names import (
    CONV1D_MODELS,
    CONV1DS,
    GLOBAL_RESPONSE,
    LORA,
    ROTATIONS,
    is_bilinear,
    is_embedding,
    is_linear,
    is_norm,
    is_prelu,
)
from reinit_cli.tensors.layers.norms import Norms
from reinit_cli.tensors.layers.recurrent import ATTENTION, RECURRENT, is_attention, recurrent


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of layer, where it is known.

    Attributes:
        kind: its name.
        told: what tells it.
        sizes: arguments of its constructor.
    """

    kind: str
    told: Told = "names"
    sizes: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


_NOT_TOLD = _Kind("")
_NAMED_LINEAR, _GUESSED_LINEAR = _Kind("Linear"), _Kind("Linear", "shapes")

_ROLES = frozenset(("weight", "bias"))


def layers_of(tensors: Sequence[TensorInfo], model_type: str = "") -> Layers:
    """Return the layers of a state dict, as names and shapes tell them.

    Nothing is computed before the first layer is asked for.

    Args:
        tensors: the entries of the state dict.
        model_type: that of a config of transformers, or "".
    """
    return _ToldLayers(tensors, model_type)


class _ToldLayers:
    """The layers of a state dict, as names and shapes tell them."""

    def __init__(self, tensors: Sequence[TensorInfo], model_type: str) -> None:
        self._tensors = tensors
        self._model_type = model_type
        self._known: dict[str, _Kind] = {}

    def layer(self, key: str) -> Layer | None:
        """Return the layer of a tensor, or None where that cannot be told."""
        path, held = place_of(key)
        module = self._modules.at(path)
        if module is None or held not in module.held:
            return None
        if is_expert(module, held):
            sizes = sizes_of_experts(module, self._model_type)
            return Layer("Experts", path, held, module.shapes, sizes)
        around = self._attention_around(module)
        if around is not None:
            return _in_attention(around, module, held)
        known = self._known.get(path)
        if known is None:
            known = self._known[path] = self._kind_of(module)
        role = module.meant(held)
        if not known.kind:
            return bias_of_head(module, self._modules)
        if not _has(known.kind, role):
            return None
        return Layer(known.kind, path, role, module.shapes, known.sizes, known.told)

    @cached_property
    def _modules(self) -> Modules:
        return Modules(self._tensors)

    @cached_property
    def _norms(self) -> Norms:
        return Norms(self._modules, self._model_type)

    def _kind_of(self, module: Module) -> _Kind:
        """Return the kind of the layer whose tensors a module holds."""
        if not module.is_plain:
            kind, size = recurrent(module)
            if kind:
                return _Kind(kind, sizes={"hidden_size": size})
            if is_attention(module):
                return _Kind("MultiheadAttention")
        shapes = module.shapes
        weight = shapes.get("weight")
        if "running_mean" in shapes or "gamma" in shapes or (weight and len(weight) == 1):
            return self._norm_or_prelu(module)
        if weight is None or len(weight) < 2:
            return _NOT_TOLD
        if shapes.get("bias") == weight:
            return _NOT_TOLD if module.name in GLOBAL_RESPONSE else _Kind("LayerNorm")
        if "bias" not in shapes and is_norm(module.name):
            return _Kind(self._norms.kind(module))
        if len(weight) == 2:
            return self._linear_or_embedding(module, weight)
        if len(weight) == 3 and is_bilinear(module.name):
            return _Kind("Bilinear")
        is_certain = len(weight) != 3 or is_kernel(module, self._modules)
        if not is_certain and not may_be_kernel(module):
            return _NOT_TOLD
        either = EITHER if has_kernel(module) else ""
        found = convolution(module, self._modules) or either
        return _Kind(found, "names" if is_certain else "shapes")

    def _norm_or_prelu(self, module: Module) -> _Kind:
        kind = self._norms.kind(module)
        if kind:
            sizes = self._norms.sizes(kind, module)
            return _Kind(kind, "config" if sizes else "names", sizes)
        is_alone = "bias" not in module.shapes
        is_single = module.shapes.get("weight") == (1,)
        if not is_alone or not (is_single or is_prelu(module.name)):
            return _NOT_TOLD
        # Of what is in a list, nothing else has a single number.
        is_certain = is_prelu(module.name) or module.last.isdigit()
        return _Kind("PReLU", "names" if is_certain else "shapes")

    def _linear_or_embedding(self, module: Module, weight: Shape) -> _Kind:
        """Return the kind of what holds a matrix."""
        bias = module.shapes.get("bias")
        if bias is None:
            if is_embedding(module.unwrapped):
                return _Kind("Embedding")
            around = module.parent.rpartition(".")[2]
            if not {module.name, around}.isdisjoint(ROTATIONS.names):
                return _NOT_TOLD
            is_named = is_linear(module.name) or around in LORA.names
            return _NAMED_LINEAR if is_named else _GUESSED_LINEAR
        if bias == weight[1:] and (weight[0] != weight[1] or self._is_conv1d(module)):
            return _Kind("Conv1D")
        return _NAMED_LINEAR if bias == weight[:1] else _NOT_TOLD

    def _attention_around(self, module: Module) -> Module | None:
        """Return the attention whose last projection a module is, which starts it."""
        around = self._modules.at(module.parent) if module.last == "out_proj" else None
        return around if around is not None and is_attention(around) else None

    def _is_conv1d(self, module: Module) -> bool:
        """Whether a layer with a square weight is Conv1D."""
        return module.name in CONV1DS.names and self._has_conv1ds

    @cached_property
    def _has_conv1ds(self) -> bool:
        """Whether there are layers whose bias shows that they are Conv1D."""
        if self._model_type in CONV1D_MODELS:
            return True
        named = (module.shapes for module in self._modules if module.name in CONV1DS.names)
        return any(
            len(weight := shapes.get("weight", ())) == 2
            and weight[0] != weight[1]
            and shapes.get("bias") == weight[1:]
            for shapes in named
        )


def _in_attention(around: Module, module: Module, role: str) -> Layer | None:
    """Return an attention, of a tensor of its last projection."""
    if role not in _ROLES:
        return None
    own = {f"{module.last}.{each}": shape for each, shape in module.held.items()}
    shapes = {**around.shapes, **own}
    return Layer("MultiheadAttention", around.path, f"{module.last}.{role}", shapes)


def _has(kind: str, role: str) -> bool:
    """Whether a tensor of that name is one of a kind of layer."""
    if kind == "Linear":
        return role in _ROLES
    if kind.startswith(("LSTM", "GRU", "RNN")):
        return RECURRENT.fullmatch(role) is not None
    if kind == "MultiheadAttention":
        return role in ATTENTION
    if "Norm" in kind:
        return role in _ROLES or role in RUNNING_STATISTICS or role in ("gamma", "beta")
    return role in _ROLES
