"""Ask the Hub for ranges of files, with the headers, session and token of its own library."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, TypeVar

from reinit_cli.errors import UnreadableSourceError
from reinit_cli.storage.hub.failures import (
    endpoint,
    explained,
    is_passing,
    problem_of,
    transport_errors,
)
from reinit_cli.storage.hub.name import HubName
from reinit_cli.storage.remote.attempts import PAUSES
from reinit_cli.storage.remote.backend import RequestFailedError
from reinit_cli.threads import stop_here
from reinit_cli.version import __version__

_PARTIAL, _REFUSED = 206, 400

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")

Answer = TypeVar("Answer")


def tried(ask: Callable[[], Answer]) -> Answer:
    """Return what a request gives, after several tries if need be."""
    for pause in PAUSES:
        try:
            return ask()
        except transport_errors() as error:
            if not is_passing(error):
                raise
        stop_here()
        time.sleep(pause)
    return ask()


class Ranges:
    """The way to the bytes of a model's files.

    A large file is redirected to another server; further ranges go there directly.
    """

    def __init__(self, name: HubName, commit: str) -> None:
        self._name = name
        self._commit = commit
        self._lock = threading.Lock()
        self._direct: dict[str, str] = {}  # by the path in the model

    def read(self, file: str, start: int, stop: int, about: str) -> bytes:
        """Return bytes of a file.

        Args:
            file: its path in the model.
            start: where they begin.
            stop: where they end.
            about: the file as people call it.

        Raises:
            SourceError: the Hub does not give them out.
            RequestFailedError: they may come when they are asked for again.
        """
        with explained(self._name, about):
            try:
                return self._ask(file, start, stop, about)
            except transport_errors() as error:
                if is_passing(error):
                    raise RequestFailedError("again", problem_of(error)) from error
                raise

    def _ask(self, file: str, start: int, stop: int, about: str) -> bytes:
        with self._lock:
            direct = self._direct.get(file)
        hub = import_module("huggingface_hub")
        url = direct or hub.hf_hub_url(self._name.repo, file, revision=self._commit)
        headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        if direct is None or direct.startswith(f"{endpoint()}/"):
            # The token is for the Hub alone, and not for the servers that it leads to.
            headers |= hub.utils.build_hf_headers(
                library_name="reinit", library_version=__version__
            )
        with _answer(url, headers) as response:
            if response.status_code >= _REFUSED:
                _body(response)
                if direct is not None:
                    with self._lock:
                        self._direct.pop(file, None)  # the address has expired
                    return self._ask(file, start, stop, about)
                hub.utils.hf_raise_for_status(response)
            _check_range(response, start, stop, about)
            data = _body(response)
            if str(response.url) != url:
                with self._lock:
                    self._direct[file] = str(response.url)
        return data


def _answer(url: str, headers: dict[str, str]) -> AbstractContextManager[Any]:
    """Return an answer whose body is not read yet."""
    session = import_module("huggingface_hub.utils").get_session()
    timeout = import_module("huggingface_hub.constants").HF_HUB_DOWNLOAD_TIMEOUT
    if callable(session.stream):
        made: AbstractContextManager[Any] = session.stream(
            "GET", url, headers=headers, timeout=timeout
        )
        return made
    # Before 1.0 the library used requests, where this is a flag.
    old: AbstractContextManager[Any] = session.get(
        url, headers=headers, timeout=timeout, stream=True
    )
    return old


def _body(response: Any) -> bytes:
    return bytes(response.read() if hasattr(response, "read") else response.content)


def _check_range(response: Any, start: int, stop: int, about: str) -> None:
    """Refuse an answer before its body is read: it may be a whole file of many gigabytes."""
    if response.status_code != _PARTIAL:
        raise UnreadableSourceError(about, f"{endpoint()} sends whole files only")
    found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if found is None or (int(found[1]), int(found[2]) + 1) != (start, stop):
        raise UnreadableSourceError(about, f"{endpoint()} sends other bytes than were asked for")
