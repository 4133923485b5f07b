"""A tensor has the same bytes however many threads, cores, files and other tensors there are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import reinit_cli
from reinit_cli.initializers import REGISTRY

# `default` fills as others do, `mean` fills new rows, and `keep` fills nothing.
EXAMPLES = {
    each.name: each.example for each in REGISTRY if each.name not in ("keep", "default", "mean")
}
MATRICES = ("eye", "sparse", "orthogonal")


def _state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.empty(shape).normal_(generator=generator)

    plain = {
        f"layers.3.{name}": drawn(48, 24) if name in MATRICES else drawn(48, 24, 3)
        for name in EXAMPLES
    }
    # Shapes whose factors differed between counts of threads when they were in float32.
    large = {"large.0": drawn(64, 32, 3, 3), "large.1": drawn(256, 128), "large.2": drawn(100, 300)}
    return {**plain, **large, "rows": drawn(300, 200), "untouched": drawn(5)}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one checkpoint in several forms."""
    folder = tmp_path_factory.mktemp("sources")
    state = _state()
    save_file(state, folder / "plain.safetensors")
    save_file({"first": torch.zeros(9), **state}, folder / "with_another.safetensors")
    save_file({"layers.3.rewind": torch.ones(48, 24, 3)}, folder / "step0.safetensors")
    torch.save(dict(reversed(state.items())), folder / "reversed.pt")
    return folder


RULES = {f"*.{name}": init for name, init in EXAMPLES.items()} | {"large.*": "orthogonal"}


def _reinit(sources: Path, out: Path, environment: Mapping[str, str], *args: str) -> Path:
    """Run the command in a process of its own."""
    rules = [word for key, init in RULES.items() for word in ("-r", f"{key}={init}")]
    threads = ("OMP", "MKL", "PYTHONHASHSEED")
    env = {name: each for name, each in os.environ.items() if not name.startswith(threads)}
    env |= {"PYTHONPATH": str(Path(reinit_cli.__file__).parents[1]), **environment}
    command = [sys.executable, "-m", "reinit_cli", *args, *rules]
    command += ["--resize", "rows=333:mean", "--seed", "7", "-o", str(out), "-q"]
    done = subprocess.run(
        command, cwd=sources, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return out


def _digests(*files: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in files:
        is_torch = file.suffix == ".pt"
        state = torch.load(file, weights_only=True) if is_torch else load_file(file)
        found |= {key: sha256(each.numpy().tobytes()).hexdigest() for key, each in state.items()}
    return {key: digest for key, digest in found.items() if key != "first"}


@pytest.fixture(scope="module")
def expected(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of a run with one thread."""
    out = tmp_path_factory.mktemp("expected") / "out.safetensors"
    once = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    return _digests(_reinit(sources, out, once, "plain.safetensors"))


def _two_at_a_time(sources: Path, out: Path) -> None:
    environment = {"OMP_NUM_THREADS": "4", "PYTHONHASHSEED": "1"}
    names = ("plain.safetensors", "with_another.safetensors")
    _reinit(sources, out, environment, *names, "--jobs", "2")


def _reversed_as_torch(sources: Path, out: Path) -> None:
    environment = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "4"}
    _reinit(sources, out / "out.pt", environment, "reversed.pt")


def _in_shards(sources: Path, out: Path) -> None:
    """As many threads as the system thinks fit, for which a BLAS once waited for ever."""
    environment = {"OMP_DYNAMIC": "TRUE"}
    _reinit(sources, out, environment, "plain.safetensors", "--shard-size", "200kB")


def _on_one_core(sources: Path, out: Path) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [min(before)])
    try:
        environment = {"MKL_DYNAMIC": "FALSE"}
        _reinit(sources, out / "out.safetensors", environment, "with_another.safetensors")
    finally:
        os.sched_setaffinity(0, before)


RUNS = [_two_at_a_time, _reversed_as_torch, _in_shards]
if hasattr(os, "sched_setaffinity"):
    RUNS.append(_on_one_core)


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.__name__.strip("_"))
def test_every_initializer_draws_the_same_bytes(
    run: Callable[[Path, Path], None],
    sources: Path,
    expected: dict[str, str],
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    if run is not _in_shards:
        out.mkdir()

    run(sources, out)

    files = sorted(each for each in out.iterdir() if each.suffix != ".json")
    of_one_run = [[each] for each in files] if run is _two_at_a_time else [files]
    assert [_digests(*each) for each in of_one_run] == [expected] * len(of_one_run)
    assert len(files) > 1 or run not in (_two_at_a_time, _in_shards)


def test_every_initializer_draws_something(expected: dict[str, str]) -> None:
    before = {key: sha256(each.numpy().tobytes()).hexdigest() for key, each in _state().items()}

    assert [key for key in before if expected[key] == before[key]] == ["untouched"]
