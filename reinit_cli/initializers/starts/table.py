"""Say how each kind of layer starts.

The laws are those of `reset_parameters` in torch.nn.modules, of `_reset_parameters` in
MultiheadAttention, and of `Conv1D` in transformers.pytorch_utils.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from reinit_cli.initializers.families.replays import Patched, Region
from reinit_cli.initializers.families.xavier import xavier_normal, xavier_uniform
from reinit_cli.initializers.fans import UndefinedError, fans
from reinit_cli.initializers.law import Constant, Law, Normal
from reinit_cli.initializers.starts import experts, linear, recurrent
from reinit_cli.initializers.starts.roles import plain
from reinit_cli.tensors.layers.layer import Layer

Start = Callable[[Layer, tuple[int, ...]], Law]
"""Returns the law of a tensor of a layer, which has a shape."""

Starts = Mapping[str, Start]
"""The starts of the tensors of a layer, by their names; "" is the start of any other."""


def start_of(layer: Layer, shape: tuple[int, ...]) -> Law:
    """Return what a layer fills a tensor with when it is made.

    Args:
        layer: the layer, and which tensor of it.
        shape: the shape of the tensor.

    Raises:
        UndefinedError: that is not known.
    """
    starts = STARTS.get(layer.kind)
    if starts is None:
        raise UndefinedError(f"how a layer of the kind {layer.kind} starts is not known")
    role = plain(layer, layer.role)
    if not role:
        raise UndefinedError("it is computed from the weight next to it")
    start = starts.get(role) or starts.get("")
    if start is None:
        raise UndefinedError(f"a {layer.kind} has no tensor that is called {role}")
    return start(layer, shape)


def _always(value: float) -> Start:
    return lambda layer, shape: Constant(value)  # noqa: ARG005 (whatever the layer)


def _normal(std: float) -> Start:
    return lambda layer, shape: Normal(0.0, std)  # noqa: ARG005 (whatever the layer)


def _embedding(layer: Layer, shape: tuple[int, ...]) -> Law:
    """N(0, 1), and zeros in the row of the padding."""
    drawn = Normal(0.0, 1.0)
    padding = layer.sizes.get("padding_idx")
    if padding is None or len(shape) != 2 or not 0 <= padding < shape[0]:
        return drawn
    row = Region(padding * shape[1], shape[1:], (1,))
    return Patched(math.prod(shape), drawn, ((row, Constant(0.0)),))


def _xavier_uniform(layer: Layer, shape: tuple[int, ...]) -> Law:
    del layer
    return xavier_uniform(shape, fans(shape))


def _xavier_normal(layer: Layer, shape: tuple[int, ...]) -> Law:
    del layer
    return xavier_normal(shape, fans(shape))


def _scale(layer: Layer, shape: tuple[int, ...]) -> Law:
    """Ones; zeros where the layer multiplies by one more than its weight, as those of Gemma do."""
    del shape
    return Constant(0.0 if layer.sizes.get("zero_centered") else 1.0)


_LINEAR: Starts = {"weight": linear.weight, "bias": linear.bias}
_BILINEAR: Starts = {"weight": linear.bilinear, "bias": linear.bilinear}
_NORM: Starts = {
    **dict.fromkeys(("weight", "gamma"), _scale),
    **dict.fromkeys(("bias", "beta", "running_mean", "num_batches_tracked"), _always(0.0)),
    "running_var": _always(1.0),
}
_ATTENTION: Starts = {
    "in_proj_weight": _xavier_uniform,
    "q_proj_weight": _xavier_uniform,
    "k_proj_weight": _xavier_uniform,
    "v_proj_weight": _xavier_uniform,
    "in_proj_bias": _always(0.0),
    "bias_k": _xavier_normal,
    "bias_v": _xavier_normal,
    "out_proj.weight": linear.weight,
    "out_proj.bias": _always(0.0),
}
_CONV1D: Starts = {"weight": _normal(0.02), "bias": _always(0.0)}
_EXPERTS: Starts = {"": experts.start}
_PRELU: Starts = {"weight": _always(0.25)}

_EMBEDDING: Starts = {"weight": _embedding}
_RECURRENT: Starts = {"": recurrent.start}
_OUT_PROJ: Starts = {"weight": linear.weight, "bias": _always(0.0)}
"""The output of MultiheadAttention, which sets the bias of it to zero."""

_OF_KINDS: tuple[tuple[Starts, tuple[str, ...]], ...] = (
    (_LINEAR, ("Linear", "Conv1d", "Conv2d", "Conv3d")),
    (_LINEAR, ("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")),
    (_LINEAR, ("Convolution",)),  # transposed or not, which makes no difference
    (_OUT_PROJ, ("NonDynamicallyQuantizableLinear",)),
    (_BILINEAR, ("Bilinear",)),
    (_CONV1D, ("Conv1D",)),
    (_EMBEDDING, ("Embedding", "EmbeddingBag")),
    (_NORM, ("LayerNorm", "RMSNorm", "GroupNorm", "SyncBatchNorm", "Norm")),
    (_NORM, ("BatchNorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d")),
    (_NORM, ("InstanceNorm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d")),
    (_RECURRENT, ("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell")),
    (_ATTENTION, ("MultiheadAttention",)),
    (_PRELU, ("PReLU",)),
    (_EXPERTS, ("Experts",)),
)

STARTS: Mapping[str, Starts] = {kind: starts for starts, kinds in _OF_KINDS for kind in kinds}
"""How each kind of layer starts."""
