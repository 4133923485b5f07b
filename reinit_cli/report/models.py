"""The torchvision models, as a sheet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from reinit_cli.report.serial import VERSION
from reinit_cli.report.sheets import Column, Sheet
from reinit_cli.text import nbytes

if TYPE_CHECKING:
    from reinit_cli.models import ModelSummary

_COLUMNS = (
    Column("name"),
    Column("kind"),
    Column("weights (the default first)"),
    Column("parameters", is_number=True),
    Column("file", is_number=True),
)


def models_sheet(summaries: Iterable[ModelSummary]) -> Sheet:
    """Return a row for each model."""
    rows = [
        (
            each.name,
            each.kind,
            ", ".join(each.weights) or "none",
            f"{each.numel:,}" if each.numel is not None else "",
            nbytes(each.file_nbytes) if each.file_nbytes is not None else "",
        )
        for each in summaries
    ]
    return Sheet(_COLUMNS, rows)


def models_form(summaries: Iterable[ModelSummary]) -> dict[str, Any]:
    """Return the same for JSON."""
    return {"version": VERSION, "models": [asdict(each) for each in summaries]}
