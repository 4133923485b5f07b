"""`reset`: every tensor of a checkpoint as torch's own layers start it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import stats
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from reinit_cli import apply_, plan, rewrite, verify
from reinit_cli.cli import main
from reinit_cli.errors import UnfillableError
from reinit_cli.initializers import Law
from reinit_cli.initializers.law import Constant, Normal, Uniform

CHECKPOINTS = Path(__file__).parents[3] / "shared" / "checkpoints"
"""Written by others; tests/README says where they are from."""


class Net(nn.Module):
    """Layers of many kinds, with the names that people give them."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.conv1 = nn.Conv2d(4, 6, 3, groups=2)
        self.bn1 = nn.BatchNorm2d(6)
        self.deconv = nn.ConvTranspose2d(6, 4, 2)
        self.lstm = nn.LSTM(8, 5, num_layers=2)
        self.attn = nn.MultiheadAttention(8, 2)
        self.norm = nn.LayerNorm(8)
        self.prelu = nn.PReLU()
        self.fc = nn.Linear(8, 3)


ROOT = 8**-0.5

STARTS: Mapping[str, Law] = {
    "embedding.weight": Normal(0.0, 1.0),
    "conv1.weight": Uniform(-(18**-0.5), 18**-0.5),
    "conv1.bias": Uniform(-(18**-0.5), 18**-0.5),
    "bn1.weight": Constant(1.0),
    "bn1.bias": Constant(0.0),
    "bn1.running_mean": Constant(0.0),
    "bn1.running_var": Constant(1.0),
    "bn1.num_batches_tracked": Constant(0.0),
    "deconv.weight": Uniform(-0.25, 0.25),
    "deconv.bias": Uniform(-0.25, 0.25),
    **{
        f"lstm.{name}_l{number}": Uniform(-(5**-0.5), 5**-0.5)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        for number in (0, 1)
    },
    "attn.in_proj_weight": Uniform(-((6 / 32) ** 0.5), (6 / 32) ** 0.5),
    "attn.in_proj_bias": Constant(0.0),
    "attn.out_proj.weight": Uniform(-ROOT, ROOT),
    "attn.out_proj.bias": Constant(0.0),
    "norm.weight": Constant(1.0),
    "norm.bias": Constant(0.0),
    "prelu.weight": Constant(0.25),
    "fc.weight": Uniform(-ROOT, ROOT),
    "fc.bias": Uniform(-ROOT, ROOT),
}


def _trained(module: nn.Module) -> dict[str, Tensor]:
    """The state dict of a module with values that no start has."""
    return {key: torch.full_like(value, 7) for key, value in module.state_dict().items()}


def _agree(law: Law | None, expected: Law) -> bool:
    return type(law) is type(expected) and (law.low, law.high, law.std) == pytest.approx(
        (expected.low, expected.high, expected.std), rel=1e-12
    )


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.model."])
def test_names_and_shapes_tell_how_each_tensor_of_a_file_starts(prefix: str) -> None:
    save_file({prefix + key: value for key, value in _trained(Net()).items()}, "net.safetensors")

    decided = plan("net.safetensors", ["*=reset"])

    laws = {step.key.removeprefix(prefix): step.law for step in decided.steps}
    assert laws.keys() == STARTS.keys()
    assert [key for key, law in laws.items() if not _agree(law, STARTS[key])] == []
    assert decided.warnings == ()


@pytest.mark.parametrize("stream", ["torch", "philox"])
def test_a_weight_and_its_bias_are_drawn_by_the_initializers_of_these_bounds(stream: str) -> None:
    """The stream of a key knows nothing of `reset`: the same law gives the same bytes."""
    save_file(_trained(nn.Sequential(nn.Linear(9, 4))), "net.safetensors")
    by_hand = [f"0.weight=kaiming_uniform:a={5**0.5}", f"0.bias=uniform:a={-1 / 3},b={1 / 3}"]

    rewrite("net.safetensors", ["*=reset"], "reset.safetensors", stream=stream)
    rewrite("net.safetensors", by_hand, "by_hand.safetensors", stream=stream)

    one, other = load_file("reset.safetensors"), load_file("by_hand.safetensors")
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_torch_stream_draws_what_reset_parameters_draws() -> None:
    """Of a weight, from the generator that its key seeds."""
    from reinit_cli.streams.torch.stream import TorchStream

    layer = nn.Conv2d(3, 5, 3)
    save_file(_trained(nn.Sequential(layer)), "net.safetensors")

    rewrite("net.safetensors", ["*=reset"], "out.safetensors", stream="torch", seed=3)

    with torch.random.fork_rng():
        torch.manual_seed(TorchStream().seed_for(3, "0.weight"))
        layer.reset_parameters()
    assert torch.equal(load_file("out.safetensors")["0.weight"], layer.weight)


