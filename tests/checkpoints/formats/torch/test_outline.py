"""What a torch file holds is outlined in a few lines, whether it has a state dict or not."""

from __future__ import annotations

import argparse
import datetime as dt
import enum
import io
import json
import subprocess
import sys
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reinit_cli.cli import main
from reinit_cli.operations.contents import describe
from tests.checkpoints.formats.torch.nestings import NESTINGS
from tests.json_schema import check_form


class Strategy(enum.Enum):
    STEPS = "steps"


def _outline(content: Any, name: str = "m.pt", **how: Any) -> dict[str, tuple[str, str]]:
    torch.save(content, name, **how)
    return {part.path: (part.kind, part.text) for part in describe(name).parts}


def _trained(kind: type[torch.optim.Optimizer], **options: Any) -> tuple[nn.Module, Any]:
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    optimizer = kind(module.parameters(), **options)
    module(torch.ones(2, 3)).square().sum().backward()
    optimizer.step()
    return module, optimizer.state_dict()


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize(
    ("kind", "slots"),
    [
        (torch.optim.AdamW, "exp_avg, exp_avg_sq, step"),
        (torch.optim.Adagrad, "step, sum"),
        (torch.optim.RMSprop, "square_avg, step"),
    ],
)
def test_the_slots_of_an_optimizer_are_one_line(
    kind: type[torch.optim.Optimizer], slots: str, is_old: bool
) -> None:
    _, state = _trained(kind, lr=0.5)
    nbytes = sum(
        slot.numel() * slot.element_size()
        for slots in state["state"].values()
        for slot in slots.values()
    )
    torch.save(state, "opt.pt", _use_new_zipfile_serialization=not is_old)

    whole, of_slots, group = describe("opt.pt").parts

    assert (whole.kind, whole.text) == ("optimizer", "4 parameters in 1 group")
    assert (of_slots.path, of_slots.text) == ("state", f"4 parameters: {slots}")
    assert of_slots.nbytes == nbytes
    assert (group.path, group.text.split(", ")[:2]) == (
        "param_groups.0",
        ["4 parameters", "lr 0.5"],
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (_trained(torch.optim.SGD, lr=0.1)[1], "the state of an optimizer"),
        (argparse.Namespace(lr=0.1), "an argparse.Namespace"),
        ({"lr": 0.1, "epoch": 3}, "a dict of 2 members"),
        (
            torch.optim.lr_scheduler.StepLR(
                torch.optim.SGD([nn.Parameter(torch.ones(1))]), 3
            ).state_dict(),
            "the state of a learning-rate scheduler",
        ),
        (["a", 1], "a list of 2 items"),
        (3, "an int"),
        (None, "None"),
    ],
)
@pytest.mark.parametrize("argv", [("keys",), ("-r", "*=zeros"), ("stats",)])
def test_what_has_no_state_dict_is_an_error_that_says_what_it_is(
    content: Any, what: str, argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(content, "my m.pt")
    words = (*argv, "my m.pt") if argv[0] != "-r" else ("my m.pt", *argv)

    assert main(words) == 2

    error, hint = capsys.readouterr().err.splitlines()
    assert error == f"error: 'my m.pt' holds no state dict, but {what}"
    assert hint == "hint: reinit keys --meta 'my m.pt' shows what it holds"
    assert main(["keys", "--meta", "my m.pt"]) == 0
    assert [path.name for path in Path().iterdir()] == ["my m.pt"]


def test_everything_next_to_a_state_dict_is_outlined() -> None:
    module, state = _trained(torch.optim.Adam)
    copy = {**module.state_dict(), **{f"more.{at}": torch.ones(1) for at in range(9)}}
    content = {
        "model": module.state_dict(),
        "ema": copy,
        "stats": {"mean": torch.zeros(3), "std": torch.ones(3)},
        "optimizers": [state],
        "best": torch.ones(2, 3, dtype=torch.float64),
        "args": argparse.Namespace(lr=0.1, sizes=[1, 2], device=torch.device("cuda:1")),
        "strategy": Strategy.STEPS,
        "when": dt.date(2020, 1, 1),
        "names": {"a"},
        "nothing": None,
        "long": list(range(50)),
        "log": [{"loss": 0.5}] * 50,
    }

    found = _outline(content)

    assert found[""] == ("dict", "12 members")
    assert found["model"] == ("state dict", "4 tensors")
    assert found["ema"] == ("dict", "13 tensors")
    assert found["stats"] == ("dict", "2 tensors: mean, std")
    assert found["optimizers"] == ("list", "1 item")
    assert found["optimizers.0.state"] == ("dict", "4 parameters: exp_avg, exp_avg_sq, step")
    assert found["best"] == ("tensor", "2x3 float64")
    assert found["args"] == ("argparse.Namespace", "")
    assert found["args.lr"] == ("float", "0.1")
    assert found["args.sizes"] == ("list", "[1, 2]")
    assert found["args.device"] == ("torch.device", "('cuda', 1)")
    assert found["strategy"] == (f"{__name__}.Strategy", "('steps')")
    assert found["when"] == ("datetime.date", "(4 B)")
    assert found["names"] == ("set", "{'a'}")
    assert found["nothing"] == ("None", "")
    assert found["long"] == ("list", "[0, 1, 2, 3, 4, 5, 6, 7, and 42 more]")
    assert found["log.0.loss"] == ("float", "0.5")
    assert found["log"] == ("more", "44 more")  # the last line of that path
    assert not [path for path in found if path.startswith(("model.", "ema.", "log.6"))]


@pytest.mark.parametrize("name", NESTINGS)
def test_the_state_dict_is_one_line_wherever_it_lies(name: str) -> None:
    nesting = NESTINGS[name]
    torch.save(nesting.saves(), "m.pt")

    parts = describe("m.pt").parts

    found = [(part.path, part.tensors) for part in parts if part.kind == "state dict"]
    assert found == [(nesting.root, len(nesting.keys))]
    below = [part.path for part in parts if part.path.startswith(f"{nesting.root}.")]
    assert not set(below) & {f"{nesting.root}.{key}" for key in nesting.keys}
    assert len({part.path for part in parts if part.kind != "more"}) == len(parts)


def test_the_state_of_parameters_without_groups_is_one_line() -> None:
    _, state = _trained(torch.optim.Adam)
    torch.save({"model": {"w": torch.ones(9, 9)}, "moments": state["state"]}, "m.pt")

    found = {part.path: part for part in describe("m.pt").parts}

    assert found["moments"].text == "4 members: exp_avg, exp_avg_sq, step"
    assert found["moments"].tensors == 12
    assert not [path for path in found if path.startswith("moments.")]


def test_an_optimizer_that_was_pickled_whole_is_summed_up() -> None:
    module = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.25)
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    torch.save({"model": module, "optim": optimizer}, "m.pt")

    found = {part.path: part.text for part in describe("m.pt").parts}

    assert found["optim"] == "2 parameters in 1 group, torch.optim.adam.Adam"
    assert found["optim.state"] == "2 parameters: exp_avg, exp_avg_sq, step"
    assert "lr 0.25" in found["optim.param_groups.0"]
    assert "optim.defaults" not in found


