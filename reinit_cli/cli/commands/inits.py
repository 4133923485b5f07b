"""List the initializers, or explain one."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

import click

from reinit_cli.cli.help import Command, argument
from reinit_cli.cli.options import CONTEXT, display_options, json_option
from reinit_cli.cli.pager import paged
from reinit_cli.cli.render.json import VERSION, dumps
from reinit_cli.cli.render.table import Column, Sheet, show
from reinit_cli.cli.screen import screen_of
from reinit_cli.initializers import REGISTRY
from reinit_cli.initializers.declaration import REQUIRED, Initializer, Parameter, written
from reinit_cli.initializers.parameters import Value


@click.command("inits", cls=Command, context_settings=CONTEXT)
@argument(
    "name", required=False, metavar="[NAME]", help="The initializer to explain  [default: list all]"
)
@json_option
@display_options
def command(name: str | None, *, as_json: bool) -> None:
    """List the initializers, or explain one: distribution, arguments, shapes, paper.

    \b
    reinit inits
    reinit inits kaiming_normal
    """
    found = {"": [REGISTRY[name]]} if name else REGISTRY.by_purpose()
    chosen = [each for group in found.values() for each in group]
    if as_json:
        form = {"version": VERSION, "initializers": [init_form(each) for each in chosen]}
        sys.stdout.write(dumps(form) + "\n")
    else:
        with paged():
            show(init_sheet(chosen[0]) if name else inits_sheet(found), sys.stdout)
            if not name and screen_of(sys.stdout).is_terminal:
                sys.stdout.write("\n")
                show(Sheet((), (), [("more", "reinit inits NAME explains one")]), sys.stdout)


_COLUMNS = (
    Column("purpose", "group"),
    Column("name"),
    Column("summary", comfortable=62),
    Column("arguments", rank=1),
    Column("defined for", rank=2),
    Column("law", rank=3),
)


def inits_sheet(groups: Mapping[str, Sequence[Initializer]]) -> Sheet:
    """Return a row for each initializer, those for one purpose together."""
    rows = [
        (
            *(purpose, each.name, each.summary),
            *(", ".join(map(_short, each.parameters)), each.defined, each.law),
        )
        for purpose, group in groups.items()
        for each in group
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
        ("example", f"reinit SOURCE {declared.usage.format(declared.example)}"),
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
