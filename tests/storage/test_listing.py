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
    ],
)
def test_a_link_to_a_file_stays_in_the_folder_or_leads_to_a_blob(
    link: str, target: str, leads_out: bool
) -> None:
    for path in map(Path, (link, target)):
        path.parent.mkdir(parents=True, exist_ok=True)
    Path(target).write_text("x")
    Path(link).symlink_to(os.path.relpath(target, Path(link).parent))

    found = list_folder(str(Path(link).parent)).files["x"]

    assert found.leads_out == leads_out
    assert found.fingerprint.inode == Path(target).stat().st_ino


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
