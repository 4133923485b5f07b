"""`default`: every tensor as its architecture's own constructor fills it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import stats
from torch import nn
from torchvision.models import get_model, list_models

from reinit_cli import apply_, plan, rewrite
from reinit_cli.checkpoints.models.architecture import Torchvision, architecture_of, constructed
from reinit_cli.checkpoints.models.constructor import laws_of
from reinit_cli.checkpoints.models.torchvision import has_backbone_weights
from reinit_cli.errors import (
    RuleError,
    UnfillableError,
    UnknownNameError,
    UnmatchedRuleError,
)
from reinit_cli.initializers import Law, UndefinedError
from reinit_cli.initializers.law import Constant, Normal, Uniform
from reinit_cli.initializers.truncated import TruncatedNormal
from reinit_cli.streams.torch.stream import TorchStream
from reinit_cli.tensors.live import infos_of


def _fresh(name: str) -> dict[str, torch.Tensor]:
    """A model as its own constructor makes it, without our help."""
    backbone = {"weights_backbone": None} if has_backbone_weights(name) else {}
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(11)
        return get_model(name, weights=None, **backbone).state_dict()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:FutureWarning")
@pytest.mark.parametrize("name", list_models())
def test_the_laws_of_every_torchvision_model_are_those_of_a_fresh_one(name: str) -> None:
    fresh = _fresh(name)
    architecture = Torchvision(name, infos_of(fresh))
    pooled = []

    for key, values in fresh.items():
        law = architecture.law(key, tuple(values.shape))
        if not law.is_random:
            filled = torch.empty_like(values)
            law.fill(filled.numpy(), TorchStream().chance(0, "cpu"))
            assert torch.equal(filled, values), key
            continue
        n = values.numel()
        assert law.low <= values.min() <= values.max() <= law.high, key
        if n >= 100:
            assert values.mean().item() == pytest.approx(
                law.mean, abs=5.5 * law.std / math.sqrt(n)
            ), key
            assert values.std().item() == pytest.approx(law.std, rel=5.5 / math.sqrt(2 * n)), key
        pooled.append(_probabilities(law, values.flatten()[:: max(1, n // 200)][:200]))

    together = torch.cat(pooled).numpy()
    assert stats.kstest(together, "uniform").pvalue > 1e-4


def _probabilities(law: Law, values: torch.Tensor) -> torch.Tensor:
    """What the law's distribution says of each value: evenly spread where they follow it."""
    return torch.tensor([law.cdf(value) for value in values.tolist()], dtype=torch.float64)


PUBLISHED = {
    ("vit_b_16", "encoder.pos_embedding"): Normal(0.0, 0.02),
    ("vit_b_16", "heads.head.weight"): Constant(0.0),
    ("vit_b_16", "heads.head.bias"): Constant(0.0),
    ("vit_b_16", "encoder.layers.encoder_layer_0.mlp.0.bias"): Normal(0.0, 1e-6),
    # Glorot on the fused matrix as one of (3E, E).
    ("vit_b_16", "encoder.layers.encoder_layer_0.self_attention.in_proj_weight"): Uniform(
        -math.sqrt(6 / (768 + 3 * 768)), math.sqrt(6 / (768 + 3 * 768))
    ),
    ("resnet18", "conv1.weight"): Normal(0.0, math.sqrt(2 / (64 * 49))),
    ("resnet18", "fc.weight"): Uniform(-1 / math.sqrt(512), 1 / math.sqrt(512)),
    ("resnet18", "bn1.weight"): Constant(1.0),
    ("resnet18", "bn1.running_mean"): Constant(0.0),
    ("resnet18", "bn1.running_var"): Constant(1.0),
    ("resnet18", "bn1.num_batches_tracked"): Constant(0),
    ("vgg11", "classifier.6.weight"): Normal(0.0, 0.01),
    ("efficientnet_b0", "classifier.1.weight"): Uniform(-1 / math.sqrt(1000), 1 / math.sqrt(1000)),
    ("squeezenet1_0", "classifier.1.weight"): Normal(0.0, 0.01),
    ("swin_t", "head.weight"): TruncatedNormal(0.0, 0.02, -2.0, 2.0),
    ("retinanet_resnet50_fpn", "head.classification_head.cls_logits.bias"): Constant(
        -math.log(0.99 / 0.01)
    ),
    ("fcos_resnet50_fpn", "head.classification_head.cls_logits.bias"): Constant(
        -math.log(0.99 / 0.01)
    ),
}


