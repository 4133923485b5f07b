"""Tensors and parameters are read as torch wrote them before 1.0; torch still loads them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reinit_cli import rewrite
from reinit_cli.errors import ReinitError
from tests.checkpoints.formats.locating import located_in

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")


class Pickled:
    """Whatever `pickle` is to call, and the state that it is to set."""

    def __init__(self, *reduced: Any) -> None:
        self._reduced = reduced

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._reduced


def tensor_of_0_1(values: Tensor, kind: str = "Float", **changes: Any) -> Pickled:
    storage = getattr(torch, f"{kind}Storage")(values.flatten().tolist())
    state = {"storage": storage, "offset": 0, "size": (*values.shape,), "stride": values.stride()}
    return Pickled(getattr(torch, f"{kind}Tensor"), (), tuple((state | changes).values()))


def parameter_of_0_1(values: Tensor) -> Pickled:
    return Pickled(nn.Parameter, (), (tensor_of_0_1(values), None, OrderedDict(), True, False))


def parameter_of_0_3(values: Tensor) -> Pickled:
    return Pickled(nn.Parameter, (values,), (True, False, OrderedDict()))


def parameter_of_0_4(values: Tensor) -> Pickled:
    return Pickled(nn.Parameter, (values, True))


WAYS: dict[str, Callable[[Tensor], Pickled]] = {
    "a tensor of 0.1": tensor_of_0_1,
    "a parameter of 0.1": parameter_of_0_1,
    "a parameter of 0.3": parameter_of_0_3,
    "a parameter of 0.4": parameter_of_0_4,
}


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_torch_wrote_is_listed_and_filled(
    way: Callable[[Tensor], Pickled], is_old: bool
) -> None:
    weight, other = torch.arange(6.0).view(2, 3), torch.ones(4)
    torch.save(
        OrderedDict(w=way(weight), b=way(other)), "m.pt", _use_new_zipfile_serialization=not is_old
    )
    loaded = torch.load("m.pt", weights_only=True)
    assert loaded["w"].equal(weight)

    located = located_in("m.pt")
    rewrite("m.pt", ["w=constant:val=3"], "out.pt")

    assert [(each.key, each.shape, each.dtype) for each in located.tensors] == [
        ("w", (2, 3), "float32"),
        ("b", (4,), "float32"),
    ]
    assert located.unknown_names == ()
    written = torch.load("out.pt", weights_only=True)
    assert written["w"].tolist() == [[3] * 3] * 2
    assert written["b"].equal(other)
    assert type(written["w"]) is type(loaded["w"])


def test_objects_that_are_made_without_a_call_are_the_same() -> None:
    """NEWOBJ with no arguments, as protocol 2 has it, instead of REDUCE."""
    state = {"t": tensor_of_0_1(torch.ones(3)), "p": parameter_of_0_1(torch.ones(2))}
    torch.save(state, "m.pt", _use_new_zipfile_serialization=False)
    data = Path("m.pt").read_bytes()
    assert data.count(b")R") >= 3
    Path("m.pt").write_bytes(data.replace(b")R", b")\x81"))
    assert torch.load("m.pt", weights_only=True)["p"].tolist() == [1, 1]

    assert [each.shape for each in located_in("m.pt").tensors] == [(3,), (2,)]


@pytest.mark.parametrize("kind", ["Double", "Half", "Long", "Int", "Short", "Char", "Byte"])
def test_every_class_of_tensors_is_read(kind: str) -> None:
    torch.save({"w": tensor_of_0_1(torch.ones(2), kind)}, "m.pt")
    loaded = torch.load("m.pt", weights_only=False)["w"]

    (tensor,) = located_in("m.pt").tensors

    assert f"torch.{tensor.dtype}" == str(loaded.dtype)


def test_a_module_of_those_days_is_a_state_dict() -> None:
    module = nn.Linear(3, 2)
    weight = module.weight.detach().clone()
    module.__dict__["_parameters"] = OrderedDict(weight=parameter_of_0_3(weight), bias=None)
    torch.save(module, "m.pt")

    rewrite("m.pt", ["weight=zeros"], "out.pt")

    assert [each.key for each in located_in("m.pt").tensors] == ["weight"]
    assert torch.load("out.pt", weights_only=False).weight.count_nonzero() == 0


def test_a_parameter_and_its_tensor_are_tied() -> None:
    weight = torch.ones(2)
    torch.save({"t": weight, "p": parameter_of_0_4(weight)}, "m.pt")

    rewrite("m.pt", ["t=zeros", "p=zeros"], "out.pt")

    assert torch.load("out.pt", weights_only=True)["p"].tolist() == [0, 0]


def another_class_of_storage() -> Pickled:
    return tensor_of_0_1(torch.ones(2), storage=torch.DoubleStorage([1.0, 1.0]))


def a_parameter_that_is_set_to_a_storage() -> Pickled:
    state = torch.FloatStorage([5.0, 5.0]), 0, (2,), (1,)
    return Pickled(nn.Parameter, (torch.ones(2),), state)


def a_parameter_with_hooks() -> Pickled:
    return Pickled(nn.Parameter, (torch.ones(2),), (True, False, OrderedDict(a=print)))


LIES = (another_class_of_storage, a_parameter_that_is_set_to_a_storage, a_parameter_with_hooks)


@pytest.mark.parametrize("lie", LIES)
def test_what_torch_did_not_write_is_not_taken_for_a_tensor(lie: Callable[[], Pickled]) -> None:
    torch.save({"w": torch.ones(2), "x": lie()}, "m.pt")

    (_, other) = located_in("m.pt").tensors

    assert other.is_no_tensor


def test_a_tensor_beyond_its_storage_is_refused() -> None:
    torch.save({"x": tensor_of_0_1(torch.ones(2), offset=1)}, "m.pt")

    with pytest.raises(ReinitError, match="reaches beyond its storage"):
        located_in("m.pt")


def test_a_parameter_of_a_tensor_that_is_set_later_is_refused() -> None:
    """Torch gives it what the tensor has when it is made: nothing."""
    state = torch.FloatStorage([5.0, 5.0]), 0, (2,), (1,)
    unset = Pickled(torch.FloatTensor, ())
    torch.save({"p": Pickled(nn.Parameter, (unset, True)), "t": unset, "s": state}, "m.pt")

    with pytest.raises(ReinitError, match="changes a tensor after it is made"):
        located_in("m.pt")
