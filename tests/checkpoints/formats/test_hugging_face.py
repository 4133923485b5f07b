"""Folders of shards are read together and rewritten file by file, with their other files."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from reinit_cli import apply_, plan, rewrite
from reinit_cli.cli import main
from reinit_cli.errors import (
    MalformedFileError,
    OutputError,
    OutputUnwritableError,
    ReinitError,
    UnreadableSourceError,
)
from reinit_cli.storage import local_output

STATE = {f"layers.{at}.weight": torch.full((4, 8), float(at)) for at in range(4)}


def _folder(kind: str = "safetensors", **changes: Any) -> Path:
    """Make a folder of two shards with an index and other files."""
    folder = Path("model")
    folder.mkdir()
    stem = "model" if kind == "safetensors" else "pytorch_model"
    names = [f"{stem}-0000{at}-of-00002.{kind}" for at in (1, 2)]
    keys = list(STATE)
    weight_map: dict[str, Any] = {}
    for name, own in zip(names, (keys[:2], keys[2:]), strict=True):
        part = {key: STATE[key] for key in own}
        if kind == "safetensors":
            save_file(part, folder / name, {"format": "pt"})
        else:
            torch.save(part, folder / name)
        weight_map |= dict.fromkeys(own, name)
    index = {"metadata": {"total_size": 512.0}, "weight_map": weight_map | changes}
    (folder / f"{stem}.{kind}.index.json").write_text(json.dumps(index, indent=2))
    (folder / "config.json").write_text("{}")
    (folder / "tokens").mkdir()
    (folder / "tokens" / "vocabulary.txt").write_text("a\nb\n")
    return folder


def _read(folder: str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = {}
    for path in sorted(Path(folder).iterdir()):
        if path.suffix == ".safetensors":
            state |= load_file(path)
        elif path.suffix == ".bin":
            state |= torch.load(path)
    return state


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_a_folder_is_rewritten_with_all_its_files(kind: str) -> None:
    folder = _folder(kind)
    expected = {key: tensor.clone() for key, tensor in STATE.items()}
    apply_(expected, ["layers.{1..2}.weight=xavier_normal"])

    rewrite("model", ["layers.{1..2}.weight=xavier_normal"])

    written = _read("model-reinit")
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[key], expected[key]) for key in expected)
    for path in folder.rglob("*"):
        new = Path("model-reinit") / path.relative_to(folder)
        assert new.is_dir() == path.is_dir()
        if path.suffix not in (".safetensors", ".bin") and path.is_file():
            assert new.read_bytes() == path.read_bytes()


def test_keep_alone_is_the_identity() -> None:
    folder = _folder()

    rewrite("model", ["*=keep"])

    for path in folder.rglob("*"):
        if path.is_file():
            new = Path("model-reinit") / path.relative_to(folder)
            assert new.read_bytes() == path.read_bytes()


def test_the_values_do_not_depend_on_the_shards() -> None:
    _folder()
    save_file(STATE, "whole.safetensors")

    rewrite("model", ["*=normal"])
    rewrite("whole.safetensors", ["*=normal"])

    whole = load_file("whole-reinit.safetensors")
    sharded = _read("model-reinit")
    assert all(torch.equal(whole[key], sharded[key]) for key in whole)


def test_an_index_stands_for_its_folder(capsys: pytest.CaptureFixture[str]) -> None:
    _folder()

    assert main(["keys", "model/model.safetensors.index.json"]) == 0

    assert capsys.readouterr().out.splitlines() == list(STATE)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize("output", ["one.safetensors", "one.pt"])
def test_a_folder_becomes_one_file(kind: str, output: str) -> None:
    _folder(kind)

    rewrite("model", [], output)

    state = load_file(output) if output.endswith(".safetensors") else torch.load(output)
    assert list(state) == list(STATE)
    assert all(torch.equal(state[key], STATE[key]) for key in STATE)


def _in_hub_cache(folder: Path) -> Path:
    """Move a folder into a hub cache, where each of its files is a link to a blob."""
    blobs = Path("hub/models--owner--name/blobs")
    snapshot = Path("hub/models--owner--name/snapshots/0123abcd")
    blobs.mkdir(parents=True)
    snapshot.parent.mkdir()
    folder.rename(snapshot)
    for at, path in enumerate(sorted(snapshot.rglob("*"))):
        if path.is_file():
            path.rename(blobs / str(at))
            path.symlink_to(os.path.relpath(blobs / str(at), path.parent))
    return snapshot


def test_links_of_a_hub_cache_are_followed_and_become_files() -> None:
    folder = _folder()
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    snapshot = _in_hub_cache(folder)

    rewrite(str(snapshot), ["layers.0.weight=zeros"], "new")

    assert sorted(str(path.relative_to("new")) for path in Path("new").rglob("*")) == names
    assert not any(path.is_symlink() for path in Path("new").rglob("*"))
    assert not _read("new")["layers.0.weight"].any()
    assert _read(str(snapshot))["layers.1.weight"].eq(1).all()


def test_a_default_output_is_never_inside_a_hub_cache() -> None:
    snapshot = _in_hub_cache(_folder())
    Path("link").symlink_to(snapshot)
    before = sorted(Path("hub").rglob("*"))
    shard = "model-00001-of-00002"

    rewrite(str(snapshot), ["layers.0.weight=zeros"])
    rewrite(f"{snapshot}/{shard}.safetensors", ["layers.0.weight=zeros"])
    rewrite("link/model-00002-of-00002.safetensors", ["layers.2.weight=zeros"])
    rewrite("link", ["layers.0.weight=zeros"])
    assert main([str(snapshot), "-r", "layers.0.weight=normal", "-s", "0..1"]) == 0

    assert sorted(Path("hub").rglob("*")) == before
    assert set(os.listdir()) == {
        *("hub", "link", "name-reinit", "link-reinit", f"{shard}-reinit.safetensors"),
        "model-00002-of-00002-reinit.safetensors",
        *("name-reinit-seed0", "name-reinit-seed1"),
    }


def test_a_folder_that_is_only_called_like_one_of_a_cache_keeps_its_outputs() -> None:
    Path("models--mine").mkdir()
    _folder().rename("models--mine/model")

    rewrite("models--mine/model", ["layers.0.weight=zeros"])

    assert Path("models--mine/model-reinit").is_dir()


def test_shards_have_at_least_a_byte() -> None:
    _folder()

    for nbytes in (0, -1):
        with pytest.raises(OutputError, match="at least a byte"):
            rewrite("model", [], "new", shard_nbytes=nbytes)
    assert os.listdir() == ["model"]


def test_links_within_a_folder_are_followed() -> None:
    folder = _folder()
    (folder / "alias.json").symlink_to("config.json")
    (folder / "words").symlink_to("tokens")
    (folder / "tokens" / "more").mkdir()
    (folder / "tokens" / "more" / "config").symlink_to("../../config.json")

    rewrite("model", ["*=keep"])

    assert Path("model-reinit/alias.json").read_text() == "{}"
    assert Path("model-reinit/words/vocabulary.txt").read_text() == "a\nb\n"
    assert Path("model-reinit/words/more/config").read_text() == "{}"
    assert Path("model-reinit/tokens/more/config").read_text() == "{}"


def test_links_out_of_a_folder_are_named_and_left_out() -> None:
    Path("secrets").mkdir()
    Path("secrets/key").write_text("secret")
    folder = _folder()
    (folder / "all").symlink_to("../secrets")
    (folder / "key").symlink_to("../secrets/key")
    (folder / "nothing").symlink_to("nowhere")
    (folder / "tokens" / "root").symlink_to("/")
    os.mkfifo(folder / "pipe")

    outcome = rewrite("model", ["*=keep"])

    assert outcome.job.plan.warnings == (
        "not copied from 'model': all, key, nothing, pipe, tokens/root",
    )
    names = {path.name for path in Path("model-reinit").rglob("*")}
    assert names == {path.name for path in folder.rglob("*")} - {
        *("all", "key", "nothing", "root", "pipe")
    }


def _with_weights_elsewhere() -> None:
    """Make a folder whose weights are links to a folder next to it."""
    Path("disk").mkdir()
    for path in sorted(_folder().glob("*.safetensors")):
        path.rename(Path("disk") / path.name)
        path.symlink_to(Path("disk").resolve() / path.name)


def test_weights_that_are_links_out_of_their_folder_are_not_copied(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _with_weights_elsewhere()
    disk = Path("disk").resolve()

    assert main(["model", "-r", "layers.0.weight=zeros"]) == 2
    assert capsys.readouterr().err == (
        "error: cannot read 'model/model-00001-of-00002.safetensors': it is a link to "
        f"'{disk}/model-00001-of-00002.safetensors', outside of its folder\n"
        f"hint: if that is meant, add --allow-path {disk}\n"
    )
    with pytest.raises(UnreadableSourceError, match="outside of its folder"):
        plan("model", ["*=keep"])
    assert sorted(os.listdir()) == ["disk", "model"]


def test_weights_may_be_links_to_where_the_user_allows() -> None:
    _with_weights_elsewhere()

    rewrite("model", ["layers.0.weight=zeros"], allow_paths=["disk"])

    assert not _read("model-reinit")["layers.0.weight"].any()


def test_weights_of_a_checkpoint_that_a_rule_names_are_no_links_out_of_its_folder() -> None:
    _with_weights_elsewhere()
    save_file(STATE, "m.safetensors")

    with pytest.raises(UnreadableSourceError, match="outside of its folder"):
        rewrite("m.safetensors", ["*=rewind:./model"])

    rewrite("m.safetensors", ["*=rewind:./model"], allow_paths=["disk"])


def test_links_out_of_a_folder_are_read_where_nothing_is_copied() -> None:
    _with_weights_elsewhere()

    assert main(["keys", "model"]) == 0


def test_an_index_that_the_user_names_may_be_a_link() -> None:
    folder = _folder()
    index = "model.safetensors.index.json"
    (folder / index).rename(index)
    (folder / index).symlink_to(Path(index).resolve())

    with pytest.raises(UnreadableSourceError, match="outside of its folder"):
        plan("model", ["*=keep"])

    assert plan(f"model/{index}", ["*=zeros"]).fills


def test_links_in_a_circle_end() -> None:
    folder = _folder()
    for name, other in (("one", "two"), ("two", "one")):
        (folder / name).mkdir()
        (folder / name / "file").write_text(name)
        for at in range(8):
            (folder / name / f"link{at}").symlink_to(f"../{other}")
    (folder / "self").symlink_to("self")
    (folder / "up").symlink_to(".")

    rewrite("model", ["*=keep"])

    assert Path("model-reinit/one/link0/file").read_text() == "two"
    assert len(list(Path("model-reinit").rglob("file"))) == 4


def _modes(folder: str) -> dict[str, str]:
    """Return the permissions of a folder and of all that it holds, in octal."""
    root = Path(folder)
    return {
        str(path.relative_to(root)): f"{path.stat().st_mode & 0o7777:o}"
        for path in (root, *root.rglob("*"))
    }


def _with_modes() -> Path:
    folder = _folder()
    (folder / "run.sh").write_text("exit 0")
    (folder / "run.sh").chmod(0o750)
    (folder / "tokens" / "vocabulary.txt").chmod(0o400)
    (folder / "model-00001-of-00002.safetensors").chmod(0o600)
    (folder / "none" / "of").mkdir(parents=True)
    (folder / "none" / "of").chmod(0o711)
    (folder / "tokens").chmod(0o555)
    folder.chmod(0o700)
    return folder


def test_permissions_and_empty_folders_are_copied() -> None:
    _with_modes()
    before = _modes("model")

    rewrite("model", ["layers.0.weight=zeros"])

    assert _modes("model") == before
    assert _modes("model-reinit") == before


def test_permissions_are_those_that_the_umask_leaves() -> None:
    _with_modes()
    umask = os.umask(0o027)
    try:
        rewrite("model", ["*=keep"])
    finally:
        os.umask(umask)

    assert _modes("model-reinit") == {
        name: f"{int(mode, 8) & ~0o027:o}" for name, mode in _modes("model").items()
    }


def test_new_shards_lie_in_a_folder_with_the_permissions_of_the_old() -> None:
    _with_modes()

    rewrite("model", [], "new", dtype="bfloat16")

    modes = _modes("model")
    assert {name: mode for name, mode in _modes("new").items() if "model" not in name} == {
        name: mode for name, mode in modes.items() if "model" not in name
    }


def test_no_set_user_id_is_copied() -> None:
    folder = _folder()
    (folder / "run").write_text("a stranger's program")
    (folder / "run").chmod(0o6755)
    (folder / "tokens").chmod(0o3755)

    rewrite("model", ["*=keep"])

    modes = _modes("model-reinit")
    assert (modes["run"], modes["tokens"]) == ("755", "755")


def test_nobody_else_reads_a_private_folder_while_it_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = _folder()
    folder.chmod(0o700)
    seen = []
    close = local_output.FileInFolder.close

    def closed(self: local_output.FileInFolder) -> None:
        seen.extend(path.stat().st_mode & 0o777 for path in Path().glob(".model-reinit.reinit-*"))
        close(self)

    monkeypatch.setattr(local_output.FileInFolder, "close", closed)
    rewrite("model", ["*=keep"])

    assert seen
    assert set(seen) == {0o700}


def test_names_of_links_that_are_left_out_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    (_folder() / "a\nerror: \x1b[31mb").symlink_to("/etc/passwd")

    assert main(["model", "-r", "*=keep", "-n"]) == 0

    line, *facts = capsys.readouterr().err.splitlines()
    assert not any(fact.startswith("error") for fact in facts)
    assert line.endswith(r"not copied from 'model': a\nerror: \x1b[31mb")


def test_a_folder_below_that_cannot_be_listed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    _folder()
    listed = os.listdir

    def fail(path: str) -> list[str]:
        if path.endswith("tokens"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return listed(path)

    monkeypatch.setattr(os, "listdir", fail)

    with pytest.raises(UnreadableSourceError) as refused:
        plan("model", ["*=keep"])

    assert (refused.value.about, refused.value.problem) == ("model/tokens", "input/output error")


def _many(count: int) -> None:
    """Make a folder of so many shards of one tensor each."""
    Path("many").mkdir()
    weight_map = {}
    for at in range(count):
        name = f"model-{at:05d}-of-{count:05d}.safetensors"
        save_file({f"{at}.weight": torch.ones(2)}, f"many/{name}")
        weight_map[f"{at}.weight"] = name
    Path("many/model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_more_shards_than_files_may_be_open_are_rewritten() -> None:
    _many(300)

    done = subprocess.run(
        [
            *("bash", "-c", 'ulimit -n 100; exec "$0" "$@"', sys.executable, "-m", "reinit_cli"),
            *("many/", "-r", "*=zeros", "-o", "new", "-q"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    state = _read("new")
    assert len(state) == 300
    assert not any(tensor.any() for tensor in state.values())


def test_each_file_is_checked_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    _many(40)
    calls = []
    original = os.stat

    def counted(path: Any, *args: Any, **options: Any) -> os.stat_result:
        calls.append(str(path))
        return original(path, *args, **options)

    monkeypatch.setattr(os, "stat", counted)
    rewrite("many", ["*=zeros"])

    of_shards = [path for path in calls if path.startswith("many/model-")]
    assert len(of_shards) <= 4 * 40  # once more, since they were made just now


def test_stale_weights_and_hidden_folders_are_named_and_left_out() -> None:
    folder = _folder()
    (folder / "pytorch_model.bin").write_bytes(b"old")
    (folder / ".git").mkdir()
    (folder / "training_args.bin").write_bytes(b"kept")

    made = plan("model", ["*=keep"])
    assert made.warnings == ()
    rewrite("model", ["*=keep"])

    assert not Path("model-reinit/pytorch_model.bin").exists()
    assert not Path("model-reinit/.git").exists()
    assert Path("model-reinit/training_args.bin").read_bytes() == b"kept"


def test_files_that_are_left_out_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    (_folder() / "pytorch_model.bin").write_bytes(b"old")

    assert main(["run", "model", "-r", "*=keep", "-n"]) == 0

    assert "warning: not copied from 'model': pytorch_model.bin" in capsys.readouterr().err


HOSTILE = ["../secret.safetensors", "/etc/passwd", "..", "", "a\\b", "a\0b", "sub/x.bin", 7, None]


@pytest.mark.parametrize("name", HOSTILE, ids=repr)
def test_an_index_cannot_lead_out_of_its_folder(name: Any) -> None:
    _folder(**{"layers.0.weight": name})
    Path("secret.safetensors").write_bytes(Path("model").joinpath("config.json").read_bytes())

    with pytest.raises(MalformedFileError, match="not a plain file name"):
        plan("model", ["*=keep"])


@pytest.mark.parametrize(
    "changes",
    [
        {"more.weight": "model-00001-of-00002.safetensors"},
        {"layers.0.weight": "model-00002-of-00002.safetensors"},
        {"more.weight": "missing.safetensors"},
    ],
    ids=["a key that is in no file", "a key in another file", "a file that is missing"],
)
def test_an_index_that_is_wrong_is_refused(changes: dict[str, str]) -> None:
    _folder(**changes)

    with pytest.raises(ReinitError):
        plan("model", ["*=keep"])


def test_a_key_that_the_index_lacks_is_refused() -> None:
    folder = _folder()
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    del index["weight_map"]["layers.3.weight"]
    path.write_text(json.dumps(index))

    with pytest.raises(MalformedFileError, match=r"it lacks 'layers\.3\.weight' of"):
        plan("model", ["*=keep"])


def test_an_existing_folder_is_never_replaced() -> None:
    _folder()
    Path("there/model").mkdir(parents=True)
    Path("there/model/mine").write_text("mine")

    with pytest.raises(OutputUnwritableError, match="it is a folder"):
        rewrite("model", ["*=keep"], "there", force=True)

    assert os.listdir("there/model") == ["mine"]


def test_a_failure_leaves_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:

    _folder()

    def fail(self: object) -> None:
        raise OutputUnwritableError("x", "the disk is full")

    monkeypatch.setattr(local_output.FileInFolder, "close", fail)

    with pytest.raises(OutputUnwritableError):
        rewrite("model", ["*=keep"])

    assert os.listdir() == ["model"]


def test_a_folder_without_weights_is_refused() -> None:
    Path("empty").mkdir()

    with pytest.raises(UnreadableSourceError, match="it has no weights: no index"):
        plan("empty/", ["*=keep"])


def test_a_folder_of_one_file_needs_no_index() -> None:
    Path("small").mkdir()
    save_file(STATE, "small/model.safetensors")

    rewrite("./small", ["*=zeros"])

    assert not any(tensor.any() for tensor in _read("small-reinit").values())
