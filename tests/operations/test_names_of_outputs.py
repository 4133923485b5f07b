"""Outputs are called after their sources, and lie where people look for them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from reinit_cli import rewrite, verify
from reinit_cli.cli import main
from reinit_cli.errors import MalformedFileError, OutputUnwritableError

STATE = {"a.weight": torch.ones(2, 3), "b.bias": torch.zeros(3)}


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("m.pth.tar", "m-reinit.pth.tar"),
        ("m.th", "m-reinit.th"),
        ("m.pt.tar", "m-reinit.pt.tar"),
        ("v1.5.pt", "v1.5-reinit.pt"),
        ("m.safetensors.bak", "m-reinit.safetensors.bak"),
        ("m.ckpt.old", "m-reinit.ckpt.old"),
        ("m.PTH.TAR", "m-reinit.PTH.TAR"),
    ],
)
def test_the_default_name_keeps_the_suffix(source: str, output: str) -> None:
    if ".safetensors" in source:
        save_file(STATE, source)
    else:
        torch.save(STATE, source)

    rewrite(source, ["a.weight=zeros"])

    assert sorted(os.listdir()) == sorted([source, output])
    load = load_file if ".safetensors" in source else torch.load
    assert not load(output)["a.weight"].any()


@pytest.mark.parametrize("suffix", [".pth.tar", ".th", ".pt.tar", ".PTH.TAR"])
def test_suffixes_of_torch_name_its_format(suffix: str) -> None:
    save_file(STATE, "m.safetensors")

    rewrite("m.safetensors", [], f"new{suffix}")

    assert zipfile.is_zipfile(f"new{suffix}")
    assert all(torch.equal(torch.load(f"new{suffix}")[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_copy_under_another_name_is_a_copy(kind: str) -> None:
    source, output = (
        ("a.safetensors", "b.safetensors") if kind == "safetensors" else ("a.pt", "b.th")
    )
    if kind == "safetensors":
        save_file(STATE, source)
    else:
        torch.save(STATE, source, _use_new_zipfile_serialization=kind == "zip")

    assert main([source, "-o", output]) == 0

    assert Path(output).read_bytes() == Path(source).read_bytes()


def test_an_empty_recipe_makes_no_copy() -> None:
    save_file(STATE, "a.safetensors")
    Path("empty.json").write_text("{}")

    assert main(["a.safetensors", "-c", "empty.json", "-o", "b.safetensors"]) == 2

    assert not Path("b.safetensors").exists()


def test_the_record_of_a_copy_is_verified() -> None:
    save_file(STATE, "a.safetensors")

    assert main(["a.safetensors", "-o", "b.safetensors", "--record"]) == 0

    assert verify("b.safetensors", source="a.safetensors").holds


def _sources() -> None:
    """Make two files and a folder, and other folders that exist."""
    for folder in ("hf", "taken", "deep/er"):
        Path(folder).mkdir(parents=True)
    Path("link").symlink_to("taken")
    torch.save(STATE, "a.pt")
    for path in ("b.safetensors", "hf/model.safetensors"):
        save_file(STATE, path)
    Path("hf/config.json").write_text("{}")


def _files() -> set[str]:
    return {str(path) for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize("output", ["taken", "taken/", "link", "link/", "deep/er", "./taken", "."])
@pytest.mark.parametrize(
    "sources",
    [
        *(["a.pt"], ["b.safetensors"], ["hf"], ["hf/"], ["./a.pt"], ["hf/model.safetensors"]),
        *(["a.pt", "b.safetensors"], ["a.pt", "hf"], ["./hf/model.safetensors", "a.pt"]),
    ],
    ids=" ".join,
)
def test_an_existing_folder_takes_the_output_as_it_takes_a_copy(
    sources: list[str], output: str
) -> None:
    _sources()
    before = _files()
    copied = subprocess.run(["cp", "-r", *sources, output], check=False, capture_output=True)
    expected = {str(Path(path)): Path(path).read_bytes() for path in _files() - before}
    for path in expected:
        Path(path).unlink()
    shutil.rmtree("taken/hf", ignore_errors=True)
    shutil.rmtree("deep/er/hf", ignore_errors=True)

    code = main([*sources, "-o", output])

    if copied.returncode:  # it is the source itself
        assert code == 2
    else:
        assert code == 0
        assert {path: Path(path).read_bytes() for path in _files() - before} == expected


@pytest.mark.parametrize(
    ("arguments", "outputs"),
    [
        (["a.pt", "-o", "new/"], ["new/a.pt"]),
        (["a.pt", "b.safetensors", "-o", "new/"], ["new/a.pt", "new/b.safetensors"]),
        (["hf", "-o", "new/"], ["new/hf/config.json", "new/hf/model.safetensors"]),
        (["hf", "-o", "new"], ["new/config.json", "new/model.safetensors"]),
        (["hf", "-o", "new.safetensors"], ["new.safetensors"]),
        (["a.pt", "-o", "new/b.pt"], ["new/b.pt"]),
        (["a.pt", "-o", "new/er/b.pt"], ["new/er/b.pt"]),
        (["a.pt", "-o", "{stem}/"], ["a/a.pt"]),
        (["a.pt", "-s", "0..1", "-o", "taken"], ["taken/a-seed0.pt", "taken/a-seed1.pt"]),
        (["a.pt", "-s", "0..1", "-o", "new/{seed}/"], ["new/0/a.pt", "new/1/a.pt"]),
        (["a.pt", "--shard-size", "1MB", "-o", "new"], ["new/model.safetensors"]),
        (["a.pt", "--shard-size", "1MB", "-o", "new/"], ["new/a/model.safetensors"]),
        (["a.pt", "--shard-size", "1MB", "-o", "taken"], ["taken/a/model.safetensors"]),
        (["a.pt", "--dtype", "float16", "-o", "new/"], ["new/a.pt"]),
        (["squeezenet1_1", "--weights", "none", "-o", "new/"], ["new/squeezenet1_1.safetensors"]),
    ],
    ids=" ".join,
)
def test_an_output_is_called_as_its_name_says(arguments: list[str], outputs: list[str]) -> None:
    _sources()
    before = _files()

    assert main(arguments) == 0

    assert _files() - before == set(outputs)


def test_a_source_in_its_own_folder_is_not_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    _sources()

    assert main(["hf/model.safetensors", "-r", "a.weight=zeros", "-o", "hf/", "--force"]) == 2

    assert capsys.readouterr().err.startswith(
        "error: the output 'hf/model.safetensors' is the source itself\n"
    )


@pytest.mark.parametrize("output", ["hf", "hf/", "hf/new", "hf/new/er/", "link-hf", "hf/{stem}-2"])
@pytest.mark.parametrize("source", ["hf", "hf/", "./taken/../hf", "link-hf"])
def test_a_folder_is_not_written_into_itself(
    source: str, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`cp -r` refuses it as well: it would be copied with the next rewrite."""
    _sources()
    Path("link-hf").symlink_to("hf")
    before = _files()

    assert main([source, "-r", "a.weight=zeros", "-o", output]) == 2

    assert f"would be a folder inside its source {source!r}" in capsys.readouterr().err
    assert _files() == before


