"""Command lines become requests: no option is lost, and the environment is obeyed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import click
import pytest
import torch
import torchvision

from reinit_cli import plan, rewrite
from reinit_cli.cli.commands.run.command import command as run
from reinit_cli.cli.group import COMMANDS, group
from reinit_cli.python.options import PlanOptions, RewriteOptions
from reinit_cli.request.output_name import OutputName
from reinit_cli.request.partial import PartialRequest, RequestOptions
from reinit_cli.request.pattern import Pattern
from reinit_cli.request.rename import Rename
from reinit_cli.request.request import OPTIONS, Request
from reinit_cli.request.resize import Resize
from reinit_cli.request.rule import Rule
from reinit_cli.streams.stream import seed_for
from tests.cli.conftest import Done

ZEROS = Rule.parse("*.bias=zeros")
ONES = Rule.parse("norm.*=ones")
PLAIN = Request("model.safetensors", (ZEROS,))

ARGV: dict[str, tuple[list[str], dict[str, Any]]] = {
    "a rule": ([], {}),
    "two rules in their order": (["-r", "norm.*=ones"], {"rules": (ZEROS, ONES)}),
    "an exclusion is the last rule, and keeps": (
        ["-x", "norm.*"],
        {"rules": (ZEROS, Rule.keeping("norm.*"))},
    ),
    "output": (["-o", "x.pt"], {"output": "x.pt"}),
    "output with a placeholder": (
        ["--output", "{stem}.pt"],
        {"output": OutputName.parse("{stem}.pt")},
    ),
    "weights": (["--weights", "none"], {"weights": "none"}),
    "no weights": (["--no-weights"], {"weights": "none"}),
    "root": (["--root", "ema"], {"root": "ema"}),
    "seed": (["-s", "-5"], {"seed": -5}),
    "long seed": (["--seed", "3"], {"seed": 3}),
    "stream": (["--stream", "torch-1"], {"stream": "torch-1"}),
    "a family of streams": (["--stream", "torch"], {"stream": "torch-1"}),
    "device": (["-d", "cuda:1"], {"device": "cuda:1"}),
    "long device": (["--device", "auto"], {"device": "auto"}),
    "strict": (["--strict"], {"strict": True}),
    "not strict": (["--no-strict"], {}),
    "allow unmatched": (["--allow-unmatched"], {"allow_unmatched": True}),
    "dtype": (["--dtype", "bfloat16"], {"dtype": "bfloat16"}),
    "the last dtype for all": (
        ["--dtype", "float16", "--dtype", "bfloat16"],
        {"dtype": "bfloat16"},
    ),
    "dtypes of some": (
        ["--dtype", "bfloat16", "--dtype", "*norm*=float32"],
        {"dtype": ("bfloat16", "*norm*=float32")},
    ),
    "a layout": (["--to", "dcp"], {"to": "dcp"}),
    "shard size": (["--shard-size", "2kB"], {"shard_nbytes": 2000}),
    "tensors only": (["--tensors-only"], {"tensors_only": True}),
    "tensors only, by its older name": (["--drop-non-tensors"], {"tensors_only": True}),
    "not tensors only, by its older name": (["--no-drop-non-tensors"], {}),
    "safe pickle": (["--safe-pickle"], {"safe_pickle": True}),
    "safe pickle, by its former name": (
        ["--refuse-unknown-globals"],
        {"safe_pickle": True},
    ),
    "any pickle, by its former name": (["--no-refuse-unknown-globals"], {}),
    "verify no CRC": (["--no-verify-crc"], {"verify_crc": False}),
    "architecture": (["--arch", "resnet18"], {"arch": "resnet18"}),
    "arguments of an architecture": (
        ["--arch", "./net.py:Net", "--arch-args", '{"width": 64}'],
        {"arch": "./net.py:Net", "arch_args": {"width": 64}},
    ),
    "renames in their order": (
        ["--rename", "module.*=*", "--rename", "a.*=b.*"],
        {"rename": (Rename.parse("module.*=*"), Rename.parse("a.*=b.*"))},
    ),
    "tensors to leave out": (
        ["--drop", "head.*", "--drop", "*.bias"],
        {"drop": (Pattern.parse("head.*"), Pattern.parse("*.bias"))},
    ),
    "tensors to take": (
        ["--only", "a.*", "--only", "b"],
        {"only": (Pattern.parse("a.*"), Pattern.parse("b"))},
    ),
    "resizes in their order": (
        ["--resize", "a=3:mean", "--resize", "b=4"],
        {"resize": (Resize.parse("a=3:mean"), Resize.parse("b=4"))},
    ),
    "number of classes": (["--num-classes", "7"], {"num_classes": 7}),
    "reset buffers": (["--reset-buffers"], {"reset_buffers": True}),
    "reset buffers, by its former name": (["--with-buffers"], {"reset_buffers": True}),
    "reset no buffers, by its former name": (["--no-with-buffers"], {}),
    "untie": (["--untie"], {"untie": True}),
    "keep_config": (["--keep-config"], {"keep_config": True}),
    "saturate": (["--saturate"], {"saturate": True}),
    "a new index": (["--fix-index"], {"fix_index": True}),
    "files of a folder": (
        ["--copy", "a/*", "--copy", "b"],
        {"copy": (Pattern.parse("a/*"), Pattern.parse("b"))},
    ),
    "reset optimizer": (["--reset-optimizer"], {"reset_optimizer": True}),
    "an order of parameters": (["--optimizer-order", "ndim"], {"optimizer_order": "ndim"}),
    "paths that recipes may name": (
        ["--allow-path", "../a", "--allow-path", "/b"],
        {"allow_paths": ("../a", "/b")},
    ),
    "record inside": (["--record"], {"record": True}),
    "record in a file": (["--record-to", "r.json"], {"record": "r.json"}),
    "record in a file, by its former name": (["--record=r.json"], {"record": "r.json"}),
    "record in a file and not inside": (["--record", "--record-to", "r"], {"record": "r"}),
    "check": (["--check"], {"check": True}),
    "force": (["-f"], {"force": True}),
    "long force": (["--force"], {"force": True}),
    "skip existing": (["--skip-existing"], {"skip_existing": True}),
    "one of several ranks": (
        ["--rank", "1", "--world-size", "2", "--run-id", "a", "--timeout", "5", "--resume"],
        {"rank": 1, "world_size": 2, "run_id": "a", "timeout": 5.0, "resume": True},
    ),
    "skip nothing": (["--no-skip-existing"], {}),
    "in place": (["--in-place"], {"in_place": True}),
    "fsync": (["--fsync"], {"fsync": True}),
    "fsync, by its former name": (["--sync"], {"fsync": True}),
    "nothing is measured that nobody sees": (["-q"], {"measure": False}),
    "JSON shows what is measured": (["-q", "--json"], {}),
    "rows for tensors are measured": (["-v"], {"measure_before": True}),
    "a report has pictures": (["--report", "r.html"], {"sketch": True}),
}

OF_THE_COMMAND = {
    *(
        "configs",
        "files_from",
        "null",
        "jobs",
        "keep_going",
        "dry_run",
        "as_json",
        "progress",
    ),
}
"""Parameters of `run` that say where requests come from, or how they are run and shown."""

FIELDS = {
    "sources": "source",
    "seeds": "seed",
    "excluded": "rules",
    "quiet": "measure",
    "verbose": "measure_before",
    "report": "sketch",
    "record_to": "record",
}
"""The fields of parameters that have another name."""


class AskedError(Exception):
    """Raised instead of a run, with what was asked for."""

    def __init__(self, request: Request) -> None:
        self.request = request


@pytest.fixture
def asked(reinit: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Request]:
    """Return the request of a command line, which is not run."""

    def ask(request: Request) -> None:
        raise AskedError(request)

    def request_of(*args: str) -> Request:
        monkeypatch.setattr("reinit_cli.operations.prepare.prepare", ask)
        with pytest.raises(AskedError) as raised:
            reinit(*args)
        return raised.value.request

    return request_of


@pytest.mark.parametrize(("args", "said"), ARGV.values(), ids=ARGV)
def test_arguments_become_exactly_this_request(
    args: list[str], said: dict[str, Any], asked: Callable[..., Request]
) -> None:
    expected = replace(PLAIN, **said)

    assert asked("model.safetensors", "-r", "*.bias=zeros", *args) == expected
    assert asked("run", "-r", "*.bias=zeros", *args, "model.safetensors") == expected


def test_the_table_of_arguments_has_every_option_of_run() -> None:
    given = {arg.partition("=")[0] for args, _ in ARGV.values() for arg in args} | {"-r"}
    options = [each for each in run.params if isinstance(each, click.Option)]
    forgotten = [
        each.name
        for each in options
        if each.name not in OF_THE_COMMAND
        and each.expose_value
        and not given & {*each.opts, *each.secondary_opts}
    ]

    assert forgotten == []


def test_the_command_line_has_an_option_for_every_field() -> None:
    parameters = {each.name for each in run.params if each.expose_value} - OF_THE_COMMAND

    assert {FIELDS.get(str(name), name) for name in parameters} == set(OPTIONS)


def test_an_option_is_called_as_in_recipes() -> None:
    options: dict[str, list[str]] = {}
    for each in run.params:
        if isinstance(each, click.Option) and each.name != "excluded" and not each.hidden:
            options.setdefault(FIELDS.get(str(each.name), str(each.name)), []).extend(each.opts)
    named = {field: option.name for field, option in OPTIONS.items() if option.name}
    del named["source"]  # an argument

    assert [
        name for field, name in named.items() if f"--{name.replace('_', '-')}" not in options[field]
    ] == []


def test_the_table_of_options_has_every_field_in_order() -> None:
    assert list(OPTIONS) == [each.name for each in fields(Request)]


IN_SEVERAL_FORMS = {
    "shard_nbytes",
    "weights",
    "device",
    "optimizer_order",
    "allow_paths",
    "dtype",
    "record",
}
"""The options that Python users may give as what they hold in their hands."""


def test_rewrite_takes_every_field_by_name_with_its_type() -> None:
    request, options = get_type_hints(Request), get_type_hints(RewriteOptions)
    read = get_type_hints(RequestOptions)

    assert read == {name: hint for name, hint in request.items() if name in read}
    assert request.keys() - read.keys() == {"source", "rules", "output", "_"}
    assert {name for name in options if options[name] != read[name]} == IN_SEVERAL_FORMS
    assert get_type_hints(PlanOptions).items() <= options.items()
    assert get_type_hints(PartialRequest).keys() - options.keys() == {
        *("rules", "sources", "seeds", "output"),
    }
    assert get_type_hints(rewrite).keys() == {
        *("source", "rules", "output", "dry_run", "progress", "options", "return"),
    }
    assert get_type_hints(plan).keys() == {"source", "rules", "options", "return"}


def test_an_option_that_is_not_there_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="'sed'"):
        rewrite("model.safetensors", [], sed=3)  # type: ignore[call-arg]


# --- the environment -------------------------------------------------------------------------


def _parameters(name: str) -> list[click.Parameter]:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    return [each for each in command.params if {"-s", "-d", "--stream"} & {*each.opts}]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_seed_stream_and_device_obeys_its_variable(name: str) -> None:
    variables = {
        "--seed": "REINIT_SEED",
        "--stream": "REINIT_STREAM",
        "--device": "REINIT_DEVICE",
    }

    for each in _parameters(name):
        assert each.envvar == variables[each.opts[-1]]


def test_the_command_line_is_over_recipes_and_these_over_the_environment(
    asked: Callable[..., Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("r.toml").write_text('seed = 2\ndevice = "cuda:2"\n[[rule]]\nmatch = "*"\ninit = "ones"')
    monkeypatch.setenv("REINIT_SEED", "1")
    recipe = ["model.safetensors", "-c", "r.toml"]

    assert asked(*recipe, "-s", "3", "-d", "cpu").seed == 3
    assert asked(*recipe, "-s", "3", "-d", "cpu").device == "cpu"
    assert asked(*recipe).seed == 2
    monkeypatch.setenv("REINIT_DEVICE", "mps")
    assert asked(*recipe).device == "cuda:2"
    assert asked(*recipe, "-d", "cuda:3").device == "cuda:3"
    monkeypatch.setenv("REINIT_DEVICE", "auto")
    plain = asked("model.safetensors", "-r", "*=ones")
    assert (plain.seed, plain.device) == (1, "auto")


def test_an_empty_variable_says_nothing(
    asked: Callable[..., Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REINIT_SEED", "")
    monkeypatch.setenv("REINIT_DEVICE", "")
    monkeypatch.setenv("REINIT_STREAM", "")

    assert asked("model.safetensors", "-r", "*.bias=zeros") == PLAIN


def test_a_variable_and_a_recipe_with_an_unknown_stream_are_answered_with_those_there_are(
    reinit: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("r.toml").write_text('stream = "numpy"\nrule = ["*=ones"]\n')
    by_recipe = reinit("m.safetensors", "-c", "r.toml")
    monkeypatch.setenv("REINIT_STREAM", "numpy")
    by_variable = reinit("draw", "ones", "2")

    for done in (by_recipe, by_variable):
        error, hint = done.err.splitlines()
        assert error.endswith("unknown stream 'numpy'")
        assert hint == "hint: a stream is philox or torch"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("REINIT_SEED", "0..4", "'0..4' is not an integer"),
        ("REINIT_SEED", "x", "'x' is not an integer"),
        ("REINIT_STREAM", "torsh", "unknown stream 'torsh'"),
        ("REINIT_STREAM", "torch-2", "stream 'torch-2' is newer than this reinit"),
        ("REINIT_DEVICE", "tpu", "'tpu' is not one of cpu, cuda, cuda:1, mps and auto"),
        ("REINIT_DEVICE", "cuda:99", "device 'cuda:99' is not available (available: cpu)"),
    ],
)
@pytest.mark.parametrize("args", [("m.safetensors", "-r", "*=ones"), ("draw", "ones", "2")])
def test_a_wrong_variable_is_named(
    args: tuple[str, ...],
    name: str,
    value: str,
    problem: str,
    reinit: Callable[..., Done],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    done = reinit(*args)

    assert done.code == 2
    assert done.err.startswith(f"error: environment variable {name}: {problem}")


def test_a_wrong_seed_of_the_command_line_is_its_own() -> None:
    with pytest.raises(click.BadParameter, match="is not a seed"):
        run.make_context("run", ["m.pt", "-s", "x"])


@pytest.mark.parametrize(
    ("args", "seed"), [([], 0), (["-s", "4"], 4), ([], 6)], ids=["default", "option", "variable"]
)
def test_a_model_without_weights_is_built_under_the_seed_that_a_run_uses(
    args: list[str], seed: int, reinit: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oracle is torchvision, under torch's own generator."""
    if seed and not args:
        monkeypatch.setenv("REINIT_SEED", str(seed))
    model = ["squeezenet1_1", "--weights", "none", "--stream", "torch", *args]
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(seed, "squeezenet1_1"))
        built = torchvision.models.squeezenet1_1(weights=None).state_dict()
    key = "features.0.weight"

    shown = reinit("show", model[0], key, *model[1:], "--json")
    reinit(*model, "-x", "*", "-o", "built.safetensors")
    measured = json.loads(reinit("stats", model[0], key, *model[1:], "--json").out)
    compared = reinit("diff", model[0], "built.safetensors", *model[1:])

    assert torch.equal(torch.tensor(json.loads(shown.out)["values"]), built[key])
    assert measured["tensors"][0]["mean"] == pytest.approx(built[key].double().mean().item())
    assert (compared.code, compared.err) == (
        0,
        "from: squeezenet1_1\nto: built.safetensors\ntensors: 52 identical\n",
    )
