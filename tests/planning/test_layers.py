"""A tensor's site knows its layer: from the architecture, otherwise from names and shapes."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors.torch import save_file

from reinit_cli.checkpoints.find import find_source
from reinit_cli.initializers import Constant, Elsewhere, Law, Site
from reinit_cli.operations.entries import entries_of
from reinit_cli.planning.layers import with_layers
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.layers.layer import Layer


class _Architecture:
    """A model that has built its first layer itself."""

    def law(self, key: str, shape: tuple[int, ...], seed: int | None = None) -> Law:
        del key, shape, seed
        return Constant(0.0)

    def layer(self, key: str) -> Layer | None:
        if key != "0.weight":
            return None
        return Layer("Embedding", "0", "weight", MappingProxyType({}), told="architecture")

    def first_equal(self, key: str) -> str:
        return key


TENSORS = tuple(TensorInfo(f"{at}.weight", "float32", (4, 8), 128) for at in range(2))


def _told(key: str, elsewhere: Elsewhere) -> tuple[str, str]:
    layer = Site(key, elsewhere=elsewhere).layer
    assert layer is not None
    return layer.kind, layer.told


def test_an_architecture_tells_a_layer_before_names_and_shapes_do() -> None:
    elsewhere = with_layers(Elsewhere(_Architecture()), TENSORS)
    assert _told("0.weight", elsewhere) == ("Embedding", "architecture")
    assert _told("1.weight", elsewhere) == ("Linear", "shapes")


def test_a_site_of_no_checkpoint_has_no_layer() -> None:
    assert Site("0.weight").layer is None


def test_the_config_of_a_folder_tells_of_which_type_its_model_is(tmp_path: Path) -> None:
    save_file({"h.0.attn.c_proj.weight": torch.ones(4, 4)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    assert entries_of(find_source(str(tmp_path)), None).model_type() == "gpt2"
    one = str(tmp_path / "model.safetensors")
    assert entries_of(find_source(one), None).model_type() == ""
