"""Ask a server of the web for ranges of a file.

fsspec's own requests take whole files from a server that ignores ranges, call what is
forbidden missing, and lose the ETag. So these are made here, in its session.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from reinit_cli.storage.reader import Fingerprint
from reinit_cli.storage.remote.backend import Answer, Look, Reason, RequestFailedError
from reinit_cli.text import why

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSSLError
    from fsspec.implementations.http import HTTPFileSystem

_AGAIN = frozenset({408, 425, 429})
"""The statuses below 500 that may go away by themselves."""

_CONTENT_RANGE = re.compile(r"(?i:bytes) (?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18})")

_PLAIN = re.compile(r"[!-~]*")


class Web:
    """Servers of the web."""

    lists = False
    tells = True
    tries = 4

    def __init__(self, fs: HTTPFileSystem) -> None:
        """Use the session of a file system."""
        self._fs = fs

    def look(self, url: str, nbytes: int) -> Look:
        """Return what is at a URL, with its first bytes, in one request.

        A signed URL allows one method alone, so there is no HEAD.
        """
        answer = self.fetch(url, 0, max(1, nbytes))
        return Look(answer.fingerprint, bytes(answer.data))

    def fetch(self, url: str, start: int, end: int) -> Answer:
        """Return a range of a file, shorter where the file ends."""
        from fsspec.asyn import sync

        answer = sync(self._fs.loop, self._fetched, url, start, end)
        assert isinstance(answer, Answer)
        return answer

    def names_in(self, url: str) -> list[str]:
        """Return none, as none are listed."""
        del url
        return []

    def files_of(self, url: str) -> Mapping[str, Fingerprint]:
        """Refuse, as no server lists files in a way that all agree on."""
        del url
        raise RequestFailedError("", "http does not list folders: name a file, or the index")

    async def _fetched(self, url: str, start: int, end: int) -> Answer:
        import aiohttp
        import yarl

        own = dict(self._fs.kwargs)
        headers = {
            **own.pop("headers", {}),
            "Range": f"bytes={start}-{end - 1}",
            "Accept-Encoding": "identity",
        }
        try:
            # What is spelled as a URL is sent as it is: a signature may cover the spelling.
            place = yarl.URL(url, encoded=_PLAIN.fullmatch(url) is not None)
            session = await self._fs.set_session()
            async with session.get(place, headers=headers, **own) as response:
                return await _answer(response, start, end)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _failure(error) from error


async def _answer(response: ClientResponse, start: int, end: int) -> Answer:
    """Read an answer, of which no more is taken than was asked for."""
    if response.status == 416:
        return Answer(b"", _fingerprint(response, _content_range(response)[2]))
    _check_status(response)
    if response.status == 206:
        first, last, nbytes = _content_range(response)
        if (first, last) != (start, min(end, nbytes) - 1):
            raise RequestFailedError("", "the server sent another range than it was asked for")
        return Answer(await _body(response, last + 1 - first), _fingerprint(response, nbytes))
    if response.content_length is None or response.content_length > end:
        raise RequestFailedError("whole", "the server sends whole files only")
    data = await _body(response, response.content_length)
    return Answer(data[start:end], _fingerprint(response, response.content_length))


def _check_status(response: ClientResponse) -> None:
    status = response.status
    said = f"the server says {status} {response.reason}".rstrip()
    if status in (401, 403):
        raise RequestFailedError("access", said)
    if status in (404, 410):
        raise RequestFailedError("missing")
    if status not in (200, 206):
        raise RequestFailedError("again" if status >= 500 or status in _AGAIN else "", said)


def _content_range(response: ClientResponse) -> tuple[int, int, int]:
    """Return which bytes come, and how many the file has; of no bytes, those before it."""
    said = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if said is None:
        raise RequestFailedError("", "the server does not say which bytes it sends")
    return int(said[1] or 0), int(said[2] or -1), int(said[3])


async def _body(response: ClientResponse, nbytes: int) -> bytearray:
    data = bytearray()
    while len(data) <= nbytes:
        part = await response.content.readany()
        if not part:
            return data
        data += part
    raise RequestFailedError("", "the server sent more than it was asked for")


def _fingerprint(response: ClientResponse, nbytes: int) -> Fingerprint:
    headers: Mapping[str, Any] = response.headers
    return Fingerprint.remote(nbytes, headers.get("ETag") or headers.get("Last-Modified") or "")


def _failure(error: Exception) -> RequestFailedError:
    """Return what an exception of aiohttp means, or of the parsers of URLs that it uses."""
    import aiohttp

    if isinstance(error, aiohttp.ClientSSLError):
        return RequestFailedError("", f"no https with {error.host}: {_why_no_tls(error)}")
    if isinstance(error, aiohttp.ClientConnectorError):
        problem = f"{error.host} cannot be reached: {_why_not_reached(error.os_error)}"
        return RequestFailedError("again", problem)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return RequestFailedError("", f"the proxy says {error.status} {error.message}".rstrip())
    known: tuple[tuple[type[Exception], Reason, str], ...] = (
        (aiohttp.TooManyRedirects, "", "it is redirected too often"),
        (aiohttp.ClientResponseError, "again", "the server's answer is not valid HTTP"),
        (TimeoutError, "again", "the server did not answer in time"),
        (aiohttp.ClientPayloadError, "again", "the server cut the answer short"),
        (ValueError, "", "it is not a valid URL"),
    )
    for kind, reason, problem in known:
        if isinstance(error, kind):
            return RequestFailedError(reason, problem)
    if "Redirect" in type(error).__name__:  # aiohttp 3.9 has none of its classes
        return RequestFailedError("", "it is redirected to a place that is not on the web")
    return RequestFailedError("again", _named(error))


def _why_not_reached(error: OSError) -> str:
    """Return what the system says, where aiohttp has other words for it."""
    return os.strerror(error.errno or 0).lower() if error.errno in errno.errorcode else why(error)


def _why_no_tls(error: ClientSSLError) -> str:
    """Return why a connection is not safe, without names and lines of the library's code."""
    found = getattr(error, "certificate_error", None) or error.os_error
    if said := getattr(found, "verify_message", ""):
        return f"its certificate is not valid: {said}"
    return str(getattr(found, "reason", None) or "it is refused").replace("_", " ").lower()


def _named(error: Exception) -> str:
    """Return what an error says, which may hold the URL and is then left out."""
    text = str(error).partition("\n")[0]
    return text if text and "://" not in text else type(error).__name__
