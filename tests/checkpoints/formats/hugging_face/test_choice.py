"""Of several sets of weights, the one that the libraries load is read, and that is said."""

from __future__ import annotations

import json
import os
import time
import zipfile
from pathlib import Path

import pytest

from reinit_cli.cli import main
from reinit_cli.errors import UnsupportedFormatError
from tests.checkpoints.formats.hugging_face.making import index, save, shards, state, value

A = ("a.weight",)

# Each row: the sets of a folder in the order in which the library tries them.
ORDERS = {
    "transformers": (
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
    ),
    "diffusers": (
        "diffusion_pytorch_model.safetensors.index.json",
        "diffusion_pytorch_model.safetensors",
        "diffusion_pytorch_model.bin",
    ),
    "PEFT": ("adapter_model.safetensors", "adapter_model.bin"),
    "open_clip": ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
    "a variant": ("model.fp16.safetensors", "model.safetensors.index.fp16.json"),
}


def _make(name: str, number: float) -> None:
    """Make the set of weights that a name stands for, which holds one number."""
    if not name.endswith(".json"):
        save(f"hf/{name}", state(number, *A))
        return
    stem, kind, _, *rest = name.removesuffix(".json").split(".")
    base = ".".join((stem, *rest))
    index(f"hf/{name}", shards("hf", base, kind, A, number))


@pytest.mark.parametrize("library", ORDERS)
def test_the_set_that_a_library_loads_is_read(
    library: str, capsys: pytest.CaptureFixture[str]
) -> None:
    order = ORDERS[library]
    for number, name in reversed([*enumerate(order, 1)]):
        _make(name, number)

        assert value("hf") == number

    assert main(["keys", "hf"]) == 0
    said = capsys.readouterr().err
    assert f"several sets of weights: {order[0]!r} is read" in said
    assert all(repr(name) in said for name in order[1:])


def test_a_folder_with_the_configuration_of_diffusers_is_read_as_diffusers_does() -> None:
    _make("model.safetensors", 1)
    _make("diffusion_pytorch_model.safetensors", 2)

    for config, number in (({}, 1), ({"_class_name": "UNet2DConditionModel"}, 2)):
        Path("hf/config.json").write_text(json.dumps(config))
        assert value("hf") == number


def test_a_configuration_can_name_the_file() -> None:
    _make("model.safetensors", 1)
    _make("model.safetensors.index.json", 2)
    name = "model.safetensors.index.json"
    Path("hf/config.json").write_text(json.dumps({"transformers_weights": name}))

    assert value("hf") == 2


def test_a_configuration_can_name_a_file_that_no_library_knows() -> None:
    _make("model.safetensors", 1)
    _make("tuned.safetensors", 2)
    Path("hf/config.json").write_text(json.dumps({"transformers_weights": "tuned.safetensors"}))

    assert value("hf") == 2


def test_an_index_of_the_one_file_belongs_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    _make("model.safetensors", 1)
    index("hf/model.safetensors.index.json", dict.fromkeys(A, "model.safetensors"))

    assert main(["hf", "-o", "new"]) == 0

    assert "warning" not in capsys.readouterr().err
    assert sorted(os.listdir("new")) == ["model.safetensors", "model.safetensors.index.json"]


def test_doubts_about_a_checkpoint_that_a_rule_names_are_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _make("model.safetensors", 1)
    _make("pytorch_model.bin", 2)
    save("m.safetensors", state(3, *A))

    assert main(["m.safetensors", "-r", "*=rewind:./hf"]) == 0

    assert "several sets of weights" in capsys.readouterr().err
    assert value("m-reinit.safetensors") == 1


def test_a_set_that_is_named_is_read_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    _make("model.safetensors", 1)
    _make("pytorch_model.bin.index.json", 2)

    assert main(["show", "hf/pytorch_model.bin.index.json", "a.weight", "--json"]) == 0

    said = capsys.readouterr()
    assert "2.0" in said.out
    assert said.err == ""


@pytest.mark.parametrize(
    "name", ["best.pt", "weights.th", "last.ckpt", "net.pth.tar", "x.bin", "vae.safetensors"]
)
def test_the_only_file_of_weights_is_read_whatever_its_name(name: str) -> None:
    save(f"exp/{name}", state(3, *A))
    Path("exp/args.yaml").write_text("lr: 1")
    Path("exp/training_args.bin").write_bytes(b"arguments")
    Path("exp/optimizer.pt").write_bytes(b"state")

    assert main(["exp", "-r", "a.weight=zeros"]) == 0

    assert sorted(os.listdir("exp-reinit")) == sorted(os.listdir("exp"))
    assert value("exp-reinit") == 0


