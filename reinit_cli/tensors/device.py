"""Find the device to draw on, and hold torch to one thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from reinit_cli.errors import UnknownNameError


class _OneThread:
    """The number of users of one thread, and the thread count before the first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.before = 0


_ONE_THREAD = _OneThread()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread for each operation, and set the count back afterwards.

    Tensors are drawn side by side instead, and the bits of a QR depend on the count. The
    count is the process's, so that of several users the last sets it back.
    """
    import torch

    with _ONE_THREAD.lock:
        if not _ONE_THREAD.users:
            _ONE_THREAD.before = torch.get_num_threads()
            torch.set_num_threads(1)
        _ONE_THREAD.users += 1
    try:
        yield
    finally:
        with _ONE_THREAD.lock:
            _ONE_THREAD.users -= 1
            if not _ONE_THREAD.users:
                torch.set_num_threads(_ONE_THREAD.before)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch says that memory cannot hold a tensor."""
    import torch

    said = ("allocate memory", "Storage size calculation overflowed", "out of memory")
    return isinstance(error, torch.OutOfMemoryError) or any(each in str(error) for each in said)


def check_device(device: str) -> str:
    """Return the device to draw on, "auto" resolved.

    Raises:
        UnknownNameError: it is not there.
    """
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
