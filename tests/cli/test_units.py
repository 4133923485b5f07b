"""Rules fill heads of attentions and experts of stacks by their numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import reinit_cli
from tests.cli.conftest import Done
from tests.json_schema import check_form

HEADS, KEYS, WIDTH, HIDDEN = 4, 2, 3, 10
"""An attention in which two heads of queries share one of keys and values."""

PATH = "model.layers.0.self_attn"


def _folder(state: Mapping[str, torch.Tensor], **config: object) -> dict[str, torch.Tensor]:
    Path("m").mkdir()
    save_file(dict(state), "m/model.safetensors", {"format": "pt"})
    Path("m/config.json").write_text(json.dumps(config))
    return dict(state)


@pytest.fixture
def llama() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    state = {
        f"{PATH}.q_proj.weight": drawn(HEADS * WIDTH, HIDDEN),
        f"{PATH}.q_proj.bias": drawn(HEADS * WIDTH),
        f"{PATH}.k_proj.weight": drawn(KEYS * WIDTH, HIDDEN),
        f"{PATH}.v_proj.weight": drawn(KEYS * WIDTH, HIDDEN),
        f"{PATH}.o_proj.weight": drawn(HIDDEN, HEADS * WIDTH),
        "model.norm.weight": drawn(HIDDEN),
    }
    return _folder(state, model_type="llama", num_attention_heads=HEADS, num_key_value_heads=KEYS)


def _attention(state: Mapping[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Return the output of each head of queries, before they are summed: (head, token, hidden)."""
    q, k, v, o = (state[f"{PATH}.{name}_proj.weight"] for name in "qkvo")
    bias = state[f"{PATH}.q_proj.bias"]
    queries = (x @ q.T + bias).view(len(x), HEADS, WIDTH).transpose(0, 1)
    keys, values = (
        (x @ each.T).view(len(x), KEYS, WIDTH).transpose(0, 1).repeat_interleave(HEADS // KEYS, 0)
        for each in (k, v)
    )
    mixed = nn.functional.scaled_dot_product_attention(queries, keys, values)
    return torch.stack([mixed[at] @ o[:, at * WIDTH : (at + 1) * WIDTH].T for at in range(HEADS)])


@pytest.mark.parametrize(
    ("rule", "changed"),
    [
        ("*.q_proj.*[heads=1,3]=zeros", {1, 3}),
        ("*.q_proj.*[heads=-1]=zeros", {3}),
        ("*.o_proj.weight[heads=0..2]=zeros", {0, 1, 2}),
        ("*.v_proj.weight[heads=1]=zeros", {2, 3}),
        ("*.{k,v}_proj.weight[heads=0]=zeros", {0, 1}),
    ],
)
def test_a_rule_on_heads_changes_the_outputs_of_these_heads_alone(
    reinit: Callable[..., Done], llama: dict[str, torch.Tensor], rule: str, changed: set[int]
) -> None:
    done = reinit("m", "-r", rule, "-o", "out")
    assert done.code == 0, done.err
    x = torch.randn(5, HIDDEN, generator=torch.Generator().manual_seed(1))
    before = _attention(llama, x)
    after = _attention(load_file("out/model.safetensors"), x)
    assert {at for at in range(HEADS) if not torch.equal(before[at], after[at])} == changed


def test_heads_have_the_values_that_the_whole_tensor_would_have(
    reinit: Callable[..., Done], llama: dict[str, torch.Tensor]
) -> None:
    init = "kaiming_normal:linear"
    assert reinit("m", "-r", f"*.q_proj.weight[heads=0,2]={init}", "-o", "some").code == 0
    assert reinit("m", "-r", f"*.q_proj.weight={init}", "-o", "all").code == 0
    key = f"{PATH}.q_proj.weight"
    some, whole = (load_file(f"{each}/model.safetensors")[key] for each in ("some", "all"))
    heads = some.view(HEADS, WIDTH, HIDDEN)
    for at in range(HEADS):
        of = whole if at in (0, 2) else llama[key]
        assert torch.equal(heads[at], of.view(HEADS, WIDTH, HIDDEN)[at])


def test_the_plan_and_the_record_name_ranges_that_need_no_config(
    reinit: Callable[..., Done], llama: dict[str, torch.Tensor]
) -> None:
    del llama
    rule = "*.q_proj.weight[heads=0,2..3]=normal:std=0.02"
    options = ["-o", "out.safetensors", "--json", "--record", "--check"]
    done = reinit("m", "-r", rule, *options)
    assert done.code == 0, done.err
    form = json.loads(done.out)
    check_form(form)
    (parts,) = [each["parts"] for each in form["tensors"] if "parts" in each]
    assert [each["part"] for each in parts] == ["0:3", "6:12"]
    verdict = reinit("verify", "out.safetensors")
    assert verdict.code == 0, verdict.err
    assert reinit("verify", "out.safetensors", "--source", "m").code == 0


def test_the_number_of_heads_may_stand_in_the_rule(reinit: Callable[..., Done]) -> None:
    state = {"attn.q_proj.weight": torch.ones(12, 8)}
    save_file(state, "m.safetensors")
    done = reinit("m.safetensors", "-r", "attn.q_proj.weight[heads=3/4]=zeros")
    assert done.code == 0, done.err
    after = load_file("m-reinit.safetensors")["attn.q_proj.weight"]
    assert after.sum(1).tolist() == [8.0] * 9 + [0.0] * 3


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("*.q_proj.weight[heads=4]=zeros", "there is no heads=4: it has 4"),
        (
            f"{PATH}.k_proj.weight[heads=2]=zeros",
            "there is no heads=2: it has 2 of keys and values, which 4 of queries share",
        ),
        (f"{PATH}.q_proj.weight[heads=0/5]=zeros", "has 12, which 5 does not divide"),
        ("model.norm.weight[heads=0]=zeros", "its name does not tell how heads lie in it"),
        (f"{PATH}.q_proj.weight[experts=0]=zeros", "it is not a stack of experts"),
        ("*.q_proj.weight[heads=a]=zeros", "it has an '=' but no mask=FILE"),
        ("*.q_proj.weight[heads=1...2]=zeros", "is not a number or a range such as 0..3"),
    ],
)
def test_heads_that_there_are_not_are_refused_before_anything_is_written(
    reinit: Callable[..., Done], llama: dict[str, torch.Tensor], rule: str, said: str
) -> None:
    del llama
    done = reinit("m", "-r", rule, "-o", "out")
    assert done.code == 2
    assert said in done.err
    assert not Path("out").exists()


