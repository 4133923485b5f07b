"""Name the tensors that a wildcard leaves alone because they are not weights.

A wildcard means "the weights". Masks, tables of positions and the companions of quantized
weights have float dtypes and lie among them, and a random law ruins them without a sign.
The rows below are the only list of such names; each says where it is taken from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod

from reinit_cli.lazy import dataclass
from reinit_cli.tensors.dtype import DTYPES
from reinit_cli.tensors.info import RUNNING_STATISTICS, TensorInfo


@dataclass(frozen=True, slots=True)
class Spared:
    """Why a wildcard leaves a tensor alone.

    Attributes:
        reason: what it is.
        needs: the keys without which it cannot be filled: a quantized weight and its scales.
        end: the end of a pattern that names it, where that is more than its last segment.
        norm_of: the key of which it holds the norms; "" where it holds none.
        of: the key of the quantized weight to which it belongs; "" where it belongs to none.
    """

    reason: str
    needs: tuple[str, ...] = ()
    end: str = ""
    norm_of: str = ""
    of: str = ""


@dataclass(frozen=True, slots=True)
class NotWeights:
    """Names of tensors that are not weights.

    Attributes:
        source: where they are taken from.
        reason: what they are.
        names: last segments of keys, or the last two; "*" in front stands for any beginning.
        next_to: last segments of which one lies in the same module, with the same beginning
            where it has a "*", or in the one around it after "../"; none where the name says
            enough.
        packed: whether that one holds integers, without which the names say too little.
    """

    source: str
    reason: str
    names: tuple[str, ...]
    next_to: tuple[str, ...] = ()
    packed: bool = False


_MASK = "a mask"
_SPECTRAL = "a vector of spectral norm"
_POSITIONS = "a table of positions"
_SCALE = "of a quantized weight"
_QUANTIZER = "of a quantizer"
_OPTIMIZER = "of an 8-bit optimizer"
_CACHE = "a scale of a quantized cache"
_INDICES = "indices into a codebook"
_SCHEDULE = "a schedule of noise"
_STATISTIC = "a running statistic"

NOT_WEIGHTS = (
    NotWeights("torch.nn _NormBase", _STATISTIC, tuple(sorted(RUNNING_STATISTICS))),
    NotWeights("taming-transformers EmbeddingEMA", _STATISTIC, ("cluster_size",), ("embed_avg",)),
    NotWeights("taming-transformers EmbeddingEMA", _STATISTIC, ("embed_avg",), ("cluster_size",)),
    NotWeights(
        "torch.nn.utils.prune BasePruningMethod.apply", "a pruning mask", ("*_mask",), ("*_orig",)
    ),
    NotWeights("torch.nn.utils.spectral_norm", _SPECTRAL, ("*_u", "*_v"), ("*_orig",)),
    NotWeights("torch.nn.utils.parametrizations.spectral_norm", _SPECTRAL, ("_u",), ("_v",)),
    NotWeights("torch.nn.utils.parametrizations.spectral_norm", _SPECTRAL, ("_v",), ("_u",)),
    NotWeights(
        "torch.nn.utils.parametrizations.orthogonal",
        "the base of an orthogonal weight",
        ("base",),
        ("../original",),
    ),
    NotWeights("transformers GPT-2, GPT-J, CodeGen", _MASK, ("masked_bias", "causal_mask")),
    NotWeights("timm Swin", _MASK, ("attn_mask",)),
    NotWeights("transformers BERT, RoBERTa, CLIP", _POSITIONS, ("position_ids",)),
    NotWeights("transformers Llama", _POSITIONS, ("inv_freq", "original_inv_freq")),
    NotWeights("transformers Llama to 4.36", _POSITIONS, ("cos_cached", "sin_cached")),
    NotWeights("Meta's Llama", _POSITIONS, ("freqs_cis",)),
    NotWeights("EVA-02, llama2.c", _POSITIONS, ("freqs_cos", "freqs_sin")),
    NotWeights(
        "latent-diffusion DDPM.register_schedule",
        _SCHEDULE,
        (
            *("alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod"),
            *("sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod"),
            *("sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_variance"),
            *("posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2"),
        ),
    ),
    NotWeights(
        "latent-diffusion DDPM.register_schedule", _SCHEDULE, ("betas",), ("alphas_cumprod",)
    ),
    NotWeights("latent-diffusion LitEma", "the rate of an average", ("decay",), ("num_updates",)),
    NotWeights("timm Swin, BEiT", _POSITIONS, ("relative_position_index", "relative_coords_table")),
    NotWeights(
        "AutoGPTQ QuantLinear", _SCALE, ("qzeros", "g_idx", "scales", "zeros"), ("qweight",)
    ),
    NotWeights("AQLM QuantizedLinear", _SCALE, ("scales", "codebooks"), ("codes",)),
    NotWeights("HQQ HQQLinear", _SCALE, ("scale", "zero"), ("W_q",)),
    NotWeights("QuIP# QuantizedLinear", _SCALE, ("SU", "SV", "Wscale"), ("Qidxs",)),
    NotWeights("ExLlamaV2 QLinear", _SCALE, ("q_scale_max",), ("q_weight",)),
    NotWeights("ExLlamaV3 LinearEXL3", _SCALE, ("su", "sv", "suh", "svh"), ("trellis",)),
    NotWeights(
        "VPTQ VQuantLinear",
        _SCALE,
        ("centroids.weight", "res_centroids.weight", "outlier_centroids.weight"),
        ("indices",),
    ),
    NotWeights(
        "VPTQ VQuantLinear",
        _INDICES,
        ("indices", "res_indices", "outlier_indices"),
        ("centroids.weight",),
    ),
    NotWeights("VPTQ VQuantLinear", _SCALE, ("weight_scale", "weight_bias"), ("centroids.weight",)),
    NotWeights("Marlin Layer", _SCALE, ("s",), ("B", "B_24"), packed=True),
    NotWeights("QQQ QuantLinear", _SCALE, ("s_channel", "s_group"), ("B",), packed=True),
    NotWeights(
        "FP-Quant FPQuantLinear",
        _SCALE,
        (
            *("weight_global_scale", "act_global_scale"),
            *("forward_hadamard_matrix", "backward_hadamard_matrix"),
        ),
        ("qweight",),
    ),
    NotWeights(
        "Nunchaku SVDQW4A4Linear",
        _SCALE,
        ("wscales", "wzeros", "wcscales", "wtscale", "smooth_factor", "smooth_factor_orig"),
        ("qweight",),
    ),
    NotWeights("FLUTE HiggsLinear", _QUANTIZER, ("scales", "tables"), ("tables2",)),
    NotWeights("FLUTE HiggsLinear", _QUANTIZER, ("tables2",), ("tables",)),
    NotWeights("MLX QuantizedLinear", _SCALE, ("scales", "biases"), ("weight",), packed=True),
    NotWeights("transformers MetalLinear", _SCALE, ("qbiases",), ("weight",), packed=True),
    NotWeights("bitsandbytes Linear8bitLt", _SCALE, ("SCB", "weight_format"), ("weight",)),
    NotWeights("bitsandbytes Optimizer8bit", _OPTIMIZER, ("state1", "state2"), ("qmap1",)),
    NotWeights("bitsandbytes Optimizer8bit", _OPTIMIZER, ("qmap1", "qmap2"), ("state1",)),
    NotWeights("bitsandbytes Optimizer8bit", _OPTIMIZER, ("absmax1", "absmax2"), ("state1",)),
    NotWeights("DeepSeek-V3", _SCALE, ("weight_scale_inv",), ("weight",)),
    NotWeights(
        "transformers FP8Linear",
        _SCALE,
        ("activation_scale",),
        ("weight_scale", "weight_scale_inv"),
    ),
    NotWeights("transformers FP8Experts", _SCALE, ("*_activation_scale",), ("*_scale_inv",)),
    NotWeights(
        "transformers Gemma's QuantizedLinear",
        _SCALE,
        ("input_activation_scale", "output_activation_scale"),
        ("weight_scale",),
    ),
    NotWeights(
        "transformers Gemma's QuantizedEmbedding",
        _SCALE,
        ("embedding_scale",),
        ("embedding_quantized",),
    ),
    NotWeights("EETQ", _SCALE, ("weight_scales",), ("weight",)),
    NotWeights("ComfyUI", _SCALE, ("scale_input",), ("scale_weight",)),
    NotWeights("ComfyUI", _QUANTIZER, ("scaled_fp8",)),
    NotWeights("torchao", _SCALE, ("*_scale", "*_zero_point"), ("*_qdata",)),
    NotWeights(
        "compressed-tensors",
        _SCALE,
        (
            "weight_scale",
            "weight_zero_point",
            "weight_global_scale",
            "weight_g_idx",
            "weight_shape",
        ),
        ("weight", "weight_packed"),
    ),
    NotWeights("compressed-tensors", _SCALE, ("input_scale", "output_scale"), ("weight_scale",)),
    NotWeights(
        "compressed-tensors", _SCALE, ("input_zero_point", "input_global_scale"), ("input_scale",)
    ),
    NotWeights("FBGEMM FbgemmFp8Linear", _SCALE, ("input_scale_ub",), ("weight_scale",)),
    NotWeights("compressed-tensors, vLLM", _CACHE, ("k_scale",), ("v_scale", "weight_scale")),
    NotWeights("compressed-tensors, vLLM", _CACHE, ("v_scale",), ("k_scale", "weight_scale")),
    NotWeights("ModelOpt", _SCALE, ("weight_scale_2",), ("weight_scale",)),
    NotWeights("ModelOpt TensorQuantizer", _QUANTIZER, ("_amax", "_pre_quant_scale")),
    NotWeights("gpt-oss MXFP4", _SCALE, ("*_scales",), ("*_blocks",)),
    NotWeights("optimum-quanto QTensor", _SCALE, ("_scale", "_shift", "_zeropoint"), ("_data",)),
    NotWeights("torch.ao.quantization", _QUANTIZER, ("scale",), ("zero_point",)),
    NotWeights("torch.ao.quantization", _QUANTIZER, ("zero_point",), ("scale",)),
    NotWeights("torch.ao.quantization", _QUANTIZER, ("min_val", "max_val"), ("eps",)),
    NotWeights("torch.ao.quantization", _QUANTIZER, ("eps",), ("min_val",)),
    NotWeights("torch.ao.quantization", _QUANTIZER, ("fake_quant_enabled", "observer_enabled")),
)

_BY_NAME: Mapping[str, tuple[NotWeights, ...]] = {
    name: tuple(row for row in NOT_WEIGHTS if name in row.names)
    for row in NOT_WEIGHTS
    for name in row.names
}
_ENDS = tuple(name[1:] for name in _BY_NAME if name.startswith("*"))
_LONG = tuple(f".{name}" for name in _BY_NAME if "." in name)
"""Names of two segments, each after a dot."""

_BELOW_WEIGHT = ("absmax", "quant_map", "nested_absmax", "nested_quant_map", "quant_state")
"""What bitsandbytes (Params4bit) keeps below the key of the weight: "weight.absmax"."""

_SCALES = (
    *("*_scale_inv", "*_scale", "*_scale_2", "*_scales", "*_global_scale", "*_zero_point"),
    *("SCB", "scale_*", "*.absmax", "*.quant_map", "*.nested_absmax"),
)
"""What a quantized weight, whose last segment "*" stands for, has no values without."""

_MOST_BITS = 8
"""The bits of an element of a weight that is taken for quantized if it has scales."""


def spared(tensors: Sequence[TensorInfo]) -> Mapping[str, Spared]:
    """Return what a wildcard leaves alone among the entries of a checkpoint, and why."""
    names = {tensor.key: tensor for tensor in tensors}
    found = {tensor.key: why for tensor in tensors if (why := _why(tensor, names)) is not None}
    for weight in tensors:
        scales = tuple(_scales_of(weight, names)) if _is_small(weight) else ()
        if scales:
            reason = f"quantized, and scaled by {scales[0].rpartition('.')[2]}"
            found[weight.key] = Spared(reason, scales)
            found |= {key: Spared(_SCALE, (weight.key,), of=weight.key) for key in scales}
    return found


def quantized_weights(left_alone: Mapping[str, Spared]) -> frozenset[str]:
    """Return the keys of the quantized weights among what a wildcard leaves alone.

    They may be integers, as those of GPTQ, which no wildcard takes anyway.
    """
    weights = {each.of for each in left_alone.values() if each.of}
    # A scale may have a scale of its own, as those of ModelOpt have.
    return frozenset(key for key in weights if key not in left_alone or not left_alone[key].of)


def _why(tensor: TensorInfo, names: Mapping[str, TensorInfo]) -> Spared | None:
    module, _, last = tensor.key.rpartition(".")
    if last == "bias" and _is_causal(tensor.shape):
        return Spared("a causal mask", end=".".join(tensor.key.split(".")[-2:]))
    if last.startswith(_BELOW_WEIGHT) and module in names:
        return Spared(_SCALE, of=module)
    for row, start in _rows_of(last):
        if (of := _needed(row, module, start, names)) is not None:
            return Spared(row.reason, of=of)
    for name in filter(tensor.key.endswith, _LONG):
        module = tensor.key.removesuffix(name)
        for row in _BY_NAME[name[1:]]:
            if (of := _needed(row, module, "", names)) is not None:
                return Spared(row.reason, end=name[1:], of=of)
    return None


def _needed(
    row: NotWeights, module: str, start: str, names: Mapping[str, TensorInfo]
) -> str | None:
    """Return the key of the quantized weight that a tensor belongs to, or "" for none.

    It is None where nothing lies next to the tensor that makes it what the row says.
    """
    others = [_next_to(module, other.replace("*", start)) for other in row.next_to]
    present = [
        key for key in others if key in names and (not row.packed or _holds_integers(names[key]))
    ]
    if others and not present:
        return None
    return present[0] if row.reason == _SCALE else ""


def _holds_integers(tensor: TensorInfo) -> bool:
    known = DTYPES.get(tensor.dtype)
    return known is not None and known.kind == "integer"


def _next_to(module: str, name: str) -> str:
    """Return the key of what lies in a module, or with "../" in the one that this lies in."""
    if name.startswith("../"):
        return _next_to(module.rpartition(".")[0], name.removeprefix("../"))
    return f"{module}.{name}" if module else name


def _rows_of(last: str) -> Iterator[tuple[NotWeights, str]]:
    """Yield the rows that have a last segment, each with what its "*" stands for."""
    yield from ((row, "") for row in _BY_NAME.get(last, ()))
    for end in _ENDS if last.endswith(_ENDS) else ():
        if last.endswith(end) and last != end:
            yield from ((row, last[: -len(end)]) for row in _BY_NAME[f"*{end}"])


def _is_causal(shape: tuple[int, ...]) -> bool:
    """Whether a bias is the mask of GPT-2, GPT-J and GPT-NeoX: (1, 1, n, n)."""
    return len(shape) == 4 and shape[:2] == (1, 1) and shape[2] == shape[3] > 1


def _is_small(weight: TensorInfo) -> bool:
    """Whether elements are so small, or so packed, that they need scales."""
    known = DTYPES.get(weight.dtype)
    nbits = known.nbits if known else 8 * weight.nbytes // max(prod(weight.shape), 1)
    return nbits <= _MOST_BITS and weight.dtype != "bool"


def _scales_of(weight: TensorInfo, names: Mapping[str, TensorInfo]) -> Iterator[str]:
    """Yield the keys of what scales a weight."""
    module, dot, last = weight.key.rpartition(".")
    start = last.removesuffix("_packed").removesuffix("_qdata")
    for scale in _SCALES:
        if scale == "SCB" and last != "weight":
            continue
        key = module + dot + scale.replace("*", start)
        if key in names:
            yield key
