"""The declarations of initializers, as sheets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from reinit_cli.initializers.declaration import REQUIRED, Initializer, Parameter, written
from reinit_cli.initializers.kinds import Value
from reinit_cli.report.sheets import Column, Sheet

_COLUMNS = (
    Column("name"),
    Column("law"),
    Column("arguments"),
    Column("defined for"),
)


def inits_sheet(declared: Iterable[Initializer]) -> Sheet:
    """Return a row for each initializer."""
    rows = [
        (each.name, each.law, ", ".join(map(_short, each.parameters)), each.defined)
        for each in declared
    ]
    return Sheet(_COLUMNS, rows)


def init_sheet(declared: Initializer) -> Sheet:
    """Return all that is declared of one initializer."""
    facts = [
        ("name", " or ".join((declared.name, *declared.aliases))),
        ("summary", declared.summary),
        ("law", declared.law),
        ("defined for", declared.defined),
        *(("argument", _long(parameter)) for parameter in declared.all_parameters),
        ("paper", declared.paper),
        ("example", f'reinit SOURCE -r "*.weight={declared.example}"'),
    ]
    return Sheet((), (), [fact for fact in facts if fact[1]])


def init_form(declared: Initializer) -> dict[str, Any]:
    """Return all that is declared of one initializer, for JSON."""
    return {
        "name": declared.name,
        "aliases": declared.aliases,
        "summary": declared.summary,
        "law": declared.law,
        "defined": declared.defined,
        "arguments": [
            {
                "name": parameter.name,
                "accepts": parameter.kind.describe(),
                "meaning": parameter.meaning or None,
                "default": None if parameter.default is REQUIRED else parameter.default,
                "required": parameter.default is REQUIRED,
            }
            for parameter in declared.all_parameters
        ],
        "paper": declared.paper or None,
        "example": declared.example,
    }


def _short(parameter: Parameter) -> str:
    if parameter.default is REQUIRED or parameter.default is None:
        return parameter.name
    return f"{parameter.name}={written(cast('Value', parameter.default))}"


def _long(parameter: Parameter) -> str:
    meaning = f"; {parameter.meaning}" if parameter.meaning else ""
    return f"{_short(parameter)}: {parameter.kind.describe()}{meaning}"
