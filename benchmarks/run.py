"""Print the time and memory of commands next to the alternative, in one run (RESULTS.md).

    python benchmarks/run.py [--large] [PART ...]

Whole processes, each in a folder of temporary files: medians of several runs after one that
is not counted. The checkpoint is a transformer of bfloat16; `--large` makes it four times as
large, which takes 30 GB of disk. Parts are the names in PARTS. TMPDIR says where the files are.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import reinit_cli

PYTHON = sys.executable
REINIT = (PYTHON, "-m", "reinit_cli")
PACKAGE = str(Path(reinit_cli.__file__).parent)

MAKE = """
import sys, torch
from safetensors.torch import save_file
width, vocabulary = 1536, 50_000 * int(sys.argv[1])
def empty(*shape): return torch.empty(shape, dtype=torch.bfloat16).normal_(std=0.02)
state = {"embed.weight": empty(vocabulary, width), "head.weight": empty(vocabulary, width)}
for layer in range(24 * int(sys.argv[1])):
    for name in ("q", "k", "v", "o"):
        state[f"layers.{layer}.attention.{name}.weight"] = empty(width, width)
    for name in ("gate", "up"):
        state[f"layers.{layer}.mlp.{name}.weight"] = empty(4 * width, width)
    state[f"layers.{layer}.mlp.down.weight"] = empty(width, 4 * width)
    state[f"layers.{layer}.norm.weight"] = torch.ones(width, dtype=torch.bfloat16)
save_file(state, "m.safetensors", {"format": "pt"})
torch.save(state, "m.pt")
"""
"""In another process, since a process starts with the peak memory of its parent."""

MAKE_DCP = """
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from safetensors import safe_open
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard
dist.init_process_group("gloo")
mesh, rank, state = init_device_mesh("cpu", (4,)), dist.get_rank(), {}
with safe_open("m.safetensors", "pt") as file:
    for at, key in enumerate(file.keys()):
        whole = file.get_slice(key)
        axis = at % len(whole.get_shape())
        step = whole.get_shape()[axis] // 4
        own = slice(rank * step, (rank + 1) * step)
        local = whole[:, own] if axis else whole[own]
        state[key] = DTensor.from_local(local.contiguous(), mesh, [Shard(axis)])
dcp.save({"model": state}, checkpoint_id="dcp")
dist.destroy_process_group()
"""
"""Four ranks write the same tensors, each a quarter of the rows or of the columns."""

SCRIPT_OF_DCP = """
import torch, torch.nn as nn
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
dcp_to_torch_save("dcp", "out.pt")
state = torch.load("out.pt")
for key, tensor in state["model"].items():
    if key == "head.weight" or key.split(".")[1:4:2] == ["0", "up"]:
        nn.init.normal_(tensor, std=0.02)
dcp.save(state, checkpoint_id="out-dcp", no_dist=True)
"""

SCRIPT_FROM_DCP = """
import torch
from safetensors.torch import save_file
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
dcp_to_torch_save("dcp", "out.pt")
save_file(torch.load("out.pt")["model"], "out.safetensors")
"""

SCRIPT_TO_DCP = """
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file
dcp.save({"model": load_file("m.safetensors")}, checkpoint_id="out-dcp", no_dist=True)
"""

SCRIPT = """
import torch, torch.nn as nn
state = torch.load("m.pt"{mmap})
for key, tensor in state.items():
    if key == "head.weight" or key.split(".")[1:4:2] == ["0", "up"]:
        nn.init.normal_(tensor, std=0.02)
torch.save(state, "out.pt")
"""

SCRIPT_OF_SAFETENSORS = """
import torch.nn as nn
from safetensors.torch import load_file, save_file
state = load_file("m.safetensors")
for key, tensor in state.items():
    if key == "head.weight" or key.split(".")[1:4:2] == ["0", "up"]:
        nn.init.normal_(tensor, std=0.02)
save_file(state, "out.safetensors")
"""

COMPARISON = """
import torch
from safetensors.torch import load_file
first, second = torch.load("m.pt", mmap=True), load_file("m.safetensors")
print(all(torch.equal(first[key], second[key]) for key in first))
"""

MAKE_KEYS = """
import torch
from safetensors.torch import save_file
for count in (10_000, 100_000):
    state = {f"layers.{at // 10}.mlp.{at % 10}.weight": torch.zeros(2) for at in range(count)}
    save_file(state, f"{count // 1000}k.safetensors")
