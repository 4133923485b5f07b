"""The commands of docs/reference/starts.md give what their sources give."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reinit_cli import apply_
from reinit_cli.planning.decide import decide
from reinit_cli.planning.entries import Entries
from reinit_cli.planning.plan import Step
from reinit_cli.request.request import Request
from reinit_cli.request.rule import rules_of
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.moments import moments_of
from reinit_cli.tensors.rounding import elements_of_tensor

PAGE = Path(__file__).parents[2] / "docs/reference/starts.md"
_ROW = re.compile(r"^\| ([^|]+) \| `(reinit [^`]+)` \|", re.MULTILINE)
COMMANDS = dict(_ROW.findall(PAGE.read_text()))

Shapes = Mapping[str, tuple[int, ...]]


def _rules(name: str) -> list[str]:
    program, _, *words = shlex.split(COMMANDS[name].removesuffix(" --reset-buffers"))
    assert program == "reinit"
    assert set(words[::2]) == {"-r"}
    return words[1::2]


@cache
def _stacked(prefix: str, layers: int, *names: str) -> tuple[str, ...]:
    return tuple(f"{prefix}.{n}.{name}" for n in range(layers) for name in names)


# --- what sources say --------------------------------------------------------------------------


@dataclass(frozen=True)
class Value:
    """What a source starts a tensor with.

    Attributes:
        std: its standard deviation, of a normal before it is cut off.
        mean: its mean.
        bound: where it ends; None where that is not said.
    """

    std: float
    mean: float = 0.0
    bound: float | None = None


def _normal(std: float, mean: float = 0.0) -> Value:
    return Value(std, mean)


def _uniform(bound: float) -> Value:
    return Value(bound / math.sqrt(3), bound=bound)


def _cut(std: float, cutoff: float) -> Value:
    return Value(std, bound=cutoff * std)


def _always(value: float) -> Value:
    return Value(0.0, value)


def _of(step: Step) -> Value:
    law = step.law
    assert law is not None
    std = getattr(law, "scale", law.std)
    is_bounded = std > 0 and math.isfinite(law.high)
    return Value(std, law.mean, law.high if is_bounded else None)


GPT2 = _stacked("transformer.h", 12, "attn.c_proj.weight", "mlp.c_fc.weight")
OLMO = _stacked(
    "model.transformer.blocks", 16, "attn_out.weight", "ff_out.weight", "att_proj.weight"
)
LLAMA = _stacked("layers", 32, "attention.wo.weight", "feed_forward.w1.weight")
FIXUP = (
    *_stacked("encoder.layers", 6, "fc1.weight", "self_attn.q_proj.weight"),
    *_stacked("decoder.layers", 6, "encoder_attn.v_proj.weight"),
)
DEEP = _stacked("layers", 100, "fc1.weight", "self_attn.k_proj.weight")
MAMBA = _stacked(
    "backbone.layers",
    24,
    *("norm.weight", "mixer.in_proj.weight", "mixer.conv1d.weight", "mixer.conv1d.bias"),
    *("mixer.x_proj.weight", "mixer.dt_proj.weight", "mixer.dt_proj.bias"),
    *("mixer.A_log", "mixer.D", "mixer.out_proj.weight"),
)
MAMBA_SHAPES = {
    "norm.weight": (768,),
    "in_proj.weight": (3072, 768),
    "conv1d.weight": (1536, 1, 4),
    "x_proj.weight": (80, 1536),
    "dt_proj.weight": (1536, 48),
    "A_log": (1536, 16),
    "out_proj.weight": (768, 1536),
}
RETINA = "head.classification_head"

SOURCES: dict[str, tuple[Shapes, dict[str, Value]]] = {
    "GPT-2": (
        {
            **dict.fromkeys(GPT2, (768, 768)),
            "transformer.wte.weight": (50257, 768),
            "transformer.ln_f.weight": (768,),
            "transformer.h.0.attn.c_attn.bias": (2304,),
        },
        {
            # As in nanoGPT, for 12 layers.
            "transformer.wte.weight": _normal(0.02),
            "transformer.h.3.mlp.c_fc.weight": _normal(0.02),
            "transformer.h.3.attn.c_proj.weight": _normal(0.02 / math.sqrt(2 * 12)),
            "transformer.ln_f.weight": _always(1),
            "transformer.h.0.attn.c_attn.bias": _always(0),
        },
    ),
    "OLMo": (
        {
            **dict.fromkeys(OLMO, (2048, 2048)),
            "model.transformer.wte.weight": (50304, 2048),
            "model.transformer.ff_out.weight": (50304, 2048),
        },
        {
            "model.transformer.blocks.0.att_proj.weight": _cut(2048**-0.5, 3),
            "model.transformer.blocks.15.attn_out.weight": _cut((2 * 2048 * 16) ** -0.5, 3),
            "model.transformer.blocks.0.ff_out.weight": _cut((2 * 2048) ** -0.5, 3),
            "model.transformer.ff_out.weight": _cut(2048**-0.5, 3),
            "model.transformer.wte.weight": _cut(2048**-0.5, 3),
        },
    ),
    "Llama 3": (
        {
            **dict.fromkeys(LLAMA, (4096, 4096)),
            "tok_embeddings.weight": (1000, 4096),
            "output.weight": (1000, 4096),
            "layers.3.ffn_norm.weight": (4096,),
        },
        {
            "tok_embeddings.weight": _normal(1),
            "layers.31.feed_forward.w1.weight": _normal(0.02),
            "layers.31.attention.wo.weight": _normal(0.02 / (2 * 32) ** 0.5),
            "output.weight": _cut(4096**-0.5, 3),
            "layers.3.ffn_norm.weight": _always(1),
        },
    ),
    "T-Fixup": (
        {
            **dict.fromkeys(FIXUP, (512, 512)),
            "decoder.embed_tokens.weight": (1000, 512),
        },
        {
            "encoder.layers.5.fc1.weight": _uniform(0.67 * 6**-0.25 * math.sqrt(6 / 1024)),
            "encoder.layers.5.self_attn.q_proj.weight": _uniform(math.sqrt(6 / 1024)),
            "decoder.layers.0.encoder_attn.v_proj.weight": _uniform(
                54**-0.25 * math.sqrt(6 / 1024)
            ),
            "decoder.embed_tokens.weight": _normal(512**-0.5 * 54**-0.25),
        },
    ),
    "DeepNet": (
        dict.fromkeys(DEEP, (1024, 1024)),
        {
            "layers.0.fc1.weight": _normal(800**-0.25 * math.sqrt(2 / 2048)),
            "layers.99.self_attn.k_proj.weight": _normal(math.sqrt(2 / 2048)),
        },
    ),
    "μP": (
        {
            "layers.0.fc.weight": (1024, 1024),
            "embed.weight": (100, 1024),
            "head.weight": (100, 1024),
        },
        {
            # A width four times that of the base: half the std.
            "layers.0.fc.weight": _normal(0.01),
            "embed.weight": _normal(0.02),
            "head.weight": _always(0),
        },
    ),
    "Mamba": (
        {
            **{
                key: next((s for end, s in MAMBA_SHAPES.items() if key.endswith(end)), (1536,))
                for key in MAMBA
            },
            "backbone.embeddings.weight": (50280, 768),
            "backbone.norm_f.weight": (768,),
        },
        {
            # mamba_ssm leaves these as torch's Linear and Conv1d start them.
            "backbone.layers.0.mixer.in_proj.weight": _uniform(768**-0.5),
            "backbone.layers.0.mixer.x_proj.weight": _uniform(1536**-0.5),
            "backbone.layers.9.mixer.conv1d.weight": _uniform(4**-0.5),
            "backbone.layers.9.mixer.conv1d.bias": _uniform(4**-0.5),
            "backbone.layers.9.mixer.dt_proj.weight": _uniform(48**-0.5),
            "backbone.layers.9.mixer.out_proj.weight": _uniform(1536**-0.5 / 24**0.5),
            "backbone.layers.9.norm.weight": _always(1),
            "backbone.norm_f.weight": _always(1),
            "backbone.embeddings.weight": _normal(0.02),
        },
    ),
    "LoRA": (
        {"m.q_proj.lora_A.weight": (8, 768), "m.q_proj.lora_B.weight": (768, 8)},
        {
            "m.q_proj.lora_A.weight": _uniform(1 / math.sqrt(768)),
            "m.q_proj.lora_B.weight": _always(0),
        },
    ),
    "AlexNet": (
        {"features.0.weight": (64, 3, 11, 11), "features.10.weight": (256, 256, 3, 3)},
        {"features.0.weight": _uniform(0.0384734), "features.10.weight": _uniform(0.0510310)},
    ),
    "VGG": (
        {
            "features.0.weight": (64, 3, 3, 3),
            "features.28.weight": (512, 512, 3, 3),
            "classifier.0.weight": (4096, 25088),
            "features.0.bias": (64,),
        },
        {
            "features.0.weight": _normal(math.sqrt(2 / (64 * 9))),
            "features.28.weight": _normal(math.sqrt(2 / (512 * 9))),
            "classifier.0.weight": _normal(0.01),
            "features.0.bias": _always(0),
        },
    ),
    "RetinaNet": (
        {
            f"{RETINA}.conv.0.0.weight": (256, 256, 3, 3),
            f"{RETINA}.cls_logits.weight": (819, 256, 3, 3),
            f"{RETINA}.cls_logits.bias": (819,),
            "head.regression_head.bbox_reg.bias": (36,),
        },
        {
            f"{RETINA}.conv.0.0.weight": _normal(0.01),
            f"{RETINA}.cls_logits.weight": _normal(0.01),
            f"{RETINA}.cls_logits.bias": _always(-4.59511985013459),
            "head.regression_head.bbox_reg.bias": _always(0),
        },
    ),
    "DCGAN": (
        {"main.0.weight": (100, 512, 4, 4), "main.1.weight": (512,), "main.1.bias": (512,)},
        {
            "main.0.weight": _normal(0.02),
            "main.1.weight": _normal(0.02, 1.0),
            "main.1.bias": _always(0),
        },
    ),
    "SIREN": (
        {
            "net.0.linear.weight": (256, 2),
            "net.1.linear.weight": (256, 256),
            "net.4.weight": (1, 256),
        },
        {
            "net.0.linear.weight": _uniform(1 / 2),
            "net.1.linear.weight": _uniform(math.sqrt(6 / 256) / 30),
            "net.4.weight": _uniform(math.sqrt(6 / 256) / 30),
        },
    ),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_command_plans_the_numbers_of_its_source(name: str) -> None:
    shapes, expected = SOURCES[name]
    tensors = tuple(TensorInfo(key, "float32", shape, 0) for key, shape in shapes.items())

    planned = decide(Entries("m.pt", tensors), Request("m.pt", rules_of(_rules(name))))

    steps = {step.key: step for step in planned.steps}
    for key, value in expected.items():
        found = _of(steps[key])
        assert (found.std, found.mean) == pytest.approx((value.std, value.mean), rel=1e-6), key
        if value.bound is not None:
            assert found.bound == pytest.approx(value.bound, rel=1e-6), key
    # Every rule has a tensor, so that no pattern is a misspelling.
    assert all(planned.by_rule())


# --- what real constructors make ---------------------------------------------------------------


def _transformers(model: str, config: str, **sizes: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    made: nn.Module = getattr(transformers, model)(getattr(transformers, config)(**sizes))
    return made


def _gpt2() -> nn.Module:
    sizes = {"n_layer": 4, "n_embd": 64, "n_head": 2, "vocab_size": 200, "n_positions": 64}
    return _transformers("GPT2LMHeadModel", "GPT2Config", **sizes)


def _bert() -> nn.Module:
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return _transformers("BertModel", "BertConfig", **sizes, intermediate_size=128, vocab_size=99)


def _t5() -> nn.Module:
    sizes = {"d_model": 512, "d_ff": 96, "num_layers": 2, "num_heads": 2, "vocab_size": 99}
    return _transformers("T5Model", "T5Config", **sizes, d_kv=64)


def _mamba() -> nn.Module:
    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "num_hidden_layers": 24,
        "vocab_size": 99,
        "state_size": 8,
    }
    sizes["initializer_range"] = 0.02  # as in mamba_ssm
    return _transformers("MambaModel", "MambaConfig", **sizes, rescale_prenorm_residual=True)


def _resnet() -> nn.Module:
    from torchvision.models.resnet import Bottleneck, ResNet

    return ResNet(Bottleneck, [1, 1, 1, 1], num_classes=20, zero_init_residual=True)


def _densenet() -> nn.Module:
    from torchvision.models import DenseNet

    return DenseNet(16, (2, 2), 32, num_classes=20)


def _vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(32, 8, 2, 2, 64, 128, num_classes=20)


def _convnext() -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    return ConvNeXt([CNBlockConfig(32, 64, 2), CNBlockConfig(64, None, 2)], num_classes=20)


def _swin() -> nn.Module:
    from torchvision.models import SwinTransformer

    return SwinTransformer([4, 4], 32, [2, 2], [2, 4], [4, 4], num_classes=20)


def _deit() -> nn.Module:
    timm = pytest.importorskip("timm")
    made: nn.Module = timm.models.vision_transformer.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=2, num_classes=20
    )
    return made


def _lstm() -> nn.Module:
    """A module whose gates start as Józefowicz et al. start them."""
    model = nn.ModuleDict({"lstm": nn.LSTM(40, 48)})
    for key, value in model.named_parameters():
        if "bias" in key:
            nn.init.zeros_(value)
            if "bias_ih" in key:
                nn.init.ones_(value[48:96])
        for gate in value.chunk(4) if value.ndim > 1 else ():
            (nn.init.orthogonal_ if "_hh_" in key else nn.init.xavier_uniform_)(gate)
    return model


REAL: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "GPT-2": (_gpt2, ""),
    "BERT": (_bert, ""),
    "T5": (_t5, ""),
    "Mamba": (_mamba, r"\.(in_proj|x_proj|conv1d)\.|norm"),
    "LSTM": (_lstm, ""),
    "ResNet, zero-gamma": (_resnet, ""),
    "DenseNet": (_densenet, ""),
    "ViT": (_vit, ""),
    "DeiT": (_deit, ""),
    "ConvNeXt": (_convnext, ""),
    "Swin": (_swin, ""),
}
"""Constructors, and the keys that the command leaves as they are."""


@pytest.mark.parametrize("name", REAL)
def test_a_command_fills_as_the_real_constructor_does(name: str) -> None:
    make, left = REAL[name]
    torch.manual_seed(0)
    real, ours = make().state_dict(), make().state_dict()
    for value in ours.values():
        value.fill_(7)

    apply_(ours, _rules(name), seed=1)

    for key, value in real.items():
        is_left = bool(left and re.search(left, key)) or "running_" in key
        if is_left or not value.is_floating_point():
            continue
        theirs, mine = (moments_of(elements_of_tensor(each)) for each in (value, ours[key]))
        if theirs.std == 0:
            assert torch.equal(ours[key], value), key
            continue
        slack = 5 * theirs.std / math.sqrt(value.numel())
        assert mine.mean == pytest.approx(theirs.mean, abs=2 * slack), key
        assert mine.std == pytest.approx(theirs.std, abs=2 * slack), key
        largest = max(abs(theirs.low), abs(theirs.high))
        assert max(abs(mine.low), abs(mine.high)) == pytest.approx(largest, rel=0.6), key


def test_every_start_of_the_page_is_tested() -> None:
    assert len(COMMANDS) >= 20
    assert set(COMMANDS) == SOURCES.keys() | REAL.keys() | {"nGPT"}


def test_rows_of_ngpt_have_norm_one() -> None:
    """ngpt: justnorm(weight, 1) of what reads the stream, justnorm(weight, 0) of what writes it."""
    names = ("query", "att_c_proj", "c_fc", "mlp_c_proj")
    state = {f"transformer.h.0.{name}.weight": torch.zeros(30, 40) for name in names}
    state |= {"transformer.wte.weight": torch.zeros(50, 40), "a.lm_head.weight": torch.zeros(9, 40)}

    apply_(state, _rules("nGPT"))

    for key, value in state.items():
        norms = value.norm(dim=0 if "c_proj" in key else 1)
        torch.testing.assert_close(norms, torch.ones_like(norms))
