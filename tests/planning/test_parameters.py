"""Which tensor each parameter of an optimizer is follows from names, shapes and order, or is asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reinit_cli import plan
from reinit_cli.cli import main
from reinit_cli.errors import RuleError
from reinit_cli.planning.parameter_order import Filled, Positions, by_order
from reinit_cli.planning.parameters import Parameter, match_parameters
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.optimizer import Group, Optimizer, ParameterId, ParameterNumber, State

Make = Callable[[nn.Module], torch.optim.Optimizer]


class Gpt(nn.Module):
    """A small transformer: a tie, norms, a buffer of floats, and blocks of equal shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 4)
        self.register_buffer("freqs", torch.ones(4))
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"norm": nn.LayerNorm(4), "mix": nn.Linear(4, 4)}) for _ in range(3)
        )
        self.final = nn.LayerNorm(4)
        self.head = nn.Linear(4, 11, bias=False)
        self.head.weight = self.embed.weight


def trained(net: nn.Module, make: Make) -> dict[str, Any]:
    """Return a checkpoint in which the step of each parameter is its number, plus one."""
    optimizer = make(net)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    saved = optimizer.state_dict()
    return {"model": net.state_dict(), "optimizer": saved}


def true_keys(net: nn.Module, make: Make) -> list[str]:
    """Return the keys of an optimizer's parameters, as only the living objects say."""
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    return [names[id(each)] for group in make(net).param_groups for each in group["params"]]


def reset_numbers(path: Path, rules: list[str]) -> tuple[list[int], tuple[str, ...]]:
    """Return the numbers of the parameters that are reset, and the warnings."""
    decided = plan(str(path), rules, reset_optimizer=True)
    keys = (step.key.partition(" ")[0].split(".") for step in decided.slots)
    numbers = sorted({int(key[2]) for key in keys})
    return numbers, decided.warnings


