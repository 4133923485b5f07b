"""The kinds of layers as the classes of real modules have them, to compare with what is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.layers.kinds import FAMILIES, GROUPS, KINDS
from reinit_cli.tensors.layers.layer import Layer
from reinit_cli.tensors.layers.told import layers_of

if TYPE_CHECKING:
    from torch import nn

_FAMILIES = {**FAMILIES, "Norm": GROUPS["norm"], "Convolution": GROUPS["conv"]}

_RMS_NORMS = ("T5LayerNorm", "SimpleNorm", "RmsNorm")
"""Classes of transformers and timm that do not subtract the mean, whatever they are called."""


@dataclass
class Compared:
    """How many tensors of layers are told, and which ones wrongly.

    Attributes:
        right: how many are told as the class of their module, or the family of it.
        untold: the keys of those that are not told.
        wrong: what is told, and the class, of the others by key.
    """

    right: int = 0
    untold: list[str] = field(default_factory=list)
    wrong: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """How many of a hundred are told right."""
        return 100 * self.right / max(1, self.right + len(self.untold) + len(self.wrong))


def infos(module: nn.Module) -> list[TensorInfo]:
    """Return what a checkpoint of a module shows of its tensors."""
    return [
        TensorInfo(key, "float32", tuple(tensor.shape), tensor.numel() * 4)
        for key, tensor in module.state_dict().items()
    ]


def told(module: nn.Module, model_type: str = "") -> Mapping[str, Layer | None]:
    """Return the layer of each tensor of a module, told from its state dict."""
    tensors = infos(module)
    layers = layers_of(tensors, model_type)
    return {tensor.key: layers.layer(tensor.key) for tensor in tensors}


def kinds(module: nn.Module, model_type: str = "") -> dict[str, str | None]:
    """Return the kind of each tensor of a module, told from its state dict."""
    return {key: layer and layer.kind for key, layer in told(module, model_type).items()}


def compared(module: nn.Module, model_type: str = "") -> Compared:
    """Compare what is told of a module's state dict with the classes of its modules."""
    modules = dict(module.named_modules(remove_duplicate=False))
    result = Compared()
    for key, kind in kinds(module, model_type).items():
        path, _, role = key.rpartition(".")
        real = real_kind(modules[path])
        if kind is None:
            # A parameter of a module of somebody's own belongs to no layer.
            if real in KINDS and role in ("weight", "bias"):
                result.untold.append(key)
        elif kind == real or real in _FAMILIES.get(kind, ()):
            result.right += 1
        else:
            result.wrong[key] = (kind, real)
    return result


def all_of(results: Mapping[str, Compared]) -> tuple[float, Counter[tuple[str, str]]]:
    """Return the rate of many modules together, and what is told wrongly how often."""
    total = Compared()
    for each in results.values():
        total.right += each.right
        total.untold += each.untold
        total.wrong |= {f"{len(total.wrong)} {key}": pair for key, pair in each.wrong.items()}
    return total.rate, Counter(total.wrong.values())


def real_kind(module: nn.Module) -> str:
    """Return the kind of a module by its class and those that it inherits from."""
    names = [each.__name__ for each in type(module).__mro__]
    for name in names:
        if name == "NonDynamicallyQuantizableLinear":  # the last of `MultiheadAttention`
            return "MultiheadAttention"
        if name in KINDS:
            return name
        if "rmsnorm" in name.lower() or name.endswith(_RMS_NORMS):
            return "RMSNorm"
        if name.endswith("FrozenBatchNorm2d"):
            return "BatchNorm2d"
        if name.endswith("LayerNorm"):
            return "LayerNorm"
        if name.endswith("TopKRouter"):  # a linear layer and its best few outputs
            return "Linear"
        if name.endswith("Experts"):
            return "Experts"
    return names[0]
