"""A seeded slice of the campaign finds nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaign.__main__ import PARTS, run_part
from tests.campaign.server import Servers, start_servers
from tests.tools import needs_safetensors


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    started = start_servers()
    yield started
    started.close()


def _need_the_reference(name: str) -> None:
    if name == "safetensors":
        needs_safetensors("float8_e4m3fnuz")  # the newest dtype of the files that are made


@pytest.mark.parametrize("name", PARTS)
def test_a_slice_of_the_campaign_finds_nothing(name: str, tmp_path: Path, servers: Servers) -> None:
    _need_the_reference(name)
    tally = run_part(name, 0, PARTS[name].few, tmp_path, servers)
    assert tally.findings == []
    assert tally.tried >= PARTS[name].few


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_more_of_the_campaign_finds_nothing(name: str, tmp_path: Path, servers: Servers) -> None:
    _need_the_reference(name)
    tally = run_part(name, 1, PARTS[name].many, tmp_path, servers)
    assert tally.findings == []
    assert tally.tried >= PARTS[name].many


def test_a_server_runs_a_command_as_a_process_would(tmp_path: Path, servers: Servers) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    run = servers.light.run(["keys", "broken.safetensors"], tmp_path)
    assert (run.code, run.out) == (2, b"")
    assert run.err.startswith(b"error: ")
    assert servers.light.run(["--version"], tmp_path).code == 0


def test_a_server_kills_what_hangs(tmp_path: Path, servers: Servers) -> None:
    run = servers.light.run([], tmp_path, function="signal:pause", limit=0.3)
    assert run.code is None
    assert servers.light.run(["--version"], tmp_path).code == 0


def test_a_server_measures_memory_above_its_own(tmp_path: Path, servers: Servers) -> None:
    asked = ["100_000_000"]
    small = servers.torch.run(["1"], tmp_path, function="tests.campaign.test_campaign:fill")
    large = servers.torch.run(asked, tmp_path, function="tests.campaign.test_campaign:fill")
    assert 80e6 < large.nbytes - small.nbytes < 110e6


def fill(nbytes: str) -> bytes:
    return bytes(str(len(b"x" * int(nbytes))), "ascii")
