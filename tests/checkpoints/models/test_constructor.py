"""What a constructor does to its tensors is followed, and its draws are not drawn meanwhile."""

from __future__ import annotations

import copy
import math
import random
import resource
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from reinit_cli import apply_, plan, seed_for
from reinit_cli.checkpoints.models.architecture import architecture_of
from reinit_cli.checkpoints.models.constructor import laws_of
from reinit_cli.checkpoints.models.recording.fills import Unknown
from reinit_cli.initializers import Law, UndefinedError
from reinit_cli.initializers.families.identities import Identity
from reinit_cli.initializers.families.orthogonals import Orthogonal
from reinit_cli.initializers.families.replays import Patched, Taken, Values
from reinit_cli.initializers.families.sparses import SparseNormal
from reinit_cli.initializers.law import Constant, Normal, Uniform
from reinit_cli.initializers.truncated import TruncatedNormal
from reinit_cli.streams.torch.stream import TorchStream

Make = Callable[[], torch.Tensor]


def _law(make: Make) -> Law | Unknown:
    return laws_of(lambda: {"w": make()})["w"].law


def _drawn(law: Law, shape: tuple[int, ...]) -> np.ndarray:  # type: ignore[type-arg]
    values = np.empty(shape, np.float32)
    law.fill(values, TorchStream().chance(5, "cpu"))
    return values


def _old_trunc_normal_(tensor: torch.Tensor, std: float, low: float, high: float) -> torch.Tensor:
    """Draw by the inverse of the normal's distribution, as timm and mmengine do."""

    def mass(x: float) -> float:
        return (1.0 + math.erf(x / math.sqrt(2.0))) / 2.0

    with torch.no_grad():
        tensor.uniform_(2 * mass(low / std) - 1, 2 * mass(high / std) - 1)
        return tensor.erfinv_().mul_(std * math.sqrt(2.0)).add_(0.0).clamp_(min=low, max=high)


ARITHMETIC = {
    "in place": (lambda: torch.empty(9).normal_().mul_(0.5).add_(3), Normal(3, 0.5)),
    "out of place": (lambda: 1 - torch.randn(9) / 4, Normal(1, 0.25)),
    "by a tensor": (lambda: torch.tensor(0.25) * torch.randn(9), Normal(0, 0.25)),
    "alpha": (lambda: torch.ones(9).sub(torch.randn(9), alpha=2), Normal(1, 2)),
    "uniform": (lambda: torch.rand(9) * 2 - 1, Uniform(-1, 1)),
    "turned": (lambda: torch.rand(9).neg_().mul_(-3).sub_(1).neg(), Uniform(-2, 1)),
    "normal": (lambda: torch.normal(2.0, 3.0, (9,)), Normal(2, 3)),
    "like": (lambda: torch.randn_like(torch.empty(9)) * 0.1, Normal(0, 0.1)),
    "nothing left": (lambda: torch.randn(9) * 0, Constant(0)),
    "half": (
        lambda: torch.empty(9, dtype=torch.bfloat16).normal_(std=0.5).div_(2),
        Normal(0, 0.25),
    ),
    "loose clamp": (lambda: torch.rand(9).clamp_(-1, 2), Uniform(0, 1)),
    "erfinv": (lambda: torch.empty(9).uniform_(-1, 1).erfinv_() * math.sqrt(2), Normal(0, 1)),
    "timm": (
        lambda: _old_trunc_normal_(torch.empty(9), 0.02, -2, 2),
        TruncatedNormal(0, 0.02, -2, 2),
    ),
    "mmengine": (
        lambda: _old_trunc_normal_(torch.empty(9), 1.5, -2, 1),
        TruncatedNormal(0, 1.5, -2, 1),
    ),
    "in std": (
        lambda: _old_trunc_normal_(torch.empty(9), 1.0, -2, 2).mul_(0.04).add_(0.5),
        TruncatedNormal(0.5, 0.04, 0.42, 0.58),
    ),
}


@pytest.mark.parametrize(("make", "expected"), ARITHMETIC.values(), ids=ARITHMETIC)
def test_a_law_is_followed_through_arithmetic(make: Make, expected: Law) -> None:
    law = _law(make)

    assert isinstance(law, Law)
    assert type(law) is type(expected)
    if isinstance(expected, TruncatedNormal):  # without the noise of √2 · 0.02 · √½
        assert law == expected
    for name in ("mean", "std", "low", "high"):
        assert getattr(law, name) == pytest.approx(getattr(expected, name), rel=1e-12, abs=1e-15)


