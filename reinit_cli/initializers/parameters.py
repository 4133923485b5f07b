"""Define the kinds of arguments: what each accepts, and how a function declares it.

A parameter is annotated with its kind, `std: Annotated[float, Number(minimum=0)]`; plain
`float`, `int` and `str` stand for any number, any integer and any text.
"""

from __future__ import annotations

import math
from typing import Annotated, Protocol

from reinit_cli.initializers.fans import AXES, MODES
from reinit_cli.initializers.gains import NONLINEARITIES
from reinit_cli.initializers.synonyms import word_meant
from reinit_cli.lazy import dataclass
from reinit_cli.text import parse_integer, parse_number

Value = float | int | str | None
"""What an argument may be once it is read."""


_LARGEST = 2**63
"""Torch's dimensions are smaller."""


class Kind(Protocol):
    """A kind of argument."""

    @property
    def words(self) -> tuple[str, ...]:
        """The bare words that can only be this argument."""

    @property
    def takes_numbers(self) -> bool:
        """Whether a bare number can be this argument."""

    def describe(self) -> str:
        """Say what is accepted, for help and errors."""

    def read(self, value: object) -> Value:
        """Return the value of an argument given as text or as a Python value.

        Raises:
            ValueError: it is not of this kind; the text says what is.
        """


@dataclass(frozen=True, slots=True)
class Number:
    """A real number in [minimum, maximum]; infinite and NaN only where `finite` is False.

    Where `exact` is set, an integer that no float can represent stays an integer. Where
    `positive` is set, zero is refused. Where `by_name` is set, a bare number is never this
    argument.
    """

    minimum: float = -math.inf
    maximum: float = math.inf
    finite: bool = True
    exact: bool = False
    positive: bool = False
    by_name: bool = False
    words = ()

    @property
    def takes_numbers(self) -> bool:
        """Whether a bare number can be this argument."""
        return not self.by_name

    def describe(self) -> str:
        """Say which numbers."""
        return "a number above 0" if self.positive else "a number" + self._interval

    @property
    def _interval(self) -> str:
        return _interval(self.minimum, self.maximum)

    def read(self, value: object) -> float:
        """Return the number."""
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError(self.describe())
        try:
            number = parse_number(value) if isinstance(value, str) else float(value)
        except (ValueError, OverflowError) as error:
            raise ValueError(self.describe()) from error
        in_range = self.minimum <= number <= self.maximum or math.isnan(number)
        if (
            not in_range
            or (self.positive and number <= 0)
            or (self.finite and not math.isfinite(number))
        ):
            raise ValueError(self.describe())
        return _exact(value, number) if self.exact else number


@dataclass(frozen=True, slots=True)
class Integer:
    """An integer of at least `minimum` that fits into 64 bits."""

    minimum: float = -math.inf
    words = ()
    takes_numbers = True

    def describe(self) -> str:
        """Say which integers."""
        return "an integer" + _interval(self.minimum, math.inf)

    def read(self, value: object) -> int:
        """Return the integer."""
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise ValueError(self.describe())
        try:
            number = parse_integer(value) if isinstance(value, str) else value
        except ValueError as error:
            raise ValueError(self.describe()) from error
        if number < self.minimum:
            raise ValueError(self.describe())
        if abs(number) >= _LARGEST:
            raise ValueError(f"{self.describe()} and below 2^63")
        return number


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words."""

    words: tuple[str, ...]
    takes_numbers = False

    def describe(self) -> str:
        """Name the words."""
        return f"one of {', '.join(self.words)}"

    def read(self, value: object) -> str:
        """Return the word."""
        found = word_meant(value, self.words) if isinstance(value, str) else None
        if found is None:
            raise ValueError(self.describe())
        return found


@dataclass(frozen=True, slots=True)
class Gain:
    """A number, or a nonlinearity that stands for its gain.

    Where `by_name` is set, a bare number is never this argument.
    """

    number: Number = Number()
    by_name: bool = False
    words = NONLINEARITIES

    @property
    def takes_numbers(self) -> bool:
        """Whether a bare number can be this argument."""
        return not self.by_name

    def describe(self) -> str:
        """Say which numbers, and that nonlinearities are accepted."""
        return f"{self.number.describe()} or a nonlinearity ({', '.join(self.words)})"

    def read(self, value: object) -> float | str:
        """Return the number, or the nonlinearity's name."""
        found = word_meant(value, self.words) if isinstance(value, str) else None
        if found is not None:
            return found
        try:
            return self.number.read(value)
        except ValueError as error:
            problem = f"{self.number.describe()} or a nonlinearity such as relu"
            raise ValueError(problem) from error