def test_a_matrix_that_nothing_tells_is_linear_and_the_plan_says_so() -> None:
    save_file({"a.weight": torch.ones(3, 4), "b.weight": torch.ones(3, 9)}, "net.safetensors")

    decided = plan("net.safetensors", ["*=reset"])

    assert [step.law.high for step in decided.steps if step.law] == pytest.approx([1 / 2, 1 / 3])
    assert decided.warnings == (
        "rule '*=reset' takes 'a.weight' and 1 more for the weights of linear layers, because "
        "they have two dimensions; arch= tells the layers of a model",
    )


def test_what_may_be_a_bilinear_is_never_filled_as_a_convolution_in_silence() -> None:
    """nn.Bilinear: U(±1/√in1_features); as a Conv1d the bound would be 1/√(in1 · in2)."""
    net = nn.ModuleDict({"pair": nn.Bilinear(20, 30, 4), "short": nn.Bilinear(20, 5, 4)})
    torch.save(net.state_dict(), "net.pt")

    decided = plan("net.pt", ["*=reset"])

    assert {step.key for step in decided.steps if step.action == "skip"} == {
        "pair.weight",
        "pair.bias",
    }
    assert decided.warnings == (
        "rule '*=reset' takes 'short.weight' and 1 more for those of a convolution, because their "
        "last dimension is short; arch= tells the layers of a model",
    )
    laws = {step.key: step.law for step in plan(net, ["*=reset"]).steps}
    assert set(laws.values()) == {Uniform(-(20**-0.5), 20**-0.5)}


@pytest.mark.parametrize(
    ("config", "value"),
    [
        ({"model_type": "llava", "text_config": {"model_type": "gemma"}}, 0.0),
        ({"model_type": "llava", "text_config": {"model_type": "llama"}}, 1.0),
        ({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}}, 0.0),
    ],
)
def test_norms_start_as_the_config_of_the_text_says(config: object, value: float) -> None:
    """transformers GemmaRMSNorm multiplies by 1 + weight, and its weight starts as zeros."""
    folder = Path("model")
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    state = {
        "language_model.norm.weight": torch.full((4,), 7.0),
        "vision_tower.norm.weight": torch.full((4,), 7.0),
    }
    save_file(state, folder / "model.safetensors")

    laws = {step.key: step.law for step in plan("model", ["*=reset"]).steps}

    assert laws["language_model.norm.weight"] == Constant(value)
    assert laws["vision_tower.norm.weight"] == Constant(1.0)


VIT = {
    "cls_token": (1, 1, 8),
    "pos_embed": (1, 5, 8),
    "blocks.0.ls1.gamma": (8,),
    "blocks.0.attn.qkv.weight": (24, 8),
    "blocks.0.attn.qkv.bias": (24,),
    "blocks.0.norm1.weight": (8,),
    "blocks.0.norm1.bias": (8,),
}


@pytest.mark.parametrize("key", ["cls_token", "pos_embed", "blocks.0.ls1.gamma"])
def test_a_parameter_of_no_layer_is_skipped_by_a_wildcard_and_refused_by_name(key: str) -> None:
    save_file({each: torch.ones(shape) for each, shape in VIT.items()}, "vit.safetensors")

    step = next(step for step in plan("vit.safetensors", ["*=reset"]).steps if step.key == key)

    assert (step.action, step.reason) == ("skip", "what kind of layer it is of cannot be told")
    with pytest.raises(UnfillableError, match="what kind of layer it is of cannot be told"):
        plan("vit.safetensors", [f"{key}=reset"])


