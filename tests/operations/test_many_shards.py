"""Folders of thousands of shards: work that grows with their number alone, and few open files."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from reinit_cli import rewrite
from reinit_cli.cli import main
from tests.pages import ROOT
from tests.tools import open_files

_MOST_OPEN = 64


def _folder(count: int) -> str:
    """Write a folder of shards with two tensors each, and its index."""
    folder = Path(f"model{count}")
    folder.mkdir()
    weight_map = {}
    for at in range(1, count + 1):
        name = f"model-{at:05d}-of-{count:05d}.safetensors"
        keys = [f"layers.{at}.up.weight", f"layers.{at}.down.weight"]
        (folder / name).write_bytes(save({key: torch.full((4, 8), float(at)) for key in keys}))
        weight_map |= dict.fromkeys(keys, name)
    index = {"metadata": {"total_size": count * 256}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return str(folder)


@contextmanager
def _counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count the descriptors of this process, besides those that the tests opened, at each opening."""
    before, counts, opens = len(open_files()), [0], os.open

    def counting(*args: Any, **kwargs: Any) -> int:
        descriptor = opens(*args, **kwargs)
        counts.append(len(open_files()) - before)
        return descriptor

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", counting)
        yield counts


def test_few_files_are_open_while_many_shards_are_listed_and_rewritten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = _folder(150)

    with _counted(monkeypatch) as counts:
        assert main(["keys", folder]) == 0
        rewrite(folder, "*.up.weight=normal:std=0.02", "new")

    streams = 3  # of a process of its own
    assert len(counts) > 300  # the shards and those of the output
    assert max(counts) + streams <= _MOST_OPEN
    written = load_file("new/model-00150-of-00150.safetensors")
    assert written["layers.150.down.weight"].eq(150).all()
    assert 0 < written["layers.150.up.weight"].std() < 0.1


def _cpu_seconds(*args: str) -> float:
    """Return what a command of its own takes, and check that it succeeds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "reinit_cli", *args]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.slow
def test_the_time_of_a_folder_grows_with_the_number_of_its_shards() -> None:
    folders = [_folder(count) for count in (500, 2_000, 10_000)]
    rewriting = ("-r", "*.up.weight=normal:std=0.02", "-q", "-o")

    listed = [_cpu_seconds("keys", folder) for folder in folders]
    rewritten = [_cpu_seconds(folder, *rewriting, f"{folder}-new") for folder in folders]

    for few, many, most in (listed, rewritten):
        # What a start takes is the same for all of them, so only differences are compared.
        assert most - few < 1.6 * (10_000 - 500) / (2_000 - 500) * (many - few) + 1
    written = load_file("model10000-new/model-09999-of-10000.safetensors")
    assert written["layers.9999.down.weight"].eq(9999).all()
    assert 0 < written["layers.9999.up.weight"].std() < 0.1
