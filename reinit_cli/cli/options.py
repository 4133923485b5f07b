"""Declare the arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from reinit_cli.cli.help import Option, argument, option
from reinit_cli.cli.parameters import ArgumentsType, RenameType, StreamType, refuse_empty
from reinit_cli.cli.screen import COLOR, NO_PAGER, WIDE
from reinit_cli.errors import RecipeError, UnknownNameError
from reinit_cli.request.values import DEVICE
from reinit_cli.streams.seeds import parse_seeds
from reinit_cli.streams.stream import DEFAULT_STREAM
from reinit_cli.text import MAX_DIGITS, has_too_many_digits, parse_integer, parse_number, quoted

if TYPE_CHECKING:
    from reinit_cli.storage.destination import Destination, InUse

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 80}


class SeedsType(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.5
    """One seed or several: "3", "0..4", "0,3,7"; an environment variable holds one."""

    name = "seeds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Read them."""
        if isinstance(value, tuple):
            return value
        if _is_of_variable(ctx, param):
            return (_integer(self, value, param, ctx, _VARIABLE),)
        try:
            return parse_seeds(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _DeviceType(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.5
    """A device, which is looked for when it is used."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Take it by torch's name; check the spelling of an environment variable."""
        from reinit_cli.tensors.device import device_named

        device = device_named(str(value))
        if _is_of_variable(ctx, param) and not DEVICE.fullmatch(device):
            self.fail(f"{value!r} is not one of cpu, cuda, cuda:1, mps and auto", param, ctx)
        return device


class CountType(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.5
    """A positive integer, or one from another number on, in the digits of ASCII."""

    name = "count"

    def __init__(self, least: int = 1) -> None:
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        read = _integer(self, value, param, ctx) if isinstance(value, str) else int(value)
        if read < self.least:
            self.fail(f"it must be at least {self.least}, not {read}", param, ctx)
        return read


class DistanceType(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.5
    """A number of at least 0, in the digits of ASCII."""

    name = "distance"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read it."""
        try:
            read = parse_number(value) if isinstance(value, str) else float(value)
        except ValueError:
            self.fail(f"{quoted(value)} is not a valid number", param, ctx)
        if not read >= 0:  # nor is NaN
            self.fail(f"it must be at least 0, not {value}", param, ctx)
        return read


class SeedType(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.5
    """One seed."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        if _is_of_variable(ctx, param):
            return _integer(self, value, param, ctx, _VARIABLE)
        return value if isinstance(value, int) else _integer(self, value, param, ctx)


_VARIABLE = "is not an integer"
"""What is wrong with an environment variable, which the error names."""


def _integer(
    kind: click.ParamType,  # type: ignore[type-arg]  # generic only since click 8.5
    value: str,
    param: click.Parameter | None,
    ctx: click.Context | None,
    problem: str = "is not a valid integer.",
) -> int:
    try:
        return parse_integer(value)
    except ValueError:
        if has_too_many_digits(value):
            kind.fail(f"an integer has at most {MAX_DIGITS} digits", param, ctx)
        kind.fail(f"{quoted(value)} {problem}", param, ctx)


def _is_of_variable(ctx: click.Context | None, param: click.Parameter | None) -> bool:
    """Whether the value of a parameter comes from an environment variable."""
    if ctx is None or param is None or param.name is None:
        return False
    return ctx.get_parameter_source(param.name) is ParameterSource.ENVIRONMENT


class _VariableOption(Option):
    """An option with an environment variable, which errors name."""

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """Read the value.

        Raises:
            RecipeError: the variable is not valid.
        """
        try:
            return super().process_value(ctx, value)
        except (click.BadParameter, UnknownNameError) as error:
            if not _is_of_variable(ctx, self):
                raise
            problem = error.message if isinstance(error, click.BadParameter) else str(error)
            raise RecipeError(str(self.envvar), problem, kind="variable") from error


def check_device_of_variable(device: str) -> None:
    """Check that this machine has the device of the environment variable.

    Raises:
        RecipeError: it has not; the error names the variable.
    """
    from reinit_cli.tensors.device import check_device

    try:
        check_device(device)
    except UnknownNameError as error:
        raise RecipeError(DEVICE_VARIABLE, str(error), kind="variable") from error


SEED_VARIABLE, STREAM_VARIABLE = "REINIT_SEED", "REINIT_STREAM"
DEVICE_VARIABLE = "REINIT_DEVICE"
"""The environment variables that options obey."""


SOURCE, RANDOMNESS, DISPLAY, VIEW = "Source", "Randomness", "Display", "View"
"""Headings of the options below."""

SOURCES = (
    "A file (safetensors or from torch.save), a folder (Hugging Face or DCP) or '-' for stdin; "
    "the same at a URL: s3://, gs://, https://, or hf://ORG/MODEL on the Hub; or a model by its "
    "name: resnet50 of torchvision, timm:resnet50 of timm"
)
"""What may be a source."""

source_argument = argument("source", metavar="SOURCE", help=SOURCES)

WEIGHTS: dict[str, Any] = {
    "metavar": "NAME|none|FILE",
    "heading": SOURCE,
    "was": {"--no-weights": "--weights=none"},
    "callback": refuse_empty,
    "help": "Weights of a model: a name such as IMAGENET1K_V2 or a1_in1k, none, or your own "
    "checkpoint  [default: DEFAULT]",
}
ROOT: dict[str, Any] = {
    "metavar": "PATH",
    "heading": SOURCE,
    "help": "Where the state dict is in a torch file, e.g. model_ema, 0 or agents.0.actor; '.' is "
    "the top level  [default: found by name, or by weight]",
}
"""Options that the short help of a run has no room for."""

weights_option = option("--weights", brief="Weights of a model, or none", **WEIGHTS)

root_option = option("--root", brief="Where the state dict is, e.g. model_ema", **ROOT)

SEED: dict[str, Any] = {
    "cls": _VariableOption,
    "envvar": SEED_VARIABLE,
    "type": SeedType(),
    "default": 0,
    "metavar": "N",
}
"""An option for one seed; what it is for is said where it is used."""

seed_option = option(
    "-s",
    "--seed",
    heading=SOURCE,
    help="Seed for a model that is built with --weights none  [env: REINIT_SEED]  [default: 0]",
    **SEED,
)

seeds_option = option(
    "-s",
    "--seed",
    "seeds",
    cls=_VariableOption,
    envvar=SEED_VARIABLE,
    type=SeedsType(),
    metavar="N|N..M|N,M",
    heading=RANDOMNESS,
    brief="Seed, or several: 0..4 or 0,3,7  [default: 0]",
    help="Seed. Every key has its own stream. Several seeds write one output each.  "
    "[env: REINIT_SEED]  [default: 0]",
)

rename_option = option(
    "--rename",
    type=RenameType(),
    multiple=True,
    metavar="OLD=NEW",
    heading=SOURCE,
    help="Rename keys that match the pattern OLD. Each * in NEW takes the text of one in OLD, "
    "as in 'module.*=*'; re:REGEX=NEW takes groups. Repeatable, one after the other.",
)

STREAM: dict[str, Any] = {
    "cls": _VariableOption,
    "envvar": STREAM_VARIABLE,
    "type": StreamType(),
    "metavar": "NAME",
}
"""An option for a random stream; what is drawn from it is said where it is used."""

source_stream_option = option(
    "--stream",
    default=DEFAULT_STREAM,
    heading=SOURCE,
    help="Random stream, philox or torch, of a model that is built with --weights none  "
    f"[env: {STREAM_VARIABLE}]  [default: {DEFAULT_STREAM}]",
    **STREAM,
)

stream_option = option(
    "--stream",
    heading=RANDOMNESS,
    brief=f"philox or torch  [default: {DEFAULT_STREAM}]",
    help="Random stream that values are drawn from: philox gives the same bits on every machine, "
    "torch those of torch.nn.init. A family means its newest version; an exact name such as "
    "philox-1 never changes.  "
    f"[env: {STREAM_VARIABLE}]  [default: {DEFAULT_STREAM}]",
    **STREAM,
)

arch_args_option = option(
    "--arch-args",
    type=ArgumentsType(),
    metavar="JSON",
    heading=SOURCE,
    help="Arguments of the constructor that --arch names, as a JSON object: '{\"width\": 64}'",
)

device_option = option(
    "-d",
    "--device",
    cls=_VariableOption,
    envvar=DEVICE_VARIABLE,
    type=_DeviceType(),
    metavar="DEVICE",
    heading=RANDOMNESS,
    brief="cpu, cuda, mps or auto  [default: cpu]",
    help="Where values are drawn: cpu, cuda, cuda:1, mps, auto. Under --stream torch, a GPU draws "
    "different numbers from a CPU; under philox it draws the same.  [env: REINIT_DEVICE]  [default: cpu]",
)

allow_path_option = option(
    "--allow-path",
    "allow_paths",
    multiple=True,
    metavar="DIR",
    heading="Rarely needed",
    help="Let recipes, plans and records name files in DIR too, and let the weights of a folder "
    "be links into it. Repeatable.  [default: the current folder, and no such links]",
)

REPORT_HELP = "Also write a report: .html (needs jinja2), .svg or .png (matplotlib)"

report_option = option("--report", metavar="FILE", heading="Report", help=REPORT_HELP)

overwrite_report_option = option(
    "-f", "--force", is_flag=True, heading="Report", help="Overwrite an existing report"
)


def report_place(
    report: str | None, in_use: InUse, *, has_pictures: bool, force: bool
) -> Destination | None:
    """Check the place of a report, and return it; None if no report is asked for.

    Args:
        report: as it was given, or None.
        in_use: the files that are read and written besides it.
        has_pictures: whether there is something to draw.
        force: whether an existing report is replaced.
    """
    if report is None:
        return None
    from reinit_cli.cli.render.file import check_report

    return check_report(report, in_use, has_pictures=has_pictures, force=force)


quiet_option = option(
    "-q",
    "--quiet",
    is_flag=True,
    heading=DISPLAY,
    brief="Print nothing; use the exit code",
    help="Print nothing; use the exit code. --json is still printed.",
)

json_option = option(
    "--json", "as_json", is_flag=True, heading=DISPLAY, brief="Print JSON", help="Print JSON"
)


def _kept(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """Return a callback that keeps the value of an option in the context."""

    def keep(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        del parameter
        ctx.meta[name] = value

    return keep


_Command = TypeVar("_Command", bound=Callable[..., Any])

_SHOWN: dict[str, Any] = {"expose_value": False, "is_eager": True, "heading": DISPLAY}

_DISPLAY_OPTIONS = (
    option(
        "--color",
        metavar="WHEN",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        callback=_kept(COLOR),
        help="auto, always (in a pipe too) or never  [default: auto]",
        **_SHOWN,
    ),
    option(
        "--wide",
        is_flag=True,
        callback=_kept(WIDE),
        help="Show every column and whole keys, past the edge if need be",
        **_SHOWN,
    ),
    option(
        "--no-pager",
        is_flag=True,
        callback=_kept(NO_PAGER),
        help="Print long output without $PAGER",
        **_SHOWN,
    ),
)


def display_options(function: _Command) -> _Command:
    """Add the options that say how output is shown, which `screen_of` obeys."""
    for add in reversed(_DISPLAY_OPTIONS):
        function = add(function)
    return function