@pytest.mark.parametrize("output", ["hf-2", "taken", "hf/one.safetensors", "taken/../hf.2"])
def test_what_is_not_a_folder_inside_it_is_written(output: str) -> None:
    _sources()

    assert main(["hf", "-r", "a.weight=zeros", "-o", output]) == 0


@pytest.mark.parametrize("kind", ["plan", "record"])
def test_a_plan_from_before_names_the_output_itself(kind: str) -> None:
    """Its path may end in a slash, or be a folder that exists by now."""
    _sources()
    form = {
        "version": 1,
        "source": {"name": "a.pt"},
        "output": {"path": "new/"},
        "rule": [{"match": "a.weight", "init": "zeros"}],
        **({"dry_run": True} if kind == "plan" else {"filled": []}),
    }
    Path("plan.json").write_text(json.dumps(form))
    before = _files()

    assert main(["-c", "plan.json"]) == 0
    assert _files() - before == {"new/model.safetensors"}

    Path("plan.json").write_text(json.dumps(form | {"output": {"path": "taken"}}))
    assert main(["-c", "plan.json"]) == 2
    assert os.listdir("taken") == []


def test_folders_that_were_made_for_an_output_go_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _sources()
    Path("r").mkdir()
    torch.save({"w": torch.ones(3)}, "bad.pt")
    content = bytearray(Path("bad.pt").read_bytes())
    content[content.index(torch.ones(3).numpy().tobytes())] ^= 1  # its CRC-32 tells
    Path("bad.pt").write_bytes(content)

    assert main(["bad.pt", "-o", "x/y/bad.pt", "--record-to", "z/r.json"]) == 2
    with pytest.raises(MalformedFileError):
        rewrite("bad.pt", [], "x/y/bad.pt")
    assert not Path("x").exists()
    assert not Path("z").exists()

    rewrite("a.pt", [], "x/y/a.pt", record="z/r.json")
    assert {"x/y/a.pt", "z/r.json"} <= _files()


def test_python_names_outputs_as_the_command_line_does() -> None:
    _sources()

    outcomes = [rewrite("a.pt", [], "new/"), rewrite("hf", [], "taken")]

    assert [each.job.destination.path for each in outcomes] == ["new/a.pt", "taken/hf"]
    assert Path("new/a.pt").read_bytes() == Path("a.pt").read_bytes()


def test_a_copy_of_a_folder_is_a_copy() -> None:
    Path("hf").mkdir()
    save_file(STATE, "hf/model.safetensors")
    Path("hf/config.json").write_text("{}")

    assert main(["hf", "-o", "new"]) == 0

    for path in Path("hf").iterdir():
        assert Path("new", path.name).read_bytes() == path.read_bytes()


