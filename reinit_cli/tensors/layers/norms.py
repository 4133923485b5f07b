"""Tell norms, whose tensors are alike: a scale and a shift for each channel."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType

from reinit_cli.tensors.layers.modules import Module, Modules
from reinit_cli.tensors.layers.names import (
    GATED_NORM,
    GLOBAL_RESPONSE,
    LAYER_NORM_MODELS,
    OF_NO_TEXT,
    RMS_NORMS,
    ZERO_CENTERED,
    ZERO_CENTERED_LAYER_NORM,
    norm_named,
)

ANY = "Norm"
"""The kind of a norm of which nothing tells what it takes the mean over."""


_ONE_DIMENSIONAL = 3
"""The dimensions of the weight of a convolution over a sequence."""


class Norms:
    """The norms of a state dict."""

    def __init__(self, modules: Modules, model_type: str) -> None:
        self._modules = modules
        self._model_type = model_type

    def kind(self, module: Module) -> str:
        """Return the kind of norm that a module is, or "" where it is none for certain."""
        shapes, name = module.shapes, norm_named(module.name)
        if "running_mean" in shapes:
            is_norm = len(shapes["running_mean"]) == 1
            return ("InstanceNorm" if name == "InstanceNorm" else "BatchNorm") if is_norm else ""
        if "gamma" in shapes and "beta" in shapes:
            return "LayerNorm" if name == "LayerNorm" else ""
        weight, bias = shapes.get("weight"), shapes.get("bias")
        if weight is None:
            return ""
        if bias is None:
            return self._without_bias(module, name)
        return self._with_bias(module, name) if bias == weight else ""

    def sizes(self, kind: str, module: Module) -> Mapping[str, int]:
        """Return arguments of a norm's constructor."""
        if kind == "RMSNorm":
            is_plain = module.path.endswith(GATED_NORM) or OF_NO_TEXT.search(module.path)
            is_around_zero = self._model_type in ZERO_CENTERED and not is_plain
        else:
            is_around_zero = self._model_type in ZERO_CENTERED_LAYER_NORM
        return {"zero_centered": 1} if is_around_zero else MappingProxyType({})

    def _with_bias(self, module: Module, name: str) -> str:
        """Return the kind of a norm with a scale and a shift."""
        if module.name in GLOBAL_RESPONSE:
            return ""
        if not name:
            return ANY
        if name in (ANY, "RMSNorm") or self._follows_convolution(module):
            # A norm among convolutions may be one of groups of channels.
            return ANY if self._is_among_kernels(module) else "LayerNorm"
        return name

    def _is_among_kernels(self, module: Module) -> bool:
        """Whether there are convolutions around a norm, or around the list that it is in."""
        families = self._modules.families_with_kernels
        is_listed = module.last.isdigit()
        return module.parent in families or (
            is_listed and module.parent.rpartition(".")[0] in families
        )

    def _follows_convolution(self, module: Module) -> bool:
        """Whether a norm follows a convolution over a sequence: in wav2vec, `layer_norm` may."""
        before = self._modules.after(module, -1)
        if before is None or before.parent != module.parent:
            return False
        return len(before.shapes.get("weight", ())) == _ONE_DIMENSIONAL

    def _without_bias(self, module: Module, name: str) -> str:
        """Return the kind of a norm with a scale alone, which a PReLU has too."""
        if name in ("", "RMSNorm"):
            return name
        if self._model_type in LAYER_NORM_MODELS:
            return "LayerNorm"
        if self._has_rms_norms:
            return "RMSNorm"
        is_short = name == "LayerNorm" and "norm" not in module.name.lower()  # nanoGPT's `ln_1`
        return "LayerNorm" if is_short else ANY

    @cached_property
    def _has_rms_norms(self) -> bool:
        """Whether a norm of a model that has no LayerNorm is there, or what only such have."""
        if self._model_type in LAYER_NORM_MODELS:
            return False
        return self._model_type in ZERO_CENTERED or any(
            "A_log" in module.held
            or ("bias" not in module.held and module.last in RMS_NORMS.names)
            or module.last == "relative_attention_bias"
            for module in self._modules
        )
