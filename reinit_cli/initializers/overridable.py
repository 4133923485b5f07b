"""Define attributes of a class that subclasses may replace in whichever way suits them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from builtins import property as overridable
else:

    class overridable:  # noqa: N801 (used as a decorator, as `property` is)
        """A property that a class attribute, a dataclass field or a property may replace.

        A field cannot replace a `property`: the dataclass would take the property for the
        field's default, and an instance could not hold the value.
        """

        def __init__(self, get: Callable[[Any], Any]) -> None:
            self._get = get
            self.__doc__ = get.__doc__

        def __get__(self, instance: object, owner: type) -> Any:
            if instance is None:
                raise AttributeError(self._get.__name__)
            return self._get(instance)


__all__ = ["overridable"]
