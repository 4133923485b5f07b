"""One server of files for all tests of this folder, empty for each; pauses take no time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reinit_cli.storage.remote import place
from tests.range_server import RangeServer, range_server


@pytest.fixture(scope="session")
def the_server() -> Iterator[RangeServer]:
    with range_server() as server:
        yield server


@pytest.fixture
def server(the_server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> RangeServer:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(place, "PAUSES", (0.0, 0.0, 0.0))
    the_server.reset()
    return the_server
