"""Options that do not exist, and words that no argument takes."""

from __future__ import annotations

import inspect
import re
import shlex
import shutil
from collections.abc import Callable

import pytest

from reinit_cli.cli import hints
from tests.cli.conftest import Done

INSTEAD = {
    "--sed": "did you mean --seed?",
    "--out": "did you mean --output?",
    "--verb": "did you mean --verbose?",
    "--cofnig": "did you mean --recipe?",
    "--with-bufers": "did you mean --reset-buffers?",
    "--dryrun": "did you mean --dry-run?",
    "--exlude": "did you mean --exclude?",
    "--no-pretrained": "did you mean --weights none?",
    "--no-strct": "did you mean --no-strict?",
    "--no-tensorsonly": "did you mean --no-tensors-only?",
    "--no-such-thing": "reinit run --help lists the options",
    "--pretrained": "did you mean --weights DEFAULT?",
    "--verison": "did you mean reinit --version?",
    "-V": "did you mean reinit --version?",
    "--outfile": "did you mean --output?",
    "--half": "did you mean --dtype float16?",
    "--gpu": "did you mean --device cuda?",
    "--group": "--group is an option of reinit keys",
    "--rtol": "--rtol is an option of reinit diff",
    "--sort": "--sort is an option of reinit keys, stats, diff and show",
    "--include": "did you mean --rule PATTERN=INIT or --only?",
    "--keep": "did you mean --exclude or --only?",
    "--std": "arguments follow their initializer: normal:std=x",
    "--mode": "arguments follow their initializer: kaiming_normal:mode=x",
    "--model": "SOURCE needs no option: reinit [run] SOURCE... -r PATTERN=INIT[:ARGS] [OPTIONS]",
}
"""What a run says of an option that it does not have."""


@pytest.mark.parametrize(("typed", "hint"), INSTEAD.items())
def test_the_option_that_was_meant_is_offered(
    typed: str, hint: str, reinit: Callable[..., Done]
) -> None:
    done = reinit("alexnet", typed, "x")

    said = f"error: there is no option {typed}\nhint: {hint}\n"
    assert (done.code, done.out, done.err) == (2, "", said)


INSTEAD_OF = {
    "keys m.pt -n 5": "did you mean --head?",
    "stats m.pt --limit 5": "did you mean --head?",
    "show m.pt '*' --tail 5": "did you mean --head with --reverse?",
    "keys m.pt --filter 'fc.*'": (
        "PATTERN needs no option: reinit keys SOURCE [PATTERN]... [OPTIONS]"
    ),
    "keys m.pt --format json": "did you mean --json?",
    "keys m.pt --cuda": "reinit keys --help lists the options",
    "diff a.pt b.pt --brief": "did you mean --quiet or --stat?",
    "draw normal --shape 3,5": "SHAPE needs no option: reinit draw INIT SHAPE [OPTIONS]",
    "draw normal 3,5 --std=2": "arguments follow their initializer: normal:std=2",
    "draw normal 3,5 -n": "-n is an option of reinit run",
}
"""What other commands say, which offer no option that they lack."""


@pytest.mark.parametrize(("typed", "hint"), INSTEAD_OF.items())
def test_a_command_offers_its_own_options_and_arguments(
    typed: str, hint: str, reinit: Callable[..., Done]
) -> None:
    done = reinit(*shlex.split(typed))

    assert (done.code, done.err.splitlines()[1]) == (2, f"hint: {hint}")


def test_a_run_of_one_process_that_is_to_go_on_is_told_how(reinit: Callable[..., Done]) -> None:
    done = reinit("alexnet", "-r", "*.bias=zeros", "--resume")

    said = (
        "error: --resume is for an output that several ranks write\n"
        "hint: --skip-existing makes only the outputs that are missing\n"
    )
    assert (done.code, done.out, done.err) == (2, "", said)


@pytest.mark.parametrize(
    "typed",
    ["--forc", "--forced", "--froce", "--in-plac", "--inplace", "--overwrite", "--zzz", "--verify"],
)
def test_nothing_is_offered_that_destroys_or_is_far_away(
    typed: str, reinit: Callable[..., Done]
) -> None:
    done = reinit("alexnet", typed)

    assert done.err.splitlines() == [
        f"error: there is no option {typed}",
        "hint: reinit run --help lists the options",
    ]


