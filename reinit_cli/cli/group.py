"""Define the group of commands, each of which is imported when it is called."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple, cast

import click


class Entry(NamedTuple):
    """A command before it is imported.

    Attributes:
        module: where it is, within `commands`.
        sentence: its short help.
    """

    module: str
    sentence: str


COMMANDS = {
    "run": Entry("run.command", "Re-initialise tensors and write a new checkpoint."),
    "keys": Entry("keys", "List the keys of a model or a checkpoint."),
    "show": Entry("show", "Print the values of one tensor."),
    "diff": Entry("diff", "Tell what differs between two checkpoints."),
    "verify": Entry("verify", "Tell whether a checkpoint is what its record says."),
    "stats": Entry("stats", "Measure tensors: mean, std, extremes, NaN, a histogram."),
    "inits": Entry("inits", "List the initializers, or explain one."),
    "draw": Entry("draw", "Draw one tensor and print it with its law."),
    "models": Entry("models", "List the torchvision models."),
    "completion": Entry(
        "completion", "Print a script that completes commands, rules and keys in a shell."
    ),
}
"""The commands, so that `--help` imports none of them."""

DEFAULT = "run"
"""The command that is meant where none is named."""


class _LazyGroup(click.Group):
    """Imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"reinit_cli.cli.commands.{COMMANDS[cmd_name].module}")
        return cast("click.Command", module.command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.sentence) for name, each in COMMANDS.items()])


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
