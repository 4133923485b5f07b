"""Be the Hugging Face Hub on the loopback, as far as its library and ours ask for."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

LARGE_NBYTES = 10_000
"""From here on a file is redirected to the other server."""


def commit_of(text: str) -> str:
    """Return a commit: 40 hexadecimal digits."""
    return hashlib.sha1(text.encode()).hexdigest()


class Request(NamedTuple):
    """A request that was answered.

    Attributes:
        method: how it was made.
        path: what it was for, as it was sent.
        range: the range that it asked for, or None.
        status: that of the answer.
        nbytes: what was sent.
        has_token: whether it showed a token.
    """

    method: str
    path: str
    range: str | None
    status: int
    nbytes: int
    has_token: bool


@dataclass
class Fault:
    """What goes wrong.

    Attributes:
        pattern: matches a part of the path of a request.
        status: what is answered instead; 0 to cut the answer in the middle, 200 to ignore ranges.
        times: how many requests are left that fail.
    """

    pattern: str
    status: int
    times: int


@dataclass
class MockHub:
    """The models, and what is asked for them.

    Attributes:
        models: for each model, the folder of each commit.
        revisions: for each model, the commit of each branch and tag.
        gated: models whose terms have to be accepted.
        private: models that a token is needed to see.
        moved: models that have another name now, by the old one.
        has_sizes: whether what is said of a model has the sizes of its files.
        log: the requests that were answered.
        faults: what goes wrong.
        refused_after: how many requests the address of the other server is good for; None for all.
    """

    models: dict[str, dict[str, Path]] = field(default_factory=dict)
    revisions: dict[str, dict[str, str]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    private: set[str] = field(default_factory=set)
    moved: dict[str, str] = field(default_factory=dict)
    has_sizes: bool = True
    log: list[Request] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    refused_after: int | None = None

    def add(self, model: str, folder: Path, revision: str = "main") -> str:
        """Let a model have the files of a folder; return the commit."""
        commit = commit_of(f"{model}@{revision}")
        self.models.setdefault(model, {})[commit] = folder
        self.revisions.setdefault(model, {})[revision] = commit
        return commit

    def fail(self, pattern: str, status: int, times: int = 1_000) -> None:
        """Let requests fail."""
        self.faults.append(Fault(pattern, status, times))

    def used(self, ticket: str) -> int:
        """Return how often an address of the other server is used, with this time."""
        return 1 + sum(f"/{ticket}/" in each.path for each in self.log)

    @property
    def nbytes(self) -> int:
        """How much was sent."""
        return sum(each.nbytes for each in self.log)

    def clear(self) -> None:
        """Forget all models, requests and faults."""
        self.__init__()  # type: ignore[misc]


class Server(ThreadingHTTPServer):
    """The Hub at some port, which is its other server too under another name."""

    daemon_threads = True
    hub = MockHub()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that goes away."""

    @classmethod
    def started(cls) -> Server:
        """Return one that serves."""
        server = cls(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """Answers a request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *said: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer a request."""
        hub = self.server.hub
        fault = next((each for each in hub.faults if self._fails(each)), None)
        self.cuts = fault is not None and fault.status == 0
        self.ignores_ranges = fault is not None and fault.status == 200
        if fault is not None and not self.cuts and not self.ignores_ranges:
            self._say(fault.status, b"{}")
            return
        words = [unquote(each) for each in urlsplit(self.path).path.split("/")[1:]]
        if words[:2] == ["api", "models"]:
            self._describe(words[2:])
        elif words[0] == "cdn":
            commit, ticket, *path = words[1:]
            if hub.refused_after is not None and hub.used(ticket) > hub.refused_after:
                self._say(403, b"{}")
                return
            (folder,) = (of[commit] for of in hub.models.values() if commit in of)
            self._send(folder / "/".join(path), {})
        elif "resolve" not in words:
            self.send_error(404)  # what the library asks for itself, as which agents there are
        else:
            at = words.index("resolve")
            self._resolve("/".join(words[:at]), words[at + 1], "/".join(words[at + 2 :]))

    def do_HEAD(self) -> None:
        """Answer a request for headers alone."""
        self.do_GET()

    def _fails(self, fault: Fault) -> bool:
        if fault.times == 0 or not re.search(fault.pattern, self.path):
            return False
        fault.times -= 1
        return True

    def _describe(self, words: list[str]) -> None:
        at = next((at for at in (1, 2) if words[at : at + 1] in (["revision"], ["tree"])), None)
        model = "/".join(words[:at])
        new = self.server.hub.moved.get(model)
        if new is not None:
            place = self.path.replace(f"/api/models/{model}", f"/api/models/{new}")
            self._say(307, b"", Location=place)
            return
        commit = self._commit(model, words[at + 1] if at is not None else "main")
        if commit is None:
            return
        entries = self._entries(self.server.hub.models[model][commit])
        if at is not None and words[at] == "tree":
            self._json(entries)
            return
        self._json(
            {"id": model, "modelId": model, "sha": commit, "private": False, "tags": [],
             "downloads": 0, "siblings": [self._sibling(each) for each in entries]}
        )  # fmt: skip

    def _sibling(self, entry: dict[str, Any]) -> dict[str, Any]:
        if not self.server.hub.has_sizes:
            return {"rfilename": entry["path"]}
        known = {"rfilename": entry["path"], "size": entry["size"], "blobId": entry["oid"]}
        if "lfs" in entry:
            known["lfs"] = {
                "sha256": entry["lfs"]["oid"],
                "size": entry["size"],
                "pointerSize": 135,
            }
        return known

    @staticmethod
    def _entries(folder: Path) -> list[dict[str, Any]]:
        return [
            {"type": "file", "path": path.relative_to(folder).as_posix(),
             "size": path.stat().st_size, "oid": _blob(path)}
            | ({"lfs": {"oid": _sha256(path), "size": path.stat().st_size, "pointerSize": 135}}
               if path.stat().st_size > LARGE_NBYTES else {})
            for path in sorted(folder.rglob("*")) if path.is_file()
        ]  # fmt: skip

    def _commit(self, model: str, revision: str, *, is_file: bool = False) -> str | None:
        """Return the commit of a revision, or refuse it as the Hub does."""
        hub, token = self.server.hub, self.headers.get("Authorization")
        refused = {"X-Error-Message": "Access to model is restricted"}
        if model not in hub.models or (model in hub.private and token is None):
            self._say(401, b"{}", **{"X-Error-Code": "RepoNotFound"})
        elif token == "Bearer hf_bad":
            said = "Invalid credentials in Authorization header"
            self._say(401, b"{}", **{"X-Error-Message": said})
        elif is_file and model in hub.gated and token is None:
            self._say(401, b"{}", **{"X-Error-Code": "GatedRepo"}, **refused)
        elif (found := hub.revisions[model].get(revision, revision)) in hub.models[model]:
            return found
        else:
            self._say(404, b"{}", **{"X-Error-Code": "RevisionNotFound"})
        return None

    def _resolve(self, model: str, revision: str, path: str) -> None:
        model = self.server.hub.moved.get(model, model)
        commit = self._commit(model, revision, is_file=True)
        if commit is None:
            return
        file = self.server.hub.models[model][commit] / path
        if not file.is_file():
            self._say(404, b"", **{"X-Error-Code": "EntryNotFound"})
            return
        known = {"X-Repo-Commit": commit, "ETag": f'"{_blob(file)}"'}
        if file.stat().st_size <= LARGE_NBYTES:
            self._send(file, known)
            return
        place = f"http://localhost:{self.server.server_address[1]}/cdn/{commit}/{len(self.server.hub.log)}/{path}"
        linked = {"X-Linked-Size": str(file.stat().st_size), "X-Linked-ETag": f'"{_sha256(file)}"'}
        self._say(302, b"", Location=place, **known, **linked)

    def _send(self, file: Path, headers: dict[str, str]) -> None:
        data = file.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None or self.ignores_ranges:
            self._say(200, data, **headers)
            return
        start, stop = int(asked[1]), min(len(data), int(asked[2] or len(data)) + 1)
        said = {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}
        self._say(206, data[start:stop], **headers, **said)

    def _json(self, value: object) -> None:
        self._say(200, json.dumps(value).encode(), **{"Content-Type": "application/json"})

    def _say(self, status: int, body: bytes, **headers: str) -> None:
        sent = b"" if self.command == "HEAD" else body[: len(body) // 2 if self.cuts else None]
        self.server.hub.log.append(
            Request(
                self.command, self.path, self.headers.get("Range"), status, len(sent),
                "Authorization" in self.headers,
            )
        )  # fmt: skip
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("X-HF-Warning", "unauthenticated; Please set a HF_TOKEN")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(sent)
        if self.cuts:
            self.close_connection = True


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _blob(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