def test_a_file_without_a_config_says_how_to_give_the_number_of_heads(
    reinit: Callable[..., Done],
) -> None:
    save_file({"attn.q_proj.weight": torch.ones(12, 8)}, "m.safetensors")
    done = reinit("m.safetensors", "-r", "attn.q_proj.weight[heads=3]=zeros")
    assert done.code == 2
    assert "[heads=0/12] is the first of 12" in done.err


@pytest.mark.parametrize("bias", [True, False])
def test_heads_of_torchs_attention_lie_three_times_in_its_fused_weight(*, bias: bool) -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"attn": nn.MultiheadAttention(12, 4, bias=bias, batch_first=True)})
    x = torch.randn(1, 5, 12)
    attention = model["attn"]
    before = attention(x, x, x, average_attn_weights=False)[1].clone()
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    reinit_cli.apply_(model, {"attn.in_proj_weight[heads=1]": "zeros"})
    after = attention(x, x, x, average_attn_weights=False)[1]
    changed = {at for at in range(4) if not torch.equal(before[0, at], after[0, at])}
    assert changed == {1}
    weight = model.state_dict()["attn.in_proj_weight"].view(3, 4, 3, 12)
    assert not weight[:, 1].any()
    others = [0, 2, 3]
    assert torch.equal(weight[:, others], state["attn.in_proj_weight"].view(3, 4, 3, 12)[:, others])


def test_heads_of_gpt2_lie_in_the_columns_of_its_conv1d(reinit: Callable[..., Done]) -> None:
    state = {
        "h.0.attn.c_attn.weight": torch.ones(8, 24),
        "h.0.attn.c_attn.bias": torch.ones(24),
        "h.0.attn.c_proj.weight": torch.ones(8, 8),
        "h.0.attn.c_proj.bias": torch.ones(8),
    }
    _folder(state, model_type="gpt2", n_head=2)
    rules = ["-r", "*.c_attn.*[heads=1]=zeros", "-r", "*.c_proj.weight[heads=1]=zeros"]
    done = reinit("m", *rules, "-o", "out")
    assert done.code == 0, done.err
    after = load_file("out/model.safetensors")
    of_head = torch.tensor([1.0, 1, 1, 1, 0, 0, 0, 0])
    assert torch.equal(after["h.0.attn.c_attn.weight"], of_head.repeat(3).expand(8, 24))
    assert torch.equal(after["h.0.attn.c_attn.bias"], of_head.repeat(3))
    assert torch.equal(after["h.0.attn.c_proj.weight"], of_head[:, None].expand(8, 8))


