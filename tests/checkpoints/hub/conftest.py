"""Let tests meet a Hub of their own, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checkpoints.hub.mock import MockHub, Server
from tests.cli.conftest import reinit
from tests.tools import package

__all__ = ["reinit"]


@pytest.fixture(scope="session")
def hub_server() -> Iterator[Server]:
    """Serve on a port of the loopback until the tests are done."""
    package("huggingface_hub")
    server = Server.started()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def hub(hub_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MockHub:
    """Return a Hub without models, which the library asks, and an empty cache.

    The library reads its environment when it is imported, which another test may have done.
    """
    from huggingface_hub import constants

    hub_server.hub.clear()
    template = hub_server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", hub_server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "home" / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return hub_server.hub
