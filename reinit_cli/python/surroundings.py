"""Keep what a program sets for all of torch away from the values of a function."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def in_main_memory() -> Iterator[None]:
    """Make new tensors in main memory, whatever `torch.set_default_device` says.

    Elsewhere they would have other values, and on `meta` none.
    """
    torch = sys.modules.get("torch")  # where nobody imported it, nobody set a device
    if torch is None or torch.get_default_device().type == "cpu":
        yield
    else:
        with torch.device("cpu"):
            yield
