"""Draw one tensor and print it."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from reinit_cli.cli.commands.run.form import step_form
from reinit_cli.cli.help import Command, HintedUsageError, argument, option
from reinit_cli.cli.options import (
    CONTEXT,
    RANDOMNESS,
    SEED,
    arch_args_option,
    check_device_of_variable,
    device_option,
    display_options,
    json_option,
    stream_option,
)
from reinit_cli.cli.pager import paged
from reinit_cli.cli.parameters import (
    DtypeType,
    ShapeType,
    SliceType,
)
from reinit_cli.cli.render.facts import described
from reinit_cli.cli.render.json import VERSION, dumps, moments_form, values_form
from reinit_cli.cli.render.table import Sheet, show
from reinit_cli.cli.screen import screen_of
from reinit_cli.streams.stream import DEFAULT_STREAM, stream_named
from reinit_cli.tensors.printing import Style, printed
from reinit_cli.text import number, quoted, shape

if TYPE_CHECKING:
    from reinit_cli.operations.draw import Drawn
    from reinit_cli.operations.show import Part


class _Draw(Command):
    """Name the words that somebody leaves out, writes apart, or has in another order."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words.

        Raises:
            HintedUsageError: they are in another order.
        """
        words = [each for each in args[:2] if not each.startswith("-")]
        if len(words) == 2 and _is_shape(words[0]) and not _is_shape(words[1]):
            meant = shlex.join((words[1], words[0], *args[2:]))
            problem = f"the initializer comes before the shape {quoted(words[0])}"
            raise HintedUsageError(problem, ctx, f"did you mean: reinit draw {meant}?")
        if len(words) == 2 and re.fullmatch(r"\w+=.*", words[1]):
            init = f"{words[0]}{',' if ':' in words[0] else ':'}{words[1]}"
            problem = f"{quoted(words[1])} is an argument of the initializer, not a shape"
            meant = shlex.join((init, *args[2:]))
            raise HintedUsageError(problem, ctx, f"did you mean: reinit draw {meant}?")
        try:
            return super().parse_args(ctx, args)
        except click.MissingParameter as error:
            if not _is_shape(ctx.params.get("init") or ""):
                raise
            meant = shlex.join((_EXAMPLE, *args))
            hint = f"did you mean: reinit draw {meant}?"
            raise HintedUsageError("missing INIT", ctx, hint) from error

    def refuse_extra(self, ctx: click.Context, extra: Sequence[str]) -> None:
        """Refuse dimensions that are words of their own."""
        dimensions = (*map(str, ctx.params.get("shape") or ()), *extra)
        if all(map(_is_shape, extra)):
            joined = ",".join(each.strip(",") for each in dimensions)
            raise HintedUsageError(
                f"unexpected argument {extra[0]!r}", ctx, f"write the shape as {joined}"
            )
        super().refuse_extra(ctx, extra)


_TENSOR = "Tensor"


def _is_shape(word: str) -> bool:
    return word == "scalar" or re.fullmatch(r"[0-9]+(?:[x,][0-9]+)*,?", word) is not None


_EXAMPLE = "normal:std=0.02"


@click.command("draw", cls=_Draw, context_settings=CONTEXT)
@argument(
    "init",
    metavar="INIT",
    help="An initializer and its arguments, as in a rule: normal:std=0.02 (see 'reinit inits')",
)
@argument(
    "shape", metavar="SHAPE", type=ShapeType(), help="Dimensions, such as 64,3,11,11, or scalar"
)
@option(
    "--key",
    default="weight",
    metavar="KEY",
    heading=_TENSOR,
    brief="Key whose random stream is used  [default: weight]",
    help="Draw what a run with the same seed draws for KEY  [default: weight]",
)
@option(
    "--dtype",
    type=DtypeType(),
    default="float32",
    metavar="DTYPE",
    heading=_TENSOR,
    brief="Round to this dtype  [default: float32]",
    help="Round to this dtype, e.g. bfloat16  [default: float32]",
)
@option(
    "--saturate",
    is_flag=True,
    heading=_TENSOR,
    brief="Clip numbers that DTYPE cannot hold to its largest",
    help="Clip numbers that DTYPE cannot hold to its largest, instead of failing",
)
@option(
    "--slice",
    "part",
    type=SliceType(),
    metavar="SLICE",
    heading=_TENSOR,
    brief="Draw only this part: 50257:,: or ...,:8",
    help="Draw only this part of the tensor, in Python's notation: 50257:,: or ...,:8",
)
@option(
    "--arch",
    metavar="ARCH",
    heading=_TENSOR,
    brief="Architecture that the initializer 'default' follows",
    help="Architecture whose constructor the initializer 'default' follows: a torchvision model, "
    "timm:NAME, ./net.py:Class or package.module:Class",
)
@arch_args_option
@option(
    "-s",
    "--seed",
    heading=RANDOMNESS,
    brief="Seed  [default: 0]",
    help="Seed. Every key has its own stream.  [env: REINIT_SEED]  [default: 0]",
    **SEED,
)
@stream_option
@device_option
@json_option
@display_options
@click.pass_context
def command(
    ctx: click.Context,
    init: str,
    shape: tuple[int, ...],
    key: str,
    dtype: str,
    part: Part | None,
    arch: str | None,
    arch_args: dict[str, object] | None,
    seed: int,
    stream: str | None,
    device: str | None,
    *,
    as_json: bool,
    saturate: bool,
) -> None:
    """Draw a sample tensor and show its distribution: fans, gain, std and bound.

    \b
    reinit draw "xavier_uniform:relu" 3,5
    reinit draw "kaiming_normal:relu,fan_out" 64,3,11,11 --key features.0.weight
    reinit draw default 10,512 --key fc.weight --arch resnet18
    reinit draw normal:std=0.02 50304,768 --slice 50257:
    """
    if device and ctx.get_parameter_source("device") is ParameterSource.ENVIRONMENT:
        check_device_of_variable(device)

    from reinit_cli.initializers import parse_init
    from reinit_cli.operations.draw import draw_tensor

    chosen = parse_init(init)
    if chosen.keeps:
        raise click.UsageError("keep draws nothing")
    if chosen.initializer.stream or chosen.keep_zeros:
        raise click.UsageError(f"{chosen} changes existing values, and a drawn tensor has none")
    drawn = draw_tensor(
        chosen,
        shape,
        key=key,
        dtype=dtype,
        seed=seed,
        stream=stream or DEFAULT_STREAM,
        device=device or "cpu",
        arch=arch,
        arch_args=arch_args,
        part=part,
        saturate=saturate,
    )
    if as_json:
        sys.stdout.write(dumps(draw_form(drawn)) + "\n")
    else:
        style = Style.of_process().within(screen_of(sys.stdout).limit)
        with paged():
            click.echo(printed(drawn.elements.flat, drawn.shape, style))
            show(draw_sheet(drawn), sys.stdout)


def draw_sheet(drawn: Drawn) -> Sheet:
    """Return the law of a tensor and what was drawn."""
    return Sheet((), (), tuple(_facts(drawn)))


def _facts(drawn: Drawn) -> Iterator[tuple[str, str]]:
    plan = drawn.plan
    (step,), (rule,) = plan.steps, plan.rules
    yield "initializer", described(rule.init)
    yield "shape", f"{shape(step.tensor.shape)}, {step.tensor.dtype}"
    if drawn.part:
        yield "slice", f"{drawn.part}, {shape(drawn.shape)}"
    if both := step.fans:
        yield "fan_in", f"{both.fan_in:,}"
        yield "fan_out", f"{both.fan_out:,}"
    if rule.init.gain is not None:
        yield "gain", number(rule.init.gain)
    if step.bound is not None:
        yield "bound", number(step.bound)
    expected = [f"{number(step.follows.std)} expected"] if step.follows is not None else []
    found = [f"{number(drawn.moments.std)} drawn"] if drawn.elements.numel else []
    if expected or found:
        yield "std", ", ".join((*expected, *found))
    stream = stream_named(plan.request.stream)
    key = f"key {step.key}, {stream.seed_name} {step.seed_form}"
    yield "seed", f"{plan.request.seed} (stream {stream.name}), {key}"


def draw_form(drawn: Drawn) -> dict[str, Any]:
    """Return the same for JSON, with the values as nested lists."""
    plan = drawn.plan
    (step,), (rule,) = plan.steps, plan.rules
    after = {"after": moments_form(drawn.moments)}
    return {
        "version": VERSION,
        "stream": plan.request.stream,
        "seed": plan.request.seed,
        "device": plan.request.device,
        "rule": [rule.serial()],
        "tensors": [step_form(step, None) | after],
        "slice": drawn.part or None,
        "values": values_form(drawn.elements, drawn.shape),
    }
