"""`--arch transformers`: a folder's config is data, and every tensor starts as the package has it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from reinit_cli import rewrite
from tests.cli.conftest import Done
from tests.tools import package

pytestmark = [
    pytest.mark.slow,  # transformers takes seconds to import
    pytest.mark.filterwarnings("ignore"),  # of transformers' own code
]

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
IDS = {"vocab_size": 40, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
HEADS = {"num_key_value_heads": 1, "head_dim": 8}
IMAGES = {"image_size": 8, "patch_size": 4}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 20}
SEQUENCES = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "decoder_start_token_id": 1,
}
MIXTURE = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 24}

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {**SIZES, **IDS, **HEADS}),
    "mistral": ("MistralForCausalLM", {**SIZES, **IDS, **HEADS}),
    "qwen2": ("Qwen2ForCausalLM", {**SIZES, **IDS, **HEADS}),
    "qwen3": ("Qwen3ForCausalLM", {**SIZES, **IDS, **HEADS}),
    "gemma": ("GemmaForCausalLM", {**SIZES, **IDS, **HEADS}),
    "gemma2": ("Gemma2ForCausalLM", {**SIZES, **IDS, **HEADS}),
    "phi": ("PhiForCausalLM", {**SIZES, **IDS}),
    "olmo2": ("Olmo2ForCausalLM", {**SIZES, **IDS}),
    "gpt_neox": ("GPTNeoXForCausalLM", {**SIZES, **IDS}),
    "mixtral": ("MixtralForCausalLM", {**SIZES, **IDS, **HEADS, "num_local_experts": 2}),
    "qwen3_moe": ("Qwen3MoeForCausalLM", {**SIZES, **IDS, **HEADS, **MIXTURE}),
    "gpt2": ("GPT2LMHeadModel", {**GPT2, **IDS}),
    "bamba": ("BambaForCausalLM", {**SIZES, **IDS, "num_key_value_heads": 1, "attn_layer_indices": [1], "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 4}),
    "opt": ("OPTForCausalLM", {**SIZES, **IDS, "ffn_dim": 24, "word_embed_proj_dim": 16}),
    "bert": ("BertForMaskedLM", {**SIZES, **IDS, "max_position_embeddings": 20}),
    "roberta": ("RobertaForMaskedLM", {**SIZES, **IDS, "max_position_embeddings": 20}),
    "t5": ("T5ForConditionalGeneration", {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, **IDS}),
    "bart": ("BartForConditionalGeneration", {**SEQUENCES, **IDS}),
    "whisper": ("WhisperForConditionalGeneration", {**SEQUENCES, **IDS, "num_mel_bins": 8, "max_source_positions": 20, "max_target_positions": 20}),
    "vit": ("ViTForImageClassification", {**SIZES, **IMAGES}),
    "convnext": ("ConvNextForImageClassification", {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}),
    "resnet": ("ResNetForImageClassification", {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}),
}  # fmt: skip


def _folder(kind: str, **others: Any) -> Path:
    """The folder of a tiny model, as transformers saves it, with weights that are all 9."""
    hf = package("transformers")
    name, sizes = MODELS[kind]
    config = hf.CONFIG_MAPPING[kind](**sizes)
    made = getattr(hf, name)(config)
    with torch.no_grad():
        for each in made.parameters():
            each.fill_(9.0)
    made.save_pretrained(kind)
    if others:
        path = Path(kind, "config.json")
        path.write_text(json.dumps({**json.loads(path.read_text()), **others}))
    return Path(kind)


def _started(kind: str) -> dict[str, torch.Tensor]:
    """What transformers itself starts the same model with, as it saves it."""
    hf = package("transformers")
    config = hf.AutoConfig.from_pretrained(kind)
    torch.manual_seed(5)
    getattr(hf, MODELS[kind][0])(config).save_pretrained("started")
    return load_file("started/model.safetensors")


@pytest.mark.parametrize("kind", MODELS)
def test_every_tensor_starts_as_transformers_starts_it(kind: str) -> None:
    _folder(kind)

    outcome = rewrite(kind, "*=default", "new", arch="transformers", allow_unmatched=True)

    filled, started = load_file("new/model.safetensors"), _started(kind)
    skipped = [step.key for step in outcome.job.plan.steps if step.action == "skip"]
    assert skipped == []
    assert filled.keys() == started.keys()
    for key, values in started.items():
        got = filled[key]
        if values.numel() < 2 or bool((values == values.flatten()[0]).all()):
            assert torch.equal(got, values), key
        elif values.numel() >= 100:
            assert got.std().item() == pytest.approx(values.std().item(), rel=0.5), key
            assert got.mean().item() == pytest.approx(
                values.mean().item(), abs=6 * values.std().item() / values.numel() ** 0.5 + 1e-9
            ), key


@pytest.mark.parametrize(("kind", "prefix"), [("gpt2", "transformer."), ("bert", "bert.")])
def test_a_checkpoint_of_the_base_model_is_known_without_its_prefix(kind: str, prefix: str) -> None:
    folder = _folder(kind)
    state = load_file(folder / "model.safetensors")
    bare = {key.removeprefix(prefix): each for key, each in state.items()}
    save_file(bare, folder / "model.safetensors", metadata={"format": "pt"})

    outcome = rewrite(kind, "*=default", "new", arch="transformers")

    assert {step.key for step in outcome.job.plan.fills} == set(bare)


def test_the_names_of_norms_in_old_checkpoints_are_known() -> None:
    folder = _folder("bert")
    state = load_file(folder / "model.safetensors")
    old = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): each
        for key, each in state.items()
    }
    save_file(old, folder / "model.safetensors", metadata={"format": "pt"})

    rewrite("bert", "*=default", "new", arch="transformers")

    new = load_file("new/model.safetensors")
    assert new["bert.embeddings.LayerNorm.gamma"].eq(1).all()
    assert new["bert.embeddings.LayerNorm.beta"].eq(0).all()


def test_an_infinite_number_in_a_config_is_read_as_transformers_writes_it() -> None:
    folder = _folder("bamba")
    assert '"__float__": "Infinity"' in (folder / "config.json").read_text()

    outcome = rewrite("bamba", "*=default", "new", arch="transformers")

    assert len(outcome.job.plan.fills) == len(load_file("bamba/model.safetensors"))
    assert Path("new/config.json").read_bytes() == (folder / "config.json").read_bytes()


def test_a_record_names_the_class_and_the_version_and_is_verified(
    reinit: Callable[..., Done],
) -> None:
    _folder("llama")
    reinit("llama", "-r", "*=default", "--arch", "transformers", "-o", "new", "--record")

    done = reinit("verify", "new", "--source", "llama", "--json")

    verdict = json.loads(done.out)
    assert done.code == 0
    assert len(verdict["drawn"]) == len(load_file("llama/model.safetensors"))
    assert verdict["record"]["constructor"] == {
        "package": "transformers",
        "version": package("transformers").__version__,
        "class": "LlamaForCausalLM",
    }


def test_a_recipe_may_name_transformers(reinit: Callable[..., Done]) -> None:
    _folder("llama")
    Path("r.toml").write_text(
        'arch = "transformers"\n[[rule]]\nmatch = "lm_head.*"\ninit = "default"\n'
    )

    assert reinit("llama", "-c", "r.toml", "-o", "new").code == 0


def test_a_file_in_a_folder_has_the_config_next_to_it(reinit: Callable[..., Done]) -> None:
    _folder("llama")
    file = "llama/model.safetensors"

    done = reinit(
        file, "-r", "lm_head.*=default", "--arch", "transformers", "-o", "new.safetensors"
    )

    assert done.code == 0
    std = load_file("new.safetensors")["lm_head.weight"].std().item()
    assert std == pytest.approx(0.02, rel=0.2)  # the initializer_range of Llama


TRAP = """
import pathlib
pathlib.Path("sprung").touch()
class Trap:
    pass
