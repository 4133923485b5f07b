"""Shards are read together whatever their index says, and rewritten with one that is right."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from safetensors.torch import load_file

from reinit_cli import diff, rewrite, stats, verify
from reinit_cli.cli import main
from reinit_cli.errors import MalformedFileError
from tests.checkpoints.formats.hugging_face.making import KEYS, index, save, shards, state

if TYPE_CHECKING:
    import torch

INDEX = "hf/model.safetensors.index.json"


def _loaded(folder: str) -> dict[str, torch.Tensor]:
    """Read a folder as transformers does: the files that its index names."""
    (path,) = Path(folder).glob("*.index*.json")
    weight_map = json.loads(path.read_text())["weight_map"]
    found = {name: load_file(Path(folder, name)) for name in set(weight_map.values())}
    return {key: found[name][key] for key, name in weight_map.items()}


@pytest.mark.parametrize("command", ["keys", "stats", "show", "diff"])
def test_shards_without_an_index_are_looked_at(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shards("hf", "model", "safetensors", KEYS, 1.0)
    more = {"show": ["a.weight"], "diff": ["hf"]}.get(command, [])

    assert main([command, "hf", *more]) == 0

    said = capsys.readouterr()
    lines = {"warning: 'hf': it has no index of its shards"}
    assert set(said.err.splitlines()) >= lines
    assert command == "diff" or "1" in said.out or said.out.split() == list(KEYS)


def test_shards_without_an_index_become_one_file() -> None:
    shards("hf", "model", "safetensors", KEYS, 1.0)

    rewrite("hf", [], "one.safetensors")

    assert all(tensor.eq(1).all() for tensor in load_file("one.safetensors").values())


def test_shards_without_an_index_are_rewritten_with_one() -> None:
    shards("hf", "model", "safetensors", KEYS, 1.0)

    with pytest.raises(MalformedFileError, match="it has no index of its shards"):
        rewrite("hf", ["a.weight=zeros"])
    rewrite("hf", ["a.weight=zeros"], fix_index=True)

    loaded = _loaded("hf-reinit")
    assert {key: float(tensor.mean()) for key, tensor in loaded.items()} == {
        "a.weight": 0,
        "b.weight": 1,
        "c.weight": 1,
    }


@pytest.mark.parametrize(
    ("stem", "kind", "name"),
    [
        ("pytorch_model", "bin", "pytorch_model.bin.index.json"),
        (
            "diffusion_pytorch_model",
            "safetensors",
            "diffusion_pytorch_model.safetensors.index.json",
        ),
        ("model.fp16", "safetensors", "model.safetensors.index.fp16.json"),
    ],
)
def test_a_new_index_has_the_name_that_the_library_looks_for(
    stem: str, kind: str, name: str
) -> None:
    shards("hf", stem, kind, KEYS, 1.0)

    rewrite("hf", ["a.weight=zeros"], fix_index=True)

    assert [each for each in os.listdir("hf-reinit") if each.endswith(".json")] == [name]


def test_all_that_is_wrong_is_said_together(capsys: pytest.CaptureFixture[str]) -> None:
    weight_map = shards("hf", "model", "safetensors", KEYS, 1.0)
    files = list(weight_map.values())
    wrong = {"a.weight": files[1], "lost": files[0], "gone": "model-00009-of-00009.safetensors"}
    index(INDEX, {**wrong, "b.weight": files[1]})

    assert main(["hf", "-r", "a.weight=zeros"]) == 2

    problem, hint = capsys.readouterr().err.splitlines()
    assert "'model-00009-of-00009.safetensors' does not exist" in problem
    assert f"'a.weight' is in {files[0]!r}, not in {files[1]!r}" in problem
    assert f"'lost' is not in {files[0]!r}" in problem
    assert f"it lacks 'c.weight' of {files[2]!r}" in problem
    assert hint.startswith("hint: --fix-index")


def test_an_index_that_is_wrong_is_made_right_and_keeps_its_other_metadata() -> None:
    weight_map = shards("hf", "model", "safetensors", KEYS, 1.0)
    index(INDEX, {"a.weight": weight_map["a.weight"]}, total_size=7, total_parameters=18)

    assert [each.key for each in stats("hf")] == list(KEYS)
    rewrite("hf", ["*=keep"], fix_index=True)

    assert list(_loaded("hf-reinit")) == list(KEYS)
    written = json.loads(Path("hf-reinit/model.safetensors.index.json").read_text())
    assert written["metadata"] == {"total_size": 72, "total_parameters": 18}


def test_a_right_index_stays_as_it_is_byte_for_byte() -> None:
    index(INDEX, shards("hf", "model", "safetensors", KEYS, 1.0), total_size=7)

    rewrite("hf", ["a.weight=zeros"], fix_index=True)

    assert Path(INDEX.replace("hf/", "hf-reinit/")).read_bytes() == Path(INDEX).read_bytes()


def test_a_shard_that_is_missing_is_named_and_not_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    weight_map = shards("hf", "model", "safetensors", KEYS, 1.0)
    Path("hf", weight_map["b.weight"]).unlink()

    assert main(["hf", "-o", "one.safetensors"]) == 2
    assert repr(weight_map["b.weight"]) in capsys.readouterr().err
    rewrite("hf", [], "one.safetensors", fix_index=True)

    assert sorted(load_file("one.safetensors")) == ["a.weight", "c.weight"]


@pytest.mark.parametrize("has_index", [False, True])
def test_a_key_in_two_shards_is_refused_however_it_is_asked_for(*, has_index: bool) -> None:
    weight_map = shards("hf", "model", "safetensors", KEYS, 1.0)
    save(f"hf/{weight_map['b.weight']}", state(2.0, "a.weight", "b.weight"))
    if has_index:
        index(INDEX, weight_map)

    for act in (lambda: stats("hf"), lambda: rewrite("hf", ["*=keep"], fix_index=True)):
        with pytest.raises(MalformedFileError, match=r"'a\.weight' is in .* and in") as caught:
            act()
        # There may be no index, and nothing is wrong with one that there is.
        assert str(caught.value).startswith("'hf' is not a valid set of shards: ")


def test_faults_are_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    weight_map = shards("hf", "model", "safetensors", KEYS, 1.0)
    index(INDEX, weight_map | {f"k{at}": weight_map["a.weight"] for at in range(1000)})

    assert main(["keys", "hf"]) == 0

    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("and 997 more like that")


def test_a_record_of_a_mended_folder_is_verified() -> None:
    shards("hf", "model", "safetensors", KEYS, 1.0)

    rewrite("hf", ["a.weight=normal"], "out", fix_index=True, record=True)

    assert not verify("out", source="hf").findings


def test_what_was_mended_differs_in_nothing_else() -> None:
    shards("hf", "model", "safetensors", KEYS, 1.0)
    rewrite("hf", ["a.weight=zeros"], fix_index=True)

    assert [each.key for each in diff("hf", "hf-reinit") if each.differs] == ["a.weight"]


def test_an_index_of_which_no_file_exists_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    index(INDEX, {f"k{at}": f"model-0000{at}-of-00009.safetensors" for at in range(1, 10)})

    assert main(["keys", "hf"]) == 2

    err = capsys.readouterr().err
    assert "none of the files that it names exists: 'model-00001-of-00009.safetensors'" in err
    assert "and 6 more like that" in err


def test_shards_next_to_an_index_of_others_are_looked_at_and_rewritten_with_a_right_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As after a folder was split anew, and the index of before came back."""
    shards("hf", "model", "safetensors", KEYS, 1.0)
    old = {key: f"model-0000{at}-of-00009.safetensors" for at, key in enumerate(KEYS, 1)}
    index(INDEX, old)

    assert main(["keys", "hf"]) == 0

    said = capsys.readouterr()
    assert said.out.split() == list(KEYS)
    assert f"{old['a.weight']!r} does not exist" in said.err
    assert main(["hf", "-r", "a.weight=zeros", "-o", "out"]) == 2
    assert main(["hf", "-r", "a.weight=zeros", "--fix-index", "-o", "out", "-q"]) == 0
    means = {key: float(tensor.mean()) for key, tensor in _loaded("out").items()}
    assert means == {"a.weight": 0, "b.weight": 1, "c.weight": 1}


