"""What terminals show, at all widths: pictures that were looked at, and no line that is too long."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.cli.render.pictures import COMMANDS, FOLDER, WIDTHS, make_checkpoints, picture, shown
from tests.cli.terminals import SIGNS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_checkpoints()
    return folder


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_terminal_shows_is_the_picture_that_was_looked_at(name: str) -> None:
    for width in WIDTHS:
        assert picture(name, width) == (FOLDER / f"{name}-{width}.txt").read_text()


def test_every_picture_is_of_a_command() -> None:
    names = {f"{name}-{width}" for name in COMMANDS for width in WIDTHS}

    assert {path.stem for path in FOLDER.glob("*.txt")} == names


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_no_line_is_wider_than_the_terminal(name: str) -> None:
    """Rich measures how wide a character is; what torch prints needs more than 20 columns."""
    narrowest = {"draw": 30, "show": 64}.get(name, 20)
    for width in (*range(narrowest, 81), *range(87, 201, 7), 200):
        lines = shown(COMMANDS[name], width).splitlines()
        long = [line for line in lines if cell_len(line) > width]
        # Commands to copy stay whole.
        assert [line for line in long if not line.startswith("  reinit ")] == [], width


@pytest.mark.parametrize("name", COMMANDS)
def test_colors_change_nothing_else(name: str) -> None:
    colored = shown(COMMANDS[name], 100, has_color=True)

    assert SIGNS.sub("", colored) == shown(COMMANDS[name], 100)
    assert ("\x1b[" in colored) == (name not in ("draw", "show")) or name == "draw"


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"draw", "show"}))
def test_a_wide_table_has_every_column_and_every_key(name: str) -> None:
    args = COMMANDS[name]
    wide = shown((*args, "--wide"), 20)

    assert wide == shown((*args, "--wide"), 200)
    assert "…" not in wide
    assert "not shown" not in wide
