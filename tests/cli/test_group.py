"""The commands as a table: each is a module, a sentence, and a page of help."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from reinit_cli.cli import commands
from reinit_cli.cli.group import COMMANDS, DEFAULT, group
from reinit_cli.cli.help import Command, names_of
from tests.cli.conftest import Done


def _command(name: str) -> Command:
    found = group.get_command(click.Context(group), name)
    assert isinstance(found, Command)
    return found


def test_every_module_of_a_command_is_in_the_table() -> None:
    folder = Path(commands.__path__[0])
    modules = {path.stem for path in folder.glob("[!_]*.py")}
    packages = {f"{path.parent.name}.command" for path in folder.glob("*/command.py")}

    assert sorted(entry.module for entry in COMMANDS.values()) == sorted(modules | packages)


def test_help_lists_every_command_with_its_sentence(reinit: Callable[..., Done]) -> None:
    done = reinit("--help")

    words = " ".join(done.out.split())
    assert (done.code, done.err) == (0, "")
    assert all(f"{name} {entry.sentence}" in words for name, entry in COMMANDS.items())
    assert len(done.out.splitlines()) < 24
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize("columns", ["20", "40", "59"])
def test_a_narrow_terminal_breaks_no_word_of_help(
    columns: str, reinit: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = [["-h"], ["run", "-h"], ["run", "--help"], ["keys", "--help"]]
    wide = [reinit(*args).out for args in pages]
    monkeypatch.setenv("COLUMNS", columns)

    narrow = [reinit(*args).out for args in pages]

    assert [out.split() for out in narrow] == [out.split() for out in wide]
    prose = narrow[0].partition("Examples:")[0].splitlines()
    assert [line for line in prose if len(line) > int(columns) and len(line.split()) > 3] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_short_help_starts_with_the_usage_and_fits_a_screen(
    name: str, reinit: Callable[..., Done]
) -> None:
    done = reinit(name, "-h")
    lines = done.out.splitlines()

    assert (done.code, done.err) == (0, "")
    assert re.match(rf"Usage: reinit \[?{name}\]? .*\[OPTIONS\]$", lines[0])
    assert len(lines) <= 24
    assert f"reinit {name} --help" in lines[-1]


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_no_line_of_help_is_longer_than_80_columns(
    name: str, option: str, reinit: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    for columns in ("80", "160"):
        monkeypatch.setenv("COLUMNS", columns)

        assert [line for line in reinit(name, option).out.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_long_help_has_every_option_once_and_no_hidden_one(
    name: str, reinit: Callable[..., Done]
) -> None:
    explained = re.findall(
        r"^(?:  |      )(-.*?)(?:  |$)", reinit(name, "--help").out, re.MULTILINE
    )
    shown = [each for names in explained for each in re.findall(r"-[\w-]+", names)]
    options = [each for each in _command(name).params if isinstance(each, click.Option)]
    visible = [each for each in options if not each.hidden]

    assert sorted(shown) == sorted(each for option in visible for each in names_of(option))
    assert all(names_of(each) for each in visible)


@pytest.mark.parametrize("name", COMMANDS)
def test_values_have_names_that_say_what_they_are(name: str, reinit: Callable[..., Done]) -> None:
    """Those of click are its types: TEXT, INTEGER, FLOAT RANGE."""
    out = reinit(name, "--help").out + reinit(name, "-h").out

    assert not re.findall(r"\b(TEXT|INTEGER|FLOAT|RANGE|BOOLEAN|CHOICE)\b|x>=", out)


@pytest.mark.parametrize("name", COMMANDS)
def test_former_names_are_in_no_help(name: str, reinit: Callable[..., Done]) -> None:
    former = _command(name).former_names()
    shown = {*re.findall(r"--[\w-]+", reinit(name, "-h").out + reinit(name, "--help").out)}

    assert not shown & {*former}


def test_help_is_colored_on_a_terminal_alone(reinit: Callable[..., Done]) -> None:
    assert "\x1b" not in reinit("run", "--help").out


@pytest.mark.parametrize(
    "args",
    [
        ["-r", "a=ones", "--config", "r.toml", "--sync", "--no-weights"],
        ["-r", "a=ones", "--config=r.toml", "--sync", "--no-weights"],
    ],
)
def test_former_names_are_read_as_the_present_ones(args: list[str]) -> None:
    command = _command("run")
    context = click.Context(command)

    words = list(command.in_present_names(context, args))

    assert " ".join(words).replace("=", " ") == ("-r a ones --recipe r.toml --fsync --weights none")


def test_values_and_words_after_two_dashes_are_no_former_names() -> None:
    command = _command("run")
    args = ["-o", "--config", "-nr", "--sync", "--output=--sync", "--", "--sync", "-rule"]

    assert list(command.in_present_names(click.Context(command), args)) == args


@pytest.mark.parametrize("typed", ["-rule", "-output", "-seed=3", "-config", "-json"])
def test_a_long_option_with_one_dash_is_not_read_as_short_ones(
    typed: str, reinit: Callable[..., Done]
) -> None:
    done = reinit("m.pt", typed, "x")

    name = typed.partition("=")[0]
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [
        f"error: there is no option {name}",
        f"hint: did you mean: reinit run m.pt -{typed} x?",
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_that_no_command_has_is_named(name: str, reinit: Callable[..., Done]) -> None:
    done = reinit(name, "--zzzzz")

    said, hint = done.err.splitlines()
    assert (done.code, done.out, said) == (2, "", "error: there is no option --zzzzz")
    assert hint == f"hint: reinit {name} --help lists the options"


def test_without_a_command_the_default_one_is_meant(reinit: Callable[..., Done]) -> None:
    args = ("nothing.safetensors", "-r", "*=zeros")

    assert reinit(*args) == reinit(DEFAULT, *args)
