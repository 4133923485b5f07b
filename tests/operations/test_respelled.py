"""Torch files whose tensors or keys change keep everything else: torch says so."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import zipfile
from collections import OrderedDict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from reinit_cli import rewrite, verify
from reinit_cli.errors import TensorError, UnsupportedFormatError, UnwritableContentError
from reinit_cli.operations.prepare import prepare
from reinit_cli.request.request import Request
from reinit_cli.streams.stream import seed_for
from tests.tools import tool

KINDS = pytest.mark.parametrize("is_new", [True, False], ids=["zip", "legacy"])


class Version(NamedTuple):
    """A tuple of a class that torch does not allow."""

    major: int
    minor: int


class Custom:
    """A class that torch does not allow."""

    def __init__(self, **members: Any) -> None:
        self.__dict__.update(members)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _state() -> dict[str, Any]:
    """Return a state dict with every kind of entry."""
    generator = torch.Generator().manual_seed(3)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    whole, base = drawn(6, 5), drawn(8, 8)
    return {
        "weight": drawn(4, 3),
        "half": drawn(9).half(),
        "count": torch.tensor(7),
        "mask": torch.tensor([True, False]),
        "z.tied": whole,
        "a.tied": whole,
        "slice": base[2:5, 3:],
        "transposed": drawn(5, 4).t(),
        "empty": torch.zeros(0, 4),
        "scalar": torch.tensor(0.5),
        "parameter": nn.Parameter(drawn(3, 2)),
        "channels_last": drawn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    }


def _others(state: dict[str, Any]) -> dict[str, Any]:
    """Return what a training script saves besides, some of it shared with the state dict."""
    model = nn.Linear(4, 3)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    return {
        "epoch": 3,
        "optimizer": optimizer.state_dict(),
        "shared": [state["weight"], state["a.tied"][1:], state["slice"]],
        "rng": torch.get_rng_state(),
        "history": {"loss": [0.5, 0.25], "name": "weight"},
    }


def _save(value: Any, *, is_new: bool = True, name: str = "m.pt") -> None:
    torch.save(value, name, _use_new_zipfile_serialization=is_new)


def assert_same(found: Any, expected: Any, path: str = "") -> None:
    """Compare what was loaded, object by object."""
    assert type(found) is type(expected), path
    if isinstance(expected, Tensor):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape), path
        assert found.requires_grad == expected.requires_grad, path
        if expected.is_quantized or expected.is_sparse:
            assert torch.equal(_dense(found), _dense(expected)), path
        else:
            assert torch.equal(_bits(found), _bits(expected)), path
    elif isinstance(expected, dict):
        assert list(found) == list(expected), path
        for key, value in expected.items():
            assert_same(found[key], value, f"{path}.{key}")
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), path
        for at, value in enumerate(expected):
            assert_same(found[at], value, f"{path}.{at}")
    elif isinstance(expected, (Custom, argparse.Namespace, nn.Module)):
        assert_same(found.__dict__, expected.__dict__, path)
    else:
        assert found == expected, path
    if isinstance(expected, OrderedDict):
        assert_same(found.__dict__, expected.__dict__, f"{path} (attributes)")


def _dense(tensor: Tensor) -> Tensor:
    return tensor.dequantize() if tensor.is_quantized else tensor.to_dense()


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _cast(tensor: Any, dtype: torch.dtype) -> Any:
    is_float = isinstance(tensor, Tensor) and tensor.is_floating_point() and not tensor.is_quantized
    if not is_float or tensor.is_sparse:
        return tensor
    cast = tensor.detach().to(dtype)
    return nn.Parameter(cast) if isinstance(tensor, nn.Parameter) else cast


def _shares(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


# --- dtypes ----------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("weights_only", [True, False])
@pytest.mark.parametrize("dtype", ["bfloat16", "float64", "float16"])
def test_a_cast_changes_the_state_dict_and_nothing_else(
    is_new: bool, weights_only: bool, dtype: str
) -> None:
    state = _state()
    saved = {**_others(state), "model": state}
    _save(saved, is_new=is_new)

    rewrite("m.pt", [], "o.pt", dtype=dtype)

    found = torch.load("o.pt", weights_only=weights_only)
    cast = {key: _cast(each, getattr(torch, dtype)) for key, each in state.items()}
    assert_same(found, {**saved, "model": cast})
    assert _shares(found["model"]["z.tied"], found["model"]["a.tied"])
    assert found["model"]["z.tied"].untyped_storage().nbytes() == cast["z.tied"].nbytes
    assert Path("o.pt").read_bytes().startswith(b"PK") is is_new


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_a_cast_to_float8_and_back_keeps_everything_else(dtype: str) -> None:
    state = _state()
    saved = {**_others(state), "model": state}
    _save(saved)

    rewrite("m.pt", [], "o.pt", dtype=dtype)
    rewrite("o.pt", [], "p.pt", dtype="float32")

    cast = {key: _cast(each, getattr(torch, dtype)) for key, each in state.items()}
    assert_same(torch.load("o.pt"), {**saved, "model": cast})
    back = {key: _cast(each, torch.float32) for key, each in cast.items()}
    assert_same(torch.load("p.pt"), {**saved, "model": back})


def test_a_file_of_before_1_6_cannot_hold_float8_next_to_an_epoch() -> None:
    _save({"model": {"w": torch.ones(3)}, "epoch": 1}, is_new=False)

    with pytest.raises(UnwritableContentError, match="'w', of dtype float8_e5m2"):
        rewrite("m.pt", [], "o.pt", dtype="float8_e5m2")


@KINDS
@pytest.mark.filterwarnings("ignore:.*quantize|TypedStorage")
def test_objects_quantized_and_sparse_tensors_stay_as_they_are(is_new: bool) -> None:
    quantized = torch.quantize_per_tensor(torch.randn(4), 0.1, 0, torch.qint8)
    state = OrderedDict(
        w=torch.randn(3, 4), q=quantized, s=torch.eye(3).to_sparse(), _extra_state=b"scale"
    )
    state._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    saved = {
        "state_dict": state,
        "args": argparse.Namespace(lr=0.1, sizes=(1, 2)),
        "version": Version(2, 14),
        "custom": Custom(weight=state["w"], inner=[Custom(a=1)]),
    }
    _save(saved, is_new=is_new)

    rewrite("m.pt", [], "o.pt", dtype="bfloat16")

    cast = OrderedDict({**state, "w": state["w"].bfloat16()})
    cast._metadata = state._metadata  # type: ignore[attr-defined]
    assert_same(torch.load("o.pt", weights_only=False), {**saved, "state_dict": cast})


@KINDS
@pytest.mark.parametrize("is_tied", [True, False])
def test_the_tensors_of_a_pickled_module_are_cast_in_it(is_new: bool, is_tied: bool) -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    if is_tied:
        module[2].weight = module[0].weight
    torch.manual_seed(0)
    _save(module, is_new=is_new)

    rewrite("m.pt", [], "o.pt", dtype="bfloat16")

    found = torch.load("o.pt", weights_only=False)
    assert type(found) is nn.Sequential
    expected = module.bfloat16().state_dict()
    for key, tensor in found.state_dict().items():
        assert torch.equal(tensor, expected[key]), key
        assert tensor.dtype == expected[key].dtype
    assert (found[2].weight is found[0].weight) is is_tied
    assert all(isinstance(each, nn.Parameter) for each in found.parameters())


@pytest.mark.parametrize(
    "saved",
    [
        {"actor": {"w": torch.ones(3)}, "critic": {"w": torch.zeros(3)}, "steps": 5},
        ([torch.ones(3), torch.zeros(2)], {"epoch": 3}),
        {"agents": [{"w": torch.ones(2)}, {"w": torch.zeros(2)}], "n": (1, 2)},
        torch.ones(5),
    ],
    ids=["nested", "a list in a tuple", "dictionaries in a list", "a lone tensor"],
)
def test_tensors_are_cast_wherever_they_lie(saved: Any) -> None:
    _save(saved)

    rewrite("m.pt", [], "o.pt", dtype="float64")

    def cast(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: cast(each) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(map(cast, value))
        return _cast(value, torch.float64)

    assert_same(torch.load("o.pt"), cast(saved))


def test_part_of_a_file_is_cast() -> None:
    saved = {"net": {"a.weight": torch.ones(3), "norm.weight": torch.ones(3)}, "epoch": 2}
    _save(saved)

    rewrite("m.pt", [], "o.pt", dtype=("a.*=bfloat16",))

    cast = {**saved["net"], "a.weight": torch.ones(3).bfloat16()}
    assert_same(torch.load("o.pt"), {**saved, "net": cast})


# --- storages --------------------------------------------------------------------------------


def _storages(path: str) -> dict[str, int]:
    with zipfile.ZipFile(path) as archive:
        return {
            each.filename.partition("/data/")[2]: each.file_size
            for each in archive.infolist()
            if "/data/" in each.filename
        }


def test_a_storage_that_nothing_else_uses_is_replaced_under_its_name() -> None:
    base = torch.randn(10, 10)
    _save({"model": {"view": base[:2], "w": torch.ones(3)}, "kept": torch.ones(7)})
    assert _storages("m.pt") == {"0": 400, "1": 12, "2": 28}

    rewrite("m.pt", [], "o.pt", dtype="float64")

    assert _storages("o.pt") == {"0": 160, "1": 24, "2": 28}


def test_a_storage_that_something_else_uses_stays_next_to_the_new_one() -> None:
    shared = torch.randn(3)
    _save({"model": {"w": shared, "v": torch.ones(2)}, "average": [shared, shared[1:]]})

    rewrite("m.pt", [], "o.pt", dtype="float64")

    assert _storages("o.pt") == {"0": 12, "1": 16, "2": 24}
    found = torch.load("o.pt")
    assert _shares(found["average"][0], found["average"][1])


@KINDS
def test_what_is_dropped_leaves_no_storage(is_new: bool) -> None:
    saved = {"model": {"a": torch.ones(1000), "b": torch.ones(3)}, "epoch": 1}
    _save(saved, is_new=is_new)

    rewrite("m.pt", [], "o.pt", drop=("a",))

    assert_same(torch.load("o.pt"), {"model": {"b": torch.ones(3)}, "epoch": 1})
    assert Path("o.pt").stat().st_size < Path("m.pt").stat().st_size - 3900


# --- shapes, ties and keys -------------------------------------------------------------------


@KINDS
def test_a_resize_keeps_rows_and_everything_else(is_new: bool) -> None:
    state = _state()
    saved = {**_others(state), "model": state}
    _save(saved, is_new=is_new)

    rewrite("m.pt", [], "o.pt", resize=("weight=6:normal:std=2", "z.tied=2"), stream="torch")

    rows = torch.empty(2, 3).normal_(
        0, 2, generator=torch.Generator().manual_seed(seed_for(0, "weight"))
    )
    expected = {**state, "weight": torch.cat([state["weight"], rows])}
    expected["z.tied"] = expected["a.tied"] = state["z.tied"][:2]
    found = torch.load("o.pt")
    assert_same(found, {**saved, "model": expected})
    assert _shares(found["model"]["z.tied"], found["model"]["a.tied"])


@KINDS
def test_tied_keys_become_tensors_of_their_own(is_new: bool) -> None:
    state = _state()
    saved = {**_others(state), "model": state}
    _save(saved, is_new=is_new)

    rewrite("m.pt", ["z.tied=zeros"], "o.pt", untie=True)

    found = torch.load("o.pt")
    assert_same(found, {**saved, "model": {**state, "z.tied": torch.zeros(6, 5)}})
    assert not _shares(found["model"]["z.tied"], found["model"]["a.tied"])


@KINDS
def test_keys_are_renamed_dropped_and_chosen_in_their_dictionary(is_new: bool) -> None:
    state = OrderedDict({f"module.{key}": each for key, each in _state().items()})
    saved = {"epoch": 4, "state_dict": state, "names": ["module.weight"]}
    _save(saved, is_new=is_new)

    rewrite(
        "m.pt",
        ["weight=zeros"],
        "o.pt",
        rename=("module.*=*",),
        drop=("module.half", "module.z.tied"),
    )
    rewrite("m.pt", [], "p.pt", only=("module.a.*", "module.slice"))

    renamed = {key.removeprefix("module."): each for key, each in state.items()}
    del renamed["half"], renamed["z.tied"]
    renamed["weight"] = torch.zeros(4, 3)
    assert_same(torch.load("o.pt"), {**saved, "state_dict": OrderedDict(renamed)})
    chosen = OrderedDict({key: state[key] for key in ("module.a.tied", "module.slice")})
    assert_same(torch.load("p.pt"), {**saved, "state_dict": chosen})


def test_an_object_of_a_state_dict_is_renamed_and_dropped_too() -> None:
    saved = {"w": torch.ones(3), "_extra_state": b"1", "other._extra_state": b"2"}
    _save(saved)

    rewrite("m.pt", [], "o.pt", rename=("w=v", "_extra_state=state"), drop=("other.*",))

    assert_same(torch.load("o.pt"), {"v": torch.ones(3), "state": b"1"})


def test_a_key_that_cannot_move_is_an_error_of_the_plan() -> None:
    _save({"actor": {"w": torch.ones(3)}, "critic": {"w": torch.zeros(3)}})

    with pytest.raises(UnsupportedFormatError, match="cannot be changed in place"):
        prepare(Request("m.pt", (), "o.pt", rename=("actor.w=critic.v",)))


def test_a_nested_dictionary_is_renamed_whole() -> None:
    saved = {"actor": {"w": torch.ones(3)}, "critic": {"w": torch.zeros(3)}}
    _save(saved)

    rewrite("m.pt", [], "o.pt", rename=("actor.*=policy.*",), dtype="bfloat16")

    assert_same(
        torch.load("o.pt"),
        {"policy": {"w": torch.ones(3).bfloat16()}, "critic": {"w": torch.zeros(3).bfloat16()}},
    )


# --- with everything that runs do ------------------------------------------------------------


def test_what_is_filled_is_drawn_in_the_new_dtype_and_shape() -> None:
    saved = {"model": {"w": torch.ones(3, 2), "v": torch.ones(4)}, "epoch": 2}
    _save(saved)

    rewrite(
        "m.pt", ["w=normal", "v=ones"], "o.pt", dtype="bfloat16", resize=("w=5",), stream="torch"
    )

    generator = torch.Generator().manual_seed(seed_for(0, "w"))
    drawn = torch.empty(5, 2).normal_(generator=generator).bfloat16()
    expected = {"w": drawn, "v": torch.ones(4).bfloat16()}
    assert_same(torch.load("o.pt"), {**saved, "model": expected})


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "bfloat16"},
        {"resize": ("weight=6:normal",)},
        {"untie": True},
        {"rename": ("weight=w",)},
        {"drop": ("half",)},
    ],
    ids=lambda options: next(iter(options)),
)
def test_its_record_is_verified_against_the_source(options: dict[str, Any]) -> None:
    state = _state()
    _save({**_others(state), "model": state})

    rewrite("m.pt", ["scalar=normal"], "o.pt", record=True, check=True, **options)

    assert verify("o.pt").findings == ()
    assert verify("o.pt", source="m.pt").findings == ()
    rewrite("o.pt", ["scalar=zeros"], "p.pt", record=True)
    assert verify("p.pt", source="o.pt").findings == ()
    subprocess.run([tool("unzip"), "-tqq", "o.pt"], check=True)


def test_what_is_changed_is_found_by_its_record() -> None:
    _save({"model": {"w": torch.ones(64), "v": torch.ones(64)}, "epoch": 3})
    rewrite("m.pt", ["w=normal"], "o.pt", record=True, dtype="bfloat16")
    saved = torch.load("o.pt")
    data = bytearray(Path("o.pt").read_bytes())
    at = data.index(bytes(saved["model"]["v"].untyped_storage()))
    data[at] ^= 1
    Path("o.pt").write_bytes(data)

    assert [str(each) for each in verify("o.pt").findings]


def test_the_source_is_replaced_in_place() -> None:
    saved = {"model": {"w": torch.ones(3)}, "epoch": 3}
    _save(saved)

    rewrite("m.pt", [], dtype="bfloat16", in_place=True)

    assert_same(torch.load("m.pt"), {**saved, "model": {"w": torch.ones(3).bfloat16()}})


def test_numbers_beyond_the_dtype_stop_the_run_or_become_its_largest() -> None:
    saved = {"model": {"w": torch.tensor([1e9, 1.0])}, "epoch": 3}
    _save(saved)

    with pytest.raises(TensorError, match="'w'"):
        rewrite("m.pt", [], "o.pt", dtype="float16")
    assert os.listdir() == ["m.pt"]
    rewrite("m.pt", [], "o.pt", dtype="float16", saturate=True)

    assert torch.load("o.pt")["model"]["w"].tolist() == [65504.0, 1.0]


@KINDS
def test_pipes_take_and_give_it(is_new: bool, reinit_process: Callable[..., bytes]) -> None:
    saved = {"model": {"w": torch.ones(3)}, "epoch": 3}
    _save(saved, is_new=is_new)

    Path("o.pt").write_bytes(
        reinit_process("-", "--dtype", "bfloat16", "-o", "-", stdin=Path("m.pt").read_bytes())
    )

    assert_same(torch.load("o.pt"), {**saved, "model": {"w": torch.ones(3).bfloat16()}})


def test_a_plan_made_of_it_does_the_same(reinit_process: Callable[..., bytes]) -> None:
    _save({"model": {"w": torch.ones(3)}, "epoch": 3})
    args = ("m.pt", "--dtype", "bfloat16", "-o", "o.pt")
    plan = reinit_process(*args, "--dry-run", "--json")
    assert json.loads(plan)["tensors_only"] is False
    Path("plan.json").write_bytes(plan)
    reinit_process(*args, "-q")
    first = Path("o.pt").read_bytes()
    Path("o.pt").unlink()

    reinit_process("-c", "plan.json", "-q")

    assert Path("o.pt").read_bytes() == first


@pytest.fixture
def reinit_process() -> Callable[..., bytes]:
    """Run the command in a process of its own; return its standard output."""

    def run(*args: str, stdin: bytes = b"") -> bytes:
        command = [sys.executable, "-m", "reinit_cli", *args]
        return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout

    return run


# --- what is shared ---------------------------------------------------------------------------


def _run(value: Any, root: str | None = None, **options: Any) -> Any:
    torch.save(value, "a.pt")
    rewrite("a.pt", [], "b.pt", root=root, **options)
    return torch.load("b.pt", weights_only=False)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_recurrent_network_computes_with_its_cast_weights(is_first: bool) -> None:
    """It holds them in a list too, from which it computes."""
    network = nn.LSTM(3, 4)
    others = {"weights": list(network.parameters())}
    value = {**others, "model": network} if is_first else {"model": network, **others}

    loaded = _run(value, "model", dtype="bfloat16")

    weights = list(loaded["model"].parameters())
    held = loaded["model"]._flat_weights
    assert all(each is other for each, other in zip(held, weights, strict=True))
    assert loaded["model"](torch.zeros(2, 3, dtype=torch.bfloat16))[0].dtype == torch.bfloat16
    assert all(map(torch.equal, loaded["weights"], network.parameters()))


@pytest.mark.parametrize("place", ["first", "last", "inside"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"dtype": "float16"}, {"a": torch.float16, "b": torch.float16}),
        ({"rename": ["*a=*z"]}, {"z": torch.float32, "b": torch.float32}),
        ({"drop": ["*a"]}, {"b": torch.float32}),
    ],
    ids=["cast", "renamed", "dropped"],
)
def test_a_state_dict_that_is_kept_twice_changes_in_one_place(
    place: str, options: dict[str, Any], expected: dict[str, torch.dtype]
) -> None:
    state = OrderedDict(a=torch.ones(2), b=torch.zeros(3))
    value = {
        "first": {"best": state, "model": state},
        "last": {"model": state, "best": state},
        "inside": {"model": {"net": state}, "best": state},
    }[place]

    loaded = _run(value, "model.net" if place == "inside" else "model", **options)

    changed = loaded["model"]["net"] if place == "inside" else loaded["model"]
    assert {key: tensor.dtype for key, tensor in changed.items()} == expected
    assert list(loaded["best"]) == ["a", "b"]
    assert all(torch.equal(loaded["best"][key], state[key]) for key in state)


def test_a_dictionary_of_the_state_dict_that_lies_elsewhere_too_is_refused() -> None:
    shared = {"a": torch.ones(2)}

    with pytest.raises(UnsupportedFormatError, match="lies outside it too"):
        _run({"best": shared, "model": {"net": shared}}, "model", dtype="float16")

    assert os.listdir() == ["a.pt"]


def test_one_tensor_under_two_keys_stays_one_whatever_else_shares_it() -> None:
    shared = torch.ones(2)

    loaded = _run(
        {"best": {"a": shared}, "model": {"a": shared, "b": shared}}, "model", dtype="float16"
    )

    assert loaded["model"]["a"] is loaded["model"]["b"]
    assert loaded["model"]["a"].dtype == torch.float16
    assert torch.equal(loaded["best"]["a"], shared)


def test_a_queue_of_tensors_is_cast() -> None:
    loaded = _run({"model": deque([torch.ones(2), torch.zeros(3)])}, dtype="float16")

    assert [each.dtype for each in loaded["model"]] == [torch.float16] * 2


# --- optimizers ------------------------------------------------------------------------------


def _trained(optimizer_of: Callable[..., torch.optim.Optimizer]) -> dict[str, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    optimizer = optimizer_of(model.parameters())
    for _ in range(2):
        model(torch.randn(5, 4)).square().sum().backward()
        optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 2}


def test_state_of_the_old_shape_is_kept_with_a_warning() -> None:
    saved = _trained(torch.optim.Adam)
    _save(saved)

    outcome = rewrite("m.pt", [], "o.pt", resize=("1.*=5:zeros",))

    assert [each for each in outcome.job.plan.warnings if "old shape" in each] == [
        "'optimizer' no longer fits: it keeps the old shape of '1.weight'; reset_optimizer=True "
        "gives it the new one"
    ]
    assert_same(torch.load("o.pt")["optimizer"], saved["optimizer"])


@KINDS
@pytest.mark.parametrize(
    "optimizer_of",
    [
        torch.optim.Adam,
        torch.optim.Adafactor,
        torch.optim.RMSprop,
        lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9),
    ],
    ids=["Adam", "Adafactor", "RMSprop", "SGD"],
)
def test_reset_state_has_the_new_shape_and_steps(
    is_new: bool, optimizer_of: Callable[..., torch.optim.Optimizer]
) -> None:
    saved = _trained(optimizer_of)
    _save(saved, is_new=is_new)

    rewrite("m.pt", [], "o.pt", resize=("1.*=5:zeros",), reset_optimizer=True, record="r.json")

    assert verify("o.pt", record="r.json", source="m.pt").findings == ()
    found = torch.load("o.pt")
    before = saved["optimizer"]["state"]
    for number, state in found["optimizer"]["state"].items():
        for slot, value in state.items():
            if number < 2:
                assert_same(value, before[number][slot])
            elif isinstance(value, Tensor):
                assert not value.any()
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 5))
    model.load_state_dict(found["model"])
    optimizer = optimizer_of(model.parameters())
    fresh = optimizer_of(model.parameters())
    optimizer.load_state_dict(found["optimizer"])
    model(torch.randn(5, 4)).square().sum().backward()
    optimizer.step()
    fresh.step()
    for parameter in (model[1].weight, model[1].bias):
        shapes = {
            slot: each.shape for slot, each in fresh.state[parameter].items() if each is not None
        }
        assert {
            slot: each.shape
            for slot, each in optimizer.state[parameter].items()
            if each is not None
        } == shapes


def test_a_storage_that_the_pickle_drops_stays_in_the_file() -> None:
    """torch writes no POP, and whoever loads the file still looks for what it takes away."""
    _save({"w": torch.ones(3)})
    with zipfile.ZipFile("m.pt") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    storage = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" + b"%dX\3\0\0\0cpuK\3tQ"
    data = entries["m/data.pkl"]
    entries["m/data.pkl"] = data[:2] + storage % 0 + b"0" + data[2:]
    with zipfile.ZipFile("dropped.pt", "w") as archive:
        for name, each in entries.items():
            archive.writestr(name, each)
    assert torch.load("dropped.pt", weights_only=False)["w"].tolist() == [1, 1, 1]

    rewrite("dropped.pt", [], "o.pt", dtype="float64")

    assert _storages("o.pt") == {"0": 12, "1": 24}
    assert torch.load("o.pt", weights_only=False)["w"].dtype == torch.float64


@pytest.mark.parametrize("is_new", [True, False])
def test_a_key_without_a_letter_gets_a_name(is_new: bool) -> None:
    state = {"": torch.ones(2), "a": torch.zeros(3)}
    torch.save(state, "m.pt", _use_new_zipfile_serialization=is_new)

    rewrite("m.pt", (), "out.pt", rename=["*=net.*"], record="r.json")

    loaded = torch.load("out.pt")
    assert list(loaded) == ["net.", "net.a"]
    assert torch.equal(loaded["net."], state[""])
    assert verify("out.pt", record="r.json").findings == ()