WRONG = {
    "dimensions apart": (
        ["draw", "normal", "3", "5"],
        "unexpected argument '5'",
        "write the shape as 3,5",
    ),
    "the shape first": (
        ["draw", "3,5", "normal", "--seed", "2"],
        "the initializer comes before the shape '3,5'",
        "did you mean: reinit draw normal 3,5 --seed 2?",
    ),
    "a shape alone": (
        ["draw", "3,5"],
        "missing INIT",
        "did you mean: reinit draw normal:std=0.02 3,5?",
    ),
    "an argument apart": (
        ["draw", "normal:mean=1", "std=2", "3,5"],
        "'std=2' is an argument of the initializer, not a shape",
        "did you mean: reinit draw normal:mean=1,std=2 3,5?",
    ),
    "too few dimensions to draw": (
        ["draw", "xavier_normal", "5"],
        "xavier_normal:gain=1.0 cannot fill 'weight': 1-D (fans need at least 2 dimensions)",
        "reinit inits xavier_normal shows what it can fill",
    ),
    "a key of another model": (
        ["draw", "default", "10,512", "--arch", "resnet18"],
        "default cannot fill 'weight': resnet18 has no such key",
        "name one of its keys, such as --key fc.weight",
    ),
    "too small a number": (
        ["keys", "m.pt", "--head", "0"],
        "invalid value for '--head': it must be at least 1, not 0",
        "reinit keys -h shows how",
    ),
    "a distance that is none": (
        ["diff", "a.pt", "b.pt", "--rtol", "nan"],
        "invalid value for '--rtol': it must be at least 0, not nan",
        "reinit diff -h shows how",
    ),
    "a distance in words": (
        ["diff", "a.pt", "b.pt", "--atol", "small"],
        "invalid value for '--atol': 'small' is not a valid number",
        "reinit diff -h shows how",
    ),
    "one too many": (
        ["draw", "normal", "3", "b"],
        "unexpected argument 'b'",
        "write it as reinit draw INIT SHAPE [OPTIONS]",
    ),
    "one too few": (
        ["diff", "a.pt"],
        "missing B",
        "write it as reinit diff A B [PATTERN]... [OPTIONS]",
    ),
    "none of several words": (
        ["completion"],
        "missing shell: bash, zsh or fish",
        "reinit completion bash",
    ),
    "a value that is missing": (
        ["alexnet", "-r"],
        "option '-r' requires an argument",
        "write it as -r PATTERN=INIT[:ARGS]",
    ),
    "a format by its name": (
        ["model.safetensors", "--to", "safetensors"],
        "invalid value for '--to': 'safetensors' is not 'dcp'",
        "the suffix of -o chooses another format, such as -o new.safetensors or -o new.pt",
    ),
    "a run of nothing": (
        ["run"],
        "missing SOURCE...",
        "write it as reinit [run] SOURCE... -r PATTERN=INIT[:ARGS] [OPTIONS]",
    ),
}


@pytest.mark.parametrize(("args", "problem", "hint"), WRONG.values(), ids=WRONG)
def test_words_that_do_not_fit_are_answered_with_those_that_do(
    args: list[str], problem: str, hint: str, reinit: Callable[..., Done]
) -> None:
    done = reinit(*args)

    assert (done.code, done.out, done.err) == (2, "", f"error: {problem}\nhint: {hint}\n")


@pytest.mark.usefixtures("checkpoint")
@pytest.mark.parametrize(
    "typed", ["keys {}", "stats {} -q", "{} -r '*.bias=zeros'", "diff model.safetensors {}"]
)
def test_a_file_with_a_hyphen_in_front_is_answered_with_a_name_that_is_no_option(
    typed: str, reinit: Callable[..., Done]
) -> None:
    shutil.copy("model.safetensors", "-lead.safetensors")
    done = reinit(*shlex.split(typed.format("-lead.safetensors")))

    meant = typed.format("./-lead.safetensors")
    said = ["error: '-lead.safetensors' is taken for an option", f"hint: type: reinit {meant}"]
    assert (done.code, done.err.splitlines()) == (2, said)
    assert reinit(*shlex.split(meant)).code == 0


def test_no_hint_proposes_what_replaces_files() -> None:
    said = inspect.getsource(hints).replace("--force-reinstall", "")

    assert not re.findall(r"--force|--in-place", said)


@pytest.mark.usefixtures("checkpoint")
@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["keys", "model.safetensors"], 0),
        (["keys", "model.safetensors", "norm.*", "--tree"], 0),
        (["stats", "model.safetensors"], 0),
        (["stats", "model.safetensors", "--fail-nan"], 0),
        (["diff", "model.safetensors", "model.safetensors"], 0),
    ],
    ids=lambda args: " ".join(args) if isinstance(args, list) else "",
)
def test_quiet_prints_nothing_but_json(
    args: list[str], code: int, reinit: Callable[..., Done]
) -> None:
    assert reinit(*args, "-q") == Done(code, "", "")
    assert reinit(*args, "-q", "--json").out == reinit(*args, "--json").out != ""


@pytest.mark.usefixtures("checkpoint")
@pytest.mark.parametrize("part", ["0:3", ":,0", "...,-1", "0,:,:2", "[0:3]"])
def test_a_slice_that_is_a_word_of_its_own_is_named(part: str, reinit: Callable[..., Done]) -> None:
    done = reinit("show", "model.safetensors", "norm.weight", part)

    meant = part.strip("[]")
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [
        f"error: {part!r} is a slice, not a key",
        f"hint: did you mean: reinit show model.safetensors norm.weight --slice {meant}?",
    ]
