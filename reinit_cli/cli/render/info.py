"""Render the summary of a source: as facts and tables for people, as lines, as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reinit_cli.checkpoints.formats.outline import Part
from reinit_cli.checkpoints.model import ModelSource
from reinit_cli.cli.render.facts import place_facts, revision_facts
from reinit_cli.cli.render.info_form import command_line, metadata_of, record_form
from reinit_cli.cli.render.table import Cell, Column, Sheet, Value
from reinit_cli.operations.folder_facts import Config, Shards
from reinit_cli.operations.info import Summary
from reinit_cli.operations.sums import Sums
from reinit_cli.tensors.counts import Counts, counted_text
from reinit_cli.text import listed, nbytes, one_line, plural, shape

_MOST_ROWS = 8
"""The rows of a table before the rest is one row."""

_MOST_FACTS = 6
"""The facts of one kind; strangers choose how many there are."""


def summary_sheet(summary: Summary) -> Sheet:
    """Return the facts of a source for people."""
    return Sheet((), (), tuple(_facts(summary)))


def _facts(summary: Summary) -> Iterator[tuple[str, str | Cell]]:
    holdings, sums = summary.holdings, summary.sums
    yield "source", Cell(holdings.name, "strong")
    size = f", {nbytes(summary.file_nbytes)} on disk" if summary.file_nbytes is not None else ""
    is_told = "folder" in (holdings.format or "")
    folder = "folder of " if summary.shards and not is_told else ""
    source = holdings.source
    yield from revision_facts(source) if source else ()
    model = f"{source.model.library} model" if isinstance(source, ModelSource) else ""
    yield "format", f"{folder}{holdings.format or model}{size}"
    yield from _model_facts(summary)
    yield from folder_facts(summary.config, summary.shards)
    if sums:
        yield "holds", counted_text(sums.counts)
        yield "dtypes", _dtypes_text(sums)
    yield from _contents_facts(summary)
    yield from _short([("tied", " = ".join(keys)) for keys in (sums.ties if sums else ())])
    if sums and sums.quantized:
        yield "quantized", plural(sums.quantized, "weight") + " with scales"
    yield from _short([(f"metadata {name}", text) for name, text in metadata_of(summary).items()])
    if summary.record:
        yield "record", _record_text(record_form(summary.record))
    yield from _short([("note", Cell(note, "warning")) for note in summary.notes])


def _short(
    facts: Sequence[tuple[str, str | Cell]],
) -> Iterator[tuple[str, str | Cell]]:
    """Yield facts of one kind, and how many more there are."""
    yield from facts[:_MOST_FACTS]
    if len(facts) > _MOST_FACTS:
        yield facts[0][0].partition(" ")[0], f"{len(facts) - _MOST_FACTS:,} more"


def _model_facts(summary: Summary) -> Iterator[tuple[str, str | Cell]]:
    weights = summary.weights
    if weights is None:
        return
    for each in weights.available:
        said = [f"{name} {value:g}" for name, value in each.metrics.items()]
        size = [nbytes(each.file_nbytes)] if each.file_nbytes else []
        is_chosen = each.name == weights.chosen
        text = f"{each.name}: {', '.join((*said, *size))}" if said or size else each.name
        yield "weights" if is_chosen else "other weights", text
    if weights.chosen == "none":
        yield "weights", "none: as its constructor makes it"


def folder_facts(config: Config | None, shards: Shards | None) -> Iterator[tuple[str, str]]:
    """Yield how the weights of a folder are distributed, and what its configs say."""
    if shards:
        yield "weights", _shards_text(shards)
    if not config:
        return
    model = [*config.architectures, *([f"type {config.model_type}"] if config.model_type else [])]
    if model:
        dtype = [f"dtype {config.dtype}"] if config.dtype else []
        ties = ["head tied to the embedding"] if config.ties_embeddings else []
        yield "config", ", ".join((*model, *dtype, *ties))
    if config.quantization:
        yield "quantization", config.quantization
    if config.adapter:
        yield (
            "adapter",
            f"{config.adapter} for {config.base_model or 'a model that it does not name'}",
        )
    if config.tokenizer:
        yield "tokenizer", ", ".join(config.tokenizer)


def _shards_text(shards: Shards) -> str:
    text = f"{plural(len(shards.files), 'file')}, {nbytes(shards.nbytes)}"
    if shards.pieces:
        return f"{text}, {plural(shards.pieces, 'piece')} of tensors"
    if not shards.index:
        return (
            f"{text}: {shards.files[0]}" if len(shards.files) == 1 else f"{text}, without an index"
        )
    said = f", which says {nbytes(shards.total)} of tensors" if shards.total is not None else ""
    return f"{text}, with {shards.index}{said}"


def _dtypes_text(sums: Sums) -> str:
    """Return the dtypes with their shares of the elements, the largest first."""
    dtypes = sorted(sums.dtypes, key=lambda share: -share.numel)
    whole = sum(share.numel for share in dtypes)
    texts = [
        f"{share.dtype} {_percent(share.numel, whole)}" if len(dtypes) > 1 else share.dtype
        for share in dtypes[:_MOST_FACTS]
    ]
    more = len(dtypes) - _MOST_FACTS
    return ", ".join((*texts, *([f"{more:,} more"] if more > 0 else [])))


def _percent(part: int, whole: int) -> str:
    share = 100 * part / whole if whole else 0
    if 0 < share < 0.1:
        return "under 0.1 %"
    return f"{min(share, 99.9) if part < whole else share:.1f} %".replace(".0 %", " %")


def _contents_facts(summary: Summary) -> Iterator[tuple[str, str | Cell]]:
    source = summary.holdings.source
    located = source.located if source else None
    if source is None:
        yield "state dict", Cell("none", "warning")
    yield from place_facts(located)
    yield from _short([("also in it", _part_text(part, summary)) for part in summary.parts])


def _part_text(part: Part, summary: Summary) -> str:
    """Return what lies next to a state dict in a few words: "epoch: int 3"."""
    kind = summary.optimizers.get(part.path) or part.kind
    text = (
        f"{kind}, {part.text}"
        if part.tensors or part.kind == "optimizer"
        else f"{kind} {part.text}"
    )
    size = f", {nbytes(part.nbytes)}" if part.nbytes else ""
    return f"{part.path}: {text.strip()}{size}"


def _record_text(form: Mapping[str, Any]) -> str:
    rules = listed(form["rules"]) if form["rules"] else "no rule"
    weights = f" ({form['weights']})" if form["weights"] else ""
    return (
        f"made from {form['source']}{weights} with {rules}, seed {form['seed']}, "
        f"by reinit {form['reinit']}"
    )


_AMOUNTS = (
    Column("parameters", "count"),
    Column("buffers", "count", rank=4),
    Column("bytes", "nbytes"),
)

_MODULE_COLUMNS = (Column("module", "key"), Column("tensors", "count", rank=1), *_AMOUNTS)

_GROUP_COLUMNS = (
    *(Column("largest tensors", "key"), Column("count", "count", rank=5)),
    *(Column("shape", rank=3), Column("dtype", rank=2)),
    *_AMOUNTS,
)

_Row = tuple[Value | Cell, ...]


def tables_of(sums: Sums) -> Iterator[Sheet]:
    """Yield the table of modules, where it says more than that of the tensors, and the latter."""
    if 1 < len(sums.modules) < len(sums.groups):
        yield _modules_sheet(sums)
    yield _groups_sheet(sums)


def _modules_sheet(sums: Sums) -> Sheet:
    """Return a row for each of the largest modules, in their order, and one for the others."""
    order = sorted(range(len(sums.modules)), key=lambda at: -sums.modules[at].counts.nbytes)
    shown = [sums.modules[at] for at in sorted(order[:_MOST_ROWS])]
    left = [sums.modules[at].counts for at in order[_MOST_ROWS:]]
    rows: list[_Row] = [(each.name, each.counts.tensors, *_amounts(each.counts)) for each in shown]
    if left:
        rest = _together(left)
        rows.append((_more(left), rest.tensors, *_amounts(rest)))
    return Sheet(_MODULE_COLUMNS, rows).without_empty_columns()


def _groups_sheet(sums: Sums) -> Sheet:
    """Return a row for each of the largest groups of tensors, and one for the others."""
    shown = list(zip(sums.groups, sums.sizes, strict=True))[:_MOST_ROWS]
    left = sums.sizes[_MOST_ROWS:]
    # One dtype has been named above.
    are_mixed = len({group.tensors[0].dtype for group, _ in shown}) > 1
    has_counts = any(counts.tensors > 1 for _, counts in shown)
    rows: list[_Row] = [
        (
            group.pattern,
            counts.tensors if has_counts else None,
            shape(group.tensors[0].shape),
            group.tensors[0].dtype if are_mixed else None,
            *_amounts(counts),
        )
        for group, counts in shown
    ]
    if left:
        rest = _together(left)
        rows.append(
            (_more(left), rest.tensors if has_counts else None, None, None, *_amounts(rest))
        )
    return Sheet(_GROUP_COLUMNS, rows).without_empty_columns()


def _amounts(counts: Counts) -> _Row:
    return counts.parameters or None, counts.buffers or None, counts.nbytes


def _together(left: Sequence[Counts]) -> Counts:
    """Return the sums of what has no row of its own."""
    return Counts(
        sum(each.tensors for each in left),
        sum(each.parameters for each in left),
        sum(each.buffers for each in left),
        sum(each.nbytes for each in left),
    )


def _more(left: Sequence[Counts]) -> Cell:
    return Cell(f"… {len(left):,} more", "dim")


def next_lines(summary: Summary) -> Iterator[str]:
    """Yield what may be typed next, each on a line of its own so that it can be copied."""
    yield from (one_line(f"  {command_line(each)}") for each in summary.commands)
