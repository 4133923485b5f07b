"""Read the values that the fields of a recipe may have.

Each function returns the value of a request's field, and raises ValueError with the words
that follow "must be".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from reinit_cli.errors import RuleError
from reinit_cli.streams.seeds import parse_seeds
from reinit_cli.streams.stream import stream_named
from reinit_cli.text import MAX_DIGITS, parse_nbytes

if TYPE_CHECKING:
    from reinit_cli.request.cast import Casts
    from reinit_cli.request.pattern import Pattern
    from reinit_cli.request.rename import Rename
    from reinit_cli.request.resize import Resize

DEVICE = re.compile(r"cpu|auto|mps|cuda(:\d{1,3})?")
"""The names of devices."""


def read_text(value: object) -> str:
    """Read a text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError("a text")
    return value


def read_flag(value: object) -> bool:
    """Read a flag; numbers are refused."""
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def read_integer(value: object) -> int:
    """Read an integer; flags are refused."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("an integer")
    if abs(value) >= 10**MAX_DIGITS:
        raise ValueError(f"an integer of at most {MAX_DIGITS} digits")
    return value


def read_count(value: object) -> int:
    """Read a positive integer."""
    if read_integer(value) < 1:
        raise ValueError("an integer of at least 1")
    return read_integer(value)


def read_seeds(value: object) -> tuple[int, ...]:
    """Read a seed, or a text that lists several."""
    if isinstance(value, str):
        try:
            return parse_seeds(value)
        except ValueError as error:
            raise ValueError("an integer, or a text such as '0..4' or '0,3,7'") from error
    return (read_integer(value),)


def read_sources(value: object) -> tuple[str, ...]:
    """Read a source or a list of them."""
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(each, str) and each for each in values):
        raise ValueError('a text or several, ["a.pt", "b.pt"]')
    return tuple(values)


def read_stream(value: object) -> str:
    """Read the name of a random stream or of its family; return its exact name.

    Raises:
        UnknownNameError: there is no such stream.
    """
    return stream_named(read_text(value)).name


LAYOUTS = ("dcp",)
"""The names of layouts that an output can have whatever it is called."""


def read_layout(value: object) -> str:
    """Read the name of a layout."""
    if value not in LAYOUTS:
        raise ValueError(" or ".join(f'"{each}"' for each in LAYOUTS))
    return read_text(value)


def read_device(value: object) -> str:
    """Read the name of a device, which this machine need not have."""
    from reinit_cli.tensors.device import device_named

    device = device_named(value) if isinstance(value, str) else ""
    if not DEVICE.fullmatch(device):
        raise ValueError("cpu, cuda, cuda:1, mps or auto")
    return device


def read_dtype(value: object) -> Casts:
    """Read a dtype, or several with the tensors that get them, by torch's names."""
    from reinit_cli.request.cast import Cast, as_asked_for

    if isinstance(value, str):
        read_text(value)
    return as_asked_for(within_bounds(map(Cast.parse, _texts(value, '["bfloat16"]'))))


def read_arguments(value: object) -> dict[str, object]:
    """Read the arguments of a constructor by their names, as JSON has them."""
    if not isinstance(value, dict):
        raise ValueError(_EXAMPLE_OF_ARGUMENTS)
    waiting: list[object] = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting += (*each, *each.values())
        elif isinstance(each, list):
            waiting += each
        elif not _is_in_json(each):
            raise ValueError(_EXAMPLE_OF_ARGUMENTS)
    return value


_EXAMPLE_OF_ARGUMENTS = 'an object of arguments by name, such as {"width": 64}'


def _is_in_json(value: object) -> bool:
    """Whether JSON has such a value: no NaN or infinity, and none of the times of TOML."""
    is_finite = isinstance(value, float) and math.isfinite(value)
    return value is None or is_finite or isinstance(value, (str, int))


def read_nbytes(value: object) -> int:
    """Read a number of bytes, such as "5GB"."""
    if isinstance(value, str):
        try:
            return parse_nbytes(value)
        except ValueError as error:
            raise ValueError("bytes, or a text such as '5GB'") from error
    if read_integer(value) < 1:
        raise ValueError("at least a byte")
    return read_integer(value)


def read_resizes(value: object) -> tuple[Resize, ...]:
    """Read a resize or a list of them."""
    from reinit_cli.request.resize import Resize

    return within_bounds(map(Resize.parse, _texts(value, '["embed.weight=50300:mean"]')))


def read_renames(value: object) -> tuple[Rename, ...]:
    """Read a rename or a list of them."""
    from reinit_cli.request.rename import Rename

    return within_bounds(map(Rename.parse, _texts(value, '["module.*=*"]')))


def read_patterns(value: object) -> tuple[Pattern, ...]:
    """Read a pattern or a list of them."""
    from reinit_cli.request.pattern import Pattern

    return within_bounds(map(Pattern.parse, _texts(value, '["head.*"]')))


def _texts(value: object, example: str) -> list[str]:
    """Return a text, or those of a list."""
    values: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in values):
        raise ValueError(f"a text or several, {example}")
    return values


MAX_COST = 100_000
"""The most names that the patterns of a recipe may stand for; each rule counts as ten more."""


class _Costly(Protocol):
    @property
    def cost(self) -> int: ...


_Selecting = TypeVar("_Selecting", bound=_Costly)


def within_bounds(selecting: Iterable[_Selecting]) -> tuple[_Selecting, ...]:
    """Read rules, or others with patterns, one by one, until they take too much time and memory.

    Raises:
        RuleError: they do.
    """
    read, cost = [], 0
    for each in selecting:
        cost += each.cost
        if cost > MAX_COST:
            raise RuleError("", f"its patterns stand for more than {MAX_COST:,} names")
        read.append(each)
    return tuple(read)
