"""Tensors in memory are re-initialized as a checkpoint would be, or not at all."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.masked import masked_tensor
from torch.testing._internal.two_tensor import TwoTensor

from reinit_cli import ReinitError, apply_, register, rewrite, seed_for
from reinit_cli.errors import (
    ArgumentError,
    RuleError,
    TensorError,
    UnfillableError,
    UnknownNameError,
    UnmatchedRuleError,
)
from reinit_cli.execution.budget import DRAWING_NBYTES
from reinit_cli.initializers import REGISTRY, Law
from reinit_cli.streams.chance import Array, Chance


class _Tied(nn.Module):
    """A language model in small: its head is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(6, 4)
        self.norm = nn.BatchNorm1d(4)
        self.lm_head = nn.Linear(4, 6, bias=False)
        self.lm_head.weight = self.embed.weight


def _drawn(key: str, *shape: int, std: float = 0.02, seed: int = 0) -> torch.Tensor:
    """The three lines of torch that a user writes to draw a tensor again."""
    generator = torch.Generator().manual_seed(seed_for(seed, key))
    return nn.init.normal_(torch.empty(shape), std=std, generator=generator)


def test_a_module_is_filled_by_the_keys_of_its_state_dict_and_the_rest_stays() -> None:
    net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    before = {key: value.clone() for key, value in net.state_dict().items()}

    plan = apply_(net, ["2.weight=normal:std=0.02", "*.bias=zeros"], seed=7, stream="torch")

    after = net.state_dict()
    assert torch.equal(after["0.weight"], before["0.weight"])
    assert torch.equal(after["2.weight"], _drawn("2.weight", 2, 5, seed=7))
    assert not after["0.bias"].any()
    assert not after["2.bias"].any()
    assert plan.source == "Sequential"
    assert [step.key for step in plan.fills] == ["0.bias", "2.weight", "2.bias"]


def test_a_mapping_is_filled_by_its_keys() -> None:
    state = {"a": torch.ones(2, 3), "b": torch.ones(2)}

    plan = apply_(state, ["a=normal:std=0.02"], stream="torch")

    assert torch.equal(state["a"], _drawn("a", 2, 3))
    assert torch.equal(state["b"], torch.ones(2))
    assert plan.source == "the state dict"


def test_autograd_sees_nothing_of_it() -> None:
    net = nn.Linear(4, 4)
    weight = net.weight
    weight.grad = torch.ones(4, 4)

    apply_(net, ["weight=normal:std=0.02"], stream="torch")

    assert weight.is_leaf
    assert weight.grad_fn is None
    assert torch.equal(weight.grad, torch.ones(4, 4))
    assert torch.equal(weight.detach(), _drawn("weight", 4, 4))


def test_a_refusal_leaves_what_autograd_has_saved() -> None:
    """Autograd refuses to go back through a tensor that was changed since it was used."""
    net = nn.Linear(3, 2)
    state = net.state_dict(keep_vars=True)
    inputs = torch.ones(1, 3, requires_grad=True)
    loss = net(inputs).square().sum()

    with pytest.raises(TensorError):
        apply_({**state, "odd": torch.full((3,), math.nan)}, ["*=noise:relative=0.1"])
    loss.backward()

    assert net.weight.grad is not None


def test_a_frozen_parameter_stays_frozen() -> None:
    net = nn.Linear(2, 2).requires_grad_(requires_grad=False)

    apply_(net, ["*=zeros"])

    assert not net.weight.requires_grad


@pytest.mark.parametrize("key", ["embed.weight", "lm_head.weight"])
def test_a_tie_is_one_tensor_under_the_seed_of_its_smallest_key(key: str) -> None:
    net = _Tied()

    plan = apply_(net, [f"{key}=normal:std=0.02"], stream="torch")

    assert net.lm_head.weight is net.embed.weight
    assert torch.equal(net.embed.weight.detach(), _drawn("embed.weight", 6, 4))
    assert [(step.key, step.tied) for step in plan.fills] == [("embed.weight", ("lm_head.weight",))]


def test_a_tie_in_a_mapping_is_found_through_other_tensor_objects() -> None:
    weight = torch.ones(6, 4)
    state = {"z": weight, "m": weight.detach(), "a": weight.view(6, 4)}

    apply_(state, ["m=normal:std=0.02"], stream="torch")

    assert torch.equal(weight, _drawn("a", 6, 4))