"""

HOSTILE: dict[str, dict[str, Any]] = {
    "code in the folder": {"auto_map": {"AutoModel": "trap.Trap", "AutoConfig": "trap.Trap"}},
    "code of a hub": {"auto_map": {"AutoModel": "some/where--trap.Trap"}},
    "trust": {"trust_remote_code": True, "custom_pipelines": {"a": {"impl": "trap.Trap"}}},
    "a kernel of a hub": {"attn_implementation": "kernels-community/flash-attn3"},
    "a private kernel of a hub": {"_attn_implementation": "some/where:trap"},
    "a quantizer": {"quantization_config": {"quant_method": "gptq", "bits": 4, "modules": "trap"}},
    "a dtype that is a name": {"torch_dtype": "load", "dtype": "__builtins__"},
    "a path": {"_name_or_path": "../trap", "name_or_path": "/etc/passwd"},
    "kernels": {"use_kernels": True, "kernel_config": {"kernel_mapping": {"RMSNorm": "trap:x"}}},
    "a class elsewhere": {"architectures": ["trap.Trap", "os.system", "Trainer"]},
    "experts": {"experts_implementation": "some/where"},
}


@pytest.mark.parametrize("extra", HOSTILE.values(), ids=HOSTILE)
def test_nothing_in_a_config_but_the_type_selects_code(
    extra: dict[str, Any], reinit: Callable[..., Done]
) -> None:
    folder = _folder("llama", **extra)
    for place in (folder / "trap.py", Path("trap.py")):
        place.write_text(TRAP)

    done = reinit("llama", "-r", "*=default", "--arch", "transformers", "-o", "new")

    assert done.code == 0, done.err
    assert "skipped" not in done.out
    assert not Path("sprung").exists()


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown type": (
        {"model_type": "lama"},
        "has no type of models 'lama'\nhint: did you mean llama",
    ),
    "no type": ({"model_type": None}, "config.json has no model_type"),
    "a type that is a path": ({"model_type": "../trap"}, "has no type of models '../trap'"),
    "layers": ({"num_hidden_layers": 10**9}, "says num_hidden_layers 1,000,000,000"),
    "many layers": ({"num_hidden_layers": 16_000}, "many times as large as the checkpoint"),
    "words": ({"vocab_size": 2**60}, "says vocab_size"),
    "many words": ({"vocab_size": 2**26, "hidden_size": 2**16}, "many times as large"),
    "width": ({"hidden_size": 2**40}, "says hidden_size"),
    "no heads": ({"num_attention_heads": 0}, "'transformers' cannot be built"),
    "a text for a number": ({"hidden_size": "sixteen"}, "'transformers' cannot be built"),
}


@pytest.mark.parametrize(("extra", "problem"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_built_is_one_error(
    extra: dict[str, Any], problem: str, reinit: Callable[..., Done]
) -> None:
    _folder("llama", **extra)

    done = reinit("llama", "-r", "*=default", "--arch", "transformers", "-o", "new")

    assert done.code == 2
    assert problem in done.err
    assert done.err.count("error:") == 1
    assert not Path("new").exists()


@pytest.mark.parametrize("name", ["hf-hub:some/where", "local-dir:/tmp", "../trap"])
@pytest.mark.parametrize("member", ["backbone", "architecture"])
def test_a_model_of_timm_elsewhere_is_refused(
    member: str, name: str, reinit: Callable[..., Done]
) -> None:
    folder = _folder("llama")
    (folder / "config.json").write_text(json.dumps({"model_type": "timm_wrapper", member: name}))

    done = reinit("llama", "-r", "*=default", "--arch", "transformers", "-o", "new")

    assert done.code == 2
    assert f"config.json names {name!r}, which is elsewhere" in done.err


def test_a_source_without_a_config_is_refused(reinit: Callable[..., Done]) -> None:
    save_file({"a": torch.ones(3)}, "alone.safetensors")

    done = reinit("alone.safetensors", "-r", "*=default", "--arch", "transformers")

    assert done.code == 2
    assert done.err.startswith(
        "error: the architecture 'transformers' cannot be built: there is no "
    )


WATCH = """
import os
import sys

