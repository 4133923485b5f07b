"""Turn the name of an architecture into what makes the module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

from reinit_cli.errors import RuleError
from reinit_cli.initializers.arch import ArchName, Arguments
from reinit_cli.initializers.site import Arch
from reinit_cli.lazy import dataclass

if TYPE_CHECKING:
    from inspect import Parameter

    from torch.nn import Module


def arch_given(arch: Arch | None, arguments: Arguments) -> Arch | None:
    """Return an architecture as a user gives it: a torchvision model's name, or what makes one.

    Args:
        arch: a name or a constructor; None where there is none.
        arguments: those of the constructor.

    Raises:
        RuleError: there are arguments, and nothing that takes them.
        UnknownNameError, SourceError: there is nothing of that name.
    """
    if arch is None and arguments:
        raise RuleError("", kind="no arch")
    if arch is None:
        return None
    if not isinstance(arch, str):
        name = getattr(arch, "__name__", "the constructor")
        return Called(name, lambda: arch, arguments) if arguments else arch
    named = ArchName.parse(arch)
    if named.library == "torchvision":
        return _torchvision(arch, arguments) if arguments else arch
    from reinit_cli.checkpoints.models.own_code import OwnFile, OwnModule

    own = OwnFile(named) if named.library == "file" else OwnModule(named)
    return Called(arch, lambda: own.found, arguments, own.file, own.origin)


def _torchvision(name: str, arguments: Arguments) -> Called:
    from reinit_cli.checkpoints.models.torchvision import NO_WEIGHTS, build_model, find_model

    model = find_model(name, NO_WEIGHTS)
    return Called(name, lambda: lambda **given: build_model(model, **given), arguments)


@dataclass(frozen=True, eq=False)
class Called:
    """A constructor with its arguments, whose failures are errors about the architecture.

    Attributes:
        name: as the user has it.
        find: returns the class or function, and may import code for it.
        arguments: what it is called with.
        file: the file that it comes from, or "".
        origin: what a record says of it.
    """

    name: str
    find: Callable[[], Callable[..., Any]]
    arguments: Arguments
    file: str = ""
    origin: Mapping[str, str] = field(default_factory=dict)

    @property
    def __name__(self) -> str:
        """As the user has it, as functions and classes have their names."""
        return self.name

    def __call__(self) -> Module:
        """Make the module.

        Raises:
            RuleError: it cannot be made.
            UnknownNameError: its module has no such class.
        """
        from reinit_cli.checkpoints.models.own_code import searching_packages_alone
        from reinit_cli.checkpoints.models.strangers import explained, module_of

        with explained(self.name, self.file), searching_packages_alone():
            constructor = self.find()
            self._check_arguments(constructor)
            return module_of(constructor(**self.arguments), self.name)

    def _check_arguments(self, constructor: Callable[..., Any]) -> None:
        """Compare the arguments with the signature.

        Raises:
            RuleError: one is missing, or is not taken.
        """
        from inspect import signature

        try:
            taken = signature(constructor)
        except (TypeError, ValueError):
            return  # it does not say what it takes
        try:
            taken.bind(**self.arguments)
        except TypeError as error:
            named = [each.name for each in taken.parameters.values() if _can_be_named(each)]
            wrong = next((each for each in self.arguments if each not in named), None)
            raise RuleError(
                self.name, str(error), named, kind="arch arguments", word=wrong
            ) from None


def _can_be_named(parameter: Parameter) -> bool:
    return parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
