"""Do later what a run may not need: import a module, compile the methods of a dataclass.

`dataclasses` compiles six methods for each class, one by one. A run imports some 170 classes
and makes values of half of them, so a third of its time would go into methods that nothing calls.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError
from importlib import import_module
from operator import attrgetter
from reprlib import recursive_repr
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["LazyModule", "dataclass"]

Made = TypeVar("Made")
Method = Callable[..., Any]


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


def _dataclass(
    *,
    frozen: bool = False,
    slots: bool = False,
    init: bool = True,
    repr: bool = True,  # noqa: A002  # the arguments are those of dataclasses
    eq: bool = True,
) -> Callable[[type[Made]], type[Made]]:
    """Return a decorator that does what `dataclasses.dataclass` does with these arguments.

    Fields, slots, and all that `fields`, `replace` and `asdict` look at are made there. So is
    the whole of a class that inherits fields or is not frozen.
    """

    def decorate(cls: type[Made]) -> type[Made]:
        if not frozen or any(map(dataclasses.is_dataclass, cls.__mro__)):
            whole = dataclasses.dataclass(frozen=frozen, slots=slots, init=init, repr=repr, eq=eq)
            return whole(cls)
        cls.__doc__ = cls.__doc__ or cls.__name__  # which would have a signature, in milliseconds
        made = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots)(cls)
        methods: dict[str, Any] = {"__setattr__": _set, "__delattr__": _delete}
        if slots:  # pickle would set each, which a frozen class refuses
            methods |= {"__getstate__": _state, "__setstate__": _restore}
        if init:
            methods |= {"__init__": _Init(made)}
        if repr:
            methods |= {"__repr__": _represent}
        if eq:
            methods |= _comparison(made)
        for name, method in methods.items():
            # A method of the class's own stays. With `__eq__` alone its `__hash__` is None.
            if vars(made).get(name) is None:
                setattr(made, name, method)
        parameters = vars(made)["__dataclass_params__"]  # which classes that inherit look at
        parameters.frozen, parameters.init, parameters.repr, parameters.eq = frozen, init, repr, eq
        return made

    return decorate


if TYPE_CHECKING:  # checkers know this one, and the arguments of `replace` with it
    from dataclasses import dataclass
else:
    dataclass = _dataclass


def _set(self: object, name: str, value: object) -> None:
    _refuse(self, name, "assign to")
    object.__setattr__(self, name, value)


def _delete(self: object, name: str) -> None:
    _refuse(self, name, "delete")
    object.__delattr__(self, name)


def _refuse(self: Any, name: str, verb: str) -> None:
    """Refuse to change a field; only a class that inherits may have other attributes."""
    if "__dataclass_fields__" in vars(type(self)) or name in self.__dataclass_fields__:
        raise FrozenInstanceError(f"cannot {verb} field {name!r}")


def _state(self: Any) -> list[object]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _restore(self: Any, state: list[object]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)


@recursive_repr()
def _represent(self: object) -> str:  # its annotations are evaluated where each class is
    of_class: Any = self
    shown = [field.name for field in dataclasses.fields(of_class) if field.repr]
    values = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
    return f"{type(self).__qualname__}({values})"


def _comparison(cls: Any) -> dict[str, Method]:
    """Return what compares the values of all fields as one."""
    names = [field.name for field in dataclasses.fields(cls) if field.compare]
    few: Method = lambda self: tuple(getattr(self, name) for name in names)  # noqa: E731
    values = attrgetter(*names) if len(names) > 1 else few

    def equal(self: object, other: object) -> bool:
        same_class = other.__class__ is self.__class__
        return values(self) == values(other) if same_class else NotImplemented

    return {"__eq__": equal, "__hash__": lambda self: hash(values(self))}


class _Init:
    """Stands for `__init__` until it is looked up, and is then replaced by it."""

    def __init__(self, cls: type) -> None:
        self._cls: Any = cls

    def __get__(self, instance: object, owner: type) -> object:
        self._cls.__init__ = made = _compiled_init(self._cls)
        return made.__get__(instance, owner)


class _Factory:
    """The default of an argument whose field has a factory."""

    def __repr__(self) -> str:  # in signatures
        return "<factory>"


_BY_FACTORY = _Factory()


def _compiled_init(cls: Any) -> Method:
    """Return a method that sets each field, as one that was written by hand would."""
    names: dict[str, object] = {"_set": object.__setattr__, "_BY_FACTORY": _BY_FACTORY}
    arguments: dict[bool, list[str]] = {False: ["self"], True: ["*"]}
    lines = []
    for field in dataclasses.fields(cls):
        name, default, value = field.name, "", field.name
        if field.default is not MISSING:
            default = f"=_default_{name}"
            names[f"_default_{name}"] = field.default
        elif field.default_factory is not MISSING:
            default, value = "=_BY_FACTORY", f"_make_{name}() if {name} is _BY_FACTORY else {name}"
            names[f"_make_{name}"] = field.default_factory
        arguments[bool(field.kw_only)].append(name + default)
        lines.append(f"_set(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    listed = ", ".join(arguments[False] + arguments[True] * (len(arguments[True]) > 1))
    text = f"def make({', '.join(names)}):\n def __init__({listed}):\n  "
    text += "\n  ".join(lines or ["pass"]) + "\n return __init__"
    made: dict[str, Any] = {}
    exec(text, vars(sys.modules[cls.__module__]), made)  # noqa: S102  # all of it is from above
    init: Method = made["make"](**names)
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__annotations__ = {each.name: each.type for each in dataclasses.fields(cls)}
    init.__annotations__["return"] = None
    return init
