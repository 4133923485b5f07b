"""Laws that depend on the number of layers give the numbers of the code that they are of."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import pytest
import torch
from scipy import stats
from torch import nn

from reinit_cli import apply_, plan
from reinit_cli.errors import ArgumentError, UnfillableError
from reinit_cli.initializers import (
    Elsewhere,
    Law,
    Normal,
    Site,
    TruncatedNormal,
    UndefinedError,
    Uniform,
    parse_init,
)
from reinit_cli.initializers.stacks import Stacks


def _law(init: str, key: str, keys: Iterable[str] = (), shape: tuple[int, ...] = (6, 4)) -> Law:
    law = parse_init(init).law(shape, Site(key, elsewhere=Elsewhere(stacks=Stacks(keys))))
    assert law is not None
    return law


def _depth(keys: Sequence[str], key: str) -> tuple[int, int]:
    assert key in keys
    depth = Stacks(keys).depth(key)
    return depth.layer, depth.layers


GPT2 = [f"transformer.h.{n}.{of}.c_proj.weight" for n in range(12) for of in ("attn", "mlp")]


# --- published numbers -------------------------------------------------------------------------


def test_gpt2_scales_every_layer_by_the_number_of_layers() -> None:
    """nanoGPT: torch.nn.init.normal_(p, mean=0.0, std=0.02/math.sqrt(2 * config.n_layer))."""
    laws = {_law("depth_scaled:gpt2", key, GPT2) for key in GPT2}

    assert laws == {Normal(0.0, 0.004082482904638631)}


def test_gpt2_takes_the_number_of_layers_that_is_given() -> None:
    """Megatron-LM: scaled_init_method_normal(sigma=0.02, num_layers=24)."""
    law = _law("depth_scaled:gpt2,std=0.02,layers=24", "anything.weight")

    assert law == Normal(0.0, pytest.approx(0.02 / math.sqrt(2.0 * 24), rel=1e-15))


def test_a_number_of_layers_means_gpt2() -> None:
    assert parse_init("depth_scaled:layers=12") == parse_init("depth_scaled:gpt2,layers=12")


@pytest.mark.parametrize("name", ["depth_scaled", "depth_scaled:torchtitan"])
@pytest.mark.parametrize(
    ("layer", "std"),
    [(0, 0.014142135623730951), (11, 0.004082482904638631), (31, 0.0025)],
)
def test_torchtitan_scales_each_layer_by_its_number(name: str, layer: int, std: float) -> None:
    """torchtitan: self.weight_init_std = 0.02 / (2 * (self.layer_id + 1)) ** 0.5."""
    law = _law(name, f"layers.{layer}.attention.wo.weight")

    assert law == Normal(0.0, pytest.approx(std, rel=1e-15))


def test_a_cutoff_is_of_the_deviation_that_the_depth_leaves() -> None:
    """OLMo's full_megatron: trunc_normal_(std=init_std / sqrt(2 * n_layers), a=-3 std, b=3 std)."""
    law = _law("depth_scaled:gpt2,std=0.02,layers=16,cutoff=3", "model.layers.3.ff_out.weight")

    std = 0.02 / math.sqrt(2 * 16)
    assert law == TruncatedNormal(0.0, std, -3 * std, 3 * std)
    assert law.std == pytest.approx(0.9865783925581086 * std, rel=1e-9)


def test_mitchell_is_olmos() -> None:
    """OLMo-1B, layer 3: 1 / math.sqrt(2 * self.ff_out.in_features * (self.layer_id + 1))."""
    key = "model.transformer.blocks.3.ff_out.weight"
    law = _law("mitchell", key, shape=(2048, 8192))
    first = _law("mitchell:by_layer=false", key, shape=(2048, 2048))

    assert isinstance(law, TruncatedNormal)
    assert law.scale == pytest.approx(0.00390625, rel=1e-12)
    assert (law.low, law.high) == (pytest.approx(-0.01171875), pytest.approx(0.01171875))
    assert isinstance(first, TruncatedNormal)
    assert first.scale == pytest.approx(2048**-0.5, rel=1e-12)


