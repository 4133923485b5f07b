"""What a program sets for all of torch does not reach values, files or measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from reinit_cli import apply_, diff, plan, rewrite, stats, verify


@contextmanager
def _default_device() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def _default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "nothing": nullcontext,
    "set_default_device": _default_device,
    "with torch.device": lambda: torch.device("meta"),
    "set_default_dtype": _default_dtype,
}
surroundings = pytest.mark.parametrize("around", SURROUNDINGS.values(), ids=SURROUNDINGS)


def _model() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8, device="cpu", dtype=torch.float32))


@surroundings
@pytest.mark.parametrize("init", ["orthogonal", "default", "rewind:donor.pt", "normal:std=0.02"])
def test_surroundings_change_no_value(
    around: Callable[[], AbstractContextManager[object]], init: str
) -> None:
    save_file(_model().state_dict(), "model.safetensors")
    torch.save(_model().state_dict(), "donor.pt")
    model = _model()
    expected = _model()
    apply_(expected, {"0.weight": init})

    with around():
        apply_(model, {"0.weight": init})
        rewrite(model, {"0.weight": init}, "module.safetensors", dtype="bfloat16")
        rewrite("model.safetensors", {"0.weight": init}, "file.safetensors", arch=_model)

    written = load_file("module.safetensors")["0.weight"]
    assert torch.equal(model.state_dict()["0.weight"], expected.state_dict()["0.weight"])
    assert torch.equal(load_file("file.safetensors")["0.weight"], model.state_dict()["0.weight"])
    assert torch.equal(written, model.state_dict()["0.weight"].bfloat16())


@surroundings
def test_surroundings_change_no_model_and_no_measurement(
    around: Callable[[], AbstractContextManager[object]],
) -> None:
    pytest.importorskip("torchvision")
    rules = "classifier.1.weight=kaiming_normal:relu"
    plain = rewrite("squeezenet1_1", rules, "plain/model.pt", weights="none", record=True)

    with around():
        planned = plan("squeezenet1_1", rules, weights="none")
        rewrite("squeezenet1_1", rules, "around/model.pt", weights="none", record=True)
        measured = stats("around/model.pt")
        compared = diff("plain/model.pt", "squeezenet1_1", "classifier.*", weights="none")
        verdict = verify("around/model.pt")

    assert Path("around/model.pt").read_bytes() == Path("plain/model.pt").read_bytes()
    assert repr(planned.fills) == repr(plain.job.plan.fills)
    assert measured == stats("plain/model.pt")
    assert len(compared) == 2
    assert verdict.holds
