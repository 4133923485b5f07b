"""What a stranger packs next to a checkpoint: no file of the working folder is obeyed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from safetensors import _safetensors_rust
from safetensors.torch import save_file

ROOT = str(Path(__file__).parents[2])
REINIT = (sys.executable, "-m", "reinit_cli")


def _run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": ROOT, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def _trap(name: str) -> None:
    """Write a module that leaves a trace when it is imported."""
    sprung = Path("sprung").absolute()
    Path(name).write_text(f"open({str(sprung)!r}, 'a').write({name!r} + chr(10))\n")


def _sprung() -> list[str]:
    return Path("sprung").read_text().split() if Path("sprung").exists() else []


def _dependencies() -> set[str]:
    """Return the top-level modules of this project's dependencies, and of theirs."""
    waiting, seen = ["torch", "torchvision", "click", "rich", "jinja2", "matplotlib"], set()
    modules = set(waiting) | {"safetensors", "isal"}
    while waiting:
        name = waiting.pop()
        try:
            found = distribution(name)
        except ModuleNotFoundError:
            continue  # it is for another platform
        seen.add(name)
        modules |= {file.parts[0].removesuffix(".py") for file in found.files or ()}
        named = {Requirement(text).name for text in found.requires or () if "extra ==" not in text}
        waiting += named - seen
    return {module for module in modules if module.isidentifier()}


@pytest.fixture
def folder_of_traps(tmp_path: Path) -> None:
    """Fill the working folder with a module of every name, but those that Python has loaded.

    The interpreter imports a few of its own before any module of a package, such as functools.
    """
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing" / "__main__.py").write_text("import sys; print(*sys.modules)")
    loaded = _run(sys.executable, "-m", "nothing", PYTHONPATH=str(tmp_path)).stdout.split()
    for name in {*sys.stdlib_module_names, *_dependencies()} - {*loaded, "reinit_cli"}:
        _trap(f"{name}.py")
    _trap("plugin.py")
    Path("plugin-1.0.dist-info").mkdir()
    Path("plugin-1.0.dist-info/METADATA").write_text("Name: plugin\nVersion: 1.0\n")
    Path("plugin-1.0.dist-info/entry_points.txt").write_text(
        "[reinit.initializers]\nplugin = plugin:initializer\n"
    )
    save_file({"a.weight": torch.ones(4, 4)}, "m.safetensors")


_FACTS = ("unchanged", "total", "seed", "device", "source", "output", "took")


def _strange(err: str) -> list[str]:
    """Return the lines of standard error that are not facts of a report in a pipe."""
    return [line for line in err.splitlines() if line.partition(":")[0] not in _FACTS]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["keys", "m.safetensors"],
        ["inits", "normal"],
        ["completion", "bash", "--line", "reinit run m.safetensors -r a."],
        pytest.param(["stats", "m.safetensors"], marks=pytest.mark.slow),
        pytest.param(["m.safetensors", "-r", "*=normal"], marks=pytest.mark.slow),
        pytest.param(
            ["m.safetensors", "-r", "*=normal", "--report", "r.svg"], marks=pytest.mark.slow
        ),
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("folder_of_traps")
def test_no_module_of_the_working_folder_runs(arguments: list[str]) -> None:
    done = _run(*REINIT, *arguments)

    assert (done.returncode, _strange(done.stderr), _sprung()) == (0, [], [])


@pytest.mark.parametrize("named", [["-mreinit_cli"], ["-Bm", "reinit_cli.__main__"]], ids=" ".join)
@pytest.mark.usefixtures("folder_of_traps")
def test_no_module_runs_however_ours_is_named(named: list[str]) -> None:
    done = _run(sys.executable, *named, "keys", "m.safetensors")

    assert (done.returncode, done.stdout, _sprung()) == (0, "a.weight\n", [])


