"""Name a module in annotations that is imported only when they are evaluated."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
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
        self._module: ModuleType | None = None

    def __getattr__(self, attribute: str) -> Any:
        """Import the module, unless it is only asked what kind of object it is."""
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        if self._module is None:  # to look for it each time would take longer than small arrays do
            self._module = import_module(self._name)
        return getattr(self._module, attribute)