def test_views_in_place_are_done() -> None:
    laws = laws_of(
        lambda: {
            "turned": torch.empty(3, 5).normal_().t_(),
            "squeezed": torch.empty(1, 4).uniform_().squeeze_(0),
            "moved": torch.empty(2, 3, 4).normal_().transpose_(0, 2),
            "grown": torch.empty(4).normal_().unsqueeze_(1),
            "strided": torch.empty(6).normal_().as_strided_((2, 3), (3, 1)),
            "resized": torch.empty(8).normal_().resize_(2, 3),
        }
    )

    shapes = {"turned": (5, 3), "squeezed": (4,), "moved": (4, 3, 2), "grown": (4, 1)}
    shapes |= {"strided": (2, 3), "resized": (2, 3)}
    assert {key: each.shape for key, each in laws.items()} == shapes
    assert all(isinstance(each.law, (Normal, Uniform)) for each in laws.values())


def test_more_memory_of_a_resized_tensor_is_filled_by_nobody() -> None:
    law = _law(lambda: torch.empty(4).normal_().resize_(9))

    assert isinstance(law, Unknown)
    assert law.why == "unfilled"


FILLS: dict[str, Callable[[torch.Tensor, Callable[[torch.Tensor], object]], object]] = {
    "rows": lambda w, draw: (draw(w), w[2:5].fill_(1), draw(w[4:7]), w[5].zero_()),
    "columns": lambda w, draw: (w.fill_(2), draw(w[:, ::2]), w[:, 2].fill_(3)),
    "diagonal": lambda w, draw: (
        draw(w),
        w[:6].fill_diagonal_(7) if draw is _one else w[0].fill_(7),
    ),
    "turned": lambda w, draw: (draw(w), draw(w.t()[1]), w.t()[3:5].fill_(4)),
    "all hidden": lambda w, draw: (draw(w), w[:4].fill_(1), w[4:].fill_(2)),
    "chunks": lambda w, draw: [draw(each) for each in w.chunk(3)],
    "whole again": lambda w, draw: (w[3].fill_(9), draw(w)),
    "copied": lambda w, draw: (draw(w), w[1:3].copy_(torch.arange(6.0))),
}


def _one(tensor: torch.Tensor) -> None:
    tensor.fill_(float("nan"))


@pytest.mark.parametrize("fill", FILLS.values(), ids=FILLS)
@pytest.mark.parametrize("part", [slice(None), slice(1, 6)], ids=["all", "a part"])
def test_a_region_that_is_filled_twice_ends_as_the_last_fill_left_it(
    fill: Callable[..., object], part: slice
) -> None:
    """The oracle draws NaN: what is not NaN then must come out, and all else must be drawn."""
    real = torch.empty(8, 6)
    fill(real, _one)

    def make() -> torch.Tensor:
        made = torch.empty(8, 6)
        fill(made, lambda each: each.uniform_(100, 101))
        return made[part]

    law = _law(make)

    if fill is FILLS["diagonal"]:
        real[:6].fill_(float("nan"))
        real[0].fill_(7)
        real[6:].fill_(float("nan"))
    assert isinstance(law, Law)
    values = _drawn(law, tuple(real[part].shape))
    expected = real[part].numpy()
    is_drawn = np.isnan(expected)
    assert np.array_equal(values[~is_drawn], expected[~is_drawn])
    assert ((values[is_drawn] >= 100) & (values[is_drawn] < 101)).all()
    assert len(np.unique(values[is_drawn])) == is_drawn.sum()
    shares = law.mean if is_drawn.any() else expected.mean()
    assert shares == pytest.approx(np.where(is_drawn, 100.5, expected).mean(), rel=1e-6)


def test_joined_and_copied_draws_keep_their_laws() -> None:
    laws = laws_of(
        lambda: {
            "joined": torch.cat([torch.randn(2, 3), torch.zeros(1, 3), torch.rand(1, 3)]),
            "stacked": torch.stack([torch.randn(3), torch.randn(3)], 1),
            "cast": torch.randn(4).to(torch.float64),
            "part": torch.randn(6)[2:5].clone(),
        }
    )

    joined = laws["joined"].law
    assert isinstance(joined, Patched)
    values = _drawn(joined, (4, 3))
    assert (values[:2] != 0).all()
    assert (values[2] == 0).all()
    assert (values[3] > 0).all()
    assert joined.high == math.inf
    assert laws["cast"].law == laws["part"].law == Normal(0, 1)
    assert (_drawn(laws["stacked"].law, (3, 2)) != 0).all()  # type: ignore[arg-type]