def test_an_embedding_decides_on_a_tensor_that_it_shares_with_a_linear_layer() -> None:
    model = nn.ModuleDict({"embed_tokens": nn.Embedding(9, 4), "a_head": nn.Linear(4, 9)})
    model["a_head"].weight = model["embed_tokens"].weight
    torch.save(model.state_dict(), "tied.pt")

    outcome = rewrite("tied.pt", ["*=reset"], "out.pt", record="out.json")

    steps = {step.key: step for step in outcome.job.plan.steps}
    assert steps["a_head.weight"].law == steps["embed_tokens.weight"].law == Normal(0.0, 1.0)
    assert _agree(steps["a_head.bias"].law, Uniform(-0.5, 0.5))
    assert outcome.job.plan.warnings == (
        "'a_head.weight' is tied to 'embed_tokens.weight', and starts as this embedding",
    )
    written = torch.load("out.pt")
    assert torch.equal(written["a_head.weight"], written["embed_tokens.weight"])
    assert written["a_head.weight"].abs().max() > 0.5
    assert verify("out.pt", record="out.json").holds


def test_a_part_of_a_tied_tensor_is_verified_too() -> None:
    model = nn.ModuleDict({"embed_tokens": nn.Embedding(9, 4), "a_head": nn.Linear(4, 9)})
    model["a_head"].weight = model["embed_tokens"].weight
    torch.save(model.state_dict(), "tied.pt")
    rules = ["*=normal:std=0.02", "embed_tokens.weight[5:]=reset"]

    rewrite("tied.pt", rules, "out.pt", record="out.json")
    rewrite("tied.pt", ["embed_tokens.weight=reset"], "all.pt")

    assert torch.equal(
        torch.load("out.pt")["a_head.weight"][5:], torch.load("all.pt")["a_head.weight"][5:]
    )
    assert verify("out.pt", record="out.json").holds


def test_norms_of_weight_norm_follow_the_directions_that_are_reset() -> None:
    module = nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 4)))
    save_file(_trained(module), "net.safetensors")

    rewrite("net.safetensors", ["*=reset"], "out.safetensors")

    module.load_state_dict(load_file("out.safetensors"))
    direction = load_file("out.safetensors")["0.parametrizations.weight.original1"]
    torch.testing.assert_close(module[0].weight, direction)
    assert direction.abs().max() <= 6**-0.5
    assert module[0].bias.abs().max() <= 6**-0.5


SPECTRAL: Mapping[str, Callable[[nn.Module], nn.Module]] = {
    "old": nn.utils.spectral_norm,
    "new": parametrizations.spectral_norm,
}

NORMED: Mapping[str, Callable[[], nn.Module]] = {
    "Linear": lambda: nn.Linear(7, 5),
    "Conv2d": lambda: nn.Conv2d(4, 6, 3),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(4, 6, 2),
    "square ConvTranspose1d": lambda: nn.ConvTranspose1d(6, 6, 3),
}


@pytest.mark.filterwarnings("ignore:.*spectral_norm:FutureWarning")
@pytest.mark.parametrize("is_module", [False, True], ids=["file", "module"])
@pytest.mark.parametrize("stream", ["torch", "philox"])
@pytest.mark.parametrize("layer", NORMED)
@pytest.mark.parametrize("way", SPECTRAL)
def test_spectral_norm_divides_a_weight_that_is_reset_by_its_own_norm(
    way: str, layer: str, stream: str, is_module: bool
) -> None:
    """The vectors are those of the new weight, so that the layer is right before it is trained."""
    module = nn.ModuleDict(
        {layer.rsplit(maxsplit=1)[-1].lower(): SPECTRAL[way](NORMED[layer]())}
    ).eval()
    if is_module:
        apply_(module, ["*=reset"], stream=stream)
    else:
        save_file(_trained(module), "net.safetensors")
        rewrite("net.safetensors", ["*=reset"], "out.safetensors", stream=stream, record=True)
        assert verify("out.safetensors").holds
        module.load_state_dict(load_file("out.safetensors"))

    (normed,) = module.values()
    normed(
        torch.zeros(
            (4, 4, 9, 9)
            if "Conv2d" in layer or "2d" in layer
            else (6, 9)
            if "1d" in layer
            else (7,)
        )
    )
    dim = 1 if "Transpose" in layer else 0
    matrix = normed.weight.detach().movedim(dim, 0).flatten(1)
    largest = torch.linalg.matrix_norm(matrix, 2).item()
    # As torch, the power method stops after 15 steps, and finds a little less than the norm.
    assert 1 - 1e-4 < largest < 1.2


