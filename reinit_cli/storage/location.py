"""Take the names of sources and outputs apart."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from urllib.parse import unquote

from reinit_cli.lazy import dataclass


@dataclass(frozen=True, slots=True)
class SourceName:
    """The name of a source, in parts.

    Attributes:
        parent: the folder it lies in; "" for the current one.
        stem: its name there without the suffix.
        suffix: it, with its dots; "" for a folder.
    """

    parent: str
    stem: str
    suffix: str

    @classmethod
    def of_file(cls, path: str, suffix: str) -> SourceName:
        """Take the path of a file apart; what is made of a remote one goes to this folder."""
        parent, name = ("", name_of_url(path)) if is_fetched(path) else os.path.split(path)
        return cls(parent, name.removesuffix(suffix), suffix)


_IN_HUB_CACHE = re.compile(
    r"(?:^|/)(?:models|datasets|spaces)--(?:[^/]+--)?([^/]+)/(?:snapshots|blobs)(?:/|$)"
)


def name_in_hub_cache(folder: str) -> str:
    """Return the model's name where a folder is one of a hub cache, or "".

    Such a folder is models--OWNER--NAME/snapshots, one below it, or that of the blobs; a link
    may have brought it where its name does not tell.
    """
    for path in (os.path.abspath(folder), os.path.realpath(folder)):
        found = _IN_HUB_CACHE.search(path)
        if found is not None:
            return found[1]
    return ""


_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)

_HERE = ("file", "local")
"""The schemes of files on this machine, which are named by their paths."""


def is_remote(path: str) -> bool:
    """Whether a path is a URL: a scheme and "://"."""
    return _URL.match(path) is not None


def scheme_of(url: str) -> str:
    """Return the scheme of a URL in small letters."""
    return url.partition("://")[0].lower()


def is_fetched(path: str) -> bool:
    """Whether a path is the URL of a file that is not one of this machine."""
    return is_remote(path) and scheme_of(path) not in _HERE


def is_on_hub(text: str) -> bool:
    """Whether a name is one of the Hugging Face Hub."""
    return is_remote(text) and scheme_of(text) == "hf"


def name_of_url(url: str) -> str:
    """Return the name of a file or folder at a URL, as a file of it is called here.

    An http URL may end in a query, which is not part of the name, and spells what is not a
    letter or a digit as "%20"; to all others these are characters like any.
    """
    _, _, rest = url.partition("://")
    if is_on_hub(url):
        # Few names are on the Hub, and any command takes names apart.
        from reinit_cli.storage.hub.name import names_on_hub

        name = names_on_hub(url)[0]
        return os.path.basename(name.path or name.repo)
    if scheme_of(url) in _WEB:
        return os.path.basename(unquote(re.split(r"[?#]", rest)[0].rstrip("/")).rstrip("/"))
    return os.path.basename(rest.rstrip("/"))


@dataclass(frozen=True, slots=True)
class Secrets:
    """What a URL has that is not shown: whoever reads it could use it.

    Attributes:
        user: the name and password before the host, with "@".
        query: what follows "?" or "#": a signature is there.
    """

    user: str = ""
    query: str = ""

    @classmethod
    def of(cls, url: str) -> Secrets:
        """Take them out of a URL; what follows "?" in the name of an object is a part of it."""
        _, mark, rest = url.partition("://")
        has_query = scheme_of(url) not in _WITHOUT_QUERY
        authority = re.split(r"[/?#]", rest)[0]
        if has_query and _has_odd_port(authority):
            authority = rest  # that was a password with a slash or the like in it
        user, at, _ = authority.rpartition("@")
        if not mark or not (scheme_of(url) in _WEB or ":" in user):
            user, at = "", ""
        found = re.search(r"[?#]", rest[len(user) :]) if mark and has_query else None
        return cls(user + at, rest[len(user) + found.start() :] if found else "")

    def into(self, url: str) -> str:
        """Return a URL without secrets with these."""
        scheme, mark, rest = url.partition("://")
        return f"{scheme}{mark}{self.user}{rest}{self.query}"


def without_secrets(path: str) -> str:
    """Return a path, or a URL as it may be shown and kept: without a password and a query."""
    if not is_remote(path):
        return path
    secrets = Secrets.of(path)
    scheme, mark, rest = path.partition("://")
    return scheme + mark + rest.removeprefix(secrets.user).removesuffix(secrets.query)


def hidden_in(text: str, words: Iterable[str]) -> str:
    """Return a text without what is secret in the URLs that some words hold, or nearly hold."""
    for word in words:
        for found in _NEARLY_URL.finditer(word):
            whole = found[2].strip()
            shown = without_secrets(f"{found[1]}://{whole}").partition("://")[2]
            if shown and shown != whole:
                text = text.replace(whole, shown)
    return text


def url_meant(path: str) -> str:
    """Return the URL that a path is but for a slash, which pathlib drops, or ""."""
    found = _ONE_SLASH.fullmatch(path)
    return f"{found[1]}://{found[2]}" if found else ""


_NEARLY_URL = re.compile(r"([a-z][a-z0-9+.-]*):/{1,2}(.*)", re.IGNORECASE | re.DOTALL)

_ONE_SLASH = re.compile(r"(s3a?|gs|gcs|hf|memory|https?):/([^/].*)", re.IGNORECASE | re.DOTALL)


def _has_odd_port(authority: str) -> bool:
    port = authority.rpartition("]")[2].partition(":")[2]
    return port != "" and "@" not in authority and not port.isdecimal()


_WEB = ("http", "https")

_WITHOUT_QUERY = frozenset({"s3", "s3a", "gs", "gcs", "memory", "hf", *_HERE})
"""The schemes of places where any character may be one of a name."""


DASH = "-"
"""The source that stands for standard input, and the output for standard output."""

STANDARD_INPUT, STANDARD_OUTPUT = "/dev/fd/0", "/dev/fd/1"
"""Paths that lead to the files to which a shell redirected them."""
