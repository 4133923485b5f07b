"""Modules and dataclasses that do nothing until they are used."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import re
from collections.abc import Callable
from dataclasses import KW_ONLY, field
from typing import Any, ClassVar

import pytest

from reinit_cli.lazy import dataclass
from tests.test_house import MODULES

Decorator = Callable[[type[Any]], type[Any]]

OPTIONS = [
    {"frozen": True, "slots": True},
    {"frozen": True},
    {"frozen": True, "slots": True, "repr": False},
    {"frozen": True, "eq": False},
    {"slots": True},
]


def point(decorate: Decorator) -> type[Any]:
    @decorate
    class Point:
        """A point."""

        x: float
        y: float = 2.0
        names: list[str] = field(default_factory=list, compare=False)
        hidden: int = field(default=3, repr=False)
        _: KW_ONLY
        unit: str = "m"
        count: ClassVar[int] = 0

    return Point


def lone(decorate: Decorator) -> type[Any]:
    @decorate
    class Lone:
        """One value, which a tuple is made of to be compared."""

        value: object

    return Lone


def empty(decorate: Decorator) -> type[Any]:
    @decorate
    class Empty:
        """Nothing."""

    return Empty


def checked(decorate: Decorator) -> type[Any]:
    @decorate
    class Checked:  # noqa: PLW1641  # the decorator adds `__hash__`
        """What looks at itself, and has methods of its own."""

        value: int

        def __post_init__(self) -> None:
            if self.value < 0:
                raise ValueError("negative")

        def __eq__(self, other: object) -> bool:
            return isinstance(other, type(self)) and abs(self.value) == abs(other.value)

        def __repr__(self) -> str:
            return f"<{self.value}>"

    return Checked


def inheriting(decorate: Decorator) -> type[Any]:
    @decorate
    class Base:
        """What has a field."""

        x: int

    @decorate
    class Derived(Base):
        """What inherits it."""

        y: int = 1

    return Derived


CLASSES = {
    point: [(1.0,), (1.0, 2.0), (1.0, 3.0), (1.0, 2.0, ["a"])],
    lone: [((),), (1,), (1.0,), (float("nan"),)],
    empty: [()],
    checked: [(1,), (2,)],
    inheriting: [(1,), (1, 1), (2, 3)],
}

both = pytest.mark.parametrize(
    ("ours", "theirs", "arguments"),
    [
        (make(dataclass(**options)), make(dataclasses.dataclass(**options)), arguments)
        for make, arguments in CLASSES.items()
        for options in OPTIONS
    ],
)


def outcome(call: Callable[..., object], *args: object) -> object:
    """Return what a call returns, or the class and text of what it raises."""
    try:
        return call(*args)
    except Exception as error:  # noqa: BLE001  # any is to be compared
        return type(error), str(error)


@both
def test_values_are_equal_hashed_and_shown_alike(
    ours: type[Any], theirs: type[Any], arguments: list[tuple[Any, ...]]
) -> None:
    mine, others = ([cls(*each) for each in arguments] for cls in (ours, theirs))

    assert [[a == b for b in mine] for a in mine] == [[a == b for b in others] for a in others]
    assert not any(a == b for a in mine for b in others)
    assert [repr(each).partition(" at 0x")[0] for each in mine] == [
        repr(each).partition(" at 0x")[0] for each in others
    ]
    if "__hash__" in vars(theirs):
        assert [outcome(hash, each) for each in mine] == [outcome(hash, each) for each in others]


@both
def test_signatures_and_fields_are_alike(
    ours: type[Any], theirs: type[Any], arguments: list[tuple[Any, ...]]
) -> None:
    del arguments

    assert str(inspect.signature(ours)) == str(inspect.signature(theirs))
    assert list(map(repr, dataclasses.fields(ours))) == list(map(repr, dataclasses.fields(theirs)))
    assert ours.__match_args__ == theirs.__match_args__
    assert ours.__init__.__annotations__ == theirs.__init__.__annotations__
    assert ours.__init__.__qualname__ == theirs.__init__.__qualname__


@both
def test_fields_are_changed_or_refused_alike(
    ours: type[Any], theirs: type[Any], arguments: list[tuple[Any, ...]]
) -> None:
    for name in [each.name for each in dataclasses.fields(theirs)]:
        mine, other = (cls(*arguments[0]) for cls in (ours, theirs))

        assert outcome(setattr, mine, name, 0) == outcome(setattr, other, name, 0)
        assert outcome(delattr, mine, name) == outcome(delattr, other, name)


def test_what_is_frozen_gets_no_other_attribute() -> None:
    for slots in (False, True):
        made = point(dataclass(frozen=True, slots=slots))(1.0)

        with pytest.raises(dataclasses.FrozenInstanceError):
            made.other = 1


@both
@pytest.mark.parametrize("wrong", [(), (1, 2, 3, 4, 5, 6, 7), (-1,)])
def test_wrong_arguments_are_refused_alike(
    ours: type[Any],
    theirs: type[Any],
    arguments: list[tuple[Any, ...]],
    wrong: tuple[int, ...],
) -> None:
    del arguments

    assert outcome(lambda: bool(ours(*wrong))) == outcome(lambda: bool(theirs(*wrong)))


def test_a_subclass_that_is_no_dataclass_may_have_attributes_of_its_own() -> None:
    class Named(point(dataclass(frozen=True))):
        def __init__(self, name: str) -> None:
            super().__init__(0.0)
            self.name = name

    named = Named("origin")

    assert (named.name, named.x) == ("origin", 0.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        named.x = 1.0


def test_a_dataclass_of_python_can_inherit() -> None:
    @dataclasses.dataclass(frozen=True)
    class Far(point(dataclass(frozen=True, slots=True))):
        distance: float = 0.0

    assert Far(1.0, distance=3.0) == dataclasses.replace(Far(1.0), distance=3.0)


@dataclass(frozen=True, slots=True)
class Kept:
    """A class that pickle finds."""

    name: str
    parts: tuple[int, ...] = ()


def test_values_are_pickled_copied_and_replaced() -> None:
    kept = Kept("a", (1, 2))

    assert pickle.loads(pickle.dumps(kept)) == kept
    assert copy.deepcopy(kept) == copy.copy(kept) == kept
    assert dataclasses.replace(kept, name="b") == Kept("b", (1, 2))
    assert dataclasses.asdict(kept) == {"name": "a", "parts": (1, 2)}


def test_no_method_is_compiled_before_a_value_is_made() -> None:
    made = point(dataclass(frozen=True, slots=True))

    assert not inspect.isfunction(vars(made)["__init__"])
    made(1.0)
    assert inspect.isfunction(vars(made)["__init__"])


def test_every_class_of_the_package_is_made_this_way() -> None:
    others = [
        path.name
        for module, path in MODULES.items()
        if re.search(r"^from dataclasses import .*\bdataclass\b", path.read_text(), re.MULTILINE)
        and module != "reinit_cli.lazy"
    ]

    assert others == []