@pytest.mark.parametrize(
    ("init", "gain"),
    [
        # layer6ai-labs/T-Fixup: 0.67 * en_layers ** (-1/4) and (9 * de_layers) ** (-1/4)
        ("tfixup:encoder,layers=6", 0.4280918798450026),
        ("tfixup:decoder,layers=6", 0.36889397323344053),
    ],
)
def test_tfixup_is_xavier_with_the_gains_of_its_authors(init: str, gain: float) -> None:
    law = _law(init, "encoder.layers.0.fc1.weight", shape=(2048, 512))

    fresh = nn.init.xavier_uniform_(torch.empty(2048, 512), gain=gain)
    assert isinstance(law, Uniform)
    assert law.high == -law.low == pytest.approx(gain * math.sqrt(6 / 2560), rel=1e-7)
    assert fresh.max().item() == pytest.approx(law.high, rel=1e-4)


@pytest.mark.parametrize(
    ("init", "gain"),
    [
        ("deepnet:layers=12", (8 * 12) ** -0.25),
        ("deepnet:decoder,layers=18", (12 * 18) ** -0.25),
        ("deepnet:encoder,layers=18,decoder_layers=6", 0.87 * (18**4 * 6) ** (-1 / 16)),
    ],
)
def test_deepnet_is_xavier_with_the_gains_of_its_paper(init: str, gain: float) -> None:
    """DeepNet, figure 2; torchscale has the same for one stack and for decoders."""
    law = _law(init, "layers.0.fc1.weight", shape=(4096, 1024))

    assert law == Normal(0.0, pytest.approx(gain * math.sqrt(2 / 5120), rel=1e-12))


def test_deepnet_of_a_thousand_layers_has_the_gain_of_its_paper() -> None:
    """DeepNet, decoder of 1,000 layers alone: (8 M)^(-1/4)."""
    law = _law("deepnet:layers=1000", "h.0.w", shape=(1, 1))

    assert law.std == pytest.approx(0.10573712634405641, rel=1e-12)


TRANSFORMER = list(nn.Transformer(4, 2, 18, 6, 4, batch_first=True).state_dict())
BART = [
    f"model.{side}.layers.{layer}.{part}.weight"
    for side, depth, attention in (("encoder", 18, ()), ("decoder", 6, ("encoder_attn.out_proj",)))
    for layer in range(depth)
    for part in (*attention, "self_attn.out_proj", "fc1")
]
TROCR = [
    *(f"encoder.encoder.layer.{layer}.output.dense.weight" for layer in range(18)),
    *(f"decoder.model.decoder.layers.{layer}.encoder_attn.out_proj.weight" for layer in range(6)),
    *(f"decoder.model.decoder.layers.{layer}.fc1.weight" for layer in range(6)),
]
ENCODER, DECODER = 1 / (math.pow(math.pow(18, 4) * 6, 0.0625) * 1.15), (12 * 6) ** -0.25


@pytest.mark.parametrize(
    ("keys", "key", "gain"),
    [
        (TRANSFORMER, "encoder.layers.17.linear2.weight", ENCODER),
        (TRANSFORMER, "decoder.layers.0.multihead_attn.out_proj.weight", DECODER),
        (BART, "model.encoder.layers.0.fc1.weight", ENCODER),
        (BART, "model.decoder.layers.5.fc1.weight", DECODER),
        (TROCR, "encoder.encoder.layer.17.output.dense.weight", ENCODER),
        (TROCR, "decoder.model.decoder.layers.3.fc1.weight", DECODER),
        (BART[:36], "model.encoder.layers.0.fc1.weight", 144**-0.25),
        (BART[36:], "model.decoder.layers.0.fc1.weight", 48**-0.25),
    ],
)
def test_deepnet_tells_an_encoder_and_its_decoder_from_a_stack_alone(
    keys: list[str], key: str, gain: float
) -> None:
    """DeepNet, figure 2, with N = 18 and M = 6; torchscale has 1 / 1.15 for its 0.87."""
    law = _law("deepnet", key, keys, shape=(1, 1))

    assert key in keys
    assert law.std == pytest.approx(gain, rel=1e-3)


def test_deepnet_of_an_old_record_is_that_of_a_stack_alone() -> None:
    elsewhere = Elsewhere(stacks=Stacks(BART), versions={})
    law = parse_init("deepnet").law((1, 1), Site(BART[-1], elsewhere=elsewhere))

    assert law is not None
    assert law.std == pytest.approx(48**-0.25)


