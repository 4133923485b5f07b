"""`reinit SOURCE`: every option reaches the library, and the report says what was done."""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from reinit_cli.streams.stream import seed_for
from tests.cli.conftest import Done


def test_the_chosen_tensors_are_drawn_and_the_rest_is_as_it_was(
    reinit: Callable[..., Done], checkpoint: Path
) -> None:
    before = load_file(checkpoint)

    done = reinit(
        "model.safetensors",
        "-r",
        "features.*.weight=xavier_uniform:relu",
        "-s",
        "5",
        "--stream=torch",
    )

    after = load_file("model-reinit.safetensors")
    generator = torch.Generator().manual_seed(seed_for(5, "features.0.weight"))
    expected = torch.nn.init.xavier_uniform_(
        torch.empty(8, 3, 5, 5), gain=2**0.5, generator=generator
    )
    assert done.code == 0
    assert torch.equal(after.pop("features.0.weight"), expected)
    assert all(torch.equal(after[key], before[key]) for key in after)
    with safe_open("model-reinit.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "author": "somebody"}


def test_the_report_in_a_pipe_is_tab_separated_and_whole(
    reinit: Callable[..., Done], checkpoint: Path
) -> None:
    done = reinit(
        "model.safetensors",
        *("-r", "*=kaiming_normal:relu,fan_out"),
        *("-r", "classifier.*=normal:std=0.02"),
        *("-r", "norm.{weight,bias}=ones"),
        *("-x", "classifier.bias"),
        "--dry-run",
        "--stream=torch",
    )

    assert done.code == 0
    assert done.out == (
        "pattern\tinitializer\ttensors\tparameters\tbytes\texpected std min\texpected std max\t"
        "std after min\tstd after max\tnotes\n"
        "*\tkaiming_normal fan_out relu (gain 1.414)\t1\t600\t2400\t0.1\t0.1\t\t\t"
        "2 skipped: a running statistic; "
        "1 skipped: 1-D (fans need at least 2 dimensions); 3 taken by later rules\n"
        "classifier.*\tnormal mean=0 std=0.02\t1\t80\t160\t0.02\t0.02\t\t\t1 taken by later rules\n"
        "norm.{weight,bias}\tones\t1\t8\t32\t0.0\t0.0\t\t\t1 of 2 names not found\n"
        "classifier.bias\tkeep\t1\t10\t20\t\t\t\t\t\n"
    )
    assert done.err == (
        "warning: 'norm.weight' is filled, but the running statistics next to it stay; "
        "--reset-buffers resets these\n"
        "unchanged: 4 tensors, 18 parameters, 9 in buffers, 92 B\n"
        "total: 7 tensors, 706 parameters, 9 in buffers, 2.7 kB\n"
        "seed: 0 (stream torch-1)\n"
        "device: cpu\n"
        "source: model.safetensors\n"
        "would write: model-reinit.safetensors\n"
    )
    assert os.listdir() == ["model.safetensors"]


def test_a_dry_run_says_what_the_run_says_but_for_what_only_a_draw_can_tell(
    reinit: Callable[..., Done], checkpoint: Path
) -> None:
    args = ("model.safetensors", "-r", "*.weight=normal:std=0.5,min_ndim=2", "--json")
    planned = json.loads(reinit(*args, "--dry-run").out)
    done = json.loads(reinit(*args).out)

    assert planned.pop("dry_run") is True
    assert done.pop("dry_run") is False
    assert done.pop("seconds") >= 0
    assert done.pop("output")["nbytes"] == Path("model-reinit.safetensors").stat().st_size
    assert planned.pop("output") == {"path": "model-reinit.safetensors", "nbytes": None}
    measured = [step.pop("after", None) for step in done["tensors"]]
    assert planned == done
    assert [
        step["key"] for step, after in zip(done["tensors"], measured, strict=True) if after
    ] == [
        "features.0.weight",
        "classifier.weight",
    ]


def test_json_has_a_version_and_all_that_is_known_of_a_tensor(
    reinit: Callable[..., Done], checkpoint: Path
) -> None:
    done = json.loads(
        reinit(
            "model.safetensors",
            "-r",
            "features.*=xavier_uniform:relu",
            "--json",
            "-v",
            "--stream=torch",
        ).out
    )

    step = next(step for step in done["tensors"] if step["key"] == "features.0.weight")
    original = load_file(checkpoint)["features.0.weight"]
    written = load_file("model-reinit.safetensors")["features.0.weight"]
    assert (done["version"], done["stream"], done["seed"], done["device"]) == (
        1,
        "torch-1",
        0,
        "cpu",
    )
    assert done["rule"] == [{"match": "features.*", "init": "xavier_uniform", "gain": "relu"}]
    assert (step["fan_in"], step["fan_out"], step["gain"]) == (75, 200, 2**0.5)
    assert step["seed"] == seed_for(0, "features.0.weight")
    assert step["law"]["high"] == pytest.approx(2**0.5 * (6 / 275) ** 0.5)
    for name, tensor in (("before", original), ("after", written)):
        assert step[name] == {
            "mean": pytest.approx(tensor.mean().item(), rel=1e-4),
            "std": pytest.approx(tensor.std(correction=0).item(), rel=1e-5),
            "min": tensor.min().item(),
            "max": tensor.max().item(),
        }


@pytest.mark.parametrize(
    ("init", "laws"),
    [("orthogonal", {"orthogonal": 2}), ("block:parts=2,inner=orthogonal", {"orthogonal": 2})],
)
def test_a_plan_names_the_versions_of_its_laws_as_a_record_does(
    init: str, laws: dict[str, int], reinit: Callable[..., Done], checkpoint: Path
) -> None:
    command = ["model.safetensors", "-r", f"classifier.weight={init}", "-o", "out.safetensors"]
    planned = json.loads(reinit(*command, "--json", "--dry-run").out)

    done = json.loads(reinit(*command, "--json", "--record").out)

    with safe_open("out.safetensors", "pt") as file:
        recorded = json.loads(file.metadata()["reinit"])
    assert planned["laws"] == done["laws"] == recorded["laws"] == laws
    Path("plan.json").write_text(json.dumps(planned))
    assert reinit("-c", "plan.json", "--force").code == 0


def test_a_plan_of_laws_that_never_changed_names_no_version(
    reinit: Callable[..., Done], checkpoint: Path
) -> None:
    plan = json.loads(reinit(str(checkpoint), "-r", "features.*=normal", "--json", "-n").out)

    assert "laws" not in plan


def test_verbose_has_a_row_for_each_owned_tensor(
    reinit: Callable[..., Done], checkpoint: Path
) -> None:
    done = reinit("model.safetensors", "-r", "features.*=xavier_uniform:relu", "-v", "-n")

    header, skipped, filled = (line.split("\t") for line in done.out.splitlines())
    assert header == [
        *("key", "action", "shape", "dtype", "fan_in", "fan_out", "gain", "bound"),
        *("expected std", "std before", "std after", "check"),
    ]
    assert skipped == ["features.0.bias", "skip", "8", "float32", *[""] * 8]
    assert filled[:6] == ["features.0.weight", "fill", "8x3x5x5", "float32", "75", "200"]
    gain, std = math.sqrt(2), math.sqrt(2) * math.sqrt(2 / (75 + 200))
    assert list(map(float, filled[6:9])) == pytest.approx([gain, math.sqrt(3) * std, std])
    assert filled[9:] == ["", "", ""]


def test_tensors_whose_fans_differ_have_a_range_of_standard_deviations(
    reinit: Callable[..., Done],
) -> None:
    save_file({"a.weight": torch.zeros(8, 50), "b.weight": torch.zeros(8, 200)}, "m.safetensors")

    done = reinit("m.safetensors", "-r", "*.weight=lecun_normal")

    header, row = (line.split("\t") for line in done.out.splitlines())
    found = dict(zip(header, row, strict=True))
    assert float(found["expected std min"]) == pytest.approx(1 / math.sqrt(200))
    assert float(found["expected std max"]) == pytest.approx(1 / math.sqrt(50))
    stds = [each.std(correction=0).item() for each in load_file("m-reinit.safetensors").values()]
    assert float(found["std after min"]) == pytest.approx(min(stds), rel=1e-5)
    assert float(found["std after max"]) == pytest.approx(max(stds), rel=1e-5)


def test_what_was_not_drawn_has_a_standard_deviation_after_and_none_that_is_expected(
    reinit: Callable[..., Done],
) -> None:
    save_file({"a": torch.tensor([1.0, 3.0]), "b": torch.tensor([1.0, 5.0])}, "m.safetensors")

    done = reinit("m.safetensors", "-r", "*=scale:2")

    header, row = (line.split("\t") for line in done.out.splitlines())
    found = dict(zip(header, row, strict=True))
    assert found["expected std min"] == found["expected std max"] == ""
    assert (found["std after min"], found["std after max"]) == ("2.0", "4.0")


def test_quiet_says_nothing(reinit: Callable[..., Done], checkpoint: Path) -> None:
    assert reinit("model.safetensors", "-r", "*.weight=normal", "-q") == Done(0, "", "")


def test_warnings_go_to_stderr(reinit: Callable[..., Done], checkpoint: Path) -> None:
    done = reinit("model.safetensors", "-r", "*.weight=normal:std=1", "-n")

    assert (done.code, done.err.splitlines(keepends=True)[0]) == (
        0,
        "warning: rule '*.weight=normal:std=1' draws 1-dimensional weights, which are usually "
        "scales of normalizations: 'norm.weight'; min_ndim=2 leaves them out\n",
    )


def test_a_checkpoint_on_standard_output_owns_it(
    checkpoint: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    from reinit_cli.cli import main

    assert main(["model.safetensors", "-r", "*.bias=zeros", "-q"]) == 0
    code = main(["model.safetensors", "-r", "*.bias=zeros", "-o", "-", "--json"])

    out, err = capfdbinary.readouterr()
    assert code == 0
    assert out == Path("model-reinit.safetensors").read_bytes()
    assert json.loads(err)["output"] == {"path": None, "nbytes": len(out)}


def test_in_place_replaces_the_source(reinit: Callable[..., Done], checkpoint: Path) -> None:
    checkpoint.chmod(0o640)

    done = reinit("model.safetensors", "-r", "*.bias=zeros", "--in-place")

    assert done.code == 0
    assert not load_file(checkpoint)["features.0.bias"].any()
    assert (os.listdir(), checkpoint.stat().st_mode & 0o777) == (["model.safetensors"], 0o640)


def test_a_second_run_in_place_is_refused(reinit: Callable[..., Done], checkpoint: Path) -> None:
    before = checkpoint.read_bytes()
    with checkpoint.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)

        done = reinit("model.safetensors", "-r", "*.bias=zeros", "--in-place")

    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [
        "error: cannot replace 'model.safetensors': another run is replacing it",
        "hint: try again when the other run has finished",
    ]
    assert (os.listdir(), checkpoint.read_bytes()) == (["model.safetensors"], before)


def test_a_link_is_not_replaced_in_place(reinit: Callable[..., Done], checkpoint: Path) -> None:
    before = checkpoint.read_bytes()
    Path("link.safetensors").symlink_to("model.safetensors")

    done = reinit("link.safetensors", "-r", "*.bias=zeros", "--in-place")

    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [
        "error: cannot replace 'link.safetensors': it is a link to 'model.safetensors'",
        "hint: name the file itself: model.safetensors",
    ]
    assert checkpoint.read_bytes() == before
    assert Path("link.safetensors").is_symlink()


def test_other_names_of_a_file_that_is_replaced_are_warned_of(
    reinit: Callable[..., Done], checkpoint: Path
) -> None:
    before = checkpoint.read_bytes()
    os.link(checkpoint, "second.safetensors")

    done = reinit("model.safetensors", "-r", "*.bias=zeros", "--in-place")

    assert done.code == 0
    said = "'model.safetensors' has 1 other name (hard links), which keeps the old content"
    assert done.err.splitlines()[0] == f"warning: {said}"
    assert Path("second.safetensors").read_bytes() == before


def test_force_replaces_an_output(reinit: Callable[..., Done], checkpoint: Path) -> None:
    Path("out.safetensors").write_text("old")

    assert (
        reinit("model.safetensors", "-r", "*.bias=zeros", "-o", "out.safetensors", "-f").code == 0
    )
    assert not load_file("out.safetensors")["features.0.bias"].any()


def test_a_plan_as_json_counts_parameters_and_buffers(
    reinit: Callable[..., Done], checkpoint: Path
) -> None:
    args = ("model.safetensors", "-r", "classifier.*=zeros")
    planned = json.loads(reinit(*args, "-n", "--json").out)

    state = load_file(checkpoint)
    buffers = {"norm.running_mean", "norm.num_batches_tracked"}
    assert planned["total"] == {
        "tensors": len(state),
        "parameters": sum(each.numel() for key, each in state.items() if key not in buffers),
        "buffers": sum(state[key].numel() for key in buffers),
        "nbytes": sum(each.nbytes for each in state.values()),
    }
    assert planned["total"]["parameters"] - planned["unchanged"]["parameters"] == 90
    Path("plan.json").write_text(json.dumps(planned))
    assert reinit("model.safetensors", "-c", "plan.json", "-o", "new.safetensors").code == 0
