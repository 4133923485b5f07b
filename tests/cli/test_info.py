"""A source alone, or `reinit info`, is summed up for people, for pipes and as JSON."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from reinit_cli.cli import main
from reinit_cli.cli.render.info_form import command_line
from reinit_cli.operations.next_commands import Command
from tests.cli.conftest import Done
from tests.json_schema import SCHEMA
from tests.tools import needs_torch

Reinit = Callable[..., Done]


def _json(reinit: Reinit, *args: str) -> dict[str, Any]:
    done = reinit("info", *args, "--json")
    assert (done.code, done.err) == (0, "")
    form: dict[str, Any] = json.loads(done.out)
    return form


def _lines(reinit: Reinit, *args: str) -> dict[str, str]:
    done = reinit(*args)
    assert (done.code, done.err) == (0, "")
    return dict(line.split("\t") for line in done.out.splitlines())


def _net() -> nn.Sequential:
    blocks = [nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)) for _ in range(3)]
    return nn.Sequential(nn.Sequential(*blocks), nn.Linear(4, 2))


def test_a_file_is_summed_up_as_safetensors_and_torch_count_it(reinit: Reinit) -> None:
    net = _net()
    state = {key: value.contiguous() for key, value in net.state_dict().items()}
    save_file(state, "net.safetensors", metadata={"author": "somebody"})

    form = _json(reinit, "net.safetensors")

    assert form["format"] == "safetensors"
    assert form["file_nbytes"] == os.path.getsize("net.safetensors")
    assert form["parameters"] == sum(each.numel() for each in net.parameters())
    assert form["buffers"] == sum(each.numel() for each in net.buffers())
    assert form["nbytes"] == sum(each.nbytes for each in state.values())
    with safe_open("net.safetensors", "pt") as file:
        assert form["tensors"] == len(file.keys())
        assert form["metadata"] == file.metadata()
    assert {each["dtype"]: each["numel"] for each in form["dtypes"]} == {
        "float32": sum(each.numel() for each in state.values() if each.dtype is torch.float32),
        "int64": 3,
    }
    assert [(each["name"], each["tensors"]) for each in form["modules"]] == [
        ("0.{0..2}", len(net[0].state_dict())),
        ("1", 2),
    ]
    assert form["groups"][0]["pattern"] == "0.{0..2}.0.weight"
    assert form["groups"][0]["parameters"] == 3 * net[0][0][0].weight.numel()
    assert sum(each["tensors"] for each in form["groups"]) == form["tensors"]


def test_the_members_of_the_form_are_those_that_are_documented(reinit: Reinit) -> None:
    save_file({"a": torch.zeros(1)}, "a.safetensors")

    documented = SCHEMA["$defs"]["info"]
    everywhere = [each for each in documented["properties"] if each in documented["required"]]
    assert list(_json(reinit, "a.safetensors")) == everywhere


def test_a_source_alone_is_summed_up(reinit: Reinit, checkpoint: Path) -> None:
    named = reinit("info", "model.safetensors")

    assert reinit("model.safetensors") == named
    assert reinit("model.safetensors", "--no-pager", "--color", "never", "--wide") == named
    assert reinit("--json", "model.safetensors") == reinit("info", "model.safetensors", "--json")


@pytest.mark.parametrize(
    "args",
    [
        ("model.safetensors", "model.safetensors"),
        ("model.safetensors", "-s", "1"),
        ("model.safetensors", "--force"),
        ("model.safetensors", "-q"),
        ("model.safetensors", "-n", "--json"),
        ("run", "model.safetensors"),
    ],
    ids=" ".join,
)
def test_more_than_a_source_without_work_stays_an_error(
    args: tuple[str, ...], reinit: Reinit, checkpoint: Path
) -> None:
    done = reinit(*args)

    assert (done.code, done.out) == (2, "")
    assert done.said.startswith("error: no rule was given")
    assert "reinit info model.safetensors" in done.err
    assert os.listdir() == ["model.safetensors"]


def test_a_training_checkpoint_is_taken_apart(reinit: Reinit) -> None:
    needs_torch("2.7", "AdamW says in its state that it is not Adam")
    net = _net()
    optimizer = torch.optim.AdamW(net.parameters())
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    state = {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 7}
    torch.save(state, "run.pt")

    form = _json(reinit, "run.pt")

    assert form["state_dict"] == "model"
    assert form["parameters"] == sum(each.numel() for each in net.parameters())
    assert form["optimizers"] == [{"path": "optimizer", "kind": "AdamW"}]
    contents = {each["path"]: each for each in form["contents"]}
    assert list(contents) == ["optimizer", "epoch"]
    assert (contents["epoch"]["kind"], contents["epoch"]["text"]) == ("int", "7")


def test_a_copy_of_the_weights_is_named_once(reinit: Reinit) -> None:
    state = _net().state_dict()
    torch.save({"model": state, "ema": {key: each.clone() for key, each in state.items()}}, "m.pt")

    form = _json(reinit, "m.pt")

    assert form["networks"] == [{"root": "ema", "is_copy": True}]
    assert form["contents"] == []


def test_the_files_of_a_folder_that_go_with_its_weights_are_listed(reinit: Reinit) -> None:
    Path("hf").mkdir()
    state = nn.Linear(2, 2).state_dict()
    save_file(state, "hf/model.safetensors")
    torch.save(state, "hf/pytorch_model.bin")
    torch.save({"state": {}, "param_groups": []}, "hf/optimizer.pt")

    contents = json.loads(reinit("info", "hf", "--json").out)["contents"]

    assert {each["path"]: (each["kind"], each["nbytes"]) for each in contents} == {
        "optimizer.pt": ("training state", os.path.getsize("hf/optimizer.pt")),
        "pytorch_model.bin": ("other weights", os.path.getsize("hf/pytorch_model.bin")),
    }


def test_what_has_no_state_dict_is_summed_up_too(reinit: Reinit) -> None:
    net = nn.Linear(2, 2)
    torch.save(torch.optim.SGD(net.parameters(), 0.1, 0.9).state_dict(), "optimizer.pt")

    form = _json(reinit, "optimizer.pt")

    assert (form["tensors"], form["state_dict"]) == (0, None)
    assert form["next"] == ["reinit keys optimizer.pt --meta"]


def test_dtypes_are_sorted_by_the_share_that_is_printed(reinit: Reinit) -> None:
    # The integers are more bytes and fewer elements.
    torch.save({"a": torch.arange(6), "b": torch.zeros(20, dtype=torch.float16)}, "m.pt")

    assert "float16 76.9 %, int64 23.1 %" in reinit("info", "m.pt", "--color=always").out


def test_ties_are_named(reinit: Reinit) -> None:
    shared = torch.zeros(5, 2)
    torch.save({"head": shared, "embed": shared, "x": torch.zeros(1)}, "m.pt")

    form = _json(reinit, "m.pt")

    assert form["ties"] == [["embed", "head"]]
    assert (form["tensors"], form["parameters"], form["nbytes"]) == (3, 11, 44)


def test_quantized_weights_are_counted(reinit: Reinit) -> None:
    state = {}
    for at in range(2):
        state[f"{at}.qweight"] = torch.zeros(4, 4, dtype=torch.int32)
        state[f"{at}.qzeros"] = torch.zeros(1, dtype=torch.int32)
        state[f"{at}.scales"] = torch.zeros(4, dtype=torch.float16)
    save_file(state, "q.safetensors")

    form = _json(reinit, "q.safetensors")

    assert (form["quantized"], form["parameters"], form["buffers"]) == (2, 32, 10)


def test_a_wrapper_and_shared_memory_are_noted(reinit: Reinit) -> None:
    whole = torch.zeros(6)
    torch.save({"module.a": whole[:4], "module.b": whole[2:]}, "m.pt")

    assert _json(reinit, "m.pt")["notes"] == [
        "2 tensors share some memory, and cannot be filled",
        "every key starts with 'module.', as a wrapper leaves it",
    ]


def test_a_record_says_how_a_file_was_made(reinit: Reinit, checkpoint: Path) -> None:
    args = ("-r", "classifier.*=normal:std=0.5", "-s", "3", "--record", "-o", "new.safetensors")
    assert reinit("model.safetensors", *args).code == 0

    form = _json(reinit, "new.safetensors")

    assert form["record"]["rules"] == ["classifier.*=normal:mean=0,std=0.5"]
    assert (form["record"]["source"], form["record"]["seed"]) == ("model.safetensors", 3)
    assert form["record"]["filled"] == 2
    assert "reinit.json" not in str(form["metadata"])
    assert form["next"][-1] == "reinit verify new.safetensors"
    assert _json(reinit, "model.safetensors")["record"] is None


def test_a_record_that_is_not_valid_is_a_note(reinit: Reinit, checkpoint: Path) -> None:
    assert (
        reinit("model.safetensors", "-r", "*=zeros", "--record", "-o", "new.safetensors").code == 0
    )
    data = Path("new.safetensors").read_bytes()
    Path("new.safetensors").write_bytes(data.replace(b"filled", b"failed", 1))

    form = _json(reinit, "new.safetensors")

    assert form["record"] is None
    assert form["notes"] == ["its record cannot be read: it has no record"]
    assert form["parameters"] == 706


def test_a_model_has_the_numbers_that_torchvision_publishes(reinit: Reinit) -> None:
    form = _json(reinit, "resnet50")
    enum = torchvision.models.ResNet50_Weights

    assert form["parameters"] == enum.DEFAULT.meta["num_params"]
    assert form["weights"]["chosen"] == enum.DEFAULT.name
    assert [each["name"] for each in form["weights"]["available"]] == [
        "IMAGENET1K_V2",
        "IMAGENET1K_V1",
    ]
    for each in form["weights"]["available"]:
        meta = enum[each["name"]].meta
        assert each["metrics"] == meta["_metrics"]["ImageNet-1K"]
        assert each["file_nbytes"] == pytest.approx(meta["_file_size"] * 2**20, abs=1)
    assert _json(reinit, "resnet50", "--weights", "none")["weights"]["chosen"] == "none"


def test_every_command_that_is_suggested_works(reinit: Reinit) -> None:
    net = _net()
    name = "my 'net' [1].pt"
    odd = {f"odd key=zeros:{{1,2}}.{key}": value for key, value in net.state_dict().items()}
    torch.save({"model": odd, "ema": odd}, name)

    form = _json(reinit, name, "--root", "model")

    assert [line.split()[1] for line in form["next"]][:2] == ["keys", "stats"]
    assert len(form["next"]) == 3
    for line in form["next"]:
        program, *args = shlex.split(line)
        assert program == "reinit"
        done = reinit(*args)
        assert done.code == 0, (line, done.err)
        assert "odd key" in done.out


def test_the_prefix_of_a_wrapper_is_taken_away_by_what_is_suggested(reinit: Reinit) -> None:
    state = nn.DataParallel(_net()).state_dict()
    torch.save(state, "m.pt")

    *_, line = _json(reinit, "m.pt")["next"]
    program, *args = shlex.split(line.removesuffix(" -n"))

    assert (program, reinit(*args, "-o", "new.pt").code) == ("reinit", 0)
    assert torch.load("new.pt").keys() == _net().state_dict().keys()


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("-x.pt", "reinit ./-x.pt -r a=zeros"),
        ("keys", "reinit ./keys -r a=zeros"),
        ("a b.pt", "reinit 'a b.pt' -r a=zeros"),
    ],
)
def test_a_name_that_would_be_misread_is_spelled_as_a_path(source: str, line: str) -> None:
    assert command_line(Command("", source, ("-r", "a=zeros"))) == line


def test_lines_in_a_pipe_are_names_and_raw_values(reinit: Reinit, checkpoint: Path) -> None:
    lines = _lines(reinit, "info", "model.safetensors")

    assert lines["source"] == "model.safetensors"
    assert lines["file_nbytes"] == str(os.path.getsize("model.safetensors"))
    assert (lines["parameters"], lines["buffers"]) == ("706", "9")
    assert lines["dtypes.bfloat16"] == "180"
    assert lines["metadata.author"] == "somebody"


def test_standard_input_is_summed_up(checkpoint: Path) -> None:
    with checkpoint.open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "reinit_cli", "-", "--json"],
            check=True,
            stdin=file,
            capture_output=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )

    form = json.loads(done.stdout)
    assert (form["source"], form["tensors"], form["file_nbytes"]) == ("-", 7, None)
    assert form["next"] == []


def test_a_name_that_is_nothing_gets_one_line(reinit: Reinit) -> None:
    assert reinit("modles") == Done(
        2,
        "",
        "error: 'modles' is not a command, a file or a torchvision model\n"
        "hint: did you mean: reinit models?\n",
    )


def test_a_folder_without_weights_gets_one_line(reinit: Reinit) -> None:
    Path("notes.txt").write_text("nothing")
    done = reinit(".")

    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "error: cannot read '.': it has no weights: no index and no .safetensors, .bin or .pt file\n"
    )


def test_without_a_source_the_versions_are_listed(reinit: Reinit) -> None:
    form = json.loads(reinit("info", "--json").out)

    assert form["version"] == 1
    assert form["python"].startswith(platform.python_version())
    assert form["platform"] == platform.platform()
    assert {name: form["packages"][name] for name in ("torch", "safetensors", "click")} == {
        name: version(name) for name in ("torch", "safetensors", "click")
    }
    assert form["devices"][0] == "cpu"
    lines = _lines(reinit, "info")
    assert lines["torch"] == version("torch")
    assert reinit("info", "--root", "x").code == 2


def test_keys_of_strangers_cannot_reach_the_terminal(reinit: Reinit) -> None:
    save_file({"a\x1b[2J": torch.zeros(2, 2)}, "a.safetensors", metadata={"x\x1b": "\x1b[2J"})

    assert "\x1b" not in reinit("info", "a.safetensors").out
    assert main(["info", "a.safetensors", "--color", "always"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "key",
    [
        lambda at: f"model.layers.{at // 100}.mlp.experts.{at % 100}.weight",
        lambda at: f"m{at}x.w{at}",
        lambda at: ".".join(["a"] * (at % 100)) + f".w{at}",
        lambda at: f"{'9' * (at % 50)}.{at}.x",
    ],
    ids=["layers", "all different", "deep", "numbers"],
)
def test_a_hundred_thousand_keys_are_summed_up_in_seconds(key: Callable[[int], str]) -> None:
    header = {
        key(at): {"dtype": "F32", "shape": [1], "data_offsets": [4 * at, 4 * at + 4]}
        for at in range(100_000)
    }
    data = json.dumps(header).encode()
    Path("a.safetensors").write_bytes(len(data).to_bytes(8, "little") + data + bytes(400_000))

    started = time.process_time()
    assert main(["info", "a.safetensors", "--json"]) == 0
    assert time.process_time() - started < 30
