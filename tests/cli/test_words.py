"""The first word of a command line: commands, words for them, and words that are nothing."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

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
        "init model.safetensors": "model.safetensors -r '*.weight=xavier_uniform:relu'",
        "Rewrite": "FILE -r '*.weight=xavier_uniform:relu'",
        "reset model.safetensors": "model.safetensors -r '*.weight=reset'",
        "init model.safetensors classifier.bias": "model.safetensors -r classifier.bias=normal:std=0.02",
        "reset model.safetensors -r 'a=zeros'": "run model.safetensors -r a=zeros",
        "zeros model.safetensors classifier.bias -n": "model.safetensors -n -r classifier.bias=zeros",
        "fill model.safetensors classifier.bias ones": "model.safetensors -r classifier.bias=ones",
        "shuffle model.safetensors": "model.safetensors -r '*.weight=shuffle'",
        "rnu model.safetensors": "model.safetensors -r '*.weight=xavier_uniform:relu'",
        "values model.safetensors classifier.bias": "show model.safetensors classifier.bias",
        "list models": "models",
        "reinit keys model.safetensors": "keys model.safetensors",
        "describe kaiming_normal": "inits kaiming_normal",
        "zeros": "inits zeros",
        "HELP": "help",
        "version model.safetensors": "version",
        "modle model.safetensors": "models model.safetensors",
        "resnet-18 -r '*=zeros'": "resnet18 -r '*=zeros'",
        "modelsafetensors -n": "model.safetensors -n",
        "model": "model.safetensors",
        "model -r '*.bias=zeros'": "model.safetensors -r '*.bias=zeros'",
        "model keys": "keys model.safetensors",
        "drop model.safetensors norm.weight": "model.safetensors --drop norm.weight",
        "rename model.safetensors norm.weight scale": "model.safetensors --rename norm.weight=scale",
        "resize model.safetensors classifier.bias=3 -n": "model.safetensors --resize classifier.bias=3 -n",
        "grep norm model.safetensors": "keys model.safetensors '*norm*'",
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


@pytest.mark.usefixtures("checkpoint")
@pytest.mark.parametrize(
    "typed", ["init", "reset", "xavier_normal", "init classifier.bias", "zeros classifier.bias"]
)
def test_the_rewrite_that_is_offered_for_a_word_is_one(
    typed: str, reinit: Callable[..., Done]
) -> None:
    word, *key = typed.split()
    said = reinit(word, "model.safetensors", *key).err
    meant = said.partition("did you mean: reinit ")[2].strip("?\n")

    assert reinit(*shlex.split(meant)).code == 0
    before, after = load_file("model.safetensors"), load_file("model-reinit.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == set(key) if key else {"features.0.weight", "classifier.weight"} <= changed


def test_a_word_for_converting_is_answered_with_the_option_that_does_it(
    reinit: Callable[..., Done],
) -> None:
    hint = "hint: to convert a file, name the output: reinit"

    assert reinit("convert", "a b.pt", "b.safetensors").err.splitlines() == [
        "error: 'convert' is not a command, a file or a torchvision model",
        f"{hint} 'a b.pt' -o b.safetensors",
    ]
    for typed, meant in {
        "convert": "FILE -o OUTPUT",
        "copy a.pt": "a.pt -o OUTPUT",
        "cast a.pt --dtype float16 -o b.pt": "a.pt --dtype float16 -o b.pt",
        "cast a.pt --dtype float16": "FILE -o OUTPUT",
    }.items():
        assert reinit(*typed.split()).err.splitlines()[1] == f"{hint} {meant}"


@pytest.mark.usefixtures("checkpoint")
def test_a_word_that_is_an_option_is_answered_with_the_commands_that_have_it(
    reinit: Callable[..., Done],
) -> None:
    for word, commands in {"dry-run": "run", "rename": "run and diff", "count": "keys"}.items():
        done = reinit(word, "model.safetensors")

        assert done.err.splitlines()[1] == f"hint: --{word} is an option of reinit {commands}"


@pytest.mark.usefixtures("checkpoint")
def test_a_word_before_a_file_is_spelled_like_no_other_file_or_model(
    reinit: Callable[..., Done],
) -> None:
    Path("quantised").touch()
    done = reinit("quantize", "model.safetensors")

    assert done.err.splitlines()[1].startswith("hint: reinit -h lists the commands")


def test_a_word_like_nothing_is_told_where_the_words_are(reinit: Callable[..., Done]) -> None:
    done = reinit("xylophone", "-r", "*=zeros")

    assert done.err.splitlines() == [
        "error: 'xylophone' is not a command, a file or a torchvision model",
        "hint: reinit -h lists the commands, reinit models the models; "
        "write a file as ./NAME, and a model of the Hugging Face Hub as hf://NAME",
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
