"""Models of torchvision are sources."""

from __future__ import annotations

import socket
import urllib.error
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torchvision.models import WeightsEnum

from reinit_cli import plan, rewrite
from reinit_cli.checkpoints.find import find_source
from reinit_cli.checkpoints.models.borrowing import own_random_state
from reinit_cli.checkpoints.models.torchvision import (
    _loading_with,
    _names_in_source,
    find_model,
    inspect_model,
    model_names,
    weights_in_source,
)
from reinit_cli.errors import (
    SourceError,
    SourceNotFoundError,
    UnknownNameError,
)
from reinit_cli.operations.ways import meant


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def _cache(name: str, weights: str, state: Any) -> Path:
    """Put a file of weights where torch looks for it."""
    member = torchvision.models.get_model_weights(name)[weights]
    path = Path(torch.hub.get_dir(), "checkpoints", member.url.rpartition("/")[2])
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path, _use_new_zipfile_serialization=False)
    return path


def test_pretrained_weights_are_those_of_torchvision() -> None:
    original = torchvision.models.squeezenet1_1().state_dict()
    _cache("squeezenet1_1", "IMAGENET1K_V1", original)

    rewrite("squeezenet1_1", ["classifier.1.bias=ones"])

    written = load_file("squeezenet1_1-reinit.safetensors")
    assert written.pop("classifier.1.bias").eq(1).all()
    assert all(torch.equal(written[key], original[key]) for key in written)


def test_weights_of_another_layout_are_loaded_as_torchvision_renames_them() -> None:
    state = torchvision.models.densenet121().state_dict()
    old = {
        key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): value
        for key, value in state.items()
        if "num_batches_tracked" not in key  # files of that age have none
    }
    _cache("densenet121", "IMAGENET1K_V1", old)

    rewrite("densenet121", ["classifier.bias=zeros"])

    written = load_file("densenet121-reinit.safetensors")
    assert written.keys() == state.keys()
    assert torch.equal(
        written["features.denseblock1.denselayer1.conv2.weight"],
        state["features.denseblock1.denselayer1.conv2.weight"],
    )


def test_weights_that_cannot_be_had_are_an_error_that_names_the_file() -> None:
    with pytest.raises(SourceNotFoundError) as refused:
        rewrite("alexnet", ["*.bias=zeros"])

    path = Path(torch.hub.get_dir(), "checkpoints", "alexnet-owt-7be5be79.pth")
    assert str(refused.value) == (
        f"the pretrained weights of alexnet are not at {str(path)!r} "
        "and cannot be downloaded (no network)"
    )
    assert not Path("alexnet-reinit.safetensors").exists()


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("executed", "w")


def test_a_hostile_file_in_the_cache_is_not_executed() -> None:
    _cache("alexnet", "IMAGENET1K_V1", {"features.0.weight": Hostile()})
    Path("executed").unlink(missing_ok=True)

    with pytest.raises(SourceNotFoundError):
        rewrite("alexnet", ["*.bias=zeros"])
    assert not Path("executed").exists()


def test_a_file_in_the_cache_that_does_not_fit_is_an_error() -> None:
    path = _cache("alexnet", "IMAGENET1K_V1", {"other": torch.zeros(1)})

    with pytest.raises(SourceError) as refused:
        rewrite("alexnet", ["*.bias=zeros"])
    assert str(refused.value) == (
        f"{str(path)!r} does not hold the weights of alexnet: "
        'Missing key(s) in state_dict: "features.0.weight"'
    )


def test_torchvision_is_as_it_was_afterwards() -> None:
    before = (WeightsEnum.get_state_dict, torch.nn.Module.load_state_dict)

    inspect_model(find_model("resnet18", "DEFAULT"))

    assert (WeightsEnum.get_state_dict, torch.nn.Module.load_state_dict) == before
    assert not torch.nn.Linear(1, 1).weight.is_meta


def test_other_threads_load_as_ever_while_a_model_is_built() -> None:
    weights = torchvision.models.AlexNet_Weights.DEFAULT
    before = WeightsEnum.get_state_dict

    def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="Missing key"):
            torch.nn.Linear(2, 2).load_state_dict({})
        with pytest.raises(urllib.error.URLError):
            weights.get_state_dict()

    with ThreadPoolExecutor(1) as other, _loading_with(lambda _: {}):
        other.submit(elsewhere).result()
        assert weights.get_state_dict() == {}
        assert torch.nn.Linear(2, 2).load_state_dict({}) is None

    assert WeightsEnum.get_state_dict is before


def test_loaders_are_set_back_when_a_constructor_fails() -> None:
    before = (WeightsEnum.get_state_dict, torch.nn.Module.load_state_dict, torch.get_rng_state())

    with pytest.raises(ZeroDivisionError), own_random_state(3), _loading_with(lambda _: {}):
        torch.rand(1)
        raise ZeroDivisionError

    after = (WeightsEnum.get_state_dict, torch.nn.Module.load_state_dict, torch.get_rng_state())
    assert after[:2] == before[:2]
    assert torch.equal(after[2], before[2])


@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V2", "ResNet50_Weights.IMAGENET1K_V2"])
def test_weights_are_chosen_by_name(weights: str) -> None:
    assert find_source("resnet50", weights).weights == "IMAGENET1K_V2"


