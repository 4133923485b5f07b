"""What would contradict new weights is not copied next to them, and is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reinit_cli import rewrite, verify
from reinit_cli.cli import main
from reinit_cli.errors import OutputError, UnknownNameError
from tests.checkpoints.formats.hugging_face.making import index, save, shards, state

STALE = (
    *("original/consolidated.00.pth", "original/params.json", "onnx/model.onnx", "model.onnx"),
    *("onnx/model.onnx_data", "model.gguf", "tf_model.h5", "flax_model.msgpack", "rust_model.ot"),
    *("pytorch_model.bin", "open_clip_pytorch_model.bin", "model.fp16.safetensors", "model.tflite"),
    *("model.safetensors.index.fp16.json", "consolidated.safetensors", "consolidated.00.pth"),
    *("checkpoint-500/model.safetensors", "checkpoint-500/optimizer.pt", "openvino_model.xml"),
    *("global_step7/mp_rank_00_model_states.pt", "pytorch_model_fsdp_0/__0_0.distcp", "ema.pt"),
    *("coreml/model.mlpackage/Data/weight.bin", "model.ckpt.index", "saved_model.pb"),
    *(".metadata", "__0_0.distcp", "dcp/.metadata", "dcp/__0_0.distcp", "__1.metadata"),
)
KEPT = (
    *("config.json", "tokenizer.json", "tokenizer.model", "README.md", "training_args.bin"),
    *(
        "2_Dense/model.safetensors",
        "1_Pooling/config.json",
        "runs/events.out",
        "trainer_state.json",
    ),
    *("mm_projector.bin", "vocab.pt", "speaker_embeddings/a.npy", "merges.txt"),
)
TRAINING = ("optimizer.pt", "scheduler.pt", "rng_state_0.pth", "scaler.pt", "optimizer.bin")


def _folder(*names: str) -> None:
    save("hf/model.safetensors", state(1))
    for name in names:
        path = Path("hf", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"old weights")


def _files(folder: str) -> set[str]:
    return {str(each.relative_to(folder)) for each in Path(folder).rglob("*") if each.is_file()}


@pytest.mark.parametrize("stale", [STALE[:11], STALE[11:]], ids=["some", "others"])
def test_what_is_stale_is_left_out_and_everything_else_is_copied(stale: tuple[str, ...]) -> None:
    _folder(*stale, *KEPT, *TRAINING)

    outcome = rewrite("hf", ["a.weight=zeros"])

    assert _files("hf-reinit") == {"model.safetensors", *KEPT, *TRAINING}
    said = " ".join(outcome.job.plan.warnings)
    for name in stale:
        folder = name.partition("/")[0] + "/" if "/" in name else name
        assert folder in said, name


def test_an_adapter_next_to_a_model_goes_along_with_its_configuration() -> None:
    """transformers loads both, and fails where it finds the configuration alone."""
    _folder("config.json", "adapter_config.json", "adapter_model.safetensors", "model.gguf")

    rewrite("hf", ["a.weight=zeros"], "new", record=True)

    assert _files("new") - {"reinit.json"} == {
        *("config.json", "model.safetensors", "adapter_config.json", "adapter_model.safetensors")
    }
    assert verify("new", source="hf").findings == ()


def test_the_other_file_of_an_adapter_is_left_out() -> None:
    save("ad/adapter_model.safetensors", state(1))
    save("ad/adapter_model.bin", state(2))
    Path("ad/adapter_config.json").write_text("{}")

    rewrite("ad", ["a.weight=zeros"], "new")

    assert _files("new") == {"adapter_config.json", "adapter_model.safetensors"}


def test_no_folder_is_left_of_files_that_are_left_out() -> None:
    """The Trainer resumes from the last `checkpoint-*`, whatever is in it."""
    _folder("checkpoint-5/model.safetensors", "checkpoint-5/a/b.txt", "original/params.json")
    _folder("onnx/model.onnx", "onnx/kept/model.onnx", "optimizer_0/__0_0.distcp", "runs/events")
    os.makedirs("hf/checkpoint-5/empty")
    os.makedirs("hf/logs/empty")

    rewrite("hf", [], "new", resize=["a.weight=4:zeros"], copy=["onnx/kept/*"])

    folders = {str(each.relative_to("new")) for each in Path("new").rglob("*") if each.is_dir()}
    assert folders == {"onnx", "onnx/kept", "runs", "logs", "logs/empty"}


def test_the_report_has_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    _folder("original/a.pth", "original/b.pth", "model.gguf")

    assert main(["hf", "-r", "a.weight=zeros"]) == 0

    assert capsys.readouterr().err.startswith(
        "warning: not copied from 'hf': model.gguf (11 B), original/ (2 files, 22 B); "
        "--copy PATTERN copies them\n"
    )


def test_the_list_is_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    _folder(*(f"model{at}.gguf" for at in range(500)))

    assert main(["hf", "-r", "a.weight=zeros", "-n"]) == 0

    line = capsys.readouterr().err
    assert "and 480 more" in line
    assert len(line) < 2000


@pytest.mark.parametrize(
    "options",
    [{"resize": ["a.weight=4:zeros"]}, {"drop": ["a.weight"]}, {"rename": ["a.*=x.*"]}],
    ids=["shapes", "fewer keys", "other keys"],
)
def test_the_state_of_a_training_goes_along_only_where_it_fits(
    options: dict[str, list[str]],
) -> None:
    _folder(*TRAINING, "config.json")

    rewrite("hf", [], "cast", dtype="float16")
    outcome = rewrite("hf", [], "new", **options)  # type: ignore[arg-type]

    assert _files("cast") == {"model.safetensors", "config.json", *TRAINING}
    assert _files("new") == {"model.safetensors", "config.json"}
    assert all(name in " ".join(outcome.job.plan.warnings) for name in TRAINING)


def test_a_pattern_copies_what_would_be_left_out() -> None:
    _folder(*STALE, *TRAINING)

    rewrite("hf", [], "new", resize=["a.weight=4:zeros"], copy=["original/*", "optimizer.{pt,bin}"])

    assert _files("new") == {
        *("model.safetensors", "original/consolidated.00.pth", "original/params.json"),
        *("optimizer.pt", "optimizer.bin"),
    }
    assert Path("new/original/params.json").read_bytes() == b"old weights"


def test_what_was_copied_on_request_is_part_of_the_record() -> None:
    _folder(*STALE, *TRAINING)

    rewrite("hf", ["a.weight=normal"], "out", copy=["model.gguf"], record=True)

    assert Path("out/model.gguf").exists()
    assert not verify("out", source="hf").findings
    Path("out/model.gguf").write_bytes(b"other weigh")
    assert verify("out").findings


def test_a_recipe_asks_for_copies(capsys: pytest.CaptureFixture[str]) -> None:
    _folder("model.gguf", "model.onnx")
    Path("r.toml").write_text('copy = "*.gguf"\n[[rule]]\nmatch = "a.*"\ninit = "zeros"\n')

    assert main(["hf", "-c", "r.toml", "--copy", "*.onnx"]) == 0

    assert _files("hf-reinit") == {"model.safetensors", "model.gguf", "model.onnx"}
    assert "warning" not in capsys.readouterr().err


def test_a_pattern_that_matches_no_file_is_refused() -> None:
    _folder("model.gguf")
    Path("secret").write_text("secret")
    Path("hf/link").symlink_to("../secret")

    for pattern in ("*.onnx", "../secret", "link", "/etc/passwd"):
        with pytest.raises(UnknownNameError, match="to copy"):
            rewrite("hf", ["a.weight=zeros"], copy=[pattern])


def test_there_is_nothing_to_copy_without_two_folders() -> None:
    _folder("model.gguf")

    for source, output in (("hf", "one.safetensors"), ("hf/model.safetensors", "two.safetensors")):
        with pytest.raises(OutputError, match="no other files to copy"):
            rewrite(source, ["a.weight=zeros"], output, copy=["*.gguf"])


def test_new_weights_win_over_a_copy_of_the_same_name() -> None:
    index("hf/model.safetensors.index.json", shards("hf", "model", "safetensors", ("a.weight",), 1))
    save("hf/model.safetensors", state(2))

    rewrite("hf", ["a.weight=zeros"], "new", dtype="float16", copy=["*.index.json"])

    assert "model.safetensors.index.json" in os.listdir("new")
    assert sorted(os.listdir("new")) == ["model.safetensors", "model.safetensors.index.json"]


def test_an_adapter_that_is_split_is_said_to_be_what_its_library_does_not_load() -> None:
    save("ad/adapter_model.safetensors", state(1))
    said = "PEFT loads an adapter from one file alone, which it is without shard_nbytes="

    split = rewrite("ad", [], "split", shard_nbytes=24)
    whole = rewrite("ad", [], "whole", shard_nbytes=10**6)

    assert len(list(Path("split").glob("adapter_model-*.safetensors"))) > 1
    assert said in split.job.plan.warnings
    assert _files("whole") == {"adapter_model.safetensors"}
    assert said not in whole.job.plan.warnings
