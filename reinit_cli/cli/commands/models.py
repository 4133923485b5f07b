"""List the models of torchvision, and those of timm."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from reinit_cli.cli.help import Command, argument
from reinit_cli.cli.options import (
    CONTEXT,
    display_options,
    json_option,
)
from reinit_cli.cli.pager import paged
from reinit_cli.cli.parameters import (
    PatternType,
)
from reinit_cli.cli.render.json import VERSION, dumps
from reinit_cli.cli.render.table import Column, Sheet, Value, show
from reinit_cli.operations.models import list_models
from reinit_cli.request.pattern import Pattern

if TYPE_CHECKING:
    from reinit_cli.checkpoints.models.torchvision import ModelSummary


@click.command("models", cls=Command, context_settings=CONTEXT)
@argument(
    "globs",
    type=PatternType(),
    nargs=-1,
    metavar="[GLOB]...",
    help="Names to list, such as 'resnet*'  [default: all]",
)
@json_option
@display_options
def command(globs: tuple[Pattern, ...], *, as_json: bool) -> None:
    """List the torchvision models, with their weights and sizes; exit 1 if a GLOB matches none.

    After "timm:", a GLOB or a part of a name lists models of timm, if that is installed.

    \b
    reinit models
    reinit models "resnet*" "*vit*"
    reinit models timm:efficientnet
    """
    summaries = list_models(globs)
    if as_json:
        sys.stdout.write(dumps(models_form(summaries)) + "\n")
    else:
        with paged():
            show(models_sheet(summaries), sys.stdout)


_COLUMNS = (
    Column("name"),
    Column("kind", rank=2),
    Column("parameters", "count"),
    Column("file", "nbytes", rank=1),
    Column("weights (default first)"),
)


def models_sheet(summaries: Iterable[ModelSummary]) -> Sheet:
    """Return a row for each model, without what the library of all of them does not say."""
    rows: list[tuple[Value, ...]] = [
        (
            *(each.name, each.kind, each.parameters, each.file_nbytes),
            ", ".join(each.weights) or "none",
        )
        for each in summaries
    ]
    said = [at for at in range(len(_COLUMNS)) if any(row[at] is not None for row in rows)]
    columns = tuple(_COLUMNS[at] for at in said)
    return Sheet(columns, [tuple(row[at] for at in said) for row in rows])


def models_form(summaries: Iterable[ModelSummary]) -> dict[str, Any]:
    """Return the same for JSON."""
    return {"version": VERSION, "models": [asdict(each) for each in summaries]}