def test_experts_of_a_stack_are_filled_by_their_numbers(reinit: Callable[..., Done]) -> None:
    path = "model.layers.0.mlp"
    state = {
        f"{path}.experts.gate_up_proj": torch.ones(6, 4, 10),
        f"{path}.experts.gate_up_proj_bias": torch.ones(6, 10),
        f"{path}.experts.down_proj": torch.ones(6, 5, 4),
        f"{path}.router.weight": torch.ones(6, 4),
    }
    save_file(state, "m.safetensors")
    done = reinit("m.safetensors", "-r", "*.mlp.*[experts=0..2,5]=zeros")
    assert done.code == 0, done.err
    for key, tensor in load_file("m-reinit.safetensors").items():
        assert [bool(each.any()) for each in tensor] == [False] * 3 + [True] * 2 + [False], key


@pytest.mark.parametrize("units", ["experts=0", "heads=0/4"])
def test_an_empty_tensor_has_no_units(reinit: Callable[..., Done], units: str) -> None:
    state = {"mlp.experts.down_proj": torch.ones(0, 5, 4), "attn.q_proj.weight": torch.ones(0, 4)}
    save_file(state, "m.safetensors")
    key = "mlp.experts.down_proj" if "experts" in units else "attn.q_proj.weight"
    done = reinit("m.safetensors", "-r", f"{key}[{units}]=zeros")
    assert done.code == 2
    assert "it is empty" in done.err


def test_experts_that_are_modules_are_chosen_by_their_keys(reinit: Callable[..., Done]) -> None:
    save_file({"mlp.experts.0.w1.weight": torch.ones(4, 4)}, "m.safetensors")
    done = reinit("m.safetensors", "-r", "mlp.experts.0.w1.weight[experts=0]=zeros")
    assert done.code == 2
    assert "choose experts by their keys, as in 'experts.{0..3}.*'" in done.err


def test_heads_may_be_kept_and_drawn_again_by_a_later_rule(
    reinit: Callable[..., Done], llama: dict[str, torch.Tensor]
) -> None:
    key = f"{PATH}.q_proj.weight"
    rules = ["-r", "*.q_proj.weight=zeros", "-x", "*.q_proj.weight[heads=1,2]"]
    assert reinit("m", *rules, "-o", "out").code == 0
    after = load_file("out/model.safetensors")[key].view(HEADS, WIDTH, HIDDEN)
    assert torch.equal(after[1:3], llama[key].view(HEADS, WIDTH, HIDDEN)[1:3])
    assert not after[0].any()
    assert not after[3].any()


def _rows_of_zeros(path: str, key: str) -> list[int]:
    return (load_file(path)[key] == 0).all(1).nonzero().flatten().tolist()


@pytest.mark.parametrize("text", ["text_model", "language_model.model"])
def test_the_parts_of_a_model_have_their_own_numbers_of_heads(
    reinit: Callable[..., Done], text: str
) -> None:
    """The text model of CLIP has 2 heads of 4 rows here, its vision model 4 of 2 rows."""
    keys = [f"{text}.layers.0.self_attn.q_proj.weight", "vision_model.layers.0.attn.q_proj.weight"]
    _folder(
        {key: torch.ones(8, 8) for key in keys},
        text_config={"num_attention_heads": 2},
        vision_config={"num_heads": 4},
    )
    done = reinit("m", "-r", "*.q_proj.weight[heads=1]=zeros", "-o", "out")
    assert done.code == 0, done.err
    out = "out/model.safetensors"
    assert [_rows_of_zeros(out, key) for key in keys] == [[4, 5, 6, 7], [2, 3]]