def test_deepnet_does_not_guess_what_an_encoder_next_to_a_decoder_is() -> None:
    keys = [f"{side}.blocks.{n}.mlp.fc1.weight" for side in ("encoder", "decoder") for n in (0, 1)]
    with pytest.raises(
        UndefinedError, match="give encoder with decoder_layers=, decoder, or alone"
    ):
        _law("deepnet", keys[0], keys)
    assert _law("deepnet:alone", keys[0], keys, shape=(1, 1)).std == pytest.approx(0.5)

    cut = [key for key in BART if ".decoder.layers.2." not in key]
    with pytest.raises(UndefinedError, match="the keys have 5 of the layers 0 to 5 of the decoder"):
        _law("deepnet", cut[0], cut)
    law = _law("deepnet:encoder,decoder_layers=6", cut[0], cut, shape=(1, 1))
    assert law.std == pytest.approx(ENCODER, rel=1e-3)


@pytest.mark.parametrize("init", ["tfixup:encoder", "deepnet:encoder,decoder_layers=6"])
def test_a_law_of_an_encoder_takes_no_decoder_next_to_it(init: str) -> None:
    with pytest.raises(UndefinedError, match="says that it is of the decoder, not of the encoder"):
        _law(init, BART[-1], BART)
    assert _law(init, BART[0], BART)


