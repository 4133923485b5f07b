"""Progress is a bar where one is asked for, or what counts instead."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from reinit_cli import apply_, diff, rewrite, stats, verify

STATE = {"a": torch.ones(100), "b": torch.ones(50)}


@pytest.mark.parametrize("of", ["rewrite", "apply_", "stats", "diff", "verify"])
def test_a_function_is_told_the_bytes_that_are_done(of: str) -> None:
    told: list[int] = []
    state = {key: value.clone() for key, value in STATE.items()}
    rewrite(state, "a=zeros", "recorded.safetensors", record=True)

    if of == "rewrite":
        rewrite(state, "a=zeros", "new.safetensors", progress=told.append)
        assert sum(told) == Path("new.safetensors").stat().st_size
    elif of == "apply_":
        apply_(state, "a=zeros", progress=told.append)
        assert sum(told) == 400
    elif of == "stats":
        stats(state, progress=told.append)
        assert sum(told) == 600
    elif of == "diff":
        diff(state, state, progress=told.append)
        assert sum(told) == 600
    else:
        verify("recorded.safetensors", progress=told.append)
        assert sum(told) > 0


CODE = """
import torch
from reinit_cli import apply_
apply_({"a.weight": torch.ones(1000)}, "a.weight=zeros", progress=True)
"""


def _run_in_terminal(code: str) -> str:
    main, aside = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-c", code], stdout=aside, stderr=aside, stdin=aside, close_fds=True
    )
    os.close(aside)
    said = b""
    while True:
        try:
            more = os.read(main, 4096)
        except OSError:
            break
        if not more:
            break
        said += more
    os.close(main)
    assert done.wait(60) == 0, said
    return said.decode()


@pytest.mark.slow
def test_a_terminal_shows_the_bar_and_what_is_worked_on() -> None:
    said = _run_in_terminal(CODE)

    assert "the state dict" in said
    assert "4.0/4.0 kB" in said


@pytest.mark.slow
def test_a_file_gets_no_bar() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)

    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.slow
def test_no_bar_is_imported_where_none_is_asked_for() -> None:
    code = CODE.replace("progress=True", "") + "import sys; sys.exit('rich' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
