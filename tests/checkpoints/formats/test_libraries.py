"""transformers, diffusers and PEFT load the folders that we write, with the values asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.campaign.server import Server

pytestmark = pytest.mark.slow

MODULE = "tests.checkpoints.formats.libraries"
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}

RULES = {
    "llama": "*.1.mlp.up_proj.weight",
    "mixtral": "*.self_attn.q_proj.weight",
    "gpt2": "*.h.1.mlp.c_fc.weight",
    "gpt2-classifier": "score.weight",
    "bert-classifier": "classifier.*",
    "bert-masked": "*.layer.0.output.dense.weight",
    "t5": "*.wo.weight",
    "bart": "*.fc1.*",
    "vit": "classifier.*",
    "unet": "conv_out.*",
}
"""For each model a pattern of keys."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("torch", "reinit_cli.operations.rewrite", MODULE) as server:
        yield server


def _check(server: Server, *arguments: str, **said: Any) -> None:
    check = "check" if len(arguments) == 1 else "check_adapter"
    argv = [*arguments, json.dumps(said)]
    run = server.run(argv, Path.cwd(), environment=OFFLINE, function=f"{MODULE}:{check}")
    assert run.code == 0, run.err.decode()


@pytest.mark.parametrize("name", RULES)
def test_a_folder_whose_tensors_are_filled_is_loaded(server: Server, name: str) -> None:
    argv = ["-r", f"{RULES[name]}=constant:0.5"]
    _check(server, name, argv=argv, fills={RULES[name]: 0.5})


@pytest.mark.parametrize("name", sorted(RULES.keys() - {"unet"}))
def test_a_folder_of_several_shards_is_loaded(server: Server, name: str) -> None:
    _check(server, name, argv=["--shard-size", "4KB"])


def test_an_adapter_whose_tensors_are_filled_is_loaded(server: Server) -> None:
    argv = ["-r", "*.0.*.lora_B.weight=constant:0.5"]
    _check(server, argv=argv, fills={"*.0.*.lora_B.*": 0.5})