def test_vectors_of_spectral_norm_stay_where_another_rule_fills_their_weight() -> None:
    module = nn.ModuleDict({"fc": parametrizations.spectral_norm(nn.Linear(7, 5))})
    save_file(_trained(module), "net.safetensors")

    decided = plan("net.safetensors", ["*=reset", "*.original=orthogonal"])

    steps = {step.key: (step.action, step.reason) for step in decided.steps}
    assert steps["fc.parametrizations.weight.0._u"] == ("skip", "a vector of spectral norm")
    assert steps["fc.bias"] == ("fill", "")


def test_optimizers_masks_and_quantized_weights_stay_as_they_are() -> None:
    model = nn.Sequential(nn.Linear(6, 4))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(6)).sum().backward()
    optimizer.step()
    state = {
        **model.state_dict(),
        "attn_mask": torch.ones(4, 4),
        "1.weight": torch.ones(4, 6, dtype=torch.int8),
        "1.SCB": torch.ones(4),
    }
    torch.save({"state_dict": state, "optimizer": optimizer.state_dict()}, "net.pt")

    rewrite("net.pt", ["*=reset"], "out.pt")

    before, after = torch.load("net.pt"), torch.load("out.pt")
    assert not torch.equal(after["state_dict"]["0.weight"], state["0.weight"])
    for key in ("attn_mask", "1.weight", "1.SCB"):
        assert torch.equal(after["state_dict"][key], state[key]), key
    for name, value in before["optimizer"]["state"][0].items():
        assert torch.equal(after["optimizer"]["state"][0][name], value), name


def test_a_record_of_a_reset_is_verified() -> None:
    save_file(_trained(Net()), "net.safetensors")

    rewrite("net.safetensors", ["*=reset"], "out.safetensors", record=True)

    assert verify("out.safetensors").holds


LORA = "base_model.model.model.layers.0.self_attn.q_proj"

ADAPTERS: Mapping[str, Law] = {
    f"{LORA}.lora_A.weight": Uniform(-0.25, 0.25),
    f"{LORA}.lora_B.weight": Constant(0.0),
    f"{LORA}.lora_A.default.weight": Uniform(-0.25, 0.25),
    f"{LORA}.lora_B.default.bias": Constant(0.0),
    f"{LORA}.lora_embedding_A": Constant(0.0),
    f"{LORA}.lora_embedding_B.default": Normal(0.0, 1.0),
    f"{LORA}.ia3_l": Constant(1.0),
    f"{LORA}.hada_w2_b": Constant(0.0),
    f"{LORA}.oft_R.weight": Constant(0.0),
    f"{LORA}.oft_R.default.weight": Constant(0.0),
    f"{LORA}.boft_R": Constant(0.0),
    f"{LORA}.boft_s": Constant(1.0),
    f"{LORA}.lokr_w2": Uniform(-0.25, 0.25),
    "lora_unet_mid_block.lora_down.weight": Uniform(-0.25, 0.25),
    "lora_unet_mid_block.lora_up.weight": Constant(0.0),
}


@pytest.mark.parametrize("key", ADAPTERS)
def test_an_adapter_starts_as_peft_starts_it(key: str) -> None:
    """A as a Linear, and B with zeros, so that nothing changes."""
    shape = (4,) if key.endswith(("bias", "ia3_l")) else (4, 16)
    save_file({key: torch.ones(shape)}, "adapter.safetensors")

    decided = plan("adapter.safetensors", ["*=reset"])
    (step,) = decided.steps

    assert _agree(step.law, ADAPTERS[key])
    assert decided.warnings == ()


WRAPPERS = ("base_layer", "original_module", "modules_to_save.default", "modules_to_save")


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_layer_that_peft_wraps_starts_as_it_does_alone(wrapper: str) -> None:
    plain = {
        "wte.weight": torch.ones(30, 16),
        "fc.weight": torch.ones(4, 16),
        "fc.bias": torch.ones(4),
        "ln_1.weight": torch.full((16,), 3.0),
        "ln_1.bias": torch.ones(16),
        "h.0.attn.c_attn.weight": torch.ones(16, 48),
        "h.0.attn.c_attn.bias": torch.ones(48),
        "h.0.attn.c_proj.weight": torch.ones(16, 16),
        "h.0.attn.c_proj.bias": torch.ones(16),
    }
    wrapped = {f".{wrapper}.".join(key.rsplit(".", 1)): each for key, each in plain.items()}

    alone, inside = plan(plain, ["*=reset"]), plan(wrapped, ["*=reset"])

    assert [step.law for step in inside.fills] == [step.law for step in alone.fills]
    assert len(inside.fills) == len(plain)
    assert inside.warnings == alone.warnings