@pytest.mark.parametrize(("name", "key"), PUBLISHED, ids=str)
def test_published_defaults_are_found(name: str, key: str) -> None:
    model = constructed(name)
    shape = model.shape(key)
    assert shape is not None

    law, expected = model.law(key, shape), PUBLISHED[name, key]

    assert type(law) is type(expected)
    assert (law.mean, law.std) == pytest.approx((expected.mean, expected.std), rel=1e-6)
    assert (law.low, law.high) == pytest.approx((expected.low, expected.high), rel=1e-6)


def test_a_wildcard_takes_running_statistics_and_counters_too() -> None:
    decided = plan("resnet18", ["*=default"], weights="none")

    assert all(step.action == "fill" for step in decided.steps)


def test_a_model_is_its_own_architecture_and_a_file_names_it(tmp_path: Path) -> None:
    path = tmp_path / "alexnet.safetensors"
    rewrite("alexnet", ["*=zeros"], str(path), weights="none")

    with pytest.raises(RuleError, match="`default` needs an architecture"):
        plan(str(path), ["*=default"])
    named = plan(str(path), ["classifier.*=default"], arch="alexnet")
    own = plan("alexnet", ["classifier.*=default"], weights="none")

    assert [step.law for step in named.fills] == [step.law for step in own.fills]
    with pytest.raises(UnknownNameError, match="no torchvision model 'alexnt'"):
        plan(str(path), ["*=default"], arch="alexnt")


def test_a_tensor_that_is_not_the_architectures_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"fc.weight": torch.zeros(5, 7), "fc.bias": torch.zeros(1000)}, path)

    decided = plan(str(path), ["*=default"], arch="resnet18")

    assert [step.action for step in decided.steps] == ["fill", "skip"]
    assert decided.steps[1].reason == "resnet18 makes it 1000x512"
    with pytest.raises(UnfillableError, match="resnet18 makes it 1000x512"):
        plan(str(path), ["fc.weight=default"], arch="resnet18")
    with pytest.raises(UnmatchedRuleError, match="alexnet has no such key"):
        plan(str(path), ["*=default"], arch="alexnet")


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.encoder."])
@pytest.mark.parametrize(
    ("name", "head"),
    [("resnet18", "fc"), ("efficientnet_b0", "classifier.1"), ("vit_b_16", "heads.head")],
)
def test_the_number_of_classes_is_read_from_the_head(name: str, head: str, prefix: str) -> None:
    with torch.random.fork_rng():
        state = get_model(name, weights=None, num_classes=7).state_dict()
    state = {prefix + key: value for key, value in state.items()}

    law = Torchvision(name, infos_of(state)).law(
        f"{prefix}{head}.weight", tuple(state[f"{prefix}{head}.weight"].shape)
    )

    expected = constructed(name, num_classes=7)
    shape = expected.shape(f"{head}.weight")
    assert shape is not None
    assert shape[0] == 7
    assert law == expected.law(f"{head}.weight", shape)


def test_the_classes_of_a_detector_are_read_from_its_anchors() -> None:
    with torch.random.fork_rng():
        state = get_model(
            "retinanet_resnet50_fpn", weights=None, weights_backbone=None, num_classes=5
        ).state_dict()
    key = "head.classification_head.cls_logits.weight"

    law = Torchvision("retinanet_resnet50_fpn", infos_of(state)).law(key, tuple(state[key].shape))

    assert law == Normal(0.0, 0.01)


def test_a_quantized_model_has_no_tensors_of_its_constructor() -> None:
    with pytest.raises(UnmatchedRuleError, match="fills nothing of quantized_resnet18"):
        plan("quantized_resnet18", ["layer*=default"])


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("vit_b_16", "IMAGENET1K_SWAG_E2E_V1"),  # of larger images
        ("fasterrcnn_resnet50_fpn", "DEFAULT"),  # of frozen norms
        ("googlenet", "DEFAULT"),  # whose pretrained constructor draws nothing
    ],
)
def test_the_arguments_of_pretrained_weights_are_followed_where_shapes_depend_on_them(
    name: str, weights: str
) -> None:
    decided = plan(name, ["*=default"], weights=weights)

    assert {step.action for step in decided.steps} == {"fill"}
    if name == "googlenet":
        laws = {step.key: step.law for step in decided.steps}
        assert laws["conv1.conv.weight"] == TruncatedNormal(0.0, 0.01, -2.0, 2.0)


