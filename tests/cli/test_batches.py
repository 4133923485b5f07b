"""Several inputs on a command line: names, failures, counts, forms, signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from reinit_cli.operations import rewrite
from tests.cli.conftest import Done
from tests.cli.test_process import REINIT, SLOW_INITIALIZER

RULE = ["-r", "*.weight=normal:std=0.5"]


@pytest.fixture
def files() -> None:
    for name in ("a", "b", "c"):
        save_file(
            {"x.weight": torch.zeros(30, 20), "x.bias": torch.ones(30)}, f"{name}.safetensors"
        )


def test_several_inputs_are_one_table(reinit: Callable[..., Done], files: None) -> None:
    done = reinit("a.safetensors", "b.safetensors", *RULE, "-o", "out/")

    assert (done.code, done.out) == (
        0,
        "source\tseed\tresult\ttensors\tparameters\tbytes\toutput\tnotes\n"
        "a.safetensors\t0\tdone\t1\t600\t2400\tout/a.safetensors\t\n"
        "b.safetensors\t0\tdone\t1\t600\t2400\tout/b.safetensors\t\n",
    )
    assert _without_time(done.err) == [
        "rule: *.weight = normal mean=0 std=0.5",
        "seed: 0 (stream philox-1)",
        "device: cpu",
        "total: 2 outputs, 5.3 kB",
        "2 of 2 done",
    ]


def _without_time(err: str) -> list[str]:
    lines = err.splitlines()
    assert sum(re.fullmatch(r"took: [0-9.]+ s", line) is not None for line in lines) == 1
    return [line for line in lines if not line.startswith("took: ")]


def test_a_seed_of_several_makes_an_output_each(reinit: Callable[..., Done], files: None) -> None:
    done = reinit("a.safetensors", *RULE, "--seed", "0..1,5")

    assert (done.code, done.err.splitlines()[-1]) == (0, "3 of 3 done")
    drawn = {seed: load_file(f"a-reinit-seed{seed}.safetensors")["x.weight"] for seed in (0, 1, 5)}
    reinit("a.safetensors", *RULE, "--seed", "5")
    assert torch.equal(drawn[5], load_file("a-reinit.safetensors")["x.weight"])
    assert not torch.equal(drawn[0], drawn[1])


def test_what_fails_is_told_and_counted_with_keep_going(
    reinit: Callable[..., Done], files: None
) -> None:
    Path("bad\x1b.pt").write_bytes(b"junk")

    done = reinit("a.safetensors", "bad\x1b.pt", "nope.pt", *RULE, "-o", "out/", "--keep-going")

    assert done.code == 3
    assert os.listdir("out") == ["a.safetensors"]
    assert _without_time(done.err) == [
        r"error: 'bad\x1b.pt' is plain text ('junk'), not a checkpoint",
        "hint: the download failed, or is not complete; fetch it again",
        "error: no such file: 'nope.pt'",
        r"hint: there are a.safetensors, b.safetensors, bad\x1b.pt and 1 more",
        "rule: *.weight = normal mean=0 std=0.5",
        "seed: 0 (stream philox-1)",
        "device: cpu",
        "total: 1 output, 2.7 kB",
        "1 of 3 done, 2 failed",
    ]
    assert "\x1b" not in done.err + done.out
    bad = done.out.splitlines()[2]
    assert bad.startswith(r"bad\x1b.pt" + "\t0\tfailed\t\t\t\t\t'bad")


def test_without_keep_going_nothing_is_written_where_a_plan_fails(
    reinit: Callable[..., Done], files: None
) -> None:
    done = reinit("a.safetensors", "b.safetensors", "-r", "x.wieght=zeros", "-o", "out/")

    assert done == Done(
        2,
        "",
        "error: a.safetensors: rule 'x.wieght=zeros' matches no key of a.safetensors\n"
        "hint: did you mean -r x.weight=zeros?\n",
    )
    assert not os.path.exists("out")


def test_a_failure_in_the_middle_says_how_many_are_there(
    reinit: Callable[..., Done], files: None, monkeypatch: pytest.MonkeyPatch
) -> None:

    execute = rewrite.execute

    def meddling(job: rewrite.Job, *args: object, **options: object) -> rewrite.Outcome:
        Path("b.safetensors").touch()
        return execute(job, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(rewrite, "execute", meddling)
    done = reinit("a.safetensors", "b.safetensors", "c.safetensors", *RULE, "-o", "out/", "-q")

    assert done == Done(
        2,
        "",
        "1 of 3 done, 1 failed\n"
        "error: 'b.safetensors' changed while it was being read; nothing was written\n",
    )
    assert os.listdir("out") == ["a.safetensors"]


def test_json_is_a_line_each(reinit: Callable[..., Done], files: None) -> None:
    done = reinit("a.safetensors", "nope.pt", *RULE, "-s", "3", "--keep-going", "--json")

    first, second = map(json.loads, done.out.splitlines())
    assert (first["version"], first["seed"], first["source"]["name"]) == (1, 3, "a.safetensors")
    assert first["output"]["path"] == "a-reinit.safetensors"
    assert second == {
        "version": 1,
        "seed": 3,
        "source": {"name": "nope.pt"},
        "error": "no such file: 'nope.pt'",
    }
    assert done.err.splitlines()[-1] == "1 of 2 done, 1 failed"


def test_a_dry_run_prints_every_plan_and_writes_nothing(
    reinit: Callable[..., Done], files: None
) -> None:
    done = reinit("a.safetensors", "b.safetensors", *RULE, "-o", "out/", "-n")

    assert done.code == 0
    rows = [line.split("\t") for line in done.out.splitlines()[1:]]
    assert [(row[2], row[6]) for row in rows] == [
        ("planned", f"out/{name}.safetensors") for name in "ab"
    ]
    assert done.err.endswith("would write: 2 outputs\n2 of 2 planned\n")
    assert sorted(os.listdir()) == [f"{name}.safetensors" for name in "abc"]


def test_a_warning_of_several_inputs_is_told_once(
    reinit: Callable[..., Done],
) -> None:
    for name in "ab":
        save_file({"norm.weight": torch.zeros(3), "x": torch.zeros(2, 2)}, f"{name}.safetensors")

    done = reinit("a.safetensors", "b.safetensors", "-r", "*=normal:std=1")

    first, *_, last = done.err.splitlines()
    assert (first, last) == (
        "warning: a.safetensors and 1 more: rule '*=normal:std=1' draws 1-dimensional weights, "
        "which are usually scales of normalizations: 'norm.weight'; min_ndim=2 leaves them out",
        "2 of 2 done",
    )


@pytest.mark.parametrize(
    ("args", "error", "hint"),
    [
        (
            ["a.safetensors", "./a.safetensors", *RULE],
            "'a.safetensors' and './a.safetensors' would both be written to "
            "'./a-reinit.safetensors'",
            "name them apart, such as -o '{parent}/{stem}-new{suffix}'",
        ),
        (
            ["a.safetensors", *RULE, "-s", "0..1", "-o", "x.pt"],
            "'a.safetensors' with seed 0 and 'a.safetensors' with seed 1 would both be written to "
            "'x.pt'",
            "name them apart, such as -o '{stem}-seed{seed}{suffix}'",
        ),
        (
            ["a.safetensors", "a.safetensors", *RULE, "-o", "out/"],
            "'a.safetensors' with seed 0 is asked for twice",
            "name it once",
        ),
        (
            ["a.safetensors", *RULE, "-s", "3,3"],
            "'a.safetensors' with seed 3 is asked for twice",
            "name it once",
        ),
        (
            ["a.safetensors", *RULE, "-o", "{sed}.pt"],
            "output '{sed}.pt': there is no placeholder '{sed}'; there is {stem}, {suffix}, "
            "{name}, {parent}, {seed}",
            "did you mean {seed}?",
        ),
        (
            ["a.safetensors", *RULE, "-s", "0-4"],
            "invalid value for '-s' / '--seed': '0-4' is not a seed; use N, N..M or N,M",
            "reinit run -h shows how",
        ),
        (
            ["-", *RULE, "--files-from", "-"],
            "standard input is read once, and SOURCE and --files-from ask for it",
            "reinit run -h shows how",
        ),
        (
            ["a.safetensors", *RULE, "-0"],
            "-0 says how the list of --files-from ends its lines",
            "reinit run -h shows how",
        ),
        (
            ["a.safetensors", "-c", "recipe.tml"],
            "recipe 'recipe.tml': no such file or directory",
            "did you mean recipe.toml?",
        ),
        (
            ["a.safetensors", "-c", "recipe.toml"],
            "recipe 'recipe.toml': unknown field 'sed'",
            "did you mean seed?",
        ),
    ],
)
def test_what_is_wrong_with_the_whole_is_told(
    args: list[str], error: str, hint: str, reinit: Callable[..., Done], files: None
) -> None:
    Path("recipe.toml").write_text("sed = 3")

    assert reinit(*args) == Done(2, "", f"error: {error}\nhint: {hint}\n")
    assert sorted(os.listdir()) == [*(f"{name}.safetensors" for name in "abc"), "recipe.toml"]


def test_a_list_that_names_nothing_is_no_error(
    reinit: Callable[..., Done],
) -> None:
    Path("list").touch()

    assert reinit("--files-from", "list", *RULE) == Done(
        0, "", "warning: 'list' names no file\n0 of 0 done\n"
    )


def test_a_recipe_is_under_the_command_line_and_over_the_environment(
    reinit: Callable[..., Done], files: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seed_of(*args: str) -> int:
        seed: int = json.loads(reinit("a.safetensors", *args, *RULE, "-n", "--json").out)["seed"]
        return seed

    Path("r.toml").write_text("seed = 2")
    monkeypatch.setenv("REINIT_SEED", "1")

    assert seed_of("-c", "r.toml", "-s", "3") == 3
    assert seed_of("-c", "r.toml") == 2
    assert seed_of() == 1
    monkeypatch.delenv("REINIT_SEED")
    assert seed_of() == 0


def test_rules_of_the_command_line_come_after_the_recipe_s(
    reinit: Callable[..., Done], files: None
) -> None:
    Path("r.toml").write_text('[[rule]]\nmatch = "*"\ninit = "zeros"\n')

    reinit("a.safetensors", "-c", "r.toml", "-r", "x.bias=constant:5")

    written = load_file("a-reinit.safetensors")
    assert (written["x.bias"] == 5).all()
    assert not written["x.weight"].any()


def test_a_flag_of_a_recipe_can_be_unset(reinit: Callable[..., Done], files: None) -> None:
    Path("r.toml").write_text("strict = true")
    rule = ["-r", "*=xavier_uniform", "-n"]

    assert reinit("a.safetensors", "-c", "r.toml", *rule).code == 2
    assert reinit("a.safetensors", "-c", "r.toml", "--no-strict", *rule).code == 0


def test_a_variable_that_is_wrong_is_named(
    reinit: Callable[..., Done], files: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REINIT_DEVICE", "cuda:99")

    done = reinit("a.safetensors", *RULE)
    drawn = reinit("draw", "ones", "2", "-d", "cpu")

    assert done.code == 2
    assert done.err.startswith(
        "error: environment variable REINIT_DEVICE: device 'cuda:99' is not available (available: cpu)"
    )
    assert drawn.code == 0


def test_draw_obeys_the_environment(
    reinit: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = json.loads(reinit("draw", "normal", "3", "-s", "7", "--json").out)
    monkeypatch.setenv("REINIT_SEED", "7")

    assert json.loads(reinit("draw", "normal", "3", "--json").out) == asked


PLANS = {
    "safetensors": ["a.safetensors", *RULE, "-x", "x.bias", "-s", "7"],
    "another format": ["a.safetensors", *RULE, "-o", "new.pt", "--dtype", "bfloat16"],
    "numbers that JSON has not": ["a.safetensors", "-r", "x.*=constant:nan"],
    "nested": ["t.pt", "-r", "*.weight=orthogonal"],
    "another root": ["t.pt", "-r", "*.weight=orthogonal", "--root", "ema"],
    "the whole as root": ["w.pt", "-r", "w=sparse:0.1", "--root", "."],
    "legacy": ["l.pt", *RULE],
    "loss": ["t.pt", *RULE, "-o", "new.safetensors", "--tensors-only"],
    "a folder": ["folder", *RULE],
    "shards": ["a.safetensors", *RULE, "--shard-size", "2kB", "-o", "new"],
    "an allowed idle rule": ["a.safetensors", *RULE, "-r", "y=zeros", "--allow-unmatched"],
    "a name with braces": ["a.safetensors", *RULE, "-o", "{{x}}.safetensors"],
    "a model": ["squeezenet1_1", "--weights", "none", "-r", "classifier.1.*=normal:std=0.1"],
}


def _written(before: set[str]) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in Path().rglob("*")
        if path.is_file() and str(path) not in before
    }


@pytest.mark.parametrize("args", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("when", ["planned", "done"])
def test_a_plan_does_the_same_job(
    args: list[str], when: str, reinit: Callable[..., Done], files: None
) -> None:
    state = {"x.weight": torch.ones(30, 20)}
    torch.save({"state_dict": state, "ema": {"x.weight": torch.zeros(30, 20)}, "step": 3}, "t.pt")
    torch.save({"w": torch.ones(30, 20), "state_dict": state}, "w.pt")
    torch.save(state, "l.pt", _use_new_zipfile_serialization=False)
    os.mkdir("folder")
    save_file(state, "folder/model.safetensors")
    Path("folder/config.json").write_text("{}")
    before = {str(path) for path in Path().rglob("*")} | {"plan.json"}
    plan = reinit(*args, "--json", *(["-n"] if when == "planned" else []))
    if when == "planned":
        assert _written(before) == {}
        assert reinit(*args).code == 0
    expected = _written(before)
    for path in expected:
        os.unlink(path)
    for folder in ("folder-reinit", "new"):
        if os.path.isdir(folder):
            os.rmdir(folder)
    Path("plan.json").write_text(plan.out)

    done = reinit("-c", "plan.json")

    assert (done.code, expected) == (0, _written(before)), done.err
    assert expected


def test_a_plan_does_to_another_source_what_it_did_to_its_own(
    reinit: Callable[..., Done], files: None
) -> None:
    plan = reinit("a.safetensors", *RULE, "-s", "4", "-o", "x.pt", "-n", "--json").out
    Path("plan.json").write_text(plan)

    reinit("b.safetensors", "-c", "plan.json")
    reinit("c.safetensors", *RULE, "-s", "4")

    assert sorted(os.listdir())[2:4] == ["b.safetensors", "c-reinit.safetensors"]
    assert torch.equal(
        load_file("b-reinit.safetensors")["x.weight"], load_file("c-reinit.safetensors")["x.weight"]
    )


def test_a_plan_of_several_inputs_is_no_recipe(reinit: Callable[..., Done], files: None) -> None:
    plans = reinit("a.safetensors", "b.safetensors", *RULE, "-n", "--json").out
    Path("plans.json").write_text(plans)

    assert reinit("-c", "plans.json") == Done(
        2,
        "",
        "error: recipe 'plans.json': it holds several plans, one in each line, and a recipe is "
        "one\n",
    )


def test_a_form_names_the_output_of_one_input_too(reinit: Callable[..., Done], files: None) -> None:
    assert reinit("a.safetensors", *RULE, "-o", "new/{stem}-{seed}.pt", "-s", "3").code == 0
    assert os.listdir("new") == ["a-3.pt"]


def _shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line.replace("reinit ", f"{' '.join(REINIT)} ")],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )


@pytest.mark.slow
def test_a_list_comes_through_a_pipe_with_any_names(files: None) -> None:
    os.mkdir("dir")
    for name in ("a b.safetensors", "line\nfeed.safetensors", "-dash.safetensors"):
        Path("dir", name).write_bytes(Path("a.safetensors").read_bytes())

    done = _shell(
        "find dir -name '*.safetensors' -print0 | "
        "reinit --files-from - -0 -r '*=zeros' -o out/ -j 2 -q"
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(os.listdir("out")) == sorted(os.listdir("dir"))


@pytest.mark.slow
def test_a_recipe_comes_through_a_pipe(files: None) -> None:
    done = _shell(
        "reinit a.safetensors -r '*=ones' -n --json | reinit b.safetensors -c - -q && "
        "reinit c.safetensors -c <(reinit a.safetensors -r '*=ones' -n --json) -q"
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert load_file("b-reinit.safetensors")["x.weight"].all()
    assert Path("b-reinit.safetensors").read_bytes() == Path("c-reinit.safetensors").read_bytes()


@pytest.mark.slow
def test_a_checkpoint_goes_through_a_shell_with_clean_output(files: None) -> None:
    done = _shell(
        "cat a.safetensors | reinit - -r '*=ones' -o - 2>report | cat > piped.safetensors"
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert load_file("piped.safetensors")["x.weight"].all()
    assert Path("report").read_text().startswith("pattern\t")
    stopped = _shell("cat a.safetensors | reinit - -r '*=ones' -o - -q | head -c 3 | wc -c")
    assert (stopped.stdout.strip(), stopped.stderr) == ("3", "")


@pytest.mark.slow
def test_standard_input_can_be_drawn_with_several_seeds(files: None) -> None:
    done = _shell(
        "cat a.safetensors | reinit - -r '*.weight=normal' -s 0..1 -o '{seed}.safetensors'"
    )

    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "2 of 2 done")
    assert load_file("1.safetensors")["x.weight"].any()


@pytest.mark.slow
@pytest.mark.parametrize("at_once", ["1", "2"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_batch_keeps_what_is_whole(
    at_once: str, number: signal.Signals, code: int
) -> None:
    save_file({"0": torch.zeros(0)}, "quick.safetensors")
    for name in ("slow", "slower"):
        save_file({f"{at}": torch.zeros(5) for at in range(600)}, f"{name}.safetensors")
    with subprocess.Popen(
        [
            *(sys.executable, "-c", SLOW_INITIALIZER, "quick.safetensors", "slow.safetensors"),
            *("slower.safetensors", "-r", "*=slow", "-o", "out/", "-j", at_once),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        while not os.path.exists("out/quick.safetensors"):
            process.stdout.readline()
        process.stdout.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)

    assert process.returncode == code
    assert os.listdir("out") == ["quick.safetensors"]
    assert err.decode().splitlines()[0] == "1 of 3 done"
    assert b"source" not in out
