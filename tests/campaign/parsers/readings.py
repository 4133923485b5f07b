"""Compare what a file of torch holds to `reinit` with what it holds to `torch.load`."""

from __future__ import annotations

import contextlib
import io
import json
import math
import resource
import signal
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import process_time
from types import FrameType
from typing import Any

from tests.campaign.server import Servers
from tests.campaign.tally import Tally

MOST_SECONDS = 2.0
MOST_NBYTES = 200 * 10**6
_MOST_NUMEL = 10**5
_BATCH = 50


def examine_all(inputs: Iterator[tuple[str, Path]], servers: Servers, tally: Tally) -> None:
    """List the keys of each input, and compare what is listed with what torch reads.

    Args:
        inputs: what repeats each, and its path.
        servers: where they are listed.
        tally: where they are counted.
    """
    batch: list[tuple[str, Path]] = []
    for each in inputs:
        batch.append(each)
        if len(batch) == _BATCH:
            _examine_batch(batch, servers, tally)
            batch = []
    _examine_batch(batch, servers, tally)


def _examine_batch(batch: Sequence[tuple[str, Path]], servers: Servers, tally: Tally) -> None:
    if not batch:
        return
    place = batch[0][1].parent
    names = [path.name for _, path in batch]
    function = "tests.campaign.parsers.readings:examine"
    run = servers.torch.run(names, place, function=function, limit=20 * len(batch))
    if run.code == 0:
        for (what, _), found in zip(batch, json.loads(run.out), strict=True):
            tally.add(kind=found["kind"])
            tally.seconds = max(tally.seconds, found["seconds"])
            tally.nbytes = max(tally.nbytes, found["nbytes"])
            if found["why"]:
                tally.find(what, found["why"])
    elif len(batch) > 1:
        for each in batch:
            _examine_batch([each], servers, tally)
    else:
        _list_alone(batch[0], servers, tally)


def _list_alone(one: tuple[str, Path], servers: Servers, tally: Tally) -> None:
    """List an input without torch, which did not survive it."""
    what, path = one
    run = servers.light.run(["keys", path.name], path.parent)
    tally.add(run, kind="torch ends")
    if run.code not in {0, 1, 2}:
        tally.find(what, f"it ends with {run.code}: {run.err[-600:]!r}")


# --- in the server --------------------------------------------------------------------------


def examine(*paths: str) -> bytes:
    """Return what listing each file took, and what is wrong with it."""
    warnings.simplefilter("ignore")
    return json.dumps([_examined(path) for path in paths]).encode()


def _examined(path: str) -> Mapping[str, Any]:
    before = _peak_nbytes()
    started = process_time()
    code, err = _listed(path)
    seconds = process_time() - started
    nbytes = _peak_nbytes() - before
    why = _unlike_an_answer(code, err, seconds, nbytes)
    kind = "refused"
    if code == 0 and not why:
        try:
            kind, why = _compared(path)
        except Exception:  # noqa: BLE001 - whatever it is, it is a finding
            why = traceback.format_exc()[-900:]
    return {"kind": kind, "why": why, "seconds": seconds, "nbytes": nbytes}


def _unlike_an_answer(code: int | None, err: str, seconds: float, nbytes: int) -> str:
    if code is None:
        return f"an exception: {err[-900:]}"
    if code == 2 and not err.startswith("error: "):
        return f"no error: {err[:300]!r}"
    if len(err) > 4000:
        return f"{len(err)} characters of errors"
    if seconds > MOST_SECONDS:
        return f"{seconds:.1f} s of CPU"
    return f"{nbytes / 1e6:.0f} MB" if nbytes > MOST_NBYTES else ""


