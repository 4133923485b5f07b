"""Describe the entries of a source, and what lies around them."""

from __future__ import annotations

from functools import partial

from reinit_cli.checkpoints.formats.base import Located
from reinit_cli.checkpoints.source import Source
from reinit_cli.operations.folder_facts import counts_of_heads, model_type_of
from reinit_cli.planning.entries import Entries
from reinit_cli.planning.owners import Surroundings


def entries_of(source: Source, root: str | None) -> Entries:
    """Describe the entries of a source.

    Args:
        source: what has them.
        root: the path of the state dict, where the user gives it.
    """
    located = source.located
    if located is None:
        return Entries(source.name, source.tensors)
    return Entries(
        source.name,
        source.tensors,
        located.outside,
        located.optimizers,
        around=_around(located, is_chosen=root is not None),
        model_type=partial(model_type_of, source),
        counts_of_heads=partial(counts_of_heads, source),
    )


def _around(located: Located, *, is_chosen: bool) -> Surroundings:
    others = sorted(located.neighbors, key=lambda each: not each.is_copy)
    roots = tuple(each.root for each in others)
    alike = [each.root for each in others if each.is_copy]
    if not alike:
        return Surroundings(located.root, roots)
    from reinit_cli.checkpoints.formats.torch.contents.roots import is_copy

    twin = next((each for each in alike if not is_copy(each)), "") if is_chosen else ""
    return Surroundings(located.root, roots, is_copy(located.root), twin)
