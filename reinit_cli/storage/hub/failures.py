"""Say in our own errors what the Hub, its library or the network refuses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from reinit_cli.errors import (
    PackageError,
    ReinitError,
    SourceError,
    SourceNotFoundError,
    UnreadableSourceError,
)
from reinit_cli.storage.hub.name import HubName
from reinit_cli.text import quoted

_PACKAGE = "huggingface_hub"

_UNAUTHORIZED, _FORBIDDEN, _TOO_MANY, _SERVER_ERROR = 401, 403, 429, 500


def library(about: str) -> Any:
    """Import the library of the Hub.

    Raises:
        PackageError: it is not installed, or cannot be imported.
    """
    try:
        return import_module("huggingface_hub")
    except ModuleNotFoundError as error:
        if error.name != _PACKAGE:
            problem = str(error).partition("\n")[0]
            raise PackageError(_PACKAGE, problem, kind="broken") from error
        raise PackageError(_PACKAGE, of=quoted(about)) from error


def transport_errors() -> tuple[type[Exception], ...]:
    """Return what the HTTP client of the installed library raises: requests, httpx or httpx2."""
    session = import_module("huggingface_hub.utils").get_session()
    client = sys.modules[type(session).__module__.partition(".")[0]]
    return (client.HTTPError, getattr(client, "RequestException", client.HTTPError))


def is_passing(error: Exception) -> bool:
    """Whether a request that failed may succeed when it is tried again."""
    status = _status_of(error)
    return status is None or status == _TOO_MANY or status >= _SERVER_ERROR


@contextmanager
def explained(name: HubName, about: str) -> Iterator[None]:
    """Turn what the library raises into our own errors.

    Args:
        name: what is asked for.
        about: it, as people call it.

    Raises:
        SourceError: the library raised something.
    """
    try:
        yield
    except ReinitError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise _meant(error, name, about) from error
    except Exception as error:
        if isinstance(error, transport_errors()):
            raise _meant(error, name, about) from error
        raise


def _meant(error: Exception, name: HubName, about: str) -> SourceError:
    errors = import_module("huggingface_hub.errors")
    # The library wraps what keeps it from the Hub in an error about its cache.
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, errors.GatedRepoError):
        return UnreadableSourceError(name.repo, kind="gated", of=endpoint())
    if isinstance(error, errors.RepositoryNotFoundError):
        return SourceNotFoundError(name.repo, kind="model")
    if isinstance(error, errors.RevisionNotFoundError):
        return SourceNotFoundError(name.revision or "main", kind="revision", of=name.repo)
    if isinstance(error, (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled)):
        return uncached(about, name)
    if isinstance(error, errors.HFValidationError):
        return SourceError(
            about, f"{about!r} is not a valid name of a model on the Hub", kind="hub"
        )
    status = _status_of(error)
    if status in (_UNAUTHORIZED, _FORBIDDEN):
        return UnreadableSourceError(about, problem_of(error), kind="token")
    is_from_afar = status is not None or isinstance(error, transport_errors())
    kind = "hub" if is_from_afar else ""
    return UnreadableSourceError(about, problem_of(error), kind=kind, of=endpoint())


def uncached(about: str, name: HubName) -> UnreadableSourceError:
    """Return the error that something is not in the cache, where the Hub must not be asked."""
    return UnreadableSourceError(about, kind="uncached", of=name.repo)


def problem_of(error: Exception) -> str:
    """Say what went wrong between here and the Hub, in a few words."""
    status = _status_of(error)
    if status is not None:
        said = " (too many requests)" if status == _TOO_MANY else ""
        return f"the Hub answers {status}{said}"
    if isinstance(error, transport_errors()):
        return f"{endpoint()} cannot be reached ({_first_line(error)})"
    return _first_line(error)


def endpoint() -> str:
    """Return the address of the Hub."""
    return str(import_module("huggingface_hub.constants").ENDPOINT)


def _status_of(error: Exception) -> int | None:
    """Return the status of the answer that an error is about, if there was an answer."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _first_line(error: Exception) -> str:
    said = getattr(error, "strerror", None) or str(error).strip()
    return said.partition("\n")[0].rstrip(".") or type(error).__name__
