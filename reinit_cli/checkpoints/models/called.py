"""Call constructors that are given by their names, with arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

from reinit_cli.checkpoints.models.architecture import Constructed, NamedConstructor
from reinit_cli.checkpoints.models.constructor import Fills, laws_of
from reinit_cli.checkpoints.models.model import NO_WEIGHTS
from reinit_cli.checkpoints.models.own_code import OwnFile, OwnModule, searching_packages_alone
from reinit_cli.checkpoints.models.starts import starts_of
from reinit_cli.checkpoints.models.strangers import explained, module_of
from reinit_cli.checkpoints.models.torchvision import build_model, find_model
from reinit_cli.errors import RuleError
from reinit_cli.initializers import Architecture
from reinit_cli.initializers.arch import ArchName, Arguments
from reinit_cli.lazy import dataclass
from reinit_cli.tensors.info import TensorInfo

if TYPE_CHECKING:
    from inspect import Parameter

    from torch.nn import Module


def own_code(name: ArchName, arguments: Arguments) -> Called:
    """Return a class or function of people's own code, which is loaded when it is needed.

    Raises:
        SourceError: its file cannot be read.
    """
    own = OwnFile(name) if name.library == "file" else OwnModule(name)
    return Called(name.text, lambda: own.found, arguments, own.file, own.origin)


def torchvision_model(name: str, arguments: Arguments) -> Called:
    """Return a torchvision model with arguments.

    Raises:
        UnknownNameError: there is no such model.
    """
    model = find_model(name, NO_WEIGHTS)
    return Called(name, lambda: lambda **given: build_model(model, **given), arguments)


@dataclass(frozen=True, eq=False)
class Called(NamedConstructor):
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
        with explained(self.name, self.file), searching_packages_alone():
            constructor = self.find()
            self._check_arguments(constructor)
            return module_of(constructor(**self.arguments), self.name)

    def architecture(self, tensors: Iterable[TensorInfo]) -> Architecture:
        """Return what it fills the tensors of a state dict with."""
        del tensors
        return Constructed(self.name, self.recorded, self.started)

    def recorded(self) -> Fills:
        """Call it and record it; its code is loaded before, since that may draw numbers too."""
        with explained(self.name, self.file), searching_packages_alone():
            self.find()
        return laws_of(self)

    def started(self) -> Fills:
        """Call it, and record what the layers of its module reset themselves to."""
        with explained(self.name, self.file), searching_packages_alone():
            self.find()
        return starts_of(self)

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
