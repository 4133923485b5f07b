"""Which links of a folder are followed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reinit_cli.errors import UnreadableSourceError
from reinit_cli.storage import listing
from reinit_cli.storage.listing import list_folder


@pytest.mark.parametrize(
    ("link", "target", "leads_out"),
    [
        ("cache/models--a--b/snapshots/1/x", "cache/models--a--b/blobs/9", False),
        ("hub/snapshots/main/x", "hub/blobs/9", False),
        ("local/x", "cache/models--a--b/blobs/9", False),
        ("local/x", "local/other/9", False),
        ("local/x", "local-secret/9", True),
        ("local/x", "blobs/9", True),
        ("hub/snapshots/main/x", "other/blobs/9", True),
        ("hub/snapshots/main/x", "hub/blobs/below/9", True),
        ("local/x", "models--no-hub/blobs/9", True),
    ],
)
def test_a_link_to_a_file_stays_in_the_folder_or_leads_to_a_blob(
    link: str, target: str, leads_out: bool
) -> None:
    Path("cache/models--a--b/snapshots").mkdir(parents=True)
    for path in map(Path, (link, target)):
        path.parent.mkdir(parents=True, exist_ok=True)
    Path(target).write_text("x")
    Path(link).symlink_to(os.path.relpath(target, Path(link).parent))

    found = list_folder(str(Path(link).parent)).files["x"]

    assert found.leads_out == leads_out
    assert found.fingerprint.inode == Path(target).stat().st_ino


def test_a_link_is_judged_by_where_it_ends() -> None:
    Path("secret").write_text("secret")
    Path("disk").mkdir()
    Path("folder/sub").mkdir(parents=True)
    Path("folder/config").write_text("{}")
    here = os.getcwd()
    links = {
        "chain": "chained",
        "chained": "../secret",
        "through": "sub/../../secret",
        "absolute": f"{here}/secret",
        "self-made": "blobs/key",
        "inside": f"{here}/folder/config",
        "there and back": "../folder/config",
        "sub/out": "../../secret",
        "sub/in": "../config",
        "blobs": "../disk",
        "FOLDER": "../folder/sub/in",
    }
    Path("disk/key").write_text("secret")
    for name, target in links.items():
        Path("folder", name).symlink_to(target)

    files = list_folder("folder").files

    assert {name for name, each in files.items() if each.leads_out} == {
        *("chain", "chained", "through", "absolute", "self-made", "sub/out"),
    }
    assert files.keys() - {"blobs"} == links.keys() - {"blobs"} | {"config"}


def test_blobs_of_a_cache_that_are_a_link_are_no_blobs() -> None:
    Path("keys").mkdir()
    Path("keys/1").write_text("secret")
    snapshot = Path("models--a--b/snapshots/1")
    snapshot.mkdir(parents=True)
    Path("models--a--b/blobs").symlink_to("../keys")
    (snapshot / "x").symlink_to("../../blobs/1")

    assert list_folder(str(snapshot)).files["x"].leads_out


def test_a_folder_among_the_blobs_of_a_cache_is_not_entered() -> None:
    Path("models--a--b/snapshots/1").mkdir(parents=True)
    Path("models--a--b/blobs/folder").mkdir(parents=True)
    Path("models--a--b/blobs/folder/file").write_text("x")
    Path("models--a--b/snapshots/1/x").symlink_to("../../blobs/folder")

    found = list_folder("models--a--b/snapshots/1")

    assert (list(found.files), found.left_out) == ([], ("x",))


def test_folders_that_are_named_through_a_link_are_listed_as_they_are() -> None:
    Path("real/below").mkdir(parents=True)
    Path("real/below/file").write_text("x")
    Path("real/link").symlink_to("below/file")
    Path("alias").symlink_to("real")

    listed = list_folder("alias/")

    assert list(listed.files) == ["below/file", "link"]
    assert not listed.files["link"].leads_out


def test_a_folder_with_more_files_than_any_checkpoint_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listing, "MAX_FILES", 10)
    for at in range(11):
        Path(f"{at}").touch()

    with pytest.raises(UnreadableSourceError, match="it has more than 10 files"):
        list_folder(".")