"""

REDUCTIONS = """
import torch
from safetensors import safe_open
with safe_open("m.safetensors", "pt") as file:  # which maps the file
    for key in file.keys():
        tensor = file.get_tensor(key)
        print(tensor.mean(), tensor.std(), tensor.aminmax(), tensor.norm())
        print(tensor.isnan().sum(), tensor.isinf().sum(), torch.count_nonzero(tensor))
"""

NOISE = """
import torch
from safetensors.torch import load_file, save_file
state = load_file("m.safetensors")
for tensor in state.values():
    tensor.copy_(tensor.float() + torch.empty(tensor.shape).normal_(std=0.01))
save_file(state, "out.safetensors")
"""

HASH = """
import hashlib
with open("m.safetensors", "rb") as file:
    hashlib.file_digest(file, "sha256")
"""

DRAWS = """
import time, torch
from safetensors import safe_open
torch.set_num_threads(1)
with safe_open("m.safetensors", "pt") as file:
    shapes = [file.get_slice(key).get_shape() for key in file.keys()]
generator = torch.Generator().manual_seed(0)
started = time.process_time()
for shape in shapes:
    torch.empty(shape).normal_(0, 0.02, generator=generator).bfloat16()
print(time.process_time() - started)
"""

MAKE_MANY = """
import torch
from pathlib import Path
for at in range({count}):
    path = Path("many", f"{{at}}.pt")
    path.parent.mkdir(exist_ok=True)
    torch.save({{"weight": torch.randn(480, 480), "bias": torch.zeros(480)}}, path)
"""

MAKE_SHARDS = """
import json, torch
from pathlib import Path
from safetensors.torch import save_file
folder, names = Path("shards-{count}"), {{}}
folder.mkdir()
for at in range({count}):
    state = {{f"layers.{{at}}.{{of}}.weight": torch.randn(256, 256) for of in ("up", "down")}}
    name = f"model-{{at + 1:05d}}-of-{count:05d}.safetensors"
    save_file(state, folder / name)
    names |= dict.fromkeys(state, name)
index = {{"metadata": {{"total_size": {count} * 2**19}}, "weight_map": names}}
Path(folder, "model.safetensors.index.json").write_text(json.dumps(index))
"""

MAKE_SMALL = """
import torch
from safetensors.torch import save_file
state = {"weight": torch.randn(512, 512), "bias": torch.zeros(512)}
torch.save(state, "small.pt")
save_file(state, "small.safetensors")
"""

SMALL_SCRIPTS = {
    "small.safetensors": """
import torch
from safetensors.torch import load_file, save_file
state = load_file("small.safetensors")
torch.nn.init.xavier_uniform_(state["weight"])
save_file(state, "out.safetensors")
""",
    "small.pt": """
import torch
state = torch.load("small.pt")
torch.nn.init.xavier_uniform_(state["weight"])
torch.save(state, "out.pt")
""",
}

SCRIPT_OF_ONE = """
import torch
state = torch.load("many/0.pt")
torch.nn.init.xavier_uniform_(state["weight"])
torch.save(state, "out.pt")
"""

FETCHED_FOR_KEYS = """
import sys
from reinit_cli.checkpoints.fetching import fetched_of
from reinit_cli.checkpoints.find import find_source
print(*fetched_of([find_source(sys.argv[1])]))
"""

STREAMING = """
import json, os, re, struct, sys
from concurrent.futures import ThreadPoolExecutor
import fsspec
fs, url = fsspec.filesystem("http"), sys.argv[1]
(length,) = struct.unpack("<Q", fs.cat_file(url, start=0, end=8))
header = json.loads(fs.cat_file(url, start=8, end=8 + length))
ends = sorted(
    (8 + length + at, 8 + length + end, key)
    for key, each in header.items() if key != "__metadata__"
    for at, end in [each["data_offsets"]]
)
filled = re.compile(r"head\\.weight|layers\\.0\\.mlp\\.up\\.weight")
copied = [(at, end) for at, end, key in ends if not filled.fullmatch(key)]
runs = [[0, 8 + length]]
for at, end in copied:
    if runs[-1][1] == at:
        runs[-1][1] = end
    else:
        runs.append([at, end])
