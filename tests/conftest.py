"""What all tests share: no network, no cache of weights but their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from reinit_cli.initializers import REGISTRY
from reinit_cli.storage.remote import place
from reinit_cli.threads import ENDING_SIGNALS
from tests.pages import tools_in
from tests.servers.web import RangeServer, range_server

if TYPE_CHECKING:
    from tests.servers.s3 import Bucket, S3Server

# How long an example takes, or is made, depends on what else the machine does.
settings.register_profile("any clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any clock")


@pytest.fixture(autouse=True, scope="session")
def signals_end_commands() -> Iterator[None]:
    """Handle signals as in a terminal, whoever started the tests.

    A shell without job control has what it starts in the background ignore Ctrl-C, nohup
    has it ignore a hang-up, and commands that the tests start would inherit that.
    """
    before = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in ENDING_SIGNALS[1:]:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def signals_stay_as_they_are() -> Iterator[None]:
    """Notice a test after which signals are blocked, or handled otherwise: others would hang."""
    before = _signals()
    yield
    assert _signals() == before


def _signals() -> tuple[object, ...]:
    return signal.pthread_sigmask(signal.SIG_BLOCK, ()), *map(signal.getsignal, ENDING_SIGNALS)


@pytest.fixture(autouse=True, scope="session")
def initializers_are_imported() -> None:
    """Import every family, or one that is imported while a test patches the registry is lost."""
    assert list(REGISTRY)


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test an empty folder of its own to work in, and no user's settings."""
    # A `make` that a page types says more where these say that another make started it.
    settings = ("REINIT_", "CLICOLOR", "FORCE_COLOR", "MAKE", "MFLAGS")
    for name in [name for name in os.environ if name.startswith(settings)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch_home")))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.chdir(tmp_path_factory.mktemp("work"))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A shell whose `reinit` and `python` are those under test."""
    tools = tmp_path / "bin"
    tools.mkdir()
    return tools_in(tools)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """Return S3 on the loopback, the same for all tests."""
    if not os.environ.get("CI"):
        pytest.importorskip("moto")
        pytest.importorskip("s3fs")
    from tests.servers.s3 import S3Server

    server = S3Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def web_server() -> Iterator[RangeServer]:
    """Return a web server on the loopback, the same for all tests."""
    with range_server() as server:
        yield server


@pytest.fixture
def server(web_server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> RangeServer:
    """Return it without a file; what is asked for again is asked for immediately."""
    if not os.environ.get("CI"):
        pytest.importorskip("aiohttp")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(place, "PAUSES", (0.0, 0.0, 0.0))
    web_server.reset()
    return web_server


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Return a new bucket on it, which the environment leads to."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server.new_bucket()
