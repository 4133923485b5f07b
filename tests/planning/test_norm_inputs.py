"""The layer before a BatchNorm is told from names, as the forward graph of the model has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
import torchvision
from torch import fx, nn
from torchvision.models import get_model, list_models

from reinit_cli.planning.norm_inputs import NormInputs

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_LAYERS = (nn.modules.conv._ConvNd, nn.Linear)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _LAYERS + _NORMS) or super().is_leaf_module(m, module_qualified_name)


def _inputs_of_norms(model: nn.Module) -> Mapping[str, list[str]]:
    """Return for each BatchNorm all modules with parameters that its input comes from directly."""
    modules = dict(model.named_modules())
    graph = _Tracer().trace(model)
    return {
        str(node.target): _modules_before(node, modules)
        for node in graph.nodes
        if node.op == "call_module" and isinstance(modules[node.target], _NORMS)
    }


def _modules_before(norm: fx.Node, modules: Mapping[str, nn.Module]) -> list[str]:
    found, seen, left = [], set(), list(norm.all_input_nodes)
    while left:
        node = left.pop()
        if node in seen:
            continue
        seen.add(node)
        is_module = node.op == "call_module"
        has_parameters = is_module and [*modules[str(node.target)].parameters()]
        if has_parameters or node.op in ("placeholder", "get_attr"):
            found.append(str(node.target))
        else:
            left += node.all_input_nodes
    return found


def _told(keys: Sequence[str], shapes: Mapping[str, tuple[int, ...]]) -> NormInputs:
    modules: dict[str, dict[str, tuple[int, ...]]] = {}
    for key in keys:
        module, _, name = key.rpartition(".")
        if name != "num_batches_tracked":
            modules.setdefault(module, {})[name] = shapes[key]
    return NormInputs(modules)


SOME = ("resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "densenet121", "r2plus1d_18")
OTHERS = tuple(sorted({*list_models(module=torchvision.models)} - {*SOME, "regnet_y_128gf"}))


def _check(name: str) -> None:
    # A regnet reads a tensor while it is built.
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        model = get_model(name, weights=None)
    before = _inputs_of_norms(model)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    modules = dict(model.named_modules())
    only = {
        norm: found[0]
        for norm, found in before.items()
        if len(found) == 1 and isinstance(modules.get(found[0]), _LAYERS)
    }
    for keys in (list(shapes), sorted(shapes)):
        told = _told(keys, shapes)
        found = {norm: told.layer_before(norm) for norm in before}
        wrong = {
            norm: layer for norm, layer in found.items() if layer and layer not in before[norm]
        }
        assert wrong == {}
        missed = [norm for norm, layer in only.items() if found[norm] != layer]
        assert len(missed) <= 0.05 * len(only), missed


@pytest.mark.parametrize("name", SOME)
def test_the_layer_before_a_norm_is_that_of_the_forward_graph(name: str) -> None:
    _check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_the_layer_before_a_norm_is_that_of_the_forward_graph_of_every_model(name: str) -> None:
    try:
        _check(name)
    except fx.proxy.TraceError:
        pytest.skip("fx cannot follow it")


CONV, NORM = (8, 4, 3, 3), (8,)

NAMED = {
    "names of transformers": (["convolution"], "normalization", "convolution"),
    "numbers": (["conv1", "conv2"], "bn2", "conv2"),
    "a sequence": (["0"], "1", "0"),
    "a sequence with an activation": (["0"], "2", "0"),
    "a stem of several layers": (["conv1.0", "conv1.2"], "bn1", "conv1.2"),
    "lists": (["convs.0.lin", "convs.1.lin"], "bns.1", "convs.1.lin"),
    "a linear layer": (["fc1", "fc2"], "bn2", "fc2"),
    "a block of timm": (["conv_dw", "conv_pw"], "bn1", "conv_dw"),
    "the same block": (["conv_dw", "conv_pw"], "bn2", "conv_pw"),
    "a block of EfficientNet-PyTorch": (["_expand_conv", "_depthwise_conv"], "_bn0", ""),
    "a separable convolution": (["rep.0.conv1", "rep.0.pointwise"], "rep.1", "rep.0.pointwise"),
    "the only layer that fits": (["expand"], "bn", "expand"),
    "words": (["depthwise_conv", "project_conv"], "project_bn", "project_conv"),
}


@pytest.mark.parametrize("parent", ["", "layer.0.", "module.net."])
@pytest.mark.parametrize("case", NAMED)
def test_the_layer_before_a_norm_is_told_from_names(case: str, parent: str) -> None:
    layers, norm, expected = NAMED[case]
    shapes = {f"{parent}{layer}.weight": CONV for layer in layers}
    others = {"bn1": "bn2", "bn2": "bn1"} if "timm" in case or "same" in case else {}
    for each in (norm, *([others[norm]] if others else [])):
        shapes |= {f"{parent}{each}.{name}": NORM for name in ("running_mean", "running_var")}

    found = _told(sorted(shapes), shapes).layer_before(f"{parent}{norm}")

    assert found == (f"{parent}{expected}" if expected else "")


def test_norms_that_come_first_follow_the_layer_before_their_own() -> None:
    shapes = {}
    for block in range(2):
        for number, (inputs, outputs) in enumerate([(4, 8), (8, 8)], 1):
            shapes[f"{block}.conv{number}.weight"] = (outputs, inputs, 3, 3)
            shapes[f"{block}.bn{number}.running_mean"] = (inputs,)

    told = _told(sorted(shapes), shapes)

    assert [told.layer_before(f"1.bn{number}") for number in (1, 2)] == ["", "1.conv1"]


def test_a_hundred_thousand_keys_take_little_time() -> None:
    import time

    shapes = {}
    for block in range(20_000):
        shapes |= {f"layers.{block}.{number}.conv1.weight": CONV for number in range(2)}
        shapes |= {f"layers.{block}.{number}.bn1.running_mean": NORM for number in range(3)}
    started = time.process_time()

    told = _told(sorted(shapes), shapes)
    found = [told.layer_before(f"layers.{block}.1.bn1") for block in range(20_000)]

    assert found[-1] == "layers.19999.1.conv1"
    assert time.process_time() - started < 10
