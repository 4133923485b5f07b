"""Tensors that live in memory: a module's or a dictionary's, as entries of a state dict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reinit_cli.tensors.info import TensorInfo


def infos_of(state: Mapping[str, Any]) -> tuple[TensorInfo, ...]:
    """Return what is known of every entry of a state dict, in its order."""
    return tuple(_info(key, value) for key, value in state.items())


def _info(key: str, value: Any) -> TensorInfo:
    import torch

    if not isinstance(value, torch.Tensor):
        kind = type(value).__name__
        return TensorInfo(key, kind, (), 0, carried=f"not a tensor but a {kind}")
    if torch.nn.parameter.is_lazy(value):
        return TensorInfo(key, "uninitialised", (), 0, carried="a lazy parameter without a shape")
    dtype = str(value.dtype).removeprefix("torch.")
    shape = tuple(value.shape)
    nbytes = value.numel() * value.element_size()
    if value.is_quantized:
        return TensorInfo(key, dtype, shape, nbytes, carried=f"a quantised tensor ({dtype})")
    if value.layout is not torch.strided:
        layout = str(value.layout).removeprefix("torch.")
        return TensorInfo(key, dtype, shape, nbytes, carried=f"a {layout} tensor")
    return TensorInfo(
        key,
        dtype,
        shape,
        nbytes,
        storage=value.untyped_storage()._cdata,
        offset=int(value.storage_offset()),
        stride=tuple(value.stride()),
    )
