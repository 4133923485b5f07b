"""Print how much memory commands take for one large tensor, in units of its bytes.

    python benchmarks/memory.py [--checkout ../other-checkout] [WORD ...]

Each command runs as a process of its own, on a tensor of 256 MiB and on one of a few
elements. What the first takes more is divided by the bytes of the tensor. Words choose the
rows in which one of them occurs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = str(Path(__file__).parents[1])
NBYTES = 2**28
ITEMSIZES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1}
SMALL = 64


class Case(NamedTuple):
    """A command that is measured; SOURCE in its words stands for the checkpoint."""

    name: str
    words: tuple[str, ...]
    dtype: str = "F32"
    shape: tuple[int, ...] = (512, -1)
    layout: str = "safetensors"


class Cost(NamedTuple):
    """What a process took."""

    nbytes: int
    seconds: float


MATRIX = (
    "uniform",
    "normal",
    "trunc_normal:std=0.02,a=-0.04,b=0.04",
    "trunc_normal:a=1,b=3",
    "constant:0.5",
    "xavier_uniform",
    "xavier_normal",
    "kaiming_uniform",
    "kaiming_normal",
    "lecun_normal",
    "lecun_uniform",
    "variance_scaling",
    "he_truncated",
    "glorot_truncated",
    "prior_bias",
    "depth_scaled:layer=3",
    "eye",
    "identity",
    "identity:std=0.01",
    "sparse:0.1",
    "orthogonal",
    "orthogonal:axes=boi",
    "block:parts=4",
    "block:parts=4,axis=1",
    "block:parts=4,inner=orthogonal",
    "block:parts=4,inner=trunc_normal",
    "block:parts=4,inner=trunc_normal,axis=1",
    "block:parts=4,inner=sparse:0.1",
    "icnr",
    "icnr:inner=trunc_normal",
    "icnr:inner=orthogonal",
    "scale:0.5",
    "noise:std=0.01",
    "noise:relative=0.1",
    "shrink_perturb:0.5,0.01",
    "resample",
    "clamp:min=-1,max=1",
    "shuffle",
)
KERNELS = ("dirac", "delta_orthogonal", "identity", "orthogonal")
HARD = ("trunc_normal", "orthogonal", "sparse:0.1", "icnr", "shuffle", "eye")
WAYS = {
    "--check": ("--check",),
    "-v": ("-v",),
    "--report": ("--report", "page.svg"),
}


def cases() -> Iterator[Case]:
    """Yield everything that is measured."""
    for init in MATRIX:
        shape = (4, 512, -1) if "axes" in init else (512, -1)
        yield Case(init, _run(init), shape=shape)
    for init in KERNELS:
        yield Case(f"{init} of 3x3 kernels", _run(init), shape=(-1, 512, 3, 3))
    for init in HARD:
        for dtype in ("BF16", "F8_E4M3", "F64"):
            yield Case(f"{init}, {dtype}", _run(init), dtype)
    for init in ("normal", *HARD, "identity", "block:parts=4,axis=1"):
        for name, words in WAYS.items():
            yield Case(f"{init} {name}", (*_run(init), *words))
    for init in ("normal", "trunc_normal", "orthogonal"):
        yield Case(f"{init}:keep_zeros=true", _run(f"{init}:keep_zeros=true"))
    for init in ("normal", "trunc_normal", "orthogonal", "shuffle"):
        yield Case(f"{init}, transposed", _run(init), layout="transposed")
        yield Case(f"{init}, apply_", (init,), layout="apply")
    yield Case("normal, draw", ("draw", "normal", "SHAPE"), layout="draw")
    yield Case("trunc_normal, draw", ("draw", "trunc_normal", "SHAPE"), layout="draw")


def _run(init: str) -> tuple[str, ...]:
    return ("SOURCE", "-r", f"w={init}", "-f", "-o", "OUTPUT")


def shape_of(case: Case, nbytes: int) -> tuple[int, ...]:
    """Return the shape of a tensor of about that many bytes."""
    if nbytes <= SMALL * 4096:
        return tuple(16 if dim == -1 else min(dim, 16) for dim in case.shape)
    rest = nbytes // ITEMSIZES[case.dtype]
    for dim in case.shape:
        rest //= max(1, dim)
    return tuple(rest if dim == -1 else dim for dim in case.shape)


def nbytes_of(case: Case, shape: tuple[int, ...]) -> int:
    """Return the bytes of a tensor."""
    count = ITEMSIZES[case.dtype]
    for dim in shape:
        count *= dim
    return count


def _hole(name: str, case: Case, shape: tuple[int, ...]) -> None:
    """Write a checkpoint whose bytes are a hole, which takes no time and no room."""
    nbytes = nbytes_of(case, shape)
    dims = ",".join(map(str, shape))
    header = f'{{"w":{{"dtype":"{case.dtype}","shape":[{dims}],"data_offsets":[0,{nbytes}]}}}}'
    with open(name, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header.encode())
        file.truncate(8 + len(header) + nbytes)


TRANSPOSED = "import torch; torch.save({{'w': torch.zeros({0}).t()}}, {1!r})"
APPLY = (
    "import torch\nfrom reinit_cli import apply_\n"
    "w = torch.zeros({0})\napply_({{'w': w}}, ['w={1}'])"
)


def _command(case: Case, shape: tuple[int, ...]) -> list[str]:
    if case.layout == "apply":
        return ["-c", APPLY.format(tuple(shape), case.words[0])]
    if case.layout == "transposed":
        text = TRANSPOSED.format(tuple(reversed(shape)), "in.pt")
        subprocess.run([sys.executable, "-c", text], check=True)
    elif case.layout == "safetensors":
        _hole("in.safetensors", case, shape)
    suffix = "pt" if case.layout == "transposed" else "safetensors"
    dims = "x".join(map(str, shape))
    names = {"SOURCE": f"in.{suffix}", "OUTPUT": f"out.{suffix}", "SHAPE": dims}
    return ["-m", "reinit_cli", *(names.get(word, word) for word in case.words)]


def _cost(checkout: str, command: Sequence[str]) -> Cost:
    """Run a command, and return the most memory and the processor's time that it took."""
    process = subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | {"PYTHONPATH": checkout},
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")
    for name in ("out.pt", "out.safetensors", "page.svg"):
        Path(name).unlink(missing_ok=True)
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(usage.ru_maxrss * unit, usage.ru_utime + usage.ru_stime)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--checkout", default=HERE)
    parser.add_argument("words", nargs="*")
    asked = parser.parse_args()
    checkout = os.path.abspath(asked.checkout)
    print(f"{'command':44} {'tensors':>8} {'CPU s':>7}")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for case in cases():
            if asked.words and not any(word in case.name for word in asked.words):
                continue
            shape = shape_of(case, NBYTES)
            alone = _cost(checkout, _command(case, shape_of(case, SMALL)))
            large = _cost(checkout, _command(case, shape))
            units = (large.nbytes - alone.nbytes) / nbytes_of(case, shape)
            print(f"{case.name:44} {units:8.2f} {large.seconds - alone.seconds:7.1f}", flush=True)
        os.chdir("/")


if __name__ == "__main__":
    main()
