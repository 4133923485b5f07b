"""Name the kinds of layers, and the groups and families that selectors take."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from reinit_cli.tensors.layers.kernels import EITHER

_CONVOLUTIONS = ("Conv1d", "Conv2d", "Conv3d")
_TRANSPOSED = ("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")
_BATCH_NORMS = ("BatchNorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm")
_INSTANCE_NORMS = ("InstanceNorm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d")

GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "conv": (*_CONVOLUTIONS, *_TRANSPOSED, EITHER),
        "linear": ("Linear", "Conv1D", "Bilinear"),
        "experts": ("Experts",),
        "embedding": ("Embedding", "EmbeddingBag"),
        "norm": ("LayerNorm", "RMSNorm", "GroupNorm", *_BATCH_NORMS, *_INSTANCE_NORMS, "Norm"),
        "rnn": ("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"),
        "attention": ("MultiheadAttention",),
        "activation": ("PReLU",),
        "ssm": ("Mamba", "Mamba2"),
    }
)
"""The kinds of layers by group.

`Conv1D` is the one of transformers: a linear layer whose weight is (in, out). `Experts` is a stack
of the weights of linear layers. `BatchNorm` and `InstanceNorm` are layers whose number of
dimensions neither names nor shapes tell, `Norm` is a norm without running statistics whose class
they do not tell, and `Convolution` one of which they do not tell whether it is transposed.
"""

FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "BatchNorm": _BATCH_NORMS,
        "InstanceNorm": _INSTANCE_NORMS,
        "Conv": _CONVOLUTIONS,
        "ConvTranspose": _TRANSPOSED,
    }
)
"""Names of classes without their number of dimensions."""

KINDS: tuple[str, ...] = tuple(kind for kinds in GROUPS.values() for kind in kinds)
"""All kinds that names and shapes tell; an architecture may tell others."""

_WORDS = {**FAMILIES, **GROUPS}


def kinds_named(word: str) -> frozenset[str]:
    """Return the kinds that a word stands for; none where it is not one of a kind or a group.

    A word that is spelled as a kind or a group is that one: `Linear` is a kind, `linear` a group.
    Otherwise case does not matter.
    """
    if word in _WORDS:
        return frozenset(_WORDS[word])
    if word in KINDS:
        return frozenset((word,))
    of_kinds = {kind.lower(): (kind,) for kind in reversed(KINDS)}
    of_words = {name.lower(): kinds for name, kinds in _WORDS.items()}
    return frozenset((of_kinds | of_words).get(word.lower(), ()))
