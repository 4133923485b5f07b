"""`reinit inits [NAME]`: what tensors can be filled with."""

from __future__ import annotations

import sys

import click

from reinit_cli.cli.options import CONTEXT, json_option
from reinit_cli.initializers import REGISTRY


@click.command("inits", context_settings=CONTEXT)
@click.argument("name", required=False)
@json_option
def command(name: str | None, *, as_json: bool) -> None:
    """List the initializers, or explain one: its law, arguments, shapes and paper.

    \b
    reinit inits
    reinit inits kaiming_normal
    """
    from reinit_cli.report.inits import init_form, init_sheet, inits_sheet
    from reinit_cli.report.serial import VERSION, dumps
    from reinit_cli.report.sheets import show

    chosen = [REGISTRY[name]] if name else list(REGISTRY)
    if as_json:
        form = {"version": VERSION, "initializers": [init_form(each) for each in chosen]}
        sys.stdout.write(dumps(form) + "\n")
    else:
        show(init_sheet(chosen[0]) if name else inits_sheet(chosen), sys.stdout)
