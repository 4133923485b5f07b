"""Read how several distant files start, at the same time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
        with ThreadPoolExecutor(max(1, len(distant)), "fetch") as pool:
            for _ in pool.map(lambda file: file.head(1), distant):
                pass
        yield from group
        for file in distant:
            file.close()
