"""Make tiny models as transformers, diffusers and PEFT save them, and load what became of them.

It runs in forked children of a process that has imported the libraries, see `test_libraries`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import diffusers
import peft
import torch
import transformers as hf
from torch import Tensor

from reinit_cli.cli import main

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
IDS = {"vocab_size": 40, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
POSITIONS = {"max_position_embeddings": 20}


def _llama() -> Any:
    return hf.LlamaForCausalLM(hf.LlamaConfig(num_key_value_heads=1, **SIZES, **IDS))


def _mixtral() -> Any:
    sizes = {**SIZES, "num_key_value_heads": 1, "num_local_experts": 2}
    return hf.MixtralForCausalLM(hf.MixtralConfig(**sizes, **IDS))


def _gpt2(**more: Any) -> hf.GPT2Config:
    return hf.GPT2Config(n_positions=20, n_embd=16, n_layer=2, n_head=2, **IDS, **more)


def _bert(**more: Any) -> hf.BertConfig:
    return hf.BertConfig(**SIZES, **POSITIONS, **IDS, **more)


def _t5() -> Any:
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
    return hf.T5ForConditionalGeneration(hf.T5Config(**sizes, **IDS))


def _bart() -> Any:
    halves = {"layers": 1, "attention_heads": 2, "ffn_dim": 24}
    sizes = {f"{half}_{n}": of for half in ("encoder", "decoder") for n, of in halves.items()}
    config = hf.BartConfig(d_model=16, **sizes, **POSITIONS, **IDS)
    return hf.BartForConditionalGeneration(config)


def _vit() -> Any:
    config = hf.ViTConfig(image_size=8, patch_size=4, num_labels=5, **SIZES)
    return hf.ViTForImageClassification(config)


def _marian() -> Any:
    halves = {"layers": 1, "attention_heads": 2, "ffn_dim": 24}
    sizes = {f"{half}_{n}": of for half in ("encoder", "decoder") for n, of in halves.items()}
    config = hf.MarianConfig(d_model=16, decoder_start_token_id=0, **sizes, **POSITIONS, **IDS)
    return hf.MarianMTModel(config)


def _two_berts() -> Any:
    halves = _bert(), _bert(is_decoder=True, add_cross_attention=True)
    config = hf.EncoderDecoderConfig.from_encoder_decoder_configs(*halves)
    return hf.EncoderDecoderModel(config)


def _deit() -> Any:
    config = hf.DeiTConfig(image_size=8, patch_size=4, num_labels=3, **SIZES)
    return hf.DeiTForImageClassificationWithTeacher(config)


def _yolos() -> Any:
    config = hf.YolosConfig(
        image_size=[16, 16], patch_size=8, num_detection_tokens=4, num_labels=3, **SIZES
    )
    return hf.YolosForObjectDetection(config)


def _clip() -> Any:
    text, vision = {**SIZES, **POSITIONS, **IDS}, {"image_size": 8, "patch_size": 4, **SIZES}
    return hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config=vision))


def _unet() -> Any:
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )


MODELS: Mapping[str, Callable[[], Any]] = {
    "llama": _llama,
    "mixtral": _mixtral,
    "gpt2": lambda: hf.GPT2LMHeadModel(_gpt2()),
    "gpt2-classifier": lambda: hf.GPT2ForSequenceClassification(_gpt2()),
    "bert-classifier": lambda: hf.BertForSequenceClassification(_bert(num_labels=3)),
    "bert-masked": lambda: hf.BertForMaskedLM(_bert()),
    "t5": _t5,
    "bart": _bart,
    "vit": _vit,
    "unet": _unet,
    "marian": _marian,
    "two-berts": _two_berts,
    "deit": _deit,
    "yolos": _yolos,
    "clip": _clip,
}


def check(name: str, said: str) -> None:
    """Rewrite the folder of a model, load both, and compare each tensor with what it should be.

    Args:
        name: a name of `MODELS`.
        said: JSON: `argv`, the options of the command; and what they should change, by patterns
            of keys as the library has them: `fills`, to which number; `rows`, of which tensors
            the first rows stay and how many others, which are zeros, follow; `dtype`, of all.
            `as_torch`: whether the folder has a torch file, in which ties are ties.
    """
    asked = json.loads(said)
    torch.manual_seed(0)
    model = MODELS[name]()
    model.save_pretrained("before")
    if asked.pop("as_torch", False):
        # As transformers saved before safetensors, which say nothing of ties.
        Path("before/model.safetensors").unlink()
        torch.save(model.state_dict(), "before/pytorch_model.bin")
    assert main(["run", "before", "-o", "after", *asked.pop("argv")]) == 0

    before = _loaded(type(model), "before", None)
    after = _loaded(type(model), "after", asked.get("dtype"))

    assert_as_asked(before.state_dict(), after.state_dict(), **asked)


def _loaded(kind: Any, folder: str, dtype: str | None) -> Any:
    """Load a model, and see that the library finds in its folder exactly what it expects."""
    is_asked = dtype is not None and issubclass(kind, diffusers.ModelMixin)
    # transformers takes the dtype from the config; diffusers has to be asked for it.
    asked = {"torch_dtype": getattr(torch, dtype)} if dtype is not None and is_asked else {}
    model, info = kind.from_pretrained(folder, output_loading_info=True, **asked)
    assert not any(info.values()), info
    return model


def check_adapter(said: str) -> None:
    """Rewrite the folder of a LoRA adapter with a head of its own, and load it on its base.

    Args:
        said: as `check` takes it; `labels`, of the base on which it is loaded afterwards.
    """
    asked = json.loads(said)
    labels = asked.pop("labels", 3)
    torch.manual_seed(0)
    MODELS["bert-classifier"]().save_pretrained("base")
    adapted = peft.get_peft_model(
        hf.BertForSequenceClassification.from_pretrained("base"),
        peft.LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS"),
    )
    adapted.save_pretrained("before")
    assert main(["run", "before", "-o", "after", *asked.pop("argv")]) == 0

    before, after = _loaded_adapter("before", 3), _loaded_adapter("after", labels)

    assert_as_asked(before, after, **asked)


def _loaded_adapter(folder: str, labels: int) -> Mapping[str, Tensor]:
    base = hf.BertForSequenceClassification.from_pretrained(
        "base", num_labels=labels, ignore_mismatched_sizes=True
    )
    adapted = peft.PeftModel.from_pretrained(base, folder)
    # The base has a head of its own, which the adapter's stands for.
    state = adapted.state_dict()
    return {key: tensor for key, tensor in state.items() if ".original_module." not in key}


def assert_as_asked(
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    fills: Mapping[str, float] | None = None,
    rows: Mapping[str, int] | None = None,
    dtype: str | None = None,
) -> None:
    """Compare two state dicts, see `check`."""
    for pattern in (*(fills or {}), *(rows or {})):
        assert any(fnmatchcase(key, pattern) for key in before), pattern
    assert list(after) == list(before)
    for key, tensor in before.items():
        expected = tensor
        for pattern, number in (fills or {}).items():
            if fnmatchcase(key, pattern):
                expected = torch.full_like(expected, number)
        for pattern, count in (rows or {}).items():
            if fnmatchcase(key, pattern):
                # A bias of logits in BART has one row.
                axis = 1 if tensor.shape[0] == 1 else 0
                expected = _resized(expected, count, axis)
        if dtype is not None and expected.is_floating_point():
            expected = expected.to(getattr(torch, dtype))
        assert after[key].dtype == expected.dtype, (key, after[key].dtype)
        assert torch.equal(after[key], expected), key


def _resized(tensor: Tensor, count: int, axis: int) -> Tensor:
    kept = tensor.narrow(axis, 0, min(count, tensor.shape[axis]))
    new = list(tensor.shape)
    new[axis] = max(0, count - tensor.shape[axis])
    return torch.cat([kept, torch.zeros(new, dtype=tensor.dtype)], axis)
