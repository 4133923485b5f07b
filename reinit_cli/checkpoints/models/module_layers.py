"""Tell the layer of each tensor of a module from its tree."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from reinit_cli.tensors.layers.layer import Layer

if TYPE_CHECKING:
    from torch import nn

_SIZES = ("groups", "num_groups", "num_heads", "padding_idx", "hidden_size", "proj_size")
"""Arguments of layers that their start depends on and that shapes do not always say."""

_ENDINGS = ("RMSNorm", "LayerNorm", "GroupNorm", "BatchNorm1d", "BatchNorm2d", "Conv1D")
"""Ends of the names of classes that are written again and again, outside torch."""

_ZERO_CENTERED = frozenset(
    (
        *("GemmaRMSNorm", "Gemma2RMSNorm", "Gemma3RMSNorm", "RecurrentGemmaRMSNorm"),
        *("T5GemmaRMSNorm", "T5Gemma2RMSNorm", "VaultGemmaRMSNorm"),
        *("Qwen3NextRMSNorm", "Qwen3_5RMSNorm", "Qwen3_5MoeRMSNorm", "Qwen4ExpTextRMSNorm"),
        *("MiniMaxM3VLRMSNorm", "Step3p7RMSNorm", "VideoPrismLayerNorm"),
        *("MuseSparkTextCenteredRMSNorm", "MuseSparkTextInputScaledRMSNorm"),
    )
)
"""The classes of transformers that multiply by one more than their weight, which starts at 0."""

_PARAMETRIZATIONS = "parametrizations"


def layers_of_module(module: nn.Module, state: Mapping[str, Any]) -> Mapping[str, Layer]:
    """Return the layer of each tensor of a module whose class says what kind it is.

    Args:
        module: the module.
        state: its state dict.
    """
    kinds = {path: kind for path, each in module.named_modules() if (kind := _kind(each))}
    modules = dict(module.named_modules())
    roles: dict[str, dict[str, str]] = {}
    for key in state:
        path, role = _split(key, kinds)
        if path is not None:
            roles.setdefault(path, {})[role] = key
    return {
        key: layer
        for path, of_path in roles.items()
        for key, layer in _layers(path, kinds[path], modules[path], of_path, state)
    }


def _split(key: str, kinds: Mapping[str, str]) -> tuple[str | None, str]:
    """Return the path of the layer that a key is of, and its role there."""
    path, _, role = key.rpartition(".")
    above, found, _ = f"{path}.".rpartition(f".{_PARAMETRIZATIONS}.")
    if found or path.startswith(f"{_PARAMETRIZATIONS}."):
        path, role = above, key[len(above) :].removeprefix(".")
    elif kinds.get(outer := path.rpartition(".")[0]) == "MultiheadAttention":
        path, role = outer, key[len(outer) :].removeprefix(".")
    return (path, role) if path in kinds else (None, "")


def _layers(
    path: str, kind: str, module: nn.Module, keys: Mapping[str, str], state: Mapping[str, Any]
) -> list[tuple[str, Layer]]:
    from torch.nn.parameter import is_lazy

    shapes = {
        role: tuple(state[key].shape)
        for role, key in keys.items()
        if not is_lazy(state[key]) and hasattr(state[key], "shape")
    }
    given = {name: getattr(module, name, None) for name in _SIZES}
    sizes = {name: value for name, value in given.items() if type(value) is int}
    if type(module).__name__ in _ZERO_CENTERED:
        sizes["zero_centered"] = 1
    return [
        (
            keys[role],
            Layer(
                kind,
                path,
                role,
                MappingProxyType(shapes),
                MappingProxyType(sizes),
                "architecture",
            ),
        )
        for role in shapes
    ]


def _kind(module: nn.Module) -> str:
    """Return the kind of a layer: the nearest class of torch's that it is, or ""."""
    import torch

    if isinstance(module, torch.nn.modules.linear.NonDynamicallyQuantizableLinear):
        return "Linear"
    for each in type(module).__mro__:
        is_torchs = each.__module__.startswith("torch.nn.modules.")
        if is_torchs and each.__name__ in _KINDS:
            return each.__name__
    own = [end for each in type(module).__mro__ for end in _ENDINGS if each.__name__.endswith(end)]
    if own:
        return own[0]
    name = type(module).__name__
    is_stack = any(each.ndim == 3 for each in module.parameters(recurse=False))
    return "Experts" if is_stack and "expert" in name.lower() else ""


_KINDS = frozenset(
    [
        "Linear",
        "LazyLinear",
        "Bilinear",
        "Embedding",
        "EmbeddingBag",
        "Conv1d",
        "Conv2d",
        "Conv3d",
        "ConvTranspose1d",
        "ConvTranspose2d",
        "ConvTranspose3d",
        "BatchNorm1d",
        "BatchNorm2d",
        "BatchNorm3d",
        "SyncBatchNorm",
        "LayerNorm",
        "RMSNorm",
        "GroupNorm",
        "InstanceNorm1d",
        "InstanceNorm2d",
        "InstanceNorm3d",
        "RNN",
        "LSTM",
        "GRU",
        "RNNCell",
        "LSTMCell",
        "GRUCell",
        "MultiheadAttention",
        "PReLU",
    ]
)
"""The classes of torch's whose tensors have a start."""
