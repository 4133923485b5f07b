"""Read how several distant files start, at the same time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from reinit_cli.storage.reader import Reader

_TOGETHER = 32


def with_heads(files: Iterable[tuple[str, Reader]]) -> Iterator[tuple[str, Reader]]:
    """Yield files by their names, those that are distant with their first bytes at hand.

    Those of a group are fetched together, and forgotten before the next group is.
    """
    waiting = iter(files)
    while group := list(islice(waiting, _TOGETHER)):
        distant = [file for _, file in group if file.is_distant]
        if distant:
            _fetch_heads(distant)
        yield from group
        for file in distant:
            file.close()


def _fetch_heads(files: Sequence[Reader]) -> None:
    from concurrent.futures import ThreadPoolExecutor  # which takes as long as a small command

    with ThreadPoolExecutor(len(files), "fetch") as pool:
        for _ in pool.map(lambda file: file.head(1), files):
            pass
