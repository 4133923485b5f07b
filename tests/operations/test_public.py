"""What the commands do, from Python."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from reinit_cli import diff, rewrite, stats


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    first, second = str(tmp_path / "a.safetensors"), str(tmp_path / "b.pt")
    save_file({"x.w": torch.arange(6.0), "x.b": torch.ones(2), "y.w": torch.zeros(4)}, first)
    rewrite(first, ["y.w=constant:0.5"], second)
    return first, second


def test_diff_reports_what_differs(pair: tuple[str, str]) -> None:
    found = {each.key: each for each in diff(*pair)}

    assert [key for key, each in found.items() if each.differs] == ["y.w"]
    assert found["y.w"].distance is not None
    assert found["y.w"].distance.max_abs == 0.5
    assert not [each for each in diff(*pair, ["x.*"]) if each.differs]
    assert not [each for each in diff(*pair, atol=0.5) if each.differs]
    assert not [each for each in diff(*pair, keys_only=True) if each.differs]


def test_stats_measures_tensors_and_modules(pair: tuple[str, str]) -> None:
    alone = {each.key: each.statistics for each in stats(pair[0], ["x.*"])}
    together = {each.key: each.statistics for each in stats(pair[0], by="module")}

    assert list(alone) == ["x.b", "x.w"] or list(alone) == ["x.w", "x.b"]
    assert alone["x.w"].finite.mean == 2.5
    assert together["x"].numel == 8
    assert stats(pair[0], ["x.w"], bins=3)[0].histogram is not None
