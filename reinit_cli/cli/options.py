"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from reinit_cli.request.pattern import Pattern
from reinit_cli.streams.seeds import parse_seeds
from reinit_cli.tensors.dtype import dtype_named
from reinit_cli.tensors.slice import Index, parse_slice
from reinit_cli.text import parse_nbytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reinit_cli.request.resize import Resize
    from reinit_cli.request.rule import Rule
    from reinit_cli.storage.destination import Destination

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _ReadType(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.5
    """A text of our own, whose errors are told as they are."""

    def read(self, text: str) -> object:
        """Return what it stands for."""
        raise NotImplementedError

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Read it, unless that was done."""
        del param, ctx
        return self.read(value) if isinstance(value, str) else value


class RuleType(_ReadType):
    """A rule: PATTERN=INIT[:ARGS]."""

    name = "rule"

    def read(self, text: str) -> Rule:
        """Read it."""
        from reinit_cli.request.rule import Rule

        return Rule.parse(text)


class ResizeType(_ReadType):
    """A resize: PATTERN=N[:INIT]."""

    name = "resize"

    def read(self, text: str) -> Resize:
        """Read it."""
        from reinit_cli.request.resize import Resize

        return Resize.parse(text)


class PatternType(_ReadType):
    """A pattern over keys."""

    name = "pattern"

    def read(self, text: str) -> Pattern:
        """Read it."""
        return Pattern.parse(text)


class ShapeType(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.5
    """A shape: "64,3,11,11" or "64x3x11x11"; "scalar" has no dimension."""

    name = "shape"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Read it."""
        if isinstance(value, tuple):
            return value
        words = [] if value == "scalar" else value.strip("()[] ").replace("x", ",").split(",")
        if words and not words[-1].strip():
            words.pop()  # Python's own "(3,)"
        if not all(word.strip().isdecimal() for word in words):
            self.fail(f"{value!r} is no shape; write it as 64,3,11,11", param, ctx)
        return tuple(int(word) for word in words)


class DtypeType(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.5
    """A dtype by torch's name."""

    name = "dtype"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read it; an unknown one is told with its near spelling."""
        del param, ctx
        return dtype_named(value).name


class SliceType(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.5
    """Part of a tensor: "0,:,:,:2"."""

    name = "slice"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[Index, ...]]:
        """Read it, and keep it as it is written; its errors are told as they are."""
        del param, ctx
        return value if isinstance(value, tuple) else (value, parse_slice(value))


class SizeType(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.5
    """A number of bytes: "5GB", "1.5GiB", "4096"."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it; powers of 1000 without an i, of 1024 with one."""
        if isinstance(value, int):
            return value
        try:
            return parse_nbytes(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class SeedsType(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.5
    """One seed or several: "3", "0..4", "0,3,7"."""

    name = "seeds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Read them."""
        if isinstance(value, tuple):
            return value
        try:
            return parse_seeds(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


weights_option = click.option(
    "--weights",
    metavar="NAME|none|FILE",
    help="Choose a model's weights: DEFAULT, a name such as IMAGENET1K_V2, none, or a "
    "checkpoint of your own.  [default: DEFAULT]",
)

root_option = click.option(
    "--root",
    metavar="PATH",
    help="Take the state dict at this path of a training checkpoint, such as model_ema; '.' is "
    "the whole.  [default: state_dict, model_state_dict, model or module]",
)

arch_option = click.option(
    "--arch",
    metavar="MODEL",
    help="Let the initializer `default` follow the constructor of this torchvision model.  "
    "[default: the source, where it is a model]",
)

seed_option = click.option(
    "-s",
    "--seed",
    type=int,
    help="Seed the random streams; every key has its own.  [default: REINIT_SEED, or 0]",
)

seeds_option = click.option(
    "-s",
    "--seed",
    "seeds",
    type=SeedsType(),
    metavar="N|N..M|N,M",
    help="Seed the random streams; every key has its own. Several seeds make an output each.  "
    "[default: REINIT_SEED, or 0]",
)

device_option = click.option(
    "-d",
    "--device",
    metavar="DEVICE",
    help="Draw on this device: cpu, cuda, cuda:1, mps or auto. Another kind of device draws "
    "other numbers.  [default: REINIT_DEVICE, or cpu]",
)

report_option = click.option(
    "--report",
    metavar="FILE",
    help="Write a report to this file too: a page (.html), or the pictures in one figure (.svg, "
    ".png). A page needs jinja2, a figure matplotlib.",
)


def report_place(
    report: str | None, others: Iterable[str | None], *, has_pictures: bool, force: bool
) -> Destination | None:
    """Return where a report goes, if one is asked for, after every check.

    Args:
        report: as it was given, or None.
        others: the paths that are read and written beside it.
        has_pictures: whether there is something to draw.
        force: whether an existing report is replaced.
    """
    if report is None:
        return None
    from reinit_cli.cli.render.file import check_report

    return check_report(report, others, has_pictures=has_pictures, force=force)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
