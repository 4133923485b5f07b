"""`reinit draw INIT SHAPE`: draw one tensor and print it."""

from __future__ import annotations

import os
import sys

import click

from reinit_cli.cli.options import (
    CONTEXT,
    DtypeType,
    ShapeType,
    arch_option,
    device_option,
    json_option,
    seed_option,
)


@click.command("draw", context_settings=CONTEXT)
@click.argument("init")
@click.argument("shape", type=ShapeType())
@click.option(
    "--key", default="weight", show_default=True, help="Draw as this key of a checkpoint is drawn."
)
@click.option(
    "--dtype", type=DtypeType(), default="float32", show_default=True, help="Round to this dtype."
)
@arch_option
@seed_option
@device_option
@json_option
def command(
    init: str,
    shape: tuple[int, ...],
    key: str,
    dtype: str,
    arch: str | None,
    seed: int | None,
    device: str | None,
    *,
    as_json: bool,
) -> None:
    """Draw one tensor of SHAPE by INIT and print it with its fans, gain, std and bound.

    \b
    reinit draw "xavier_uniform:relu" 3,5
    reinit draw "kaiming_normal:relu,fan_out" 64,3,11,11 --key features.0.weight
    reinit draw default 10,512 --key fc.weight --arch resnet18
    """
    from reinit_cli.recipes import Recipe, of_environment

    drawn = Recipe(seeds=None if seed is None else (seed,), device=device)
    drawn = of_environment(os.environ).under(drawn)
    (seed,) = drawn.seeds or (0,)

    import torch

    from reinit_cli import apply_
    from reinit_cli.patterns import Pattern
    from reinit_cli.report.draws import draw_form, draw_sheet
    from reinit_cli.report.serial import dumps
    from reinit_cli.report.sheets import show
    from reinit_cli.rules import Rule

    rule = Rule.of(Pattern.escape(key), init)
    if rule.init.keeps:
        raise click.UsageError("keep draws nothing")
    if rule.init.initializer.stream or rule.init.keep_zeros:
        raise click.UsageError(f"{rule.init} changes what is there, and here nothing is")
    tensor = torch.empty(shape, dtype=getattr(torch, dtype))
    plan = apply_({key: tensor}, [rule], seed=seed, device=drawn.device or "cpu", arch=arch)
    if as_json:
        sys.stdout.write(dumps(draw_form(plan, tensor)) + "\n")
    else:
        click.echo(str(tensor))
        show(draw_sheet(plan, tensor), sys.stdout)
