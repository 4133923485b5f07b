"""Register initializers by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import TypeVar

from reinit_cli.errors import PackageError, UnknownNameError
from reinit_cli.initializers import families
from reinit_cli.initializers.declaration import (
    PURPOSES,
    Arguments,
    Initializer,
    Purpose,
)
from reinit_cli.initializers.families import FAMILIES
from reinit_cli.initializers.fans import Fans
from reinit_cli.initializers.law import Law
from reinit_cli.initializers.signatures import asked_by, parameters_of
from reinit_cli.initializers.synonyms import name_meant

Build = TypeVar("Build", bound=Callable[..., Law | None])


ENTRY_POINTS = "reinit.initializers"
"""The group of entry points by which a package adds initializers: importing one registers."""


class Registry:
    """Initializers by their names and aliases.

    A family is imported when one of its names is looked up. The others, and then those of other
    packages, are imported when a name is unknown or all are listed: looking for packages takes
    longer than everything else that a light command does.
    """

    def __init__(self) -> None:
        self._by_name: dict[str, Initializer] = {}
        self._has_loaded = False

    def add(self, declared: Initializer) -> None:
        """Add an initializer.

        Raises:
            ValueError: one of its names is taken or cannot be written in a rule, or one of
                its arguments in a recipe.
        """
        for taken in sorted({"match", "init"} & {each.name for each in declared.parameters}):
            raise ValueError(f"{taken!r} is a field of every rule, and cannot be an argument")
        for name in (declared.name, *declared.aliases):
            if not name.isidentifier():
                raise ValueError(f"{name!r} cannot be the name of an initializer")
            # Other packages are not searched: they need ours, which are being added.
            if self._own(name) is not None:
                raise ValueError(f"there is an initializer {name!r} already")
        self._by_name |= dict.fromkeys((declared.name, *declared.aliases), declared)

    def __contains__(self, name: str) -> bool:
        """Whether a rule can name it: torch's trailing underscore is accepted."""
        return self._find(name) is not None

    def _find(self, name: str) -> Initializer | None:
        found = self._own(name)
        if found is None and name.isidentifier() and not self._has_loaded:
            self._load()
            found = self._own(name)
        return found

    def _own(self, name: str) -> Initializer | None:
        """Return what has this name, and import the family that is known to have it."""
        for each in (name, name.removesuffix("_")):
            if each in _FAMILY_OF and each not in self._by_name:
                _import_family(_FAMILY_OF[each])
            if each in self._by_name:
                return self._by_name[each]
        return None

    def _load(self) -> None:
        """Import every family, and what other packages add.

        Raises:
            PackageError: one of them fails.
        """
        from pkgutil import iter_modules

        for family in iter_modules(families.__path__):
            _import_family(family.name)
        # Lists are in the order of the families, whichever of them was imported first.
        self._by_name = dict(sorted(self._by_name.items(), key=lambda item: _place(item[1])))
        self._load_packages()

    def _load_packages(self) -> None:
        from importlib.metadata import entry_points

        self._has_loaded = True
        for entry in entry_points(group=ENTRY_POINTS):
            try:
                entry.load()
            except Exception as error:
                self._has_loaded = False
                package = entry.dist.name if entry.dist is not None else entry.value
                problem = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
                raise PackageError(package, problem, kind="plugin", of=entry.name) from error

    def meant(self, name: str) -> Initializer | None:
        """Return the initializer of that name or alias, or the only one that it can mean."""
        found = self._find(name)
        if found is not None:
            return found
        # Of our own only some may be imported yet, which must not change what is understood.
        same = name_meant(name, dict.fromkeys((*_FAMILY_OF, *self._by_name)))
        if same is None and not self._has_loaded:
            self._load()
            same = name_meant(name, self._by_name)
        return None if same is None else self._own(same)

    def __getitem__(self, name: str) -> Initializer:
        """Return the initializer of that name or alias, or the only one that it can mean.

        Raises:
            UnknownNameError: there is none.
        """
        found = self.meant(name)
        if found is None:
            raise UnknownNameError(name, known=self._by_name, kind="initializer")
        return found

    def __iter__(self) -> Iterator[Initializer]:
        """Iterate over the initializers, each once, in the order they were added."""
        if not self._has_loaded:
            self._load()
        return iter(dict.fromkeys(self._by_name.values()))

    def by_purpose(self) -> dict[str, list[Initializer]]:
        """Return the initializers by what people want to do with them, each once."""
        listed = list(self)
        groups = {
            title: [each for each in listed if each.purpose == purpose]
            for purpose, title in PURPOSES.items()
        }
        return {title: found for title, found in groups.items() if found}


_FAMILY_OF = {name: family for family, names in FAMILIES.items() for name in names}


def _import_family(name: str) -> None:
    import_module(f"reinit_cli.initializers.families.{name}")


def _place(declared: Initializer) -> tuple[bool, str]:
    """Return what sorts our families by their names, and puts what others add behind them."""
    package, _, family = declared.build.__module__.rpartition(".")
    return (False, family) if package == families.__name__ else (True, "")


REGISTRY = Registry()


def _as_given(name: str, given: Arguments) -> Arguments:
    del name
    return given


def register(
    *,
    law: str,
    example: str,
    defined: str = "any shape",
    paper: str = "",
    aliases: tuple[str, ...] = (),
    lone: tuple[str, ...] = (),
    complete: Callable[[str, Arguments], Arguments] = _as_given,
    fans: Callable[..., Fans | None] | None = None,
    is_transform: bool = False,
    has_rounds: bool = False,
    takes_all: bool = False,
    version: int = 1,
    drawn_as: Callable[..., str] | None = None,
    by_layer: bool = False,
    purpose: Purpose = "other",
    usage: str = '-r "*.weight={}"',
) -> Callable[[Build], Build]:
    """Register a function as an initializer with the function's name.

    The function takes a shape and keyword-only arguments annotated `float`, `int`, `bool`,
    `str` or with a kind, and returns the law to draw from. It raises `UndefinedError` for a
    shape that it cannot fill. A second positional argument receives the `Site` of the tensor,
    or its `Fans` if it is annotated so; the initializer then also accepts the arguments of
    `Layout`. The first line of the docstring is the summary. See `Initializer` for the
    arguments of `register`; `is_transform` means that values are changed rather than replaced,
    and `has_rounds` that they are changed at random.
    If a change gives other values for a seed, increase `version` by one, and keep returning
    the old law for an old `Site.version`, so that old records can be verified.

    Raises:
        ValueError: the name is taken, or an argument has the name of a field of rules.
        TypeError: the annotation of an argument is not a kind.
    """

    def add(build: Build) -> Build:
        signature = inspect.signature(build, eval_str=True)  # compiles every annotation, once
        REGISTRY.add(
            Initializer(
                name=build.__name__,
                build=build,
                parameters=parameters_of(signature),
                summary=(build.__doc__ or "").strip().partition("\n")[0],
                law=law,
                defined=defined,
                paper=paper,
                example=example,
                aliases=aliases,
                lone=lone,
                complete=complete,
                asks=asked_by(signature),
                fans=fans,
                stream=build.__name__ if is_transform else "",
                has_rounds=has_rounds,
                takes_all=takes_all,
                version=version,
                drawn_as=drawn_as,
                by_layer=by_layer,
                purpose=purpose,
                usage=usage,
            )
        )
        return build

    return add