def _by_ndim(net: nn.Module) -> torch.optim.Optimizer:
    params = list(net.parameters())
    groups = [
        {"params": [each for each in params if each.ndim >= 2]},
        {"params": [each for each in params if each.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups)


def _decay(net: nn.Module) -> torch.optim.Optimizer:
    """Group as the Trainer of transformers does."""
    named = dict(net.named_parameters())
    decays = [name for name in named if "norm" not in name and not name.endswith("bias")]
    groups = [
        {"params": [named[name] for name in decays]},
        {"params": [named[name] for name in named if name not in decays], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups)


CERTAIN: dict[str, tuple[Make, list[str]]] = {
    "all of one shape": (lambda net: torch.optim.Adam(net.parameters()), ["embed.*=normal"]),
    "any order": (
        lambda net: torch.optim.Adam(reversed(list(net.parameters()))),
        ["embed.*=normal"],
    ),
    "every tensor of a shape": (
        lambda net: torch.optim.Adam(reversed(list(net.parameters()))),
        ["blocks.*.mix.weight=normal"],
    ),
    "frozen but the embedding": (
        lambda net: torch.optim.Adam(net.embed.parameters()),
        ["embed.*=normal"],
    ),
    "a tie under its other name": (
        lambda net: torch.optim.Adam(net.parameters()),
        ["head.weight=normal"],
    ),
}

ASSUMED: dict[str, tuple[Make, list[str]]] = {
    "one group": (lambda net: torch.optim.Adam(net.parameters()), ["blocks.1.mix.*=normal"]),
    "by dimensions": (_by_ndim, ["blocks.2.mix.weight=normal"]),
    "decay and no decay": (_decay, ["blocks.0.mix.weight=normal"]),
    "first groups": (
        lambda net: torch.optim.Adam(
            [
                {"params": [*net.embed.parameters(), *net.blocks[0].parameters()]},
                {"params": [*net.blocks[1:].parameters(), *net.final.parameters()]},
            ]
        ),
        ["embed.weight=normal"],
    ),
}


@pytest.mark.parametrize("name", {**CERTAIN, **ASSUMED})
def test_parameters_without_names_are_found(name: str, tmp_path: Path) -> None:
    make, rules = {**CERTAIN, **ASSUMED}[name]
    net = Gpt()
    torch.save(trained(net, make), tmp_path / "m.pt")
    filled = {step.key for step in plan(str(tmp_path / "m.pt"), rules).steps if step.law}
    named = true_keys(net, make)

    numbers, warnings = reset_numbers(tmp_path / "m.pt", rules)

    ties = {"embed.weight": {"embed.weight", "head.weight"}}
    assert numbers == [at for at, key in enumerate(named) if ties.get(key, {key}) & filled]
    assert numbers
    is_assumed = name in ASSUMED and "first groups" not in name
    assert any("order of the state dict" in each for each in warnings) == is_assumed


AMBIGUOUS: dict[str, tuple[Make, list[str], str]] = {
    "another order": (
        lambda net: torch.optim.Adam(reversed(list(net.parameters()))),
        ["blocks.1.mix.weight=normal"],
        "'optimizer': its parameter 3 may be any of 'blocks.0.mix.weight', "
        "'blocks.1.mix.weight', 'blocks.2.mix.weight', and 2 other parameters likewise",
    ),
    "some of equal ones frozen": (
        lambda net: torch.optim.Adam(net.blocks[1:].parameters()),
        ["blocks.1.mix.weight=normal"],
        "may be any of",
    ),
    "groups that may be each other": (
        lambda net: torch.optim.Adam(
            [{"params": net.blocks[2].parameters()}, {"params": net.blocks[1].parameters()}]
        ),
        ["blocks.1.*=ones"],
        "may be any of",
    ),
    "other parameters": (
        lambda _: torch.optim.Adam(nn.Linear(5, 7).parameters()),
        ["embed.*=normal"],
        "'optimizer': its parameters are not those of the state dict",
    ),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_is_not_certain_is_an_error_that_names_the_keys(name: str, tmp_path: Path) -> None:
    make, rules, problem = AMBIGUOUS[name]
    torch.save(trained(Gpt(), make), tmp_path / "m.pt")

    with pytest.raises(RuleError) as caught:
        plan(str(tmp_path / "m.pt"), rules, reset_optimizer=True)

    assert problem in str(caught.value)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
@pytest.mark.parametrize("is_in_names", [True, False])
def test_names_may_differ_by_what_wraps_the_model(
    prefix: str, is_in_names: bool, tmp_path: Path
) -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    named = [(prefix * is_in_names + name, each) for name, each in net.named_parameters()]
    saved = trained(net, lambda _: torch.optim.Adam(reversed(named)))
    state = {prefix * (not is_in_names) + key: value for key, value in net.state_dict().items()}
    torch.save({**saved, "model": state}, tmp_path / "m.pt")

    numbers, warnings = reset_numbers(tmp_path / "m.pt", ["*1.weight=zeros"])

    assert numbers == [1]
    assert warnings == ()


def _two_alike(net: nn.Module, part: str) -> dict[str, Any]:
    """Return a checkpoint whose optimizer was given a part of the network, by its own names."""
    named = list(net.get_submodule(part).named_parameters())
    return trained(net, lambda _: torch.optim.Adam(named))


def test_names_of_a_part_that_may_be_of_another_part_are_asked_for(tmp_path: Path) -> None:
    net = nn.ModuleDict({each: nn.Linear(3, 3) for each in "abcd"})
    torch.save(_two_alike(net, "c"), tmp_path / "m.pt")

    for part in "abcd":
        with pytest.raises(RuleError, match=r"may be any of 'a\.weight', 'b\.weight'"):
            reset_numbers(tmp_path / "m.pt", [f"{part}.weight=zeros"])
    assert reset_numbers(tmp_path / "m.pt", ["*.weight=zeros"]) == ([0], ())


def test_names_of_a_part_are_those_of_the_part_that_has_the_shapes(tmp_path: Path) -> None:
    net = nn.ModuleDict({"a": nn.Linear(3, 4), "b": nn.Linear(3, 5), "c": nn.BatchNorm1d(3)})
    torch.save(_two_alike(net, "b"), tmp_path / "m.pt")

    assert reset_numbers(tmp_path / "m.pt", ["b.bias=zeros"]) == ([1], ())
    none, warnings = reset_numbers(tmp_path / "m.pt", ["a.bias=zeros"])
    assert none == []
    assert warnings == ("'optimizer' holds no state of what the rules fill",)


def test_names_of_a_part_are_those_of_the_part_that_has_the_most_of_them(tmp_path: Path) -> None:
    net = nn.ModuleDict(
        {
            "long": nn.Sequential(*(nn.Linear(3, 3) for _ in range(3))),
            "short": nn.Sequential(*(nn.Linear(3, 3) for _ in range(2))),
        }
    )
    torch.save(_two_alike(net, "long"), tmp_path / "m.pt")

    assert reset_numbers(tmp_path / "m.pt", ["long.1.weight=zeros"]) == ([2], ())
    assert reset_numbers(tmp_path / "m.pt", ["short.1.weight=zeros"])[0] == []


def test_an_optimizer_of_another_network_stays_and_is_reported(tmp_path: Path) -> None:
    net, other = nn.Linear(3, 4), nn.Linear(5, 6)
    saved = trained(net, lambda net: torch.optim.Adam(net.parameters()))
    critic = trained(other, lambda net: torch.optim.Adam(net.parameters()))["optimizer"]
    torch.save({**saved, "critic": critic}, tmp_path / "m.pt")

    decided = plan(str(tmp_path / "m.pt"), ["*=zeros"], reset_optimizer=True)

    assert {step.key.partition(".")[0] for step in decided.slots} == {"optimizer"}
    assert "'critic' is of other parameters, and stays" in decided.warnings


def _moments_left(path: Path, **options: Any) -> dict[str, list[int]]:
    """Return the numbers of the parameters of each optimizer that are not reset."""
    decided = plan(str(path), options.pop("rules"), reset_optimizer=True, **options)
    reset = {step.key.partition(" ")[0] for step in decided.slots}
    saved = torch.load(path)
    return {
        name: [at for at in each["state"] if f"{name}.state.{at}.exp_avg" not in reset]
        for name, each in saved.items()
        if "param_groups" in each
    }


def _critics(path: Path, *, is_named: bool = False) -> None:
    """Save two networks alike, each with an optimizer."""

    def adam(net: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(net.named_parameters() if is_named else net.parameters())

    one, two = (trained(nn.Linear(3, 4), adam) for _ in "12")
    torch.save(
        {"q1": one["model"], "q2": two["model"], "a": one["optimizer"], "b": two["optimizer"]}, path
    )


@pytest.mark.parametrize("is_named", [False, True])
def test_the_optimizer_of_a_network_alike_is_never_taken_for_that_of_the_root(
    tmp_path: Path, is_named: bool
) -> None:
    _critics(tmp_path / "m.pt", is_named=is_named)

    with pytest.raises(RuleError, match="'a': it may be of 'q1', as 'b' may, or of 'q2'"):
        _moments_left(tmp_path / "m.pt", rules=["weight=zeros"], root="q1")
    with pytest.raises(RuleError, match=r"may be any of 'q1\.weight', 'q2\.weight'"):
        _moments_left(tmp_path / "m.pt", rules=["q1.weight=zeros"], root=".")
    both = _moments_left(tmp_path / "m.pt", rules=["q?.weight=zeros"], root=".")
    assert both == {"a": [1], "b": [1]}


def test_names_of_another_network_with_other_shapes_are_not_those_of_the_root(
    tmp_path: Path,
) -> None:
    def adam(net: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(net.named_parameters())

    one, two = trained(nn.Linear(3, 4), adam), trained(nn.Linear(3, 1), adam)
    torch.save(
        {"G": one["model"], "D": two["model"], "g": one["optimizer"], "d": two["optimizer"]},
        tmp_path / "m.pt",
    )

    for root, left in (("G", {"g": [1], "d": [0, 1]}), ("D", {"g": [0, 1], "d": [1]})):
        assert _moments_left(tmp_path / "m.pt", rules=["weight=zeros"], root=root) == left


def test_an_order_names_the_keys_of_one_optimizer_after_the_other(tmp_path: Path) -> None:
    _critics(tmp_path / "m.pt")
    order = tmp_path / "order.txt"
    order.write_text("q1.weight\nq1.bias\nq2.weight\nq2.bias\n")

    left = _moments_left(
        tmp_path / "m.pt", rules=["q2.weight=zeros"], root=".", optimizer_order=str(order)
    )

    assert left == {"a": [0, 1], "b": [1]}


def test_the_optimizer_next_to_the_root_is_the_one_that_is_reset(tmp_path: Path) -> None:
    agents = [
        trained(nn.Linear(3, 4), lambda net: torch.optim.Adam(net.parameters())) for _ in "12"
    ]
    torch.save({"agents": agents}, tmp_path / "m.pt")

    decided = plan(
        str(tmp_path / "m.pt"), ["weight=zeros"], root="agents.1.model", reset_optimizer=True
    )

    assert {step.key.rpartition(".")[0] for step in decided.slots if "exp_avg " in step.key} == {
        "agents.1.optimizer.state.0"
    }
    assert "'agents.0.optimizer' is of other parameters, and stays" in decided.warnings


def test_the_one_optimizer_of_two_networks_alike_is_taken_for_that_of_the_root_with_a_warning(
    tmp_path: Path,
) -> None:
    net = nn.Linear(3, 4)
    saved = trained(net, lambda net: torch.optim.Adam(net.parameters()))
    target = {key: each.clone() for key, each in net.state_dict().items()}
    torch.save({**saved, "target": target}, tmp_path / "m.pt")

    for root, twin in (("model", "target"), ("target", "model")):
        decided = plan(str(tmp_path / "m.pt"), ["weight=zeros"], root=root, reset_optimizer=True)
        taken = f"'optimizer' is taken for that of {root!r}, and not of {twin!r}"
        assert decided.warnings == (taken,)


def test_an_average_has_no_optimizer(tmp_path: Path) -> None:
    net = nn.Linear(3, 4)
    saved = trained(net, lambda net: torch.optim.Adam(net.parameters()))
    average = {key: each.clone() for key, each in net.state_dict().items()}
    torch.save({**saved, "model_ema": average}, tmp_path / "m.pt")

    with pytest.raises(RuleError, match="not of 'model_ema', an average, but of 'model'"):
        _moments_left(tmp_path / "m.pt", rules=["weight=zeros"], root="model_ema")
    assert _moments_left(tmp_path / "m.pt", rules=["weight=zeros"]) == {"optimizer": [1]}


# --- the search itself -----------------------------------------------------------------------------


def _number(at: int) -> ParameterId:
    return ParameterNumber(str(at))


def _all_assignments(groups: list[list[str]], tokens: list[str]) -> set[frozenset[tuple[int, int]]]:
    """Try every choice of positions that keeps the order within each group."""
    count = sum(map(len, groups))
    flat = [(at, token) for at, group in enumerate(groups) for token in group]
    found = set()
    for positions in permutations(range(len(tokens)), count):
        pairs = list(zip(flat, positions, strict=True))
        fits = all(tokens[position] == token for (_, token), position in pairs)
        keeps = all(
            first[1] < second[1] for first, second in pairwise(pairs) if first[0][0] == second[0][0]
        )
        if fits and keeps:
            found.add(frozenset(enumerate(positions)))
    return found


@pytest.mark.parametrize("seed", range(150))
def test_the_search_says_nothing_that_trying_every_choice_contradicts(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)

    def integer(end: int) -> int:
        return int(torch.randint(end, (1,), generator=draw))

    tokens = ["abc"[integer(3)] for _ in range(6)]
    shuffled = torch.randperm(6, generator=draw).tolist()[: 3 + integer(4)]
    parts = [sorted(shuffled[: len(shuffled) // 2]), sorted(shuffled[len(shuffled) // 2 :])]
    groups = [[tokens[at] for at in part] for part in parts]
    flags = [integer(2) == 1 for _ in tokens]
    choices = _all_assignments(groups, tokens)

    found = by_order(groups, tokens)

    assert found is not None  # the groups were taken from the tensors, in order
    ranges, free = found
    filled = Filled(free, flags)
    for at, each in enumerate(range_ for of in ranges for range_ in of):
        possible = {dict(choice)[at] for choice in choices}
        assert all(each.low <= position <= each.high for position in possible)
        verdict = filled.share(each)
        if verdict is not None:
            assert {flags[position] for position in possible} == {verdict}


def test_a_model_of_27_000_tensors_takes_linear_time() -> None:
    names = [f"layers.{at}.{name}" for at in range(9_000) for name in ("w", "b", "g")]
    shapes = [(4, 4), (4,), (4,)] * 9_000
    parameters = [
        Parameter((name,), shape, "float32") for name, shape in zip(names, shapes, strict=True)
    ]
    groups = (
        tuple(at for at in range(27_000) if at % 3 == 0),
        tuple(at for at in range(27_000) if at % 3),
    )
    order = [at for group in groups for at in group]
    states = {
        _number(number): State({"exp_avg": TensorInfo(f"{number}", "float32", shapes[at], 64)})
        for number, at in enumerate(order)
    }
    numbered = iter(range(27_000))
    optimizer = Optimizer(
        "o", tuple(Group(tuple(_number(next(numbered)) for _ in group)) for group in groups), states
    )
    start = time.process_time()

    matched = match_parameters(optimizer, parameters, {"layers.5.w", "layers.7.g"}, None)

    assert time.process_time() - start < 5
    assert matched is not None
    assert matched.filled == {_number(5), _number(9_000 + 15)}
    assert Positions(()).of(None) == []


# --- an order that is given --------------------------------------------------------------------------


def _shuffled(net: nn.Module) -> torch.optim.Optimizer:
    generator = torch.Generator().manual_seed(5)
    params = list(net.parameters())
    return torch.optim.Adam([params[at] for at in torch.randperm(len(params), generator=generator)])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_a_file_of_keys_says_which_parameter_is_which(end: str, tmp_path: Path) -> None:
    net = Gpt()
    torch.save(trained(net, _shuffled), tmp_path / "m.pt")
    named = ["head.weight" if key == "embed.weight" else key for key in true_keys(net, _shuffled)]
    (tmp_path / "order.txt").write_text(end.join(named) + end, newline="")
    rules = ["blocks.1.mix.weight=normal", "embed.weight=normal"]

    decided = plan(
        str(tmp_path / "m.pt"),
        rules,
        reset_optimizer=True,
        optimizer_order=str(tmp_path / "order.txt"),
    )

    numbers = {int(step.key.split(".")[2]) for step in decided.slots}
    assert numbers == {named.index("blocks.1.mix.weight"), named.index("head.weight")}
    assert decided.warnings == ()


def test_matrices_first_is_an_order_of_its_own(tmp_path: Path) -> None:
    def one_group(net: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(sorted(net.parameters(), key=lambda each: each.ndim < 2))

    net = Gpt()
    torch.save(trained(net, one_group), tmp_path / "m.pt")
    options: dict[str, Any] = {"reset_optimizer": True, "optimizer_order": "ndim"}

    decided = plan(str(tmp_path / "m.pt"), ["blocks.1.mix.weight=normal"], **options)

    at = true_keys(net, one_group).index("blocks.1.mix.weight")
    assert {int(step.key.split(".")[2]) for step in decided.slots} == {at}
    assert decided.warnings == ()


ORDERS: dict[str, tuple[str, str]] = {
    "a key too few": ("embed.weight\n", "and the order 1 key"),
    "a key that is not there": ("{}nose", "the order names 'nose', which is not in the state dict"),
    "a key twice": ("{}head.weight", "the order names 'head.weight' twice"),
    "the wrong shape": ("reversed", "its state of .* is .*, and the tensor"),
    "no keys": ("\n", "it names no key"),
}


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_that_cannot_be_is_an_error(name: str, tmp_path: Path) -> None:
    given, problem = ORDERS[name]
    net = Gpt()
    torch.save(trained(net, lambda net: torch.optim.Adam(net.parameters())), tmp_path / "m.pt")
    named = [key for key, _ in net.named_parameters()]
    text = given.format("".join(f"{key}\n" for key in named[:-1]))
    if given == "reversed":
        text = "\n".join(named[::-1])
    (tmp_path / "order.txt").write_text(text)

    with pytest.raises(RuleError, match=problem):
        plan(
            str(tmp_path / "m.pt"),
            ["embed.weight=normal"],
            reset_optimizer=True,
            optimizer_order=str(tmp_path / "order.txt"),
        )


def test_an_order_without_a_reset_is_an_error(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "m.pt")

    with pytest.raises(RuleError, match="optimizer_order= needs reset_optimizer=True"):
        plan(str(tmp_path / "m.pt"), ["a=zeros"], optimizer_order="ndim")


def test_the_command_says_how_an_order_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    order = [2, 3, 0, 1]

    def head_first(net: nn.Module) -> torch.optim.Optimizer:
        params = list(net.parameters())
        return torch.optim.Adam([params[at] for at in order])

    path = str(tmp_path / "m.pt")
    torch.save(trained(net, head_first), path)
    words = [path, "-r", "1.weight=zeros", "--reset-optimizer", "-n"]

    assert main(words) == 0
    assert "order of the state dict" in capsys.readouterr().err

    (tmp_path / "order.txt").write_text("1.weight\n1.bias\n0.weight\n0.bias\n")
    assert main([*words, "--optimizer-order", str(tmp_path / "order.txt")]) == 0
    assert "order" not in capsys.readouterr().err
    assert main([*words, "--optimizer-order", str(tmp_path / "odrer.txt")]) == 2
    assert "did you mean" in capsys.readouterr().err