def test_the_hint_names_the_tensors_of_an_optimizer_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.save(_trained(torch.optim.Adam)[1], "opt.pt")

    assert main(["keys", "opt.pt"]) == 2

    assert capsys.readouterr().err.splitlines()[1] == (
        "hint: reinit keys --meta opt.pt shows what it holds, or try --root ."
    )


def test_tied_tensors_count_once_in_an_outline() -> None:
    shared = torch.zeros(5, 2)
    torch.save({"a": {"w": shared, "v": shared}, "b": {"c": {"e": shared, "n": 3}}}, "m.pt")

    assert {part.nbytes for part in describe("m.pt", root="b.c").parts if part.tensors} == {40}


def test_a_module_is_outlined_by_its_class() -> None:
    torch.save({"other": {"n": 3}, "module": nn.Sequential(nn.Linear(2, 2))}, "m.pt")

    found = {part.path: part for part in describe("m.pt").parts}

    assert found["module"].text == "2 tensors, torch.nn.modules.container.Sequential"
    assert found["module"].nbytes == 24
    assert found["other.n"].text == "3"


def test_the_one_file_of_weights_in_a_folder_is_outlined(
    capsys: pytest.CaptureFixture[str],
) -> None:
    module, state = _trained(torch.optim.Adam)
    Path("run").mkdir()
    torch.save({"state_dict": module.state_dict(), "optimizer": state}, "run/last.ckpt")
    Path("run/args.yaml").write_text("lr: 1")

    assert main(["keys", "--meta", "run"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert "optimizer.state\tdict\t4 parameters: exp_avg, exp_avg_sq, step\t208" in lines
    assert not [line for line in lines if "exp_avg_sq (outside" in line]


def test_a_pipe_without_a_state_dict_is_outlined() -> None:
    data = io.BytesIO()
    torch.save({"lr": 0.5}, data)
    command = [sys.executable, "-m", "reinit_cli", "keys", "--meta", "-"]

    done = subprocess.run(command, input=data.getvalue(), capture_output=True, check=False)

    assert (done.returncode, done.stderr) == (0, b"source: -\nformat: torch zip\n")
    assert done.stdout.decode().splitlines() == [
        "holds\tkind\tvalue\tbytes",
        ".\tdict\t1 member\t",
        "lr\tfloat\t0.5\t",
    ]


def test_an_outline_has_its_form_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"lr": 0.5, "w": {"a.weight": torch.zeros(3, 2)}}, "m.pt")

    assert main(["keys", "--meta", "m.pt", "--json"]) == 0

    form = json.loads(capsys.readouterr().out)
    check_form(form)
    assert form["outline"] == [
        {"path": "", "kind": "dict", "text": "2 members", "tensors": 0, "nbytes": 0},
        {"path": "lr", "kind": "float", "text": "0.5", "tensors": 0, "nbytes": 0},
        {"path": "w", "kind": "state dict", "text": "1 tensor", "tensors": 1, "nbytes": 24},
    ]


