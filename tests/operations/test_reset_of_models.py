"""`reset` of models of torchvision and transformers, held against their own modules of torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from scipy import stats
from torch import Tensor, nn
from torchvision.models import get_model, list_models

from reinit_cli import plan, rewrite
from reinit_cli.checkpoints.models.constructor import laws_of_layers, recording
from reinit_cli.checkpoints.models.torchvision import has_backbone_weights
from reinit_cli.initializers.law import Constant
from tests.tools import missing

SEEDS = range(4)


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        missing("transformers is not installed")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64}

MODELS: Mapping[str, Callable[[Any], nn.Module]] = {
    "Llama": lambda t: t.LlamaForCausalLM(t.LlamaConfig(**SMALL, intermediate_size=48)),
    "tied Llama": lambda t: t.LlamaForCausalLM(
        t.LlamaConfig(**SMALL, intermediate_size=48, tie_word_embeddings=True)
    ),
    "GPT-2": lambda t: t.GPT2LMHeadModel(
        t.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=64, bos_token_id=1, eos_token_id=2)
    ),
    "BERT": lambda t: t.BertForPreTraining(t.BertConfig(**SMALL, intermediate_size=48)),
    "RoBERTa": lambda t: t.RobertaForMaskedLM(t.RobertaConfig(**SMALL, intermediate_size=48)),
    "DistilBERT": lambda t: t.DistilBertForMaskedLM(
        t.DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=48, vocab_size=64)
    ),
    "T5": lambda t: t.T5ForConditionalGeneration(
        t.T5Config(d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, vocab_size=64)
    ),
    "Gemma": lambda t: t.GemmaForCausalLM(t.GemmaConfig(**SMALL, intermediate_size=48, head_dim=8)),
    "Qwen 2": lambda t: t.Qwen2ForCausalLM(t.Qwen2Config(**SMALL, intermediate_size=48)),
    "OPT": lambda t: t.OPTForCausalLM(t.OPTConfig(**SMALL, ffn_dim=48, word_embed_proj_dim=32)),
    "GPT-NeoX": lambda t: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**SMALL, intermediate_size=48)),
    "BART": lambda t: t.BartForConditionalGeneration(
        t.BartConfig(
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=48,
            decoder_ffn_dim=48,
            vocab_size=64,
        )
    ),
}

_OWN = ("Conv1D", "RMSNorm", "T5LayerNorm")
"""The classes of transformers without a reset_parameters, whose constructor says how they start."""


def _reset(model: nn.Module, seed: int) -> Mapping[str, Tensor]:
    """The file of a model whose layers their own classes start; of ties, the embedding decides."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for each in reversed(list(model.modules())):
            if hasattr(each, "reset_parameters"):
                each.reset_parameters()
            elif type(each).__name__.endswith(_OWN):
                sizes = reversed(each.weight.shape)  # Conv1D takes the outputs first
                each.load_state_dict(type(each)(*sizes).state_dict())
        for each in model.modules():
            if isinstance(each, nn.Embedding):
                each.padding_idx = None  # which no name of a file tells
                each.reset_parameters()
    model.save_pretrained(f"torchs/{seed}")
    return load_file(f"torchs/{seed}/model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_folder_of_transformers_comes_out_whole(name: str) -> None:
    """Constants are equal, and by KS all random values together are as torch draws them."""
    model = MODELS[name](_transformers())
    model.save_pretrained("model")

    decided = plan("model", ["*=reset"])
    rewrite("model", ["*=reset"], "out/")
    ours = load_file("out/model/model.safetensors")
    torchs = [_reset(model, seed) for seed in SEEDS]

    assert [step.key for step in decided.steps if step.action != "fill"] == []
    assert decided.warnings == ()
    assert ours.keys() == torchs[0].keys()
    apart = {}
    for key, values in ours.items():
        drawn = torch.cat([each[key].flatten() for each in torchs])
        if drawn.min() == drawn.max():
            assert torch.equal(values, torchs[0][key]), key
            continue
        assert values.std().item() == pytest.approx(
            drawn.std().item(), rel=6 / math.sqrt(values.numel())
        ), key
        apart[key] = stats.ks_2samp(values.flatten(), drawn).pvalue
    assert min(apart.values()) > 1e-4 / len(apart)


def _qwen3_next(t: Any) -> nn.Module:
    return t.Qwen3NextForCausalLM(
        t.Qwen3NextConfig(
            **SMALL,
            intermediate_size=48,
            num_key_value_heads=2,
            head_dim=8,
            layer_types=["linear_attention", "full_attention"],
            num_experts=4,
            moe_intermediate_size=16,
            shared_expert_intermediate_size=16,
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize("make", [MODELS["Gemma"], _qwen3_next], ids=["Gemma", "Qwen 3-Next"])
def test_a_norm_that_adds_one_to_its_weight_starts_with_zeros(
    make: Callable[[Any], nn.Module],
) -> None:
    """Its class says so for a module in memory, and the config for a folder."""
    model = make(_transformers())
    model.save_pretrained("model")
    norms = {
        f"{path}.weight": type(each)(each.weight.numel()).weight[0].item()
        for path, each in model.named_modules()
        if "RMSNorm" in type(each).__name__
    }
    assert 0.0 in norms.values()

    for decided in (plan(model, ["*=reset"]), plan("model", ["*=reset"])):
        laws = {step.key: step.law for step in decided.steps}
        assert {key: laws[key] for key in norms} == {
            key: Constant(value) for key, value in norms.items()
        }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:FutureWarning")
@pytest.mark.parametrize("name", list_models())
def test_names_tell_how_every_layer_of_torchvision_starts(name: str) -> None:
    """The laws are exactly those that reset_parameters of its own modules is recorded to draw."""
    backbone = {"weights_backbone": None} if has_backbone_weights(name) else {}
    with recording():  # which draws nothing
        model = get_model(name, weights=None, **backbone)
    own = laws_of_layers(model)
    state = {
        key: torch.empty_like(value, device="cpu") for key, value in model.state_dict().items()
    }

    decided = plan(state, ["*=reset"])

    for step in decided.steps:
        recorded = own[step.key].law
        if step.action == "skip":
            assert recorded.reason == "no layer has a reset_parameters that fills it", step.key
        else:
            assert step.law == recorded, step.key