# --- modules of one's own ----------------------------------------------------------------------


def _values_of(build: Callable[[], nn.Module], **options: object) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        module = build()
    with torch.no_grad():
        for each in module.state_dict().values():
            each.fill_(77)
    apply_(module, ["*=default"], **options)  # type: ignore[arg-type]
    return module.state_dict()


def test_the_layers_of_a_module_fill_themselves_again() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(50, 40, padding_idx=0)
            self.lstm = nn.LSTM(40, 64)
            self.attention = nn.MultiheadAttention(64, 4)
            self.norm = nn.BatchNorm1d(64)
            self.act = nn.PReLU()

    state = _values_of(Net)

    assert torch.equal(state["embed.weight"][0], torch.zeros(40))
    assert state["embed.weight"][1:].std().item() == pytest.approx(1, abs=0.1)
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        values = state[f"lstm.{name}"]
        assert 0.9 / 8 < values.abs().max() <= 1 / 8
    bound = math.sqrt(6 / (64 + 192))
    assert 0.95 * bound < state["attention.in_proj_weight"].abs().max() <= bound
    assert torch.equal(state["attention.in_proj_bias"], torch.zeros(192))
    assert torch.equal(state["attention.out_proj.bias"], torch.zeros(64))
    assert torch.equal(state["norm.weight"], torch.ones(64))
    assert torch.equal(state["norm.running_var"], torch.ones(64))
    assert state["norm.num_batches_tracked"].item() == 0
    assert state["act.weight"].item() == 0.25


def test_a_constructor_of_ones_own_is_an_architecture() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(30, 20)
            self.scale = nn.Parameter(torch.ones(20) * 1e-6)
            nn.init.trunc_normal_(self.fc.weight, std=0.5, a=-0.5, b=0.5)
            self.fc.bias.data[5:10].zero_()

    state = _values_of(Net, arch=Net)

    assert state["fc.weight"].abs().max() <= 0.5
    assert torch.equal(state["fc.bias"] == 0, (torch.arange(20) >= 5) & (torch.arange(20) < 10))
    assert torch.equal(state["scale"], torch.full((20,), 1e-6))


def test_a_parameter_that_no_layer_fills_is_said_to_be_so() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(3))
            self.fc = nn.Linear(3, 3)

    decided = apply_(Net(), ["*=default"])

    assert [step.reason for step in decided.steps if step.action == "skip"] == [
        "no layer has a reset_parameters that fills it"
    ]


def test_a_layer_that_cannot_be_reset_is_said_to_be_so() -> None:
    class Odd(nn.Linear):
        def reset_parameters(self) -> None:
            if hasattr(self, "bias") and self.bias is not None and self.bias.grad_fn is None:
                super().reset_parameters()
            if getattr(self, "is_built", False):
                raise RuntimeError("only once")

    net = nn.Sequential(nn.Linear(3, 3), Odd(3, 3))
    net[1].is_built = True

    decided = apply_(net, ["*=default"])

    assert {step.key: step.reason for step in decided.steps if step.action == "skip"} == {
        "1.weight": "its layer's reset_parameters fails: RuntimeError",
        "1.bias": "its layer's reset_parameters fails: RuntimeError",
    }


def test_what_a_constructor_computes_from_chance_is_not_guessed() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(30, 30)
            self.order = nn.Parameter(torch.randperm(30).float())
            self.angles = nn.Parameter(torch.randn(8).sin())

    architecture = architecture_of(Net, ())

    for key, problem in (("order", "draws it by torch's randperm"), ("angles", "torch's sin")):
        shape = tuple(Net().state_dict()[key].shape)
        with pytest.raises(UndefinedError, match=problem):
            architecture.law(key, shape)
    assert architecture.law("fc.bias", (30,)) == Uniform(-1 / math.sqrt(30), 1 / math.sqrt(30))


