"""Load the classes and functions of people's own code that a command line names.

A file is loaded by its path alone, and a module from where Python has packages installed or
where PYTHONPATH says. The working folder is not searched: it may hold what a stranger packed
next to a checkpoint.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from types import ModuleType
from typing import Any

from reinit_cli.errors import RuleError, UnknownNameError, UnsupportedFormatError
from reinit_cli.initializers.arch import ArchName
from reinit_cli.lazy import dataclass
from reinit_cli.storage.local import InputFile, LocalStore
from reinit_cli.text import kind_of

_MOST_NBYTES = 2**24
"""The most bytes of a file of code."""


class OwnFile:
    """A class or function in a Python file.

    Attributes:
        name: as the user wrote it.
    """

    def __init__(self, name: ArchName) -> None:
        """Read the file, and run nothing of it.

        Raises:
            SourceError: there is no such file, or it cannot be read.
        """
        self.name = name
        self._code = _read(name.place)

    @property
    def file(self) -> str:
        """The file whose lines errors name."""
        return self.name.place

    @property
    def origin(self) -> Mapping[str, str]:
        """What a record says of it."""
        return {
            "file": os.path.basename(self.name.place),
            "sha256": hashlib.sha256(self._code).hexdigest(),
        }

    @cached_property
    def found(self) -> Any:
        """The class or function; the file is run for it."""
        return _attribute(self._module, self.name)

    @cached_property
    def _module(self) -> ModuleType:
        path = self.name.place
        stem = os.path.basename(path).removesuffix(".py")
        module = ModuleType(f"_reinit_arch_{stem}")
        module.__file__ = path
        sys.modules[module.__name__] = module  # dataclasses look their own module up
        with searching_packages_alone():
            exec(compile(self._code, path, "exec"), vars(module))  # noqa: S102 - the user names it
        return module


def _read(path: str) -> bytes:
    file = InputFile(path)
    try:
        if file.nbytes > _MOST_NBYTES:
            raise UnsupportedFormatError(path, "too large for a file of Python")
        return file.read(0, file.nbytes)
    finally:
        file.close()


@dataclass(frozen=True, eq=False)
class OwnModule:
    """A class or function of an installed module.

    Attributes:
        name: as the user wrote it.
    """

    name: ArchName
    file = ""

    @property
    def origin(self) -> Mapping[str, str]:
        """What a record says of it."""
        from importlib.metadata import packages_distributions, version

        package = self.name.place.partition(".")[0]
        names = packages_distributions().get(package, ())
        return {"package": names[0], "version": version(names[0])} if names else {}

    @cached_property
    def found(self) -> Any:
        """The class or function; its module is imported for it."""
        with searching_packages_alone():
            try:
                module = import_module(self.name.place)
            except ModuleNotFoundError as error:
                if error.name is None or not f"{self.name.place}.".startswith(f"{error.name}."):
                    raise  # the module is there, and what it imports is not
                raise self._not_found(error.name) from error
            return _attribute(module, self.name)

    def _not_found(self, missing: str) -> RuleError:
        """Return that there is no such module, with the file of that name if there is one."""
        path = f"./{self.name.place.replace('.', '/')}.py"
        is_here = LocalStore().kind_of(path) == "file"
        problem = f"there is no installed module {missing!r}" + (
            ", and the working folder is not searched" if is_here else ""
        )
        known = (f"{path}:{self.name.name}",) if is_here else ()
        return RuleError(self.name.text, problem, known, kind="arch")


def _attribute(module: ModuleType, name: ArchName) -> Any:
    """Return a class or function of a module.

    Raises:
        UnknownNameError: it has none of that name.
        RuleError: what it has cannot be called.
    """
    import torch

    found: Any = module
    for part in name.name.split("."):
        if not hasattr(found, part):
            known = [each for each in dir(found) if callable(getattr(found, each, None))]
            public = [each for each in known if not each.startswith("_")]
            raise UnknownNameError(part, known=public, kind="class", of=name.place)
        found = getattr(found, part)
    if isinstance(found, torch.nn.Module):
        problem = "it is a module already: name the class or function that makes it"
        raise RuleError(name.text, problem, kind="arch")
    if not callable(found):
        problem = f"it is {kind_of(found)}, not a class or function"
        raise RuleError(name.text, problem, kind="arch")
    return found


@contextmanager
def searching_packages_alone() -> Iterator[None]:
    """Import modules in this block from everywhere but the working folder, and cache no code."""
    path, writes_nothing = sys.path, sys.dont_write_bytecode
    here = os.path.realpath(os.curdir)
    is_asked_for = any(
        each and os.path.realpath(each) == here
        for each in os.environ.get("PYTHONPATH", "").split(os.pathsep)
    )
    sys.path = [each for each in path if each and (is_asked_for or os.path.realpath(each) != here)]
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.path, sys.dont_write_bytecode = path, writes_nothing
