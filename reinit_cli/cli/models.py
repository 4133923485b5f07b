"""`reinit models [GLOB...]`: the torchvision models."""

from __future__ import annotations

import sys

import click

from reinit_cli.cli.options import CONTEXT, PatternType, json_option
from reinit_cli.patterns import Pattern


@click.command("models", context_settings=CONTEXT)
@click.argument("globs", type=PatternType(), nargs=-1, metavar="[GLOB]...")
@json_option
@click.pass_context
def command(ctx: click.Context, globs: tuple[Pattern, ...], *, as_json: bool) -> None:
    """List the torchvision models, with their weights and sizes; exit 1 if none matches.

    \b
    reinit models
    reinit models "resnet*" "*vit*"
    """
    from reinit_cli.models import model_names, summarise_model
    from reinit_cli.report.models import models_form, models_sheet
    from reinit_cli.report.serial import dumps
    from reinit_cli.report.sheets import show

    names = model_names()
    chosen = [name for name in names if not globs or any(glob.matches(name) for glob in globs)]
    summaries = [summarise_model(name) for name in chosen]
    if as_json:
        sys.stdout.write(dumps(models_form(summaries)) + "\n")
    elif summaries:
        show(models_sheet(summaries), sys.stdout)
    ctx.exit(0 if chosen else 1)