def test_two_wishes_for_one_tensor_change_nothing() -> None:
    net = _Tied()
    before = net.embed.weight.detach().clone()

    with pytest.raises(RuleError) as caught:
        apply_(net, ["embed.weight=zeros", "lm_head.weight=ones"])

    assert str(caught.value) == (
        "'embed.weight' and 'lm_head.weight' are tied, but rule 'embed.weight=zeros' and "
        "rule 'lm_head.weight=ones' disagree"
    )
    assert torch.equal(net.embed.weight.detach(), before)


def test_parts_of_one_tensor_that_do_not_meet_are_filled_alone() -> None:
    whole = torch.ones(6, 3)
    state = {"q": whole[:2], "k": whole[2:4], "v": whole[4:]}

    apply_(state, ["k=normal:std=0.02"], stream="torch")

    assert torch.equal(whole, torch.cat([torch.ones(2, 3), _drawn("k", 2, 3), torch.ones(2, 3)]))


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        (lambda whole: {"w": whole, "part": whole[1:]}, "it shares memory with 'part'"),
        (lambda whole: {"w": whole, "part": whole.view(torch.int32)}, "it shares memory with"),
        (lambda whole: {"w": whole, "part": whole.T}, "it shares memory with 'part'"),
        (lambda whole: {"w": whole[0].expand(4, 4)}, "its elements overlap in memory"),
        (lambda whole: {"w": whole.as_strided((3, 3), (1, 1))}, "its elements overlap in memory"),
    ],
    ids=["part", "other dtype", "transposed", "expanded", "as_strided"],
)
def test_what_overlaps_is_refused_by_name_and_skipped_by_a_wildcard(view, reason: str) -> None:
    whole = torch.ones(4, 4)
    state = view(whole)

    with pytest.raises(UnfillableError, match=reason):
        apply_(state, ["w=zeros"])
    plan = apply_(state, ["[w]*=zeros"], allow_unmatched=True)

    assert torch.equal(whole, torch.ones(4, 4))
    assert plan.steps[0].reason.startswith(reason)


@pytest.mark.parametrize(
    "view",
    [
        lambda base: base[:, ::2],
        lambda base: base[1:3, 1:5].T,
        lambda base: base.T,
        lambda base: base[2:, 3:7],
    ],
    ids=["every other", "transposed part", "transposed", "corner"],
)
def test_a_strided_view_gets_the_values_of_a_whole_tensor_and_nothing_else_changes(view) -> None:
    base = torch.ones(4, 8)

    apply_({"w": view(base)}, ["w=normal:std=0.02"], stream="torch")

    assert torch.equal(view(base), _drawn("w", *view(base).shape))
    assert (base == 1).sum() == base.numel() - view(base).numel()


def test_a_meta_tensor_is_refused_by_name_and_skipped_by_a_wildcard() -> None:
    state = {"a": torch.empty(2, 2, device="meta"), "b": torch.ones(2, 2)}

    with pytest.raises(UnfillableError) as caught:
        apply_(state, ["b=zeros", "a=zeros"])

    assert str(caught.value) == (
        "rule 'a=zeros' cannot fill 'a': a meta tensor, which has no values"
    )
    assert torch.equal(state["b"], torch.ones(2, 2))
    plan = apply_(state, ["*=zeros"])
    assert [(step.key, step.action) for step in plan.steps] == [("a", "skip"), ("b", "fill")]
    assert not state["b"].any()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (torch.eye(2).to_sparse(), "a sparse_coo tensor"),
        ("text", "not a tensor but a str"),
        (None, "not a tensor but a NoneType"),
    ],
    ids=["sparse", "str", "None"],
)
def test_what_cannot_be_filled_is_carried(value: object, reason: str) -> None:
    state = {"other": value, "w": torch.ones(2)}

    plan = apply_(state, ["*=zeros"])  # type: ignore[arg-type]

    assert [(step.key, step.action, step.reason) for step in plan.steps] == [
        ("other", "skip", reason),
        ("w", "fill", ""),
    ]
    assert state["other"] is value


def test_a_lazy_layer_is_skipped_by_a_wildcard_and_refused_by_name() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.LazyLinear(3))

    with pytest.raises(UnfillableError):
        apply_(net, ["1.weight=zeros"])
    plan = apply_(net, ["*=zeros"])

    assert not net[0].weight.any()
    assert {step.key for step in plan.steps if step.action == "skip"} == {"1.weight", "1.bias"}


def test_a_tensor_of_inference_mode_is_filled_like_any_other() -> None:
    with torch.inference_mode():
        inferred = torch.ones(2, 3)
    state = {"a": torch.ones(2, 3), "b": inferred}

    apply_(state, ["*=normal:std=0.02"], stream="torch")

    assert torch.equal(state["a"], _drawn("a", 2, 3))
    assert torch.equal(state["b"], _drawn("b", 2, 3))


