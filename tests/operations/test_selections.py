"""Keys are renamed, dropped and extracted on the way, in every format."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from reinit_cli import plan, rewrite, verify
from reinit_cli.cli import main
from reinit_cli.errors import RuleError, UnsupportedFormatError, UnwritableContentError
from reinit_cli.streams.stream import seed_for

STATE = {
    "module.conv.weight": torch.arange(16.0).view(4, 4),
    "module.norm.weight": torch.ones(4, dtype=torch.float16),
    "step": torch.tensor(3),
    "module.fc.weight": torch.randn(3, 4),
    "module.fc.bias": torch.zeros(3, dtype=torch.bfloat16),
}
RENAMED = {key.removeprefix("module."): tensor for key, tensor in STATE.items()}


def assert_holds(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Check that two state dicts have the same keys in the same order, dtypes and values."""
    assert list(found) == list(expected)
    for key, tensor in expected.items():
        assert found[key].dtype == tensor.dtype
        assert torch.equal(found[key], tensor)


def header_keys(path: str) -> list[str]:
    """Return the keys of a safetensors file in the order of its header."""
    data = Path(path).read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return [key for key in header if key != "__metadata__"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_torch_file_is_renamed(legacy: bool) -> None:
    torch.save(STATE, "m.pt", _use_new_zipfile_serialization=not legacy)

    rewrite("m.pt", [], "out.pt", rename=["module.*=*"])

    assert_holds(torch.load("out.pt"), RENAMED)


def test_a_safetensors_file_is_renamed_and_keeps_its_metadata_and_its_order() -> None:
    save_file(STATE, "m.safetensors", {"format": "pt", "made by": "us"})
    before = header_keys("m.safetensors")

    rewrite("m.safetensors", [], "out.safetensors", rename=["module.*=*"])

    assert header_keys("out.safetensors") == [key.removeprefix("module.") for key in before]
    with safe_open("out.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "made by": "us"}
    found = load_file("out.safetensors")
    assert_holds({key: found[key] for key in RENAMED}, RENAMED)


def test_a_folder_gets_an_index_of_the_new_names() -> None:
    save_file(STATE, "m.safetensors", {"format": "pt"})
    rewrite("m.safetensors", [], "shards", shard_nbytes=60)
    Path("shards/config.json").write_text("{}")

    rewrite("shards", [], "out", rename=["module.*=*"], drop=["step"], shard_nbytes=60)

    weight_map = json.loads(Path("out/model.safetensors.index.json").read_text())["weight_map"]
    expected = {key: tensor for key, tensor in RENAMED.items() if key != "step"}
    assert weight_map.keys() == expected.keys()
    assert Path("out/config.json").read_text() == "{}"
    for key, name in weight_map.items():
        assert torch.equal(load_file(f"out/{name}")[key], expected[key])


def test_a_model_is_renamed_and_its_modules_keep_their_versions() -> None:
    model = torchvision.models.squeezenet1_1()
    torch.save(model.state_dict(), "weights.pth")

    rewrite("squeezenet1_1", [], "out.pt", weights="none", rename=["features.*=body.*"])

    found = torch.load("out.pt")
    assert list(found) == [key.replace("features.", "body.") for key in model.state_dict()]
    own = model.state_dict()._metadata  # type: ignore[attr-defined]
    assert found._metadata["body.0"] == own["features.0"]
    assert found._metadata["classifier.1"] == own["classifier.1"]


def test_rules_see_the_new_keys_and_draw_as_in_a_file_of_these_keys() -> None:
    torch.save(STATE, "m.pt")
    torch.save(RENAMED, "renamed.pt")
    rule = "fc.weight=normal:std=0.02"

    rewrite("m.pt", [rule], "out.pt", rename=["module.*=*"])
    rewrite("renamed.pt", [rule], "expected.pt")

    assert_holds(torch.load("out.pt"), torch.load("expected.pt"))


def test_tensors_are_left_out_and_taken() -> None:
    torch.save(STATE, "m.pt")

    rewrite("m.pt", [], "body.pt", drop=["module.fc.*", "step"])
    rewrite("m.pt", [], "head.safetensors", only=["module.fc.*"], drop=["*.bias"])

    assert list(torch.load("body.pt")) == ["module.conv.weight", "module.norm.weight"]
    assert list(load_file("head.safetensors")) == ["module.fc.weight"]


def test_a_transform_reads_the_values_under_their_old_name() -> None:
    torch.save(STATE, "m.pt")

    rewrite("m.pt", ["conv.weight=scale:2"], "out.pt", rename=["module.*=*"], measure_before=True)

    assert torch.equal(torch.load("out.pt")["conv.weight"], 2 * STATE["module.conv.weight"])


def test_a_tie_stays_a_tie() -> None:
    table = torch.randn(6, 4)
    torch.save({"m.embed": table, "m.head": table, "m.b": torch.ones(2)}, "m.bin")

    rewrite("m.bin", ["head=normal"], "out.bin", rename=["m.*=*"])

    found = torch.load("out.bin")
    assert found["embed"].data_ptr() == found["head"].data_ptr()


@pytest.mark.parametrize("name", ["__metadata__", "a\ud800"])
def test_a_name_that_safetensors_cannot_hold_is_refused(name: str) -> None:
    save_file({"a": torch.ones(2)}, "m.safetensors")

    with pytest.raises(UnwritableContentError):
        rewrite("m.safetensors", [], "out.safetensors", rename=[f"a={name}"])

    assert not Path("out.safetensors").exists()


def test_what_is_selected_is_verified_from_the_record_and_against_the_source() -> None:
    save_file(STATE, "m.safetensors", {"format": "pt"})

    rewrite(
        "m.safetensors",
        ["fc.weight=normal"],
        "out.safetensors",
        rename=["module.*=*"],
        drop=["step"],
        record=True,
    )

    assert verify("out.safetensors").holds
    assert verify("out.safetensors", source="m.safetensors").holds


def test_a_plan_names_what_is_left_out_and_where_keys_come_from() -> None:
    torch.save(STATE, "m.pt")

    found = plan("m.pt", [], rename=["module.*=*"], drop=["step"])

    assert found.dropped == ("step",)
    assert [step.origin for step in found.steps] == [key for key in STATE if key != "step"]


def test_two_keys_of_one_name_are_refused_before_anything_is_written() -> None:
    torch.save(STATE, "m.pt")

    with pytest.raises(RuleError, match="would both be named"):
        rewrite("m.pt", [], "out.pt", rename=["module.{conv,norm}.*=*"])

    assert not Path("out.pt").exists()


def test_the_default_of_a_model_fills_tensors_under_new_names_as_under_their_own() -> None:
    rules = ["fc.*=default"]
    rewrite("resnet18", rules, "own.pt", weights="none", num_classes=3, stream="torch")

    rewrite(
        "resnet18",
        ["head.*=default"],
        "out.pt",
        weights="none",
        num_classes=3,
        rename=["fc.*=head.*"],
        record="r.json",
        stream="torch",
    )

    found = torch.load("out.pt")
    assert found["head.weight"].shape == (3, 512)
    bound = 512**-0.5
    drawn = torch.empty(3, 512).uniform_(
        -bound, bound, generator=torch.Generator().manual_seed(seed_for(0, "head.weight"))
    )
    assert torch.allclose(found["head.weight"], drawn)
    assert not torch.equal(found["head.weight"], torch.load("own.pt")["fc.weight"])
    assert verify("out.pt", record="r.json").drawn == ("head.weight", "head.bias")


def test_a_head_of_other_classes_is_found_under_its_old_name() -> None:
    torch.save(torchvision.models.resnet18().state_dict(), "m.pt")

    rewrite("m.pt", [], "out.pt", arch="resnet18", num_classes=3, rename=["fc.*=head.*"])

    assert torch.load("out.pt")["head.bias"].shape == (3,)


def _training() -> dict[str, object]:
    table = torch.randn(6, 4)
    model = {
        "m.embed": table,
        "m.head": table,
        "m.fc": torch.randn(3, 4),
        "m.steps": torch.tensor(2),
    }
    optimizer = {"state": {0: {"exp_avg": torch.ones(3, 4)}}, "param_groups": [{"lr": 0.1}]}
    return {"epoch": 3, "model": model, "optimizer": optimizer, "args": argparse.Namespace(a=1)}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_everything_else_in_a_training_checkpoint_is_kept(legacy: bool) -> None:
    saved: Any = _training()
    torch.save(saved, "run.pt", _use_new_zipfile_serialization=not legacy)

    rewrite(
        "run.pt", ["fc=zeros"], "out.pt", rename=["m.*=*"], drop=["m.steps"], dtype=["fc=float64"]
    )

    found = torch.load("out.pt", weights_only=False)
    assert list(found) == ["epoch", "model", "optimizer", "args"]
    assert_holds(
        found["model"],
        {
            "embed": saved["model"]["m.embed"],
            "head": saved["model"]["m.head"],
            "fc": torch.zeros(3, 4, dtype=torch.float64),
        },
    )
    assert found["model"]["embed"].data_ptr() == found["model"]["head"].data_ptr()
    assert found["epoch"] == 3
    assert found["args"] == saved["args"]
    assert torch.equal(found["optimizer"]["state"][0]["exp_avg"], torch.ones(3, 4))


def test_a_network_is_taken_out_of_a_training_checkpoint_and_renamed() -> None:
    saved: Any = _training()
    ema = {f"module.{key}": tensor + 1 for key, tensor in saved["model"].items()}
    torch.save(saved | {"model_ema": ema}, "run.pt")

    rewrite(
        "run.pt",
        [],
        "ema.pt",
        root="model_ema",
        tensors_only=True,
        rename=["module.m.*=*"],
        only=["*.fc", "*.embed"],
    )

    assert_holds(
        torch.load("ema.pt"),
        {"embed": ema["module.m.embed"], "fc": ema["module.m.fc"]},
    )


def test_nested_dictionaries_keep_their_levels_where_names_allow() -> None:
    torch.save(
        {"actor": {"fc.w": torch.ones(2), "x": torch.zeros(1)}, "critic": {"fc.w": torch.ones(3)}},
        "m.pt",
    )

    rewrite(
        "m.pt",
        [],
        "out.pt",
        rename=["actor.*=policy.*", "critic.fc.w=critic.out"],
        drop=["actor.x"],
    )

    found = torch.load("out.pt")
    assert {key: list(inner) for key, inner in found.items()} == {
        "policy": ["fc.w"],
        "critic": ["out"],
    }


@pytest.mark.parametrize(
    "saved",
    [
        {"actor": {"fc": torch.ones(2)}, "critic": {"fc": torch.ones(3)}},
        [torch.ones(2), torch.ones(3)],
        torch.nn.Linear(2, 2),
    ],
    ids=["nested", "list", "module"],
)
def test_a_pickle_without_a_place_for_a_key_is_refused_and_tensors_alone_are_not(
    saved: object,
) -> None:
    torch.save(saved, "m.pt")
    keys = [step.key for step in plan("m.pt", []).steps]

    with pytest.raises(UnsupportedFormatError):
        rewrite("m.pt", [], "out.pt", rename=[f"{keys[0]}=elsewhere"])
    assert not Path("out.pt").exists()

    rewrite("m.pt", [], "out.pt", rename=[f"{keys[0]}=elsewhere"], tensors_only=True)
    assert list(torch.load("out.pt")) == ["elsewhere", *keys[1:]]


def test_a_torch_file_that_is_renamed_is_verified() -> None:
    torch.save(_training(), "run.pt")

    rewrite("run.pt", ["fc=normal"], "out.pt", rename=["m.*=*"], drop=["m.steps"], record=True)

    assert verify("out.pt").holds
    assert verify("out.pt", source="run.pt").holds


def test_a_pipe_is_renamed() -> None:
    torch.save(STATE, "m.pt")
    command = [sys.executable, "-m", "reinit_cli", "-", "--rename", "module.*=*", "-o", "-", "-q"]

    with open("m.pt", "rb") as source, open("out.pt", "wb") as out:
        subprocess.run(command, stdin=source, stdout=out, check=True)

    assert_holds(torch.load("out.pt"), RENAMED)


def test_a_file_is_renamed_in_its_place() -> None:
    save_file(RENAMED, "m.safetensors", {"format": "pt"})

    rewrite("m.safetensors", [], rename=["*=net.*"], in_place=True)

    assert set(load_file("m.safetensors")) == {f"net.{key}" for key in RENAMED}


def test_inputs_of_a_batch_that_a_rename_does_not_fit_fail_alone() -> None:
    torch.save(STATE, "a.pt")
    torch.save(RENAMED, "b.pt")

    code = main(["a.pt", "b.pt", "--rename", "module.*=*", "-o", "out/", "--keep-going", "-q"])

    assert code == 3
    assert_holds(torch.load("out/a.pt"), RENAMED)
    assert not Path("out/b.pt").exists()


def test_a_plan_and_a_record_make_the_same_file_again() -> None:
    save_file(STATE, "m.safetensors", {"format": "pt"})
    asked = ["--rename", "module.*=*", "--drop", "step", "--only", "module.*", "--only", "step"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(["m.safetensors", *asked, "-o", "a.safetensors", "-n", "--json"]) == 0
    Path("plan.json").write_text(said.getvalue())

    assert main(["-c", "plan.json", "-q"]) == 0
    assert main(["m.safetensors", *asked, "--record", "-o", "b.safetensors", "-q"]) == 0
    assert main(["m.safetensors", "-c", "b.safetensors", "-o", "c.safetensors", "-q"]) == 0

    assert set(load_file("a.safetensors")) == {key for key in RENAMED if key != "step"}
    assert Path("b.safetensors").read_bytes() == Path("c.safetensors").read_bytes()


def test_the_table_of_a_run_shows_old_and_new_names() -> None:
    torch.save(STATE, "m.pt")
    said, facts = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(facts):
        main(["m.pt", "--rename", "module.fc.*=head.*", "--drop", "step", "-n", "-v"])

    lines = said.getvalue().splitlines()
    assert any(line.startswith("module.fc.bias → head.bias\tcopy\t3\tbfloat16\t") for line in lines)
    named = facts.getvalue().splitlines()
    assert "renamed: module.fc.weight → head.weight, module.fc.bias → head.bias" in named
    assert "dropped: step" in named


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            ["--rename", "modul.*=*"],
            [
                "error: rename 'modul.*=*' matches no key of m.pt",
                "hint: did you mean --rename 'module.*=*'?",
            ],
        ),
        (
            ["--drop", "module.fc.wieght"],
            [
                "error: drop 'module.fc.wieght' matches no key of m.pt",
                "hint: did you mean --drop module.fc.weight?",
            ],
        ),
        (
            ["--only", "*.nrom.*"],
            [
                "error: only '*.nrom.*' matches no key of m.pt",
                "hint: did you mean --only '*.norm.*'?",
            ],
        ),
        (
            ["--rename", "module.*"],
            [
                "error: rename 'module.*' has no '='; a rename is OLD=NEW",
                "hint: write it as OLD=NEW, such as --rename 'module.*=*'",
            ],
        ),
        (
            ["--rename", "step=__metadata__", "-o", "o.safetensors"],
            [
                "error: 'o.safetensors' cannot hold '__metadata__', a key that the format keeps "
                "for itself",
                "hint: -o with a .pt name can hold it",
            ],
        ),
    ],
)
def test_what_cannot_be_done_is_said_with_what_to_type(
    asked: list[str], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(STATE, "m.pt")

    assert main(["m.pt", *asked]) == 2

    assert capsys.readouterr().err.splitlines() == said
    assert sorted(path.name for path in Path().iterdir()) == ["m.pt"]


@pytest.mark.parametrize(
    ("is_named", "which"),
    [(True, "parameters, such as 'head.weight', that"), (False, "parameters that")],
)
def test_an_optimizer_that_keeps_state_of_what_is_left_out_is_named(
    is_named: bool, which: str
) -> None:
    net = torch.nn.Sequential()
    net.add_module("body", torch.nn.Linear(2, 2))
    net.add_module("head", torch.nn.Linear(2, 1))
    optimizer = torch.optim.Adam(net.named_parameters() if is_named else net.parameters())
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict()}, "run.pt")

    whole = rewrite("run.pt", [], "out.pt", drop=["head.*"]).job.plan
    alone = rewrite("run.pt", [], "alone.pt", drop=["head.*"], tensors_only=True).job.plan

    assert [each for each in whole.warnings if "no longer fits" in each] == [
        f"'optimizer' no longer fits: it keeps the state of {which} are left out; "
        "tensors_only=True leaves it out too"
    ]
    assert not [each for each in alone.warnings if "no longer fits" in each]


@pytest.mark.parametrize("protocol", [2, 4])
def test_what_the_dropped_first_tensor_was_made_of_is_made_for_the_others(protocol: int) -> None:
    """The first tensor in a pickle stores the names that the others recall, and its ties too."""
    table, other = torch.randn(3, 2), torch.randn(2)
    model = {"a.w": table, "b.w": table, "c": other}
    torch.save({"model": model, "ema": dict(model)}, "m.pt", pickle_protocol=protocol)

    rewrite("m.pt", [], "out.pt", root="model", drop=["a.*"], dtype="bfloat16")

    found = torch.load("out.pt", weights_only=protocol == 2)
    assert_holds(found["model"], {"b.w": table.bfloat16(), "c": other.bfloat16()})
    assert_holds(found["ema"], model)


def test_a_selection_that_leaves_no_tensor_is_refused() -> None:
    """A number next to tensors is an entry too, but a file of it alone holds no state dict."""
    torch.save({"w": torch.ones(2), "step": 5}, "m.pt")

    with pytest.raises(RuleError, match=r"no tensor of m\.pt is left"):
        rewrite("m.pt", [], "out.pt", only=["step"])

    assert not Path("out.pt").exists()