class Doubled(nn.Linear):
    """A layer with a start of its own."""

    def reset_parameters(self) -> None:
        nn.init.constant_(self.weight, 2.0)
        nn.init.normal_(self.bias, std=0.5)


class Norm(nn.RMSNorm):
    """A norm that multiplies by one more than its weight."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)


class Own(nn.Module):
    """Layers of a user, which other constructors fill in other ways."""

    def __init__(self, classes: int = 900) -> None:
        super().__init__()
        self.first = Doubled(4, 900)
        self.norm = Norm(4)
        self.act = nn.PReLU(init=0.5)
        self.out = parametrizations.weight_norm(nn.Linear(4, classes))
        self.head = nn.Linear(4, classes)
        nn.init.zeros_(self.head.weight)


def _check_own(state: Mapping[str, Tensor]) -> None:
    assert torch.equal(state["first.weight"], torch.full((900, 4), 2.0))
    assert stats.kstest(state["first.bias"].double() / 0.5, "norm").pvalue > 1e-4
    assert torch.equal(state["norm.weight"], torch.zeros(4))
    assert state["act.weight"].item() == 0.5
    for key in ("head.weight", "out.parametrizations.weight.original1", "out.bias"):
        assert stats.kstest(state[key].flatten().double() + 0.5, "uniform").pvalue > 1e-4, key


def test_a_module_in_memory_starts_by_its_own_reset_parameters() -> None:
    module = Own()

    apply_(module, ["*=reset"])

    _check_own(module.state_dict())


def test_with_an_architecture_its_layers_say_how_they_start_and_not_its_constructor() -> None:
    save_file(_trained(Own()), "own.safetensors")

    rewrite("own.safetensors", ["*=reset"], "out.safetensors", arch=Own, record=True)

    _check_own(load_file("out.safetensors"))
    verdict = verify("out.safetensors")
    assert verdict.holds
    assert dict(verdict.undrawn) == dict.fromkeys(
        ("first.weight", "first.bias", "norm.weight", "act.weight"),
        "its layer's own code says how it starts, which --arch would name",
    )


def test_a_bias_is_drawn_by_the_weight_that_is_here_and_not_by_that_of_the_architecture() -> None:
    """A checkpoint may have another number of classes than the model by default."""
    shapes = {"fc.weight": (10, 512), "fc.bias": (10,), "layer1.0.bn1.weight": (64,)}
    save_file({key: torch.ones(shape) for key, shape in shapes.items()}, "r.safetensors")

    decided = plan("r.safetensors", ["*=reset"], arch="resnet18")

    laws = {step.key: step.law for step in decided.steps}
    assert _agree(laws["fc.weight"], Uniform(-(512**-0.5), 512**-0.5))
    assert _agree(laws["fc.bias"], Uniform(-(512**-0.5), 512**-0.5))
    assert laws["layer1.0.bn1.weight"] == Constant(1.0)


def test_a_rule_that_fills_nothing_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"cls_token": torch.ones(1, 1, 8)}, "m.safetensors")

    assert main(["m.safetensors", "-r", "*=reset", "-n"]) == 2

    assert capsys.readouterr().err.splitlines()[0] == (
        "error: rule '*=reset' fills nothing of m.safetensors: "
        "1 skipped: what kind of layer it is of cannot be told"
    )


@pytest.mark.skipif(not CHECKPOINTS.is_dir(), reason="the checkpoints of others are not here")
@pytest.mark.parametrize(
    "name",
    ["facenet_pnet.pt", "facenet_rnet.pt", "lpips_0.1_alex.pth", "silero_16k.safetensors"],
)
def test_real_checkpoints_come_out_whole(name: str) -> None:
    decided = plan(str(CHECKPOINTS / name), ["*=reset"])

    assert [step.key for step in decided.steps if step.action != "fill"] == []
    assert decided.warnings == ()
    for step in decided.steps:
        weight = next(
            (each.tensor.shape for each in decided.steps if each.key == step.key[:-4] + "weight"),
            (),
        )
        if step.key.endswith(".bias"):
            fan_in = torch.Size(weight[1:]).numel()
            assert _agree(step.law, Uniform(-(fan_in**-0.5), fan_in**-0.5)), step.key