KNOWN: dict[str, tuple[Make, Law]] = {
    "wide": (lambda: nn.init.orthogonal_(torch.empty(4, 9), 2.0), Orthogonal(4, 9, 2.0)),
    "tall": (lambda: nn.init.orthogonal_(torch.empty(9, 2, 2)), Orthogonal(9, 4, 1.0)),
    "sparse": (lambda: nn.init.sparse_(torch.empty(9, 4), 0.3, 0.5), SparseNormal(9, 3, 0.5)),
    "eye": (lambda: nn.init.eye_(torch.empty(4, 3)), Identity((4, 3))),
    "dirac": (lambda: nn.init.dirac_(torch.empty(4, 2, 3), 2), Identity((4, 2, 3), 2)),
}


@pytest.mark.parametrize(("make", "expected"), KNOWN.values(), ids=KNOWN)
def test_the_functions_of_torch_nn_init_are_our_own_laws(make: Make, expected: Law) -> None:
    assert _law(make) == expected


def test_a_copy_of_an_orthogonal_matrix_is_one() -> None:
    law = _law(lambda: torch.empty(3, 3, dtype=torch.bfloat16).copy_(KNOWN["tall"][0]()[:3, 0, :1]))
    whole = _law(lambda: nn.init.orthogonal_(torch.empty(4, 4)).to(torch.bfloat16))

    assert isinstance(law, Unknown)
    assert whole == Orthogonal(4, 4, 1.0)


def test_a_loop_that_rejects_draws_ends() -> None:
    def rejected() -> torch.Tensor:
        drawn = torch.empty(50).normal_()
        while ((drawn < -1) | (drawn > 1)).any():
            drawn = torch.where(drawn.abs() > 1, torch.randn(50), drawn)
        return drawn

    def in_place() -> torch.Tensor:
        drawn = torch.empty(50).normal_()
        while (mask := drawn.abs() > 1).any():
            drawn[mask] = torch.empty(int(mask.sum())).normal_()
        return drawn

    for make in (rejected, in_place):
        law = _law(make)
        assert isinstance(law, Unknown)
        assert law.why == "chance"


# --- what a constructor makes equal ---------------------------------------------------------


class _Agent(nn.Module):
    """As agents and contrastive learners have it: copies of a network that start like it."""

    def __init__(self) -> None:
        super().__init__()
        self.online = nn.Sequential(nn.Linear(8, 8), nn.LSTM(8, 4))
        self.target = copy.deepcopy(self.online)
        self.key = nn.Linear(8, 8)
        self.key.load_state_dict(self.online[0].state_dict())
        self.momentum = nn.Linear(8, 8)
        for ours, theirs in zip(
            self.momentum.parameters(), self.online[0].parameters(), strict=True
        ):
            ours.data.copy_(theirs.data)
        self.other = nn.Linear(8, 8)
        self.layers = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2), 2, enable_nested_tensor=False
        )
        self.register_buffer("start", torch.randn(5))
        self.register_buffer("again", copy.deepcopy(self.start))


def _filled(build: Callable[[], nn.Module], rules: list[str], **options: object) -> nn.Module:
    module = build()
    with torch.no_grad():
        for each in module.state_dict().values():
            each.fill_(77)
    apply_(module, rules, arch=build, **options)  # type: ignore[arg-type]
    return module


def test_networks_that_a_constructor_makes_equal_are_equal() -> None:
    real, ours = _Agent().state_dict(), _filled(_Agent, ["*=default"]).state_dict()

    for one in real:
        for other in real:
            is_equal = real[one].shape == real[other].shape and torch.equal(real[one], real[other])
            assert torch.equal(ours[one], ours[other]) == is_equal if is_equal else True
    assert not torch.equal(ours["online.0.weight"], ours["other.weight"])
    assert torch.equal(
        ours["layers.layers.0.linear1.weight"], ours["layers.layers.1.linear1.weight"]
    )


