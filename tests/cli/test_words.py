"""The first word of a command line: commands, words for them, and words that are nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reinit_cli.cli.group import COMMANDS
from tests.cli.conftest import Done


@pytest.mark.parametrize("name", COMMANDS)
def test_help_about_a_command_is_its_long_help(name: str, reinit: Callable[..., Done]) -> None:
    assert reinit("help", name) == reinit(name, "--help")


def test_help_and_version_are_the_options_of_that_name(reinit: Callable[..., Done]) -> None:
    assert reinit("help") == reinit("--help")
    assert reinit("version") == reinit("--version")


@pytest.mark.parametrize(
    ("topic", "hint"),
    [
        ("rnu", "did you mean: reinit help run?"),
        ("list", "did you mean: reinit help keys?"),
        ("xylophone", "reinit --help lists the commands"),
    ],
)
def test_help_about_what_is_no_command_names_the_nearest(
    topic: str, hint: str, reinit: Callable[..., Done]
) -> None:
    done = reinit("help", topic)

    said = f"error: there is no command {topic!r}\nhint: {hint}\n"
    assert (done.code, done.out, done.err) == (2, "", said)


@pytest.mark.usefixtures("checkpoint")
@pytest.mark.parametrize("name", ["help", "version"])
def test_a_file_with_the_name_of_a_word_is_still_rewritten(
    name: str, reinit: Callable[..., Done]
) -> None:
    Path("model.safetensors").rename(name)

    assert reinit(name, "-r", "*.bias=zeros", "-o", "new.safetensors").code == 0
    assert Path("new.safetensors").exists()


@pytest.mark.usefixtures("checkpoint")
@pytest.mark.parametrize(
    ("typed", "meant"),
    {
        "kyes": "keys",
        "ls model.safetensors": "keys model.safetensors",
        "list model.safetensors -l": "keys model.safetensors -l",
        "cat model.safetensors norm.weight": "show model.safetensors norm.weight",
        "compare a.pt b.pt": "diff a.pt b.pt",
        "Compare a.pt b.pt": "diff a.pt b.pt",
        "stat model.safetensors --by 2": "stats model.safetensors --by 2",
        "init": "inits",
        "init model.safetensors -r '*=zeros'": "run model.safetensors -r '*=zeros'",
        "resnet-18 -r '*=zeros'": "resnet18 -r '*=zeros'",
        "modelsafetensors -n": "model.safetensors -n",
    }.items(),
)
def test_a_word_that_is_nothing_gets_the_nearest_command_model_or_file(
    typed: str, meant: str, reinit: Callable[..., Done]
) -> None:
    args = [each.strip("'") for each in typed.split()]

    done = reinit(*args)

    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [
        f"error: {args[0]!r} is not a command, a file or a torchvision model",
        f"hint: did you mean: reinit {meant}?",
    ]


def test_a_word_for_converting_is_answered_with_the_option_that_does_it(
    reinit: Callable[..., Done],
) -> None:
    hint = "hint: to convert a file, name the output: reinit"

    assert reinit("convert", "a b.pt", "b.safetensors").err.splitlines() == [
        "error: 'convert' is not a command, a file or a torchvision model",
        f"{hint} 'a b.pt' -o b.safetensors",
    ]
    assert reinit("convert", "a.pt").err.splitlines()[1] == f"{hint} FILE -o OUTPUT"


def test_a_word_like_nothing_is_told_where_the_words_are(reinit: Callable[..., Done]) -> None:
    done = reinit("xylophone", "-r", "*=zeros")

    assert done.err.splitlines() == [
        "error: 'xylophone' is not a command, a file or a torchvision model",
        "hint: reinit -h lists the commands, reinit models the models; write a file as ./NAME",
    ]


@pytest.mark.usefixtures("checkpoint")
@pytest.mark.parametrize("name", ["run.pt", "keys.safetensors"])
def test_a_file_that_exists_is_not_taken_for_a_mistyped_command(
    name: str, reinit: Callable[..., Done]
) -> None:
    Path("model.safetensors").rename(name)

    assert "did you mean" not in reinit(name, "-n").err


@pytest.mark.usefixtures("checkpoint")
def test_an_error_about_another_word_stays_what_it_is(reinit: Callable[..., Done]) -> None:
    assert reinit("xylophone", "-r", "x").err.startswith("error: rule 'x' needs an '='")
    assert reinit("alexnet", "--sed", "3").err.startswith("error: there is no option --sed")


@pytest.mark.parametrize("rules", [[], ["-n"], ["--seed", "3"], ["--json", "-n"], ["-q", "-f"]])
@pytest.mark.usefixtures("checkpoint")
def test_options_of_a_run_without_work_are_an_error(
    rules: list[str], reinit: Callable[..., Done]
) -> None:
    """A script whose list of rules came out empty must fail."""
    if rules:
        done = reinit("model.safetensors", *rules)

        assert (done.code, done.out) == (2, "")
    done = reinit("run", "model.safetensors", *rules)

    assert (done.code, done.out) == (2, "")
    assert [path.name for path in Path().iterdir()] == ["model.safetensors"]
