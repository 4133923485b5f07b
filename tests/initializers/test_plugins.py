"""Initializers that other packages add by their entry points."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
import torch

from reinit_cli import apply_
from reinit_cli.cli.completion.candidates import inits_starting
from reinit_cli.errors import PluginError, UnknownInitializerError
from reinit_cli.initializers import REGISTRY, parse_init
from reinit_cli.initializers.registry import ENTRY_POINTS

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


def test_a_name_that_nobody_has_is_looked_for_once(asked: list[str]) -> None:
    for _ in range(2):
        with pytest.raises(UnknownInitializerError, match="unknown initializer 'tinny'") as refused:
            parse_init("tinny")

    assert refused.value.near == ("tiny",)
    assert asked == [ENTRY_POINTS]


def test_lists_and_completion_have_those_of_other_packages(asked: list[str]) -> None:
    assert inits_starting("ti") == ["tiny"]
    assert "tiny" in [each.name for each in REGISTRY]
    assert asked == [ENTRY_POINTS]


def test_a_package_that_fails_is_named(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, "broken_inits")

    with pytest.raises(
        PluginError,
        match="'broken_inits' of broken_inits cannot be loaded: RuntimeError: no licence",
    ):
        parse_init("tiny")
    assert str(parse_init("zeros")) == "zeros"


def test_to_add_our_own_asks_nobody() -> None:
    """Another package's initializers need `register`, which is there when ours are added."""
    code = (
        "import importlib.metadata as metadata\n"
        "def refuse(**_): raise AssertionError('asked')\n"
        "metadata.entry_points = refuse\n"
        "import reinit_cli.initializers\n"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
