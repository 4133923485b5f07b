"""Check the place of an output before anything is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reinit_cli.errors import OutputExistsError, OutputTakenError, OutputUnwritableError
from reinit_cli.storage.destination import Destination, check_destination, check_extra_file

PATH = Path("out.bin")


def test_the_source_is_never_the_output_by_any_name() -> None:
    Path("in.bin").touch()
    Path("link").symlink_to("in.bin")
    os.link("in.bin", "hard")

    for name in ("in.bin", "./in.bin", "link", "hard"):
        with pytest.raises(OutputTakenError):
            check_destination(Destination(name, replaces=True), "in.bin", {}, in_place=False)


def test_an_existing_output_is_refused_even_as_a_dangling_link() -> None:
    PATH.symlink_to("nowhere")

    with pytest.raises(OutputExistsError):
        check_destination(Destination(str(PATH)), None, {}, in_place=False)
    check_destination(Destination(str(PATH), replaces=True), None, {}, in_place=False)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("no/out.bin", "there is no folder 'no'"),
        ("folder", "it is a folder, which is never replaced"),
        ("fifo", "it is not a regular file"),
        ("x" * 256, "its name is too long"),
        ("a\0b", "its name has a NUL"),
        ("folder/a\0b", "its name has a NUL"),
        ("\ud83d.bin", r"its name has '\ud83d', which the system cannot encode"),
    ],
)
def test_a_place_that_cannot_be_written_is_told(path: str, problem: str) -> None:
    Path("folder").mkdir()
    os.mkfifo("fifo")

    with pytest.raises(OutputUnwritableError) as refused:
        check_destination(Destination(path, replaces=True), None, {}, in_place=False)

    assert str(refused.value) == f"cannot write {path!r}: {problem}"


def test_a_report_or_a_record_needs_a_name_that_a_file_can_have() -> None:
    for path in ("a\0b.html", "\ud83d.html"):
        with pytest.raises(OutputUnwritableError, match="its name has"):
            check_extra_file(path, {}, "report", replaces=False)


def test_a_folder_that_is_read_only_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may write anywhere, so the system's answer is given for it.
    monkeypatch.setattr(os, "access", lambda *_: False)

    with pytest.raises(OutputUnwritableError, match=r"the folder '\.' is not writable"):
        check_destination(Destination("out.bin"), None, {}, in_place=False)
