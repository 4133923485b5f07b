"""Find what heads of an attention, or experts of a stack, have of a tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field, replace

from reinit_cli.lazy import dataclass
from reinit_cli.request.part import Units, part_of
from reinit_cli.request.rule import Rule
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.layers.layer import Layer, Layers


@dataclass(frozen=True, slots=True)
class HeadCounts:
    """How many heads the attentions of a model have; 0 where that is not known.

    Attributes:
        queries: of queries, and so of the output.
        keys: of keys and of values, each of which several heads of queries may share.
        model_type: what the config calls the model.
        parts: those of parts of the model, such as a vision tower, by words of their keys.
    """

    queries: int = 0
    keys: int = 0
    model_type: str = ""
    parts: Mapping[str, HeadCounts] = field(default_factory=dict)

    def of(self, key: str) -> HeadCounts:
        """Return the numbers in the part of the model that a key names first."""
        words = key.replace("_", ".").split(".")
        return next((self.parts[word] for word in words if word in self.parts), self)


@dataclass(frozen=True, slots=True)
class _Lying:
    """How units lie in a tensor.

    Attributes:
        axis: the dimension that they divide.
        count: how many there are; 0 where that is not known.
        blocks: how often they lie there, one after the other: three times in a fused weight.
        what: what they are, where they are not those of the queries.
    """

    axis: int
    count: int
    blocks: int = 1
    what: str = ""


_QUERIES = frozenset(("q_proj", "q", "query", "wq", "to_q", "q_lin", "q_attn"))
_KEYS = frozenset(
    (
        *("k_proj", "v_proj", "k", "v", "key", "value", "wk", "wv"),
        *("to_k", "to_v", "k_lin", "v_lin"),
    )
)
_OUTPUTS = frozenset(("o_proj", "out_proj", "o", "wo", "to_out", "out_lin"))
_FUSED = frozenset(("qkv", "c_attn", "Wqkv", "in_proj", "qkv_proj", "to_qkv"))
"""Weights of queries, keys and values, one after the other: timm, GPT-2, MPT, Phi-3."""

_BY_HEAD = frozenset(
    (
        *(("gpt_neox", "query_key_value"), ("bloom", "query_key_value")),
        *(("gpt_bigcode", "c_attn"), ("deberta", "in_proj")),
    )
)
"""Models and their weights with the queries, keys and values of each head together."""

_SPLIT_FOR_DEVICES = frozenset(("codegen",))
"""Models with fused weights in four parts, each with queries, keys and values of some heads."""

_NO_ATTENTION = frozenset(("mlp", "ffn", "feed_forward", "mamba", "linear_attn"))
"""Modules whose projections may have the names of those of an attention: RWKV, Jamba."""

_OUTPUT_ENDS = (
    *("attn.c_proj", "crossattention.c_proj", "attn.proj"),
    *("attention.output.dense", "self_attention.dense"),
)
"""The ends of paths of other weights whose inputs are the heads."""

_ROUTERS = frozenset(("gate", "router"))


def parts_meant(
    rule: Rule,
    tensor: TensorInfo,
    layers: Layers | None,
    counts_of_heads: Callable[[], HeadCounts],
) -> Iterator[Rule]:
    """Yield the rules on ranges of a tensor that a rule on heads or experts stands for.

    Args:
        rule: a rule on a part; yielded itself if it is on ranges, or if the tensor has no such
            units, which its part says then.
        tensor: the tensor.
        layers: the layers of all tensors.
        counts_of_heads: returns how many heads the model's attentions have.
    """
    part = rule.part
    units = part.units if part is not None else None
    if part is None or units is None:
        yield rule
        return
    layer = layers.layer(tensor.key) if layers is not None else None
    try:
        lying = (
            _experts(tensor, layer)
            if units.name == "experts"
            else _heads(tensor, layer, units, counts_of_heads)
        )
        texts = list(_ranges(tensor.shape, units, lying))
    except ValueError as error:
        yield replace(rule, part=replace(part, problem=str(error)))
        return
    yield from (replace(rule, part=part_of(text)) for text in texts)


def _ranges(shape: tuple[int, ...], units: Units, lying: _Lying) -> Iterator[str]:
    """Yield the ranges that units have in a tensor.

    Raises:
        ValueError: its dimension cannot be divided into so many, or there are none of them.
    """
    dim, count = shape[lying.axis], lying.count
    if not dim:
        raise ValueError("it is empty")
    if dim % (count * lying.blocks):
        parts = f"{lying.blocks} times {count:,}" if lying.blocks > 1 else f"{count:,}"
        raise ValueError(f"dimension {lying.axis} has {dim:,}, which {parts} does not divide")
    size, block = dim // (count * lying.blocks), dim // lying.blocks
    try:
        runs = units.of(count)
    except ValueError as error:
        raise ValueError(f"{error}{lying.what}") from None
    for start in range(0, dim, block):
        for run in runs:
            span = f"{start + run.start * size}:{start + run.stop * size}"
            yield ", ".join((*(":" for _ in range(lying.axis)), span))


def _experts(tensor: TensorInfo, layer: Layer | None) -> _Lying:
    """Return how the experts of a stack, or the outputs of a router, lie in a tensor.

    Raises:
        ValueError: it is neither.
    """
    is_router = layer is not None and layer.kind == "Linear" and _last(layer) in _ROUTERS
    if layer is None or not (layer.kind == "Experts" or is_router):
        segments = tensor.key.split(".")
        single = "experts" in segments and segments[segments.index("experts") + 1 :][:1]
        way = "; choose experts by their keys, as in 'experts.{0..3}.*'" if single else ""
        raise ValueError(f"it is not a stack of experts{way}")
    return _Lying(0, tensor.shape[0])


def _heads(
    tensor: TensorInfo,
    layer: Layer | None,
    units: Units,
    counts_of_heads: Callable[[], HeadCounts],
) -> _Lying:
    """Return how heads lie in a tensor.

    Raises:
        ValueError: nothing tells how, or how many there are.
    """
    if layer is None:
        raise ValueError("nothing tells that it is of an attention")
    counts = counts_of_heads().of(tensor.key)
    lying = _of_attention(layer, counts) if _is_torchs(layer) else _of_projection(layer, counts)
    if units.count:
        lying = replace(lying, count=units.count, what="")
    if not lying.count:
        raise ValueError(
            "nothing tells how many heads it has; say it behind the heads: "
            f"[{units.name}=0/12] is the first of 12"
        )
    if not tensor.shape or lying.axis >= len(tensor.shape):
        raise ValueError("it has nothing for each head")
    return lying


def _is_torchs(layer: Layer) -> bool:
    return layer.kind == "MultiheadAttention"


def _of_attention(layer: Layer, counts: HeadCounts) -> _Lying:
    """Return how heads lie in a tensor of torch's attention."""
    count = layer.sizes.get("num_heads", counts.queries)
    if layer.role == "out_proj.weight":
        return _Lying(1, count)
    if layer.role == "out_proj.bias" or layer.role.startswith("bias_"):
        raise ValueError("it has nothing for each head")
    return _Lying(0, count, 3 if layer.role.startswith("in_proj") else 1)


