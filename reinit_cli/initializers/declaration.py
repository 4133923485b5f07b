"""Declare initializers, and bind their arguments."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import replace
from keyword import iskeyword
from typing import Literal

from reinit_cli.errors import ArgumentError
from reinit_cli.initializers.complexes import of_complex
from reinit_cli.initializers.fans import TORCHS, Fans, Layout, UndefinedError, need_ndim
from reinit_cli.initializers.foreign import blaming, checked
from reinit_cli.initializers.gains import NONLINEARITIES, gain_of
from reinit_cli.initializers.law import Law
from reinit_cli.initializers.parameters import (
    ArrayFile,
    Axes,
    Checkpoint,
    Flag,
    Integer,
    Kind,
    Value,
)
from reinit_cli.initializers.site import Site
from reinit_cli.initializers.synonyms import argument_meant
from reinit_cli.lazy import dataclass
from reinit_cli.text import plural, shortened

KEEP = "keep"
"""The initializer that leaves a tensor as it is."""

REQUIRED = inspect.Parameter.empty
"""The default of a parameter that has none."""

Arguments = dict[str, Value]

Purpose = Literal["layers", "plain", "constant", "elsewhere", "existing", "structure", "other"]

PURPOSES: dict[Purpose, str] = {
    "layers": "Preserve variance through layers",
    "plain": "Draw from a basic distribution",
    "constant": "Fill with one value",
    "elsewhere": "Use a model, another checkpoint or other rows",
    "existing": "Change or keep existing values",
    "structure": "Fill with structured weights",
    "other": "From other packages",
}
"""Goals that group initializers, in the order in which they are listed."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of an initializer.

    Attributes:
        name: as in torch's signature.
        kind: what it accepts.
        default: its value when it is not given, or `REQUIRED`.
        meaning: what it does, where its name does not say it.
    """

    name: str
    kind: Kind
    default: object
    meaning: str = ""


COMMON = (
    Parameter("ndim", Integer(minimum=0), None, "match only tensors with this many dimensions"),
    Parameter("min_ndim", Integer(minimum=0), 0, "match only tensors with at least this many"),
    Parameter("keep_zeros", Flag(), default=False, meaning="keep the zeros of the source"),
)
"""The parameters of every initializer."""

ROUNDS = (
    Parameter(
        "round",
        Integer(minimum=0),
        0,
        "number of earlier rounds: each round draws other random numbers",
    ),
)
"""The parameters of every initializer that changes existing values at random."""

LAYOUT = (
    Parameter("fan", Integer(minimum=1), None, "replaces both fans for any shape"),
    Parameter(
        "groups",
        Integer(minimum=1),
        TORCHS.groups,
        "for a grouped convolution: divides fan_out (its fan_in is already per group)",
    ),
    Parameter(
        "transposed",
        Flag(),
        TORCHS.transposed,
        "for a transposed convolution, whose weight is (in, out / groups, *kernel)",
    ),
    Parameter("axes", Axes(), None),
)
"""The parameters of every initializer whose law follows from the fans: the fields of `Layout`."""


@dataclass(frozen=True, slots=True)
class Initializer:
    """The declaration of an initializer.

    Attributes:
        name: its name; that of torch's function, without the trailing underscore, if it has one.
        build: returns the law (None for `keep`) for a shape, a `Site` or `Fans` if it uses
            them, and arguments; raises `UndefinedError`.
        parameters: its parameters, in the order of torch's signature.
        summary: its purpose, in one sentence.
        law: its distribution as a formula.
        defined: the shapes it is defined for, in words.
        paper: where it was published, or "".
        example: an example of its use in a rule, for help and the contract tests.
        aliases: other names.
        lone: suggestions for a single bare number that would be ambiguous, with `{}` for the
            number; "" if a bare number is clear.
        complete: adds dependent defaults to the given arguments and checks them together;
            raises `ArgumentError`.
        asks: the second arguments of `build`: "site" or "fans".
        fans: returns the fans for a shape and arguments if no `Layout` sets them.
        stream: a suffix for the key of its random stream: its own name if it transforms
            existing values, so that it never repeats the draw of the weights; "" otherwise.
        has_rounds: whether it transforms existing values at random, so that it can do so again
            with other random numbers.
        takes_all: whether wildcards also match running statistics and integers.
        by_layer: whether it fills tensors as their layers start: wildcards also match running
            statistics, and of ties the embedding decides.
        drawn_as: returns the key whose stream a tensor is drawn from, for a `Site`, a shape
            and arguments; None for the tensor's own.
        version: increased with each change of the values for a seed. Records name it, and
            `build` finds the requested version in its `Site`.
        purpose: the goal by which lists are grouped.
        usage: options that show the example in a command, with `{}` for the example.
    """

    name: str
    build: Callable[..., Law | None]
    parameters: tuple[Parameter, ...]
    summary: str
    law: str
    defined: str
    paper: str
    example: str
    aliases: tuple[str, ...]
    lone: tuple[str, ...]
    complete: Callable[[str, Arguments], Arguments]
    asks: tuple[str, ...] = ()
    fans: Callable[..., Fans | None] | None = None
    stream: str = ""
    has_rounds: bool = False
    takes_all: bool = False
    version: int = 1
    purpose: Purpose = "other"
    drawn_as: Callable[..., str] | None = None
    by_layer: bool = False
    usage: str = ""

    @property
    def all_parameters(self) -> tuple[Parameter, ...]:
        """Its own parameters, then those of the layout, then the common ones (except for `keep`)."""
        layout = LAYOUT if "fans" in self.asks else ()
        rounds = ROUNDS if self.has_rounds else ()
        return (*self.parameters, *layout, *rounds, *(() if self.name == KEEP else COMMON))

    def bind(self, given: Mapping[str, object]) -> Init:
        """Return the initializer with its arguments.

        Args:
            given: by name, as text or Python values.

        Raises:
            ArgumentError: an argument is unknown, missing, of the wrong kind or out of range.
        """
        known = {parameter.name: parameter for parameter in self.all_parameters}
        read: Arguments = {}
        for written_name, value in given.items():
            name = self._named(written_name, known)
            if name in read:
                twice = f"{name} is given twice, as {given.get(name, read[name])} and {value}"
                raise ArgumentError(self.name, twice)
            read[name] = self._read(known[name], value)
        ndim = typing.cast("int | None", read.pop("ndim", None))
        min_ndim = typing.cast("int", read.pop("min_ndim", 0))
        keep_zeros = bool(read.pop("keep_zeros", False))
        round_ = typing.cast("int", read.pop("round", 0)) if self.has_rounds else 0
        layout = self._layout(read)
        completed = self.complete(self.name, read)
        for parameter in self.parameters:
            if parameter.default is REQUIRED and parameter.name not in completed:
                raise ArgumentError(self.name, parameter.name, (self.example,), kind="missing")
        arguments = self._defaults() | completed
        return Init(self, tuple(arguments.items()), ndim, min_ndim, keep_zeros, layout, round_)

    def _named(self, name: str, known: Mapping[str, Parameter]) -> str:
        """Return the name of an argument, as torch has it.

        Raises:
            ArgumentError: there is none of that name.
        """
        found = name if name in known else argument_meant(name, tuple(known))
        if found is None:
            takes = ", ".join(known) or "none"
            problem = f"unknown argument {name!r}; it takes {takes}"
            raise ArgumentError(self.name, problem, known, word=name)
        return found

    def _layout(self, read: Arguments) -> Layout:
        """Take the arguments of the layout out of those that were read."""
        names = [parameter.name for parameter in LAYOUT] if "fans" in self.asks else []
        taken = {name: read.pop(name) for name in names if name in read}
        return Layout(**typing.cast("dict[str, typing.Any]", taken))

    def _defaults(self) -> Arguments:
        return {
            parameter.name: typing.cast("Value", parameter.default) for parameter in self.parameters
        }

    def _read(self, parameter: Parameter, value: object) -> Value:
        try:
            return parameter.kind.read(value)
        except ValueError as error:
            problem = f"{parameter.name} must be {error}, not {value!r}"
            word = value if isinstance(value, str) else None
            known = () if word is None else parameter.kind.words
            raise ArgumentError(self.name, problem, known, word=word) from error


_ANYWHERE = Site()


@dataclass(frozen=True, slots=True, repr=False)
class Init:
    """An initializer with its arguments bound.

    Attributes:
        initializer: its declaration.
        arguments: name and value, in the order of the signature.
        ndim: the dimensions of the tensors it takes; None for any number.
        min_ndim: the fewest dimensions of a tensor it takes.
        keep_zeros: whether zeros stay zeros.
        layout: how it reads the dimensions of a weight.
        round: how often its random change was made before; 0 where it makes none.
    """

    initializer: Initializer
    arguments: tuple[tuple[str, Value], ...] = ()
    ndim: int | None = None
    min_ndim: int = 0
    keep_zeros: bool = False
    layout: Layout = TORCHS
    round: int = 0

    @property
    def stream(self) -> str:
        """The suffix for the key of its random stream; "" for the stream of the weights."""
        return f"{self.initializer.stream}:{self.round}" if self.round else self.initializer.stream

    @property
    def keeps(self) -> bool:
        """Whether it leaves tensors as they are."""
        return self.initializer.name == KEEP

    @property
    def given(self) -> Arguments:
        """The arguments that differ from doing nothing, by name; `bind` accepts them again."""
        meant: Arguments = {name: value for name, value in self.arguments if value is not None}
        layout = {parameter.name: getattr(self.layout, parameter.name) for parameter in LAYOUT}
        unusual = {name: each for name, each in layout.items() if each != getattr(TORCHS, name)}
        common = {
            "round": self.round,
            "min_ndim": self.min_ndim,
            "keep_zeros": self.keep_zeros,
        }
        exact = {} if self.ndim is None else {"ndim": self.ndim}
        return meant | unusual | exact | {name: value for name, value in common.items() if value}

    def takes_ndim(self, ndim: int) -> bool:
        """Whether a rule takes tensors with this many dimensions."""
        return ndim >= self.min_ndim and self.ndim in (None, ndim)

    @property
    def wanted_dimensions(self) -> str:
        """The number of dimensions that a rule asks for, in words."""
        if self.ndim is None:
            return f"{plural(self.min_ndim, 'dimension')} or more"
        return plural(self.ndim, "dimension")

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """The other checkpoints and arrays that it takes tensors from."""
        return self._files(Checkpoint)

    @property
    def arrays(self) -> tuple[str, ...]:
        """Those of them that are arrays of NumPy."""
        return self._files(ArrayFile)

    def _files(self, kind: type[Checkpoint]) -> tuple[str, ...]:
        given = dict(self.arguments)
        return tuple(
            str(given[parameter.name])
            for parameter in self.initializer.parameters
            if isinstance(parameter.kind, kind)
        )

    @property
    def gain(self) -> float | None:
        """The gain it scales by, or None where it has none."""
        arguments = dict(self.arguments)
        named = arguments.get("nonlinearity", arguments.get("gain"))
        slope = arguments.get("a") if named in NONLINEARITIES else None
        return None if named is None else gain_of(named, typing.cast("float | None", slope))

    def law(self, shape: tuple[int, ...], site: Site = _ANYWHERE) -> Law | None:
        """Return the law that fills a tensor of that shape; None leaves it as it is.

        Args:
            shape: the tensor's shape.
            site: the key and dtype of the tensor, and what initializers may refer to.

        Raises:
            UndefinedError: the initializer is not defined on the shape, or there.
        """
        if not self.takes_ndim(len(shape)):
            need_ndim(shape, self.ndim or self.min_ndim, self.ndim)
        site = self._at_its_version(site)
        asked = [
            site if each == "site" else self.layout.fans(shape) for each in self.initializer.asks
        ]
        build, name = self.initializer.build, self.initializer.name
        try:
            with blaming(build.__module__, name):
                made = build(shape, *asked, **self._keywords())
            law = checked(made, build.__module__, name)
        except OverflowError as error:
            raise UndefinedError("its arguments are too large to compute with") from error
        return of_complex(law, site, has_fans="fans" in self.initializer.asks)

    def drawn_as(self, shape: tuple[int, ...], site: Site) -> str:
        """Return the key whose stream a tensor is drawn from.

        Args:
            shape: the tensor's shape.
            site: the key and dtype of the tensor, and what initializers may refer to.
        """
        if self.initializer.drawn_as is None:
            return site.key
        try:
            site = self._at_its_version(site)
            return self.initializer.drawn_as(site, shape, **self._keywords())
        except UndefinedError:
            return site.key

    def _keywords(self) -> Arguments:
        """Return the arguments as the function takes them."""
        return {f"{name}_" if iskeyword(name) else name: each for name, each in self.arguments}

    def _at_its_version(self, site: Site) -> Site:
        """Return a site with the version of this initializer that is to be drawn there.

        Raises:
            UndefinedError: it is newer than what is known here.
        """
        name, newest = self.initializer.name, self.initializer.version
        version = site.elsewhere.version_of(name, newest)
        if version > newest:
            raise UndefinedError(f"{name} is of version {version}, and {newest} is the newest here")
        return site if version == site.version else replace(site, version=version)

    def fans(self, shape: tuple[int, ...]) -> Fans | None:
        """Return the fans of a tensor as it reads them, or None where there are none."""
        try:
            if self.initializer.fans is not None:
                return self.initializer.fans(shape, **self._keywords())
            return self.layout.fans(shape)
        except UndefinedError:
            return None

    def __repr__(self) -> str:
        """Show it as a rule has it."""
        return f"Init({shortened(str(self))!r})"

    def __str__(self) -> str:
        """Write it as a rule has it; `parse_init` reads it back."""
        given = ",".join(f"{name}={written(value)}" for name, value in self.given.items())
        return f"{self.initializer.name}:{given}" if given else self.initializer.name


def written(value: Value) -> str:
    """Return an argument's value as a rule has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
