"""Modules that are wrapped, split between processes, or have no values, are named as what they are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from reinit_cli import ReinitError, apply_, rewrite, stats
from reinit_cli.errors import UnmatchedRuleError


def _model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


WRAPPED = {
    "DataParallel": (lambda: nn.DataParallel(_model()), "module.", ".module"),
    "torch.compile": (lambda: torch.compile(_model()), "_orig_mod.", "._orig_mod"),
}


@pytest.mark.slow  # torch.compile takes seconds to import
@pytest.mark.parametrize(("made", "prefix", "inside"), WRAPPED.values(), ids=WRAPPED)
def test_the_prefix_of_a_wrapper_is_named(made: object, prefix: str, inside: str) -> None:
    wrapped = made()  # type: ignore[operator]
    assert all(key.startswith(prefix) for key in wrapped.state_dict())

    with pytest.raises(UnmatchedRuleError) as refused:
        apply_(wrapped, "1.weight=zeros")

    assert repr(f"{prefix}1.weight=zeros") in refused.value.hint
    assert f"pass its {inside}" in refused.value.hint
    apply_(wrapped, f"{prefix}1.weight=zeros")
    assert not wrapped.state_dict()[f"{prefix}1.weight"].any()


def test_a_meta_tensor_is_named_as_one() -> None:
    with torch.device("meta"):
        model = _model()

    for call in (
        lambda: apply_(model, "1.weight=zeros"),
        lambda: rewrite(model, "1.weight=zeros", "new.safetensors"),
    ):
        with pytest.raises(ReinitError, match="a meta tensor, which has no values"):
            call()
    assert stats(model) == []


@pytest.fixture
def mesh() -> Iterator[object]:
    """A group of one process that no other can reach."""
    distributed = pytest.importorskip("torch.distributed")
    if not distributed.is_available():
        pytest.skip("this torch has no torch.distributed")
    from torch.testing._internal.distributed.fake_pg import FakeStore

    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    yield distributed.device_mesh.init_device_mesh("cpu", (2,))
    distributed.destroy_process_group()


def test_a_tensor_that_processes_share_is_named_as_one(mesh: object) -> None:
    from torch.distributed.tensor import Shard, distribute_module, distribute_tensor

    def shard(_: str, layer: nn.Module, on: object) -> None:
        for name, parameter in list(layer.named_parameters(recurse=False)):
            part = distribute_tensor(parameter.detach(), on, [Shard(0)])  # type: ignore[arg-type]
            layer.register_parameter(name, nn.Parameter(part))

    model = distribute_module(_model(), mesh, shard)  # type: ignore[arg-type]

    for call in (
        lambda: apply_(model, "1.weight=zeros"),
        lambda: rewrite(model, "1.weight=zeros", "new.safetensors"),
    ):
        with pytest.raises(ReinitError, match="a DTensor, of which each process holds a part"):
            call()
    assert stats(model) == []


def test_the_prefixes_of_wrappers_in_wrappers_are_all_named() -> None:
    wrapped = nn.DataParallel(nn.DataParallel(_model()))

    with pytest.raises(UnmatchedRuleError) as refused:
        apply_(wrapped, "1.weight=zeros")

    assert refused.value.hint.endswith("or write 'module.module.1.weight=zeros'")
    apply_(wrapped, "module.module.1.weight=zeros")
