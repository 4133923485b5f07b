"""Read what floating tensors are cast to: "bfloat16", or "*norm*=float32" for some of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reinit_cli.lazy import dataclass
from reinit_cli.request.pattern import Pattern
from reinit_cli.tensors.dtype import dtype_named

Casts = Sequence[str] | str | None
"""One dtype for all, or several texts of which the last that matches a tensor decides."""

_ALL = "*"


@dataclass(frozen=True, slots=True)
class Cast:
    """A dtype, and the tensors that get it.

    Attributes:
        pattern: their keys.
        dtype: torch's name of it.
        is_for_all: whether it was given without a pattern.
        text: as it was written.
    """

    pattern: Pattern
    dtype: str
    is_for_all: bool
    text: str

    @property
    def cost(self) -> int:
        """The cost of reading it: that of its pattern."""
        return self.pattern.cost

    @property
    def written(self) -> str:
        """The text that recipes and records have of it."""
        return self.dtype if self.is_for_all else f"{self.pattern.text}={self.dtype}"

    @classmethod
    def parse(cls, text: str) -> Cast:
        """Read "DTYPE" or "PATTERN=DTYPE".

        Raises:
            PatternError: the pattern is wrong.
            UnknownNameError: there is no such dtype.
        """
        pattern, equals, name = text.rpartition("=")
        dtype = dtype_named(name.strip()).name
        return cls(Pattern.parse(pattern if equals else _ALL), dtype, not equals, text)


def casts_of(casts: Casts) -> tuple[Cast, ...]:
    """Read what is asked for; without what a later dtype for all replaces.

    Raises:
        RuleError, UnknownNameError: one of the texts is wrong.
    """
    return in_force([Cast.parse(each) for each in _texts(casts)])


def in_force(casts: Iterable[Cast]) -> tuple[Cast, ...]:
    """Return casts without those that a later one for all tensors replaces."""
    read = tuple(casts)
    last = max((at for at, each in enumerate(read) if each.is_for_all), default=0)
    return read[last:]


def as_asked_for(casts: Iterable[Cast]) -> Casts:
    """Return the value of a request's field: a name where there is one dtype for all."""
    texts = tuple(each.written for each in in_force(casts))
    if len(texts) == 1 and "=" not in texts[0]:
        return texts[0]
    return texts or None


def _texts(casts: Casts) -> Sequence[str]:
    if casts is None:
        return ()
    return (casts,) if isinstance(casts, str) else casts
