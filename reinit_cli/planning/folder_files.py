"""Decide which other files of a folder go along with its new weights."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from reinit_cli.checkpoints.formats.base import Located
from reinit_cli.errors import UnknownNameError
from reinit_cli.lazy import dataclass
from reinit_cli.planning.plan import Plan
from reinit_cli.request.pattern import patterns_of, select_keys
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.text import nbytes, plural

_MOST_NAMED = 20
"""How many of the files that are not copied are named."""


@dataclass(frozen=True, slots=True)
class FolderFiles:
    """The other files of a folder.

    Attributes:
        copied: the names of those that are copied.
        left_out: those that are not, though they could be, with their sizes.
    """

    copied: tuple[str, ...]
    left_out: Mapping[str, int]

    def notes(self, path: str, unreachable: Sequence[str]) -> Iterator[str]:
        """Say what is not copied.

        Args:
            path: the folder.
            unreachable: the names in it that never are.
        """
        if self.left_out:
            listed = _bounded([_sized(*each) for each in _folded(self.left_out)])
            yield f"not copied from {path!r}: {listed}; --copy PATTERN copies them"
        if unreachable:
            yield f"not copied from {path!r}: {_bounded(unreachable)}"


def files_to_copy(
    located: Located, sizes: Mapping[str, int], plan: Plan, tensors: Iterable[TensorInfo]
) -> FolderFiles:
    """Return which files go along, and which would contradict the new weights.

    Args:
        located: what was found in the folder.
        sizes: the size of each file of it.
        plan: what happens to the tensors, and which files are asked for.
        tensors: the tensors that the folder has.

    Raises:
        UnknownNameError: a file is asked for that is not there.
    """
    shapes = {tensor.key: tensor.shape for tensor in tensors}
    fits = shapes == {step.key: step.tensor.shape for step in plan.steps}
    unfit = (
        {} if fits else {name: sizes[name] for name in located.fitting if name in located.others}
    )
    left_out = {**located.stale, **unfit}
    asked = _asked(plan, located, left_out)
    usual = (name for name in located.others if name not in unfit)
    return FolderFiles(
        (*usual, *(name for name in left_out if name in asked)),
        {name: size for name, size in left_out.items() if name not in asked},
    )


def _asked(plan: Plan, located: Located, left_out: Collection[str]) -> set[str]:
    """Return the names that the patterns of a request match."""
    names = list(dict.fromkeys((*located.files, *left_out)))
    found: set[str] = set()
    for pattern in patterns_of(plan.request.copy):
        own = select_keys(names, [pattern])
        if not own:
            raise UnknownNameError(pattern.text, known=names, kind="file to copy", of=plan.source)
        found |= own
    return found


def _folded(left_out: Mapping[str, int]) -> Iterator[tuple[str, int, int]]:
    """Yield each file, or the folder that several lie in, its size and how many files it has."""
    inside: dict[str, list[int]] = {}
    for name, size in left_out.items():
        folder, below, _ = name.partition(os.sep)
        inside.setdefault(folder + below, []).append(size)
    for name, sizes in sorted(inside.items()):
        yield name, sum(sizes), len(sizes)


def _sized(name: str, size: int, count: int) -> str:
    files = f"{plural(count, 'file')}, " if name.endswith(os.sep) else ""
    return f"{name} ({files}{nbytes(size)})"


def _bounded(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
