"""Say what a new torch file of a state dict does not hold."""

from __future__ import annotations

from reinit_cli.checkpoints.formats.base import Content, Shortfall
from reinit_cli.tensors.info import TensorInfo


def shortfall_of(content: Content) -> Shortfall:
    """Return what only another format has: float4 and float6, and metadata."""
    if content.is_live:
        return Shortfall()
    beyond = tuple(each for each in content.tensors if not _holds(each))
    notes = []
    if content.rest:
        notes.append(f"not stored in the new file: {', '.join(content.rest)}")
    lost = ", ".join(name for name in content.metadata if name != "format")
    if lost:
        notes.append(f"the metadata of {content.source} is not carried along: {lost}")
    able = () if any(each.carried for each in beyond) else (".safetensors",)
    return Shortfall(beyond, able, content.rest, notes=tuple(notes))


def _holds(tensor: TensorInfo) -> bool:
    """Whether a new file can hold it: F4 and F6 of safetensors have no torch name."""
    return tensor.is_no_tensor or (tensor.dtype.islower() and not tensor.carried)
