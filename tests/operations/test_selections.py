"""Keys are renamed, dropped and extracted on the way, in every format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from reinit_cli import rewrite, verify
from reinit_cli.errors import RuleError, UnwritableContentError
from reinit_cli.operations.rewrite import plan
from reinit_cli.streams.seeds import seed_for

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
    rewrite("m.safetensors", [], "shards/", shard_nbytes=60)
    Path("shards/config.json").write_text("{}")

    rewrite("shards", [], "out/", rename=["module.*=*"], drop=["step"], shard_nbytes=60)

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
    rewrite("resnet18", rules, "own.pt", weights="none", num_classes=3)

    rewrite(
        "resnet18",
        ["head.*=default"],
        "out.pt",
        weights="none",
        num_classes=3,
        rename=["fc.*=head.*"],
        record="r.json",
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
