"""A source that changes while it is rewritten: an error, and nothing new."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from reinit_cli import rewrite
from reinit_cli.errors import SourceChangedError
from reinit_cli.operations.prepare import prepare
from reinit_cli.operations.rewrite import execute
from reinit_cli.request.request import Request

REINIT = (sys.executable, "-m", "reinit_cli")
STATE = {"a": torch.ones(30, 40), "b": torch.ones(20, 30)}
INDEX = "model.safetensors.index.json"
SHARDS = {"a": "one.safetensors", "b": "two.safetensors"}


@pytest.fixture
def folder() -> Path:
    """A folder of two shards, an index and a configuration."""
    folder = Path("model")
    (folder / "below").mkdir(parents=True)
    for key, name in SHARDS.items():
        save_file({key: STATE[key]}, folder / name)
    (folder / INDEX).write_text(json.dumps({"weight_map": SHARDS}))
    (folder / "config.json").write_text("{}")
    (folder / "below/vocabulary.txt").write_text("word")
    return folder


def _write_in_place(path: Path) -> None:
    """Write as many other bytes, and set the time of the change back."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace(path: Path) -> None:
    before = path.stat()
    other = path.with_name("other")
    shutil.copy2(path, other)
    other.rename(path)
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def _shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b" ")


def _close(path: Path) -> None:
    path.chmod(0o400)


CHANGES: list[Callable[[Path], None]] = [
    _write_in_place,
    _replace,
    _shorten,
    _lengthen,
    _close,
    Path.unlink,
]


def _at_the_flush(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Let something happen while the disk is waited for, when every byte has been copied."""
    pending, flush = [change], os.fsync

    def slow(fd: int) -> None:
        while pending:
            pending.pop()()
        flush(fd)

    monkeypatch.setattr(os, "fsync", slow)


def _content() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", [INDEX, "one.safetensors", "config.json", "below/vocabulary.txt"])
@pytest.mark.parametrize("is_late", [False, True])
def test_every_file_of_a_folder_is_as_it_was_for_the_plan(
    folder: Path,
    name: str,
    change: Callable[[Path], None],
    is_late: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = prepare(Request("./model", ("a=zeros",), "new", fsync=True))
    if is_late:
        _at_the_flush(monkeypatch, lambda: change(folder / name))
    else:
        change(folder / name)

    with pytest.raises(SourceChangedError, match=f"'./model/{name}' changed while"):
        execute(job)

    assert os.listdir() == ["model"]


@pytest.mark.parametrize("output", ["new", "new.pt", "model/new.pt"])
def test_a_file_that_appears_in_a_folder_is_a_change(
    folder: Path, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {**_content(), "model/below/late.txt": b"late"}
    _at_the_flush(monkeypatch, lambda: (folder / "below/late.txt").write_text("late"))

    with pytest.raises(SourceChangedError, match=r"'\./model/below/late\.txt' changed while"):
        rewrite("./model", ["a=zeros"], output, fsync=True)

    assert _content() == before


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("output", ["new.safetensors", "new.pt", "old.safetensors", None])
def test_a_file_is_compared_again_when_all_is_flushed(
    output: str | None, change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(STATE, "model.safetensors")
    Path("old.safetensors").write_bytes(b"old")
    source = Path("model.safetensors")
    after: list[dict[str, bytes]] = []
    _at_the_flush(monkeypatch, lambda: (change(source), after.append(_content())))

    with pytest.raises(SourceChangedError, match=r"'model\.safetensors' changed while"):
        rewrite(
            str(source),
            ["a=zeros"],
            output,
            in_place=output is None,
            force=output is not None,
            fsync=True,
        )

    now = _content()
    assert now == after[0]
    assert now["old.safetensors"] == b"old"


def test_a_checkpoint_that_a_rule_refers_to_is_compared_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("model", "donor"):
        save_file(STATE, f"{name}.safetensors")
    _at_the_flush(monkeypatch, lambda: _write_in_place(Path("donor.safetensors")))

    with pytest.raises(SourceChangedError, match=r"'donor\.safetensors' changed while"):
        rewrite("model.safetensors", ["a=rewind:donor.safetensors"], "new.safetensors", fsync=True)

    assert sorted(os.listdir()) == ["donor.safetensors", "model.safetensors"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("options", [(), ("-j", "2")])
def test_what_a_command_writes_into_its_source_is_no_change(options: tuple[str, ...]) -> None:
    outputs = "model/runs/new-{seed}.safetensors"
    args = ["./model", "-r", "a=ones", "-o", outputs, "-s", "0..1", "-q", *options]

    subprocess.run([*REINIT, *args, "--sync"], check=True)

    assert sorted(os.listdir("model/runs")) == ["new-0.safetensors", "new-1.safetensors"]
    assert torch.equal(load_file("model/runs/new-1.safetensors")["b"], STATE["b"])


@pytest.mark.usefixtures("folder")
def test_a_record_and_a_report_in_the_source_are_no_changes() -> None:
    args = ["./model", "-r", "a=ones", "-o", "new", "--record=model/record.json"]

    subprocess.run([*REINIT, *args, "--report", "model/report.html", "-q"], check=True)

    assert {"record.json", "report.html"} < set(os.listdir("model"))
    assert "record.json" not in os.listdir("new")


@pytest.mark.usefixtures("folder")
def test_the_temporaries_of_other_runs_are_not_copied() -> None:
    Path("model/.new.pt.reinit-0123456789ab").write_bytes(b"half")

    rewrite("./model", ["a=zeros"], "new")

    assert sorted(os.listdir("new")) == sorted(["below", "config.json", INDEX, *SHARDS.values()])