def _of_projection(layer: Layer, counts: HeadCounts) -> _Lying:
    """Return how heads lie in a weight or bias of a projection.

    Raises:
        ValueError: nothing tells how.
    """
    name, is_bias = _last(layer), layer.role == "bias"
    if not _NO_ATTENTION.isdisjoint(layer.path.split(".")):
        raise ValueError("nothing tells that it is of an attention")
    outputs = 0 if layer.kind != "Conv1D" or is_bias else 1
    if name in _QUERIES:
        return _Lying(outputs, counts.queries)
    if name in _KEYS:
        shared = counts.queries and counts.keys != counts.queries
        what = f" of keys and values, which {counts.queries:,} of queries share" if shared else ""
        return _Lying(outputs, counts.keys, what=what)
    if name in _OUTPUTS or layer.path.endswith(_OUTPUT_ENDS):
        if is_bias:
            raise ValueError("it has nothing for each head")
        return _Lying(1 - outputs, counts.queries)
    by_head = (counts.model_type, name) in _BY_HEAD
    # Mamba has an in_proj too, of something else.
    in_order = name in _FUSED and (name != "in_proj" or "att" in layer.path)
    if by_head or (in_order and counts.model_type not in _SPLIT_FOR_DEVICES):
        if counts.keys != counts.queries:
            raise ValueError("its heads of queries share those of keys: name ranges of it")
        # The cross-attention of GPT-2 has its queries in a weight of their own.
        several = 2 if "crossattention" in layer.path else 3
        return _Lying(outputs, counts.queries, 1 if by_head else several)
    raise ValueError("its name does not tell how heads lie in it: name ranges of it")


def _last(layer: Layer) -> str:
    last = layer.path.rpartition(".")[2]
    return layer.path.split(".")[-2] if last.isdigit() and "." in layer.path else last
