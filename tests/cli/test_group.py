"""The commands as a table: each is a module, a sentence, and a page of help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reinit_cli.cli import commands
from reinit_cli.cli.group import COMMANDS, DEFAULT
from tests.cli.conftest import Done


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


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_command_explains_itself(name: str, option: str, reinit: Callable[..., Done]) -> None:
    done = reinit(name, option)

    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: reinit {name} [OPTIONS]")
    assert "--help" in done.out


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_that_no_command_has_is_named(name: str, reinit: Callable[..., Done]) -> None:
    done = reinit(name, "--zzzzz")

    said, hint = done.err.splitlines()
    assert (done.code, done.out, said) == (2, "", "error: there is no option --zzzzz")
    assert hint == f"hint: reinit {name} -h lists the options"


def test_without_a_command_the_default_one_is_meant(reinit: Callable[..., Done]) -> None:
    args = ("nothing.safetensors", "-r", "*=zeros")

    assert reinit(*args) == reinit(DEFAULT, *args)
