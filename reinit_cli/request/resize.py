"""Read which tensors get another first dimension: "embed.weight=50300:mean"."""

from __future__ import annotations

import re
from collections.abc import Iterable

from reinit_cli.errors import RuleError
from reinit_cli.initializers import Init, parse_init
from reinit_cli.lazy import dataclass
from reinit_cli.request.pattern import Pattern
from reinit_cli.text import quoted

MAX_ROWS = 2**40


_FORM = re.compile(r"(.+?)=\s*([0-9]{1,13})\s*(?::(.+))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Resize:
    """A pattern and the first dimension that the tensors it matches get.

    Attributes:
        pattern: which keys.
        rows: what the first dimension becomes.
        init: what fills rows that were not there, or None.
        text: as it was written.
    """

    pattern: Pattern
    rows: int
    init: Init | None
    text: str

    @property
    def cost(self) -> int:
        """The cost of reading it: that of its pattern."""
        return self.pattern.cost

    @classmethod
    def parse(cls, text: str) -> Resize:
        """Read "PATTERN=N" or "PATTERN=N:INIT[:ARGS]".

        Raises:
            RuleError: it is neither.
        """
        found = _FORM.fullmatch(text)
        if found is None or not 0 < int(found[2]) <= MAX_ROWS:
            raise RuleError(
                text,
                f"resize {quoted(text)} needs a size: PATTERN=N or PATTERN=N:INIT, N at least 1",
                kind="resize",
            )
        init = parse_init(found[3].strip()) if found[3] else None
        return cls(Pattern.parse(found[1].strip()), int(found[2]), init, text)


def resizes_of(resizes: Iterable[Resize | str]) -> tuple[Resize, ...]:
    """Read the resizes that are given as text.

    Raises:
        RuleError: one of them is wrong.
    """
    return tuple(Resize.parse(each) if isinstance(each, str) else each for each in resizes)
