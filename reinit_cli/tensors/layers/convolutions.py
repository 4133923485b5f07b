"""Tell convolutions from transposed ones, whose weights have the same dimensions."""

from __future__ import annotations

from reinit_cli.tensors.layers.modules import Module, Modules, Shape
from reinit_cli.tensors.layers.names import goes_up, is_convolution, is_transposed

_LEAST, _MOST = 3, 5
"""The dimensions of a weight of one and of three spatial dimensions."""


def convolution(module: Module, modules: Modules) -> str:
    """Return the kind of a module whose weight has a kernel, or "" where that is not certain.

    A bias has the channels of the output, and so do statistics of what follows. Where they fit
    both, or there is neither, odd kernels are those of convolutions, which people rarely transpose.
    """
    weight = module.shapes["weight"]
    if not _LEAST <= len(weight) <= _MOST:
        return ""
    kinds = f"Conv{len(weight) - 2}d", f"ConvTranspose{len(weight) - 2}d"
    is_one = _is_transposed(module, weight, modules)
    return "" if is_one is None else kinds[is_one]


def _is_transposed(module: Module, weight: Shape, modules: Modules) -> bool | None:
    """Whether a convolution is transposed; None where nothing tells."""
    bias = module.shapes.get("bias")
    if bias is not None:
        if len(bias) != 1:
            return None
        may_be, may_not = _fits(bias[0], weight)
        if may_be != may_not:
            return may_be
        if not may_be:
            return None
    elif (told := _by_norms(module, weight, modules)) is not None:
        return told
    if is_transposed(module.name):
        return True
    is_odd = any(dim % 2 for dim in weight[2:])
    if goes_up(module.name):  # a plain one behind an upsampling, too, as in ESRGAN
        return None if is_odd else True
    return False if is_odd or is_convolution(module.name) else None


def _fits(channels: int, weight: Shape) -> tuple[bool, bool]:
    """Whether a transposed convolution, and a plain one, may have that many outputs."""
    first, second = weight[:2]
    groups = channels // second if second and channels % second == 0 else 0
    is_plain = channels == first
    # Whatever divides its channels could be groups, of which most convolutions have one.
    may_be = bool(groups) and first % groups == 0 and (not is_plain or groups in (1, first))
    return may_be, is_plain


def _by_norms(module: Module, weight: Shape, modules: Modules) -> bool | None:
    """Whether the norms around a convolution without a bias tell that it is transposed."""
    after, before = (_channels(modules.next_in_parent(module, step)) for step in (1, -1))
    first, second = weight[:2]
    if first == second or all(dim % 2 for dim in weight[2:]):
        return None
    if after == first and before != first:
        return False
    if after == second and before in (0, first):
        return True
    return True if before == first and after != first else None


def _channels(module: Module | None) -> int:
    """Return the channels of a norm; 0 of anything else."""
    if module is None:
        return 0
    shape = module.shapes.get("running_mean") or module.shapes.get("weight", ())
    return shape[0] if len(shape) == 1 else 0
