"""Borrow what all threads of a process share in torch: its random state, dtype and functions.

One thread borrows at a time. What it borrows is given back as it was, whatever happens.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_LOCK = threading.RLock()


@contextmanager
def own_random_state(seed: int | None = None) -> Iterator[None]:
    """Use the global generators of torch, numpy and Python, and set them back afterwards.

    The default dtype is torch's own meanwhile: what a program sets would change what is drawn.

    Args:
        seed: where they start; None means where they are.
    """
    import torch

    with _LOCK, _others_random_state(seed):
        before, dtype = torch.default_generator.get_state(), torch.get_default_dtype()
        try:
            torch.set_default_dtype(torch.float32)
            if seed is not None:
                torch.default_generator.manual_seed(seed)
            yield
        finally:
            torch.set_default_dtype(dtype)
            torch.default_generator.set_state(before)


@contextmanager
def _others_random_state(seed: int | None) -> Iterator[None]:
    """Use the global generators of numpy and Python, and set them back afterwards."""
    import random

    import numpy as np

    of_numpy, of_python = np.random.get_state(), random.getstate()  # noqa: NPY002 (it is the global one)
    try:
        if seed is not None:
            np.random.seed(seed % 2**32)  # noqa: NPY002
            random.seed(seed)
        yield
    finally:
        np.random.set_state(of_numpy)  # noqa: NPY002
        random.setstate(of_python)


@contextmanager
def replaced(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Replace a method of a class, as this thread sees it; other threads call the method.

    Args:
        owner: the class.
        name: the method's name.
        function: what this thread calls instead.
    """
    here = threading.get_ident()
    with _LOCK:
        method = getattr(owner, name)

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            chosen = function if threading.get_ident() == here else method
            return chosen(*args, **kwargs)

        try:
            setattr(owner, name, stand_in)
            yield
        finally:
            setattr(owner, name, method)
