"""Parameters and buffers are counted as the module that has them counts them."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.utils import prune
from torchvision.ops.misc import FrozenBatchNorm2d

from reinit_cli.checkpoints.file import file_source
from reinit_cli.checkpoints.models import torchvision as models
from reinit_cli.tensors.counts import Counts, buffer_keys, count, counted_text, counts_of
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.live import infos_of, infos_of_module


def _by_torch(net: nn.Module) -> tuple[int, int]:
    """Return the parameters and the saved buffers of a module, each shared one once."""
    saved = net.state_dict()
    buffers = {id(each): each for name, each in net.named_buffers() if name in saved}
    return (
        sum(each.numel() for each in net.parameters()),
        sum(each.numel() for each in buffers.values()),
    )


def _by_names(net: nn.Module) -> tuple[int, int]:
    counts = counts_of(infos_of(net.state_dict()))
    return counts.parameters, counts.buffers


def _built(name: str, weights: object) -> nn.Module:
    with torch.device("meta") if "regnet" not in name else nullcontext():
        net: nn.Module = torchvision.models.get_model(name, weights=weights)
    return net


def test_resnet18_has_the_number_of_parameters_that_torchvision_publishes() -> None:
    net = _built("resnet18", None)
    published = torchvision.models.ResNet18_Weights.DEFAULT.meta["num_params"]

    assert _by_names(net) == (published, 9_620) == (11_689_512, 9_620) == _by_torch(net)


@pytest.mark.slow
@pytest.mark.parametrize("name", torchvision.models.list_models())
def test_names_alone_give_the_numbers_of_every_model_of_torchvision(name: str) -> None:
    arguments = {"weights": None}
    if models.has_backbone_weights(name):
        arguments["weights_backbone"] = None
    with models._on_meta():
        net = torchvision.models.get_model(name, **arguments)

    assert _by_names(net) == _by_torch(net)


@pytest.mark.slow
@pytest.mark.parametrize("name", torchvision.models.list_models())
def test_a_model_by_name_has_the_parameters_that_torchvision_publishes(name: str) -> None:
    model = models.find_model(name, "DEFAULT") if _has_weights(name) else None
    if model is None or model.weights is None or models._is_quantized(model):
        # Quantizing merges the norms into the convolutions, and leaves no parameters.
        return
    counts = counts_of(models.inspect_model(model))

    assert counts.parameters == model.weights.meta["num_params"]


def _has_weights(name: str) -> bool:
    return bool(torchvision.models.get_model_weights(name).__members__)


def test_a_module_knows_its_buffers_where_their_names_do_not_tell() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 1), FrozenBatchNorm2d(4))
    net.register_buffer("temperature", torch.ones(3))

    counts = counts_of(infos_of_module(net))
    assert (counts.parameters, counts.buffers) == _by_torch(net) == (8, 19)
    assert _by_names(net) == (19, 8)


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)),
        nn.utils.spectral_norm(nn.Linear(3, 5)),
        nn.utils.parametrizations.spectral_norm(nn.Linear(3, 5)),
        nn.utils.parametrizations.orthogonal(nn.Linear(4, 4)),
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 5)),
        prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5),
        torchvision.models.swin_v2_t(),
    ],
    ids=lambda net: type(net).__name__,
)
def test_names_tell_the_buffers_of_torchs_own_modules(net: nn.Module) -> None:
    assert _by_names(net) == _by_torch(net)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_what_has_no_gradient_is_a_buffer_whatever_its_name(dtype: torch.dtype) -> None:
    net = nn.Linear(2, 2)
    net.register_buffer("order", torch.ones(5, dtype=dtype))

    assert _by_names(net) == _by_torch(net) == (6, 5)


def test_shared_tensors_count_once() -> None:
    net = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5, bias=False), nn.BatchNorm1d(5))
    net[1].weight = net[0].weight
    net.append(nn.BatchNorm1d(5))
    net[3].running_mean = net[2].running_mean

    counts = counts_of(infos_of(net.state_dict()))
    assert (counts.parameters, counts.buffers) == _by_torch(net) == (40, 17)
    assert counts.nbytes == 4 * (20 + 20 + 15) + 8 * 2
    assert counts.tensors == len(net.state_dict())


def test_a_quantized_weight_is_a_parameter_and_its_companions_are_buffers() -> None:
    gptq = {"q.qweight": torch.int32, "q.qzeros": torch.int32, "q.scales": torch.float16}
    bits = {"l.weight": torch.uint8, "l.weight.absmax": torch.float32, "l.bias": torch.float16}
    fp8 = {"f.weight": torch.float8_e4m3fn, "f.weight_scale_inv": torch.float32}
    state = {key: torch.zeros(2, 2, dtype=dtype) for key, dtype in (gptq | bits | fp8).items()}

    assert buffer_keys(infos_of(state)) == {
        *("q.qzeros", "q.scales", "l.weight.absmax", "f.weight_scale_inv")
    }


def test_a_buffer_is_one_in_a_selection_too() -> None:
    infos = infos_of(prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5).state_dict())
    chosen = [info for info in infos if info.key == "weight_mask"]

    assert count(chosen, (), buffer_keys(infos)) == Counts(1, 0, 16, 64)


def test_what_is_not_a_tensor_does_not_count() -> None:
    entry = TensorInfo("epoch", "int", (), 0, carried="not a tensor but a int")
    assert counts_of((entry,)) == Counts()


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        (
            Counts(102, 11_689_512, 9_620, 46_800_000),
            "102 tensors, 11,689,512 parameters, 9,620 in buffers, 46.8 MB",
        ),
        (Counts(1, 1, 0, 4), "1 tensor, 1 parameter, 4 B"),
        (Counts(20, 0, 20, 160), "20 tensors, 20 in buffers, 160 B"),
        (Counts(), "0 tensors, 0 parameters, 0 B"),
    ],
)
def test_counts_are_told_in_words(counts: Counts, text: str) -> None:
    assert counted_text(counts) == text


def test_a_pickled_module_says_which_of_its_tensors_are_buffers() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 1), FrozenBatchNorm2d(4), nn.BatchNorm1d(2))
    net.register_buffer("temperature", torch.ones(3))
    net.register_buffer("fleeting", torch.ones(7), persistent=False)
    torch.save(net, "net.pt")

    counts = counts_of(file_source("net.pt", "net.pt", None).tensors)

    assert (counts.parameters, counts.buffers) == _by_torch(net)
    assert counts.buffers == 4 * 4 + 5 + 3