def test_several_files_are_listed_with_the_command_for_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    save("exp/best.pt", state(1))
    save("exp/last one.pt", state(2))

    assert main(["exp", "-r", "*=zeros", "-o", "new.pt"]) == 2

    assert capsys.readouterr().err == (
        "error: 'exp' holds 2 sets of weights: best.pt, last one.pt\n"
        "hint: name one of them: reinit exp/best.pt -r '*=zeros' -o new.pt or "
        "reinit 'exp/last one.pt' -r '*=zeros' -o new.pt\n"
    )


def test_of_a_batch_the_files_are_listed_too(capsys: pytest.CaptureFixture[str]) -> None:
    save("exp/best.pt", state(1))
    save("exp/last.pt", state(2))
    Path("list").write_text("exp/\n")

    assert main(["--files-from", "list", "-r", "*=zeros"]) == 2

    assert "hint: name one of them: exp/best.pt or exp/last.pt" in capsys.readouterr().err


def test_a_folder_of_checkpoints_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    for step in (500, 1000):
        save(f"run/checkpoint-{step}/model.safetensors", state(step))
    Path("run/trainer_state.json").write_text("{}")

    assert main(["keys", "run"]) == 2

    err = capsys.readouterr().err
    assert "reinit keys run/checkpoint-1000" in err
    assert "reinit keys run/checkpoint-500" in err


def test_of_many_checkpoints_one_command_is_shown_and_steps_are_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for step in range(12):
        save(f"run/step-{step}/model.safetensors", state(step))
        save(f"flat/step-{step}.pt", state(step))

    assert main(["keys", "run", "*.weight"]) == 2
    assert capsys.readouterr().err == (
        "error: 'run' holds no weights itself, but there are "
        f"{', '.join(f'step-{step}' for step in range(10))} and 2 more\n"
        "hint: name one of them, such as: reinit keys run/step-0 '*.weight'\n"
    )

    assert main(["keys", "flat"]) == 2
    assert "step-8.pt, step-9.pt and 2 more\n" in capsys.readouterr().err


def test_many_files_are_listed_within_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    for at in range(300):
        save(f"exp/epoch{at:03d}.pt", state(1, "a"))

    with pytest.raises(UnsupportedFormatError, match="300 sets of weights"):
        value("exp", "a")
    assert main(["keys", "exp"]) == 2
    assert len(capsys.readouterr().err) < 1000


@pytest.mark.parametrize("name", ["model_best.tar", "checkpoint", "net.pkl", "weights.PT", "w.dat"])
def test_the_content_tells_where_no_name_does(name: str) -> None:
    save(f"exp/{name}", state(3, *A))
    Path("exp/log.txt").write_text("epoch 1")
    with zipfile.ZipFile("exp/code.zip", "w") as archive:
        archive.writestr("train.py", "")

    assert main(["exp", "-r", "a.weight=zeros"]) == 0

    assert sorted(os.listdir("exp-reinit")) == sorted(os.listdir("exp"))
    assert value("exp-reinit") == 0


def test_two_files_without_names_of_weights_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    save("exp/one.tar", state(1))
    save("exp/two.tar", state(2))

    assert main(["keys", "exp"]) == 2

    assert "reinit keys exp/one.tar or reinit keys exp/two.tar" in capsys.readouterr().err


def test_a_file_of_the_user_elsewhere_is_not_taken_for_weights() -> None:
    save("home/secret.tar", state(1))
    Path("exp").mkdir()
    Path("exp/link.tar").symlink_to("../home/secret.tar")

    assert main(["keys", "exp"]) == 2


def test_a_configuration_elsewhere_is_not_read() -> None:
    _make("model.safetensors", 1)
    _make("model.safetensors.index.json", 2)
    Path("config.json").write_text('{"transformers_weights": "model.safetensors.index.json"}')
    Path("hf/config.json").symlink_to("../config.json")

    assert value("hf") == 1


@pytest.mark.slow
def test_a_folder_of_many_names_takes_little_time() -> None:
    Path("hf").mkdir()
    for at in range(10_000):
        kind = ("ckpt", "bin", "safetensors")[at % 3]
        Path(f"hf/weights-{at:05d}-of-10000.{'x' * 150}.{kind}").touch()
        Path(f"hf/best_{at}.{kind}").touch()
    _make("model.safetensors", 1)
    started = time.process_time()

    assert main(["keys", "hf"]) == 0

    assert time.process_time() - started < 2
