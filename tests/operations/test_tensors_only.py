"""What a file holds besides its state dict: counted where it would be lost, and left out if asked."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from reinit_cli import rewrite, verify
from reinit_cli.cli import main
from reinit_cli.errors import UnwritableContentError
from reinit_cli.request.recipe import parse_recipe


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _trained() -> dict[str, Any]:
    """Return what a script of training saves: 15 parameters, two slots of each, and more."""
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)
    average = {key: each.clone() for key, each in model.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(2, 4)).sum().backward()
    optimizer.step()
    return {
        "epoch": 3,
        "model": model.state_dict(),
        "model_ema": average,
        "optimizer": optimizer.state_dict(),
    }


def _is_legacy(path: str) -> bool:
    return not Path(path).read_bytes().startswith(b"PK")


@pytest.mark.parametrize("is_new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("rules", [(), ("bias=zeros",)], ids=["no rules", "rules"])
@pytest.mark.parametrize("dtype", [None, "bfloat16", "float8_e4m3fn"])
def test_tensors_alone_stay_in_a_file_of_the_same_kind(
    is_new: bool,
    rules: tuple[str, ...],
    dtype: str | None,
) -> None:
    saved = _trained()
    torch.save(saved, "run.pt", _use_new_zipfile_serialization=is_new)

    outcome = rewrite("run.pt", rules, "clean.pt", tensors_only=True, dtype=dtype)

    found = torch.load("clean.pt")
    expected = dict(saved["model"])
    if rules:
        expected["bias"] = torch.zeros(3)
    assert list(found) == list(expected)
    for key, tensor in expected.items():
        cast = tensor.to(getattr(torch, dtype)) if dtype else tensor
        assert found[key].dtype == cast.dtype
        assert torch.equal(found[key].double(), cast.double())
    # torch loads float8 from archives alone.
    assert _is_legacy("clean.pt") is (not is_new and dtype != "float8_e4m3fn")
    left_out = "epoch (int), model_ema (dict: 2 tensors, 15 elements), optimizer (dict: 6 tensors"
    assert any(left_out in each for each in outcome.job.plan.warnings)


def test_a_legacy_file_of_tensors_alone_keeps_ties_and_empty_tensors() -> None:
    whole = torch.randn(3, 4)
    state = {
        "z": whole,
        "empty": torch.zeros(0, 5),
        "a": whole,
        "t": whole.t(),
        "n": torch.tensor(7),
    }
    torch.save({"net": state, "epoch": 1}, "m.pt", _use_new_zipfile_serialization=False)

    rewrite("m.pt", [], "o.pt", tensors_only=True, root="net")

    found = torch.load("o.pt")
    assert list(found) == list(state)
    assert all(torch.equal(found[key], state[key]) for key in state)
    assert found["z"].data_ptr() == found["a"].data_ptr()


def test_another_network_of_a_file_is_extracted() -> None:
    saved = _trained()
    torch.save(saved, "run.pt")

    rewrite("run.pt", [], "ema.pt", tensors_only=True, root="model_ema")

    found = torch.load("ema.pt")
    assert {key: each.tolist() for key, each in found.items()} == {
        key: each.tolist() for key, each in saved["model_ema"].items()
    }


def test_a_file_of_tensors_alone_stays_as_it_is() -> None:
    torch.save({"w": torch.ones(3), "b": torch.zeros(3)}, "m.pt")

    rewrite("m.pt", ["b=ones"], "o.pt", tensors_only=True)
    rewrite("m.pt", ["b=ones"], "p.pt")

    assert Path("o.pt").read_bytes() == Path("p.pt").read_bytes()


LOST = {
    "a tensor outside": (
        {"state_dict": {"w": torch.ones(3)}, "acc": torch.zeros(5)},
        r"(?m)cannot store acc \(a tensor: 5 elements\)$",
    ),
    "an optimizer": (
        {
            "state_dict": {"w": torch.ones(3)},
            "optimizer": {
                "state": {0: {"momentum_buffer": torch.ones(3)}},
                "param_groups": [{"params": [0]}],
            },
        },
        r"(?m)cannot store optimizer \(dict: 1 tensor, 3 elements\)$",
    ),
    "a stream in a state dict": (
        {"w": torch.ones(3), "_extra_state": io.BytesIO(b"scale")},
        r"(?m)cannot store _extra_state \(_io.BytesIO\)$",
    ),
    "bytes in a state dict": (
        {"w": torch.ones(3), "_extra_state": b"scale"},
        r"(?m)cannot store _extra_state \(.*\)$",
    ),
    "a set in a state dict": (
        {"w": torch.ones(3), "seen": {1, 2}},
        r"(?m)cannot store seen \(.*set\)$",
    ),
}


@pytest.mark.parametrize("output", ["o.safetensors", "shards"])
@pytest.mark.parametrize("name", LOST)
def test_what_is_not_written_is_counted_before_a_byte_is(name: str, output: str) -> None:
    saved, problem = LOST[name]
    torch.save(saved, "m.pt")

    shard_nbytes = 10**6 if output == "shards" else None
    with pytest.raises(UnwritableContentError, match=problem):
        rewrite("m.pt", [], output, shard_nbytes=shard_nbytes)
    assert [path.name for path in Path().iterdir()] == ["m.pt"]

    rewrite("m.pt", [], output, shard_nbytes=shard_nbytes, tensors_only=True)

    path = output if shard_nbytes is None else f"{output}/model.safetensors"
    assert {key: each.tolist() for key, each in load_file(path).items()} == {"w": [1, 1, 1]}


@pytest.mark.parametrize("is_new", [True, False], ids=["zip", "legacy"])
def test_a_record_of_tensors_alone_verifies_against_its_source(is_new: bool) -> None:
    torch.save(_trained(), "run.pt", _use_new_zipfile_serialization=is_new)

    rewrite("run.pt", ["bias=normal"], "o.pt", tensors_only=True, record="r.json")

    assert verify("o.pt", record="r.json", source="run.pt").findings == ()


def test_a_record_of_before_that_dropped_nothing_still_verifies() -> None:
    """`drop_non_tensors` was ignored where a file kept its format, and records may say it."""
    torch.save(_trained(), "run.pt")
    rewrite("run.pt", ["bias=normal"], "o.pt", record="r.json")
    form = json.loads(Path("r.json").read_text())
    assert form["drop_non_tensors"] is False
    assert "tensors_only" not in form

    Path("r.json").write_text(json.dumps({**form, "drop_non_tensors": True}))

    findings = verify("o.pt", record="r.json", source="run.pt").findings
    assert [str(each) for each in findings] == ["the record is not as it was written"]


def test_a_record_of_before_whose_cast_dropped_everything_else_still_verifies() -> None:
    """A change of dtypes wrote the state dict alone, where there was nothing to ask for too."""
    torch.save(torch.nn.Linear(4, 3).state_dict(), "m.pt")
    rewrite("m.pt", ["bias=normal"], "o.pt", tensors_only=True, dtype="float16", record="r.json")
    form = json.loads(Path("r.json").read_text())
    assert form["drop_non_tensors"] is True
    assert "tensors_only" not in form

    Path("r.json").write_text(json.dumps({**form, "drop_non_tensors": False}))

    findings = verify("o.pt", record="r.json", source="m.pt").findings
    assert [str(each) for each in findings] == ["the record is not as it was written"]


def test_a_recipe_of_before_says_the_same_by_the_older_name() -> None:
    said = parse_recipe(b"drop_non_tensors = true", "r.toml")

    assert said == parse_recipe(b"tensors_only = true", "r.toml") == {"tensors_only": True}


@pytest.mark.parametrize(
    "arguments", [["--dtype", "float16", "-o", "new"], ["-r", "weight=zeros", "-o", "new.pt"]]
)
def test_the_only_file_of_a_folder_is_named_where_it_would_keep_everything(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("hf").mkdir()
    torch.save({"state_dict": torch.nn.Linear(2, 2).state_dict(), "epoch": 3}, "hf/best.pt")

    assert main(["hf", *arguments]) == 2

    hint = capsys.readouterr().err.splitlines()[1]
    assert hint.startswith("hint: name the file itself, hf/best.pt, and a file as -o to keep it,")
    assert main(["hf/best.pt", *arguments[:2], "-o", "kept.pt"]) == 0
    assert torch.load("kept.pt")["epoch"] == 3
