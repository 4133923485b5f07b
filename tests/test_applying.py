"""Re-initialising what lives in memory."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reinit_cli import ReinitError, Rule, apply_, register, seed_for
from reinit_cli.drawing import check_device
from reinit_cli.errors import DeviceUnavailableError, UnfillableError
from reinit_cli.initializers import REGISTRY
from reinit_cli.initializers.laws import Normal


def test_a_module_is_filled_in_place_by_the_keys_of_its_state_dict() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))
    weight = model[0].weight
    pointer = weight.data_ptr()

    plan = apply_(model, ["0.*=uniform:-3,3", Rule.of("1.running_var", "constant", val=4)], seed=2)

    generator = torch.Generator().manual_seed(seed_for(2, "0.weight"))
    assert weight is model[0].weight
    assert weight.data_ptr() == pointer
    assert weight.requires_grad
    assert torch.equal(weight, torch.empty(5, 3).uniform_(-3, 3, generator=generator))
    assert model[1].running_var.tolist() == [4] * 5
    assert [step.key for step in plan.fills] == ["0.weight", "0.bias", "1.running_var"]


def test_a_view_is_filled_and_its_surroundings_stay() -> None:
    base = torch.zeros(6, 6)
    apply_({"part": base[1:3, ::2].T}, ["part=ones"])

    assert base.sum() == 6
    assert base[1:3, ::2].eq(1).all()


def test_a_dtype_is_rounded_to_once() -> None:
    half, whole = torch.zeros(50, dtype=torch.bfloat16), torch.zeros(50)
    apply_({"w": half}, ["w=normal"])
    apply_({"w": whole}, ["w=normal"])

    assert torch.equal(half, whole.bfloat16())


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (torch.int64, 2**62),
        (torch.uint8, 255),
        (torch.uint64, 2**53),
        (torch.bool, 1),
        (torch.complex64, 0.5),
        (torch.complex32, 0.5),
    ],
    ids=str,
)
def test_constants_are_exact_where_there_are_no_fractions(dtype: torch.dtype, value: float) -> None:
    state = {"w": torch.zeros(3, dtype=dtype)}

    apply_(state, [f"w=constant:{value}"])

    assert state["w"].tolist() == [value] * 3


def test_a_tensor_on_meta_has_nothing_to_fill() -> None:
    with torch.device("meta"):
        model = nn.Linear(2, 2)

    with pytest.raises(UnfillableError, match="a meta tensor, which has no values"):
        apply_(model, ["weight=ones"])


def test_what_is_refused_changes_nothing() -> None:
    state = {"a": torch.zeros(3), "b": torch.zeros(3)}

    with pytest.raises(ReinitError):
        apply_(state, ["a=ones", "b=xavier_uniform"])
    assert not state["a"].any()


def test_the_global_generator_and_the_threads_are_as_they_were() -> None:
    before, threads = torch.get_rng_state(), torch.get_num_threads()

    apply_({"w": torch.zeros(40, 40)}, ["w=orthogonal"])

    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_an_initializer_of_one_s_own_is_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REGISTRY, "_by_name", dict(REGISTRY._by_name))

    @register(law="N(0, scale²)", example="mine:scale=2")
    def mine(shape: tuple[int, ...], *, scale: float = 1.0) -> Normal:
        """Draw as I like it."""
        del shape
        return Normal(0.0, scale)

    state = {"w": torch.zeros(1000)}
    apply_(state, ["w=mine:0.5"])

    assert state["w"].std().item() == pytest.approx(0.5, rel=0.1)
    with pytest.raises(ValueError, match="there is an initializer 'mine' already"):
        register(law="x", example="x")(mine)


def test_an_argument_of_no_kind_is_refused_as_it_is_registered() -> None:
    def odd(shape: tuple[int, ...], *, scale: list[int]) -> None:
        del shape, scale

    with pytest.raises(TypeError, match="is no kind of argument; annotate it as float, int or str"):
        register(law="x", example="x")(odd)


def test_a_device_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(DeviceUnavailableError) as refused:
        check_device("cuda:99")

    assert str(refused.value).startswith("device 'cuda:99' is not there; there is cpu")
    assert check_device("auto") in ("cpu", "cuda", "mps")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(
    "text", ["normal:std=0.02", "kaiming_uniform:relu", "orthogonal", "sparse:0.1"]
)
def test_a_gpu_draws_what_torch_draws_there(text: str) -> None:
    from reinit_cli.initializers import parse_init

    state = {"w": torch.zeros(64, 48)}
    apply_(state, [f"w={text}"], device="cuda")

    law = parse_init(text).law((64, 48))
    assert law is not None
    expected = torch.empty(64, 48, device="cuda")
    law.fill(expected, torch.Generator("cuda").manual_seed(seed_for(0, "w")))
    assert state["w"].device.type == "cpu"
    assert torch.equal(state["w"], expected.cpu())