def test_several_files_are_copied_to_a_folder() -> None:
    for name in ("a.pt", "b.pt"):
        torch.save(STATE, name)

    assert main(["a.pt", "b.pt", "-o", "new/"]) == 0

    assert all(
        Path("new", name).read_bytes() == Path(name).read_bytes() for name in ("a.pt", "b.pt")
    )


def test_a_source_alone_is_still_no_copy(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(STATE, "a.pt")

    assert main(["run", "a.pt"]) == 2

    assert "no rule was given" in capsys.readouterr().err
    assert os.listdir() == ["a.pt"]


def test_a_folder_is_not_replaced_and_its_files_are_offered(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("hf").mkdir()
    save_file(STATE, "hf/model.safetensors")

    assert main(["hf", "-r", "a.weight=zeros", "--in-place"]) == 2

    error, hint = capsys.readouterr().err.splitlines()
    assert error == "error: cannot write 'hf': a folder is not replaced, but its files can be"
    command = hint.partition("name it: reinit ")[2]
    assert main(command.split()) == 0
    assert not load_file("hf/model.safetensors")["a.weight"].any()


def test_nothing_is_removed_from_a_folder_that_is_in_the_way(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("hf", "new/hf"):
        Path(name).mkdir(parents=True)
    save_file(STATE, "hf/model.safetensors")
    Path("new/hf/mine").write_text("mine")

    assert main(["hf", "-r", "a.weight=zeros", "-o", "new/", "--force"]) == 2

    assert capsys.readouterr().err == (
        "error: cannot write 'new/hf': it is a folder, which is never replaced\n"
        "hint: name a new folder with -o; nothing of it is removed\n"
    )
    assert os.listdir("new/hf") == ["mine"]


# --- hub caches ------------------------------------------------------------------------------


def _cache(root: str = "hub") -> Path:
    """Make a snapshot of two files in a hub cache."""
    model = Path(root, "models--org--my-model")
    snapshot = model / "snapshots" / "0123abcd"
    (snapshot / "unet").mkdir(parents=True)
    (model / "blobs").mkdir()
    save_file(STATE, model / "blobs" / "beef")
    (snapshot / "model.safetensors").symlink_to("../../blobs/beef")
    (snapshot / "unet" / "model.safetensors").symlink_to("../../../blobs/beef")
    return snapshot


@pytest.mark.parametrize(
    ("named", "output"),
    [
        ("{}", "my-model-reinit"),
        ("{}/", "my-model-reinit"),
        ("{}/unet", "unet-reinit"),
        ("{}/model.safetensors", "model-reinit.safetensors"),
        ("{}/../../blobs/beef", "my-model-reinit.safetensors"),
        ("cache/models--org--my-model/snapshots/0123abcd", "my-model-reinit"),
        ("snapshots/0123abcd", "my-model-reinit"),
        ("moved/snapshots/0123abcd", "my-model-reinit"),
        ("link", "link-reinit"),
    ],
)
def test_no_default_output_lies_in_a_cache(named: str, output: str) -> None:
    snapshot = _cache("home/hub")
    before = sorted(Path("home").rglob("*"))
    Path("cache").symlink_to("home/hub")
    Path("snapshots").symlink_to("home/hub/models--org--my-model/snapshots")
    Path("moved").symlink_to("home/hub/models--org--my-model")
    Path("link").symlink_to(snapshot)
    there = {*os.listdir(), output}

    assert main([named.format(snapshot), "-r", "a.weight=zeros"]) == 0

    assert set(os.listdir()) == there
    assert sorted(Path("home").rglob("*")) == before


def test_a_model_whose_folder_is_a_link_elsewhere_is_in_a_cache_too() -> None:
    _cache("store")
    Path("hub").mkdir()
    Path("store/models--org--my-model").rename("store/m1")
    Path("hub/models--org--my-model").symlink_to(Path("store/m1").resolve())

    assert main(["hub/models--org--my-model/snapshots/0123abcd", "-r", "a.weight=zeros"]) == 0

    assert set(os.listdir()) == {"store", "hub", "my-model-reinit"}


def test_from_within_a_cache_an_output_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = _cache()
    before = sorted(Path("hub").rglob("*"))
    top = Path.cwd()
    monkeypatch.chdir(snapshot)

    for source in (".", "model.safetensors"):
        with pytest.raises(OutputUnwritableError, match="the current folder is one of a cache"):
            rewrite(source, ["a.weight=zeros"])
    rewrite(".", ["a.weight=zeros"], str(top / "new"))

    monkeypatch.chdir(top)
    assert sorted(Path("hub").rglob("*")) == before
    assert set(os.listdir()) == {"hub", "new"}


def test_a_folder_of_a_cache_lists_its_snapshots(capsys: pytest.CaptureFixture[str]) -> None:
    _cache()

    assert main(["keys", "hub/models--org--my-model"]) == 2

    assert "reinit keys hub/models--org--my-model/snapshots/0123abcd" in capsys.readouterr().err
