"""Import libraries that would otherwise obey files in the working folder.

The working folder may hold what a stranger packed next to a checkpoint. matplotlib reads a
`matplotlibrc` there. A library that the wheels of torch bring has an empty entry in its
search path, which means the working folder: without the driver of a GPU, `import torch`
would load and run a `libcuda.so.1` from there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Loader  # which takes milliseconds to import

GUARDED = ("torch", "torchvision", "numpy", "matplotlib")
"""The libraries, which the process imports when it needs them; numpy only swallows signals."""


def import_apart(names: Sequence[str] = GUARDED) -> None:
    """Let this process import some libraries as if it worked in the root folder."""
    sys.meta_path.insert(0, _Apart(names))


class _Apart:
    """Finds each of the libraries where the other finders do, and guards its import."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = set(names)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find it, and guard what will import it."""
        del path, target
        if name not in self._names:
            return None
        from importlib.util import find_spec

        self._names.discard(name)  # or it would be asked again
        try:
            spec = find_spec(name)
        finally:
            self._names.add(name)
        if spec is not None and spec.loader is not None and os.path.isabs(spec.origin or ""):
            _guard(spec.loader)
        return spec


def _guard(loader: Loader) -> None:
    execute = loader.exec_module

    def execute_apart(module: ModuleType) -> None:
        from reinit_cli.storage.working_folder import apart
        from reinit_cli.threads import handlers_held

        # What is raised while torch or numpy starts is swallowed there, or aborts the process.
        with handlers_held(), apart(), _one_thread_of_blas(module):
            execute(module)

    loader.exec_module = execute_apart  # type: ignore[method-assign]


_BLAS_THREADS = "OPENBLAS_NUM_THREADS"


@contextmanager
def _one_thread_of_blas(module: ModuleType) -> Iterator[None]:
    """Let numpy start no threads for matrix products, which no law of ours computes with it.

    They would spin for longer than numpy takes to be imported. torch reads the variable too.
    """
    if module.__name__ != "numpy" or _BLAS_THREADS in os.environ:
        yield
        return
    os.environ[_BLAS_THREADS] = "1"
    try:
        yield
    finally:
        del os.environ[_BLAS_THREADS]