@pytest.mark.usefixtures("folder_of_traps")
def test_no_module_runs_through_the_installed_command(tmp_path: Path) -> None:
    script = tmp_path / "reinit"
    script.write_text("import sys\nfrom reinit_cli.__main__ import entry\nsys.exit(entry())\n")

    done = _run(sys.executable, str(script), "keys", "m.safetensors")

    assert (done.returncode, done.stdout, _sprung()) == (0, "a.weight\n", [])


def test_a_folder_that_the_user_names_stays_on_the_path() -> None:
    _trap("click.py")

    _run(*REINIT, "--version", PYTHONPATH=f"{ROOT}:{os.getcwd()}")

    assert "click.py" in _sprung()


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-P", "-m", "reinit_cli"],
        ["env", "PYTHONSAFEPATH=1", *REINIT],
        ["sh", "-c", 'mkdir gone; cd gone; rmdir ../gone; exec "$0" "$@"', *REINIT],
    ],
    ids=["-P", "PYTHONSAFEPATH", "a folder that was removed"],
)
def test_nothing_is_taken_off_a_path_without_the_working_folder(
    tmp_path: Path, command: list[str]
) -> None:
    _trap(str(tmp_path / "click.py"))

    _run(*command, "--version", PYTHONPATH=f"{tmp_path}:{ROOT}")

    assert _sprung() == [str(tmp_path / "click.py")]


@pytest.mark.slow
def test_no_library_of_the_working_folder_is_loaded(tmp_path: Path) -> None:
    save_file({"a.weight": torch.ones(4, 4)}, "m.safetensors")
    # Any library will do; where there is a driver, torch finds that first.
    shutil.copy(_safetensors_rust.__file__, "libcuda.so.1")

    told = {"LD_DEBUG": "files", "LD_DEBUG_OUTPUT": str(tmp_path / "loader")}
    done = _run(*REINIT, "m.safetensors", "-r", "*=zeros", "--stream", "torch", **told)

    loaded = "".join(path.read_text() for path in tmp_path.glob("loader*"))
    assert (done.returncode, _strange(done.stderr)) == (0, [])
    assert sys.platform != "linux" or re.search(r"calling init: /.*/libtorch_python\.so", loaded)
    assert not re.search(r"calling init: (?!/)", loaded)


@pytest.mark.slow
def test_no_style_of_the_working_folder_changes_a_report() -> None:
    save_file({"a.weight": torch.ones(4, 4)}, "m.safetensors")
    plain = _run(*REINIT, "stats", "m.safetensors", "--report", "plain.svg")
    Path("matplotlibrc").write_text("axes.facecolor: red\nlines.linewidth: 9\nunknown: 1\n")

    styled = _run(*REINIT, "stats", "m.safetensors", "--report", "styled.svg")

    assert (_strange(plain.stderr), _strange(styled.stderr)) == ([], [])
    assert Path("styled.svg").read_bytes() == Path("plain.svg").read_bytes()


@pytest.mark.parametrize(
    "args",
    [
        ("-r", "a*=zeros", "-o", "new.safetensors"),
        ("-r", "a*=zeros", "-s", "0..1", "-o", "{seed}.pt", "--json"),
    ],
)
def test_a_working_folder_that_was_removed_is_one_error(args: tuple[str, ...]) -> None:
    save_file({"a": torch.ones(3)}, "model.safetensors")
    source = Path("model.safetensors").absolute()
    Path("gone").mkdir()
    inside = 'cd gone && rmdir ../gone && exec "$@"'

    done = _run("sh", "-c", inside, "sh", *REINIT, str(source), *args)
    absolute = ("-r", "a*=zeros", "-o", str(source.with_name("new.safetensors")), "-q")
    Path("gone").mkdir()
    other = _run("sh", "-c", inside, "sh", *REINIT, str(source), *absolute)

    assert (done.returncode, done.stdout) == (2, "")
    assert "the working folder no longer exists" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == (1 if "--json" in args else 2)
    assert (other.returncode, other.stderr) == (0, "")
    assert Path("new.safetensors").exists()
