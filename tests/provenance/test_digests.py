"""Digests are those of the whole bytes, however few of them a file system reads at a time."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from reinit_cli import rewrite
from reinit_cli.operations.verify import verify
from tests.short_calls import shorten_calls


@pytest.fixture
def short_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every call read, write or copy at most 700 bytes."""
    shorten_calls(monkeypatch, 700)


@pytest.mark.usefixtures("short_calls")
@pytest.mark.parametrize("law", ["zeros", "normal"])
def test_a_record_has_the_digests_of_whole_files_where_every_read_is_short(law: str) -> None:
    save_file({"a": torch.ones(40, 50), "b": torch.rand(60, 70)}, "in.safetensors")

    rewrite("in.safetensors", [f"a={law}"], "out.safetensors", record="record.json")

    record = json.loads(Path("record.json").read_text())
    data = Path("out.safetensors").read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    begin, end = (start + at for at in json.loads(data[8:start])["a"]["data_offsets"])
    (filled,) = record["filled"]
    source = Path("in.safetensors").read_bytes()
    assert filled["sha256"] == hashlib.sha256(data[begin:end]).hexdigest()
    assert record["rest"]["sha256"] == _of_one_piece(data[:begin] + data[end:])
    assert record["source"]["sha256"] == _of_one_piece(source)
    assert verify("out.safetensors", record="record.json", source="in.safetensors").holds


def _of_one_piece(data: bytes) -> str:
    """The digest of a file: that of the digests of its pieces, of which this has one."""
    return hashlib.sha256(hashlib.sha256(data).digest()).hexdigest()
