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


@pytest.mark.parametrize("name", RULES)
def test_a_folder_of_several_shards_is_loaded(server: Server, name: str) -> None:
    _check(server, name, argv=["--shard-size", "4KB"])


@pytest.mark.parametrize("name", RULES)
def test_a_folder_that_is_cast_is_loaded_in_its_new_dtype(server: Server, name: str) -> None:
    _check(server, name, argv=["--dtype", "bfloat16"], dtype="bfloat16")


@pytest.mark.parametrize("count", [45, 33])
@pytest.mark.parametrize(
    ("name", "resized", "patterns"),
    [
        (
            "llama",
            "{model.embed_tokens,lm_head}.weight",
            ["model.embed_tokens.weight", "lm_head.weight"],
        ),
        (
            "mixtral",
            "{model.embed_tokens,lm_head}.weight",
            ["model.embed_tokens.weight", "lm_head.weight"],
        ),
        ("gpt2", "transformer.wte.weight", ["transformer.wte.weight", "lm_head.weight"]),
        ("gpt2-classifier", "transformer.wte.weight", ["transformer.wte.weight"]),
        ("bert-classifier", "*.word_embeddings.weight", ["*.word_embeddings.weight"]),
        (
            "bert-masked",
            "*.word_embeddings.weight",
            ["*.word_embeddings.weight", "cls.predictions.bias", "cls.predictions.decoder.*"],
        ),
        ("t5", "shared.weight", ["shared.weight", "*.embed_tokens.weight", "lm_head.weight"]),
        (
            "bart",
            "model.shared.weight",
            [
                "model.shared.weight",
                "*.embed_tokens.weight",
                "lm_head.weight",
                "final_logits_bias",
            ],
        ),
        (
            "marian",
            "model.shared.weight",
            [
                "model.shared.weight",
                "*.embed_tokens.weight",
                "lm_head.weight",
                "final_logits_bias",
            ],
        ),
        ("two-berts", "encoder.*.word_embeddings.weight", ["encoder.*.word_embeddings.weight"]),
        (
            "two-berts",
            "decoder.*.word_embeddings.weight",
            ["decoder.*.word_embeddings.weight", "*.predictions.bias", "*.predictions.decoder.*"],
        ),
        ("clip", "*.token_embedding.weight", ["*.token_embedding.weight"]),
    ],
)
def test_a_folder_with_another_vocabulary_is_loaded(
    server: Server, name: str, resized: str, patterns: list[str], count: int
) -> None:
    argv = ["--resize", f"{resized}={count}:zeros"]
    _check(server, name, argv=argv, rows=dict.fromkeys(patterns, count))


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("gpt2-classifier", "score.weight"),
        ("bert-classifier", "classifier.weight"),
        ("vit", "classifier.weight"),
        ("deit", "*_classifier.weight"),
    ],
)
def test_a_folder_with_another_number_of_labels_is_loaded(
    server: Server, name: str, head: str, count: int
) -> None:
    module = head.removesuffix("weight")
    argv = ["--resize", f"{head}={count}:zeros"]
    _check(server, name, argv=argv, rows={f"{module}*": count})


@pytest.mark.parametrize(
    ("name", "resized", "patterns", "count"),
    [
        ("gpt2", "transformer.wpe.weight", ["transformer.wpe.weight"], 25),
        ("bert-masked", "*.position_embeddings.weight", ["*.position_embeddings.weight"], 25),
        ("bert-masked", "*.token_type_embeddings.weight", ["*.token_type_embeddings.weight"], 4),
        ("bart", "*.embed_positions.weight", ["*.embed_positions.weight"], 27),
        ("unet", "conv_out.weight", ["conv_out.*"], 6),
    ],
)
def test_a_folder_with_other_positions_types_or_channels_is_loaded(
    server: Server, name: str, resized: str, patterns: list[str], count: int
) -> None:
    argv = ["--resize", f"{resized}={count}:zeros"]
    _check(server, name, argv=argv, rows=dict.fromkeys(patterns, count))


def test_a_detector_with_another_number_of_labels_is_loaded(server: Server) -> None:
    head = "class_labels_classifier.layers.2"
    argv = ["--resize", f"{head}.weight=6:zeros"]
    _check(server, "yolos", argv=argv, rows={f"{head}.*": 6})


def test_an_adapter_with_another_number_of_labels_is_loaded(server: Server) -> None:
    argv = ["--resize", "*.classifier.weight=5:zeros"]
    _check(server, argv=argv, labels=5, rows={"*.classifier.*": 5})


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_a_head_that_is_untied_is_loaded_as_one_of_its_own(server: Server, name: str) -> None:
    argv = ["--untie", "-r", "lm_head.weight=constant:0.5"]
    _check(server, name, argv=argv, as_torch=True, fills={"lm_head.weight": 0.5})


def test_an_adapter_whose_tensors_are_filled_is_loaded(server: Server) -> None:
    argv = ["-r", "*.0.*.lora_B.weight=constant:0.5"]
    _check(server, argv=argv, fills={"*.0.*.lora_B.*": 0.5})
