"""philox-1 gives the same bits on every processor, with every numpy, whatever its caller has set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reinit_cli.streams.philox.chance import PhiloxChance
from tests.streams.elsewhere import aarch64, installed, numpy_for_aarch64
from tests.streams.kinds_of_draws import digests, kernels
from tests.tools import tool

ROOT = Path(__file__).parents[2]
SCRIPT = str(Path(__file__).parent / "kinds_of_draws.py")


def drawn_by(
    *python: str, setting: dict[str, str] | None = None, path: Sequence[Path] = ()
) -> dict[str, Any]:
    """Return what an interpreter prints for all kinds of draws."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("NPY_")},
        "PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT))),
        "PYTHONDONTWRITEBYTECODE": "1",
        **(setting or {}),
    }
    run = subprocess.run(
        [*(python or (sys.executable, "-W", "error")), SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture(scope="session")
def expected() -> dict[str, str]:
    """The digests here, whose values the vectors of test_philox hold."""
    return digests()


# --- kernels of numpy -----------------------------------------------------------------------


@pytest.mark.parametrize("left", [0, 1, 2])
def test_kernels_of_numpy_change_nothing(expected: dict[str, str], left: int) -> None:
    """Without any, and with those for older processors alone: SSE, then AVX2."""
    features = kernels()
    if left >= len(features):
        pytest.skip("this processor has fewer kinds of kernels")

    drawn = drawn_by(setting={"NPY_DISABLE_CPU_FEATURES": " ".join(features[left:])})

    assert drawn["kernels"] == features[:left]
    assert drawn["digests"] == expected


# --- what the caller of a process has set ---------------------------------------------------


def test_errors_of_numpy_that_the_caller_raises_change_nothing(expected: dict[str, str]) -> None:
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")

        assert digests() == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1e-310, 1e-44, 1e-40, 1e-30, 1e30, 1e38])
def test_numbers_at_the_ends_of_a_dtype_raise_nothing(dtype: type, size: float) -> None:
    draws: list[Callable[[PhiloxChance, np.ndarray], None]] = [
        lambda chance, out: chance.normal(out, 0.0, size),
        lambda chance, out: chance.uniform(out, -size, size),
        lambda chance, out: chance.uniform(out, 0.0, size),
        lambda chance, out: chance.truncated(out, 0.0, size, -2 * size, 2 * size),
        lambda chance, out: chance.truncated(out, 0.0, 1.0, 0.0, size),
    ]
    for draw in draws:
        quiet, strict = np.empty((2, 1000), dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            draw(PhiloxChance(7), quiet)
            with np.errstate(all="raise"):
                draw(PhiloxChance(7), strict)

        assert strict.tobytes() == quiet.tobytes()
        assert np.isfinite(quiet).any()


def test_flushed_denormals_change_nothing(expected: dict[str, str]) -> None:
    """A caller may have asked torch for it, which sets the processor of this thread."""
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormals")
    try:
        assert np.float32(1e-38) * np.float32(0.5) == 0, "denormals are not flushed"
        drawn = digests()
    finally:
        torch.set_flush_denormal(False)

    assert drawn == expected


@pytest.fixture
def threads_of_torch() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads_of_torch")
def test_threads_of_torch_and_its_defaults_change_nothing(expected: dict[str, str]) -> None:
    torch.set_num_threads(3)
    torch.set_default_dtype(torch.float64)
    try:
        with ThreadPoolExecutor(2) as threads:
            drawn = list(threads.map(lambda _: digests(), range(2)))
    finally:
        torch.set_default_dtype(torch.float32)

    assert drawn == [expected, expected]


def test_legacy_printing_of_numpy_changes_nothing(expected: dict[str, str]) -> None:
    with np.printoptions(precision=1, legacy="1.13"):
        assert digests() == expected


# --- other settings of a process ------------------------------------------------------------

SETTINGS = {
    "seeds of hashes": {"PYTHONHASHSEED": "1"},
    "threads": {"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3", "MKL_NUM_THREADS": "3"},
    "a locale": {"LC_ALL": "tr_TR.UTF-8", "LC_NUMERIC": "de_DE.UTF-8"},
    "optimized Python": {"PYTHONOPTIMIZE": "2"},
    "memory by malloc": {"PYTHONMALLOC": "malloc", "MALLOC_PERTURB_": "170"},
}


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=list(SETTINGS))
def test_settings_of_a_process_change_nothing(
    expected: dict[str, str], setting: dict[str, str]
) -> None:
    assert drawn_by(setting=setting)["digests"] == expected


def test_processors_that_a_process_may_use_change_nothing(expected: dict[str, str]) -> None:
    taskset = tool("taskset")

    drawn = drawn_by(taskset, "--cpu-list", str(min(os.sched_getaffinity(0))), sys.executable)

    assert drawn["digests"] == expected


# --- other versions of numpy, other kinds of processors -------------------------------------


def lowest_numpy() -> str:
    """Return the lowest version that pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (requirement,) = (each for each in project["dependencies"] if each.startswith("numpy"))
    return requirement.removeprefix("numpy>=")


@pytest.mark.slow
@pytest.mark.parametrize("version", [f"numpy=={lowest_numpy()}.*", "numpy==2.0.*", "numpy"])
def test_versions_of_numpy_change_nothing(
    expected: dict[str, str], tmp_path: Path, version: str
) -> None:
    """The lowest, that which changed the promotion of Python's numbers, and the newest."""
    drawn = drawn_by(path=[installed(version, tmp_path)])

    assert drawn["numpy"].startswith(version.partition("==")[2].rstrip("*"))
    assert drawn["digests"] == expected


@pytest.mark.slow
def test_another_kind_of_processor_changes_nothing(
    expected: dict[str, str], tmp_path: Path
) -> None:
    """AArch64, emulated: Debian's Python and numpy's published wheel with its NEON kernels."""
    python, home = aarch64()

    drawn = drawn_by(*python, setting=home, path=[numpy_for_aarch64(tmp_path)])

    assert drawn["machine"] == "aarch64"
    assert drawn["digests"] == expected
