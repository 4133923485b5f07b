"""The group of commands; each is imported when it is called."""

from __future__ import annotations

from importlib import import_module
from typing import cast

import click

COMMANDS = {
    "run": "Re-initialise tensors and write a new checkpoint.",
    "keys": "List the keys of a model or a checkpoint.",
    "show": "Print the values of one tensor.",
    "diff": "Tell what differs between two checkpoints.",
    "verify": "Tell whether a checkpoint is what its record says.",
    "stats": "Measure tensors: mean, std, extremes, NaN, a histogram.",
    "inits": "List the initializers, or explain one.",
    "draw": "Draw one tensor and print it with its law.",
    "models": "List the torchvision models.",
    "completion": "Print a script that completes commands, rules and keys in a shell.",
}
"""The commands with their short help, so that `--help` imports none of them."""


class _LazyGroup(click.Group):
    """Imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        place = "run.command" if cmd_name == "run" else cmd_name
        module = import_module(f"reinit_cli.cli.commands.{place}")
        return cast("click.Command", module.command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _print_version(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
    del parameter
    if value and not ctx.resilient_parsing:
        from reinit_cli.version import __version__

        click.echo(f"reinit {__version__}")
        ctx.exit()


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    options_metavar="",
    subcommand_metavar="SOURCE [OPTIONS] | COMMAND [ARGS]",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version and exit.",
)
def group() -> None:
    """Re-initialise chosen tensors of a PyTorch checkpoint and leave all else as it was.

    \b
    reinit alexnet --rule "features.*.weight=xavier_uniform:relu"
    reinit model.safetensors -r "lm_head.weight=normal:std=0.02" -o new.safetensors
    reinit keys model.safetensors "*.bias"

    `reinit SOURCE …` is short for `reinit run SOURCE …`; `reinit run -h` lists its options.
    """
