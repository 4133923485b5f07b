"""Say which of several processes that write one output together this one is."""

from __future__ import annotations

from collections.abc import Mapping

from reinit_cli.errors import OutputError
from reinit_cli.request.partial import RequestOptions
from reinit_cli.request.request import Request
from reinit_cli.storage.location import DASH, is_remote
from reinit_cli.text import listed

_NAMES = ("rank", "world_size", "run_id")


MAX_RANKS = 2**16
"""Each rank splits the work between all, and no cluster has more."""

_ALONE = "--resume is for an output that several ranks write"


def ranks_asked(given: Mapping[str, object], environ: Mapping[str, str]) -> RequestOptions:
    """Return which of the processes that torchrun began this one is, unless options say it.

    RANK and WORLD_SIZE stand in the environment of every pod of some clusters, where a lone
    command would wait for others that never come. TORCHELASTIC_RUN_ID is set by torchrun alone.

    Args:
        given: the options of the command line, None where it does not give them.
        environ: the environment.
    """
    run_id = environ.get("TORCHELASTIC_RUN_ID")
    if not run_id or any(given.get(name) is not None for name in _NAMES):
        return {}
    try:
        rank, world_size = int(environ["RANK"]), int(environ["WORLD_SIZE"])
    except (KeyError, ValueError):
        return {}
    return {"rank": rank, "world_size": world_size, "run_id": run_id}


def check_ranks(request: Request, count: int = 1) -> None:
    """Refuse what several processes cannot write together.

    Args:
        request: what is asked for.
        count: the number of outputs.

    Raises:
        OutputError: they cannot, or it is not clear which of them this one is.
    """
    problem = _problem(request) or (
        _problem_of_several(request, count) if request.is_shared else ""
    )
    if problem:
        kind = "resume" if problem == _ALONE else "ranks"
        raise OutputError(request.called, problem, kind=kind)


def _problem(request: Request) -> str:
    given = {
        "--rank": request.rank,
        "--world-size": request.world_size,
        "--run-id": request.run_id,
    }
    missing = [name for name, value in given.items() if value is None]
    named = [name for name in given if name not in missing]
    rank, size = request.rank, request.world_size
    if missing and named:
        return f"{listed(named)} cannot be used without {listed(missing)}"
    if rank is None or size is None:
        return _ALONE if request.resume else ""
    if not 1 <= size <= MAX_RANKS:
        return f"a world has 1 to {MAX_RANKS:,} ranks, not {size:,}"
    if not 0 <= rank < size:
        return f"there is no rank {rank} in a world of {size}, which has ranks 0 to {size - 1}"
    if not request.run_id:
        return "--run-id is empty"
    return "" if request.timeout > 0 else f"a timeout is longer than {request.timeout:g} s"


def _problem_of_several(request: Request, count: int) -> str:
    if count > 1:
        return "several ranks write one output: give them one source and one seed"
    if request.in_place:
        return "several ranks cannot replace their source (--in-place)"
    if request.output == DASH:
        return "several ranks cannot write to standard output"
    if isinstance(request.output, str) and is_remote(request.output):
        return f"several ranks write to a file system that they share, not to {request.output!r}"
    if request.source == DASH:
        return "several ranks cannot read standard input"
    return ""