def test_recording_draws_nothing_and_leaves_torch_as_it_was() -> None:
    before = torch.get_rng_state()
    functions = dict(vars(torch.nn.init))
    during: list[bool] = []

    def build() -> dict[str, torch.Tensor]:
        during.append(dict(vars(torch.nn.init)) == functions)
        return nn.Linear(10, 10).state_dict()

    laws_of(build)

    assert torch.equal(torch.get_rng_state(), before)
    assert set(during) == {True}


@pytest.mark.parametrize(
    "bounds", [(0.0, 0.5, -2.0, 2.0), (0.0, 1.0, 1.9, 9.0), (3.0, 1.0, -1.0, 2.0)], ids=str
)
def test_a_truncated_normal_is_recorded_whichever_way_torch_would_draw_it(
    bounds: tuple[float, float, float, float],
) -> None:
    """torch draws normals until all lie inside, or uniforms where few normals would."""

    def build() -> dict[str, torch.Tensor]:
        whole = torch.empty(6, 5)
        nn.init.trunc_normal_(whole[:2], *bounds)
        nn.init.normal_(whole[2:4])
        nn.init.trunc_normal_(whole[4:], *bounds)
        return {"first": whole[:2], "second": whole[2:4], "third": whole[4:]}

    laws = {key: each.law for key, each in laws_of(build).items()}

    law = TruncatedNormal(*bounds)
    assert laws == {"first": law, "second": Normal(0.0, 1.0), "third": law}


def test_two_threads_that_record_leave_torch_as_it_was() -> None:
    """The first to begin ends first: what the second found would be the first's."""
    second_began, first_ended = threading.Event(), threading.Event()
    laws: dict[str, object] = {}

    def first() -> dict[str, torch.Tensor]:
        second_began.wait(0.5)
        return {"w": nn.init.trunc_normal_(torch.empty(3))}

    def second() -> dict[str, torch.Tensor]:
        second_began.set()
        first_ended.wait(5)
        return {"w": nn.init.trunc_normal_(torch.empty(3), std=0.5)}

    def record(build: Callable[[], dict[str, torch.Tensor]], ended: threading.Event) -> None:
        laws[build.__name__] = laws_of(build)["w"].law
        ended.set()

    state = torch.get_rng_state()
    threads = [
        threading.Thread(target=record, args=(first, first_ended)),
        threading.Thread(target=record, args=(second, threading.Event())),
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert laws == {"first": TruncatedNormal(0, 1, -2, 2), "second": TruncatedNormal(0, 0.5, -2, 2)}
    assert torch.equal(torch.get_rng_state(), state)
    assert nn.init.trunc_normal_(torch.zeros(10), generator=torch.Generator()).all()


def test_what_another_thread_does_meanwhile_is_done_and_not_recorded() -> None:
    drawn: list[torch.Tensor] = []

    def elsewhere() -> None:
        generator = torch.Generator().manual_seed(3)
        drawn.append(nn.init.trunc_normal_(torch.zeros(10), generator=generator))
        with pytest.raises(RuntimeError, match="Missing key"):
            nn.Linear(2, 2).load_state_dict({})

    def build() -> dict[str, torch.Tensor]:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        return get_model("alexnet", weights=None).state_dict()

    laws = laws_of(build)

    expected = nn.init.trunc_normal_(torch.zeros(10), generator=torch.Generator().manual_seed(3))
    assert torch.equal(drawn[0], expected)
    assert len(laws) == 16


def test_a_constructor_that_fails_leaves_torch_as_it_was() -> None:
    state = torch.get_rng_state()

    def build() -> dict[str, torch.Tensor]:
        torch.randperm(9)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        laws_of(build)

    assert torch.equal(torch.get_rng_state(), state)
    assert nn.init.trunc_normal_(torch.zeros(10), generator=torch.Generator()).all()


def test_a_copied_layer_has_the_law_of_the_first() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, dim_feedforward=8)

    laws = laws_of(lambda: nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).state_dict())

    assert {key for key, each in laws.items() if not hasattr(each.law, "is_random")} == set()


def test_the_whole_of_a_model_drawn_by_default_follows_its_laws(tmp_path: Path) -> None:
    done = rewrite(
        "mobilenet_v3_small",
        ["*=default"],
        str(tmp_path / "m.safetensors"),
        weights="none",
        check=True,
    )

    assert not done.failures
    assert load_file(tmp_path / "m.safetensors")["classifier.3.bias"].abs().max() == 0
