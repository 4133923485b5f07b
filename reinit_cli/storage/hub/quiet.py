"""Keep the library of the Hub from writing among our own lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module


@contextmanager
def quietly() -> Iterator[None]:
    """Keep the library from writing to stderr.

    It would advise to log in, say, or tell of a connection that it takes up again, and leaves
    its bars on the terminal until they are collected as garbage.
    """
    utils = import_module("huggingface_hub.utils")
    verbosity = utils.logging.get_verbosity()
    hides_bars = not utils.are_progress_bars_disabled()
    utils.logging.set_verbosity_error()
    if hides_bars:
        utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.logging.set_verbosity(verbosity)
        if hides_bars:
            utils.enable_progress_bars()