seen = []

def hook(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        seen.append(event)
    if event == "open" and isinstance(args[0], str) and args[0].endswith((".py", ".pyc")):
        path = os.path.realpath(args[0])
        if path.startswith(here + os.sep):
            seen.append(path)

here = os.path.realpath(os.curdir)

sys.addaudithook(hook)
from reinit_cli.cli import main
code = main(sys.argv[1:])
assert not seen, seen
sys.exit(code)
"""


def test_nothing_is_fetched_and_no_code_next_to_a_checkpoint_is_opened() -> None:
    folder = _folder("llama", auto_map={"AutoModelForCausalLM": "trap.Trap"})
    for name in (
        "trap.py",
        "kernels.py",
        "flash_attn.py",
        "mamba_ssm.py",
        "timm.py",
        "torch_xla.py",
    ):
        Path(name).write_text("import trap" if name != "trap.py" else TRAP)
        (folder / name).write_text(TRAP)
    args = ["llama", "-r", "*=default", "--arch", "transformers", "-n"]

    done = subprocess.run(
        [sys.executable, "-c", WATCH, *args], check=True, capture_output=True, text=True
    )

    assert "skipped" not in done.stdout


def test_a_program_of_python_may_fetch_afterwards() -> None:
    _folder("llama")
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    rewrite("llama", "*=default", "new", arch="transformers")

    assert constants.HF_HUB_OFFLINE is before


def test_a_missing_package_is_one_error(
    reinit: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    _folder("llama")
    monkeypatch.setitem(sys.modules, "transformers", None)

    done = reinit("llama", "-r", "*=default", "--arch", "transformers")

    assert done.code == 2
    assert done.err == (
        "error: the architecture 'transformers' needs transformers, which is not installed\n"
        "hint: pip install transformers\n"
    )
