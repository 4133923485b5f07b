"""Describe tensors that live in memory as entries of a state dict, and write to them."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from reinit_cli.tensors.info import TensorInfo

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def infos_of(state: Mapping[str, Any]) -> tuple[TensorInfo, ...]:
    """Return what is known of every entry of a state dict, in its order."""
    return tuple(_info(key, value) for key, value in state.items())


def infos_of_module(module: Module) -> tuple[TensorInfo, ...]:
    """Return what is known of every entry of a module's state dict, and which are buffers."""
    infos = infos_of(module.state_dict())
    is_buffer = dict.fromkeys(_names(module.named_parameters(remove_duplicate=False)), False)
    is_buffer |= dict.fromkeys(_names(module.named_buffers(remove_duplicate=False)), True)
    return tuple(replace(info, is_buffer=is_buffer.get(info.key)) for info in infos)


def _names(named: Iterable[tuple[str, Tensor]]) -> Iterator[str]:
    return (name for name, _ in named)


def _info(key: str, value: Any) -> TensorInfo:
    import torch

    if not isinstance(value, torch.Tensor):
        kind = type(value).__name__
        return TensorInfo(key, kind, (), 0, carried=f"not a tensor but a {kind}")
    if torch.nn.parameter.is_lazy(value):
        return TensorInfo(key, "uninitialized", (), 0, carried="a lazy parameter without a shape")
    if distributed := _distributed(value):
        return TensorInfo(key, str(value.dtype), (), 0, carried=distributed)
    dtype = str(value.dtype).removeprefix("torch.")
    nbytes = value.numel() * value.element_size()
    if value.is_nested and value.layout is torch.strided:
        return TensorInfo(key, dtype, (), nbytes, carried="a nested tensor")
    shape = tuple(value.shape)
    if value.is_quantized:
        return TensorInfo(key, dtype, shape, nbytes, carried=f"a quantized tensor ({dtype})")
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


_DISTRIBUTED = {
    "DTensor": "a DTensor, of which each process holds a part",
    "ShardedTensor": "a ShardedTensor, of which each process holds a part",
    "FlatParameter": "a flat parameter of FSDP, which holds parts of several tensors",
}
"""The kinds of tensors whose values a process does not have alone; torch may not have them."""


def _distributed(tensor: Any) -> str:
    """Say what a tensor is that other processes hold parts of; "" for any other."""
    kinds = (_DISTRIBUTED.get(each.__name__, "") for each in type(tensor).__mro__)
    return next(filter(None, kinds), "")


def write(tensor: Tensor, values: Tensor) -> None:
    """Give a tensor other values in place; autograd sees nothing of it."""
    import torch

    # A tensor of inference mode may be written in that mode alone.
    with torch.inference_mode(mode=tensor.is_inference()), torch.no_grad():
        tensor.copy_(values)


def check_writable(tensor: Tensor) -> None:
    """Find out whether a tensor can be given values, without changing any.

    Raises:
        ValueError: it cannot; the text says why.
    """
    import torch

    try:
        # A view of `data` leaves autograd's count of changes as it is.
        none = tensor.data[:0] if tensor.dim() else tensor.data.reshape(-1)[:0]
        write(none, torch.empty(none.shape, dtype=none.dtype, device="cpu"))
    except (RuntimeError, TypeError, NotImplementedError, AssertionError) as error:
        raise ValueError(str(error).partition("\n")[0]) from error
    has_memory = tensor.device.type == "cpu" and tensor.numel() and not _is_wrapper(tensor)
    if has_memory and not _is_writable(tensor.data_ptr()):
        raise ValueError("its memory can only be read, as that of a mapped file may")


def _is_wrapper(tensor: Tensor) -> bool:
    """Whether a tensor holds other tensors, and has no memory of its own."""
    try:
        tensor.untyped_storage().data_ptr()
    except RuntimeError:
        return True
    return False


def _is_writable(address: int) -> bool:
    """Whether a byte of memory can be written: the system is asked to write it as it is.

    Where it cannot, that is an error of the system call, and not the end of the process.
    """
    reader, writer = os.pipe()
    try:
        os.write(writer, ctypes.string_at(address, 1))
        os.readv(reader, [(ctypes.c_char * 1).from_address(address)])
    except OSError:
        return False
    finally:
        os.close(reader)
        os.close(writer)
    return True