@pytest.mark.parametrize(
    ("rules", "error"),
    [
        (["*.weight=zeros", "missing=zeros"], UnmatchedRuleError),
        (["*.weight=zeros", "0.bias=xavier_uniform"], UnfillableError),
        (["*.weight=zeros", "*.bias=xavier_uniform"], UnmatchedRuleError),
        (["*.weight=zeros", "0.bias=normal:0.02"], ArgumentError),
        (["*.weight=zeros", "0.bias"], ReinitError),
        (["*.weight=zeros", "0.bias=nothing"], ReinitError),
        (["*.weight=zeros", "1.num_batches_tracked=constant:0.5"], UnfillableError),
    ],
    ids=lambda part: part[-1] if isinstance(part, list) else part.__name__,
)
def test_nothing_changes_when_a_rule_is_refused(rules: list[str], error: type[ReinitError]) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    before = {key: value.clone() for key, value in net.state_dict().items()}

    with pytest.raises(error):
        apply_(net, rules)

    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_strict_refuses_a_skip_before_anything_changes() -> None:
    net = nn.Linear(3, 4)
    before = net.weight.detach().clone()

    with pytest.raises(UnfillableError):
        apply_(net, ["*=xavier_uniform"], strict=True)

    assert torch.equal(net.weight.detach(), before)


def test_a_rule_that_matches_nothing_may_be_allowed() -> None:
    net = nn.Linear(3, 4)

    plan = apply_(net, ["missing=zeros", "bias=zeros"], allow_unmatched=True)

    assert not net.bias.any()
    assert plan.warnings == ("rule 'missing=zeros' matches no key of Linear",)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_changes_nothing() -> None:
    state = {"w": torch.ones(2)}

    with pytest.raises(UnknownNameError):
        apply_(state, ["w=zeros"], device="cuda")

    assert torch.equal(state["w"], torch.ones(2))


@pytest.mark.parametrize("rule", ["*=normal:std=1", "*=orthogonal", "*=sparse:0.5", "nothing=ones"])
def test_threads_and_random_states_are_afterwards_what_they_were(rule: str) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        torch_state, python_state = torch.get_rng_state(), random.getstate()

        try:
            apply_({"w": torch.ones(5, 5)}, [rule])
        except UnmatchedRuleError:
            assert rule == "nothing=ones"

        assert torch.get_num_threads() == 2
        assert torch.equal(torch.get_rng_state(), torch_state)
        assert random.getstate() == python_state
        assert torch.is_grad_enabled()
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    "text",
    [
        "normal:std=0.02",
        "eye",
        "sparse:0.5",
        "orthogonal",
        "trunc_normal",
        "trunc_normal:0,1,1.9,9",
        "zeros",
    ],
)
def test_torch_s_defaults_do_not_reach_a_draw(text: str) -> None:
    expected, state = ({"w": torch.ones(4, 3)} for _ in range(2))
    apply_(expected, [f"w={text}"])
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        apply_(state, [f"w={text}"])
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)

    assert torch.equal(state["w"], expected["w"])


def test_a_default_device_does_not_reach_an_integer() -> None:
    state = {"w": torch.ones(2, dtype=torch.int64)}
    try:
        torch.set_default_device("meta")
        apply_(state, ["w=constant:7"])
    finally:
        torch.set_default_device(None)

    assert state["w"].tolist() == [7, 7]


RULES = [
    "*=normal:std=0.02",
    "conv.*=kaiming_normal:relu,fan_out",
    "{square,half}=orthogonal:tanh",
    "double=trunc_normal:std=0.02",
    "sparse=sparse:0.3",
    "count=constant:7",
    "kept=keep",
]


def _state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def some(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "conv.weight": some(8, 3, 5, 5),
        "square": some(9, 9),
        "half": some(6, 10).half(),
        "brain": some(33).bfloat16(),
        "eight": some(33).to(torch.float8_e4m3fn),
        "double": some(12, 2).double(),
        "sparse": some(20, 3),
        "count": torch.arange(3),
        "flags": torch.tensor([True, False]),
        "running_mean": some(4),
        "empty": torch.empty(0, 4),
        "scalar": some(1)[0].clone(),
        "kept": some(4),
    }


