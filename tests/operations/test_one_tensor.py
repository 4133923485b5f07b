"""A tensor has the same bytes however many threads, cores, files and other tensors there are."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from safetensors.torch import load, save_file

from reinit_cli.initializers import REGISTRY
from tests.campaign.server import Server

# `default` and `reset` fill as others do, `mean` fills new rows, and `keep` fills nothing.
_LEFT_OUT = ("keep", "default", "reset", "mean")
EXAMPLES = {each.name: each.example for each in REGISTRY if each.name not in _LEFT_OUT}
MATRICES = ("eye", "sparse", "orthogonal", "mamba_a")
RULES = {f"*.{name}": init for name, init in EXAMPLES.items()} | {"large.*": "orthogonal"}

ENVIRONMENTS: tuple[dict[str, str], ...] = (
    {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
    {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "4", "PYTHONHASHSEED": "1"},
    {"OMP_NUM_THREADS": "4", "MKL_DYNAMIC": "FALSE"},
    # As many threads as the system thinks fit, for which a BLAS once waited for ever.
    {"OMP_DYNAMIC": "TRUE"},
    {"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "2", "PYTHONHASHSEED": "2"},
    {"MKL_NUM_THREADS": "1"},
    {"OMP_NUM_THREADS": "8", "OMP_DYNAMIC": "TRUE", "MKL_DYNAMIC": "TRUE"},
    {"OMP_PROC_BIND": "spread", "PYTHONHASHSEED": "4294967295"},
)
SOURCES = (
    ("plain.safetensors",),
    ("with_another.safetensors",),
    ("reversed.pt",),
    ("legacy.pt",),
    ("transposed.pt",),
    ("folder",),
    ("plain.safetensors", "reversed.pt"),
    ("transposed.pt", "with_another.safetensors", "legacy.pt"),
)
OUTPUTS = ("out.safetensors", "out.pt", "shards", "-", "")
OPTIONS = ((), ("-v",), ("--check",), ("--verify-crc",))


@dataclass(frozen=True)
class Combination:
    """One of the ways in which the same tensors can be asked for.

    Attributes:
        cores: how many the process may use.
        sources: one or several of the same tensors.
        jobs: how many sources are rewritten side by side.
        output: its name; "-" for a pipe, "" for the sources' own formats.
        rules: the patterns in their order; tensors of others stay as they are.
        options: others that change no value.
    """

    cores: int
    sources: tuple[str, ...]
    jobs: int
    output: str
    rules: tuple[str, ...]
    options: tuple[str, ...]

    @classmethod
    def drawn(cls, random: Random) -> Combination:
        """Choose one."""
        sources = random.choice(SOURCES)
        count = random.choice((len(RULES), len(RULES), 1, 5))
        output = random.choice(OUTPUTS) if len(sources) == 1 else ""
        if output == "-" and sources == ("folder",):
            output = "out.pt"  # a pipe takes one file
        return cls(
            random.choice((1, 2, 64)),
            sources,
            random.choice((1, 2, 3)),
            output,
            tuple(random.sample(sorted(RULES), count)),
            random.choice(OPTIONS) if output != "-" else (),
        )

    def argv(self, out: Path) -> list[str]:
        """Return the arguments; a folder is written, or standard output."""
        words = [*self.sources, "--resize", "rows=333:mean", "--seed", "7", *self.options]
        words += [word for key in self.rules for word in ("-r", f"{key}={RULES[key]}")]
        words += ["--jobs", str(self.jobs)] if len(self.sources) > 1 else []
        words += ["--shard-size", "200kB"] if self.output == "shards" else []
        own_format = f"copy{Path(self.sources[0]).suffix}" if len(self.sources) == 1 else ""
        name = self.output or own_format
        return [*words, "-o", "-" if name == "-" else f"{out}/{name}"]


WHOLE = Combination(64, ("plain.safetensors",), 1, "out.safetensors", tuple(RULES), ())


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


def _transposed(tensor: torch.Tensor) -> torch.Tensor:
    """Return the same tensor with its first dimension as the last in memory."""
    return tensor.movedim(0, -1).contiguous().movedim(-1, 0)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one checkpoint in several forms."""
    folder = tmp_path_factory.mktemp("sources")
    state = _state()
    save_file(state, folder / "plain.safetensors")
    save_file({"first": torch.zeros(9), **state}, folder / "with_another.safetensors")
    others = {f"layers.3.{name}": torch.ones(48, 24, 3) for name in ("rewind", "blend")}
    save_file(others, folder / "step0.safetensors")
    np.save(folder / "bias.npy", np.arange(48 * 24 * 3, dtype=np.float32).reshape(48, 24, 3))
    torch.save(dict(reversed(state.items())), folder / "reversed.pt")
    torch.save(state, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save({key: _transposed(each) for key, each in state.items()}, folder / "transposed.pt")
    (folder / "folder").mkdir()
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    places = {key: names[at % 2] for at, key in enumerate(state)}
    for name in names:
        shard = {key: each for key, each in state.items() if places[key] == name}
        save_file(shard, folder / "folder" / name)
    index = {"metadata": {}, "weight_map": places}
    (folder / "folder" / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@contextmanager
def _server(environment: Mapping[str, str]) -> Iterator[Server]:
    """Start a server whose libraries see an environment when they are loaded."""
    threads = ("OMP", "MKL", "OPENBLAS", "PYTHONHASHSEED")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(threads):
                patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        with Server("torch", "reinit_cli.operations.rewrite") as server:
            yield server


def _outputs(
    server: Server, combination: Combination, sources: Path, out: Path
) -> list[list[bytes]]:
    """Run the command; return the files that each source became."""
    argv = [str(combination.cores), *combination.argv(out)]
    done = server.run(argv, sources, function="tests.operations.on_cores:main")
    assert done.code == 0, (combination, done.err.decode())
    if combination.output == "-":
        return [[done.out]]
    found = out / "shards" if combination.output == "shards" else out
    files = sorted(each for each in found.rglob("*") if each.suffix in (".pt", ".safetensors"))
    read = [each.read_bytes() for each in files]
    assert len(read) > 1 or combination.output != "shards"
    is_split = combination.output == "shards" or combination.sources == ("folder",)
    return [read] if is_split else [[each] for each in read]


def _digests(files: Sequence[bytes]) -> dict[str, str]:
    found: dict[str, str] = {}
    for data in files:
        is_safetensors = data[8:9] == b"{"
        state = load(data) if is_safetensors else torch.load(BytesIO(data), weights_only=True)
        found |= {
            key: sha256(each.contiguous().numpy().tobytes()).hexdigest()
            for key, each in state.items()
        }
    return {key: digest for key, digest in found.items() if key != "first"}


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    """The digests of what is there."""
    return {key: sha256(each.numpy().tobytes()).hexdigest() for key, each in _state().items()}


@pytest.fixture(scope="module")
def expected(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of a run with one thread."""
    with _server(ENVIRONMENTS[0]) as server:
        ((data,),) = _outputs(server, WHOLE, sources, tmp_path_factory.mktemp("expected"))
    return _digests([data])


def _is_drawn(key: str, rules: Sequence[str]) -> bool:
    """Whether one of the rules takes a key; all of them end or begin in a star."""
    return key == "rows" or any(
        key.endswith(rule[1:]) if rule[0] == "*" else key.startswith(rule[:-1]) for rule in rules
    )


def _compare(
    environment: Mapping[str, str],
    random: Random,
    count: int,
    sources: Path,
    expected: Mapping[str, str],
    before: Mapping[str, str],
    place: Path,
) -> None:
    """Draw the same tensors in so many ways, and compare their digests with the expected."""
    with _server(environment) as server:
        for number in range(count):
            combination = Combination.drawn(random)
            out = place / str(number)
            out.mkdir()
            wanted = {
                key: expected[key] if _is_drawn(key, combination.rules) else before[key]
                for key in expected
            }
            outputs = _outputs(server, combination, sources, out)
            assert len(outputs) == len(combination.sources), combination
            for files in outputs:
                assert _digests(files) == wanted, (environment, combination)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_initializer_draws_the_same_bytes_in_a_few_ways(
    seed: int,
    sources: Path,
    expected: dict[str, str],
    before: dict[str, str],
    tmp_path: Path,
) -> None:
    random = Random(seed)
    environment = random.choice(ENVIRONMENTS[1:])
    _compare(environment, random, 3, sources, expected, before, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(ENVIRONMENTS)))
def test_every_initializer_draws_the_same_bytes_in_two_hundred_ways(
    number: int,
    sources: Path,
    expected: dict[str, str],
    before: dict[str, str],
    tmp_path: Path,
) -> None:
    count = 200 // len(ENVIRONMENTS)
    environment = ENVIRONMENTS[number]
    _compare(environment, Random(100 + number), count, sources, expected, before, tmp_path)


def test_every_initializer_draws_something(
    expected: dict[str, str], before: dict[str, str]
) -> None:
    assert [key for key in before if expected[key] == before[key]] == ["untouched"]
