"""Folders from strangers: whatever their links are, no file of the user's own is copied."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from reinit_cli import rewrite
from reinit_cli.errors import UnreadableSourceError

SECRET = "the user's own"
FOLDERS = ("", "sub", "sub/deep", "empty")
TARGETS = (
    *(".", "..", "../..", "sub", "sub/deep", "../sub", "config.json", "../config.json", "nothing"),
    *("{home}", "{home}/key", "{home}/blobs/key", "../home/key", "../../home", "{hub}/blobs/0"),
    *(
        "{hub}/blobs/folder",
        "{hub}/blobs/../../home/key",
        "link0",
        "link1",
        "link2/deep",
        "sub/link1",
    ),
)


def _folder(modes: list[int], links: list[tuple[str, str]]) -> None:
    """Make a folder, links in it, and around it what is the user's own, and a hub cache."""
    for name in ("home", "hub", "model", "out"):
        shutil.rmtree(name, ignore_errors=True)
    for secret in ("home/key", "home/blobs/key", "hub/models--a--b/key"):
        Path(secret).parent.mkdir(parents=True, exist_ok=True)
        Path(secret).write_text(SECRET)
    Path("hub/models--a--b/snapshots").mkdir()
    Path("hub/models--a--b/blobs/folder").mkdir(parents=True)
    Path("hub/models--a--b/blobs/folder/key").write_text(SECRET)
    Path("hub/models--a--b/blobs/0").write_text("a blob")
    for name in FOLDERS:
        Path("model", name).mkdir(exist_ok=True)
    save_file({"a.weight": torch.ones(4)}, "model/model.safetensors")
    for name, mode in zip(("config.json", "sub/run.sh", "sub/deep/file"), modes, strict=True):
        Path("model", name).write_text(name)
        Path("model", name).chmod(mode)
    for at, (folder, target) in enumerate(links):
        place = target.format(home=Path("home").resolve(), hub=Path("hub/models--a--b").resolve())
        Path("model", folder, f"link{at}").symlink_to(place)


@given(
    st.lists(st.sampled_from([0o400, 0o644, 0o755, 0o700, 0o4755, 0o6711]), min_size=3, max_size=3),
    st.lists(st.tuples(st.sampled_from(FOLDERS), st.sampled_from(TARGETS)), max_size=5),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_only_what_is_in_a_folder_is_copied_and_all_of_that(
    modes: list[int], links: list[tuple[str, str]]
) -> None:
    _folder(modes, links)
    umask = os.umask(0o022)
    try:
        outcome = rewrite("model", ["*=zeros"], "out")
    finally:
        os.umask(umask)

    copied = {
        str(path.relative_to("out")): path for path in Path("out").rglob("*") if path.is_file()
    }
    assert not any(path.is_symlink() for path in Path("out").rglob("*"))
    assert not any(SECRET.encode() in path.read_bytes() for path in copied.values())
    for folder, _, files in os.walk("model"):  # which follows no links
        assert Path("out", os.path.relpath(folder, "model")).is_dir()
        for name in (os.path.relpath(os.path.join(folder, each), "model") for each in files):
            if not Path("model", name).is_symlink() and name != "model.safetensors":
                assert copied[name].read_bytes() == Path("model", name).read_bytes()
                mode = Path("model", name).stat().st_mode & 0o755
                assert copied[name].stat().st_mode & 0o7777 == mode
    said = " ".join(outcome.job.plan.warnings)
    for at, (folder, _) in enumerate(links):
        link = os.path.join(folder, f"link{at}")
        assert Path("out", link).exists() or link in said
    assert not load_file("out/model.safetensors")["a.weight"].any()


@given(st.sampled_from(["{home}/w.safetensors", "../home/w.safetensors", "sub/link", "w"]))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_weights_of_the_user_are_not_copied(target: str) -> None:
    _folder([0o644] * 3, [])
    home = Path("home").resolve()
    save_file({"a.weight": torch.full((4,), 7.0)}, home / "w.safetensors")
    Path("model/sub/link").symlink_to(home / "w.safetensors")
    Path("model/w").symlink_to("sub/link")
    Path("model/model.safetensors").unlink()
    Path("model/model.safetensors").symlink_to(target.format(home=home))

    with pytest.raises(UnreadableSourceError, match=r"home/w\.safetensors', outside of its"):
        rewrite("model", ["*=keep"], "out")
    assert not Path("out").exists()