def test_an_encoder_and_a_decoder_have_their_own_numbers_of_heads(
    reinit: Callable[..., Done],
) -> None:
    """The attention of a decoder to its encoder has the heads of the decoder, as in BART."""
    keys = [
        f"model.{path}.k_proj.weight"
        for path in ("encoder.layers.0.self_attn", "decoder.layers.0.encoder_attn")
    ]
    state = {key: torch.ones(8, 8) for key in keys}
    _folder(state, encoder_attention_heads=2, decoder_attention_heads=4)
    done = reinit("m", "-r", "*.k_proj.weight[heads=1]=zeros", "-o", "out")
    assert done.code == 0, done.err
    out = "out/model.safetensors"
    assert [_rows_of_zeros(out, key) for key in keys] == [[4, 5, 6, 7], [2, 3]]


def test_a_part_whose_config_does_not_count_heads_asks_for_their_number(
    reinit: Callable[..., Done],
) -> None:
    state = {"vision_tower.layers.0.q_proj.weight": torch.ones(8, 8)}
    _folder(state, text_config={"num_attention_heads": 2}, vision_config={"depth": 3})
    done = reinit("m", "-r", "vision_tower.layers.0.q_proj.weight[heads=1]=zeros", "-o", "out")
    assert done.code == 2
    assert "nothing tells how many heads it has" in done.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "fused"),
    [
        ("GPT2Config", {"n_embd": 16, "n_layer": 1, "n_head": 4}, "c_attn"),
        (
            "GPTBigCodeConfig",
            {"n_embd": 16, "n_layer": 1, "n_head": 4, "multi_query": False},
            "c_attn",
        ),
        (
            "GPTNeoXConfig",
            {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4},
            "query_key_value",
        ),
        ("BloomConfig", {"hidden_size": 16, "n_layer": 1, "n_head": 4}, "query_key_value"),
        (
            "DebertaConfig",
            {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4},
            "in_proj",
        ),
    ],
)
def test_a_head_of_a_fused_weight_is_the_head_that_the_model_has(
    reinit: Callable[..., Done], name: str, arguments: dict[str, object], fused: str
) -> None:
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, name)(**arguments, vocab_size=9, initializer_range=1.0)
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config, attn_implementation="eager").eval()
    model.save_pretrained("m")
    done = reinit("m", "-r", f"*.{fused}.*[heads=2]=zeros", "-o", "out")
    assert done.code == 0, done.err
    other = transformers.AutoModel.from_pretrained("out", attn_implementation="eager").eval()
    tokens = torch.arange(5)[None]
    before, after = (
        each(tokens, output_attentions=True).attentions[0][0] for each in (model, other)
    )
    assert [at for at in range(4) if not torch.equal(before[at], after[at])] == [2]


def test_a_fused_weight_that_is_split_for_devices_is_refused(reinit: Callable[..., Done]) -> None:
    """CodeGen has four parts, each with the queries, values and keys of some heads."""
    _folder({"h.0.attn.qkv_proj.weight": torch.ones(24, 8)}, model_type="codegen", n_head=4)
    done = reinit("m", "-r", "h.0.attn.qkv_proj.weight[heads=1]=zeros", "-o", "out")
    assert done.code == 2
    assert "its name does not tell how heads lie in it" in done.err


def test_the_input_projection_of_mamba_has_no_heads_of_an_attention(
    reinit: Callable[..., Done],
) -> None:
    _folder({"layers.0.mixer.in_proj.weight": torch.ones(24, 8)}, num_heads=4)
    done = reinit("m", "-r", "layers.0.mixer.in_proj.weight[heads=1]=zeros", "-o", "out")
    assert done.code == 2
    assert "its name does not tell how heads lie in it" in done.err


def test_the_cross_attention_of_gpt2_has_keys_and_values_in_one_weight(
    reinit: Callable[..., Done],
) -> None:
    """Its `q_attn` has the queries: `crossattention.c_attn` is (embed, 2 * embed)."""
    key = "h.0.crossattention.c_attn.weight"
    state = {key: torch.ones(12, 24), key.replace("weight", "bias"): torch.ones(24)}
    _folder(state, model_type="gpt2", n_head=4)
    done = reinit("m", "-r", f"{key}[heads=1]=zeros", "-o", "out")
    assert done.code == 0, done.err
    after = load_file("out/model.safetensors")[key]
    assert (after == 0).all(0).nonzero().flatten().tolist() == [3, 4, 5, 15, 16, 17]
