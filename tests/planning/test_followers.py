"""What has an element for each row of a resized tensor is resized with it, or named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reinit_cli import plan, rewrite, verify
from reinit_cli.provenance.record import text_of

Shapes = Mapping[str, tuple[int, ...]]


def _save(shapes: Shapes, path: str = "m.safetensors") -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    state = {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    save_file(state, path)
    return state


def _resized(*resizes: str, rules: tuple[str, ...] = ()) -> dict[str, Tensor]:
    rewrite("m.safetensors", rules, "o.safetensors", resize=resizes, force=True)
    return dict(load_file("o.safetensors"))


def _warnings(*resizes: str) -> tuple[str, ...]:
    return plan("m.safetensors", [], resize=resizes).warnings


@pytest.mark.parametrize(
    ("weight", "shape", "bias"),
    [
        ("cls.decoder.weight", (10, 4), "cls.decoder.bias"),
        ("weight", (10, 4), "bias"),
        ("decode_head.classifier.weight", (10, 4, 1, 1), "decode_head.classifier.bias"),
        ("attention.in_proj_weight", (10, 4), "attention.in_proj_bias"),
        ("rnn.weight_ih_l0", (10, 4), "rnn.bias_ih_l0"),
        ("norm.weight", (10,), "norm.bias"),
    ],
)
def test_the_bias_of_a_module_is_resized_with_its_weight(
    weight: str, shape: tuple[int, ...], bias: str
) -> None:
    before = _save({weight: shape, bias: (10,), "other.bias": (10,)})

    more, fewer = _resized(f"{weight}=12:ones"), _resized(f"{weight}=7")

    assert torch.equal(more[weight][:10], before[weight])
    assert torch.equal(more[bias], torch.cat([before[bias], torch.zeros(2)]))
    assert torch.equal(fewer[bias], before[bias][:7])
    assert torch.equal(more["other.bias"], before["other.bias"])
    assert torch.equal(fewer["other.bias"], before["other.bias"])


def test_new_elements_of_a_bias_are_its_mean_where_new_rows_are_theirs() -> None:
    before = _save({"lm_head.weight": (10, 4), "lm_head.bias": (10,)})

    after = _resized("lm_head.weight=12:mean")["lm_head.bias"]

    assert torch.equal(after[:10], before["lm_head.bias"])
    torch.testing.assert_close(
        after[10:], before["lm_head.bias"].mean().expand(2), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize(
    ("embedding", "bias"),
    [
        ("bert.embeddings.word_embeddings.weight", "cls.predictions.bias"),
        ("roberta.embeddings.word_embeddings.weight", "lm_head.bias"),
        ("distilbert.embeddings.word_embeddings.weight", "vocab_projector.bias"),
        ("electra.embeddings.word_embeddings.weight", "generator_lm_head.bias"),
        ("albert.embeddings.word_embeddings.weight", "predictions.bias"),
        ("transformer.word_embedding.weight", "lm_loss.bias"),
    ],
)
def test_the_bias_of_a_head_whose_weight_is_the_embedding_is_resized_with_that(
    embedding: str, bias: str
) -> None:
    before = _save({embedding: (10, 4), bias: (10,), "pooler.dense.bias": (10,)})

    after = _resized(f"{embedding}=12:zeros")

    assert torch.equal(after[bias], torch.cat([before[bias], torch.zeros(2)]))
    assert torch.equal(after["pooler.dense.bias"], before["pooler.dense.bias"])


@pytest.mark.parametrize("count", [12, 7])
def test_a_bias_of_logits_that_is_one_row_is_resized_in_that_row(count: int) -> None:
    before = _save({"final_logits_bias": (1, 10), "model.shared.weight": (10, 4)})

    after = _resized(f"model.shared.weight={count}:zeros")["final_logits_bias"]

    expected = torch.zeros(1, count)
    expected[:, : min(count, 10)] = before["final_logits_bias"][:, :count]
    assert torch.equal(after, expected)


@pytest.mark.parametrize("count", [12, 7])
@pytest.mark.parametrize("bias", ["final_logits_bias", "lm_head.bias"])
def test_a_record_of_a_bias_that_is_resized_verifies(count: int, bias: str) -> None:
    shape = (1, 10) if bias == "final_logits_bias" else (10,)
    _save({bias: shape, "model.shared.weight": (10, 4)})

    rewrite(
        "m.safetensors",
        [],
        "o.safetensors",
        resize=[f"model.shared.weight={count}:normal:std=1"],
        record=True,
    )

    assert verify("o.safetensors").holds
    assert verify("o.safetensors", source="m.safetensors").holds


def test_a_record_from_before_biases_were_resized_verifies() -> None:
    _save({"head.weight": (10, 4), "head.bias": (10,)})
    said = ["head.weight=12:normal:std=1", "head.bias=10"]
    rewrite("m.safetensors", [], "o.safetensors", resize=said, record="r.json")
    form = json.loads(Path("r.json").read_text())
    form["resize"] = said[:1]
    assert "laws" not in form
    Path("r.json").write_text(text_of(form) + "\n")

    verdict = verify("o.safetensors", source="m.safetensors", record="r.json")

    assert verdict.findings == ()


def test_of_two_models_in_one_file_each_keeps_its_own_bias() -> None:
    halves = ("encoder.bert", "decoder.bert")
    embeddings = {f"{half}.embeddings.word_embeddings.weight": (10, 4) for half in halves}
    before = _save({**embeddings, "decoder.cls.predictions.bias": (10,)})

    of_encoder = _resized("encoder.*.word_embeddings.weight=12:zeros")
    of_decoder = _resized("decoder.*.word_embeddings.weight=12:zeros")

    bias = "decoder.cls.predictions.bias"
    assert torch.equal(of_encoder[bias], before[bias])
    assert torch.equal(of_decoder[bias], torch.cat([before[bias], torch.zeros(2)]))


def test_the_bias_of_a_head_with_rows_of_its_own_stays_with_them() -> None:
    before = _save(
        {"lm_head.weight": (10, 4), "lm_head.bias": (10,), "transformer.wte.weight": (10, 4)}
    )

    after = _resized("transformer.wte.weight=12:zeros")

    assert torch.equal(after["lm_head.bias"], before["lm_head.bias"])
    assert _warnings("transformer.wte.weight=12:zeros") == (
        "'lm_head.bias', 'lm_head.weight' still have as many rows as 'transformer.wte.weight' had",
    )
    assert _warnings("{lm_head,transformer.wte}.weight=12:zeros") == ()


def test_a_bias_that_may_be_of_either_embedding_is_resized_with_both_alone() -> None:
    words = {f"{half}.embed_tokens.weight": (10, 4) for half in ("a", "b")}
    before = _save({**words, "lm_head.bias": (10,)})

    one, both = _resized("a.*.weight=12:zeros"), _resized("*.weight=12:zeros")

    assert torch.equal(one["lm_head.bias"], before["lm_head.bias"])
    assert torch.equal(both["lm_head.bias"], torch.cat([before["lm_head.bias"], torch.zeros(2)]))
    assert _warnings("a.*.weight=12:zeros") == (
        "'b.embed_tokens.weight', 'lm_head.bias' still have as many rows as "
        "'a.embed_tokens.weight' had",
    )


@pytest.mark.parametrize(
    ("key", "shape", "other", "like"),
    [
        ("up.weight", (10, 10, 2, 2), "up.bias", (10,)),
        ("h.0.attn.c_proj.weight", (10, 10), "h.0.attn.c_proj.bias", (10,)),
        ("norm.weight", (10,), "norm.running_mean", (10,)),
        ("fc.weight_v", (10, 4), "fc.weight_g", (10, 1)),
        ("cls_classifier.weight", (10, 4), "distillation_classifier.weight", (10, 4)),
        ("model.shared.weight", (10, 4), "lm_head.weight", (10, 8)),
    ],
)
def test_what_may_belong_to_a_resized_tensor_is_named_and_stays(
    key: str, shape: tuple[int, ...], other: str, like: tuple[int, ...]
) -> None:
    before = _save({key: shape, other: like})

    after = _resized(f"{key}=12:zeros")

    assert torch.equal(after[other], before[other])
    assert _warnings(f"{key}=12:zeros") == (f"{other!r} still has as many rows as {key!r} had",)


def test_what_is_asked_of_a_bias_by_name_is_obeyed() -> None:
    before = _save({"head.weight": (10, 4), "head.bias": (10,)})

    other = _resized("head.weight=12:zeros", "head.bias=10")
    filled = _resized("head.weight=12:zeros", rules=("head.bias=constant:3",))

    assert torch.equal(other["head.bias"], before["head.bias"])
    assert torch.equal(filled["head.bias"], torch.full((12,), 3.0))


def test_tied_biases_are_resized_together() -> None:
    bias, table = torch.randn(10), torch.randn(10, 4)
    state = {
        "bert.embeddings.word_embeddings.weight": table,
        "cls.predictions.bias": bias,
        "cls.predictions.decoder.weight": table,
        "cls.predictions.decoder.bias": bias,
    }
    torch.save(state, "m.pt")

    rewrite("m.pt", [], "o.pt", resize=["*.word_embeddings.weight=12:zeros"])

    after = torch.load("o.pt")
    assert torch.equal(after["cls.predictions.bias"], torch.cat([bias, torch.zeros(2)]))
    pointers = {key: tensor.data_ptr() for key, tensor in after.items()}
    assert pointers["cls.predictions.bias"] == pointers["cls.predictions.decoder.bias"]
    assert len(set(pointers.values())) == 2