@pytest.mark.parametrize(
    ("init", "problem"),
    [
        ("deepnet:encoder", "also needs the number of the decoder's layers"),
        ("deepnet:decoder,decoder_layers=3", "is for an encoder next to a decoder"),
        ("depth_scaled:gpt2,layers=0", "layers must be an integer of at least 1"),
        ("depth_scaled:cutoff=-1", "cutoff must be a number from 0 to 100"),
        ("depth_scaled:gpt2,layer=3", "it takes layers, their number, not layer"),
        ("depth_scaled:torchtitan,layers=3", "layers is for gpt2"),
        ("depth_scaled:layer=3,layers=3", "it takes layers, their number, not layer"),
        ("depth_scaled:gpt3", "unknown argument 'gpt3'"),
        ("tfixup:layers=3", "stack"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(init: str, problem: str) -> None:
    with pytest.raises(ArgumentError, match=problem):
        parse_init(init)


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        ("depth_scaled:gpt2,std=0.5,layers=2", stats.norm(0, 0.25)),
        ("depth_scaled:std=0.5,layer=1,cutoff=1", stats.truncnorm(-1, 1, scale=0.25)),
        ("mitchell:layer=1,fan=4", stats.truncnorm(-3, 3, scale=0.25)),
        ("tfixup:decoder,layers=1,fan=3", stats.uniform(-(9**-0.25), 2 * 9**-0.25)),
        ("deepnet:layers=2,fan=1", stats.norm(0, 0.5)),
    ],
)
@pytest.mark.parametrize("stream", ["philox", "torch"])
def test_elements_follow_the_law(init: str, expected: stats.rv_continuous, stream: str) -> None:
    state = {"w": torch.zeros(200, 150)}

    apply_(state, [f"w={init}"], stream=stream)

    assert stats.kstest(state["w"].flatten().numpy(), expected.cdf).pvalue > 1e-4


# --- which number is the layer's ---------------------------------------------------------------


PARTS = ("attn.qkv.weight", "attn.proj.weight", "mlp.fc1.weight", "mlp.fc2.weight", "norm1.weight")
SWIN = [
    *(
        f"layers.{stage}.blocks.{block}.{part}"
        for stage, depth in enumerate((2, 2, 6, 2))
        for block in range(depth)
        for part in PARTS
    ),
    *(f"layers.{stage}.downsample.reduction.weight" for stage in (1, 2, 3)),
    "patch_embed.proj.weight",
]
MIXTRAL = [
    *(
        f"model.layers.{layer}.block_sparse_moe.experts.{expert}.w{n}.weight"
        for layer in range(4)
        for expert in range(8)
        for n in (1, 2, 3)
    ),
    *(f"model.layers.{layer}.self_attn.o_proj.weight" for layer in range(4)),
]
DEEPSEEK = [
    "model.layers.0.mlp.down_proj.weight",
    *(
        f"model.layers.{layer}.mlp.experts.{expert}.down_proj.weight"
        for layer in range(1, 5)
        for expert in range(6)
    ),
]
T5 = [
    f"{stack}.block.{block}.layer.{at}.{part}.weight"
    for stack, depth in (("encoder", 6), ("decoder", 4))
    for block in range(depth)
    for at, part in ((0, "SelfAttention.o"), (1, "DenseReluDense.wo"))
]
SEQUENTIAL = [
    f"blocks.{block}.{part}"
    for block in range(5)
    for part in ("mlp.0.weight", "mlp.2.weight", "mlp.3.weight", "attn.proj.weight")
]
ADAPTERS = [
    f"layers.{layer}.{part}"
    for layer in range(3)
    for part in (*PARTS, "side.0.down.weight", "side.1.down.weight")
]


@pytest.mark.parametrize(
    ("keys", "key", "depth"),
    [
        (GPT2, "transformer.h.11.attn.c_proj.weight", (11, 12)),
        (SWIN, "layers.0.blocks.1.mlp.fc2.weight", (1, 12)),
        (SWIN, "layers.2.blocks.5.mlp.fc2.weight", (9, 12)),
        (SWIN, "layers.3.blocks.1.attn.proj.weight", (11, 12)),
        (MIXTRAL, "model.layers.3.block_sparse_moe.experts.7.w2.weight", (3, 4)),
        (DEEPSEEK, "model.layers.0.mlp.down_proj.weight", (0, 5)),
        (DEEPSEEK, "model.layers.2.mlp.experts.5.down_proj.weight", (2, 5)),
        (T5, "encoder.block.3.layer.1.DenseReluDense.wo.weight", (3, 6)),
        (T5, "decoder.block.3.layer.0.SelfAttention.o.weight", (3, 4)),
        (SEQUENTIAL, "blocks.4.mlp.2.weight", (4, 5)),
        (ADAPTERS, "layers.2.side.1.down.weight", (2, 3)),
        (["module." + key for key in SWIN], "module.layers.2.blocks.0.attn.proj.weight", (4, 12)),
        (["only.0.w"], "only.0.w", (0, 1)),
        (["0", "1", "2"], "2", (2, 3)),
        (
            [f"stages_{n}.blocks_{m}.fc.w" for n in (0, 1) for m in (0, 1)],
            "stages_1.blocks_0.fc.w",
            (2, 4),
        ),
    ],
)
def test_the_number_of_the_layer_is_the_one_that_counts_up(
    keys: list[str], key: str, depth: tuple[int, int]
) -> None:
    assert _depth(keys, key) == depth
    assert _depth(sorted(keys, reverse=True), key) == depth


@pytest.mark.parametrize(
    ("model", "key", "depth"),
    [
        ("vit_b_16", "encoder.layers.encoder_layer_11.mlp.3.weight", (11, 12)),
        ("vit_b_16", "encoder.layers.encoder_layer_2.self_attention.out_proj.weight", (2, 12)),
        ("swin_t", "features.5.3.mlp.3.weight", (7, 12)),
        ("resnet50", "layer1.0.conv3.weight", (0, 16)),
        ("resnet50", "layer2.0.downsample.0.weight", (3, 16)),
        ("resnet50", "layer3.5.conv3.weight", (12, 16)),
        ("convnext_tiny", "features.7.2.block.5.weight", (17, 18)),
    ],
)
def test_the_models_of_torchvision_count_their_blocks(
    model: str, key: str, depth: tuple[int, int]
) -> None:
    import torchvision

    with torch.device("meta"):
        keys = list(torchvision.models.get_model(model).state_dict())

    assert _depth(keys, key) == depth


@pytest.mark.parametrize(
    ("model", "key", "depth"),
    [
        ("resnet18", "layer4.1.conv2.weight", (7, 8)),
        ("visformer_tiny", "stage3.3.attn.qkv.weight", (14, 15)),
        ("coat_tiny", "serial_blocks4.1.mlp.fc1.weight", (7, 8)),
        ("resnetv2_50", "stages.2.blocks.0.downsample.conv.weight", (7, 16)),
        ("volo_d1_224", "network.0.3.attn.v.weight", (3, 18)),
        ("efficientformer_l1", "stages.3.blocks.4.token_mixer.qkv.weight", (14, 15)),
    ],
)
def test_blocks_of_stages_that_differ_are_counted_together(
    model: str, key: str, depth: tuple[int, int]
) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        keys = list(timm.create_model(model).state_dict())

    assert _depth(keys, key) == depth


def test_stages_of_which_blocks_may_be_missing_are_not_counted() -> None:
    keys = [f"layer{stage}.{block}.conv.weight" for stage in (1, 2) for block in (0, 2)]

    with pytest.raises(UndefinedError, match="4 of the layers 0 to 5"):
        _law("depth_scaled:gpt2", keys[-1], keys)
    assert _law("depth_scaled", keys[-1], keys).std == 0.02 / math.sqrt(12)


def test_the_layers_of_torchs_own_transformer_are_counted_for_each_stack() -> None:
    model = nn.Transformer(8, 2, 3, 5, 16, batch_first=True)

    planned = plan(model, ["*.linear2.weight=depth_scaled:gpt2,std=1"])

    stds = {step.key: step.law.std for step in planned.steps if step.law is not None}
    assert stds["encoder.layers.0.linear2.weight"] == pytest.approx(6**-0.5)
    assert stds["decoder.layers.4.linear2.weight"] == pytest.approx(10**-0.5)


@pytest.mark.parametrize(
    "key", ["", "layer4.conv1.weight", "h.x2.weight", "h.².weight", "h.-1.w", "experts.3.w"]
)
def test_a_key_without_a_layer_is_refused(key: str) -> None:
    with pytest.raises(UndefinedError, match="no number of a layer, and layer= gives none"):
        _law("depth_scaled", key)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [(range(6, 12), "6 of the layers 0 to 11"), ((0, 2, 4), "3 of the layers 0 to 4")],
)
def test_layers_that_may_be_missing_are_not_counted(numbers: Iterable[int], said: str) -> None:
    keys = [f"h.{n}.mlp.c_proj.weight" for n in numbers]

    with pytest.raises(UndefinedError, match=f"{said}, so that .* not certain; give layers="):
        _law("depth_scaled:gpt2", keys[-1], keys)
    assert _law("depth_scaled:gpt2,layers=12", keys[-1], keys) == Normal(0.0, 0.02 / math.sqrt(24))
    assert _law("depth_scaled", keys[-1], keys).std == 0.02 / math.sqrt(2 * (max(numbers) + 1))


