"""Whatever a state dict holds is filled correctly, or refused by name, or copied."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from reinit_cli import rewrite, seed_for
from reinit_cli.errors import RuleError
from tests.tools import needs_torch

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


class Subclass(torch.Tensor):
    """A tensor of a class of its own."""


class Layer(nn.Linear):
    """A module of a class of its own."""


def _numbers(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    numbers = torch.randint(0, 2, shape, generator=generator)
    if dtype.itemsize == 1 and dtype.is_floating_point and dtype != torch.float8_e5m2:
        return numbers.to(torch.uint8).view(dtype)
    return numbers.to(dtype)


def _viewed(name: str, *, since: str) -> torch.Tensor:
    needs_torch(since, f"{name} is a dtype")
    return _numbers(3, 4, dtype=torch.uint8).view(getattr(torch, name))


def _with(tensor: torch.Tensor, **attributes: Any) -> torch.Tensor:
    for name, value in attributes.items():
        setattr(tensor, name, value)
    return tensor


_OF_DTYPES = {
    str(dtype): (lambda dtype=dtype: _numbers(3, 4, dtype=dtype))
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz),
    )
}
_EXACT = {
    str(dtype): (lambda dtype=dtype: _numbers(3, 4, dtype=dtype))
    for dtype in (
        *(torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool),
        *(torch.complex32, torch.complex64, torch.complex128),
    )
}
_LAYOUTS: dict[str, Callable[[], Any]] = {
    "transposed": lambda: _numbers(5, 3).t(),
    "rows of a base": lambda: _numbers(9, 4)[2:5],
    "columns of a base": lambda: _numbers(6, 9)[:, 2:5],
    "every other row": lambda: _numbers(10, 3)[::2],
    "every third element": lambda: _numbers(30)[1::3],
    "the middle of a base": lambda: _numbers(100).narrow(0, 40, 7),
    "two elements of a large base": lambda: _numbers(5000)[4000:4002],
    "channels last": lambda: _numbers(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "channels last in three": lambda: _numbers(1, 2, 2, 3, 4).to(
        memory_format=torch.channels_last_3d
    ),
    "permuted": lambda: _numbers(2, 3, 4).permute(2, 0, 1),
    "a diagonal": lambda: _numbers(6, 6).diagonal(),
    "with gaps": lambda: _numbers(200).as_strided((4, 5), (40, 2), 7),
    "single steps of any stride": lambda: _numbers(50).as_strided((1, 5, 1), (999, 1, 7), 3),
    "an element of a matrix": lambda: _numbers(4, 4)[2, 3],
    "of half precision, transposed": lambda: _numbers(4, 6, dtype=torch.bfloat16).t(),
    "of eight bits, in columns": lambda: _numbers(6, 9, dtype=torch.float8_e5m2)[:, 2:5],
    "a scalar": lambda: torch.tensor(3.5),
    "empty": lambda: torch.empty(0),
    "empty between others": lambda: torch.empty(3, 0, 2),
    "an empty slice": lambda: _numbers(6, 4)[3:3],
    "of eight dimensions": lambda: _numbers(1, 2, 1, 2, 1, 2, 1, 2),
    "large": lambda: _numbers(700, 800),
    "large and transposed": lambda: _numbers(700, 800).t(),
    "a parameter": lambda: nn.Parameter(_numbers(3, 4)),
    "a frozen parameter": lambda: nn.Parameter(_numbers(3, 4), requires_grad=False),
    "a transposed parameter": lambda: nn.Parameter(_numbers(3, 4).t()),
    "a buffer": lambda: nn.Buffer(_numbers(3, 4)),
    "with gradient": lambda: _numbers(3, 4).requires_grad_(),
    "with an attribute": lambda: _with(_numbers(3, 4), origin="elsewhere"),
    "a parameter with an attribute": lambda: _with(nn.Parameter(_numbers(3, 4)), rank=2),
}
_CARRIED: dict[str, tuple[Callable[[], Any], str]] = {
    "expanded": (lambda: _numbers(1, 4).expand(3, 4), "its elements overlap in memory"),
    "immense and expanded": (lambda: torch.zeros(1).expand(2**50), "its elements overlap"),
    "unfolded": (lambda: _numbers(10).unfold(0, 4, 2), "its elements overlap in memory"),
    "float8 of scales": (
        lambda: _viewed("float8_e8m0fnu", since="2.7"),
        "float8_e8m0fnu can be carried",
    ),
    "float4": (
        lambda: _viewed("float4_e2m1fn_x2", since="2.8"),
        "float4_e2m1fn_x2 can be carried",
    ),
    "conjugated": (lambda: _numbers(3, dtype=torch.complex64).conj(), "a conjugated or negated"),
    "negated": (lambda: torch._neg_view(_numbers(3)), "a conjugated or negated"),
    "sparse": (lambda: torch.eye(3).to_sparse(), "a sparse tensor"),
    "sparse by rows": (lambda: torch.eye(3).to_sparse_csr(), "a sparse tensor"),
    "sparse by columns": (lambda: torch.eye(3).to_sparse_csc(), "a sparse tensor"),
    "sparse in blocks": (lambda: torch.eye(4).to_sparse_bsr((2, 2)), "a sparse tensor"),
    "quantized": (
        lambda: torch.quantize_per_tensor(torch.ones(3), 0.5, 1, torch.qint8),
        "a quantized tensor (qint8)",
    ),
    "quantized by channel": (
        lambda: torch.quantize_per_channel(
            torch.ones(2, 3), torch.tensor([0.5, 1.0]), torch.tensor([0, 1]), 0, torch.quint8
        ),
        "a quantized tensor (quint8)",
    ),
    "meta": (lambda: torch.empty(3, 4, device="meta"), "a meta tensor, which has no values"),
    "nested": (
        lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "a nested tensor",
    ),
    "a subclass": (lambda: _numbers(3, 4).as_subclass(Subclass), "a tensor subclass (tests."),
    "a number": (lambda: 3, "not a tensor but int"),
    "nothing": (lambda: None, "not a tensor but None"),
    "a truth": (lambda: True, "not a tensor but bool"),
    "a text": (lambda: "x" * 100_000, "not a tensor but"),
    "bytes": (lambda: b"\0" * 100_000, "not a tensor but"),
    "an array": (lambda: np.arange(3.0), "a NumPy array"),
    "a number of numpy": (lambda: np.float64(3), "not a tensor but numpy"),
    "a size": (lambda: torch.Size([2, 3]), "not a tensor but torch.Size"),
    "a dtype": (lambda: torch.float16, "not a tensor but"),
    "a device": (lambda: torch.device("cpu"), "not a tensor but torch.device"),
    "a namespace": (lambda: argparse.Namespace(lr=0.1), "not a tensor but argparse.Namespace"),
    "a path": (
        lambda: pathlib.PurePosixPath("a/b"),
        f"not a tensor but {pathlib.PurePosixPath.__module__}.PurePosixPath",
    ),
    "an optimizer's state": (
        lambda: torch.optim.Adam([nn.Parameter(torch.ones(2))]).state_dict(),
        "not a tensor but dict",
    ),
}
_NESTED: dict[str, tuple[Callable[[], Any], str, Callable[[Any], torch.Tensor]]] = {
    "a list of tensors": (lambda: [torch.ones(2)], "x.0", lambda x: x[0]),
    "a tuple of tensors": (lambda: (3, torch.ones(2)), "x.1", lambda x: x[1]),
    "a dictionary": (lambda: {"w": torch.ones(2), 3: {4.0}}, "x.w", lambda x: x["w"]),
    "a module": (lambda: Layer(2, 3), "x.weight", lambda x: x.weight),
}
_FILLED = {**_OF_DTYPES, **_LAYOUTS}
_NEW = "new/m.pt"


@pytest.fixture(autouse=True)
def _folders() -> None:
    """Outputs of the same name as their source: it names the folder in an archive."""
    Path("new").mkdir()
    Path("reference").mkdir()


def test_there_are_over_sixty_kinds() -> None:
    assert len(_FILLED) + len(_EXACT) + len(_CARRIED) + len(_NESTED) >= 64


def _save(make: Callable[[], Any], *, is_zip: bool = True) -> dict[str, Any]:
    state = {"a.weight": torch.ones(4, 3), "x": make(), "z.bias": torch.ones(5)}
    torch.save(state, "m.pt", _use_new_zipfile_serialization=is_zip)
    return state


def _saved(state: dict[str, Any]) -> bytes:
    """What `torch.save` writes under the same archive name."""
    torch.save(state, "reference/m.pt")
    return Path("reference/m.pt").read_bytes()


def _change(tensor: torch.Tensor, values: torch.Tensor) -> None:
    """Set the elements, and keep the storage, its strides and what lies in the gaps."""
    with torch.no_grad():
        tensor.data.copy_(values)


def _same(first: Any, second: Any) -> bool:
    if first.dtype.itemsize == 1 and first.is_floating_point():
        return bool(torch.equal(first.float(), second.float()))
    return bool(torch.equal(first, second))


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", _FILLED)
def test_what_can_be_filled_is_what_torch_would_have_saved(name: str, is_zip: bool) -> None:
    state = _save(_FILLED[name], is_zip=is_zip)
    x = state["x"]
    drawn_in = torch.float64 if x.dtype == torch.float64 else torch.float32
    generator = torch.Generator().manual_seed(seed_for(5, "x"))
    drawn = torch.empty(x.shape, dtype=drawn_in).normal_(0, 0.5, generator=generator)
    _change(x, drawn.to(x.dtype))

    rewrite("m.pt", ["x=normal:std=0.5"], _NEW, seed=5, stream="torch")

    if is_zip:
        assert Path("new/m.pt").read_bytes() == _saved(state)
    if x.dtype.itemsize == 1 and not is_zip:
        return  # torch itself does not load such storages from its old format
    found = torch.load("new/m.pt", weights_only=False)
    assert list(found) == list(state)
    assert found["x"].stride() == x.stride()
    assert type(found["x"]) is type(x)
    assert all(_same(found[key].detach(), state[key].detach()) for key in state)


@pytest.mark.parametrize("name", _EXACT)
def test_what_is_exact_takes_constants_and_nothing_else(name: str) -> None:
    state = _save(_EXACT[name])
    _change(state["x"], torch.ones(3, 4).to(state["x"].dtype))

    rewrite("m.pt", ["x=ones"], _NEW)

    assert Path("new/m.pt").read_bytes() == _saved(state)
    only = "the laws of normal and uniform" if state["x"].is_complex() else "zeros, ones"
    with pytest.raises(RuleError, match=f"takes .*{only}.* only"):
        rewrite("m.pt", ["x=trunc_normal"], "other.pt")


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", _CARRIED)
def test_what_cannot_be_filled_is_refused_by_name_and_copied(name: str, is_zip: bool) -> None:
    make, reason = _CARRIED[name]
    try:
        state = _save(make, is_zip=is_zip)
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        pytest.skip(f"this torch does not save it: {error}")
    before = Path("m.pt").read_bytes()

    with pytest.raises(RuleError) as refused:
        rewrite("m.pt", ["x=zeros"], "refused.pt")
    outcome = rewrite("m.pt", ["*=zeros"], _NEW)

    assert f"cannot fill 'x': {reason}" in str(refused.value)
    assert not Path("refused.pt").exists()
    (step,) = [step for step in outcome.job.plan.steps if step.key == "x"]
    assert (step.action, step.reason.startswith(reason)) == ("skip", True)
    after = Path("new/m.pt").read_bytes()
    assert len(after) == len(before)
    if is_zip:
        for key in ("a.weight", "z.bias"):
            state[key].zero_()
        assert after == _saved(state)


@pytest.mark.parametrize("name", _NESTED)
def test_a_tensor_within_an_entry_is_filled_by_a_key_of_its_own(name: str) -> None:
    make, key, tensor_of = _NESTED[name]
    state = _save(make)
    with torch.no_grad():
        tensor_of(state["x"]).zero_()

    rewrite("m.pt", [f"{key}=zeros"], _NEW)

    assert Path("new/m.pt").read_bytes() == _saved(state)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", [*_FILLED, *_EXACT, *_CARRIED, *_NESTED])
def test_keep_alone_is_the_identity(name: str, is_zip: bool) -> None:
    make = {**_FILLED, **_EXACT}.get(name) or {**_CARRIED, **_NESTED}[name][0]
    try:
        _save(make, is_zip=is_zip)
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        pytest.skip(f"this torch does not save it: {error}")

    rewrite("m.pt", ["*=keep"])

    assert Path("m-reinit.pt").read_bytes() == Path("m.pt").read_bytes()
