"""Render what a source holds besides the values of its tensors: as facts, an outline, JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from reinit_cli.checkpoints.source import doubts_about
from reinit_cli.cli.render.facts import place_facts, revision_facts, revision_form
from reinit_cli.cli.render.info import folder_facts
from reinit_cli.cli.render.json import VERSION
from reinit_cli.cli.render.table import Column, Sheet
from reinit_cli.operations.contents import Holdings
from reinit_cli.operations.folder_facts import config_of, shards_of
from reinit_cli.tensors.counts import counted_text, counts_of
from reinit_cli.text import shape

_COLUMNS = (
    Column("holds", "key"),
    Column("kind", rank=2),
    Column("value"),
    Column("bytes", "nbytes", rank=1),
)


def contents_sheet(holdings: Holdings) -> Sheet:
    """Return a row for each part of an outline, the whole being ".", and the facts of a source."""
    rows = [
        (part.path or ".", part.kind, part.text, part.nbytes if part.tensors else None)
        for part in holdings.parts
    ]
    return Sheet(_COLUMNS if rows else (), rows, tuple(_facts(holdings)))


def _facts(holdings: Holdings) -> Iterator[tuple[str, str]]:
    form = contents_form(holdings)
    source = holdings.source
    for name in ("source", "format", "root", "weights"):
        if form[name]:
            yield name, form[name]
    if source is None:
        return
    yield from revision_facts(source)
    yield from folder_facts(config_of(source), shards_of(source))
    yield from (fact for fact in place_facts(source.located) if fact[0] != "state dict")
    yield from form.get("facts", {}).items()
    yield "total", counted_text(counts_of(source.tensors))
    if form["has_record"]:
        yield "record", "yes; check it with `reinit verify`"
    metadata = source.located.plain_metadata if source.located else source.metadata
    yield from ((f"metadata {name}", text) for name, text in metadata.items())
    for name, title in _LISTS.items():
        # An outline has them all, those that are many summed up.
        if not (holdings.parts and name in _OUTLINED):
            yield from ((title, each) for each in form[name])


_LISTS = {
    "attributes": "attribute",
    "beside": "also in the file",
    "outside": "also in the file",
    "unknown_names": "unsafe global",
    "notes": "note",
}

_OUTLINED = ("beside", "outside")


def contents_form(holdings: Holdings) -> dict[str, Any]:
    """Return what a source holds for JSON."""
    source = holdings.source
    located = source.located if source else None
    outside = located.outside if located else ()
    return {
        "version": VERSION,
        "source": holdings.name,
        **revision_form(source),
        "format": holdings.format,
        "root": located.root if located else None,
        "networks": [each._asdict() for each in located.neighbors] if located else [],
        "weights": source.weights if source else None,
        "tensors": len(source.tensors) if source else 0,
        **({"facts": dict(located.facts)} if located and located.facts else {}),
        "metadata": dict(source.metadata) if source else {},
        "has_record": located is not None and located.has_record,
        "attributes": list(located.attributes) if located else [],
        "beside": list(located.rest) if located else [],
        "outside": [f"{tensor.key}: {shape(tensor.shape)} {tensor.dtype}" for tensor in outside],
        "unknown_names": list(located.unknown_names) if located else [],
        "notes": [*located.notes, *doubts_about(source)] if source and located else [],
        "outline": [asdict(part) for part in holdings.parts],
    }
