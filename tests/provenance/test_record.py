"""What a record says is bounded before it is parsed."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from reinit_cli import rewrite
from reinit_cli.errors import RecordError
from reinit_cli.provenance.record import VERSION, parse_record, record_in
from reinit_cli.streams.torch.stream import TorchStream

_NBYTES = 16 * 2**20


@pytest.mark.parametrize("part", ["{}", "[]", '{"a":{}}', "1", '"ab"'])
def test_a_record_of_a_million_parts_is_refused_before_it_is_parsed(part: str) -> None:
    count = _NBYTES // (len(part) + 1)
    text = f'{{"version":1,"filled":[{",".join([part] * count)}]}}'

    tracemalloc.start()
    try:
        with pytest.raises(RecordError, match="more parts than any checkpoint needs"):
            parse_record(text, "r.json")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 2**20


@pytest.mark.parametrize("value", ["1", '"ab"', "null"])
def test_a_record_of_a_million_names_is_refused_before_it_is_parsed(value: str) -> None:
    members = ",".join(f'"n{at}":{value}' for at in range(1_000_000))
    text = f'{{"version":1,"filled":[],"x":{{{members}}}}}'

    tracemalloc.start()
    try:
        with pytest.raises(RecordError, match="more names than any checkpoint needs"):
            parse_record(text, "r.json")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 4 * 2**20


@pytest.mark.parametrize(
    "member",
    ['"key":"{long}"', '"{long}":1', '"x":["{long}"]', '"x":"\\\\\\"{long}"', '"x":"{long}'],
)
def test_a_long_text_in_a_record_is_refused_before_it_is_parsed(member: str) -> None:
    text = '{"version":1,"filled":[{' + member.replace("{long}", "k" * 32 * 2**20) + "}]}"

    tracemalloc.start()
    try:
        with pytest.raises(
            RecordError, match="a text in its record has more than 262,144 characters"
        ):
            parse_record(text, "r.json")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 40 * 2**20


def test_a_record_of_a_hundred_thousand_tensors_is_read() -> None:
    digest = "0" * 64
    filled = [{"key": f"{at}.weight", "init": "zeros", "sha256": digest} for at in range(100_000)]
    row = {"shape": [64, 3, 7, 7], "dtype": "float32", "nbytes": 1, "action": "fill", "seed": 1}
    form = {
        "version": VERSION,
        "stream": TorchStream().name,
        "seed": 0,
        "device": "cpu",
        "arch": None,
        "record": False,
        "source": {"name": "m.pt", "nbytes": 1, "sha256": digest, "root": None, "weights": None},
        "rule": [],
        "filled": filled,
        "tensors": [{"key": f"{at}.weight", **row} for at in range(100_000)],
        "rest": {"sha256": digest},
        "sha256": digest,
    }

    assert parse_record(json.dumps(form), "r.json") == form


@pytest.mark.parametrize(
    ("stream", "shape", "library"),
    [
        ("philox", (520, 520), "LAPACK"),
        ("philox", (20, 30), None),
        ("torch", (520, 520), None),
        ("torch", (20, 30), None),
    ],
)
def test_a_record_names_the_library_that_decides_last_bits_of_philox(
    tmp_path: Path, stream: str, shape: tuple[int, int], library: str | None
) -> None:
    source, output = str(tmp_path / "m.safetensors"), str(tmp_path / "o.safetensors")
    save_file({"weight": torch.zeros(shape)}, source)
    rewrite(source, ["*=orthogonal"], output=output, stream=stream, record=True)

    (row,) = json.loads(record_in(output) or "")["filled"]

    assert row.get("library") == library
