"""Declare what takes the place of parts of a pickle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from reinit_cli.checkpoints.formats.torch.pickles.tensor_call import Span
from reinit_cli.lazy import dataclass


@dataclass(frozen=True, slots=True)
class Changed:
    """A value as it is written somewhere, with parts of it replaced.

    Attributes:
        source: where it is written.
        inner: what is replaced there, in order, and by which opcodes.
    """

    source: Span
    inner: tuple[tuple[Span, Replacement], ...]


Replacement: TypeAlias = bytes | Changed
"""The opcodes of another value, nothing, or the value with other parts."""


def often_in(replacements: Mapping[Span, Replacement]) -> frozenset[Changed]:
    """Return the changed values that are written several times where they were not made."""
    met: set[Changed] = set()
    often: set[Changed] = set()
    waiting: list[tuple[Iterable[tuple[Span, Replacement]], bool]] = [(replacements.items(), False)]
    while waiting:
        pairs, is_elsewhere = waiting.pop()
        for span, each in pairs:
            if not isinstance(each, Changed):
                continue
            is_other = is_elsewhere or each.source != span
            if is_other:
                (often if each in met else met).add(each)
            if any(isinstance(part, Changed) for _, part in each.inner):
                waiting.append((each.inner, is_other))
    return frozenset(often)


def lost_in(span: Span, replacement: Replacement) -> Iterator[Span]:
    """Yield the bytes that are left out where a value is replaced."""
    if isinstance(replacement, Changed) and replacement.source == span:
        for inner, part in replacement.inner:
            yield from lost_in(inner, part)
    else:
        yield span
