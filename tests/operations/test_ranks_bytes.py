"""Any number of ranks writes the bytes that one command writes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from reinit_cli import rewrite, verify
from reinit_cli.execution import divide
from tests.operations.ranks import make_sources, rewrite_together, tree


class Case(NamedTuple):
    """A run."""

    source: str
    output: str
    rules: Sequence[str] = ("*.weight=normal:std=0.02", "*.bias=uniform:a=-1,b=1")
    options: dict[str, Any] = {}  # noqa: RUF012  # never changed


SQUARE = "layers.*.weight=orthogonal"
CASES = {
    "safetensors": Case("m.safetensors", "out.safetensors"),
    "torch": Case("m.pt", "out.pt"),
    "legacy": Case("legacy.pt", "out.pt"),
    "Hugging Face": Case("hf", "out"),
    "Hugging Face, bin": Case("hf-bin", "out"),
    "DCP, rows": Case("dcp-rows", "out"),
    "DCP, columns": Case("dcp-columns", "out"),
    "DCP, grid": Case("dcp-grid", "out"),
    "sharded safetensors": Case("hf-ranks", "out"),
    "nothing drawn": Case("m.pt", "out.pt", ()),
    "to torch": Case("m.safetensors", "out.pt"),
    "to safetensors": Case("m.pt", "out.safetensors", options={"tensors_only": True}),
    "to shards": Case("m.safetensors", "out", options={"shard_nbytes": 300_000}),
    "DCP to safetensors": Case("dcp-grid", "out.safetensors", options={"tensors_only": True}),
    "DCP to shards": Case(
        "dcp-columns", "out", options={"shard_nbytes": 300_000, "tensors_only": True}
    ),
    "to DCP": Case("m.safetensors", "out", options={"to": "dcp"}),
    "to DCP files": Case(
        "m.pt", "out", options={"to": "dcp", "shard_nbytes": 300_000, "tensors_only": True}
    ),
    "a model": Case("squeezenet1_1", "out.safetensors", ("*=default",), {"weights": "none"}),
    "whole draws": Case("m.safetensors", "out.safetensors", (SQUARE, "conv.weight=dirac")),
    "transforms": Case("m.pt", "out.pt", ("*.weight=noise:relative=0.1", "*.bias=shuffle")),
    "transforms in DCP": Case("dcp-grid", "out", ("*.weight=shrink_perturb:0.4,0.01",)),
    "parts": Case("dcp-columns", "out", ("emb.weight=zeros", "emb.weight[100:300]=normal:std=0.1")),
    "torch-1": Case("dcp-rows", "out", options={"stream": "torch-1"}),
    "cast": Case("m.pt", "out.pt", options={"dtype": "bfloat16"}),
    "resized": Case("m.safetensors", "out.safetensors", options={"resize": ("emb.weight=900",)}),
    "renamed": Case("m.pt", "out.pt", options={"rename": ("layers.*=blocks.*",)}),
    "measured and tested": Case(
        "hf", "out", options={"check": True, "measure_before": True, "sketch": True}
    ),
    "blend": Case("m.safetensors", "out.safetensors", ("emb.weight=blend:donor.safetensors,0.3",)),
    "rewind": Case("m.safetensors", "out.pt", ("emb.weight=rewind:donor.safetensors",)),
    "an array": Case("m.safetensors", "out.safetensors", ("emb.weight=values:emb.npy",)),
    "a mask": Case("m.safetensors", "out.pt", ("emb.weight[mask=mask.safetensors]=normal:std=1",)),
    "recorded": Case("m.safetensors", "out.safetensors", options={"record": True}),
    "recorded, torch": Case("m.pt", "out.pt", options={"record": True}),
    "recorded folder": Case("hf", "out", options={"record": True}),
    "recorded DCP": Case("dcp-grid", "out", options={"record": True}),
    "recorded beside": Case("m.pt", "out.pt", options={"record": "out.json"}),
    "replaced": Case("m.pt", "out.pt", options={"force": True}),
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    before = os.getcwd()
    os.chdir(folder)
    make_sources()
    os.chdir(before)
    return folder


@pytest.fixture(autouse=True)
def at_sources(sources: Path) -> None:
    """Let every source have its name here."""
    for path in sources.iterdir():
        Path(path.name).symlink_to(path)


@pytest.fixture
def small_tensors_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(divide, "_LEAST_NBYTES", 2**10)


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(1, marks=pytest.mark.slow),
        pytest.param(2, marks=pytest.mark.slow),
        3,
        pytest.param(4, marks=pytest.mark.slow),
        pytest.param(8, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("small_tensors_are_cut")
def test_ranks_write_what_one_command_writes(name: str, count: int) -> None:
    case = CASES[name]
    expected = _written(case, 0)

    assert _written(case, count) == expected


@pytest.mark.usefixtures("small_tensors_are_cut")
@pytest.mark.parametrize("name", ["safetensors", "torch", "DCP, rows", "DCP, columns", "parts"])
def test_rank_0_reports_what_all_drew(name: str) -> None:
    """The last digits of statistics depend on how a tensor was cut."""
    source, output, rules, _ = CASES[name]
    alone = rewrite(source, rules, f"one-{output}").filled

    first = rewrite_together(3, source, rules, output)[0].filled

    assert list(first) == list(alone)
    for key, filled in alone.items():
        assert first[key].after.numel == filled.after.numel
        assert (first[key].after.low, first[key].after.high) == (
            filled.after.low,
            filled.after.high,
        )
        assert first[key].after.std == pytest.approx(filled.after.std, rel=1e-6, nan_ok=True)


@pytest.mark.usefixtures("small_tensors_are_cut")
def test_rows_of_a_large_tensor_are_drawn_by_every_rank() -> None:
    rules = ["emb.weight=normal:std=1"]

    _, *others = rewrite_together(4, "m.safetensors", rules, "out.safetensors")

    drawn = [other.filled["emb.weight"].after.numel for other in others]
    assert all(700 * 320 / 4 * 0.8 <= numel <= 700 * 320 / 4 * 1.2 for numel in drawn)


def _written(case: Case, count: int) -> dict[str, Any]:
    """Return all that is in the folder of an output, which others than rank 0 know nothing of."""
    folder = Path(f"by {count}")
    folder.mkdir()
    options = dict(case.options)
    if isinstance(options.get("record"), str):
        options["record"] = str(folder / options["record"])
    output = str(folder / case.output)
    if options.get("force"):
        Path(output).write_text("what was there")
    if count:
        rewrite_together(count, case.source, case.rules, output, **options)
    else:
        rewrite(case.source, case.rules, output, **options)
    if options.get("record"):
        given = {"record": options["record"]} if isinstance(options["record"], str) else {}
        assert not verify(output, **given).findings
    return dict(tree(folder))
