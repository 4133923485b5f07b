"""What a file has besides its bytes stays where it is replaced, or a warning says so."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest

from reinit_cli.operations.prepare import prepare
from reinit_cli.request.request import Request
from reinit_cli.storage import attributes
from reinit_cli.storage.attributes import lost_with
from reinit_cli.storage.destination import Destination
from reinit_cli.storage.local_output import LocalOutput
from tests.tools import missing

PATH = Path("m.bin")
_ACL = "system.posix_acl_access"


@pytest.fixture(autouse=True)
def old() -> None:
    PATH.write_bytes(b"old")
    PATH.chmod(0o640)


def _replace() -> os.stat_result:
    with LocalOutput(Destination("m.bin", replaces=True)) as output:
        output.file("", 3).write_at(0, b"new")
        output.commit()
    assert PATH.read_bytes() == b"new"
    return PATH.stat()


def _attributes() -> Mapping[str, bytes]:
    names = (name for name in os.listxattr(PATH) if not name.startswith("security."))
    return {name: os.getxattr(PATH, name) for name in names}


def _set(path: Path, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        missing(f"this file system has no {name}: {error}")


def _acl(user: int, permissions: int) -> bytes:
    """The list that lets one more user in, as linux/posix_acl_xattr.h lays it out."""
    nobody = 0xFFFFFFFF
    entries = [
        (0x01, 6, nobody),  # the owner
        (0x02, permissions, user),
        (0x04, 4, nobody),  # the group
        (0x10, permissions | 4, nobody),  # the mask
        (0x20, 0, nobody),  # others
    ]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


@pytest.mark.parametrize("mode", [0o640, 0o600, 0o444, 0o777, 0])
def test_permissions_stay(mode: int) -> None:
    PATH.chmod(mode)

    assert _replace().st_mode & 0o7777 == mode


def test_owner_and_group_stay_where_the_system_allows_it() -> None:
    group = next((each for each in os.getgroups() if each != os.getegid()), os.getegid())
    owner, group = (12345, 54321) if os.geteuid() == 0 else (os.geteuid(), group)
    os.chown(PATH, owner, group)
    PATH.chmod(0o4750)

    after = _replace()

    assert (after.st_uid, after.st_gid, after.st_mode & 0o7777) == (owner, group, 0o750)


def test_attributes_and_access_lists_stay() -> None:
    _set(PATH, "user.origin", b"here")
    _set(PATH, _ACL, _acl(12345, 6))
    before = _attributes()
    assert {"user.origin", _ACL} <= before.keys()

    _replace()

    assert _attributes() == before


def test_the_access_list_of_its_folder_opens_no_file_that_had_none() -> None:
    _set(Path(), "system.posix_acl_default", _acl(12345, 7))
    PATH.unlink()
    PATH.touch()
    assert _ACL in os.listxattr(PATH)
    os.removexattr(PATH, _ACL)
    PATH.chmod(0o640)

    after = _replace()

    assert (after.st_mode & 0o777, _ACL in os.listxattr(PATH)) == (0o640, False)


def test_other_names_of_a_file_keep_its_content_which_is_said() -> None:
    os.link(PATH, "second")
    two = list(lost_with(Destination("m.bin", replaces=True)))
    os.link(PATH, "third")
    three = list(lost_with(Destination("m.bin", replaces=True)))

    _replace()

    assert two == ["'m.bin' has 1 other name (hard links), which keeps the old content"]
    assert three == ["'m.bin' has 2 other names (hard links), which keep the old content"]
    assert Path("second").read_bytes() == Path("third").read_bytes() == b"old"


def test_an_owner_or_a_group_that_is_lost_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attributes, "_may_give_away", lambda: False)
    mine = PATH.stat()
    monkeypatch.setattr(os, "geteuid", lambda: mine.st_uid + 1)
    monkeypatch.setattr(os, "getegid", lambda: mine.st_gid + 1)
    monkeypatch.setattr(os, "getgroups", lambda: [mine.st_gid + 1])
    monkeypatch.setattr(attributes, "_user", lambda number: f"user {number}")
    monkeypatch.setattr(attributes, "_group", lambda number: f"{number}")

    assert list(lost_with(Destination("m.bin", replaces=True))) == [
        f"'m.bin' belongs to user {mine.st_uid}, and the new file will not",
        f"'m.bin' belongs to group {mine.st_gid}, and the new file will not",
    ]


def test_nothing_is_lost_with_a_file_of_ones_own_or_with_none() -> None:
    Path("link").symlink_to("m.bin")

    for name in ("m.bin", "none", "link"):
        assert list(lost_with(Destination(name, replaces=True))) == []


@pytest.mark.parametrize("in_place", [True, False])
def test_the_plan_says_what_is_lost(in_place: bool) -> None:
    import torch
    from safetensors.torch import save_file

    for name in ("m.safetensors", "n.safetensors"):
        save_file({"a": torch.ones(2, 2)}, name)
        os.link(name, f"{name}.2")
    output = None if in_place else "n.safetensors"

    plan = prepare(
        Request("m.safetensors", ("a=zeros",), output, in_place=in_place, force=not in_place)
    ).plan

    name = "m.safetensors" if in_place else "n.safetensors"
    said = f"{name!r} has 1 other name (hard links), which keeps the old content"
    assert plan.warnings == (said,)
