"""The keys of a checkpoint, as sheets: one by one, in groups, as a tree; and what is beside them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reinit_cli.dtypes import DTYPES
from reinit_cli.formats.safetensors import RECORD
from reinit_cli.outlines import Branch, Group
from reinit_cli.report.serial import VERSION
from reinit_cli.report.sheets import Column, Sheet
from reinit_cli.tensors import RUNNING_STATISTICS, TensorInfo, repeated_keys
from reinit_cli.text import nbytes, plural, shape

if TYPE_CHECKING:
    from reinit_cli.sources import Source

_SIZES = (Column("parameters", is_number=True), Column("bytes", is_number=True))
_COLUMNS = (Column("key"), Column("shape"), Column("dtype"), *_SIZES, Column("mark"))
_GROUP_COLUMNS = (
    *(Column("keys"), Column("count", is_number=True), Column("shape"), Column("dtype")),
    *_SIZES,
    Column("mark"),
)
_TREE_COLUMNS = (
    *(Column("module"), Column("tensors", is_number=True), Column("shape"), Column("dtype")),
    *_SIZES,
    Column("mark"),
)


def keys_sheet(
    tensors: Sequence[TensorInfo], aliases: Mapping[str, str], repeated: Collection[str]
) -> Sheet:
    """Return a row for each key, and the totals.

    Args:
        tensors: the entries.
        aliases: for a tied key the first of its ties.
        repeated: the keys that add nothing to a sum, since a tied one does.
    """
    rows = [
        (
            tensor.key,
            *_kind(tensor),
            f"{tensor.numel:,}",
            nbytes(tensor.nbytes),
            _mark(tensor, aliases),
        )
        for tensor in tensors
    ]
    return Sheet(_COLUMNS, rows, _totals(tensors, repeated)).without_empty_columns()


def groups_sheet(groups: Sequence[Group], repeated: Collection[str]) -> Sheet:
    """Return a row for each group of keys that differ in numbers only, and the totals."""
    rows = [
        (
            group.pattern,
            f"×{len(group.tensors)}" if len(group.tensors) > 1 else "",
            *_kind(group.tensors[0]),
            f"{sum(tensor.numel for tensor in group.tensors):,}",
            nbytes(sum(tensor.nbytes for tensor in group.tensors)),
            _mark(group.tensors[0], {}),
        )
        for group in groups
    ]
    tensors = [tensor for group in groups for tensor in group.tensors]
    return Sheet(_GROUP_COLUMNS, rows, _totals(tensors, repeated)).without_empty_columns()


def tree_sheet(
    tree: Sequence[Branch],
    aliases: Mapping[str, str],
    repeated: Collection[str],
    *,
    is_indented: bool,
) -> Sheet:
    """Return a row for each module with the sums of what is in it, and for each tensor.

    Args:
        tree: modules, each before what is in it.
        aliases: for a tied key the first of its ties.
        repeated: the keys that add nothing to a sum, since a tied one does.
        is_indented: whether a row shows its last name below its module's, or its whole path.
    """
    rows = [
        (
            "  " * branch.depth + branch.name if is_indented else branch.path,
            "" if branch.tensor else f"{branch.leaves:,}",
            *(_kind(branch.tensor) if branch.tensor else ("", "")),
            f"{branch.numel:,}",
            nbytes(branch.nbytes),
            _mark(branch.tensor, aliases) if branch.tensor else "",
        )
        for branch in tree
    ]
    tensors = [branch.tensor for branch in tree if branch.tensor]
    return Sheet(_TREE_COLUMNS, rows, _totals(tensors, repeated)).without_empty_columns()


def summed(tensors: Sequence[TensorInfo], repeated: Collection[str] = ()) -> str:
    """Return how many tensors, parameters and bytes there are; the repeated add no bytes."""
    own = [tensor for tensor in tensors if tensor.key not in repeated]
    numel = plural(sum(tensor.numel for tensor in own), "parameter")
    total = nbytes(sum(tensor.nbytes for tensor in own))
    return f"{plural(len(tensors), 'tensor')}, {numel}, {total}"


def _totals(
    tensors: Sequence[TensorInfo], repeated: Collection[str]
) -> tuple[tuple[str, str], ...]:
    return (("total", summed(tensors, repeated)),)


def _kind(tensor: TensorInfo) -> tuple[str, str]:
    return shape(tensor.shape) if tensor.nbytes or not tensor.carried else "", tensor.dtype


def _mark(tensor: TensorInfo, aliases: Mapping[str, str]) -> str:
    if tensor.key in aliases:
        return f"tied to {aliases[tensor.key]}"
    if tensor.carried:
        return tensor.carried
    known = DTYPES.get(tensor.dtype)
    # Only floats have gradients, so whatever else a module has is a buffer.
    is_buffer = known is not None and known.kind in ("integer", "bool")
    return "buffer" if is_buffer or tensor.key.rpartition(".")[2] in RUNNING_STATISTICS else ""


def contents_sheet(source: Source) -> Sheet:
    """Return what a source holds beside the values of its tensors."""
    return Sheet((), (), tuple(_facts(source)))


def _facts(source: Source) -> Iterator[tuple[str, str]]:
    form = contents_form(source)
    for name in ("source", "format", "root", "weights"):
        if form[name]:
            yield name, form[name]
    yield "total", summed(source.tensors, repeated_keys(source.tensors))
    if form["has_record"]:
        yield "record", "of what made it; `reinit verify` tells whether it holds"
    yield from (
        (f"metadata {name}", text)
        for name, text in form["metadata"].items()
        if not (form["has_record"] and name == RECORD)
    )
    for name, title in _LISTS.items():
        yield from ((title, each) for each in form[name])


_LISTS = {
    "attributes": "attribute of the state dict",
    "beside": "beside the state dict",
    "outside": "tensor",
    "unknown_names": "name that torch refuses",
    "notes": "note",
}


def contents_form(source: Source) -> dict[str, Any]:
    """Return the same for JSON."""
    located = source.located
    outside = located.outside if located else ()
    return {
        "version": VERSION,
        "source": source.name,
        "format": located.format if located else None,
        "root": located.root if located else None,
        "weights": source.weights,
        "tensors": len(source.tensors),
        "metadata": dict(source.metadata),
        "has_record": located is not None and located.has_record,
        "attributes": list(located.attributes) if located else [],
        "beside": list(located.rest) if located else [],
        "outside": [f"{tensor.key}: {shape(tensor.shape)} {tensor.dtype}" for tensor in outside],
        "unknown_names": list(located.unknown_names) if located else [],
        "notes": list(located.notes) if located else [],
    }
