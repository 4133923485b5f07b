"""S3 on the loopback, by moto, with faults where a test wants them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_MAX_ATTEMPTS": "1",  # of botocore; those of s3fs come on top
    "NO_PROXY": "127.0.0.1",
}


@dataclass(frozen=True)
class Asked:
    """A request: its method, "/bucket/key", the names of what its query says, and its range."""

    method: str
    path: str
    query: frozenset[str]
    range: str = ""

    @property
    def nbytes(self) -> int:
        """How many bytes of an object it asks for; 0 for none in particular."""
        first, _, last = self.range.removeprefix("bytes=").partition("-")
        return int(last) + 1 - int(first) if first and last else 0

    @property
    def verb(self) -> str:
        """What S3 calls it, as far as uploads go."""
        if self.method == "POST":
            if "delete" in self.query:
                return "delete"
            return "create" if "uploads" in self.query else "complete"
        if self.method == "PUT":
            return "part" if "partNumber" in self.query else "put"
        if self.method == "DELETE":
            return "abort" if "uploadId" in self.query else "delete"
        if self.method == "GET" and self.path.count("/") > 1 and not self.path.endswith("/"):
            return "get"
        if "uploads" in self.query:
            return "uploads"
        return "head" if self.method == "HEAD" else "list"


@dataclass(frozen=True)
class Fault:
    """What a server answers instead.

    Attributes:
        status: the code of HTTP; 0 cuts the connection.
        code: S3's name of the error.
        is_late: whether what was asked for is done all the same.
    """

    status: int = 0
    code: str = ""
    is_late: bool = False


CUT = Fault()
CUT_AFTERWARDS = Fault(is_late=True)
DENIED = Fault(403, "AccessDenied")

Choose = Callable[[Asked], Fault | None]


class S3Server:
    """A server with its log.

    Attributes:
        url: where it is.
        asked: the requests since the log was last emptied.
        choose: which fault a request meets; None for none.
    """

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            protocol_version = "HTTP/1.1"

            def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002
                pass

        self.asked: list[Asked] = []
        self.choose: Choose | None = None
        self._buckets = 0
        self._fs: Any = None
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(
            "127.0.0.1", 0, self._answer, threaded=True, request_handler=Quiet
        )
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def environment(self) -> dict[str, str]:
        """What leads programs to it."""
        return {**_ENVIRONMENT, "AWS_ENDPOINT_URL": self.url}

    def new_bucket(self) -> Bucket:
        """Make a bucket; the environment has to lead here."""
        from s3fs import S3FileSystem

        if self._fs is None:  # which takes longer to make than to use
            self._fs = S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
        self._buckets += 1
        name = f"bucket-{self._buckets}"
        self._fs.mkdir(name)
        self.asked.clear()
        return Bucket(name, self, self._fs)

    @contextmanager
    def failing(self, choose: Choose) -> Iterator[None]:
        """Let requests meet faults."""
        self.choose = choose
        try:
            yield
        finally:
            self.choose = None

    @property
    def verbs(self) -> list[str]:
        return [each.verb for each in self.asked]

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        query = frozenset(parse_qs(environ["QUERY_STRING"], keep_blank_values=True))
        asked = Asked(
            environ["REQUEST_METHOD"], environ["PATH_INFO"], query, environ.get("HTTP_RANGE", "")
        )
        self.asked.append(asked)
        fault = self.choose(asked) if self.choose is not None else None
        if fault is None:
            return self._app(environ, start)
        if fault.is_late:
            list(self._app(environ, lambda *_: None))
        if not fault.status:
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError  # what the server takes for a client that left
        # What is not read of a body would be taken for the next request.
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        text = f"<Error><Code>{fault.code}</Code><Message>{fault.code}</Message></Error>".encode()
        headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(text)))]
        start(f"{fault.status} {fault.code}", headers)
        return [] if asked.method == "HEAD" else [text]


@dataclass(frozen=True)
class Bucket:
    """A bucket of one test."""

    name: str
    server: S3Server
    fs: Any

    def url(self, key: str) -> str:
        return f"s3://{self.name}/{key}"

    @property
    def objects(self) -> dict[str, bytes]:
        """What is visible, by key."""
        paths = self.fs.find(self.name)
        return {path.removeprefix(f"{self.name}/"): self.fs.cat_file(path) for path in paths}

    @property
    def uploads(self) -> list[str]:
        """The keys of what is under way, and not visible."""
        return [each["Key"] for each in self.fs.list_multipart_uploads(self.name)]

    def put(self, key: str, data: bytes) -> None:
        self.fs.pipe_file(f"{self.name}/{key}", data)
