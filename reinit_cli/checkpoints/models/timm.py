"""Build models of timm by their names, without their weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from reinit_cli.checkpoints.models.architecture import Classifier, Constructed
from reinit_cli.checkpoints.models.called import Called
from reinit_cli.checkpoints.models.packages import imported, version_of
from reinit_cli.errors import RuleError, UnknownNameError
from reinit_cli.initializers import Architecture
from reinit_cli.initializers.arch import ArchName, Arguments
from reinit_cli.tensors.info import TensorInfo

if TYPE_CHECKING:
    from torch.nn import Module

_READING = ("checkpoint_path", "cache_dir")
"""The arguments of timm that name files; those that start with "pretrained" load weights."""


def timm_model(name: ArchName, arguments: Arguments) -> TimmModel:
    """Return a model of timm.

    Raises:
        PackageError: timm is not installed.
        UnknownNameError: it has no such model.
        RuleError: the arguments would load weights.
    """
    timm = imported("timm", name.text)
    if ":" in name.name or not timm.is_model(name.name):
        raise UnknownNameError(name.name, known=timm.list_models(), kind="timm model")
    for each in arguments:
        if each in _READING or each.startswith("pretrained"):
            raise RuleError(name.text, f"{each!r} would load weights", kind="arch")

    def build(**given: Any) -> Module:
        made: Module = timm.create_model(name.name, pretrained=False, **given)
        return made

    origin = {"package": "timm", "version": version_of("timm")}
    return TimmModel(name.text, lambda: build, arguments, origin=origin)


class TimmModel(Called):
    """A model of timm; where the user gives no number of classes, the tensors tell it."""

    def architecture(self, tensors: Iterable[TensorInfo]) -> Architecture:
        """Return what it fills the tensors of a state dict with."""
        if "num_classes" in self.arguments:
            return super().architecture(tensors)
        return _Timm(self, tensors)


class _Timm(Classifier):
    """A model of timm whose number of classes is read from the tensors."""

    def __init__(self, model: TimmModel, tensors: Iterable[TensorInfo]) -> None:
        super().__init__(model.name, tensors)
        self._model = model

    def built(self, **arguments: Any) -> Constructed:
        """Return the model as its constructor makes it with these arguments."""
        model = TimmModel(self.name, self._model.find, {**self._model.arguments, **arguments})
        return Constructed(self.name, model.recorded, model.started)

    def default_num_classes(self) -> int | None:
        """Return how many classes the configuration of timm says that it has."""
        import timm

        known = timm.get_pretrained_cfg(self.name.partition(":")[2], allow_unregistered=True)
        number: int | None = getattr(known, "num_classes", None) if known else None
        return number