def test_a_mapping_gets_the_bytes_that_a_checkpoint_of_its_keys_gets(tmp_path: Path) -> None:
    source, output = str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors")
    state = _state()
    untouched = {key: state[key].clone() for key in ("flags", "running_mean", "kept")}
    save_file(state, source)

    outcome = rewrite(source, RULES, output, seed=5)
    plan = apply_(state, RULES, seed=5)

    written = load_file(output)
    assert {key: (value.dtype, value.shape) for key, value in written.items()} == {
        key: (value.dtype, value.shape) for key, value in state.items()
    }
    for key, value in state.items():
        raw, expected = (part.reshape(-1).view(torch.uint8) for part in (written[key], value))
        assert torch.equal(raw, expected), key
    assert all(torch.equal(state[key], value) for key, value in untouched.items())
    assert {(step.key, step.action) for step in plan.steps} == {
        (step.key, step.action) for step in outcome.job.plan.steps
    }


def test_a_second_time_gives_the_same_and_another_seed_other_values() -> None:
    state = {"w": torch.ones(5, 5)}
    drawn = []
    for seed in (3, 3, 4):
        apply_(state, ["w=normal:std=0.02"], seed=seed)
        drawn.append(state["w"].clone())

    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


# --- all or nothing ---------------------------------------------------------------------------


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REGISTRY, "_by_name", dict(REGISTRY._by_name))


