"""Colors and sizes: what the terminal is, what variables say, what the options say."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from reinit_cli.cli.screen import color_in, screen_of
from tests.cli.terminals import SIGNS, on_terminal


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


_VARIABLES = ("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE")


@pytest.mark.parametrize(
    ("environment", "on_a_terminal", "in_a_pipe"),
    [
        ({}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": ""}, True, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "0"}, False, False),
        ({"FORCE_COLOR": "3", "TERM": "dumb"}, True, True),
        ({"CLICOLOR": "0"}, False, False),
        ({"CLICOLOR": "1"}, True, False),
        ({"CLICOLOR_FORCE": "1"}, True, True),
        ({"CLICOLOR_FORCE": "0", "CLICOLOR": "1"}, False, False),
        ({"TERM": "dumb"}, False, False),
    ],
    ids=str,
)
def test_variables_say_where_there_are_colors(
    environment: dict[str, str],
    on_a_terminal: bool,
    in_a_pipe: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"TERM": "xterm"} | environment).items():
        monkeypatch.setenv(name, value)

    assert screen_of(_Terminal()).has_color is on_a_terminal
    assert screen_of(io.StringIO()).has_color is in_a_pipe
    assert screen_of(_Terminal(), "never").has_color is False
    assert screen_of(io.StringIO(), "always").has_color is True


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), None),
        (("keys", "f"), None),
        (("keys", "f", "--color", "never"), "never"),
        (("keys", "--color=always", "f"), "always"),
        (("--color=always", "--color", "never"), "never"),
        (("--color", "blue"), None),
        (("keys", "--", "--color=always"), None),
        (("--color",), None),
    ],
    ids=str,
)
def test_an_invalid_command_line_says_its_colors_too(
    args: tuple[str, ...], said: str | None
) -> None:
    assert color_in(args) == said


@pytest.fixture
def _checkpoint() -> None:
    save_file({"a.weight": torch.zeros(2, 2)}, "m.safetensors")


def _piped(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "reinit_cli", *args],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.slow
@pytest.mark.usefixtures("_checkpoint")
def test_a_pipe_gets_what_a_terminal_shows_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    on_screen = on_terminal("keys", "m.safetensors")

    piped = _piped("keys", "m.safetensors", "--color", "always")

    assert piped.stdout == on_screen.text
    assert SIGNS.search(piped.stdout)


@pytest.mark.slow
@pytest.mark.usefixtures("_checkpoint")
def test_forced_colors_make_no_table_of_tabs(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = _piped("keys", "m.safetensors", "-l").stdout
    monkeypatch.setenv("FORCE_COLOR", "1")

    assert _piped("keys", "m.safetensors", "-l").stdout == plain
    assert plain.splitlines()[0].split("\t")[:2] == ["key", "shape"]
    assert _piped("keys", "nope.pt").stderr.startswith("\x1b[31merror:\x1b[0m ")


@pytest.mark.slow
@pytest.mark.usefixtures("_checkpoint")
def test_errors_and_warnings_have_colors_of_their_own() -> None:
    error = on_terminal("keys", "nope.pt").text
    warning = on_terminal(
        "m.safetensors", "-r", "a.*=zeros", "-r", "b=ones", "-n", "--allow-unmatched"
    ).text

    assert error.startswith("\x1b[31merror:\x1b[0m ")
    assert "\x1b[33mwarning:\x1b[0m rule 'b=ones' matches no key" in warning
    assert "\x1b" not in on_terminal("keys", "nope.pt", "--color=never").text
    assert "\x1b" not in on_terminal("keys", "nope.pt", NO_COLOR="1").text


@pytest.mark.parametrize(
    ("columns", "rows"), [("120", "50"), ("0", "x"), ("", ""), ("9" * 30, "١")]
)
def test_columns_and_lines_win_where_they_are_numbers(
    columns: str, rows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:  # pytest itself obeys the variables in its report
        patch.setattr("os.get_terminal_size", lambda _: (_ for _ in ()).throw(OSError))
        patch.setenv("COLUMNS", columns)
        patch.setenv("LINES", rows)

        screen = screen_of(_Terminal())

    assert (screen.width, screen.height) == ((120, 50) if columns == "120" else (80, 24))
