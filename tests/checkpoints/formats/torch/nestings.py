"""Where torch files have their state dict: a table, which the tests and the docs read."""

from __future__ import annotations

import argparse
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn


class Registry(dict[str, Any]):
    """A dictionary of a class of its own."""


class Holder:
    """An object that keeps what it is given as attributes."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Items(list[Any]):
    """A list of a class of its own."""


def weights(start: float = 1, width: int = 3) -> dict[str, torch.Tensor]:
    """Return a small state dict."""
    return {
        "fc.weight": torch.full((2, width), float(start)),
        "fc.bias": torch.full((2,), start + 0.5),
    }


def others(start: float = 5) -> dict[str, torch.Tensor]:
    """Return the state dict of another network, of about the same size."""
    return {"conv.weight": torch.full((7,), float(start)), "conv.bias": torch.full((3,), start)}


def optimizer(width: int = 3) -> dict[str, Any]:
    """Return the state of an optimizer, larger than its network."""
    parameters = [nn.Parameter(each.clone()) for each in weights(width=width).values()]
    adam = torch.optim.Adam(parameters)
    for each in parameters:
        each.grad = torch.ones_like(each)
    adam.step()
    return adam.state_dict()


def network() -> nn.Module:
    """Return a module with a buffer."""
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


@dataclass(frozen=True)
class Nesting:
    """A way in which files hold a state dict.

    Attributes:
        saves: returns what `torch.save` is given.
        root: where the state dict is found; "" for the whole.
        keys: how each key is reached from what `torch.load` returns at the root, as keys,
            indices and names of attributes.
        networks: the other networks that are reported, as `--root` takes them.
        who: the programs that save so; "" where none is known by name.
        lost: what a file of its tensors alone would not hold, as it is reported.
    """

    saves: Callable[[], Any]
    root: str
    keys: Mapping[str, tuple[Any, ...]]
    networks: tuple[str, ...] = ()
    who: str = ""
    lost: tuple[str, ...] = ()


def _trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    layer = nn.Linear(2, 2)
    adam = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    adam.step()
    return layer, adam


def _tied() -> dict[str, Any]:
    shared = torch.ones(40, 3)
    return {"embedder": {"weight": shared, "head": shared}, "other": {"w": torch.ones(5)}}


def _cycle() -> dict[str, Any]:
    """Return a state dict next to something that holds itself."""
    more: dict[str, Any] = {}
    more["itself"] = more
    return {**weights(), "more": more}


def _flat(*names: str) -> dict[str, tuple[Any, ...]]:
    return {name: (name,) for name in names or ("fc.weight", "fc.bias")}


def _below(*path: Any, names: tuple[str, ...] = ("fc.weight", "fc.bias")) -> dict[str, Any]:
    prefix = "".join(f"{each}." for each in path)
    return {f"{prefix}{name}": (*path, name) for name in names}


FC = ("fc.weight", "fc.bias")

CONV = ("conv.weight", "conv.bias")

NESTINGS: dict[str, Nesting] = {
    "a state dict": Nesting(weights, "", _flat()),
    "an ordered state dict": Nesting(lambda: OrderedDict(weights()), "", _flat()),
    "state_dict": Nesting(
        lambda: {"epoch": 3, "state_dict": weights()}, "state_dict", _flat(), who="Lightning"
    ),
    "model_state_dict": Nesting(
        lambda: {"model_state_dict": weights(), "loss": 0.5}, "model_state_dict", _flat()
    ),
    "model": Nesting(lambda: {"model": weights(), "optimizer": optimizer()}, "model", _flat()),
    "module": Nesting(lambda: {"module": weights()}, "module", _flat(), who="DeepSpeed"),
    "net": Nesting(
        lambda: {"net": weights(), "acc": torch.tensor(93.5), "epoch": 200}, "net", _flat()
    ),
    "network": Nesting(lambda: {"network": weights(), "iteration": 1}, "network", _flat()),
    "params and their average": Nesting(
        lambda: {"params": weights(), "params_ema": weights(2)},
        "params",
        _flat(),
        ("params_ema",),
        who="BasicSR",
    ),
    "known names in each other": Nesting(
        lambda: {"model": {"state_dict": weights(), "step": 1}}, "model.state_dict", _flat()
    ),
    "the first of several copies": Nesting(
        lambda: {"module": weights(), "model": weights(2), "state_dict": weights(3)},
        "state_dict",
        _flat(),
        ("module", "model"),
    ),
    "an unusual name": Nesting(lambda: {"net_g": weights(), "iteration": 5}, "net_g", _flat()),
    "an unusual name, and its average": Nesting(
        lambda: {"generator": weights(), "generator_ema": weights(2)},
        "generator",
        _flat(),
        ("generator_ema",),
    ),
    "an average alone": Nesting(
        lambda: {"g_ema": weights(), "latent_avg": torch.zeros(512)},
        "g_ema",
        _flat(),
        who="StyleGAN2",
    ),
    "the state of a random generator": Nesting(
        lambda: {"weights": weights(), "rng_state": torch.get_rng_state()}, "weights", _flat()
    ),
    "the states of random generators alone": Nesting(
        lambda: {"cpu": torch.get_rng_state(), "others": [torch.arange(3)], "epoch": 3},
        "",
        {"cpu": ("cpu",), "others.0": ("others", 0)},
        who="transformers",
    ),
    "arrays of NumPy": Nesting(
        lambda: {"net_a": weights(), "history": {"loss": np.arange(1000.0)}}, "net_a", _flat()
    ),
    "lists of losses": Nesting(
        lambda: {"net": weights(), "losses": [torch.tensor(float(at)) for at in range(50)]},
        "net",
        _flat(),
    ),
    "two networks": Nesting(
        lambda: {"actor": weights(), "critic": others(), "log_alpha": torch.zeros(1)},
        "",
        {**_below("actor"), **_below("critic", names=CONV), "log_alpha": ("log_alpha",)},
        who="SAC",
    ),
    "a known name, and another network of its size": Nesting(
        lambda: {"model": weights(), "discriminator": others(), "epoch": 2},
        "",
        {**_below("model"), **_below("discriminator", names=CONV)},
        lost=("epoch (int)",),
    ),
    "a known name, and a small network": Nesting(
        lambda: {"model": weights(), "loss_head": {"scale.weight": torch.ones(3)}},
        "model",
        _flat(),
        ("loss_head",),
    ),
    "a small known name, and a large network": Nesting(
        lambda: {"net": {"w.weight": torch.ones(2)}, "backbone": weights(width=50)},
        "backbone",
        _flat(),
        ("net",),
    ),
    "a small known name, and an average of something else": Nesting(
        lambda: {"params": {"lr": torch.tensor(0.1)}, "g_ema": weights(width=50)},
        "g_ema",
        _flat(),
    ),
    "networks and their optimizers": Nesting(
        lambda: {
            "netG": weights(),
            "netD": others(),
            "optG": optimizer(),
            "optimizers": [optimizer(), optimizer(9)],
        },
        "",
        {**_below("netG"), **_below("netD", names=CONV)},
        lost=("optG (dict)", "optimizers (list)"),
    ),
    "a tuple": Nesting(lambda: (weights(), {"lr": 0.1}), "0", _flat(), lost=("1 (dict)",)),
    "a tuple with an optimizer": Nesting(lambda: (weights(), optimizer()), "0", _flat()),
    "a module in a list": Nesting(
        lambda: [network(), None],
        "0",
        {
            "0.weight": ("0", "weight"),
            "0.bias": ("0", "bias"),
            "1.weight": ("1", "weight"),
            "1.bias": ("1", "bias"),
            "1.running_mean": ("1", "running_mean"),
            "1.running_var": ("1", "running_var"),
            "1.num_batches_tracked": ("1", "num_batches_tracked"),
        },
        lost=("1 (None)", "0 (torch.nn.modules.container.Sequential)"),
    ),
    "state dicts in a list": Nesting(
        lambda: [weights(), others()], "", {**_below(0), **_below(1, names=CONV)}
    ),
    "a number": Nesting(lambda: {0: weights()}, "0", _flat()),
    "numbers": Nesting(
        lambda: {0: weights(), 1: others()}, "", {**_below(0), **_below(1, names=CONV)}
    ),
    "keys of bytes": Nesting(
        lambda: {"model": {key.encode(): each for key, each in weights().items()}},
        "model",
        {f"{key.encode()!r}": (key.encode(),) for key in FC},
        who="Python 2, loaded and saved again",
    ),
    "agents": Nesting(lambda: {"agents": [{"actor": weights()}]}, "agents.0.actor", _flat()),
    "several agents": Nesting(
        lambda: {"agents": [{"actor": weights()}, {"actor": others()}], "steps": 7},
        "agents",
        {**_below(0, "actor"), **_below(1, "actor", names=CONV)},
        lost=("steps (int)",),
    ),
    "Megatron": Nesting(
        lambda: {
            "model": {
                "language_model": {
                    "embedding": {"word_embeddings": {"weight": torch.ones(4, 2)}},
                    "encoder": {"layers.0.dense.weight": torch.ones(2, 2)},
                }
            },
            "iteration": 1,
        },
        "model",
        {
            "language_model.embedding.word_embeddings.weight": (
                "language_model",
                "embedding",
                "word_embeddings",
                "weight",
            ),
            "language_model.encoder.layers.0.dense.weight": (
                "language_model",
                "encoder",
                "layers.0.dense.weight",
            ),
        },
        who="Megatron-LM",
    ),
    "a tree of parameters": Nesting(
        lambda: {"params": {"Dense_0": {"kernel": torch.ones(9, 9), "bias": torch.ones(9)}}},
        "params",
        {"Dense_0.kernel": ("Dense_0", "kernel"), "Dense_0.bias": ("Dense_0", "bias")},
        who="Flax, converted",
    ),
    "a dictionary among the tensors": Nesting(
        lambda: {**weights(), "norm": {"weight": torch.ones(3)}, "epoch": 3},
        "",
        {**_flat(), "norm.weight": ("norm", "weight")},
    ),
    "integers next to a network": Nesting(
        lambda: {"model": weights(), "split": {"rows": torch.arange(3)}}, "model", _flat()
    ),
    "a network in itself": Nesting(_cycle, "", _flat()),
    "a list of tensors": Nesting(
        lambda: [torch.ones(2), torch.zeros(3)], "", {"0": (0,), "1": (1,)}
    ),
    "a list of tensors by name": Nesting(
        lambda: {"shadow_params": [torch.ones(2), torch.zeros(3)], "decay": 0.9},
        "shadow_params",
        {"0": (0,), "1": (1,)},
    ),
    "lists of weights and biases": Nesting(
        lambda: {"weights": [torch.ones(3, 3), torch.ones(3)], "biases": [torch.ones(3)]},
        "",
        {"weights.0": ("weights", 0), "weights.1": ("weights", 1), "biases.0": ("biases", 0)},
    ),
    "a small known name, and a list of matrices": Nesting(
        lambda: {"net": {"w": torch.ones(2)}, "layers": [torch.ones(9, 9), torch.ones(9)]},
        "layers",
        {"0": (0,), "1": (1,)},
        ("net",),
    ),
    "a tensor": Nesting(lambda: torch.ones(2, 3), "", {"tensor": ()}),
    "a dictionary by default": Nesting(lambda: defaultdict(list, weights()), "", _flat()),
    "a dictionary of another class": Nesting(
        lambda: {"model": Registry(weights()), "epoch": 3}, "model", _flat()
    ),
    "a list of another class": Nesting(lambda: Items([weights(), None]), "0", _flat()),
    "a queue": Nesting(
        lambda: {"model": weights(), "last": deque([torch.ones(9)], 2)}, "model", _flat()
    ),
    "an object": Nesting(lambda: Holder(state=weights(), epoch=3), "state", _flat()),
    "an object of tensors": Nesting(
        lambda: {"net": Holder(w=torch.ones(2, 2), b=torch.ones(2), name="x")},
        "net",
        {"w": ("w",), "b": ("b",)},
    ),
    "a module in an object": Nesting(
        lambda: argparse.Namespace(model=nn.Linear(2, 2), args=3),
        "model",
        {"weight": ("weight",), "bias": ("bias",)},
    ),
    "a module and its optimizer": Nesting(
        _trained, "0", {"weight": ("weight",), "bias": ("bias",)}
    ),
    "a state dict and a scheduler": Nesting(
        lambda: {
            "agent": weights(),
            "lr": {"base_lrs": [torch.ones(99)], "last_epoch": 3, "_step_count": 4},
        },
        "agent",
        _flat(),
    ),
    "weights in float32 that an optimizer holds": Nesting(
        lambda: {
            "weights": weights(),
            "optimizer": {"optimizer": optimizer(), "fp32_from_fp16": [[torch.ones(9, 9)]]},
        },
        "weights",
        _flat(),
        who="apex, Megatron-LM",
    ),
    "one tensor under two names": Nesting(
        _tied,
        "embedder",
        {"weight": ("weight",), "head": ("head",)},
        ("other",),
    ),
}
"""By a name for people."""
