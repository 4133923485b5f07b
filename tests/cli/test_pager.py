"""Output that is longer than the screen goes through the user's pager, as with git."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.cli.terminals import Shown, on_terminal

pytestmark = pytest.mark.slow

COUNT = 60


@pytest.fixture(autouse=True)
def _many() -> None:
    save_file({f"layers.{at}.weight": torch.zeros(2) for at in range(COUNT)}, "m.safetensors")


def _keys(shown: Shown) -> list[str]:
    return [line.split()[0] for line in shown.lines if line.startswith("layers.")]


def _pager(script: str) -> str:
    """Write a pager that is a script, and return what PAGER is for it."""
    path = Path("pager").resolve()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("is_command", [False, True], ids=["a program", "a command line"])
def test_what_is_longer_than_the_screen_goes_through_the_pager(*, is_command: bool) -> None:
    pager = _pager('echo "paged $1"; cat')
    first = "paged of us" if is_command else "paged "

    shown = on_terminal("keys", "m.safetensors", PAGER=f"{pager} 'of us'" if is_command else pager)

    assert (shown.code, shown.lines[0]) == (0, first)
    assert len(_keys(shown)) == COUNT
    assert shown.lines[-1].startswith("total  60 tensors")


def test_what_fits_the_screen_is_printed() -> None:
    pager = _pager("echo paged; cat")

    exact = COUNT + 5  # a heading, a rule, an empty line, the total, and the shell's prompt
    assert on_terminal("keys", "m.safetensors", rows=exact, PAGER=pager).lines[0] != "paged"
    assert on_terminal("keys", "m.safetensors", rows=exact - 1, PAGER=pager).lines[0] == "paged"


@pytest.mark.parametrize(
    ("args", "environment"),
    [
        (("--no-pager",), {}),
        ((), {"PAGER": ""}),
        ((), {"PAGER": "cat"}),
        ((), {"TERM": "dumb"}),
        (("--json",), {}),
    ],
    ids=["--no-pager", "none", "cat", "dumb", "--json"],
)
def test_there_is_no_pager_where_none_is_wanted(
    args: tuple[str, ...], environment: dict[str, str]
) -> None:
    pager = {"PAGER": _pager("echo paged; cat")}

    shown = on_terminal("keys", "m.safetensors", *args, **(pager | environment))

    assert shown.code == 0
    assert "paged" not in shown.lines
    assert len(shown.lines) >= COUNT


def test_less_gets_the_variables_that_git_gives_it() -> None:
    pager = _pager('echo "$LESS $LV"')

    assert on_terminal("keys", "m.safetensors", PAGER=pager).lines == ["FRX -c"]
    assert on_terminal("keys", "m.safetensors", "--wide", PAGER=pager).lines == ["FRSX -c"]
    assert on_terminal("keys", "m.safetensors", PAGER=pager, LESS="R").lines == ["R -c"]


@pytest.mark.parametrize("script", ["exit 0", "head -3 >/dev/null", "exit 3"])
def test_a_pager_that_is_quit_early_is_no_error(script: str) -> None:
    many = {f"layers.{at:06}.weight": torch.zeros(1) for at in range(9_000)}
    save_file(many, "many.safetensors")

    shown = on_terminal("keys", "many.safetensors", PAGER=_pager(script))

    assert shown == Shown(0, "")


@pytest.mark.parametrize("pager", ["./no-such-pager", "no-such-pager -x 2>/dev/null", "/"])
def test_a_pager_that_cannot_be_started_leaves_plain_output(pager: str) -> None:
    shown = on_terminal("keys", "m.safetensors", PAGER=pager)

    assert shown.code == 0
    assert len(_keys(shown)) == COUNT


def test_the_exit_code_is_the_command_s() -> None:
    other = {f"layers.{at}.bias": torch.zeros(2) for at in range(COUNT)}
    save_file(other, "n.safetensors")
    pager = _pager("cat >/dev/null; exit 7")

    assert on_terminal("diff", "m.safetensors", "n.safetensors", PAGER=pager).code == 1


def test_the_key_that_interrupts_is_the_pager_s() -> None:
    """As with git, Ctrl-C ends a search in less and not the command behind it."""
    pager = _pager(
        "trap 'echo stopped; exit' INT; cat >/dev/null; echo ready; kill -INT $PPID $$; sleep 5"
    )

    shown = on_terminal("keys", "m.safetensors", PAGER=pager)

    assert (shown.code, shown.lines) == (0, ["ready", "stopped"])


def test_keys_of_strangers_stay_escaped_in_a_pager() -> None:
    hostile = {f"\x1b]0;title\x07{at}": torch.zeros(1) for at in range(COUNT)}
    save_file(hostile, "h.safetensors")

    shown = on_terminal("keys", "h.safetensors", PAGER=_pager("cat"))

    assert "\x1b]" not in shown.text
    assert "\x07" not in shown.text
    assert shown.text.count(r"\x1b]0;title\x07") == COUNT
