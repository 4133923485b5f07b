"""A package that cannot be imported is named in one line; a bug stays a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from reinit_cli.cli.broken import broken_package

BROKEN = {
    "a library is missing": (
        "raise ImportError('libtorch_cpu.so: cannot open shared object file')",
        "error: torch cannot be imported: libtorch_cpu.so: cannot open shared object file",
    ),
    "a library is missing for ctypes": (
        "import ctypes; ctypes.CDLL('/nowhere/libcudart.so.12')",
        "error: torch cannot be imported: /nowhere/libcudart.so.12: "
        "cannot open shared object file: No such file or directory",
    ),
    "a part of it is missing": (
        "import torch._C",
        "error: torch cannot be imported: No module named 'torch._C'",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("package", ["torch", "numpy"])
@pytest.mark.parametrize(("code", "said"), BROKEN.values(), ids=BROKEN)
def test_a_library_that_cannot_be_imported_is_named_in_one_line(
    code: str, said: str, package: str
) -> None:
    code, said = code.replace("torch.", f"{package}."), said.replace("torch ", f"{package} ")
    said = said.replace("torch._C", f"{package}._C")
    Path(f"broken/{package}").mkdir(parents=True)
    Path(f"broken/{package}/__init__.py").write_text(code)
    stream = "torch" if package == "torch" else "philox"
    path = os.pathsep.join(["broken", str(Path(__file__).parents[2])])

    done = subprocess.run(
        [sys.executable, "-m", "reinit_cli", "draw", "zeros", "3", "--stream", stream],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        said,
        f"hint: install it again: pip install --force-reinstall {package}",
    ]


def test_an_error_that_no_import_raised_is_another() -> None:
    for call in (lambda: os.stat("nowhere"), lambda: __import__("reinit_cli.nowhere")):
        try:
            call()
        except (ImportError, OSError) as error:
            assert broken_package(error) is None  # noqa: PT017  both are caught alike
        else:
            pytest.fail("it raised nothing")


@pytest.mark.parametrize("files", range(6, 11))
def test_too_few_open_files_are_one_error(files: int) -> None:
    """Whichever file is one too many, a checkpoint or a module."""
    save_file({"a": torch.ones(3)}, "model.safetensors")
    run = [sys.executable, "-m", "reinit_cli", "model.safetensors", "-r", "a=normal", "-q"]

    done = subprocess.run(
        ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh", *run, "-o", "new.safetensors"],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    if done.returncode:
        assert done.returncode == 2
        assert [line[:7] for line in done.stderr.splitlines() if line[:5] != "hint:"] == ["error: "]
        assert os.listdir() == ["model.safetensors"]
