"""`--report FILE` of run, stats and diff."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools import needs_safetensors

RULES = ("-r", "*.weight=xavier_uniform", "-r", "*.bias=zeros")


def test_a_run_writes_its_page_beside_the_checkpoint(reinit, checkpoint) -> None:
    done = reinit("model.safetensors", *RULES, "--report", "r.html")

    page = Path("r.html").read_text()
    assert (done.code, "jinja2" in done.err) == (0, False)
    assert Path("model-reinit.safetensors").exists()
    assert "<h1>model.safetensors</h1>" in page
    assert page.count("<figure") == 4
    assert page.count('<path class="expected" d="M') == 8  # 2 weights, 4 tensors, and 2 legends
    assert "took" not in page


def test_the_same_command_in_another_folder_gives_the_same_page(
    reinit, checkpoint, tmp_path
) -> None:
    reinit("model.safetensors", *RULES, "--report", "r.html")
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "model.safetensors").write_bytes(checkpoint.read_bytes())

    source, output = other / "model.safetensors", other / "model-reinit.safetensors"
    reinit(str(source), *RULES, "-o", str(output), "--report", str(other / "r.html"))

    assert (other / "r.html").read_bytes() == Path("r.html").read_bytes()
    assert str(tmp_path) not in Path("r.html").read_text()


def test_a_report_changes_no_byte_of_the_checkpoint(reinit, checkpoint) -> None:
    reinit("model.safetensors", *RULES, "-o", "one.safetensors")
    reinit("model.safetensors", *RULES, "-o", "two.safetensors", "--report", "r.html")

    assert Path("one.safetensors").read_bytes() == Path("two.safetensors").read_bytes()


@pytest.mark.parametrize(("name", "start"), [("r.svg", b"<?xml"), ("r.PNG", b"\x89PNG")])
def test_a_report_is_a_figure_by_its_suffix(reinit, checkpoint, name, start) -> None:
    done = reinit("model.safetensors", *RULES, "--report", name, "-q")

    assert (done.code, done.out) == (0, "")
    assert Path(name).read_bytes().startswith(start)


def test_statistics_have_a_page(reinit, checkpoint) -> None:
    plain = reinit("stats", "model.safetensors")
    done = reinit("stats", "model.safetensors", "--report", "r.html")

    page = Path("r.html").read_text()
    assert (done.code, done.out) == (0, plain.out)
    assert page.count("<figure") == 7
    assert "<h1>model.safetensors</h1>" in page


def test_json_of_statistics_is_the_same_with_a_page(reinit, checkpoint) -> None:
    plain = reinit("stats", "model.safetensors", "--json")

    done = reinit("stats", "model.safetensors", "--json", "--report", "r.html")

    assert done.out == plain.out


def test_a_difference_has_a_page(reinit, checkpoint) -> None:
    reinit("model.safetensors", "-r", "*.weight=xavier_uniform")

    done = reinit("diff", "model.safetensors", "model-reinit.safetensors", "--report", "r.html")

    page = Path("r.html").read_text()
    assert done.code == 1
    assert page.count("<figure") == 2
    assert page.count('class="before" d=') == 2
    assert "<h1>model.safetensors → model-reinit.safetensors</h1>" in page


REFUSED = {
    "no kind": (
        "r.pdf",
        "error: cannot write 'r.pdf': its suffix does not name a kind of report; "
        "use one of .html, .svg, .png\n",
    ),
    "there already": (
        "old.html",
        "error: 'old.html' already exists\nhint: name another with --report (reinit run -h "
        "shows how to overwrite)\n",
    ),
    "a file as a folder": (
        "old.html/r.html",
        "error: cannot write 'old.html/r.html': 'old.html' is not a folder\n",
    ),
}


@pytest.mark.parametrize(("name", "said"), REFUSED.values(), ids=REFUSED)
def test_a_report_is_refused_before_a_byte_is_written(reinit, checkpoint, name, said) -> None:
    Path("old.html").write_text("mine")

    done = reinit("model.safetensors", *RULES, "--report", name)

    assert (done.code, done.out) == (2, "")
    assert done.err == said
    assert not Path("model-reinit.safetensors").exists()
    assert Path("old.html").read_text() == "mine"


@pytest.mark.parametrize("command", ["run", "stats", "diff"])
def test_the_folders_above_a_report_are_made(reinit, checkpoint, command) -> None:
    args = {"run": RULES, "stats": [], "diff": ["model.safetensors"]}[command]

    assert reinit(command, "model.safetensors", *args, "--report", "x/y/r.html").code == 0

    assert Path("x/y/r.html").read_text().startswith("<!DOCTYPE html>")


def test_an_old_report_is_replaced_with_force(reinit, checkpoint) -> None:
    Path("r.html").write_text("mine")

    assert reinit("model.safetensors", *RULES, "--report", "r.html", "--force").code == 0
    assert Path("r.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("command", ["run", "stats", "diff"])
def test_a_report_never_takes_the_place_of_a_checkpoint(reinit, checkpoint, command) -> None:
    Path("model.html").write_bytes(checkpoint.read_bytes())
    args = {
        "run": ["model.html", *RULES, "-o", "new.safetensors"],
        "stats": ["model.html"],
        "diff": ["model.safetensors", "model.html"],
    }

    done = reinit(command, *args[command], "--report", "./model.html", "--force")

    assert (done.code, done.err) == (
        2,
        "error: the report './model.html' would take the place of a checkpoint\n"
        "hint: name another file with --report\n",
    )
    assert Path("model.html").read_bytes() == checkpoint.read_bytes()


def test_a_report_in_the_place_of_the_output_is_refused(reinit, checkpoint) -> None:
    Path("m.html").write_bytes(checkpoint.read_bytes())

    done = reinit("m.html", *RULES, "-o", "new.html", "--report", "new.html")

    assert done.code == 2
    assert "would take the place of a checkpoint" in done.err
    assert not Path("new.html").exists()


def test_a_figure_of_no_difference_is_empty(reinit, checkpoint) -> None:
    done = reinit("diff", "model.safetensors", "model.safetensors", "--report", "r.svg")

    assert done.code == 0
    assert Path("r.svg").read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize(("name", "package"), [("r.html", "jinja2"), ("r.png", "matplotlib")])
def test_a_missing_package_is_told_with_the_command_to_install_it(
    reinit, checkpoint, monkeypatch, name, package
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "reinit_cli.cli.render.file.find_spec", lambda each: None if each == package else find(each)
    )

    done = reinit("model.safetensors", *RULES, "--report", name)

    assert (done.code, done.out, done.err) == (
        2,
        "",
        f"error: a {Path(name).suffix} report needs {package}, which is not installed\n"
        f"hint: pip install {package}\n",
    )
    assert not Path("model-reinit.safetensors").exists()


def test_a_dry_run_has_no_report(reinit, checkpoint) -> None:
    done = reinit("model.safetensors", *RULES, "-n", "--report", "r.html")

    assert done.code == 2
    assert done.err.startswith(
        "error: --report shows what was drawn, and a dry run draws nothing\n"
    )


def test_a_figure_of_nothing_is_refused(reinit, checkpoint) -> None:
    done = reinit("model.safetensors", "-o", "m.pt", "--report", "r.png")

    assert (done.code, done.err) == (
        2,
        "error: cannot write 'r.png': there is no tensor to draw a picture of\n",
    )
    assert not Path("m.pt").exists()


def test_a_check_that_fails_writes_no_report(reinit, checkpoint, monkeypatch) -> None:
    monkeypatch.setattr(
        "reinit_cli.initializers.law.Uniform.fill", lambda _, values, __: values.fill(9.0)
    )

    done = reinit("model.safetensors", *RULES, "--check", "--report", "r.html")

    assert done.code == 1
    assert not Path("r.html").exists()


def test_a_model_of_hostile_values_has_a_page(reinit) -> None:
    needs_safetensors("complex64")
    import torch
    from safetensors.torch import save_file

    state = {
        "nan.weight": torch.full((20, 20), float("nan")),
        "mixed.weight": torch.tensor([[float("inf"), 1.0], [float("-inf"), float("nan")]]),
        "empty.weight": torch.empty(0, 3),
        "huge.weight": torch.full((9, 9), 3e38) * torch.randn(9, 9).sign(),
        "tiny.weight": torch.randn(9, 9) * 1e-40,
        "e.weight": torch.randn(9, 9).to(torch.float8_e4m3fn),
        "c.bias": torch.randn(9, dtype=torch.complex64),
        "i.bias": torch.arange(9),
        "extreme.weight": torch.tensor([[-1.7e308, 1.7e308]], dtype=torch.float64),
        "least.weight": torch.tensor([[0.0, 5e-324]], dtype=torch.float64),
        "same.weight": torch.full((1, 2), 1.7e308, dtype=torch.float64),
    }
    save_file(state, "m.safetensors")
    rules = ("-r", "*.weight=orthogonal", "-r", "*.bias=ones", "-r", "i.bias=zeros")

    done = reinit("m.safetensors", *rules, "-r", "empty.*=zeros", "--report", "r.html", "--check")
    assert (done.code, "jinja2" in done.err) == (0, False)

    for name in ("s.html", "s.png"):
        assert reinit("stats", "m.safetensors", "--report", name).code == 0
    assert reinit("diff", "m.safetensors", "m-reinit.safetensors", "--report", "d.svg").code == 1
    assert "NaN" in Path("s.html").read_text()


def test_a_report_of_several_rewrites_is_refused(reinit, checkpoint) -> None:
    options = ("-r", "*.bias=zeros", "-o", "out/", "--seed", "0,1", "--report", "r.html")

    done = reinit("run", "model.safetensors", *options)

    assert done.code == 2
    assert done.err.startswith("error: --report shows one rewrite; give it one source and one seed")
    assert not Path("out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [{"HOME": "/proc/none"}, {"MPLCONFIGDIR": "/proc/none"}, {"XDG_CACHE_HOME": "/proc/none"}],
    ids=str,
)
def test_a_figure_needs_no_home(environment, checkpoint, tmp_path) -> None:
    """matplotlib warns where it cannot keep its cache of fonts, and leaves a folder behind."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    paths = {"PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(scratch)}
    inherited = {name: each for name, each in os.environ.items() if name != "MPLCONFIGDIR"}

    done = subprocess.run(
        [sys.executable, "-m", "reinit_cli", "stats", "model.safetensors", "--report", "s.svg"],
        env=inherited | paths | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )

    assert done.stderr.splitlines() == ["total: 7 tensors"]
    assert Path("s.svg").read_text().startswith("<?xml")
    assert list(scratch.iterdir()) == []
