"""Read how people name architectures: what makes a module, and whether that is their own code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from reinit_cli.errors import RuleError
from reinit_cli.lazy import dataclass

Library = Literal["torchvision", "timm", "transformers", "module", "file"]
"""Where the constructor comes from; "module" and "file" are people's own code."""

Arguments = Mapping[str, object]
"""Arguments of a constructor by their names, as JSON has them."""

TIMM, TRANSFORMERS = "timm:", "transformers"

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True, slots=True)
class ArchName:
    """An architecture by its name.

    Attributes:
        text: as a user wrote it.
        library: where it comes from.
        name: that of a model, or of a class or function.
        place: the module or the path of the file that has the class, or "".
    """

    text: str
    library: Library
    name: str
    place: str = ""

    @property
    def is_code(self) -> bool:
        """Whether it names code that is imported only where the user types it."""
        return bool(self.place)

    @classmethod
    def parse(cls, text: str) -> ArchName:
        """Read a name.

        Raises:
            RuleError: it names nothing that can be called.
        """
        if text == TRANSFORMERS:
            return cls(text, "transformers", text)
        if text.startswith(TIMM):
            return cls(text, "timm", text.removeprefix(TIMM))
        place, colon, name = text.rpartition(":")
        if not colon and not text.endswith(".py"):
            return cls(text, "torchvision", text)
        if not colon or not _DOTTED.fullmatch(name):
            problem = "it names no class or function"
            raise RuleError(text, problem, (f"{place or text}:Net",), kind="arch")
        if place.endswith(".py"):
            return cls(text, "file", name, place)
        if not _DOTTED.fullmatch(place):
            problem = f"{place!r} is neither the path of a .py file nor the name of a module"
            raise RuleError(text, problem, kind="arch")
        return cls(text, "module", name, place)


def names_code(arch: object) -> bool:
    """Whether an architecture is named, and by the name of people's own code.

    Raises:
        RuleError: it names nothing that can be called.
    """
    return isinstance(arch, str) and ArchName.parse(arch).is_code
