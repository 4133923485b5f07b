"""Find the device to draw on, and hold torch to one thread."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from reinit_cli.errors import UnknownNameError


class _OneThread(threading.local):
    """The users of one thread in the process and in this thread, and the count before the first."""

    lock = threading.Lock()
    users: ClassVar[int] = 0
    before: ClassVar[int] = 0
    depth = 0


_ONE_THREAD = _OneThread()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread for each operation here, and set the count back afterwards.

    Tensors are drawn side by side instead, and the bits of a product of matrices depend on
    the count. Threads that start within begin with `use_one_thread`.
    """
    import torch

    with _ONE_THREAD.lock:
        if not _OneThread.users:
            _OneThread.before = torch.get_num_threads()
        _OneThread.users += 1
        _ONE_THREAD.depth += 1
        use_one_thread()
    try:
        yield
    finally:
        with _ONE_THREAD.lock:
            _OneThread.users -= 1
            _ONE_THREAD.depth -= 1
            if not _ONE_THREAD.depth:
                torch.set_num_threads(_OneThread.before)


def use_one_thread() -> None:
    """Let torch and its BLAS use one thread for each operation of this thread.

    MKL keeps a count for each thread, which is set in this one alone.
    """
    import torch

    torch.get_num_threads()  # the first question sets the count of the process here
    torch.set_num_threads(1)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch says that memory cannot hold a tensor."""
    import torch

    said = ("allocate memory", "Storage size calculation overflowed", "out of memory")
    return isinstance(error, torch.OutOfMemoryError) or any(each in str(error) for each in said)


_WRITTEN = re.compile(r"(?:torch\.device\()?[\"']?([a-z]*)[:\s]?([0-9]{0,3})[\"']?\)?")

_SAME = {
    **dict.fromkeys(("", "gpu", "nvidia", "rocm", "hip"), "cuda"),  # torch calls AMD's so too
    **dict.fromkeys(("metal", "apple"), "mps"),
    "best": "auto",
}


def device_named(text: str) -> str:
    """Return torch's name of a device where a text can mean only one: `CUDA`, `gpu`, `0`."""
    found = _WRITTEN.fullmatch(text.strip().lower())
    if not found or not any(found.groups()):
        return text
    kind, index = _SAME.get(found[1], found[1]), found[2]
    if found[1] == "gpu" and sys.platform == "darwin":
        kind = "mps"
    has_others = kind == "cuda" or int(index or 0) == 0
    if kind not in {"cpu", "cuda", "mps", "auto"} or not has_others or (kind == "auto" and index):
        return text
    return f"cuda:{int(index)}" if kind == "cuda" and index else kind


def check_device(device: str) -> str:
    """Return the device to draw on, "auto" resolved.

    Raises:
        UnknownNameError: it is not there.
    """
    device = device_named(device)
    if device == "cpu":
        return device
    there = _devices()
    if device == "auto":
        return there[1] if len(there) > 1 else "cpu"
    if device in there:
        return device
    raise UnknownNameError(device, ", ".join(there), there, kind="device")


def _devices() -> tuple[str, ...]:
    """The devices that can draw, the processor first."""
    import torch

    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = ("cuda", *(f"cuda:{index}" for index in range(cuda))) if cuda else ()
    mps = ("mps",) if torch.backends.mps.is_available() else ()
    return ("cpu", *gpus, *mps)
