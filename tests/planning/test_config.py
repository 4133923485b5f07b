"""The configs of a folder follow what becomes of its tensors, and nothing else in them changes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from reinit_cli import rewrite, verify
from reinit_cli.cli import main
from reinit_cli.operations.prepare import prepare
from reinit_cli.planning.plan import Plan
from reinit_cli.provenance.record import text_of
from reinit_cli.request.request import Request

Shapes = Mapping[str, tuple[int, ...]]

WORDS = "model.embed_tokens.weight"
BOTH: Shapes = {WORDS: (10, 4), "lm_head.weight": (10, 4)}
HEAD: Shapes = {"classifier.weight": (3, 4), "classifier.bias": (3,)}
NAMED = {
    "id2label": {"0": "good", "1": "bad", "2": "é"},
    "label2id": {"bad": 1, "good": 0, "é": 2},
}


def _folder(shapes: Shapes, dtype: torch.dtype = torch.float32, **files: Any) -> None:
    """Make a folder; a file is named without its suffix."""
    Path("hf").mkdir()
    state = {key: torch.zeros(shape, dtype=dtype) for key, shape in shapes.items()}
    save_file(state, "hf/model.safetensors", {"format": "pt"})
    for name, form in files.items():
        text = form if isinstance(form, str) else json.dumps(form, indent=2) + "\n"
        Path(f"hf/{name}.json").write_text(text)


def _plan(**options: Any) -> Plan:
    return prepare(Request("hf", (), "planned", **options)).plan


def _config(**options: Any) -> Any:
    rewrite("hf", [], "out", **options)
    return json.loads(Path("out/config.json").read_text())


def _warnings(*resizes: str, **options: Any) -> Sequence[str]:
    return _plan(resize=resizes, **options).warnings


@pytest.mark.parametrize(
    ("config", "resized", "member"),
    [
        ({"vocab_size": 10}, "{model.embed_tokens,lm_head}.weight", "vocab_size"),
        ({"padded_vocab_size": 10}, "*.weight", "padded_vocab_size"),
        ({"text_config": {"vocab_size": 10}}, "*.weight", "text_config.vocab_size"),
        ({"a": {"b": {"vocab_size": 10}}}, "*.weight", "a.b.vocab_size"),
    ],
)
def test_the_size_of_the_vocabulary_follows(
    config: Mapping[str, Any], resized: str, member: str
) -> None:
    _folder(BOTH, config=config)
    before = Path("hf/config.json").read_bytes()

    rewrite("hf", [], "out", resize=[f"{resized}=12:zeros"])

    assert Path("out/config.json").read_bytes() == before.replace(b"10", b"12")
    (change,) = _plan(resize=[f"{resized}=12:zeros"]).config
    assert str(change) == f"{member} 10 → 12"
    assert Path("hf/config.json").read_bytes() == before


def test_a_size_that_the_tensor_did_not_have_stays_and_is_named() -> None:
    _folder(BOTH, config={"vocab_size": 9, "hidden_size": 4})

    plan = _plan(resize=["*.weight=12:zeros"])

    assert plan.config == ()
    assert plan.warnings == (
        "config.json is left as it is, and 'lm_head.weight', 'model.embed_tokens.weight' "
        "now have 12 rows",
    )


def test_members_that_were_the_rows_of_another_tensor_are_named() -> None:
    _folder({"mlp.up_proj.weight": (6, 4)}, config={"intermediate_size": 6, "vocab_size": 10})

    assert _warnings("*.up_proj.weight=8:zeros") == (
        "config.json keeps intermediate_size 6, and 'mlp.up_proj.weight' now has 8 rows",
    )


def test_rows_that_disagree_change_nothing() -> None:
    _folder(BOTH, config={"vocab_size": 10})

    plan = _plan(resize=[f"{WORDS}=12:zeros", "lm_head.weight=11:zeros"])

    assert plan.config == ()
    assert "config.json keeps vocab_size 10: 'lm_head.weight' needs 11, and " in plan.warnings[-1]


@pytest.mark.parametrize(
    ("key", "config", "member"),
    [
        ("strange.weight", {"vocab_size": 10, "hidden_size": 4}, "vocab_size"),
        ("strange.weight", {"vocab_size": 10, "hidden_size": 10}, None),
        ("strange.weight", {"vocab_size": 10, "widths": [10, 20]}, None),
        ("strange.weight", {"vocab_size": 10, "eos_token_id": 10}, "vocab_size"),
        ("strange.weight", {"type_vocab_size": 10}, None),
        ("wte.weight", {"vocab_size": 10, "hidden_size": 10}, "vocab_size"),
        ("wte.weight", {"type_vocab_size": 10, "vocab_size": 11}, None),
        (
            "token_type_embeddings.weight",
            {"type_vocab_size": 10, "vocab_size": 10},
            "type_vocab_size",
        ),
        ("head.weight", {"vocab_size": 10, "num_classes": 20}, "vocab_size"),
        ("head.weight", {"vocab_size": 20, "num_classes": 10}, "num_classes"),
        ("head.weight", {"vocab_size": 10, "num_classes": 10}, None),
    ],
)
def test_a_name_or_the_only_number_of_rows_says_what_follows(
    key: str, config: Mapping[str, Any], member: str | None
) -> None:
    _folder({key: (10, 4)}, config=config)

    plan = _plan(resize=[f"{key}=12:zeros"])

    assert [change.member for change in plan.config] == ([member] if member else [])
    assert bool(plan.warnings) == (member is None)


def test_a_small_number_of_rows_alone_says_nothing() -> None:
    _folder({"cls.seq_relationship.weight": (2, 4)}, config={"num_labels": 2, "z": 3})

    plan = _plan(resize=["*.weight=3:zeros"])

    assert plan.config == ()
    assert plan.warnings == (
        "config.json keeps num_labels 2, and 'cls.seq_relationship.weight' now has 3 rows",
    )


def test_each_half_of_a_model_has_its_own_vocabulary() -> None:
    halves = ("encoder.bert", "decoder.bert")
    _folder(
        {f"{half}.embeddings.word_embeddings.weight": (10, 4) for half in halves},
        config={"decoder": {"vocab_size": 10}, "encoder": {"vocab_size": 10}},
    )

    config = _config(resize=["decoder.*=12:zeros"])

    assert config == {"decoder": {"vocab_size": 12}, "encoder": {"vocab_size": 10}}


@pytest.mark.parametrize(
    ("key", "changed"),
    [
        ("model.encoder.embed_tokens.weight", ["vocab_size"]),
        ("model.decoder.embed_tokens.weight", ["decoder_vocab_size"]),
        ("model.shared.weight", ["vocab_size", "decoder_vocab_size"]),
    ],
)
def test_a_vocabulary_of_the_decoder_follows_the_decoder(key: str, changed: list[str]) -> None:
    _folder({key: (10, 4)}, config={"vocab_size": 10, "decoder_vocab_size": 10})

    plan = _plan(resize=[f"{key}=12:zeros"])

    assert sorted(change.member for change in plan.config) == sorted(changed)


@pytest.mark.parametrize("count", [2, 5])
def test_labels_that_still_are_keep_their_names(count: int) -> None:
    _folder(HEAD, config={"architectures": ["X"], **NAMED, "num_labels": 3, "z": "é"})

    config = _config(resize=[f"classifier.weight={count}:zeros"])

    labels = ["good", "bad", "é", "LABEL_3", "LABEL_4"][:count]
    assert config["id2label"] == {str(at): label for at, label in enumerate(labels)}
    assert config["label2id"] == {label: at for at, label in enumerate(labels)}
    assert config["num_labels"] == count
    assert [*config] == ["architectures", "id2label", "label2id", "num_labels", "z"]


def test_two_labels_that_a_config_does_not_name_are_named_with_the_new() -> None:
    _folder({"score.weight": (2, 4)}, config={"architectures": ["X"], "vocab_size": 2})

    config = _config(resize=["score.weight=3:zeros"])

    numbers = {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}
    assert list(config) == ["architectures", "id2label", "label2id", "vocab_size"]
    assert config["id2label"] == {str(at): name for name, at in numbers.items()}
    assert config["label2id"] == numbers


def test_a_detector_has_one_row_more_than_labels() -> None:
    _folder({"class_labels_classifier.weight": (4, 4)}, config=NAMED)

    config = _config(resize=["*.weight=6:zeros"])

    assert list(config["id2label"].values()) == ["good", "bad", "é", "LABEL_3", "LABEL_4"]


def test_a_folder_of_timm_counts_its_classes_twice() -> None:
    config = {
        "architecture": "vit_tiny",
        "num_classes": 3,
        "label_names": ["a", "b", "c"],
        "pretrained_cfg": {"num_classes": 3, "classifier": "output.last"},
    }
    _folder({"output.last.weight": (3, 4), "output.last.bias": (3,)}, config=config)

    after = _config(resize=["output.last.weight=5:zeros"])

    assert after["num_classes"] == after["pretrained_cfg"]["num_classes"] == 5
    assert after["label_names"] == ["a", "b", "c", "LABEL_3", "LABEL_4"]


def test_so_many_labels_that_nobody_names_them_are_not_listed() -> None:
    _folder({"classifier.weight": (3, 1)}, config=NAMED)

    plan = _plan(resize=["classifier.weight=1000001:zeros"])

    assert plan.config == ()
    assert len(plan.warnings) == 1


def test_the_dtype_follows_a_cast_of_everything() -> None:
    config = {"dtype": "float32", "text_config": {"torch_dtype": "torch.float32"}, "n": "float32"}
    _folder(BOTH, config=config)

    after = _config(dtype="bfloat16")

    assert after == {
        "dtype": "bfloat16",
        "text_config": {"torch_dtype": "bfloat16"},
        "n": "float32",
    }


@pytest.mark.parametrize(
    ("dtype", "said"),
    [
        (("lm_head.weight=float16",), "float16 and float32"),
        ("float8_e4m3fn", "float8_e4m3fn"),
    ],
)
def test_a_dtype_in_which_no_model_is_built_is_named(dtype: Any, said: str) -> None:
    _folder(BOTH, config={"dtype": "float32"})

    plan = _plan(dtype=dtype)

    assert plan.config == ()
    assert f"config.json keeps dtype float32, and tensors are {said}" in plan.warnings


def test_quantization_that_a_cast_may_not_fit_is_named() -> None:
    _folder(BOTH, config={"dtype": "float32", "quantization_config": {"dtype": "float32"}})

    plan = _plan(dtype="bfloat16")

    assert [str(change) for change in plan.config] == ["dtype float32 → bfloat16"]
    assert plan.warnings == ("config.json: quantization_config may not fit tensors that are cast",)


@pytest.mark.parametrize(
    ("config", "after"),
    [
        ({"tie_word_embeddings": True}, {"tie_word_embeddings": False}),
        ({}, {"tie_word_embeddings": False}),
        (
            {"text_config": {"tie_word_embeddings": True}},
            {"text_config": {"tie_word_embeddings": False}},
        ),
        ({"tie_word_embeddings": False}, {"tie_word_embeddings": False}),
    ],
)
def test_a_head_that_is_untied_is_said_to_be(config: Any, after: Any) -> None:
    _folder({}, config={"a": 1, **config})
    Path("hf/model.safetensors").unlink()
    table = torch.randn(10, 4)
    torch.save({WORDS: table, "lm_head.weight": table}, "hf/pytorch_model.bin")

    assert _config(untie=True) == {"a": 1, **after}


def test_numbers_of_tokens_beyond_a_smaller_vocabulary_are_named() -> None:
    _folder(
        BOTH,
        config={"vocab_size": 10, "eos_token_id": 9, "bos_token_id": 1, "pad_token_id": None},
        generation_config={"eos_token_id": [1, 8], "suppress_tokens": [7, 20]},
        tokenizer={"model": {"vocab": {"a": 0, "b": 4}}, "added_tokens": [{"id": 8}]},
    )

    assert _warnings("*.weight=8") == (
        "config.json: eos_token_id 9 is beyond the 8 rows of 'lm_head.weight'",
        "generation_config.json: eos_token_id 8 is beyond the 8 rows of 'lm_head.weight'",
        "tokenizer.json has 9 tokens, and 'lm_head.weight' now 8 rows",
    )
    assert _warnings("*.weight=12:zeros") == ()


@pytest.mark.parametrize(
    ("name", "form", "count"),
    [
        ("tokenizer", {"model": {"vocab": [["a", -1.5]] * 13}}, 13),
        ("vocab", {"a": 0, "b": 12}, 13),
        ("added_tokens", {"<x>": 13}, 14),
        ("tokenizer", {"model": 1, "added_tokens": 2}, 0),
        ("tokenizer", {"model": {"vocab": {"a": "b"}}, "added_tokens": [1]}, 0),
        ("vocab", {"a": True, "b": []}, 0),
    ],
)
def test_a_tokenizer_with_more_tokens_than_rows_is_named(name: str, form: Any, count: int) -> None:
    _folder(BOTH, config={"vocab_size": 10}, **{name: form})

    warnings = _warnings("*.weight=12:zeros")

    said = (f"{name}.json has {count} tokens, and 'lm_head.weight' now 12 rows",)
    assert warnings == (said if count else ())


def test_an_adapter_names_the_model_that_has_to_have_the_same_shape() -> None:
    _folder(
        {"base_model.model.classifier.weight": (3, 4)},
        adapter_config={"base_model_name_or_path": "org/bert", "r": 8},
    )

    assert _warnings("*.classifier.weight=5:zeros") == (
        "adapter_config.json: 'org/bert' has to be built with 5 rows in "
        "'base_model.model.classifier.weight' too",
    )


@pytest.mark.parametrize(
    ("shapes", "hint"),
    [
        (HEAD, "classifier.weight=7:normal:std=0.02"),
        (
            {"cls_classifier.weight": (3, 4), "distillation_classifier.weight": (3, 4)},
            "'{cls_classifier.weight,distillation_classifier.weight}=7:normal:std=0.02'",
        ),
    ],
)
@pytest.mark.parametrize("arch", [(), ("--arch", "resnet50")])
def test_a_number_of_classes_for_a_folder_is_answered_with_the_resize_of_its_head(
    shapes: Shapes, hint: str, arch: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _folder({**shapes, "bert.pooler.dense.weight": (3, 4)}, config=NAMED)

    assert main(["run", "hf", "--num-classes", "7", "-o", "out", *arch]) == 2

    said = f"hint: --resize {hint} keeps the rows that fit\n"
    assert capsys.readouterr().err.endswith(said)
    pattern = hint.strip("'")
    assert main(["run", "hf", "--resize", pattern, "-o", "out"]) == 0
    assert len(json.loads(Path("out/config.json").read_text())["id2label"]) == 7


def test_a_config_that_is_kept_is_said_to_be_wrong() -> None:
    _folder(BOTH, config={"vocab_size": 10})
    before = Path("hf/config.json").read_bytes()

    rewrite("hf", [], "out", resize=["*.weight=12:zeros"], keep_config=True)

    assert Path("out/config.json").read_bytes() == before
    assert _warnings("*.weight=12:zeros", keep_config=True) == (
        "config.json is kept, though it should say vocab_size 10 → 12",
    )


@pytest.mark.parametrize("source", ["hf", "hf/model.safetensors"])
def test_a_lone_file_from_a_folder_leaves_the_config_and_says_so(source: str) -> None:
    _folder(BOTH, config={"vocab_size": 10, "dtype": "float32"})
    options = {"resize": ("*.weight=12:zeros",), "dtype": "bfloat16"}

    plan = prepare(Request(source, (), "o.safetensors", **options)).plan

    assert plan.warnings[-1] == (
        "for the output, 'hf/config.json' would have to say "
        "vocab_size 10 → 12, dtype float32 → bfloat16"
    )


def test_a_config_with_numbers_that_are_not_finite_follows() -> None:
    """Mamba 2 limits its time steps to [0.0, Infinity]; JSON has no such number, Python has."""
    text = '{"time_step_limit": [0.0, Infinity], "x": [NaN, -Infinity], "vocab_size": 10}\n'
    _folder(BOTH, config=text)

    rewrite("hf", [], "out", resize=["*.weight=12:zeros"], record=True)

    assert Path("out/config.json").read_text() == text.replace("10}", "12}")
    assert verify("out", source="hf").findings == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it does not start with '{'"),
        ("[]", "it does not start with '{'"),
        ('{"vocab_size": 10', "it is not JSON"),
        ('{"a":' * 200_000 + "1" + "}" * 200_000, "it "),
        ("﻿{}", "it does not start with '{'"),
    ],
)
def test_a_config_that_cannot_be_read_is_copied_and_named(text: str, problem: str) -> None:
    _folder(BOTH, config=text)

    rewrite("hf", [], "out", resize=["*.weight=12:zeros"])

    assert Path("out/config.json").read_text() == text
    assert _warnings("*.weight=12:zeros")[0].startswith(f"config.json is not read: {problem}")


@pytest.mark.parametrize(
    "config",
    [
        {"id2label": {"0": [], "1": {}, "2": 3}, "label2id": {"a": "b", "c": -5}},
        {"id2label": {"9" * 5000: "a", "x": "b", "٣": "c"}, "label2id": []},
        {"id2label": {"0": "\ud800", "1": "é", "2": ""}, "label2id": {"\ud800": 0}},
        {
            "pretrained_cfg": {"classifier": [1, None, {}]},
            "num_classes": 3,
            "label_names": [1, 2, 3],
        },
        {"num_labels": 3.0, "num_classes": True, "id2label": None, "dtype": 3, "torch_dtype": "x"},
        {"architectures": 5, "text_config": [], "eos_token_id": {"a": [[1]]}},
    ],
)
@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_strange_configs_are_no_tracebacks(config: Any, ensure_ascii: bool) -> None:
    text = json.dumps(config, ensure_ascii=ensure_ascii)
    if text.encode(errors="replace").decode() != text:
        text = json.dumps(config)[:-1] + ', "é": 1}'
    _folder(HEAD, config=text)

    after = _config(resize=["classifier.weight=5:zeros"], dtype="bfloat16")

    assert set(config) <= set(after)


@pytest.mark.parametrize("is_nested", [True, False])
def test_a_config_that_repeats_a_number_costs_little(is_nested: bool) -> None:
    """Each of 3,000 tensors was compared with each of 10,000 members: seconds."""
    members: dict[str, Any] = {f"a{at}": 12 for at in range(10_000)}
    config = {f"c{at}": {"vocab_size": 12} for at in range(250)} if is_nested else members
    tensors = {f"layers.{at}.w{at}.weight": (12, 1) for at in range(3_000)}
    _folder(tensors, config=config)
    started = time.process_time()

    plan = _plan(resize=["layers.*=13:zeros"])

    assert len(plan.config) == (250 if is_nested else 0)
    assert time.process_time() - started < 2


def test_the_report_the_plan_and_the_record_say_what_changed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _folder(BOTH, config={"vocab_size": 10, "dtype": "float32"})
    said = ["hf", "--resize", "*.weight=12:zeros", "--dtype", "float16", "-o", "out", "--record"]

    assert main(["run", *said]) == 0
    assert "config.json: vocab_size 10 → 12, dtype float32 → float16\n" in capsys.readouterr().err
    assert main(["run", *said[:-2], "planned", "--record", "-n", "--json"]) == 0
    changes = [
        {"file": "config.json", "member": "vocab_size", "was": 10, "now": 12},
        {"file": "config.json", "member": "dtype", "was": "float32", "now": "float16"},
    ]
    out = capsys.readouterr().out
    assert json.loads(out)["config"] == changes
    assert json.loads(Path("out/reinit.json").read_text())["config"] == changes
    Path("plan.json").write_text(out)
    assert main(["run", "-c", "plan.json", "-o", "again"]) == 0
    assert Path("again/config.json").read_bytes() == Path("out/config.json").read_bytes()


def test_a_record_verifies_a_config_that_followed() -> None:
    _folder(BOTH, config={"vocab_size": 10})
    rewrite("hf", [], "out", resize=["*.weight=12:zeros"], record=True)

    assert verify("out").holds
    assert verify("out", source="hf").holds
    Path("out/config.json").write_text('{"vocab_size": 12}\n')
    assert not verify("out").holds
    assert not verify("out", source="hf").holds


def test_a_record_from_before_configs_followed_verifies() -> None:
    _folder(BOTH, config={"vocab_size": 10})
    rewrite("hf", [], "out", resize=["*.weight=12:zeros"], keep_config=True, record="r.json")
    form = json.loads(Path("r.json").read_text())
    del form["keep_config"]
    Path("r.json").write_text(text_of(form) + "\n")

    assert verify("out", source="hf", record="r.json").findings == ()


def test_a_config_that_is_a_link_out_of_the_folder_is_not_read() -> None:
    _folder(BOTH)
    Path("secret.json").write_text('{"vocab_size": 10}')
    Path("hf/config.json").symlink_to(Path("secret.json").absolute())

    rewrite("hf", [], "out", resize=["*.weight=12:zeros"])

    assert not Path("out/config.json").exists()
    assert _plan(resize=["*.weight=12:zeros"]).config == ()
    assert load_file("out/model.safetensors")[WORDS].shape == (12, 4)
