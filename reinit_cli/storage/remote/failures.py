"""Say in one line what a back end of fsspec refuses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from reinit_cli.errors import OutputUnwritableError, ReinitError
from reinit_cli.storage.remote.problems import failure_of
from reinit_cli.threads import StoppedError


@contextmanager
def naming_upload(url: str) -> Iterator[None]:
    """Turn whatever a back end raises into one of our errors, with the place.

    Back ends raise classes of their own packages, of aiohttp, botocore and Google's, few of
    which are an OSError. An object that is in the way is left to who knows what it means.

    Raises:
        OutputUnwritableError: the place refuses, or is not reached.
        FileExistsError: there is an object already.
    """
    try:
        yield
    except (ReinitError, StoppedError, FileExistsError):
        raise
    except Exception as error:
        raise OutputUnwritableError(url, problem_of(error)) from error


def problem_of(error: Exception) -> str:
    """Return what is wrong in a few words, and in one line what the back end says of it."""
    failure = failure_of(error)
    if failure.reason == "missing":
        # S3 calls an upload missing, too, that somebody has aborted.
        is_upload = "upload" in str(error).lower()
        return "its unfinished upload is gone" if is_upload else "there is no such bucket"
    if failure.reason == "access" or failure.problem.startswith("Forbidden"):
        return f"no permission to write there ({failure.problem})"
    return failure.problem