def _peak_nbytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _listed(path: str) -> tuple[int | None, str]:
    from reinit_cli.cli import main

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    out = io.TextIOWrapper(io.BytesIO(), "utf-8", "surrogatepass")
    err = io.StringIO()
    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, 10)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            return main(["keys", path]), err.getvalue()
    except BaseException:  # noqa: BLE001 - an exception is an outcome here
        return None, traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _compared(path: str) -> tuple[str, str]:
    """Return what was compared, and how torch reads other tensors than are listed."""
    import torch

    from reinit_cli.checkpoints.find import find_source

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except BaseException:  # noqa: BLE001 - torch refuses in many ways
        return "listed, and torch refuses", ""
    source = find_source(path)
    located = source.located
    assert located is not None
    state = _at(loaded, located.root)
    listed = [tensor.key for tensor in source.tensors]
    inner: dict[str, list[Any]] = {}
    _note_paths(state, "" if _is_container(state) else "tensor", inner, 0)
    if isinstance(state, Mapping) and not any(map(_is_container, state.values())):
        theirs = [str(key) for key in state if type(key) in {str, int}]
        if theirs != [key for key in listed if key in theirs]:
            return "compared", f"torch reads the keys {theirs[:20]}"
    elif not inner:
        return "compared", f"torch reads a {type(state).__name__} at {located.root!r}"
    data = Path(path).read_bytes()
    whole: dict[str, list[Any]] = {}
    _note_paths(loaded, "", whole, 0)
    for tensor in (*source.tensors, *located.outside):
        if tensor in located.outside:
            # Keys without names leave several with one path, which are numbered.
            path_there = tensor.key.removesuffix(" (outside the state dict)")
            second = f"{path_there} (outside the state dict, number 2)"
            known = whole.get(path_there, []) if path_there else []
            value = known[0] if len(known) == 1 and second not in located.places else None
        else:
            value = (*inner.get(tensor.key, ()), None)[0]
        if tensor.carried or value is None:
            continue
        why = _unlike(tensor, value, located.places[tensor.key], data)
        if why:
            return "compared", f"{tensor.key!r}: {why}"
    return "compared", ""


def _is_container(value: Any) -> bool:
    return isinstance(value, (Mapping, list, tuple))


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    yield from value.items() if isinstance(value, Mapping) else enumerate(value)


def _at(value: Any, path: str) -> Any:
    if not path:
        return value
    if not _is_container(value):
        return None
    for key, inner in _items(value):
        if path == str(key):
            return inner
        if path.startswith(f"{key}."):
            found = _at(inner, path[len(str(key)) + 1 :])
            if found is not None:
                return found
    return None


def _note_paths(value: Any, path: str, found: dict[str, list[Any]], depth: int) -> None:
    import torch

    if isinstance(value, torch.Tensor):
        found.setdefault(path, []).append(value)
    elif depth < 8 and _is_container(value) and len(value) < 1000:
        for key, inner in _items(value):
            _note_paths(inner, f"{path}.{key}" if path else str(key), found, depth + 1)


def _unlike(tensor: Any, value: Any, places: Sequence[Any], data: bytes) -> str:
    import torch

    if not isinstance(value, torch.Tensor):
        return f"torch reads a {type(value).__name__}"
    if (tuple(value.shape), str(value.dtype)) != (tensor.shape, f"torch.{tensor.dtype}"):
        return f"torch reads {value.dtype} {tuple(value.shape)}"
    if value.is_conj() or value.is_neg():
        return "torch reads a conjugated or negated tensor"
    if not 0 < math.prod(tensor.shape) < _MOST_NUMEL:
        return ""
    (place,) = places
    flat = torch.frombuffer(
        bytearray(data[place.offset : place.offset + place.nbytes]), dtype=value.dtype
    )
    stride = tensor.stride or torch.empty(tensor.shape, device="meta").stride()
    mine = flat.as_strided(tensor.shape, stride).contiguous().flatten().view(torch.uint8)
    theirs = value.detach().contiguous().flatten().view(torch.uint8)
    return "" if torch.equal(mine, theirs) else "torch reads other values"