@dataclass(frozen=True, slots=True)
class Text:
    """Any text."""

    words = ()
    takes_numbers = False

    def describe(self) -> str:
        """Say so."""
        return "a text"

    def read(self, value: object) -> str:
        """Return it."""
        return str(value)


@dataclass(frozen=True, slots=True)
class Checkpoint(Text):
    """A model's name or the path of a checkpoint, which is located before anything is decided."""

    def describe(self) -> str:
        """Say so."""
        return "a checkpoint"


@dataclass(frozen=True, slots=True)
class ArrayFile(Checkpoint):
    """The path of an array of NumPy, which is located before anything is decided."""

    def describe(self) -> str:
        """Say so."""
        return "a NumPy file (.npy)"


@dataclass(frozen=True, slots=True)
class DonorKey:
    """A key of another checkpoint, as a pattern for many keys.

    It is given by name alone. The name is a keyword of Python, so that the parameter of the
    function has an underscore after it.
    """

    words = ()
    takes_numbers = False

    def describe(self) -> str:
        """Explain the form."""
        return "a key, in which * is the tensor's own key, or OLD=NEW with a * in each"

    def read(self, value: object) -> str:
        """Return it."""
        sides = str(value).split("=")
        if len(sides) > 2 or not all(sides) or any(side.count("*") > 1 for side in sides):
            raise ValueError(self.describe())
        return str(value)


@dataclass(frozen=True, slots=True)
class Axes:
    """A letter for each dimension of a weight."""

    words = ()
    takes_numbers = False

    def describe(self) -> str:
        """Explain the letters."""
        return (
            "a letter for each dimension: o output, i input, k kernel, b a stack of matrices; "
            "oi is torch's Linear, io its transpose, bio a stack of experts"
        )

    def read(self, value: object) -> str:
        """Return the letters."""
        letters = set(value) if isinstance(value, str) else set()
        if not {"o", "i"} <= letters <= set(AXES):
            raise ValueError(self.describe())
        return str(value)


@dataclass(frozen=True, slots=True)
class Nested(Text):
    """An initializer inside another, which parses it; its arguments are separated by ;."""

    def describe(self) -> str:
        """Say so."""
        return "an initializer, its arguments separated by ;"

    def read(self, value: object) -> str:
        """Return it; a comma would end it."""
        return str(value).replace(",", ";")


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    words = ()
    takes_numbers = False

    def describe(self) -> str:
        """Name both."""
        return "true or false"

    def read(self, value: object) -> bool:
        """Return it."""
        word = word_meant(str(value), ("true", "false"))
        if word is None:
            raise ValueError(self.describe())
        return word == "true"


def _exact(value: object, number: float) -> float:
    """Return the integer that was given, where its float is another number."""
    try:
        whole = parse_integer(value) if isinstance(value, str) else int(value)  # type: ignore[call-overload]
    except (ValueError, OverflowError):
        return number
    return whole if math.isfinite(number) and abs(number) >= 2**53 else number


def _interval(minimum: float, maximum: float) -> str:
    if math.isfinite(minimum) and math.isfinite(maximum):
        return f" from {minimum:g} to {maximum:g}"
    if math.isfinite(minimum):
        return f" of at least {minimum:g}"
    return ""


Real = Annotated[float, Number()]
NonNegative = Annotated[float, Number(minimum=0)]
Positive = Annotated[float, Number(positive=True)]
Slope = Annotated[float | None, Number()]
Mode = Annotated[str, Choice(MODES)]
Nonlinearity = Annotated[float | str, Gain(Number(minimum=0), by_name=True)]
AnyGain = Annotated[float | str, Gain()]
NonNegativeGain = Annotated[float | str, Gain(Number(minimum=0))]
