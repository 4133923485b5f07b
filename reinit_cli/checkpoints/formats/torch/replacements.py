"""Declare what takes the place of parts of a pickle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from reinit_cli.checkpoints.formats.torch.tensor_call import Span


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
    """Return the values that come in several places, in none of which they were made."""
    met: set[Changed] = set()
    often: set[Changed] = set()
    waiting = [replacements.items()]
    while waiting:
        for span, each in waiting.pop():
            if isinstance(each, Changed) and each.source != span:
                (often if each in met else met).add(each)
            elif isinstance(each, Changed) and any(
                isinstance(part, Changed) for _, part in each.inner
            ):
                waiting.append(dict(each.inner).items())
    return frozenset(often)


def lost_in(span: Span, replacement: Replacement) -> Iterator[Span]:
    """Yield the bytes that are left out where a value is replaced."""
    if isinstance(replacement, Changed) and replacement.source == span:
        for inner, part in replacement.inner:
            yield from lost_in(inner, part)
    else:
        yield span
