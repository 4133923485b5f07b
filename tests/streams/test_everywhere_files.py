"""philox-1 writes the same files whatever the process, its settings, and the layout of the source."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import click
import numpy as np
import pytest
import rich
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reinit_cli import rewrite
from reinit_cli.cli import main
from tests.streams.elsewhere import aarch64, numpy_for_aarch64
from tests.streams.kinds_of_draws import kernels
from tests.tools import tool

ROOT = Path(__file__).parents[2]

LAWS = {
    "uniform": "uniform:-0.1,0.1",
    "normal": "normal:std=0.02",
    "trunc_normal": "trunc_normal:std=0.02,a=-0.04,b=0.04",
    "far": "trunc_normal:a=3,b=4",
    "xavier_uniform": "xavier_uniform",
    "kaiming_normal": "kaiming_normal:relu",
    "lecun_normal": "lecun_normal",
    "block": "block:parts=3,inner=xavier_uniform",
    "scale": "scale:0.5",
    "clamp": "clamp:min=-1,max=1",
    "sparse": "sparse:0.1",
    "orthogonal": "orthogonal",
    "shuffle": "shuffle",
    "noise": "noise:std=0.01",
    "relative": "noise:relative=0.1",
    "resample": "resample",
    "identity": "identity:std=0.01",
}
"""What the keys of a name are filled with."""

DTYPES = {
    "f32": torch.float32,
    "f64": torch.float64,
    "bf16": torch.bfloat16,
    "f16": torch.float16,
    "f8": torch.float8_e4m3fn,
}


def rules(laws: Mapping[str, str]) -> list[str]:
    return [word for key, law in laws.items() for word in ("-r", f"{key}.*={law}")]


STREAM = ("--stream", "philox", "-q")
ALL = [*rules(LAWS), *STREAM, "--seed", "7"]


def state() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        f"{key}.{name}.weight": torch.randn(150, 120, generator=generator, dtype=torch.float32).to(
            dtype
        )
        for key in LAWS
        for name, dtype in DTYPES.items()
    }


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("everywhere") / "model.safetensors"
    save_file(state(), path)
    return path


@pytest.fixture(scope="session")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of the file that this process writes."""
    output = tmp_path_factory.mktemp("everywhere") / "out.safetensors"
    assert main([str(source), *ALL, "-o", str(output)]) == 0
    return output.read_bytes()


def written(
    words: Sequence[str],
    setting: Mapping[str, str],
    python: Sequence[str] = (sys.executable,),
) -> bytes:
    """Return the bytes of a file that another process writes."""
    run = subprocess.run(
        [*python, "-m", "reinit_cli", *words, "-o", "out.safetensors"],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | setting,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return Path("out.safetensors").read_bytes()


SETTINGS = {
    "numpy without kernels": {"NPY_DISABLE_CPU_FEATURES": " ".join(kernels())},
    "torch without kernels": {"ATEN_CPU_CAPABILITY": "default"},
    "torch with AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "linear algebra of any processor": {"MKL_CBWR": "COMPATIBLE", "OPENBLAS_CORETYPE": "Prescott"},
    "one thread": {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    "three threads": {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3"},
    "another hash seed": {"PYTHONHASHSEED": "1"},
}


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=list(SETTINGS))
def test_settings_of_a_process_change_no_byte(
    source: Path, expected: bytes, setting: dict[str, str]
) -> None:
    assert written([str(source), *ALL], setting) == expected


@pytest.mark.slow
def test_processors_that_a_process_may_use_change_no_byte(source: Path, expected: bytes) -> None:
    one = [tool("taskset"), "--cpu-list", str(min(os.sched_getaffinity(0)))]

    assert written([str(source), *ALL], {}, [*one, sys.executable]) == expected


@pytest.mark.slow
def test_another_kind_of_processor_changes_no_byte(
    source: Path, expected: bytes, tmp_path: Path
) -> None:
    """AArch64, emulated, with numpy and without torch."""
    python, setting = aarch64()
    here = [str(Path(each.__file__).parents[1]) for each in (click, rich)]
    path = os.pathsep.join(map(str, (numpy_for_aarch64(tmp_path), ROOT, *here)))
    assert written([str(source), *ALL], setting | {"PYTHONPATH": path}, python) == expected


def test_what_the_caller_of_python_has_set_changes_no_byte(source: Path, expected: bytes) -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_flush_denormal(True)
    try:
        with np.errstate(all="raise"), warnings.catch_warnings():
            warnings.simplefilter("error")
            words = {f"{key}.*": law for key, law in LAWS.items()}
            rewrite(source, words, seed=7, stream="philox", output="out.safetensors")
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_flush_denormal(False)

    assert Path("out.safetensors").read_bytes() == expected


def test_jobs_change_no_byte(source: Path, expected: bytes) -> None:
    words = [str(source), *rules(LAWS), *STREAM, "--seed", "6,7"]
    words += ["-o", "{seed}-{stem}.safetensors", "-j"]
    for jobs in ("1", "3"):
        assert main([*words, jobs, "--force"]) == 0
        assert Path("7-model.safetensors").read_bytes() == expected


def digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {
        key: sha256(tensor.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
        for key, tensor in tensors.items()
    }


@pytest.fixture
def tensors(source: Path, expected: bytes) -> dict[str, str]:
    """The digest of each tensor."""
    Path("expected.safetensors").write_bytes(expected)
    return digests(load_file("expected.safetensors"))


def test_formats_and_layouts_change_no_tensor(source: Path, tensors: dict[str, str]) -> None:
    assert main([str(source), "-o", "shards", "--shard-size", "200KB", "-q"]) == 0
    assert len(list(Path("shards").glob("*.safetensors"))) > 5
    torch.save(state(), "model.pt")
    for given, output in (
        (str(source), "out.pt"),
        ("model.pt", "other.pt"),
        ("model.pt", "out.safetensors"),
        ("shards", "one.safetensors"),
    ):
        assert main([given, *ALL, "-o", output]) == 0
        read = torch.load(output) if output.endswith(".pt") else load_file(output)
        assert digests(read) == tensors
    assert main(["shards", *ALL, "-o", "drawn/"]) == 0
    for shard in Path("drawn").glob("*.safetensors"):
        found = digests(load_file(shard))
        assert found.items() <= tensors.items()


def test_the_order_of_keys_and_rules_changes_no_tensor(tensors: dict[str, str]) -> None:
    keys = list(state().items())
    random.Random(0).shuffle(keys)
    torch.save(dict(keys), "model.pt")
    laws = list(LAWS.items())
    random.Random(1).shuffle(laws)

    words = ["model.pt", *rules(dict(laws)), *STREAM, "--seed", "7"]
    assert main([*words, "-o", "out.pt"]) == 0

    assert digests(torch.load("out.pt")) == tensors


def test_a_tensor_drawn_alone_is_that_drawn_with_all(source: Path, tensors: dict[str, str]) -> None:
    key = "trunc_normal.bf16.weight"
    words = ["-r", f"{key}={LAWS['trunc_normal']}", "--only", key]

    assert main([str(source), *words, *STREAM, "--seed", "7", "-o", "one.pt"]) == 0

    assert digests(torch.load("one.pt")) == {key: tensors[key]}