def test_a_name_insists_on_a_count_that_a_wildcard_does_not() -> None:
    state = {"h.3.w": torch.ones(3), "h.5.w": torch.ones(3), "a.0.w": torch.ones(3)}

    planned = plan(state, ["*=depth_scaled:gpt2"])

    assert [step.action for step in planned.steps] == ["skip", "skip", "fill"]
    with pytest.raises(UnfillableError, match=r"2 of the layers 0 to 5"):
        plan(state, ["h.3.w=depth_scaled:gpt2"])


def test_a_layer_that_is_given_counts_before_the_key_s() -> None:
    assert _law("depth_scaled:std=0.1,layer=1", "h.7.weight") == Normal(0.0, 0.05)
    assert _law("depth_scaled:0.1,1", "w") == Normal(0.0, 0.05)


def test_parts_of_a_fused_matrix_see_the_keys_of_all() -> None:
    state: Mapping[str, torch.Tensor] = {f"h.{n}.qkv": torch.ones(6, 2) for n in range(8)}

    planned = plan(state, ["*=block:parts=3,inner=depth_scaled:gpt2;std=1"])

    assert {step.law.std for step in planned.steps if step.law} == {0.25}


@pytest.mark.parametrize(
    "keys",
    [
        [f"h.{n}.w.{n}.x.{n}.y" for n in range(8_000)],
        [f"h.{n}.w" for n in range(25_000)],
        [".".join(["1"] * 900) + f".{n}.w" for n in range(800)],
        [f"a.{n % 150}.b.{n // 150}.c.w" for n in range(15_000)],
        ["9" * 5_000 + f".{n}.w" for n in range(800)],
    ],
    ids=["three that agree", "one stack", "long keys", "blocks", "digits"],
)
def test_strange_keys_take_no_longer_than_their_number(keys: list[str]) -> None:
    stacks, start = Stacks(keys), time.process_time()

    for key in keys:
        with suppress(UndefinedError):
            stacks.depth(key)

    assert time.process_time() - start < 5
