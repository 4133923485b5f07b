"""Names and shapes tell the kind of each layer as its class would, or nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
import torch.nn.utils.prune
from torch import nn

from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.layers.layer import Layer
from reinit_cli.tensors.layers.told import layers_of
from tests.tensors.layers.real import all_of, compared, infos, kinds, told


def _info(key: str, *shape: int) -> TensorInfo:
    return TensorInfo(key, "float32", shape, 0)


def _layer(*tensors: TensorInfo, model_type: str = "") -> Layer | None:
    """Return the layer of the first of some tensors."""
    return layers_of(tensors, model_type).layer(tensors[0].key)


@pytest.mark.parametrize(
    ("head", "embedding"),
    [
        ("cls.predictions", "bert.embeddings.word_embeddings"),
        ("lm_head", "roberta.embeddings.word_embeddings"),
        ("vocab_projector", "distilbert.embeddings.word_embeddings"),
        ("pred_layer.proj", "transformer.embeddings"),
    ],
)
def test_a_bias_alone_is_that_of_a_head_whose_weight_is_the_embedding(
    head: str, embedding: str
) -> None:
    bias, words = _info(f"{head}.bias", 30), _info(f"{embedding}.weight", 30, 4)
    positions = _info("bert.embeddings.position_embeddings.weight", 7, 4)

    layer = _layer(bias, positions, words)

    assert layer is not None
    assert (layer.kind, layer.path, layer.role) == ("Linear", head, "bias")
    assert layer.shapes["weight"] == (30, 4)
    assert _layer(_info(f"{head}.bias", 31), positions, words) is None
    assert _layer(_info("rescale.bias", 30), positions, words) is None


LAYERS = {
    "conv1": nn.Conv1d(4, 6, 5),
    "conv2": nn.Conv2d(4, 6, 3, groups=2, bias=False),
    "conv3": nn.Conv3d(4, 6, 2),
    "stem_conv": nn.Conv2d(3, 8, 4, bias=False),
    "conv1d": nn.Conv1d(8, 8, 4, groups=8),
    "depthwise": nn.Conv2d(8, 8, 7, groups=8),
    "a": nn.ConvTranspose1d(4, 6, 5),
    "b": nn.ConvTranspose2d(4, 6, 2),
    "c": nn.ConvTranspose3d(8, 4, 2, groups=1),
    "grouped": nn.ConvTranspose2d(8, 12, 3, groups=4),
    "deconv": nn.ConvTranspose2d(4, 4, 2, bias=False),
    "up": nn.ConvTranspose2d(4, 4, 2),
    "d": nn.Linear(4, 7),
    "fc": nn.Linear(4, 4),
    "e": nn.Linear(4, 7, bias=False),
    "tok_emb": nn.Embedding(10, 4),
    "f": nn.LSTM(4, 5, num_layers=2, bidirectional=True),
    "g": nn.GRU(4, 5, bias=False),
    "h": nn.RNN(4, 5),
    "i": nn.LSTM(4, 5, proj_size=3),
    "j": nn.LSTMCell(4, 5),
    "k": nn.GRUCell(4, 5),
    "l": nn.RNNCell(4, 5),
    "m": nn.MultiheadAttention(8, 2),
    "n": nn.MultiheadAttention(8, 2, kdim=4, vdim=4, add_bias_kv=True),
    "p": nn.PReLU(),
    "prelu": nn.PReLU(4),
    "bilinear": nn.Bilinear(4, 5, 6),
    "q": nn.BatchNorm2d(4),
    "r": nn.BatchNorm1d(4, affine=False),
    "layer_norm": nn.LayerNorm(4),
    "s": nn.LayerNorm((4, 5)),
    "group_norm": nn.GroupNorm(2, 4),
    "bn": nn.BatchNorm2d(4, track_running_stats=False),
    "instance_norm": nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
    "rms_norm": nn.RMSNorm(4),
    "t": nn.GroupNorm(2, 4),
}


@pytest.mark.parametrize("prefix", ["", "module.", "model._orig_mod."])
def test_every_layer_of_torch_is_told_as_its_class_or_family_below_any_prefix(prefix: str) -> None:
    module: nn.Module = nn.ModuleDict(LAYERS)
    for name in reversed(prefix.split(".")[:-1]):
        module = nn.ModuleDict({name: module})
    result = compared(module)
    assert result.wrong == {}
    assert result.untold == []


BY_NAME_ALONE = ("tok_emb", "bilinear", "instance_norm")
"""Layers whose tensors have the shapes of others, a linear layer's and a convolution's."""


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_alone_in_a_file_is_told_as_its_class_or_not_at_all(name: str) -> None:
    assert compared(nn.ModuleDict({name: LAYERS[name]})).wrong == {}
    if name not in BY_NAME_ALONE:
        assert compared(nn.ModuleDict({"x": LAYERS[name]})).wrong == {}


def test_a_layer_knows_its_path_its_role_and_the_shapes_of_what_lies_with_it() -> None:
    layer = told(nn.Sequential(nn.Conv2d(3, 8, 5)))["0.bias"]
    assert layer is not None
    assert (layer.kind, layer.path, layer.role) == ("Conv2d", "0", "bias")
    assert dict(layer.shapes) == {"weight": (8, 3, 5, 5), "bias": (8,)}
    assert layer.told == "names"


def test_a_matrix_that_nothing_names_is_told_as_linear_from_its_shape() -> None:
    layer = _layer(_info("net.7.weight", 4, 9))
    assert layer is not None
    assert (layer.kind, layer.told) == ("Linear", "shapes")


def test_parameters_of_a_module_of_ones_own_are_of_no_layer() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
            self.register_buffer("inv_freq", torch.zeros(4))

    assert kinds(Tokens()) == {"cls_token": None, "inv_freq": None}


def test_a_convolution_both_of_whose_sides_fit_is_told_as_either() -> None:
    for layer in (nn.Conv2d(4, 4, 2), nn.ConvTranspose2d(4, 4, 2)):
        assert set(kinds(nn.ModuleDict({"mask": layer})).values()) == {"Convolution"}


def test_the_order_of_a_file_of_sorted_names_tells_nothing_of_a_convolution() -> None:
    focus = {"conv": nn.Conv2d(3, 16, 6, bias=False), "bn": nn.BatchNorm2d(16)}
    patches = {"proj": nn.Conv2d(3, 16, 4, bias=False)}
    model = nn.ModuleDict(
        {
            "norm_pre": nn.LayerNorm(16),
            "patch_embed": nn.ModuleDict(patches),
            "stem": nn.ModuleDict(focus),
        }
    )
    layers = layers_of(sorted(infos(model), key=lambda tensor: tensor.key))
    for key in ("patch_embed.proj.weight", "stem.conv.weight"):
        assert (layer := layers.layer(key)) is not None
        assert layer.kind == "Conv2d", key


def test_children_with_numbers_are_in_the_order_of_these() -> None:
    def block(inputs: int, outputs: int) -> Iterator[nn.Module]:
        yield nn.ConvTranspose2d(inputs, outputs, 4, bias=False)
        yield nn.BatchNorm2d(outputs)
        yield nn.ReLU()

    widths = [100, 128, 64, 32, 16, 8]
    net = nn.Sequential(*(layer for pair in pairwise(widths) for layer in block(*pair)))
    layers = layers_of(sorted(infos(net), key=lambda tensor: tensor.key))
    found = [layers.layer(f"{at}.weight") for at in range(0, 15, 3)]
    assert [layer and layer.kind for layer in found] == ["ConvTranspose2d"] * 5


@pytest.mark.parametrize("name", ["upconv1", "conv_up1", "upsample"])
def test_a_convolution_of_three_by_three_behind_an_upsampling_may_be_a_plain_one(
    name: str,
) -> None:
    found = kinds(nn.ModuleDict({name: nn.Conv2d(8, 8, 3)}))
    assert set(found.values()) == {"Convolution"}


def test_global_response_norms_are_not_layer_norms() -> None:
    weights = [_info(f"layers.0.grn.{role}", 1, 1, 1, 8) for role in ("weight", "bias")]
    assert _layer(*weights) is None


@pytest.mark.parametrize("name", ["bi", "biaffine", "rel_bilinear_1"])
def test_a_bilinear_of_one_kernel_is_not_told_as_a_convolution(name: str) -> None:
    assert set(kinds(nn.ModuleDict({name: nn.Bilinear(3, 5, 4)})).values()) == {"Bilinear"}
    assert set(kinds(nn.ModuleDict({"f_k": nn.Bilinear(16, 16, 1)})).values()) == {None}


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("sizes", [(20, 30, 40), (16, 16, 8), (3, 9, 4)])
def test_a_bilinear_under_any_name_is_not_told_as_a_convolution(
    sizes: tuple[int, int, int], *, has_bias: bool
) -> None:
    layer = nn.Bilinear(*sizes, bias=has_bias)
    assert set(kinds(nn.ModuleDict({"score": layer})).values()) == {None}
    assert set(kinds(nn.Sequential(layer, nn.LayerNorm(sizes[2]))).values()) <= {None, "Norm"}


@pytest.mark.parametrize("layer", [nn.Bilinear(9, 5, 4), nn.Conv1d(9, 4, 5)])
def test_a_short_kernel_that_may_be_a_stack_of_matrices_is_told_from_its_shape(
    layer: nn.Module,
) -> None:
    for each in told(nn.ModuleDict({"score": layer})).values():
        assert each is not None
        assert (each.kind, each.told) == ("Conv1d", "shapes")


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Conv1d(12, 32, 15, bias=False), nn.BatchNorm1d(32)),
        nn.Sequential(nn.Conv1d(2, 8, 9), nn.ReLU(), nn.Conv1d(8, 3, 9)),
        nn.ModuleDict({"conv_in": nn.Conv1d(2, 8, 9)}),
        nn.ModuleDict({"score": nn.Conv1d(16, 4, 1)}),
    ],
)
def test_a_kernel_of_a_sequence_is_certain_by_its_name_or_by_what_follows(net: nn.Module) -> None:
    assert compared(net).wrong == {}
    assert {layer and layer.told for layer in told(net).values()} == {"names"}


@pytest.mark.parametrize(
    ("name", "norm", "kind"),
    [
        ("layer_norm", nn.LayerNorm((4, 5), bias=False), "Norm"),
        ("rms_norm", nn.RMSNorm((4, 5, 3)), "RMSNorm"),
        ("ln_1", nn.LayerNorm((4, 5, 3, 3), bias=False), "LayerNorm"),
        ("norm2", nn.RMSNorm((4, 5)), "Norm"),
    ],
)
def test_a_norm_of_several_dimensions_is_told_by_its_name(
    name: str, norm: nn.Module, kind: str
) -> None:
    assert set(kinds(nn.ModuleDict({name: norm})).values()) == {kind}
    linear = nn.ModuleDict({f"{name}_proj": nn.Linear(5, 4, bias=False)})
    assert set(kinds(linear).values()) == {"Linear"}


def test_a_single_number_that_nothing_names_is_told_as_prelu_from_its_shape() -> None:
    for net, by in ((nn.ModuleDict({"scale": nn.PReLU()}), "shapes"), (nn.PReLU(), "shapes")):
        assert [layer and (layer.kind, layer.told) for layer in told(net).values()] == [
            ("PReLU", by)
        ]
    in_list = told(nn.Sequential(nn.Linear(2, 2), nn.PReLU()))["1.weight"]
    assert in_list is not None
    assert in_list.told == "names"


def test_the_generator_of_a_dcgan_is_made_of_transposed_convolutions() -> None:
    def block(inputs: int, outputs: int) -> Iterator[nn.Module]:
        yield nn.ConvTranspose2d(inputs, outputs, 4, bias=False)
        yield nn.BatchNorm2d(outputs)
        yield nn.ReLU()

    widths = [100, 512, 256, 128, 64]
    pairs = pairwise(widths)
    main = [layer for pair in pairs for layer in block(*pair)]
    net = nn.Sequential(*main, nn.ConvTranspose2d(64, 3, 4, bias=False))
    assert compared(net).wrong == {}
    assert compared(net).untold == []


def test_the_discriminator_of_a_dcgan_is_made_of_convolutions() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 64, 4, bias=False),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, 128, 4, bias=False),
        nn.BatchNorm2d(128),
        nn.LeakyReLU(0.2),
        nn.Conv2d(128, 256, 4, bias=False),
        nn.BatchNorm2d(256),
    )
    assert compared(net).wrong == {}


def _weight_norm(module: nn.Module) -> nn.Module:
    with pytest.warns(FutureWarning, match="deprecated"):
        return nn.utils.weight_norm(module)


def test_weights_that_torch_computes_from_others_are_of_the_layer_that_they_make() -> None:
    parametrized = nn.utils.parametrizations
    net = nn.ModuleDict(
        {
            "a": parametrized.weight_norm(nn.Conv2d(4, 6, 3)),
            "b": parametrized.spectral_norm(nn.Linear(4, 6)),
            "c": _weight_norm(nn.ConvTranspose1d(4, 6, 3)),
            "d": nn.utils.spectral_norm(nn.Conv2d(4, 6, 3)),
            "e": torch.nn.utils.prune.identity(nn.Linear(4, 6), "weight"),
        }
    )
    found = told(net)
    meant = {
        "a.parametrizations.weight.original1": "Conv2d",
        "b.parametrizations.weight.original": "Linear",
        "c.weight_v": "ConvTranspose1d",
        "d.weight_orig": "Conv2d",
        "e.weight_orig": "Linear",
    }
    for key, kind in meant.items():
        layer = found[key]
        assert layer is not None, key
        assert (layer.kind, layer.role) == (kind, "weight")
    for key in ("a.parametrizations.weight.original0", "d.weight_u", "e.weight_mask"):
        assert found[key] is None


def test_square_layers_of_gpt2_are_conv1d_where_its_other_layers_are() -> None:
    attn = "h.0.attn.c_proj"
    square = (_info(f"{attn}.weight", 8, 8), _info(f"{attn}.bias", 8))
    wide = (_info("h.0.mlp.c_fc.weight", 8, 32), _info("h.0.mlp.c_fc.bias", 32))
    tall = (_info("h.0.mlp.c_fc.weight", 32, 8), _info("h.0.mlp.c_fc.bias", 32))
    for tensors, model_type, kind in (
        ((*square, *wide), "", "Conv1D"),
        ((*square, *tall), "", "Linear"),  # nanoGPT
        (square, "", "Linear"),
        (square, "gpt2", "Conv1D"),
    ):
        layer = _layer(*tensors, model_type=model_type)
        assert layer is not None
        assert layer.kind == kind


def test_stacks_of_experts_know_which_dimension_has_the_inputs() -> None:
    def sizes(gate_up: tuple[int, ...], down: tuple[int, ...], model_type: str = "") -> object:
        path = "model.layers.0.mlp.experts"
        layer = _layer(
            _info(f"{path}.gate_up_proj", *gate_up),
            _info(f"{path}.down_proj", *down),
            model_type=model_type,
        )
        assert layer is not None
        assert layer.kind == "Experts"
        return dict(layer.sizes)

    assert sizes((4, 8, 12), (4, 6, 8)) == {"in_axis": 1}  # gpt-oss, Llama 4
    assert sizes((4, 12, 8), (4, 8, 6)) == {"in_axis": 2}  # Mixtral since 5.0
    assert sizes((4, 8, 8), (4, 8, 8)) == {}
    assert sizes((4, 8, 8), (4, 8, 8), "gpt_oss") == {"in_axis": 1}


def test_lists_of_norms_are_told_by_the_plural_of_their_name() -> None:
    norms = {"group_norms": nn.ModuleList([nn.GroupNorm(2, 4)])}
    assert set(kinds(nn.ModuleDict(norms)).values()) == {"GroupNorm"}


def test_lists_of_norms_next_to_convolutions_may_be_of_groups() -> None:
    decoder = {
        "conv_layers": nn.ModuleList([nn.Conv2d(4, 4, 3)]),
        "norms": nn.ModuleList([nn.GroupNorm(2, 4)]),
    }
    found = kinds(nn.ModuleDict({"decoder": nn.ModuleDict(decoder)}))
    assert found["decoder.norms.0.weight"] == "Norm"


def test_a_projection_of_patches_is_not_a_table_of_embeddings() -> None:
    layers = {"patch_embedding": nn.Linear(12, 8, bias=False), "patch_emb": nn.Conv2d(3, 8, 2)}
    assert compared(nn.ModuleDict(layers)).wrong == {}
    assert kinds(nn.ModuleDict(layers))["patch_embedding.weight"] == "Linear"


def test_norms_of_gemma_are_known_to_add_one_to_their_weight() -> None:
    tensors = (_info("norm.weight", 8), _info("layers.0.post_attention_layernorm.weight", 8))
    plain, gemma = (_layer(*tensors, model_type=each) for each in ("llama", "gemma2"))
    assert plain is not None
    assert gemma is not None
    assert (plain.kind, dict(plain.sizes)) == ("RMSNorm", {})
    assert (gemma.kind, dict(gemma.sizes), gemma.told) == (
        "RMSNorm",
        {"zero_centered": 1},
        "config",
    )


@pytest.mark.parametrize(
    ("key", "model_type", "is_around_zero"),
    [
        ("layers.0.temporal_pre_norm.weight", "recurrent_gemma", True),
        ("language_model.norm.weight", "minimax_m3_vl", True),
        ("audio_tower.norm.weight", "gemma3", False),
        ("layers.0.linear_attn.norm.weight", "qwen3_next", False),
        ("norm.weight", "llama", False),
    ],
)
def test_every_norm_of_the_text_of_such_models_adds_one_to_its_weight(
    key: str, model_type: str, *, is_around_zero: bool
) -> None:
    layer = _layer(_info(key, 8), model_type=model_type)
    assert layer is not None
    assert layer.sizes.get("zero_centered", 0) == is_around_zero


def test_layer_norms_of_videoprism_add_one_to_their_weight() -> None:
    tensors = (_info("layernorm1.weight", 8), _info("layernorm1.bias", 8))
    for model_type, sizes in (("videoprism", {"zero_centered": 1}), ("vit", {})):
        layer = _layer(*tensors, model_type=model_type)
        assert layer is not None
        assert (layer.kind, dict(layer.sizes)) == ("LayerNorm", sizes)


@pytest.mark.parametrize(
    "path",
    [
        "embeddings.token_type_embeddings_3",  # TAPAS
        "char_embeddings.HashBucketCodepointEmbedder_7",  # CANINE
        "embeddings.xpath_embeddings.xpath_tag_sub_embeddings.12",  # MarkupLM
        "input_embeds_layers.0",  # Bark
        "prompt_encoder.point_embed.1",  # SAM
        "queries_embedder",  # MaskFormer
    ],
)
def test_tables_of_models_of_transformers_are_embeddings(path: str) -> None:
    for name, kind in (
        (path, "Embedding"),
        (f"{path}.proj", "Linear"),
        ("patch_embed.0", "Linear"),
    ):
        layer = _layer(_info(f"{name}.weight", 20, 8))
        assert layer is not None
        assert layer.kind == kind


def test_a_hundred_thousand_keys_are_told_in_a_fraction_of_a_second() -> None:
    tensors = [
        _info(f"model.layers.{at}.mlp.experts.{expert}.w1.weight", 8, 16)
        for at in range(100)
        for expert in range(1000)
    ]
    before = time.process_time()
    layers = layers_of(tensors)
    assert all(layers.layer(tensor.key) for tensor in tensors)
    assert time.process_time() - before < 3  # 0.3 s here


@pytest.mark.parametrize(
    "key", ["a." * 50_000 + "weight", "0." * 50_000 + "weight", "_norm" * 20_000 + ".weight"]
)
def test_keys_of_a_hundred_thousand_characters_take_no_time(key: str) -> None:
    before = time.process_time()
    layers_of([_info(f"{at}{key}", *shape) for at, shape in enumerate(((4, 4, 3), (8,)))]).layer(
        f"1{key}"
    )
    assert time.process_time() - before < 1


def _torchvision(names: list[str]) -> Iterator[tuple[str, nn.Module]]:
    import torchvision

    for name in names:
        builder = torchvision.models.get_model_builder(name)
        is_on_top = any(each in builder.__module__ for each in ("detection", "segmentation"))
        backbone = {"weights_backbone": None} if is_on_top else {}
        try:
            with torch.device("meta"):
                yield name, builder(weights=None, **backbone)
        except NotImplementedError:  # some read a tensor while they are built
            continue


SAMPLE = ["alexnet", "resnet18", "densenet121", "vit_b_16", "swin_t", "convnext_tiny", "vgg11_bn"]


def test_layers_of_torchvisions_models_are_told_as_their_classes() -> None:
    pytest.importorskip("torchvision")
    results = {name: compared(model) for name, model in _torchvision(SAMPLE)}
    rate, wrong = all_of(results)
    assert not wrong
    assert rate == 100


@pytest.mark.slow
def test_no_layer_of_any_model_of_torchvision_is_told_wrongly() -> None:
    torchvision = pytest.importorskip("torchvision")
    names = [each for each in torchvision.models.list_models() if "quantized" not in each]
    results = {name: compared(model) for name, model in _torchvision(names)}
    rate, wrong = all_of(results)
    assert len(results) > 90
    assert not wrong
    assert rate > 99.9


@pytest.mark.slow
def test_layers_of_a_model_of_each_family_of_timm_are_told_as_their_classes() -> None:
    timm = pytest.importorskip("timm")
    first = {name.partition("_")[0]: name for name in reversed(timm.list_models())}
    results = {}
    for name in first.values():
        with torch.device("meta"):
            results[name] = compared(timm.create_model(name))
    rate, wrong = all_of(results)
    assert len(results) > 90
    assert not wrong
    assert rate > 99.5


TRANSFORMERS = [
    *("llama", "gpt2", "bert", "t5", "mixtral", "gpt_oss", "llama4_text", "gemma2", "opt", "bart"),
    *("mamba", "qwen2", "qwen3_moe", "distilbert", "vit", "swin", "clip", "whisper", "mpt"),
    *("cohere", "modernbert", "gpt_neox", "bloom", "falcon", "openai-gpt", "deberta-v2", "olmo2"),
]


@pytest.mark.slow
@pytest.mark.parametrize("model_type", TRANSFORMERS)
def test_layers_of_transformers_are_told_as_their_classes(model_type: str) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.models.auto.CONFIG_MAPPING[model_type]()
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config)
    with_config, without = compared(model, model_type), compared(model)
    assert with_config.wrong == without.wrong == {}
    assert with_config.untold == []