blocks = [(at, min(at + 2**23, end)) for start, end in runs for at in range(start, end, 2**23)]
output = os.open("out.safetensors", os.O_CREAT | os.O_WRONLY)
def fetch(block):
    os.pwrite(output, fs.cat_file(url, start=block[0], end=block[1]), block[0])
with ThreadPoolExecutor(8) as pool:
    list(pool.map(fetch, blocks))
"""
"""What is copied by a rewrite of a tenth, streamed by the same library, eight blocks at a time."""

RANK = """
import os, sys, time
from reinit_cli.operations.prepare import prepare
from reinit_cli.operations.rewrite import execute
from reinit_cli.request.request import Request
rank, count, core = map(int, sys.argv[1:])
if core >= 0:
    os.sched_setaffinity(0, {core})
together = {"rank": rank, "world_size": count, "run_id": "bench"} if count > 1 else {}
rules = ("*=trunc_normal:std=0.02",)
job = prepare(Request("m.safetensors", rules, "out.safetensors", measure=False, **together))
print("planned", flush=True)
sys.stdin.readline()
began = time.process_time()
execute(job)
print(time.monotonic(), time.process_time() - began, flush=True)
"""
"""A rank from plan to commit, on one core where that is not negative."""

TENTH = ("-r", "head.weight=normal:std=0.02", "-r", "layers.0.mlp.up.weight=normal:std=0.02")
ALL = ("-r", "*=normal:std=0.02")


@dataclass(frozen=True)
class Cost:
    """Medians over runs of one command; megabytes are the peak of its memory."""

    seconds: float
    megabytes: float
    cpu_seconds: float


def measure(*args: str, runs: int = 3, ends: int = 0) -> Cost:
    """Run a command several times, each time without its output there; say how it ends."""
    found = []
    for run in range(runs + 1):  # the first is not counted, unless there is no other
        for name in ("out.pt", "out.safetensors"):
            Path(name).unlink(missing_ok=True)
        shutil.rmtree("out-dcp", ignore_errors=True)
        started = time.perf_counter()
        process = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        if os.waitstatus_to_exitcode(status) != ends:
            raise SystemExit(f"failed: {args}")
        if run or not runs:
            cpu = usage.ru_utime + usage.ru_stime
            found.append((seconds, usage.ru_maxrss / 1000, cpu))
    return Cost(*map(statistics.median, zip(*found, strict=True)))


def rewriting(source: str, *rules: str) -> Cost:
    """Rewrite a checkpoint to a new file."""
    return measure(*REINIT, source, *rules, "-q", "-o", f"out{Path(source).suffix}")


def show(name: str, value: float, beside: str, reference: float, limit: float, unit: str) -> None:
    """Print a line of the table."""
    digits = 2 if unit == "s" else 0
    ratio = value / reference
    print(
        f"| {name} | {value:.{digits}f} {unit} | {beside} | {reference:.{digits}f} {unit} "
        f"| {ratio:.2f} | {limit:.2f} |",
        flush=True,
    )


def starting() -> None:
    """Commands that need no torch."""
    click = measure(PYTHON, "-c", "import click", runs=7)
    for name, args in {
        "`reinit --help`": ("--help",),
        "a syntax error in a rule": ("m.safetensors", "-r", "foo"),
        "`reinit keys m.safetensors`": ("keys", "m.safetensors"),
        "`reinit keys m.pt`": ("keys", "m.pt"),
    }.items():
        cost = measure(*REINIT, *args, runs=7, ends=2 * ("foo" in args))
        show(name, cost.seconds, "`import click`", click.seconds, 3, "s")
        if "keys" in args:
            show(f"{name}, memory", cost.megabytes, "40 MB", 40, 1, "MB")


def draws() -> None:
    """Draws of one thread, in a process of their own."""
    script = str(Path(__file__).parent / "draws.py")
    subprocess.run([PYTHON, script], check=True)


def split() -> None:
    """What each of many ranks would have to do."""
    script = str(Path(__file__).parent / "split.py")
    subprocess.run([PYTHON, script], check=True)


def small(turns: int = 9) -> None:
    """Files of 1 MB, which cost what their imports cost: in turns, as they take so little."""
    subprocess.run([PYTHON, "-c", MAKE_SMALL], check=True)
    rule = ("-r", "weight=xavier_uniform")
    rewriting("small.safetensors", *rule, "--record")
    os.rename("out.safetensors", "drawn.safetensors")
    rewrites = {
        source: (*REINIT, source, *rule, "-q", "-o", f"out{Path(source).suffix}")
        for source in SMALL_SCRIPTS
    }
    looks = {
        "show": ("show", "small.safetensors", "weight"),
        "stats": ("stats", "small.safetensors"),
        "diff": ("diff", "small.safetensors", "drawn.safetensors"),
        "verify": ("verify", "drawn.safetensors"),
    }
    commands = {
        "numpy": (PYTHON, "-c", "import numpy"),
        **{f"script {source}": (PYTHON, "-c", text) for source, text in SMALL_SCRIPTS.items()},
        **rewrites,
        **{name: (*REINIT, *words) for name, words in looks.items()},
    }
    took: dict[str, list[Cost]] = {name: [] for name in commands}
    for _ in range(turns):
        for name, args in commands.items():
            took[name].append(measure(*args, runs=0, ends=int(name == "diff")))
    # On a machine with other work, processor time says more than the clock.
    for unit, of in (
        ("", lambda cost: cost.seconds),
        (", processor time", lambda cost: cost.cpu_seconds),
    ):
        medians = {name: statistics.median(map(of, found[1:])) for name, found in took.items()}
        for source in rewrites:
            name, others = f"`{source}` of 1 MB rewritten{unit}", "the same in three lines of torch"
            show(name, medians[source], others, medians[f"script {source}"], 0.2, "s")
            show(name, medians[source], "`import numpy`", medians["numpy"], 2.5, "s")
        for name in looks:
            limit, row = 0.35 / 0.12, f"`reinit {name}` of 1 MB{unit}"
            show(row, medians[name], "`import numpy`", medians["numpy"], limit, "s")


def rewrites() -> None:
    """A tenth of the bytes drawn, and all of them."""
    copy = {
        name: measure("cp", name, f"out{Path(name).suffix}") for name in ("m.pt", "m.safetensors")
    }
    scripts = {
        "m.pt": [
            ("`torch.load`, `nn.init`, `torch.save`", SCRIPT.format(mmap=""), 0.4),
            ("the same with `mmap=True`", SCRIPT.format(mmap=", mmap=True"), 0.75),
        ],
        "m.safetensors": [("`load_file`, `nn.init`, `save_file`", SCRIPT_OF_SAFETENSORS, 0.65)],
    }
    for source, others in scripts.items():
        cost = rewriting(source, *TENTH)
        name = f"a tenth of `{source}` drawn"
        for beside, script, limit in others:
            reference = measure(PYTHON, "-c", script)
            show(name, cost.seconds, beside, reference.seconds, limit, "s")
            show(f"{name}, memory", cost.megabytes, beside, reference.megabytes, 0.35, "MB")
        show(name, cost.seconds, "`cp`", copy[source].seconds, 1.2, "s")
        show(f"{name}, memory", cost.megabytes, "allowed", 200, 1, "MB")
    drawing = float(subprocess.run([PYTHON, "-c", DRAWS], capture_output=True, check=True).stdout)
    for source in scripts:
        cost = rewriting(source, *ALL)
        ideal = (drawing + copy[source].cpu_seconds) / (os.cpu_count() or 1)
        name = f"all of `{source}` drawn"
        beside = "(CPU time of torch's draws and `cp`) / cores"
        show(name, cost.seconds, beside, ideal, 1.25, "s")
        show(f"{name}, memory", cost.megabytes, "allowed", 200, 1, "MB")


def from_plan_to_commit(*cores: int, runs: int = 3) -> tuple[float, float]:
    """Return the seconds in which ranks write what is drawn, and the processor time of the busiest.

    Args:
        cores: that of each rank; -1 for all.
        runs: how often it is measured, after one that is not counted.
    """
    found = []
    for _ in range(runs + 1):
        Path("out.safetensors").unlink(missing_ok=True)
        ranks = [
            subprocess.Popen(
                (PYTHON, "-c", RANK, str(rank), str(len(cores)), str(core)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank, core in enumerate(cores)
        ]
        for process in ranks:
            assert process.stdout is not None
            process.stdout.readline()
        started = time.monotonic()
        said = [process.communicate()[0].split() for process in _told(ranks)]
        ended, busy = (max(map(float, each)) for each in zip(*said, strict=True))
        found.append((ended - started, busy))
    seconds, busiest = map(statistics.median, zip(*found[1:], strict=True))
    return seconds, busiest


def _told(ranks: list[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
    """Let all ranks go on before the first is waited for."""
    for process in ranks:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return ranks


def ranks() -> None:
    """All of a file drawn by two processes of one core each, by one, and by one of all cores."""
    one, two = from_plan_to_commit(0), from_plan_to_commit(0, 1)
    command, _ = from_plan_to_commit(-1)
    name = "all of `m.safetensors` drawn by two ranks of a core each, plan to commit"
    show(name, two[0], "one rank of a core", one[0], 1 / 1.8, "s")
    # On a machine with other work, processor time says more than the clock.
    show(f"{name}, processor time of the busiest", two[1], "one rank", one[1], 1 / 1.8, "s")
    name = "the same by one command with all cores"
    show(name, command, "two ranks of a core each", two[0], 1.1, "s")


def dcp() -> None:
    """A folder of torch.distributed.checkpoint that four ranks wrote."""
    Path("make_dcp.py").write_text(MAKE_DCP)
    launch = ("-m", "torch.distributed.run", "--nproc-per-node", "4", "make_dcp.py")
    subprocess.run([PYTHON, *launch], check=True, capture_output=True)
    cost = measure(*REINIT, "dcp", *TENTH, "-q", "-o", "out-dcp")
    copy = measure("cp", "-r", "dcp", "out-dcp")
    script = measure(PYTHON, "-c", SCRIPT_OF_DCP, runs=1)
    name = "a tenth of a DCP folder of four ranks drawn"
    show(name, cost.seconds, "`cp -r`", copy.seconds, 1.2, "s")
    beside = "`dcp_to_torch_save`, `nn.init`, `dcp.save`"
    show(name, cost.seconds, beside, script.seconds, 0.35, "s")
    show(f"{name}, memory", cost.megabytes, "allowed", 200, 1, "MB")
    cost = measure(*REINIT, "dcp", "-q", "-o", "out.safetensors")
    script = measure(PYTHON, "-c", SCRIPT_FROM_DCP, runs=1)
    name = "a DCP folder as `m.safetensors`"
    show(name, cost.seconds, "`dcp_to_torch_save`, `save_file`", script.seconds, 0.4, "s")
    show(f"{name}, memory", cost.megabytes, "allowed", 200, 1, "MB")
    cost = measure(*REINIT, "m.safetensors", "--to", "dcp", "-q", "-o", "out-dcp")
    script = measure(PYTHON, "-c", SCRIPT_TO_DCP, runs=1)
    name = "`m.safetensors` as a DCP folder"
    show(name, cost.seconds, "`load_file`, `dcp.save`", script.seconds, 0.4, "s")
    show(f"{name}, memory", cost.megabytes, "allowed", 200, 1, "MB")


def keys_of_url(place: str, latency: float) -> None:
    """The keys of files that are far away: requests, bytes, and time beside that of a local file."""
    for name, most_requests, most_kilobytes in (("m.safetensors", 2, 128), ("m.pt", 4, 1024)):
        command = [PYTHON, "-c", FETCHED_FOR_KEYS, f"{place}/{name}"]
        fetched = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        requests, nbytes = map(int, fetched.split())
        cost, local = (measure(*REINIT, "keys", each) for each in (f"{place}/{name}", name))
        called = f"keys of `{name}` at a URL {latency * 1000:.0f} ms away"
        show(f"{called}, requests", requests, "allowed", most_requests, 1, "")
        show(f"{called}, fetched", nbytes / 1024, "allowed", most_kilobytes, 1, "KB")
        beside = f"`reinit keys {name}`, its requests, 0.5 s of imports"
        show(called, cost.seconds, beside, local.seconds + requests * latency + 0.5, 1, "s")


def remote(latency: float = 0.05) -> None:
    """A rewrite of a file that is far away, beside streaming what is copied: the quietest of four."""
    far = str(Path(__file__).parent / "far.py")
    server = subprocess.Popen([PYTHON, far, str(latency)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    place = f"http://127.0.0.1:{int(server.stdout.readline())}"
    keys_of_url(place, latency)
    url = f"{place}/m.safetensors"
    costs, streamed = [], []
    for _ in range(4):  # in turns, since a long copy meets whatever else the machine does
        costs.append(measure(*REINIT, url, *TENTH, "-q", "-o", "out.safetensors", runs=0))
        streamed.append(measure(PYTHON, "-c", STREAMING, url, runs=0))
    server.terminate()
    server.wait()
    name = f"a tenth of `m.safetensors` drawn, at a URL {latency * 1000:.0f} ms away"
    beside = "the copied part streamed, eight connections"
    quietest, beside_it = (min(each.seconds for each in many) for many in (costs, streamed))
    show(name, quietest, beside, beside_it, 1.2, "s")
    most = max(each.megabytes for each in costs)
    show(f"{name}, memory", most, "allowed", 400, 1, "MB")


def batch(count: int = 100) -> None:
    """Many small files in one process, beside a process of torch for each."""
    subprocess.run([PYTHON, "-c", MAKE_MANY.format(count=count)], check=True)
    one = measure(PYTHON, "-c", SCRIPT_OF_ONE, runs=5)
    beside = f"{count} × a process of `torch.load`, `nn.init`, `torch.save` (5 measured)"
    files = [f"many/{at}.pt" for at in range(count)]
    for jobs in ("1", "2"):
        cost = measure(
            *(*REINIT, *files, "-r", "weight=xavier_uniform", "-q"),
            *("-o", "many-out/", "--force", "-j", jobs),
        )
        name = f"{count} files of 1 MB, `-j {jobs}`"
        show(name, cost.seconds, beside, count * one.seconds, 0.1, "s")
        show(f"{name}, memory", cost.megabytes, "one of these", one.megabytes, 1.3, "MB")


def shards(few: int = 500, many: int = 2000) -> None:
    """A folder of 2,000 shards: time that grows with their number, and few files open."""
    for count in (few, many):
        subprocess.run([PYTHON, "-c", MAKE_SHARDS.format(count=count)], check=True)
    rewriting = ("-r", "*.up.weight=normal:std=0.02", "-q", "-o", "out-dcp")
    for name, args, rest in (
        ("`reinit keys` of a folder", ("keys",), ()),
        ("half of a folder drawn", (), rewriting),
    ):
        first, second = (measure(*REINIT, *args, f"shards-{at}", *rest) for at in (few, many))
        beside = f"CPU time of {few} shards × {many // few}"
        reference = first.cpu_seconds * many / few
        show(f"{name}, {many:,} shards", second.cpu_seconds, beside, reference, 1, "s")
    show(f"{name}, {many:,} shards, memory", second.megabytes, "allowed", 200, 1, "MB")
    shutil.rmtree("out-dcp", ignore_errors=True)
    most = most_open(*REINIT, f"shards-{many}", *rewriting)
    show(f"{name}, {many:,} shards, open files", most, "allowed", 64, 1, "")


def most_open(*args: str) -> int:
    """Run a command, and return how many descriptors it had open, as far as a look now and then tells."""
    process, most = subprocess.Popen(args), 0
    while process.poll() is None:
        try:
            most = max(most, len(os.listdir(f"/proc/{process.pid}/fd")))
        except OSError:  # it has just ended
            break
        time.sleep(0.001)
    if process.wait() != 0:
        raise SystemExit(f"failed: {args}")
    return most


def looking() -> None:
    """All values measured."""
    measured = measure(*REINIT, "stats", "m.safetensors")
    beside = measure(PYTHON, "-c", REDUCTIONS)
    show("`reinit stats`", measured.seconds, "torch's reductions", beside.seconds, 1.5, "s")
    show(
        "`reinit stats`, memory",
        measured.megabytes,
        "torch's reductions",
        beside.megabytes,
        1,
        "MB",
    )
    compared = measure(*REINIT, "diff", "m.pt", "m.safetensors")
    beside = measure(PYTHON, "-c", COMPARISON)
    show("`reinit diff`", compared.seconds, "both loaded, `torch.equal`", beside.seconds, 1, "s")
    subprocess.run([PYTHON, "-c", MAKE_KEYS], check=True)
    for name, first, later in (("10k.safetensors", 0.3, 0.3), ("100k.safetensors", 1.5, 0.3)):
        line = f"reinit {name} -r layers.99"
        with tempfile.TemporaryDirectory() as cache:
            os.environ["XDG_CACHE_HOME"] = cache
            for what, limit, runs in (("", first, 0), (", from the cache", later, 4)):
                cost = measure(*REINIT, "completion", "bash", "--line", line, runs=runs)
                show(f"completion in `{name}`{what}", cost.seconds, "allowed", limit, 1, "s")
        listed = measure(*REINIT, "keys", name)
        show(f"`reinit keys {name}`", listed.seconds, "allowed", 2, 1, "s")


def transforms_and_records() -> None:
    """What reads all values, and what digests all bytes."""
    torch = measure(PYTHON, "-c", "import torch", runs=5)
    noisy = rewriting("m.safetensors", "-r", "*=noise:std=0.01")
    beside = measure(PYTHON, "-c", NOISE)
    others = "`load_file`, noise, `save_file`"
    show("noise on all of `m.safetensors`", noisy.seconds, others, beside.seconds, 1, "s")
    name = "noise on all of `m.safetensors`, memory"
    show(name, noisy.megabytes, others, beside.megabytes, 0.35, "MB")
    hashing = measure(PYTHON, "-c", HASH).cpu_seconds / (os.cpu_count() or 1)
    plain = rewriting("m.safetensors", *TENTH)
    recorded = rewriting("m.safetensors", *TENTH, "--record")
    name = "a tenth of `m.safetensors` drawn, `--record`"
    beside_text = "without + SHA-256 of both files / cores"
    show(name, recorded.seconds, beside_text, plain.seconds + 2 * hashing, 1.3, "s")
    os.rename("out.safetensors", "recorded.safetensors")
    verified = measure(*REINIT, "verify", "recorded.safetensors")
    beside_text = "SHA-256 of the file / cores + 1.3 × `import torch`"
    ideal = hashing + 1.3 * torch.seconds
    show("`reinit verify`", verified.seconds, beside_text, ideal, 1.5, "s")
    show(
        "`reinit verify`, memory", verified.megabytes, "`import torch`", torch.megabytes, 1.5, "MB"
    )


PARTS = {
    "starting": starting,
    "draws": draws,
    "small": small,
    "split": split,
    "batch": batch,
    "shards": shards,
    "looking": looking,
    "transforms": transforms_and_records,
    "rewrites": rewrites,
    "ranks": ranks,
    "dcp": dcp,
    "remote": remote,
}


def main() -> None:
    """Make a checkpoint, and run everything, or some parts, on it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--large", action="store_true", help="measure rewrites of 8.5 GB alone")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    asked = parser.parse_args()
    parts = asked.parts or (["rewrites"] if asked.large else list(PARTS))
    # As an installed package is, also where PYTHONDONTWRITEBYTECODE is set.
    subprocess.run([PYTHON, "-m", "compileall", "-q", PACKAGE], check=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        if not {"draws", "small", "split", "batch", "shards"}.issuperset(parts):
            subprocess.run([PYTHON, "-c", MAKE, "4" if asked.large else "1"], check=True)
            size = os.stat("m.safetensors").st_size / 1e9
            print(f"checkpoint: {size:.1f} GB, cores: {os.cpu_count()}\n")
        print("| command | takes | compared with | takes | ratio | limit of the ratio |")
        print("|---|---|---|---|---|---|", flush=True)
        for part in parts:
            PARTS[part]()


if __name__ == "__main__":
    main()
