"""A server of files on the loopback: range requests, a log of them, and faults on demand."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class RangeServer:
    """What is served, and what was asked for.

    Attributes:
        url: where it is, without a slash at the end.
        files: the bytes of each file, by its path without the first slash.
        etags: the ETag of each file; one that is missing is sent as a hash of the bytes.
        log: (path with its query, first byte, end, status, bytes sent) of each request.
        fault: says for the number of a request and its path what goes wrong: a status, "cut",
            "drop", "whole", "other etag", "no etag", "other range", "gone"; "" for nothing.
        latency: how many seconds an answer takes.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    log: list[tuple[str, int, int, int, int]] = field(default_factory=list)
    fault: Callable[[int, str], str | int] = lambda *request: ""  # noqa: ARG005
    latency: float = 0.0
    redirects: dict[str, str] = field(default_factory=dict)
    in_flight: int = 0
    most_in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def nbytes(self) -> int:
        """How many bytes of files were sent."""
        return sum(sent for *_, sent in self.log)

    def reset(self) -> None:
        """Serve nothing, without faults, and forget the log."""
        fresh = RangeServer(self.url)
        for name in ("files", "etags", "log", "redirects", "latency", "most_in_flight"):
            setattr(self, name, getattr(fresh, name))
        self.fault = fresh.fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    served: RangeServer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:
        with self.served.lock:
            self.served.in_flight += 1
            self.served.most_in_flight = max(self.served.most_in_flight, self.served.in_flight)
        try:
            self._serve()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with self.served.lock:
                self.served.in_flight -= 1

    def _serve(self) -> None:
        served = self.served
        path = unquote(urlsplit(self.path).path).lstrip("/")
        with served.lock:
            at = len(served.log)
            served.log.append((self.path, 0, 0, 0, 0))
        fault = served.fault(at, path)
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, end = (int(asked[1]), int(asked[2]) + 1) if asked else (0, 0)
        time.sleep(served.latency)

        def done(status: int, sent: int = 0) -> None:
            served.log[at] = (self.path, first, end, status, sent)

        if fault == "drop":
            done(0)
            self.close_connection = True
            return
        if isinstance(fault, int):
            done(fault)
            self._answer(fault)
            return
        if path in served.redirects:
            done(302)
            self._answer(302, {"Location": served.redirects[path]})
            return
        if path not in served.files or fault == "gone":
            done(404)
            self._answer(404)
            return
        data = served.files[path]
        if asked and fault != "whole" and first >= len(data):
            done(416)
            self._answer(416, {"Content-Range": f"bytes */{len(data)}"})
            return
        status = 206 if asked and fault != "whole" else 200
        part = data[first:end] if status == 206 else data
        headers = {} if fault == "no etag" else {"ETag": served.etags.get(path, f'"{hash(data)}"')}
        if fault == "other etag":
            headers["ETag"] = '"another"'
        if status == 206:
            start = first + 1 if fault == "other range" else first
            headers["Content-Range"] = f"bytes {start}-{first + len(part) - 1}/{len(data)}"
        done(status, len(part))
        if fault == "cut":
            self._answer(status, headers, part[: len(part) // 2], len(part))
            self.close_connection = True
            return
        self._answer(status, headers, part)

    def _answer(
        self,
        status: int,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        nbytes: int = -1,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if nbytes < 0 else nbytes))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that went away."""


@contextmanager
def range_server() -> Iterator[RangeServer]:
    """Start a server in a thread; it ends with the context."""
    served = RangeServer()
    handler = type("Handler", (_Handler,), {"served": served})
    with _Server(("127.0.0.1", 0), handler) as server:
        served.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
