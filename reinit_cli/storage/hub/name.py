"""Take the names of what lies on the Hugging Face Hub apart: `hf://ORG/MODEL[@REVISION][/FILE]`.

They are read as the Hub's own library reads them, without asking the Hub. Old models have a
name of one word, and then `hf://gpt2/onnx` is the folder `onnx` of `gpt2`, unless there is a
model `gpt2/onnx`: only the Hub can tell.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from reinit_cli.errors import SourceError, UnsupportedFormatError
from reinit_cli.lazy import dataclass

_NAME = re.compile(r"[A-Za-z0-9](?:[\w.-]{0,94}\w)?", re.ASCII)
"""The name of an organization, or of a model in it."""

_SPECIAL = re.compile(r"refs/(?:convert/[\w.-]+|pr/[0-9]+)(?=/|\Z)", re.ASCII)
"""The revisions whose slashes may be written as they are."""

_OTHER_KINDS = {"datasets": "a dataset", "spaces": "a space", "buckets": "a bucket"}
"""What the Hub keeps besides models, by what their names begin with."""


@dataclass(frozen=True, slots=True)
class HubName:
    """Where something lies on the Hub.

    Attributes:
        repo: the model, with its organization.
        revision: a branch, a tag or a commit, as it was typed; None for the main branch.
        path: a file or folder in the model; "" for all of it.
        root: the text that names the model and the revision, which those of its files begin with.
    """

    repo: str
    revision: str | None
    path: str
    root: str


def names_on_hub(text: str) -> tuple[HubName, ...]:
    """Return what a name may stand for, the likeliest first.

    Raises:
        SourceError: it is not a valid name of a model.
        UnsupportedFormatError: it is that of something else on the Hub.
    """
    rest = text.partition("://")[2].strip("/")
    first, _, others = rest.partition("/")
    if first in _OTHER_KINDS:
        raise UnsupportedFormatError(
            text, f"{_OTHER_KINDS[first]} of the Hugging Face Hub", word="dataset"
        )
    if first == "models":
        rest = others
    is_old = "/" not in rest.partition("@")[0]
    likeliest = _of(text, rest, 1 if is_old else 2)
    found = (likeliest, None if is_old else _of(text, rest, 1))
    if likeliest is None:
        raise SourceError(text, f"{text!r} is not a valid name of a model on the Hub", kind="hub")
    return tuple(filter(None, found))


def _of(text: str, rest: str, words: int) -> HubName | None:
    """Return what a name stands for if that of the model has so many words, or None."""
    pattern = rf"({'/'.join(['[^/@]+'] * words)})(?:@(.*)|/(.*))?"
    found = re.fullmatch(pattern, rest, re.DOTALL)
    if found is None:
        return None
    repo, after, path = found[1], found[2], found[3] or ""
    if not all(map(_NAME.fullmatch, repo.split("/"))) or "--" in repo or ".." in repo:
        return None
    revision = None
    if after is not None:
        special = _SPECIAL.match(after)
        typed = special[0] if special else after.partition("/")[0]
        revision, path = unquote(typed), after[len(typed) + 1 :]
        if not revision:
            return None
    if any(part in {"", ".", ".."} for part in path.split("/")[: None if path else 0]):
        return None
    whole = text.rstrip("/")
    return HubName(repo, revision, path, whole[: len(whole) - len(path) - 1] if path else whole)
