"""Name a module in annotations that is imported only when they are evaluated."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class LazyModule:
    """Stands for a module that type checkers know, so that `typing.get_type_hints` works.

    if TYPE_CHECKING:
        import torch
    else:
        torch = LazyModule("torch")
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        """Import the module, unless it is only asked what kind of object it is."""
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return getattr(import_module(self._name), attribute)
