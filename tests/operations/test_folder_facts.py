"""A summary says what the configs and the index of a folder say, and what is there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from reinit_cli.operations.folder_facts import Config, Shards
from reinit_cli.operations.info import Summary, info


def _folder(**files: object) -> Path:
    """Make a folder with a file of weights, and with configs by their names without ".json"."""
    Path("hf").mkdir()
    save_file({"lm_head.weight": torch.zeros(4, 2)}, "hf/model.safetensors")
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        Path("hf", f"{name}.json").write_text(text)
    return Path("hf")


def _config(**files: object) -> Config:
    found = info(str(_folder(**files))).config
    assert found is not None
    return found


def test_a_config_of_transformers_is_read() -> None:
    config = _config(
        config={
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "torch_dtype": "bfloat16",
            "tie_word_embeddings": True,
            "quantization_config": {"quant_method": "gptq"},
        },
        tokenizer={},
        tokenizer_config={},
    )
    assert config == Config(
        ("LlamaForCausalLM",),
        "llama",
        "bfloat16",
        "gptq",
        ties_embeddings=True,
        tokenizer=("tokenizer.json", "tokenizer_config.json"),
    )


def test_configs_of_diffusers_and_timm_name_their_class() -> None:
    assert _config(config={"_class_name": "UNet2DModel"}).architectures == ("UNet2DModel",)


def test_an_adapter_is_named_with_its_base() -> None:
    config = _config(adapter_config={"peft_type": "LORA", "base_model_name_or_path": "some/base"})
    assert (config.adapter, config.base_model) == ("LORA", "some/base")


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[]",
        "{",
        '{"architectures": "no list", "model_type": 3, "quantization_config": []}',
        '{"architectures": [1, {}], "torch_dtype": ["x"], "tie_word_embeddings": "yes"}',
        '{"model_type": "' + 5_000_000 * "x" + '"}',
    ],
    ids=lambda text: text[:20],
)
def test_a_config_that_says_something_else_says_nothing(text: str) -> None:
    assert _config(config=text) == Config()


def _sharded(total: object) -> Summary:
    Path("hf").mkdir()
    shards: Mapping[str, Any] = {
        "model-00001-of-00002.safetensors": {"a": torch.zeros(3)},
        "model-00002-of-00002.safetensors": {"b": torch.zeros(5)},
    }
    for name, state in shards.items():
        save_file(state, f"hf/{name}")
    weight_map = {key: name for name, state in shards.items() for key in state}
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    Path("hf/model.safetensors.index.json").write_text(json.dumps(index))
    return info("hf")


def test_shards_are_counted_and_the_total_of_the_index_is_given() -> None:
    found = _sharded(32)
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")

    assert found.shards == Shards(
        names,
        sum(os.path.getsize(f"hf/{name}") for name in names),
        "model.safetensors.index.json",
        32,
    )
    assert found.file_nbytes == sum(each.stat().st_size for each in Path("hf").iterdir())
    assert found.notes == ()


def test_an_index_that_gives_another_total_is_noted() -> None:
    assert _sharded(4096).notes == ("its index says 4,096 bytes of tensors, and there are 32",)


@pytest.mark.parametrize("total", [None, "many", -1, 1e400, [32]], ids=repr)
def test_a_total_that_is_not_one_is_left_out(total: object) -> None:
    found = _sharded(total)
    assert found.shards is not None
    assert found.shards.total is None


@pytest.mark.slow
@pytest.mark.parametrize("tie", [True, False])
def test_what_transformers_saves_has_the_numbers_that_it_counts(tie: bool) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "vocab_size": 100}
    config = LlamaConfig(
        **sizes, num_hidden_layers=4, num_attention_heads=4, tie_word_embeddings=tie
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained("hf", max_shard_size="20kB")

    found = info("hf")

    assert found.sums is not None
    assert found.config is not None
    assert found.shards is not None
    assert found.sums.counts.parameters == model.num_parameters()
    assert found.config.architectures == ("LlamaForCausalLM",)
    assert (found.config.model_type, found.config.dtype) == ("llama", "bfloat16")
    assert found.config.ties_embeddings is tie
    assert len(found.shards.files) == len(list(Path("hf").glob("*.safetensors"))) > 1
    assert found.shards.total == found.sums.counts.nbytes


@pytest.mark.slow
def test_names_tell_the_buffers_of_models_of_transformers() -> None:
    import transformers
    from transformers import AutoModel

    from reinit_cli.tensors.counts import counts_of
    from reinit_cli.tensors.live import infos_of

    names = ("bert", "gpt2", "llama", "vit", "clip", "t5", "resnet", "wav2vec2", "swin", "whisper")
    for name in names:
        config = transformers.CONFIG_MAPPING[name]()
        with torch.device("meta"):
            model = AutoModel.from_config(config)
        counts = counts_of(infos_of(model.state_dict()))

        assert counts.parameters == sum(each.numel() for each in model.parameters()), name