def test_equal_tensors_are_drawn_as_the_first_of_them_by_code_point() -> None:
    steps = {step.key: step for step in apply_(_Agent(), ["*=default"], arch=_Agent).steps}

    assert steps["target.0.weight"].drawn_from == "key.weight"
    assert steps["momentum.bias"].drawn_from == "key.bias"
    assert steps["target.1.weight_hh_l0"].drawn_from == "online.1.weight_hh_l0"
    assert steps["other.weight"].drawn_from == "other.weight"


def test_a_draw_of_which_two_tensors_have_parts_is_not_drawn_twice() -> None:
    def build() -> dict[str, torch.Tensor]:
        drawn = torch.randn(6, 4)
        whole = torch.randn(8, 4)
        return {
            "first": drawn[:4].clone(),
            "second": drawn[2:].clone(),
            "scaled": drawn[:4] * 2,
            "query": whole[:4].clone(),
            "value": whole[4:].clone(),
        }

    laws = {key: each.law for key, each in laws_of(build).items()}

    assert {key for key, law in laws.items() if isinstance(law, Unknown)} == {
        "first",
        "second",
        "scaled",
    }
    assert laws["query"] == laws["value"] == Normal(0, 1)


# --- memory and other chance ----------------------------------------------------------------


def test_memory_that_nobody_filled_is_named_and_left_alone() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.never = nn.Parameter(torch.empty(5))
            self.partly = nn.Parameter(torch.empty(4, 4))
            nn.init.ones_(self.partly[:2])
            self.computed = nn.Parameter(torch.empty(6) * 2)
            self.fc = nn.Linear(3, 3)
            inverse = torch.empty(5, dtype=torch.long)
            inverse[torch.tensor([2, 0, 1, 4, 3])] = torch.arange(5)
            self.register_buffer("inverse", inverse)

    done = apply_(Net(), ["*=default"], arch=Net)

    skipped = {step.key: step.reason for step in done.steps if step.action == "skip"}
    assert skipped == {
        "never": "its constructor leaves its memory unfilled",
        "partly": "its constructor leaves its memory unfilled",
        "computed": "two runs of its constructor under one seed give it other values",
    }
    module = _filled(Net, ["inverse=default"])
    assert module.inverse.tolist() == [1, 2, 0, 4, 3]


class _Chancy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.angles = nn.Parameter(torch.randn(8).sin())
        self.by_numpy = nn.Parameter(torch.from_numpy(np.random.randn(4)).float())  # noqa: NPY002
        self.by_python = nn.Parameter(torch.full((3,), random.random()))
        self.order = nn.Parameter(torch.randperm(9).float())
        self.entropy = nn.Parameter(torch.from_numpy(np.random.default_rng().random(3)).float())


def test_what_cannot_be_followed_is_taken_from_a_real_run_under_the_seed_of_the_name() -> None:
    ours = _filled(_Chancy, ["*=default"], seed=3).state_dict()
    seed = seed_for(3, "_Chancy")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        real = _Chancy().state_dict()

    for key in ("angles", "by_numpy", "by_python", "order"):
        assert torch.equal(ours[key], real[key]), key
    assert not torch.equal(ours["fc.weight"], real["fc.weight"])
    assert (ours["entropy"] == 77).all()


def test_the_plan_says_what_is_taken_from_a_real_run_and_what_differs_each_time() -> None:
    done = apply_(_Chancy(), ["*=default"], arch=_Chancy)

    (warning,) = done.warnings
    assert warning.startswith("'angles' and 3 more have the values of a real run")
    laws = {step.key: step.law for step in done.steps}
    assert isinstance(laws["order"], Taken)
    assert laws["order"].library == "torch"
    with pytest.raises(UndefinedError, match="two runs of its constructor under one seed"):
        architecture_of(_Chancy, ()).law("entropy", (3,), 0)


def test_a_recording_and_real_runs_leave_the_generators_as_they_were() -> None:
    architecture = architecture_of(_Chancy, ())
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    random.seed(7)
    expected = torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    random.seed(7)

    architecture.law("angles", (8,), 5)

    assert (torch.rand(1), np.random.rand(), random.random()) == expected  # noqa: NPY002


