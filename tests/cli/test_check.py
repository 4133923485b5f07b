"""`reinit run --check`: did it work?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reinit_cli.initializers.law import Uniform


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every uniform is drawn a tenth too wide."""

    def fill(self, values, chance):
        chance.uniform(values, 1.1 * self.low, 1.1 * self.high)

    monkeypatch.setattr(Uniform, "fill", fill)


def test_a_check_that_passes_is_told(reinit, checkpoint) -> None:
    done = reinit("model.safetensors", "-r", "*.weight=xavier_uniform", "--check")

    assert done.code == 0
    # One tensor of 600 elements with three statistics and a bound; one of 80 with its bound.
    assert "check: 5 statistical tests passed (threshold p = 3.3e-10)\n" in done.err


def test_the_verdict_on_each_tensor_is_a_column(reinit, checkpoint) -> None:
    done = reinit(
        "model.safetensors", "-r", "*.weight=xavier_uniform", "-r", "*.bias=zeros", "--check", "-v"
    )

    rows = {row[0]: row[-1] for row in (line.split("\t") for line in done.out.splitlines())}
    assert rows["key"] == "check"
    assert rows["features.0.weight"] == "passed: bound, mean, std, distribution"
    assert rows["classifier.weight"] == "passed: bound"
    assert rows["features.0.bias"] == "passed: value"
    assert rows["norm.weight"] == ""


def test_json_has_every_test(reinit, checkpoint) -> None:
    done = reinit("model.safetensors", "-r", "features.0.weight=normal", "--check", "--json")

    form = json.loads(done.out)
    (tensor,) = (each for each in form["tensors"] if each["action"] == "fill")
    assert form["check"] == {"least_p": pytest.approx(1e-9 / 3), "statistics": 3}
    assert tensor["check"]["passed"] is True
    mean, std, distribution = tensor["check"]["tests"]
    assert mean == {
        "test": "mean",
        "statistic": tensor["after"]["mean"],
        "expected": 0.0,
        "p": mean["p"],
        "passed": True,
    }
    assert (std["test"], std["expected"], std["passed"]) == ("std", 1.0, True)
    assert 0 < distribution["statistic"] < 0.1


def test_without_a_check_nothing_is_said_of_it(reinit, checkpoint) -> None:
    done = reinit("model.safetensors", "-r", "features.0.weight=normal", "--json")

    form = json.loads(done.out)
    assert form["check"] is None
    assert not any("check" in tensor for tensor in form["tensors"])


def test_a_dry_run_says_what_would_be_tested(reinit, checkpoint) -> None:
    done = reinit("model.safetensors", "-r", "*.weight=xavier_uniform", "--check", "-n")

    assert done.code == 0
    assert "check: 3 statistical tests (threshold p = 3.3e-10)\n" in done.err


@pytest.mark.usefixtures("broken")
def test_a_failure_writes_nothing_and_exits_1(reinit, checkpoint) -> None:
    done = reinit(
        "model.safetensors", "-r", "*.weight=uniform:a=-1,b=1,min_ndim=2", "--check", "-v"
    )

    assert done.code == 1
    assert (
        "\nerror: 'features.0.weight' does not follow uniform:a=-1.0,b=1.0,min_ndim=2: its bound is "
    ) in done.err
    assert " where 1 was expected; " in done.err or " where -1 was expected; " in done.err
    assert done.err.endswith(
        " more tests failed\nhint: nothing was written; try another --seed, or leave out --check\n"
    )
    assert "failed: bound" in done.out
    assert "output: model-reinit.safetensors (not written: the check failed)\n" in done.err
    assert not Path("model-reinit.safetensors").exists()


@pytest.mark.usefixtures("broken")
def test_a_failure_is_told_to_programs(reinit, checkpoint) -> None:
    done = reinit("model.safetensors", "-r", "features.0.weight=uniform", "--check", "--json")

    form = json.loads(done.out)
    assert done.code == 1
    assert form["output"] == {"path": "model-reinit.safetensors", "nbytes": None}
    assert [each["check"]["passed"] for each in form["tensors"] if "check" in each] == [False]


def test_a_stream_is_refused(reinit, checkpoint) -> None:
    done = reinit("model.safetensors", "-r", "*.bias=zeros", "--check", "-o", "-")

    assert (done.code, done.out, done.err) == (
        2,
        "",
        "error: --check cannot be used with -o -\n"
        "hint: name a file with -o, and write it out when it has passed: cat FILE\n",
    )


@pytest.mark.parametrize(("options", "code"), [((), 1), (("--keep-going",), 3)])
def test_a_check_that_fails_in_a_batch_is_a_failure_of_that_input(
    options, code, reinit, checkpoint, broken
) -> None:
    Path("other.safetensors").write_bytes(checkpoint.read_bytes())

    done = reinit(
        *("run", "model.safetensors", "other.safetensors", "--check", "-o", "out/", *options),
        *("-r", "features.0.weight=xavier_uniform"),
    )

    assert done.code == code
    assert "'features.0.weight' does not follow xavier_uniform" in done.err
    assert not Path("out").exists()
    assert f"0 of 2 done, {1 if code == 1 else 2} failed" in done.err