def test_a_link_that_leads_nowhere_is_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    weight_map = shards("hf", "model", "safetensors", KEYS, 1.0)
    index(INDEX, weight_map)
    gone = Path("hf", weight_map["b.weight"])
    gone.unlink()
    gone.symlink_to("../blobs/beef")

    assert main(["keys", "hf"]) == 0

    assert f"{gone.name!r} is a link that leads nowhere" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is empty"),
        ('{"metadata": {"total_parameters": 18}, "weight_map": {"a.we', "it is not JSON: "),
        ('{"metadata": {"total_parameters": 18}}', "it has no weight_map, or several"),
    ],
)
def test_shards_whose_index_was_cut_off_are_looked_at_and_rewritten_with_a_right_one(
    text: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shards("hf", "model", "safetensors", KEYS, 1.0)
    Path(INDEX).write_text(text)
    said = f"'model.safetensors.index.json': {problem}"

    for command in (
        ["keys", "hf"],
        ["stats", "hf"],
        ["show", "hf", "a.weight"],
        ["diff", "hf/", "hf"],
    ):
        assert main(command) == 0
        assert f"warning: 'hf': {said}" in capsys.readouterr().err
    for output in ("out", "one.safetensors"):
        assert main(["hf", "-r", "a.weight=zeros", "-o", output]) == 2
        error, hint = capsys.readouterr().err.splitlines()
        assert error.startswith(f"error: 'hf' cannot be rewritten as it is: {said}")
        assert hint.startswith("hint: --fix-index")
    assert main(["hf", "-r", "a.weight=zeros", "--fix-index", "-o", "out", "-q"]) == 0

    means = {key: float(tensor.mean()) for key, tensor in _loaded("out").items()}
    assert means == {"a.weight": 0, "b.weight": 1, "c.weight": 1}
    assert sorted(os.listdir()) == ["hf", "out"]


def test_an_index_that_was_cut_off_is_an_error_where_several_sets_of_shards_may_be_meant(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shards("hf", "model", "safetensors", KEYS, 1.0)
    shards("hf", "model", "safetensors", KEYS[:2], 2.0)
    Path(INDEX).write_text("{")

    assert main(["keys", "hf"]) == 2

    assert f"'{INDEX}' is not a valid index of shards: it is not JSON" in capsys.readouterr().err


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12345\n"


def test_an_index_that_is_a_pointer_of_git_lfs_is_called_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shards("hf", "model", "safetensors", KEYS, 1.0)
    Path(INDEX).write_text(POINTER)

    assert main(["keys", "hf"]) == 2

    assert capsys.readouterr().err == (
        f"error: '{INDEX}' is a Git LFS pointer, not the file itself (12,345 bytes)\n"
        "hint: fetch it: git -C hf lfs pull\n"
    )


def test_one_file_is_read_next_to_an_index_that_is_a_pointer() -> None:
    save("hf/model.safetensors", state(1))
    Path(INDEX).write_text(POINTER)

    assert [each.key for each in stats("hf")] == sorted(KEYS)


def test_a_folder_whose_weights_are_a_dangling_link_is_not_called_empty(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As in a hub cache whose blobs were removed."""
    Path("hf").mkdir()
    Path("hf/model.safetensors").symlink_to("../../blobs/abc")

    assert main(["keys", "hf"]) == 2

    assert "'hf/model.safetensors': it is a link that leads nowhere" in capsys.readouterr().err
