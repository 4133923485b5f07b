"""A state dict is found wherever torch.save was given it, and has every tensor once."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from torch import nn

from reinit_cli import rewrite
from reinit_cli.checkpoints.formats.base import Located
from reinit_cli.cli import main
from reinit_cli.errors import ReinitError, UnknownNameError, UnsupportedFormatError
from reinit_cli.storage.local import InputFile
from tests.checkpoints.formats.locating import locate
from tests.checkpoints.formats.torch.nestings import (
    NESTINGS,
    Holder,
    Items,
    Registry,
    optimizer,
    weights,
)

pytestmark = pytest.mark.filterwarnings("ignore:Couldn't retrieve source code:UserWarning")


def save(value: Any, *, is_zip: bool = True) -> None:
    torch.save(value, "m.pt", _use_new_zipfile_serialization=is_zip)


def located(root: str | None = None) -> Located:
    with InputFile("m.pt") as file:
        return locate(file, root)


def step(value: Any, key: Any) -> Any:
    """Go one step into what torch.load returned."""
    if isinstance(value, torch.nn.Module):
        return getattr(value, key)
    try:
        return value[key]
    except (TypeError, KeyError):
        return getattr(value, key)


def reached(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = step(value, key)
    return value


def at_root(value: Any, root: str) -> Any:
    for name in root.split(".") if root else ():
        value = step(value, int(name) if name.isdigit() else name)
    return value


def values_of(found: Located) -> dict[str, bytes]:
    data = Path("m.pt").read_bytes()
    return {
        tensor.key: data[place.offset : place.offset + place.nbytes]
        for tensor in found.tensors
        for place in found.places.get(tensor.key, ())
    }


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", NESTINGS)
def test_the_state_dict_is_found(name: str, is_zip: bool) -> None:
    nesting = NESTINGS[name]
    save(nesting.saves(), is_zip=is_zip)

    found = located()

    loaded = at_root(torch.load("m.pt", weights_only=False), nesting.root)
    tensors = {key: reached(loaded, path) for key, path in nesting.keys.items()}
    assert found.root == nesting.root
    assert [each.key for each in found.tensors if not each.is_no_tensor] == list(nesting.keys)
    assert values_of(found) == {
        key: each.detach().contiguous().numpy().tobytes() for key, each in tensors.items()
    }
    assert tuple(each.root for each in found.neighbors) == nesting.networks
    assert set(nesting.lost) <= set(found.rest)


@pytest.mark.parametrize("name", NESTINGS)
def test_a_cast_reaches_every_tensor_that_is_found(name: str) -> None:
    nesting = NESTINGS[name]
    save(nesting.saves())

    rewrite("m.pt", [], "cast.pt", dtype="bfloat16")

    before, after = (
        at_root(torch.load(path, weights_only=False), nesting.root) for path in ("m.pt", "cast.pt")
    )
    for path in nesting.keys.values():
        tensor = reached(before, path)
        dtype = torch.bfloat16 if tensor.is_floating_point() else tensor.dtype
        assert reached(after, path).dtype == dtype
        assert torch.equal(reached(after, path), tensor.to(dtype))


SIDE = {"conv.weight": torch.full((7,), 5.0), "conv.bias": torch.full((3,), 6.0)}

TRAINING = {
    "agents": [{"actor": weights(), "critic.main": SIDE}, {"actor": weights(2)}],
    "ema.model": {"inner": weights(3)},
    7: weights(4),
    "kept": Holder(net=nn.Sequential(nn.Linear(2, 2)), rows=[torch.ones(2)]),
    "optimizer": optimizer(),
}

NAMED: dict[str, list[str]] = {
    "agents.0.actor": ["fc.weight", "fc.bias"],
    "agents.0.critic.main": ["conv.weight", "conv.bias"],
    "agents.1": ["actor.fc.weight", "actor.fc.bias"],
    "ema.model": ["inner.fc.weight", "inner.fc.bias"],
    "ema.model.inner": ["fc.weight", "fc.bias"],
    "7": ["fc.weight", "fc.bias"],
    "kept": ["net.0.weight", "net.0.bias", "rows.0"],
    "kept.net": ["0.weight", "0.bias"],
    "kept.net.0": ["weight", "bias"],
    "kept.rows": ["0"],
    "optimizer.state.0": ["step", "exp_avg", "exp_avg_sq"],
    "optimizer.state": [
        f"{at}.{slot}" for at in (0, 1) for slot in ("step", "exp_avg", "exp_avg_sq")
    ],
}


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("root", NAMED)
def test_a_root_is_any_path(root: str, is_zip: bool) -> None:
    save(TRAINING, is_zip=is_zip)

    found = located(root)

    assert found.root == root
    assert [each.key for each in found.tensors] == NAMED[root]
    assert all(each.nbytes for each in found.tensors)


def test_the_root_of_the_whole_has_every_tensor_but_an_optimizers() -> None:
    save(TRAINING)

    found = located(".")

    assert [each.key for each in found.tensors] == [
        *("agents.0.actor.fc.weight", "agents.0.actor.fc.bias"),
        *("agents.0.critic.main.conv.weight", "agents.0.critic.main.conv.bias"),
        *("agents.1.actor.fc.weight", "agents.1.actor.fc.bias"),
        *("ema.model.inner.fc.weight", "ema.model.inner.fc.bias", "7.fc.weight", "7.fc.bias"),
        *("kept.net.0.weight", "kept.net.0.bias", "kept.rows.0"),
    ]
    assert len(found.outside) == 6
    assert [each.path for each in found.optimizers] == ["optimizer"]


def test_an_optimizer_alone_is_the_whole_where_the_user_says_so() -> None:
    save(optimizer())

    assert [each.key for each in located(".").tensors][:2] == ["state.0.step", "state.0.exp_avg"]


def test_an_unknown_root_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    save({"a": [{"actor": weights()}, {"actor": SIDE}], "b": (weights(2), weights(3)), "epoch": 3})

    assert main(["keys", "m.pt", "--root", "nothing"]) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error == "error: 'm.pt' has no state dict at 'nothing'"
    assert hint == (
        "hint: try --root a.0.actor or --root a.1.actor or --root b.0; there are also b.1"
    )


@pytest.mark.parametrize("root", ["epoch", "args", "model.fc.weight", "model.fc", "b." * 200])
def test_a_root_without_tensors_in_it_is_refused(root: str) -> None:
    save({"model": weights(), "args": {"lr": 0.1}, "epoch": 3})

    with pytest.raises(UnknownNameError):
        located(root)


def test_two_entries_that_have_one_key_are_both_named(capsys: pytest.CaptureFixture[str]) -> None:
    save({"state_dict": {"a": {"b": torch.ones(2)}, "a.b": torch.zeros(2)}})

    assert main(["keys", "m.pt"]) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error == ("error: 'm.pt' has two entries that are called 'a.b': ['a.b'] and ['a']['b']")
    assert hint == "hint: try --root state_dict.a"
    assert main(["keys", "m.pt", "--root", "state_dict.a"]) == 0
    assert capsys.readouterr().out == "b\n"


def test_a_number_and_a_text_that_are_one_key_are_refused() -> None:
    save({0: torch.ones(2), "0": torch.zeros(2)})

    with pytest.raises(UnsupportedFormatError, match=r"called '0': \[0\] and \['0'\]"):
        located()


def test_the_report_says_where_the_state_dict_is_and_what_is_next_to_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    save({"model": weights(), "my ema": weights(2), "head": {"weight": torch.ones(3)}})
    facts = [
        'state dict: "model"',
        "copy of the weights: my ema: --root 'my ema'",
        "another network: head: --root head",
    ]
    networks = [{"root": "my ema", "is_copy": True}, {"root": "head", "is_copy": False}]

    assert main(["m.pt", "-r", "fc.bias=zeros", "-n"]) == 0
    assert set(facts) <= set("".join(capsys.readouterr()).splitlines())
    assert main(["keys", "m.pt", "-l"]) == 0
    assert set(facts) <= set("".join(capsys.readouterr()).splitlines())
    assert main(["keys", "m.pt", "--meta"]) == 0
    assert set(facts[1:]) <= set("".join(capsys.readouterr()).splitlines())
    assert main(["keys", "m.pt", "--meta", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["networks"] == networks
    assert main(["m.pt", "-r", "fc.bias=zeros", "-n", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["source"]["networks"] == networks
    Path("plan.json").write_text(json.dumps(plan))
    assert main(["-c", "plan.json", "-n"]) == 0


def test_a_folder_of_one_file_lists_the_networks_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run").mkdir()
    torch.save({"net_a": weights(), "net_a_ema": weights(2)}, "run/best.pt")

    assert main(["keys", "run", "-l"]) == 0
    assert "copy of the weights: net_a_ema: --root net_a_ema" in "".join(capsys.readouterr())


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_what_is_filled_in_a_nested_file_is_what_torch_would_have_saved(is_zip: bool) -> None:
    def saves(value: Any, folder: str) -> None:
        Path(folder).mkdir()
        torch.save(value, f"{folder}/m.pt", _use_new_zipfile_serialization=is_zip)

    value = {"actors": [weights(), weights(2)], "critic": (SIDE, None), "steps": 7}
    saves(value, "old")

    rewrite("old/m.pt", ["actors.*.bias=zeros", "critic.0.conv.weight=constant:2"], "m.pt")

    for actor in value["actors"]:
        actor["fc.bias"].zero_()
    value["critic"][0]["conv.weight"].fill_(2)
    saves(value, "new")
    assert Path("m.pt").read_bytes() == Path("new/m.pt").read_bytes()


_KEYS = st.one_of(st.text(min_size=1, max_size=4), st.integers(-3, 2**70), st.booleans(), st.none())

_LEAVES = st.one_of(
    st.integers(1, 6).map(torch.rand),
    st.integers(0, 3),
    st.text(max_size=3),
)

_NESTED = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(_KEYS, inner, max_size=4),
        st.dictionaries(_KEYS, inner, max_size=4).map(OrderedDict),
        st.dictionaries(st.text(min_size=1, max_size=4), inner, max_size=3).map(Registry),
        st.lists(inner, max_size=3).map(Items),
    ),
    max_leaves=12,
)


def _walked(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield ".".join(map(str, path)) or "tensor", value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _walked(inner, (*path, key))
    elif isinstance(value, (list, tuple)):
        for at, inner in enumerate(value):
            yield from _walked(inner, (*path, at))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_NESTED, st.booleans())
def test_every_tensor_has_one_key_and_its_values(value: Any, is_zip: bool) -> None:
    save(value, is_zip=is_zip)
    expected = list(_walked(torch.load("m.pt", weights_only=False)))

    keys = [key for key, _ in expected]
    if len(set(keys)) != len(keys):
        with pytest.raises(UnsupportedFormatError, match="two entries"):
            located(".")
        return
    if not keys:
        with pytest.raises(ReinitError):
            located()
        return
    try:
        found = located(".")
    except UnsupportedFormatError:  # a number or a text has the key of a tensor
        reject()

    tensors = [each.key for each in found.tensors if not each.is_no_tensor]
    assert tensors == keys
    assert values_of(found) == {key: each.numpy().tobytes() for key, each in expected}
    inner = located()
    assert len(inner.places) == len(expected)
    assert {*values_of(inner).values()} <= {*values_of(found).values()}
