"""Read the form of an output's name, such as "out/{stem}-seed{seed}{suffix}"."""

from __future__ import annotations

import os
import re

from reinit_cli.errors import OutputError, UnknownNameError
from reinit_cli.lazy import dataclass
from reinit_cli.storage.location import SourceName

PLACEHOLDERS = {
    "stem": "the source's name without its suffix",
    "suffix": "its suffix, with the dot",
    "name": "both",
    "parent": "the folder it lies in",
    "seed": "the seed",
}
"""The names that braces may hold."""


_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True, slots=True)
class OutputName:
    """The form of an output's path.

    Attributes:
        form: the path with placeholders.
        is_beside: whether the path starts at the folder of the source.
        is_exact: whether it names the output itself, whatever exists there; otherwise a path
            that ends in a slash is the folder that takes it.
    """

    form: str
    is_beside: bool = False
    is_exact: bool = False

    @classmethod
    def parse(cls, form: str) -> OutputName:
        """Read a form: {placeholders} in braces, and {{ or }} for a brace itself.

        Raises:
            UnknownNameError: a placeholder is unknown.
            OutputError: a brace has no partner, or there is no name at all.
        """
        if not form:
            raise OutputError(form, "the name is empty", kind="name")
        for found in _BRACES.finditer(form):
            word = found[1]
            if word is None and found[0] in "{}":
                problem = f"a lone {found[0]!r} is written {found[0] * 2!r}"
                raise OutputError(form, problem, kind="name")
            if word is not None and word not in PLACEHOLDERS:
                known = ", ".join(f"{{{each}}}" for each in PLACEHOLDERS)
                raise UnknownNameError(word, known, PLACEHOLDERS, kind="placeholder", of=form)
        return cls(form)

    @property
    def has_seed(self) -> bool:
        """Whether the seed is part of the name."""
        return any(found[1] == "seed" for found in _BRACES.finditer(self.form))

    @property
    def is_form(self) -> bool:
        """Whether it has a placeholder."""
        return any(found[1] is not None for found in _BRACES.finditer(self.form))

    def of(self, source: SourceName, seed: int) -> str:
        """Return the path of the output.

        Args:
            source: what is read.
            seed: the seed it is drawn with.
        """
        words = {
            "stem": source.stem,
            "suffix": source.suffix,
            "name": source.stem + source.suffix,
            "parent": source.parent or os.curdir,
            "seed": str(seed),
        }
        path = _BRACES.sub(lambda found: words[found[1]] if found[1] else found[0][0], self.form)
        return os.path.join(source.parent, path) if self.is_beside else path


def as_form(path: str) -> str:
    """Return a form without placeholders that gives this path."""
    return path.replace("{", "{{").replace("}", "}}")