def test_an_unknown_name_is_an_error_with_near_names() -> None:
    with pytest.raises(UnknownNameError) as weights:
        find_source("resnet50", "IMAGENET1K_V3")
    with pytest.raises(UnknownNameError) as model:
        find_source("rasnet50")

    assert weights.value.known == ("IMAGENET1K_V1", "IMAGENET1K_V2", "DEFAULT", "none")
    assert set(meant(weights.value)) == {"IMAGENET1K_V1", "IMAGENET1K_V2"}
    assert meant(model.value)[0] == "resnet50"


def test_a_model_without_weights_has_the_same_bytes_every_time_and_other_ones_by_seed() -> None:
    before = torch.get_rng_state()

    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.rand(3)
        rewrite("squeezenet1_1", ["*.bias=ones"], f"{name}.safetensors", weights="none", seed=seed)

    a, b, c = (Path(f"{name}.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c
    torch.set_rng_state(before)
    expected = torch.rand(3)
    torch.set_rng_state(before)
    rewrite("squeezenet1_1", ["*.bias=ones"], "d.safetensors", weights="none")
    assert torch.equal(torch.rand(3), expected)


def test_a_file_of_weights_takes_the_place_of_pretrained_ones() -> None:
    state = torchvision.models.squeezenet1_1().state_dict()
    save_file(state, "mine.safetensors", {"format": "pt", "epoch": "3"})

    outcome = rewrite("squeezenet1_1", ["*.bias=ones"], weights="mine.safetensors")

    written = load_file("squeezenet1_1-reinit.safetensors")
    assert outcome.job.source.name == "squeezenet1_1"
    assert torch.equal(written["features.0.weight"], state["features.0.weight"])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda state: state.pop("classifier.1.bias"), "1 key ('classifier.1.bias') missing"),
        (
            lambda state: state.update(extra=torch.zeros(1), more=torch.zeros(1)),
            "2 keys ('extra', ...) not of the model",
        ),
        (
            lambda state: state.update({"classifier.1.bias": torch.zeros(10)}),
            "'classifier.1.bias' is 10, not 1000",
        ),
    ],
    ids=["missing", "extra", "shape"],
)
def test_a_file_of_other_weights_is_refused(change: Any, problem: str) -> None:
    state = dict(torchvision.models.squeezenet1_1().state_dict())
    change(state)
    save_file(state, "mine.safetensors")

    with pytest.raises(SourceError) as refused:
        plan("squeezenet1_1", ["*.bias=ones"], weights="mine.safetensors")

    assert str(refused.value) == (
        f"'mine.safetensors' does not hold the weights of squeezenet1_1: {problem}"
    )


def test_weights_are_not_chosen_for_a_path() -> None:
    save_file({"w": torch.zeros(2)}, "alexnet")

    with pytest.raises(SourceError, match=r"'\./alexnet' is a path, and weights are chosen for"):
        find_source("./alexnet", "none")


def test_a_path_is_forced_by_a_slash_and_a_bare_word_is_a_model_first() -> None:
    save_file({"w": torch.zeros(2)}, "alexnet")
    save_file({"w": torch.zeros(2)}, "unknown")

    assert [tensor.key for tensor in find_source("./alexnet").tensors] == ["w"]
    assert [tensor.key for tensor in find_source("unknown").tensors] == ["w"]
    assert len(find_source("alexnet").tensors) == 16


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["DEFAULT", "none"])
def test_every_model_is_inspected_offline_and_named_in_full(weights: str) -> None:
    for name in model_names():
        infos = inspect_model(find_model(name, weights))
        assert infos
        assert all(info.carried for info in infos if info.fillable_dtype is None), name


@pytest.mark.slow
def test_what_is_inspected_is_what_torchvision_builds() -> None:
    for name in ("googlenet", "regnet_y_8gf", "fasterrcnn_mobilenet_v3_large_fpn", "swin_v2_t"):
        backbone = {"weights_backbone": None} if "rcnn" in name else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torchvision.models.get_model(name, weights=None, **backbone).state_dict()
        infos = inspect_model(find_model(name, "none"))
        assert [(info.key, info.shape, f"torch.{info.dtype}") for info in infos] == [
            (key, tuple(tensor.shape), str(tensor.dtype)) for key, tensor in state.items()
        ]


@pytest.mark.slow
def test_a_quantized_tensor_is_named_as_such() -> None:
    decided = plan("quantized_mobilenet_v2", ["*=normal:std=0.02"])

    reasons = {step.key: step.reason for step in decided.steps if step.action == "skip"}
    assert reasons["features.0.0.weight"] == "a quantized tensor (qint8)"
    assert reasons["classifier.1._packed_params.dtype"] == "not a tensor but a dtype"
    assert reasons["classifier.1._packed_params._packed_params"] == "not a tensor but a tuple"


def test_the_names_in_torchvision_s_source_are_those_of_its_list() -> None:
    assert sorted(_names_in_source()) == torchvision.models.list_models()


@pytest.mark.slow
def test_names_of_weights_are_read_without_torchvision() -> None:
    for name in model_names():
        members = torchvision.models.get_model_weights(name).__members__
        assert weights_in_source(name) == list(members), name