@pytest.fixture(params=[DRAWING_NBYTES, 0], ids=["held", "drawn twice"])
def room(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The memory for draws: enough for all of them, or for none."""
    monkeypatch.setattr("reinit_cli.operations.apply.DRAWING_NBYTES", request.param)
    return int(request.param)


class _Failing(Law):
    """A law of another package that does something, and fails."""

    mean = std = 0.0

    def __init__(self, first: Callable[[], object]) -> None:
        self._first = first

    def fill(self, values: Array, chance: Chance) -> None:
        chance.uniform(values, 0, 1)
        self._first()


def _unchanged_after(state: dict[str, torch.Tensor], rules: list[str], match: str) -> None:
    before = {key: value.clone() for key, value in state.items()}

    with pytest.raises(Exception, match=match):
        apply_(state, rules)

    for key, value in state.items():
        assert torch.equal(value.nan_to_num(7), before[key].nan_to_num(7)), key


def _some_state() -> dict[str, torch.Tensor]:
    return {"a": torch.ones(3, 2), "b": torch.ones(4), "c": torch.ones(2, 2)}


@pytest.mark.usefixtures("room")
def test_a_transform_that_has_no_meaning_changes_nothing() -> None:
    state = _some_state()
    state["c"][0, 0] = math.nan

    _unchanged_after(
        state, ["a=normal:std=1", "b=scale:2", "c=noise:relative=0.1"], "'c' cannot be transformed"
    )


@pytest.mark.usefixtures("room", "own_registry")
def test_a_law_of_another_package_that_fails_changes_nothing() -> None:
    @register(law="none", example="failing")
    def failing(shape: tuple[int, ...]) -> Law:
        """Fail."""
        return _Failing(lambda: 1 / 0)

    _unchanged_after(_some_state(), ["a=normal:std=1", "b=scale:2", "c=failing"], "division")


@pytest.mark.usefixtures("room", "own_registry")
def test_a_donor_that_cannot_be_read_any_more_changes_nothing(tmp_path: Path) -> None:
    donor = tmp_path / "donor.safetensors"
    save_file({"b": torch.zeros(4), "c": torch.zeros(2, 2)}, donor)

    @register(law="none", example="truncating")
    def truncating(shape: tuple[int, ...]) -> Law:
        """Cut the donor off when it is drawn."""
        return _Failing(lambda: os.truncate(donor, 20))

    _unchanged_after(
        _some_state(), [f"{{b,c}}=rewind:{donor}", "a=truncating"], "donor.safetensors"
    )


@pytest.mark.usefixtures("room", "own_registry")
def test_a_donor_that_changes_while_it_is_read_changes_nothing(tmp_path: Path) -> None:
    donor = tmp_path / "donor.safetensors"
    save_file({"b": torch.zeros(4)}, donor)

    @register(law="none", example="rewriting")
    def rewriting(shape: tuple[int, ...]) -> Law:
        """Write another donor over the one that is read."""
        return _Failing(lambda: save_file({"b": torch.ones(400)}, donor))

    _unchanged_after(_some_state(), [f"b=rewind:{donor}", "a=rewriting"], "changed while")


@pytest.mark.usefixtures("room", "own_registry")
def test_a_draw_that_memory_cannot_hold_changes_nothing() -> None:
    @register(law="none", example="huge")
    def huge(shape: tuple[int, ...]) -> Law:
        """Ask for more memory than there is."""
        return _Failing(lambda: torch.empty(2**50))

    _unchanged_after(
        _some_state(),
        ["a=normal:std=1", "b=scale:2", "c=huge"],
        "'c' cannot be drawn: this machine does not have enough memory",
    )


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_memory_that_can_only_be_read_is_refused_before_anything_changes(tmp_path: Path) -> None:
    """To write to a file that is mapped to be read ends the process."""
    np.save(tmp_path / "x.npy", np.ones((3, 5), dtype=np.float32))
    mapped = torch.from_numpy(np.load(tmp_path / "x.npy", mmap_mode="r"))
    state = {"a": torch.ones(3, 2), "b": mapped}

    _unchanged_after(state, ["*=zeros"], "'b' cannot be written: its memory can only be read")
    apply_(state, ["a=zeros"])
    assert not state["a"].any()
    assert np.load(tmp_path / "x.npy").all()


def test_a_private_map_of_a_file_is_filled_and_the_file_stays(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3, 2)}, tmp_path / "m.pt")
    state = torch.load(tmp_path / "m.pt", mmap=True)

    apply_(state, ["a=normal:std=0.02"], stream="torch")

    assert torch.equal(state["a"], _drawn("a", 3, 2))
    assert torch.equal(torch.load(tmp_path / "m.pt")["a"], torch.ones(3, 2))


def test_a_tensor_that_refuses_to_be_written_changes_nothing() -> None:
    class Frozen(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if func is torch.Tensor.copy_:
                raise RuntimeError("this one stays as it is")
            return super().__torch_function__(func, types, args, kwargs or {})

    state = {"a": torch.ones(3, 2), "b": torch.ones(2).as_subclass(Frozen)}

    with pytest.raises(TensorError, match="'b' cannot be written: this one stays as it is"):
        apply_(state, ["*=zeros"])

    assert torch.equal(state["a"], torch.ones(3, 2))


def test_a_tensor_that_is_only_imagined_changes_nothing() -> None:
    with FakeTensorMode():
        fake = torch.ones(2)
    state = {"a": torch.ones(3, 2), "b": fake}

    with pytest.raises(TensorError, match="'b' cannot be written: "):
        apply_(state, ["*=zeros"])

    assert torch.equal(state["a"], torch.ones(3, 2))


@pytest.mark.filterwarnings("ignore:The PyTorch API of")
def test_a_tensor_that_wraps_others_is_filled_through_its_own_copy() -> None:
    inner = torch.ones(3, 2), torch.ones(3, 2)
    masked = masked_tensor(torch.ones(3, 2), torch.ones(3, 2).bool())
    functional = torch._to_functional_tensor(torch.ones(3, 2))
    state = {"a": TwoTensor(*inner), "b": masked, "c": functional}

    apply_(state, ["*=normal:std=0.02"], stream="torch")

    assert torch.equal(inner[0], _drawn("a", 3, 2))
    assert torch.equal(inner[1], _drawn("a", 3, 2))
    assert torch.equal(masked.get_data(), _drawn("b", 3, 2))
    assert torch.equal(torch._from_functional_tensor(functional), _drawn("c", 3, 2))


@pytest.mark.filterwarnings("ignore:The PyTorch API of")
def test_a_nested_tensor_is_left_as_it_is_by_a_wildcard_and_refused_by_name() -> None:
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    state = {"a": torch.ones(3, 2), "b": nested}

    with pytest.raises(ReinitError, match="cannot fill 'b': a nested tensor"):
        apply_(state, ["a=zeros", "b=zeros"])
    assert torch.equal(state["a"], torch.ones(3, 2))
    apply_(state, ["*=zeros"])

    assert not state["a"].any()
    assert all(bool(part.all()) for part in nested.unbind())


@pytest.mark.parametrize("room", [0, 200, 2**20])
def test_the_values_do_not_depend_on_the_memory_for_draws(
    room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors")
    rules = [*RULES, "square=noise:relative=0.5", "half=shuffle", "brain=normal:keep_zeros=true"]
    state = _state()
    save_file(state, source)
    monkeypatch.setattr("reinit_cli.operations.apply.DRAWING_NBYTES", room)

    rewrite(source, rules, output, seed=5)
    apply_(state, rules, seed=5)

    written = load_file(output)
    for key, value in state.items():
        raw, expected = (part.reshape(-1).view(torch.uint8) for part in (written[key], value))
        assert torch.equal(raw, expected), key
