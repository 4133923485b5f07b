"""Read the values of options by our own code, whose errors are shown unchanged."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from reinit_cli.request.pattern import Pattern
from reinit_cli.streams.stream import stream_named
from reinit_cli.tensors.dtype import dtype_named
from reinit_cli.tensors.slice import Index, parse_slice
from reinit_cli.text import parse_nbytes, quoted

if TYPE_CHECKING:
    from reinit_cli.request.rename import Rename
    from reinit_cli.request.resize import Resize
    from reinit_cli.request.rule import Rule


def refuse_empty(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Refuse "", which is a variable of a script that was not set, and not a choice.

    Raises:
        click.BadParameter: the value is empty.
    """
    if value == "":
        raise click.BadParameter("it is empty", ctx, param)
    return value


class _ReadType(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.5
    """A parameter that our own code reads, whose errors are shown unchanged."""

    def read(self, text: str) -> object:
        """Read the text of the parameter."""
        raise NotImplementedError

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Read it, unless it has been read."""
        del param, ctx
        return self.read(value) if isinstance(value, str) else value


class StreamType(_ReadType):
    """A random stream, by its exact name or that of its family."""

    name = "stream"

    def read(self, text: str) -> str:
        """Return its exact name."""
        return stream_named(text).name


class ArgumentsType(_ReadType):
    """The arguments of a constructor, as a JSON object."""

    name = "arguments"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Read them, and say what is wrong with the JSON."""
        from reinit_cli.request.json_text import parse_json
        from reinit_cli.request.values import read_arguments

        if not isinstance(value, str):
            return value
        try:
            return read_arguments(parse_json(value, "it", "constructor"))
        except ValueError as error:
            said = str(error)
            self.fail(said if said.startswith("it ") else f"it must be {said}", param, ctx)


class RuleType(_ReadType):
    """A rule: PATTERN=INIT[:ARGS]."""

    name = "rule"

    def read(self, text: str) -> Rule:
        """Read it."""
        from reinit_cli.request.rule import Rule

        return Rule.parse(text)


class ExclusionType(_ReadType):
    """A pattern over keys whose tensors, or parts of them, are left alone."""

    name = "pattern"

    def read(self, text: str) -> Rule:
        """Read it."""
        from reinit_cli.request.rule import Rule

        return Rule.excluding(text)


class ResizeType(_ReadType):
    """A resize: PATTERN=N[:INIT]."""

    name = "resize"

    def read(self, text: str) -> Resize:
        """Read it."""
        from reinit_cli.request.resize import Resize

        return Resize.parse(text)


class RenameType(_ReadType):
    """A rename: OLD=NEW."""

    name = "rename"

    def read(self, text: str) -> Rename:
        """Read it."""
        from reinit_cli.request.rename import Rename

        return Rename.parse(text)


class PatternType(_ReadType):
    """A pattern over keys."""

    name = "pattern"

    def read(self, text: str) -> Pattern:
        """Read it."""
        return Pattern.parse(text)


_MOST_DIGITS = 18
"""The most digits of a dimension: those of torch are below 2^63."""


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
        if not all(re.fullmatch("[0-9]+", word.strip()) for word in words):
            problem = f"{quoted(value)} is not a shape; write it as 64,3,11,11"
            self.fail(problem, param, ctx)
        if any(len(word.strip()) > _MOST_DIGITS for word in words):
            self.fail("a dimension has 18 digits at most", param, ctx)
        return tuple(int(word) for word in words)


class CastType(_ReadType):
    """A dtype by torch's name, or PATTERN=DTYPE."""

    name = "dtype"

    def read(self, text: str) -> str:
        """Read it."""
        from reinit_cli.request.cast import Cast

        return Cast.parse(text).written


class DtypeType(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.5
    """A dtype by torch's name."""

    name = "dtype"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read it."""
        del param, ctx
        return dtype_named(value).name


class SliceType(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.5
    """Part of a tensor: "0,:,:,:2"."""

    name = "slice"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[Index, ...]]:
        """Read it, and keep it as it is written too."""
        del param, ctx
        return value if isinstance(value, tuple) else (value, parse_slice(value))


class SizeType(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.5
    """A number of bytes: "5GB", "1.5GiB", "4096"."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it: "kB" is a power of 1000, "KiB" of 1024."""
        if isinstance(value, int):
            return value
        try:
            return parse_nbytes(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
