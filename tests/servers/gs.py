"""As much of Google Cloud Storage on the loopback as uploads and looks need.

By https://cloud.google.com/storage/docs/performing-resumable-uploads and the JSON API.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class _Session:
    key: str
    is_new: bool
    data: bytearray = field(default_factory=bytearray)


@dataclass
class GSServer:
    """What is visible, and what is under way.

    Attributes:
        objects: the bytes of each object, by "bucket/key".
        sessions: the uploads that were neither completed nor ended.
        denied: the methods that are answered with 403.
    """

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    sessions: dict[str, _Session] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)

    def start(self) -> ThreadingHTTPServer:
        handler = type("Handler", (_Handler,), {"served": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        return server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: GSServer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def _answer(self, status: int, body: Any = None, **headers: str) -> None:
        data = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _object(self, path: str) -> dict[str, Any]:
        bucket, _, key = path.partition("/")
        data = self.served.objects[path]
        md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        return {
            "name": key,
            "bucket": bucket,
            "size": str(len(data)),
            "md5Hash": md5,
            "generation": "1",
        }

    def _refused(self) -> bool:
        if self.command in self.served.denied:
            self._answer(403, {"error": {"message": "no"}})
        return self.command in self.served.denied

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self._refused():
            return
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        upload = re.fullmatch(r"/upload/storage/v1/b/([^/]+)/o", parts.path)
        if upload:
            name = f"session{len(self.served.sessions)}-{id(data)}"
            key = f"{unquote(upload[1])}/{json.loads(data)['name']}"
            self.served.sessions[name] = _Session(key, query.get("ifGenerationMatch") == ["0"])
            self._answer(200, Location=f"{self.served.url}/sessions/{name}")
            return
        self._take(parts.path.rpartition("/")[2], data)

    def _take(self, name: str, data: bytes) -> None:
        session = self.served.sessions[name]
        said = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", self.headers["Content-Range"])
        assert said is not None
        assert said[1] is None or int(said[1]) == len(session.data)
        session.data += data
        if said[3] == "*":
            assert len(data) % 2**18 == 0
            self._answer(308, Range=f"bytes=0-{len(session.data) - 1}")
            return
        assert int(said[3]) == len(session.data)
        if session.is_new and session.key in self.served.objects:
            self._answer(412, {"error": {"message": "At least one of the pre-conditions failed."}})
            return
        self.served.objects[session.key] = bytes(session.data)
        del self.served.sessions[name]
        self._answer(200, self._object(session.key))

    def do_DELETE(self) -> None:
        if self._refused():
            return
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/sessions/"):
            self.served.sessions.pop(path.rpartition("/")[2], None)
            self._answer(499)
            return
        found = re.fullmatch(r"/storage/v1/b/([^/]+)/o/(.+)", path)
        assert found is not None
        known = self.served.objects.pop(f"{found[1]}/{found[2]}", None)
        self._answer(204 if known is not None else 404)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        found = re.fullmatch(r"/storage/v1/b/([^/]+)/o(?:/(.+))?", unquote(parts.path))
        if self._refused() or found is None:
            return
        bucket, key = found[1], found[2]
        if key is not None:
            path = f"{bucket}/{key}"
            known = path in self.served.objects
            self._answer(200 if known else 404, self._object(path) if known else None)
            return
        prefix = f"{bucket}/{parse_qs(parts.query).get('prefix', [''])[0]}"
        items = [self._object(path) for path in self.served.objects if path.startswith(prefix)]
        self._answer(200, {"items": items})