def test_statistics_that_a_constructor_updates_are_those_of_a_real_run() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(3)
            self.norm(torch.randn(8, 3) + 50)

    state = _filled(Net, ["*=default"], seed=3).state_dict()
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(3, "Net"))
        real = Net().state_dict()

    assert torch.equal(state["norm.running_mean"], real["norm.running_mean"])
    assert torch.equal(state["norm.running_var"], real["norm.running_var"])


def test_a_look_at_shapes_by_a_call_in_evaluation_leaves_layers_and_statistics_their_laws() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).eval()
            self.width = self.body(torch.zeros(1, 3, 9, 9)).shape[1]
            self.head = nn.Linear(self.width, 2)

    laws = {key: found.law for key, found in laws_of(lambda: Net().state_dict()).items()}

    assert isinstance(laws["body.0.weight"], Uniform)
    assert laws["body.1.running_mean"] == Constant(0.0)


def test_a_weight_that_is_changed_as_an_array_of_numpy_is_that_of_a_real_run() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 4)
            array = self.fc.weight.detach().numpy()
            array += 5

    assert _filled(Net, ["*=default"], seed=3).state_dict()["fc.weight"].min().item() > 4


def test_layers_whose_shapes_are_open_leave_the_others_their_laws() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.open = nn.LazyLinear(4)
            self.fc = nn.Linear(3, 4)

    state = {"open.weight": torch.full((4, 5), 9.0), "fc.weight": torch.full((4, 3), 9.0)}
    apply_(state, ["*=default"], arch=Net)

    assert (state["open.weight"] == 9).all()
    assert state["fc.weight"].abs().max().item() <= 3**-0.5


def test_layers_without_a_constructor_are_never_run_for_real() -> None:
    decided = apply_(_Chancy(), ["*=default"])

    reasons = {step.reason for step in decided.steps if step.action == "skip"}
    assert reasons == {"no layer has a reset_parameters that fills it"}


def test_a_spectral_norm_starts_with_the_vectors_of_its_own_weight() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(6, 5)))

    state = _filled(build, ["*=default"]).state_dict()

    prefix = "0.parametrizations.weight"
    weight, left, right = (state[f"{prefix}.{end}"] for end in ("original", "0._u", "0._v"))
    sigma = torch.linalg.matrix_norm(weight, 2).item()
    assert (left @ weight @ right).item() == pytest.approx(sigma, rel=1e-2)


def test_tables_that_are_computed_are_filled_whatever_their_dtype() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("index", torch.arange(6).reshape(2, 3).flip(1))
            self.register_buffer("mask", torch.ones(3, 3, dtype=torch.bool).tril())
            self.register_buffer("table", torch.linspace(0, 1, 5).sin())
            self.register_buffer("turns", torch.polar(torch.ones(4), torch.arange(4.0)))
            self.register_buffer("large", torch.tensor([2**53 + 1, -(2**62) - 1]))

    module = Net()
    for each in module.buffers():
        each.zero_()
    apply_(module, ["*=default"], arch=Net)

    for key, values in Net().state_dict().items():
        assert torch.equal(module.state_dict()[key], values), key
    assert isinstance(architecture_of(Net, ()).law("mask", (3, 3)), Values)


def test_a_model_of_gigabytes_is_recorded_in_megabytes() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def build() -> nn.Module:
        layer = nn.TransformerEncoderLayer(4096, 32, dim_feedforward=16384)
        return nn.ModuleList(
            [
                nn.TransformerEncoder(layer, 4, enable_nested_tensor=False),
                nn.Embedding(100_000, 4096),
            ]
        )

    laws = laws_of(build)

    numel = sum(math.prod(each.shape) for each in laws.values())
    assert numel > 10**9
    assert laws["1.weight"].law == Normal(0, 1)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 2**28


def test_a_default_dtype_of_halves_changes_no_law() -> None:
    def build() -> nn.Module:
        torch.set_default_dtype(torch.bfloat16)
        return nn.Linear(64, 3)

    (weight, bias) = laws_of(build).values()

    assert isinstance(weight.law, Uniform)
    assert weight.law.high == pytest.approx(1 / 8, rel=1e-6)
    assert bias.law == weight.law or isinstance(bias.law, Uniform)
    assert torch.get_default_dtype() is torch.float32


def test_torchvision_models_need_no_real_run() -> None:
    decided = plan("mobilenet_v3_small", ["*=default"], weights="none")

    assert not any(isinstance(step.law, Taken) for step in decided.steps)
    assert decided.warnings == ()
