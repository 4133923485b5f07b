"""Initializers that other packages add by their entry points."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import reinit_cli
from reinit_cli import apply_, register, seed_for
from reinit_cli.cli import main
from reinit_cli.cli.completion.candidates import inits_starting
from reinit_cli.errors import ArgumentError, PackageError, UnknownNameError
from reinit_cli.initializers import REGISTRY, Array, Chance, Law, Normal, Number, parse_init
from reinit_cli.initializers.registry import ENTRY_POINTS
from reinit_cli.operations.ways import meant

MODULE = '''
from reinit_cli import register
from reinit_cli.initializers import Normal


@register(law="N(0, 1 / numel)", example="tiny")
def tiny(shape):
    """Draw less the larger a tensor is."""
    return Normal(0.0, 1 / max(1, __import__("math").prod(shape)))
'''


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which groups were looked for; one package is there."""
    (tmp_path / "their_inits.py").write_text(MODULE)
    (tmp_path / "broken_inits.py").write_text("raise RuntimeError('no licence')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(REGISTRY, "_by_name", dict(REGISTRY._by_name))
    monkeypatch.setattr(REGISTRY, "_has_loaded", False)
    monkeypatch.delitem(sys.modules, "their_inits", raising=False)
    return _install(monkeypatch, "their_inits")


def _install(monkeypatch: pytest.MonkeyPatch, module: str) -> list[str]:
    groups: list[str] = []

    def entry_points(*, group: str) -> EntryPoints:
        groups.append(group)
        return EntryPoints([EntryPoint(module, module, group)])

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    return groups


def test_an_unknown_name_is_looked_for_in_other_packages(asked: list[str]) -> None:
    state = {"w": torch.zeros(100)}

    apply_(state, ["w=tiny"])

    assert asked == [ENTRY_POINTS]
    assert 0 < state["w"].abs().max() < 0.1


def test_a_known_name_looks_for_no_package(asked: list[str]) -> None:
    apply_({"w": torch.zeros(3)}, ["w=normal:std=1"])

    assert asked == []


def test_packages_are_searched_once_for_an_unknown_name(asked: list[str]) -> None:
    for _ in range(2):
        with pytest.raises(UnknownNameError, match="unknown initializer 'tinny'") as refused:
            parse_init("tinny")

    assert meant(refused.value) == ("tiny",)
    assert asked == [ENTRY_POINTS]


def test_lists_and_completion_have_those_of_other_packages(asked: list[str]) -> None:
    assert inits_starting("ti") == ["tiny"]
    assert "tiny" in [each.name for each in REGISTRY]
    assert asked == [ENTRY_POINTS]


def test_a_package_that_fails_is_named(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, "broken_inits")

    with pytest.raises(
        PackageError,
        match="'broken_inits' of broken_inits cannot be loaded: RuntimeError: no licence",
    ):
        parse_init("tiny")
    assert str(parse_init("zeros")) == "zeros"


def test_adding_our_own_initializers_searches_no_package() -> None:
    """Another package's initializers need `register`, which is there when ours are added."""
    code = (
        "import importlib.metadata as metadata\n"
        "def refuse(**_): raise AssertionError('asked')\n"
        "metadata.entry_points = refuse\n"
        "import reinit_cli.initializers\n"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


LAW = '''
import math
from dataclasses import dataclass

from reinit_cli import register
from reinit_cli.initializers import Law


@dataclass(frozen=True)
class Exponential(Law):
    mean: float
    low = 0.0

    @property
    def std(self):
        return self.mean

    def fill(self, values, chance):
        import torch

        tensor = torch.from_numpy(values)
        tensor.exponential_(1 / self.mean, generator=chance.generator())


@register(law="Exp(1 / mean)", example="exponential:mean=0.02")
def exponential(shape, *, mean: float = 1.0):
    """Draw positive values, few of them large."""
    return Exponential(mean)


class Tested(Exponential):
    statistics = ("distribution",)

    def cdf(self, x):
        return -math.expm1(-x / self.mean) if x > 0 else 0.0


@register(law="Exp(1 / mean)", example="tested:mean=0.02")
def tested(shape, *, mean: float = 1.0):
    """Draw the same, and test it."""
    return Tested(mean)


class Wrong(Tested):
    def fill(self, values, chance):
        chance.uniform(values, 0, 2 * self.mean)


@register(law="not what it says", example="wrong:mean=0.02")
def wrong(shape, *, mean: float = 1.0):
    """Draw something else."""
    return Wrong(mean)


class Negative(Exponential):
    def fill(self, values, chance):
        chance.normal(values, self.mean, 1)


@register(law="not what it says", example="negative:mean=0.02")
def negative(shape, *, mean: float = 1.0):
    """Draw below the bound."""
    return Negative(mean)
'''


@pytest.fixture
def reinit(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command in an environment in which another package is installed."""
    (tmp_path / "their_laws.py").write_text(LAW)
    info = tmp_path / "their_laws-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-laws\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\ntheir_laws = their_laws\n")
    path = os.pathsep.join((str(tmp_path), str(Path(reinit_cli.__file__).parents[1])))

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "reinit_cli", *args],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def _exponential(key: str, numel: int, mean: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed_for(0, key))
    return torch.empty(numel).exponential_(1 / mean, generator=generator)


@pytest.mark.parametrize("name", ["exponential", "tested"])
def test_a_law_of_another_package_fills_a_checkpoint_and_is_tested(
    name: str, reinit: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """A law has to say its mean, its deviation and how it fills; all else has a default."""
    save_file({"w": torch.zeros(300_000), "b": torch.ones(3)}, "in.safetensors")

    done = reinit(
        "in.safetensors",
        "-r",
        f"w={name}:0.02",
        "-o",
        "out.safetensors",
        "--check",
        "--stream=torch",
    )

    assert (done.returncode, "warning" in done.stderr) == (0, False)
    written = load_file("out.safetensors")
    assert torch.equal(written["w"], _exponential("w", 300_000, 0.02))
    assert torch.equal(written["b"], torch.ones(3))


@pytest.mark.parametrize(("name", "test"), [("wrong", "distribution"), ("negative", "bound")])
def test_a_law_of_another_package_that_draws_something_else_is_found_out(
    name: str, test: str, reinit: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    save_file({"w": torch.zeros(300_000)}, "in.safetensors")

    done = reinit("in.safetensors", "-r", f"w={name}:0.02", "-o", "out.safetensors", "--check")

    assert done.returncode == 1
    assert f"'w' does not follow {name}:mean=0.02: its {test} is " in done.stderr
    assert not Path("out.safetensors").exists()


@pytest.mark.parametrize(("name", "has_curve"), [("exponential", False), ("tested", True)])
def test_a_report_draws_the_density_of_a_law_that_says_it(
    name: str, has_curve: bool, reinit: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    save_file({"w": torch.zeros(1000)}, "in.safetensors")

    done = reinit(
        *("in.safetensors", "-r", f"w={name}:0.02", "-o", "out.safetensors"),
        *("--report", "report.html"),
    )

    assert (done.returncode, "warning" in done.stderr) == (0, False)
    page = Path("report.html").read_text()
    assert not re.search(r' d="[^"]*nan', page, re.IGNORECASE)
    assert ('class="expected"' in page) == has_curve


class _Scale(Law):
    """A law whose deviation is an attribute of its instances."""

    mean = 0.0

    def __init__(self, std: float) -> None:
        self.std = std

    def fill(self, values: Array, chance: Chance) -> None:
        chance.normal(values, 0, self.std)


@dataclass(frozen=True)
class _Bounded(Law):
    """A law whose bounds are fields, which have no defaults."""

    low: float
    high: float
    mean = 0.5
    std = 0.1

    def fill(self, values: Array, chance: Chance) -> None:
        chance.uniform(values, self.low, self.high)


def test_a_law_for_tensors_and_generators_is_one_line_that_says_what_to_write(
    reinit: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """Version 0.1.0 called it so; a numpy array has none of the methods of a tensor."""
    old = LAW.replace("def fill(self, values, chance)", "def fill(self, tensor, generator)")
    (tmp_path / "their_laws.py").write_text(old)

    done = reinit("draw", "exponential:mean=1", "3")

    error, hint = done.stderr.splitlines()
    assert error.startswith("error: the initializers 'their_laws' of their-laws cannot be loaded:")
    assert "Exponential.fill(tensor, generator) must become fill(values, chance)" in error
    assert hint == "hint: fix or remove it: pip uninstall their-laws"
    assert done.returncode == 2


def test_an_argument_may_accept_less_than_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REGISTRY, "_by_name", dict(REGISTRY._by_name))

    def narrow(shape: tuple[int, ...], *, std: Annotated[float, Number(minimum=0)] = 1.0) -> Law:
        """Accept deviations alone."""
        return Normal(0.0, std)

    register(law="N(0, std²)", example="narrow:std=0.5")(narrow)

    assert str(parse_init("narrow:0.5")) == "narrow:std=0.5"
    with pytest.raises(ArgumentError, match="std must be a number of at least 0, not '-1'"):
        parse_init("narrow:std=-1")


def test_attributes_of_a_law_may_be_of_the_class_the_instance_or_fields() -> None:
    assert _Scale(0.3).std == 0.3
    assert _Scale(0.3).mean == 0.0
    assert (_Bounded(0.0, 1.0).low, _Bounded(low=0.0, high=1.0).high) == (0.0, 1.0)
    with pytest.raises(TypeError, match="missing 2 required positional arguments"):
        _Bounded()  # type: ignore[call-arg]


def test_a_law_says_little_where_it_has_to_say_nothing() -> None:
    law = _Scale(0.3)

    assert (law.low, law.high, law.spread) == (-math.inf, math.inf, math.inf)
    assert (law.is_random, law.is_sequential, law.statistics) == (True, False, ())
    assert (law.identity, law.misfit(np.ones(3))) == ("", (0.0, 0.0))
    assert math.isnan(law.cdf(0.0))
    assert _Bounded(-1.0, 3.0).spread == 2.0, "Hoeffding's lemma: half of the range"


def test_a_law_that_cannot_fill_cannot_be_made() -> None:
    class Empty(Law):
        mean = std = 0.0

    with pytest.raises(TypeError, match="abstract"):
        Empty()  # type: ignore[abstract]


FAULTS = {
    "in the function": (
        "    raise KeyError('scale')",
        "KeyError: 'scale'",
    ),
    "in what it returns": (
        "    return [0.0] * shape[0]",
        "TypeError: it returned list, which is not a Law",
    ),
    "in a number of the law": (
        "    class Faulty(Law):\n"
        "        mean = property(lambda self: 1 / 0)\n"
        "        std = 1.0\n"
        "        def fill(self, values, chance):\n"
        "            values[...] = 0\n"
        "    return Faulty()",
        "ZeroDivisionError: division by zero",
    ),
    "in a draw": (
        "    class Faulty(Law):\n"
        "        mean, std = 0.0, 1.0\n"
        "        is_elementwise = ELEMENTWISE\n"
        "        def fill(self, values, chance):\n"
        "            raise RuntimeError('no table\\nfor it')\n"
        "    return Faulty()",
        "RuntimeError: no table",
    ),
}


@pytest.mark.parametrize("stream", ["philox", "torch"])
@pytest.mark.parametrize("rule", ["w=faulty", "w[2:]=faulty"])
@pytest.mark.parametrize("elementwise", ["True", "False"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_another_package_is_one_error_that_names_it(
    fault: str,
    elementwise: str,
    rule: str,
    stream: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    body, said = FAULTS[fault]
    (tmp_path / "faulty_inits.py").write_text(
        "from reinit_cli import register\n"
        "from reinit_cli.initializers import Law\n"
        '@register(law="none", example="faulty")\n'
        "def faulty(shape):\n"
        '    """Fail."""\n' + body.replace("ELEMENTWISE", elementwise) + "\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(REGISTRY, "_by_name", dict(REGISTRY._by_name))
    monkeypatch.setattr(REGISTRY, "_has_loaded", False)
    monkeypatch.delitem(sys.modules, "faulty_inits", raising=False)
    _install(monkeypatch, "faulty_inits")
    save_file({"w": torch.zeros(4, 4)}, tmp_path / "m.safetensors")
    out = tmp_path / "out.safetensors"
    line = [str(tmp_path / "m.safetensors"), "-r", rule, "--stream", stream, "-q", "-o", str(out)]

    assert main(line) == 2

    assert capsys.readouterr().err.splitlines() == [
        f"error: the initializer 'faulty' of faulty_inits failed: {said}",
        "hint: it is a fault of faulty_inits: tell its authors, or use another initializer",
    ]
    assert not out.exists()
    state = {"w": torch.ones(4, 4)}
    with pytest.raises(PackageError, match="of faulty_inits failed") as error:
        apply_(state, [rule], stream=stream)
    assert error.value.__cause__ is not None
    assert torch.equal(state["w"], torch.ones(4, 4))
