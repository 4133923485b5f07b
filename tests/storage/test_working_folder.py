"""Where a thread works while it imports: apart from the working folder and from others."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from threading import Event, Thread

import pytest

from reinit_cli.storage import working_folder


def _in_thread() -> tuple[str, str, str]:
    """Return the working folders of a thread that imports, of this one meanwhile, and after."""
    seen: list[str] = []
    inside, seen_outside = Event(), Event()

    def work() -> None:
        with working_folder.apart():
            seen.append(os.getcwd())
            inside.set()
            seen_outside.wait(60)
        seen.append(os.getcwd())

    thread = Thread(target=work)
    thread.start()
    inside.wait(60)
    outside = os.getcwd()
    seen_outside.set()
    thread.join()
    return seen[0], outside, seen[1]


def _may_have_own_folder() -> bool:
    """Whether a thread may have a working folder of its own, which some containers forbid."""
    answers: list[bool] = []
    thread = Thread(target=lambda: answers.append(working_folder.has_own_folder()))
    thread.start()
    thread.join()
    return answers[0]


def test_a_library_is_imported_in_the_root_folder_by_one_thread() -> None:
    here = os.getcwd()

    expected = ("/", here, here) if _may_have_own_folder() else (here, here, here)

    assert _in_thread() == expected


@pytest.mark.parametrize("trap", ["libcuda.so.1", "matplotlibrc", "glibc-hwcaps"])
def test_without_such_folders_the_process_leaves_one_with_traps(
    monkeypatch: pytest.MonkeyPatch, trap: str
) -> None:
    monkeypatch.setattr(working_folder, "has_own_folder", lambda: False)
    here = os.getcwd()

    without = _in_thread()
    Path(trap).touch()

    assert without == (here, here, here)
    assert _in_thread() == ("/", "/", here)


def test_a_working_folder_that_may_not_be_searched_is_not_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*args: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), ".")

    monkeypatch.setattr(os, "open", refused)
    here = os.getcwd()

    assert _in_thread() == (here, here, here)