def test_an_outline_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"a\x1b[2J\tb\n": "\x1b[31m", "\u202ec": argparse.Namespace(**{"x\r": 1})}, "m.pt")

    assert main(["keys", "--meta", "m.pt"]) == 0

    out, err = capsys.readouterr()
    assert all(char.isprintable() or char in "\t\n" for char in out + err)
    assert len(out.splitlines()) == 5


def test_all_arguments_of_a_program_are_listed() -> None:
    names = [f"option_{at}" for at in range(120)]
    torch.save(argparse.Namespace(**dict.fromkeys(names, 0.5)), "training_args.bin")

    parts = describe("training_args.bin").parts

    assert [part.path for part in parts] == ["", *names]


def test_an_outline_is_short_whatever_a_file_holds() -> None:
    text = "x" * 10**6
    deep: Any = 1
    for _ in range(90):
        deep = {"k" * 100: deep}
    wide = {f"{at}{'y' * 500}": {f"{n}": {text: text} for n in range(99)} for at in range(99)}
    torch.save({"deep": deep, "wide": wide, text: [text] * 3}, "m.pt")

    parts = describe("m.pt").parts

    assert len(parts) <= 301
    assert max(len(part.path) + len(part.kind) + len(part.text) for part in parts) < 1_000


@pytest.mark.parametrize("kind", ["list", "dict", "object"])
def test_what_is_shared_over_and_over_is_outlined_in_bounded_time(kind: str) -> None:
    shared: Any = [1, torch.ones(1)]
    for _ in range(60):
        shared = {
            "list": lambda part: [part, part],
            "dict": lambda part: {"a": part, "b": part},
            "object": lambda part: argparse.Namespace(a=part, b=part),
        }[kind](shared)
    torch.save({"shared": shared, "n": 1}, "m.pt")
    start = time.process_time()

    assert main(["keys", "--meta", "m.pt"]) in (0, 2)

    assert time.process_time() - start < 4


def test_a_list_in_itself_is_outlined() -> None:
    circle: list[Any] = [3]
    circle.append(circle)
    torch.save({"circle": circle, "sd": OrderedDict(circle=circle)}, "m.pt")

    assert describe("m.pt").parts[0].text == "2 members"


def test_what_holds_itself_is_outlined_once() -> None:
    inner: dict[str, Any] = {"n": [1, {}]}
    inner["itself"] = inner["n"][1]["up"] = inner
    net: dict[str, Any] = {"a.weight": torch.ones(2, 2)}
    net["self"] = net

    lines = _outline({"state_dict": net, "objects": inner})

    assert lines["objects.itself"] == ("dict", "the same as objects")
    assert lines["objects.n.1.up"] == ("dict", "the same as objects")
    assert lines["state_dict.self"] == ("dict", "the same as state_dict")
    assert not any(path.startswith("objects.itself.") for path in lines)
