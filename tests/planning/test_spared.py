"""A wildcard takes weights, and leaves masks, tables and quantized weights alone."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from reinit_cli.errors import UnfillableError
from reinit_cli.planning.decide import decide
from reinit_cli.planning.entries import Entries, as_asked
from reinit_cli.planning.plan import Plan
from reinit_cli.request.request import Request
from reinit_cli.tensors.dtype import DTYPES
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.live import infos_of

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]


def _infos(shapes: Shapes) -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(key, dtype, shape, math.prod(shape) * DTYPES[dtype].nbits // 8)
        for key, (dtype, shape) in shapes.items()
    )


def _plan(tensors: tuple[TensorInfo, ...], *rules: str) -> Plan:
    return decide(Entries("net", tensors), Request("net", rules, allow_unmatched=True))


def _skipped(plan: Plan) -> dict[str, str]:
    return {step.key: step.reason for step in plan.steps if step.action == "skip"}


def _filled(plan: Plan) -> set[str]:
    return {step.key for step in plan.steps if step.action == "fill"}


SCALE = "of a quantized weight"
POSITIONS = "a table of positions"

# What libraries save, as their documentation and their files have it.
SAVED: dict[str, tuple[Shapes, dict[str, str]]] = {
    "GPT-2": (
        {
            "h.0.attn.bias": ("float32", (1, 1, 1024, 1024)),
            "h.0.attn.masked_bias": ("float32", ()),
            "h.0.attn.c_attn.weight": ("float32", (768, 2304)),
            "h.0.attn.c_attn.bias": ("float32", (2304,)),
        },
        {"h.0.attn.bias": "a causal mask", "h.0.attn.masked_bias": "a mask"},
    ),
    "Llama": (
        {
            "model.layers.0.self_attn.rotary_emb.inv_freq": ("float32", (64,)),
            "model.layers.0.self_attn.rotary_emb.cos_cached": ("float32", (1, 1, 2048, 128)),
            "model.layers.0.self_attn.q_proj.weight": ("bfloat16", (8, 8)),
        },
        {
            "model.layers.0.self_attn.rotary_emb.inv_freq": POSITIONS,
            "model.layers.0.self_attn.rotary_emb.cos_cached": POSITIONS,
        },
    ),
    "GPTQ": (
        {
            "q.qweight": ("int32", (2, 8)),
            "q.qzeros": ("int32", (1, 1)),
            "q.scales": ("float16", (1, 8)),
            "q.g_idx": ("int32", (16,)),
            "q.bias": ("float16", (8,)),
        },
        {"q.qweight": "integer values", "q.qzeros": SCALE, "q.scales": SCALE, "q.g_idx": SCALE},
    ),
    "bitsandbytes, 4 bits": (
        {
            "l.weight": ("uint8", (8, 1)),
            "l.weight.absmax": ("float32", (1,)),
            "l.weight.quant_map": ("float32", (16,)),
            "l.weight.quant_state.bitsandbytes__nf4": ("uint8", (80,)),
            "l.bias": ("float16", (4,)),
        },
        {
            "l.weight": "quantized, and scaled by absmax",
            "l.weight.absmax": SCALE,
            "l.weight.quant_map": SCALE,
            "l.weight.quant_state.bitsandbytes__nf4": "integer values",
        },
    ),
    "bitsandbytes, 8 bits": (
        {
            "l.weight": ("int8", (4, 4)),
            "l.SCB": ("float32", (4,)),
            "l.weight_format": ("uint8", ()),
            "l.bias": ("float16", (4,)),
        },
        {
            "l.weight": "quantized, and scaled by SCB",
            "l.SCB": SCALE,
            "l.weight_format": SCALE,
        },
    ),
    "DeepSeek-V3": (
        {
            "l.weight": ("float8_e4m3fn", (4, 4)),
            "l.weight_scale_inv": ("float32", (1, 1)),
            "norm.weight": ("bfloat16", (4,)),
        },
        {"l.weight": "quantized, and scaled by weight_scale_inv", "l.weight_scale_inv": SCALE},
    ),
    "compressed-tensors": (
        {
            "l.weight": ("float8_e4m3fn", (4, 4)),
            "l.weight_scale": ("bfloat16", (4, 1)),
            "l.input_scale": ("float32", (1,)),
            "l.bias": ("bfloat16", (4,)),
        },
        {
            "l.weight": "quantized, and scaled by weight_scale",
            "l.weight_scale": SCALE,
            "l.input_scale": SCALE,
        },
    ),
    "FP8 with a quantized cache, as vLLM reads it": (
        {
            "self_attn.k_scale": ("float32", (1,)),
            "self_attn.v_scale": ("float32", (1,)),
            "self_attn.k_proj.weight": ("float8_e4m3fn", (4, 4)),
            "self_attn.k_proj.weight_scale": ("float32", (1,)),
            "self_attn.k_proj.k_scale": ("float32", (1,)),
            "self_attn.k_proj.input_scale_ub": ("float32", (1,)),
            "self_attn.k_proj.bias": ("bfloat16", (4,)),
        },
        {
            "self_attn.k_scale": "a scale of a quantized cache",
            "self_attn.v_scale": "a scale of a quantized cache",
            "self_attn.k_proj.weight": "quantized, and scaled by weight_scale",
            "self_attn.k_proj.weight_scale": SCALE,
            "self_attn.k_proj.k_scale": "a scale of a quantized cache",
            "self_attn.k_proj.input_scale_ub": SCALE,
        },
    ),
    "QuIP#": (
        {
            "l.Qidxs": ("int64", (4, 1)),
            "l.SU": ("float16", (4,)),
            "l.SV": ("float16", (4,)),
            "l.Wscale": ("float32", ()),
            "l.bias": ("float16", (4,)),
        },
        {"l.Qidxs": "integer values", "l.SU": SCALE, "l.SV": SCALE, "l.Wscale": SCALE},
    ),
    "ExLlamaV2": (
        {
            "l.q_weight": ("int32", (2, 8)),
            "l.q_scale": ("int32", (1, 1)),
            "l.q_scale_max": ("float16", (1,)),
            "l.bias": ("float16", (8,)),
        },
        {"l.q_weight": "integer values", "l.q_scale": "integer values", "l.q_scale_max": SCALE},
    ),
    "ExLlamaV3": (
        {
            "l.trellis": ("int16", (1, 1, 64)),
            "l.suh": ("float16", (16,)),
            "l.svh": ("float16", (16,)),
            "l.bias": ("float16", (16,)),
        },
        {"l.trellis": "integer values", "l.suh": SCALE, "l.svh": SCALE},
    ),
    "HIGGS": (
        {
            "l.weight": ("int16", (4, 4)),
            "l.scales": ("float16", (1, 4)),
            "l.tables": ("float16", (16, 2)),
            "l.tables2": ("float16", (16, 2, 2)),
            "l.bias": ("float16", (4,)),
        },
        {
            "l.weight": "integer values",
            "l.scales": "of a quantizer",
            "l.tables": "of a quantizer",
            "l.tables2": "of a quantizer",
        },
    ),
    "VPTQ": (
        {
            "l.centroids.weight": ("float16", (1, 64)),
            "l.res_centroids.weight": ("float16", (1, 32)),
            "l.outlier_centroids.weight": ("float16", (1, 16)),
            "l.indices": ("int32", (1, 2, 8)),
            "l.outlier_indices": ("int16", (1, 2, 1)),
            "l.perm": ("int16", (8,)),
            "l.weight_scale": ("float16", (8,)),
            "l.weight_bias": ("float16", (8,)),
            "l.bias": ("float16", (8,)),
        },
        {
            "l.centroids.weight": SCALE,
            "l.res_centroids.weight": SCALE,
            "l.outlier_centroids.weight": SCALE,
            "l.indices": "indices into a codebook",
            "l.outlier_indices": "indices into a codebook",
            "l.perm": "integer values",
            "l.weight_scale": SCALE,
            "l.weight_bias": SCALE,
        },
    ),
    "VPTQ with indices as floats": (
        {
            "l.centroids.weight": ("float16", (1, 64)),
            "l.res_centroids.weight": ("float16", (1, 32)),
            "l.indices": ("float16", (1, 2, 8)),
            "l.res_indices": ("float16", (1, 2, 8)),
            "l.bias": ("float16", (8,)),
        },
        {
            "l.centroids.weight": SCALE,
            "l.res_centroids.weight": SCALE,
            "l.indices": "indices into a codebook",
            "l.res_indices": "indices into a codebook",
        },
    ),
    "Marlin": (
        {
            "l.B": ("int32", (8, 512)),
            "l.s": ("float16", (1, 256)),
            "l.bias": ("float16", (256,)),
            "k.B_24": ("int32", (4, 512)),
            "k.B_meta": ("int16", (4, 512)),
            "k.s": ("float16", (1, 256)),
        },
        {
            "l.B": "integer values",
            "l.s": SCALE,
            "k.B_24": "integer values",
            "k.B_meta": "integer values",
            "k.s": SCALE,
        },
    ),
    "QQQ": (
        {
            "l.B": ("int32", (8, 512)),
            "l.s_channel": ("float32", (1, 256)),
            "l.s_group": ("float16", (1, 256)),
        },
        {"l.B": "integer values", "l.s_channel": SCALE, "l.s_group": SCALE},
    ),
    "MLX": (
        {
            "l.weight": ("uint32", (8, 1)),
            "l.scales": ("bfloat16", (8, 1)),
            "l.biases": ("bfloat16", (8, 1)),
            "l.bias": ("bfloat16", (8,)),
        },
        {"l.weight": "integer values", "l.scales": SCALE, "l.biases": SCALE},
    ),
    "FP-Quant": (
        {
            "l.qweight": ("uint8", (8, 8)),
            "l.scales": ("uint8", (8, 1)),
            "l.weight_global_scale": ("bfloat16", ()),
            "l.act_global_scale": ("bfloat16", ()),
            "l.forward_hadamard_matrix": ("bfloat16", (16, 16)),
            "l.backward_hadamard_matrix": ("bfloat16", (16, 16)),
        },
        {
            "l.qweight": "integer values",
            "l.scales": SCALE,
            "l.weight_global_scale": SCALE,
            "l.act_global_scale": SCALE,
            "l.forward_hadamard_matrix": SCALE,
            "l.backward_hadamard_matrix": SCALE,
        },
    ),
    "Nunchaku": (
        {
            "l.qweight": ("int8", (8, 4)),
            "l.wscales": ("bfloat16", (1, 8)),
            "l.smooth_factor": ("bfloat16", (8,)),
            "l.proj_down": ("bfloat16", (8, 2)),
        },
        {"l.qweight": "integer values", "l.wscales": SCALE, "l.smooth_factor": SCALE},
    ),
    "torchao": (
        {
            "l._weight_qdata": ("float8_e4m3fn", (4, 4)),
            "l._weight_scale": ("float32", (4, 1)),
            "k._weight_qdata": ("int32", (4, 4)),
            "k._weight_scale": ("bfloat16", (4, 1)),
            "k._weight_zero_point": ("bfloat16", (4, 1)),
            "k.bias": ("bfloat16", (4,)),
        },
        {
            "l._weight_qdata": "quantized, and scaled by _weight_scale",
            "l._weight_scale": SCALE,
            "k._weight_qdata": "integer values",
            "k._weight_scale": SCALE,
            "k._weight_zero_point": SCALE,
        },
    ),
    "ComfyUI": (
        {
            "l.weight": ("float8_e4m3fn", (4, 4)),
            "l.scale_weight": ("float32", ()),
            "l.scale_input": ("float32", ()),
            "l.bias": ("bfloat16", (4,)),
            "scaled_fp8": ("float8_e4m3fn", (2,)),
        },
        {
            "l.weight": "quantized, and scaled by scale_weight",
            "l.scale_weight": SCALE,
            "l.scale_input": SCALE,
            "scaled_fp8": "of a quantizer",
        },
    ),
    "Gemma's quantized layers": (
        {
            "l.weight": ("uint8", (4, 2)),
            "l.weight_scale": ("float32", (4, 1)),
            "l.input_activation_scale": ("float32", ()),
            "e.embedding_quantized": ("uint8", (4, 2)),
            "e.embedding_scale": ("float32", (4, 1)),
        },
        {
            "l.weight": "quantized, and scaled by weight_scale",
            "l.weight_scale": SCALE,
            "l.input_activation_scale": SCALE,
            "e.embedding_quantized": "integer values",
            "e.embedding_scale": SCALE,
        },
    ),
    "static FP8 of transformers": (
        {
            "l.weight": ("float8_e4m3fn", (4, 4)),
            "l.weight_scale_inv": ("float32", ()),
            "l.activation_scale": ("float32", ()),
            "e.gate_up_proj": ("float8_e4m3fn", (2, 4, 4)),
            "e.gate_up_proj_scale_inv": ("float32", (2, 1, 1)),
            "e.gate_up_proj_activation_scale": ("float32", (2,)),
        },
        {
            "l.weight": "quantized, and scaled by weight_scale_inv",
            "l.weight_scale_inv": SCALE,
            "l.activation_scale": SCALE,
            "e.gate_up_proj": "quantized, and scaled by gate_up_proj_scale_inv",
            "e.gate_up_proj_scale_inv": SCALE,
            "e.gate_up_proj_activation_scale": SCALE,
        },
    ),
    "Stable Diffusion 1": (
        {
            "betas": ("float32", (1000,)),
            "sqrt_one_minus_alphas_cumprod": ("float32", (1000,)),
            "alphas_cumprod": ("float32", (1000,)),
            "model_ema.decay": ("float32", ()),
            "model_ema.num_updates": ("int32", ()),
            "model.diffusion_model.out.2.weight": ("float32", (4, 4, 3, 3)),
        },
        {
            "betas": "a schedule of noise",
            "sqrt_one_minus_alphas_cumprod": "a schedule of noise",
            "alphas_cumprod": "a schedule of noise",
            "model_ema.decay": "the rate of an average",
            "model_ema.num_updates": "integer values",
        },
    ),
    "an EMA codebook": (
        {
            "quantize.embedding.weight": ("float32", (8, 4)),
            "quantize.embedding.cluster_size": ("float32", (8,)),
            "quantize.embedding.embed_avg": ("float32", (8, 4)),
        },
        {
            "quantize.embedding.cluster_size": "a running statistic",
            "quantize.embedding.embed_avg": "a running statistic",
        },
    ),
    "EVA-02": (
        {
            "blocks.0.attn.rope.freqs_cos": ("float32", (16, 8)),
            "blocks.0.attn.rope.freqs_sin": ("float32", (16, 8)),
            "blocks.0.attn.q_proj.weight": ("float32", (8, 8)),
        },
        {
            "blocks.0.attn.rope.freqs_cos": POSITIONS,
            "blocks.0.attn.rope.freqs_sin": POSITIONS,
        },
    ),
    "gpt-oss": (
        {
            "mlp.down_proj_blocks": ("uint8", (2, 4, 4, 16)),
            "mlp.down_proj_scales": ("uint8", (2, 4, 4)),
            "mlp.down_proj_bias": ("bfloat16", (2, 4)),
        },
        {"mlp.down_proj_blocks": "integer values", "mlp.down_proj_scales": SCALE},
    ),
}


@pytest.mark.parametrize("rule", ["*=normal:std=0.02", "re:.*=noise:std=0.1", "*=scale:2"])
@pytest.mark.parametrize("library", SAVED)
def test_a_wildcard_takes_only_weights_of_what_libraries_save(library: str, rule: str) -> None:
    shapes, skipped = SAVED[library]
    plan = _plan(_infos(shapes), rule)

    assert _skipped(plan) == skipped
    assert _filled(plan) == shapes.keys() - skipped.keys()


def test_a_mask_of_torchs_pruning_is_left_alone() -> None:
    net = nn.Sequential(nn.Linear(8, 8))
    prune.l1_unstructured(net[0], "weight", 0.5)
    plan = _plan(infos_of(net.state_dict()), "*=normal:std=0.02")

    assert _skipped(plan) == {"0.weight_mask": "a pruning mask"}
    assert _filled(plan) == {"0.weight_orig", "0.bias"}


def test_the_base_of_an_orthogonal_weight_is_left_alone() -> None:
    net = nn.utils.parametrizations.orthogonal(nn.Linear(4, 4))
    plan = _plan(infos_of(net.state_dict()), "*=normal")
    base = "parametrizations.weight.0.base"

    assert _skipped(plan) == {base: "the base of an orthogonal weight"}
    state = net.state_dict()
    for key in _filled(plan):
        nn.init.normal_(state[key])
    assert torch.allclose(net.weight @ net.weight.T, torch.eye(4), atol=1e-5)
    assert base in _filled(_plan(infos_of(net.state_dict()), "*.base=eye"))
    assert _filled(_plan(infos_of({"base": torch.zeros(3)}), "*=normal")) == {"base"}


def test_tables_of_a_model_of_torchvision_are_left_alone() -> None:
    from torchvision.models import swin_t

    with torch.device("meta"):
        net = swin_t()
    plan = _plan(infos_of(net.state_dict()), "*=zeros")

    buffers = {key for key, _ in net.named_buffers()}
    assert buffers
    assert set(_skipped(plan)) == buffers
    assert set(_skipped(plan).values()) == {POSITIONS}


def test_names_that_stand_for_something_else_are_taken() -> None:
    shapes: Shapes = {
        "conv.bias": ("float32", (1, 1, 4, 5)),  # not square
        "head.logit_scale": ("float32", ()),
        "attn.scale": ("float32", (8,)),  # of no quantizer: there is no zero_point
        "vit.mask_token": ("float32", (1, 1, 8)),
        "block.scales": ("float32", (4,)),
        "l.weight": ("float32", (4, 4)),
        "l.weight_gain": ("float32", (4,)),
        "mlp.zeros": ("float32", (4,)),
        "text_mask": ("float32", (4,)),
    }
    assert _filled(_plan(_infos(shapes), "*=normal:std=1")) == shapes.keys()


FP8: Shapes = {
    "l.weight": ("float8_e4m3fn", (4, 4)),
    "l.weight_scale_inv": ("float32", (1, 1)),
    "k.weight": ("float8_e4m3fn", (4, 4)),
    "k.weight_scale_inv": ("float32", (1, 1)),
}


@pytest.mark.parametrize("key", ["l.weight", "l.weight_scale_inv"])
def test_a_name_cannot_fill_a_quantized_weight_without_its_scales(key: str) -> None:
    with pytest.raises(UnfillableError) as refused:
        _plan(_infos(FP8), f"{key}=ones")
    other = "l.weight_scale_inv" if key == "l.weight" else "l.weight"
    assert str(refused.value).endswith(f"; {other!r} would have to be filled too")


@pytest.mark.parametrize(
    ("rules", "filled"),
    [
        (("*.weight=normal:std=1",), set()),
        (("*.weight_scale_inv=ones",), set()),
        (("*.weight=normal:std=1", "*.weight_scale_inv=ones"), set(FP8)),
        (("l.weight=normal:std=1", "l.weight_scale_inv=ones"), {"l.weight", "l.weight_scale_inv"}),
        (
            ("*.weight=normal:std=1", "*.weight_scale_inv=ones", "l.weight_s*=keep"),
            {"k.weight", "k.weight_scale_inv"},
        ),
    ],
)
def test_a_quantized_weight_and_its_scales_are_filled_together(
    rules: tuple[str, ...], filled: set[str]
) -> None:
    assert _filled(_plan(_infos(FP8), *rules)) == filled


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_weight_is_quantized_whatever_it_is_cast_to(dtype: str) -> None:
    request = Request("net", ("*.weight=normal:std=1",), dtype=dtype, allow_unmatched=True)
    plan = decide(as_asked(Entries("net", _infos(FP8)), request, {}), request)
    assert _filled(plan) == set()


@pytest.mark.parametrize(
    ("pattern", "is_filled"),
    [
        ("h.0.attn.bias", True),
        ("*.attn.bias", True),
        ("h.*.attn.bias", True),
        ("*.bias", False),
        ("h.*.bias", False),
        ("re:.*bias", False),
    ],
)
def test_a_mask_that_is_called_bias_is_filled_where_more_of_it_is_named(
    pattern: str, is_filled: bool
) -> None:
    tensors = _infos(SAVED["GPT-2"][0])
    assert ("h.0.attn.bias" in _filled(_plan(tensors, f"{pattern}=zeros"))) == is_filled


@pytest.mark.parametrize("pattern", ["*.inv_freq", "*rotary_emb.{inv_freq,x}", "re:.*\\.inv_freq"])
def test_a_table_is_filled_where_its_last_segment_is_named(pattern: str) -> None:
    tensors = _infos(SAVED["Llama"][0])
    assert len(_filled(_plan(tensors, f"{pattern}=zeros"))) == 1


def test_learned_tensors_with_names_like_these_are_weights() -> None:
    """The shape of SMPL's bodies, the scales of nGPT, a rate that is learned, NetVLAD."""
    shapes: Shapes = {
        "smpl.betas": ("float32", (10,)),
        "attn.q_scale": ("float32", (8,)),
        "attn.k_scale": ("float32", (8,)),
        "ssm.decay": ("float32", (8,)),
        "netvlad.centroids.weight": ("float32", (8, 4)),
        "netvlad.perm": ("float32", (8,)),
        "kan.B": ("float32", (8, 4)),
        "kan.s": ("float32", (4,)),
        "act.weight": ("float32", (8,)),
        "act.scales": ("float32", (8,)),
        "act.biases": ("float32", (8,)),
        "fft.scale_weight": ("float32", (8,)),
        "attn.weight_bias": ("float32", (8,)),
        "memory.indices": ("float32", (8,)),
    }
    assert _filled(_plan(_infos(shapes), "*=normal")) == shapes.keys()


@pytest.mark.parametrize(
    ("pattern", "is_filled"),
    [("l.centroids.weight", True), ("*.centroids.weight", True), ("*.weight", False)],
)
def test_a_codebook_that_is_called_weight_is_filled_where_more_of_it_is_named(
    pattern: str, is_filled: bool
) -> None:
    tensors = _infos(SAVED["VPTQ"][0])
    assert ("l.centroids.weight" in _filled(_plan(tensors, f"{pattern}=zeros"))) == is_filled
