"""Read the configs of a source, and let them follow what becomes of its tensors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import replace

from reinit_cli.checkpoints.fetching import store_with
from reinit_cli.checkpoints.formats.strict_json import JsonError, parse_object
from reinit_cli.checkpoints.source import Source
from reinit_cli.errors import ReinitError
from reinit_cli.planning.config import CONFIG, CONFIGS, Changed, Followed, follow
from reinit_cli.planning.output import Layout
from reinit_cli.planning.plan import Plan
from reinit_cli.planning.tokens import TOKENIZERS
from reinit_cli.storage.reader import Reader

MAX_CONFIG_NBYTES = 4 * 2**20
"""The longest config that follows: one with 21,843 labels has 1.5 MB."""

MAX_TOKENIZER_NBYTES = 32 * 2**20
"""The longest file of a tokenizer whose tokens are counted."""


def followed(source: Source, plan: Plan, layout: Layout) -> Followed:
    """Return how the configs of a source follow; where they do not, what they say otherwise.

    Args:
        source: what is read.
        plan: what happens to its tensors.
        layout: how the files of the output come about.

    Raises:
        SourceError: a config of a folder cannot be read.
    """
    if source.path is None:
        return Followed()
    changed = Changed.of(plan, source.tensors)
    if changed.is_nothing:
        return Followed()
    if not (source.is_folder and layout.format.is_folder):
        said, _ = _valid(_next_to(source, source.path))
        return Followed(warnings=tuple(_said_otherwise(source, follow(said, changed))))
    texts, notes = _valid(_of_folder(source, with_tokens=bool(changed.resized)))
    found = follow(texts, changed)
    if plan.request.keep_config:
        return Followed(warnings=(*notes, *_kept(found), *found.warnings))
    return replace(found, warnings=(*notes, *found.warnings))


def texts_of(source: Source) -> tuple[dict[str, str], list[str]]:
    """Return the configs of a folder by name, and why others are not read.

    Raises:
        SourceError: one cannot be read.
    """
    return _valid(_of_folder(source, with_tokens=False))


def _kept(found: Followed) -> Iterator[str]:
    """Say what configs that are kept say otherwise than the tensors are."""
    for change in found.changes:
        yield f"{change.file} is kept, though it should say {change}"


def _said_otherwise(source: Source, found: Followed) -> Iterator[str]:
    """Say what the config of a source says otherwise than an output without one is."""
    if found.changes:
        path = _path_of_config(source.path or "", is_folder=source.is_folder)
        said = ", ".join(map(str, found.changes))
        yield f"for the output, {path!r} would have to say {said}"


def _next_to(source: Source, path: str) -> Iterator[tuple[str, Reader]]:
    """Yield the config next to a file, or in a folder, and its reader."""
    store = store_with(source)
    found = _path_of_config(path, is_folder=source.is_folder)
    if store.kind_of(found) == "file":
        with suppress(ReinitError), closing(store.open(found)) as file:
            yield CONFIG, file


def _path_of_config(path: str, *, is_folder: bool) -> str:
    return os.path.join(path if is_folder else os.path.dirname(path), CONFIG)


def _of_folder(source: Source, *, with_tokens: bool) -> Iterator[tuple[str, Reader]]:
    """Yield the files of a folder that say something about tensors, and their readers."""
    others = source.located.others if source.located is not None else ()
    with source.open(0) as contents:
        files = contents.files()
        for name in (*CONFIGS, *(TOKENIZERS if with_tokens else ())):
            if name in others:
                yield name, files[name]


def _valid(files: Iterable[tuple[str, Reader]]) -> tuple[dict[str, str], list[str]]:
    """Return the texts of files that can be read, and what is wrong with the others."""
    texts: dict[str, str] = {}
    notes: list[str] = []
    for name, file in files:
        most = MAX_CONFIG_NBYTES if name in CONFIGS else MAX_TOKENIZER_NBYTES
        if file.nbytes > most:
            notes.append(f"{name} is not read: it is longer than {most:,} bytes")
            continue
        data = file.read(0, file.nbytes)
        try:
            if name.endswith(".json"):
                parse_object(data, "it", allows_floats=True)
            texts[name] = data.decode()
        except (JsonError, UnicodeDecodeError) as error:
            notes.append(f"{name} is not read: {error}")
    return texts, notes
