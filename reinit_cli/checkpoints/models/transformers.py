"""Build models of transformers from the config of a folder, which is data and never code.

`model_type` picks a class of the package, and `architectures` one of those that the package
lists for this type. Weights, kernels and code of a hub are out of reach: nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from reinit_cli.checkpoints.models.architecture import (
    Constructed,
    NamedConstructor,
)
from reinit_cli.checkpoints.models.bounded import Bounds, bounded
from reinit_cli.checkpoints.models.constructor import laws_of
from reinit_cli.checkpoints.models.own_code import searching_packages_alone
from reinit_cli.checkpoints.models.packages import imported, version_of
from reinit_cli.checkpoints.models.starts import endings, starts_of
from reinit_cli.checkpoints.models.strangers import explained, module_of
from reinit_cli.checkpoints.models.transformers_config import as_data
from reinit_cli.errors import RuleError, UnknownNameError
from reinit_cli.initializers import Architecture, Law
from reinit_cli.initializers.arch import TRANSFORMERS
from reinit_cli.lazy import dataclass
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.layers.layer import Layer

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

_FORMER_NAMES = {"gamma": "weight", "beta": "bias"}
"""What TensorFlow called the weights of norms, as do checkpoints that were converted from it."""

_USUAL = ("PRETRAINING", "CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM", "MASKED_LM", "IMAGE_CLASSIFICATION")
"""The purposes of models, the usual ones first."""


def transformers_model(config: Mapping[str, Any]) -> TransformersModel:
    """Return the model that a config describes.

    Args:
        config: the config.

    Raises:
        PackageError: transformers is not installed.
        UnknownNameError: it has no such type of models.
        RuleError: the config asks for too much, or does not say a type.
    """
    package = imported("transformers", TRANSFORMERS)
    data = as_data(config, TRANSFORMERS)
    kind = data.get("model_type")
    if not isinstance(kind, str):
        raise RuleError(TRANSFORMERS, "config.json has no model_type", kind="arch")
    with _isolated():
        known = package.CONFIG_MAPPING
        if kind not in known:
            raise UnknownNameError(
                kind, version_of("transformers"), list(known), kind="type of models"
            )
        name = _class_for(kind, data.get("architectures"))
        made = getattr(package, name, None)
    if made is None:
        raise RuleError(TRANSFORMERS, f"there is no model of type {kind!r}", kind="arch")
    return TransformersModel(data, known[kind], made)


def _class_for(kind: str, asked: object) -> str:
    """Return the name of a class that the package lists for a type of models.

    Args:
        kind: the type.
        asked: the names that the config has, of which those that are not listed do not count.
    """
    from transformers.models.auto import modeling_auto

    listed: dict[str, tuple[str, ...]] = {}
    for table in dir(modeling_auto):
        if table.startswith("MODEL_") and table.endswith("MAPPING_NAMES"):
            names = getattr(modeling_auto, table).get(kind)
            if names:
                listed[table] = (names,) if isinstance(names, str) else tuple(names)
    every = [name for names in listed.values() for name in names]
    wanted = asked if isinstance(asked, list) else []
    usual = [
        name for purpose in _USUAL for name in listed.get(f"MODEL_FOR_{purpose}_MAPPING_NAMES", ())
    ]
    chosen = [name for name in wanted if name in every]
    return next(iter((*chosen, *usual, *listed.get("MODEL_MAPPING_NAMES", ()), *every)), "")


@contextmanager
def _isolated() -> Iterator[None]:
    """Keep transformers from a hub, from kernels, and from the working folder in this block."""
    with explained(TRANSFORMERS), searching_packages_alone():
        import logging

        from huggingface_hub import constants
        from transformers.integrations import hub_kernels

        switches: list[tuple[Any, str, object]] = [
            (constants, "HF_HUB_OFFLINE", True),
            (hub_kernels, "_kernels_enabled", False),
            (logging.getLogger("transformers"), "disabled", True),
        ]
        before = [getattr(owner, name, None) for owner, name, _ in switches]
        try:
            for owner, name, value in switches:
                setattr(owner, name, value)
            yield
        finally:
            for (owner, name, _), value in zip(switches, before, strict=True):
                setattr(owner, name, value)


class TransformersModel(NamedConstructor):
    """A model of transformers."""

    def __init__(self, config: Mapping[str, Any], of: type[Any], made: type[Any]) -> None:
        """Remember what to build.

        Args:
            config: the members of its config.
            of: the class of the config.
            made: the class of the model.
        """
        self._config = config
        self._of = of
        self._made = made
        self.origin = {
            "package": "transformers",
            "version": version_of("transformers"),
            "class": made.__name__,
        }

    @property
    def __name__(self) -> str:
        """The class of the model."""
        return self._made.__name__

    def __call__(self) -> Module:
        """Make the module.

        Raises:
            RuleError: it cannot be made.
        """
        with _isolated():
            config = self._of.from_dict(dict(self._config))
            return module_of(self._made._from_config(config), TRANSFORMERS)

    def architecture(self, tensors: Iterable[TensorInfo]) -> Architecture:
        """Return what it fills the tensors of a state dict with."""
        there = list(tensors)
        build = partial(self._as_saved, there)
        constructed = Constructed(self.__name__, lambda: laws_of(build), lambda: starts_of(build))
        return _Respelled(constructed, getattr(self._made, "base_model_prefix", ""))

    def _as_saved(self, tensors: list[TensorInfo]) -> Module:
        """Make the module, whose state dict has the names that a checkpoint has.

        transformers keeps the weights of some models otherwise than it saves them: the experts
        of a layer are one tensor in memory.
        """
        with bounded(TRANSFORMERS, Bounds.of(tensors)):
            module = self()
        own = module.state_dict()
        with _isolated():
            saved = _reverted(module, own)
        if _fitting(saved, tensors) > _fitting(own, tensors):
            module.state_dict = lambda: saved  # type: ignore[method-assign, assignment]
        return module


def _reverted(module: Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict as transformers saves it."""
    from transformers import core_model_loading

    revert: Any = core_model_loading.revert_weight_conversion
    reverted: dict[str, Tensor] = revert(module, dict(state))
    return reverted


def _fitting(state: Mapping[str, Tensor], tensors: Iterable[TensorInfo]) -> int:
    """Count the tensors of a checkpoint that a state dict has, be it after a prefix."""
    return sum(any(each in state for each in endings(tensor.key)) for tensor in tensors)


@dataclass(frozen=True, slots=True)
class _Respelled:
    """A model whose checkpoints may lack the prefix of its base model, or have former names.

    Attributes:
        constructed: the model, by its own names.
        prefix: the name of its base model, whose own checkpoints are without it.
    """

    constructed: Constructed
    prefix: str

    def law(self, key: str, shape: tuple[int, ...], seed: int | None = None) -> Law:
        """Return what fills a tensor.

        Raises:
            UndefinedError: it makes no such tensor, or in a way that cannot be replayed.
        """
        return self.constructed.law(self._own(key), shape, seed)

    def start(self, key: str, shape: tuple[int, ...]) -> Law | None:
        """Return what the layer of a tensor resets it to; None where it has no start of its own.

        Raises:
            UndefinedError: it has one, which cannot be replayed.
        """
        return self.constructed.start(self._own(key), shape)

    def layer(self, key: str) -> Layer | None:
        """Return the layer that a tensor belongs to."""
        return self.constructed.layer(self._own(key))

    def first_equal(self, key: str) -> str:
        """Return the first key whose tensor the constructor makes equal to another."""
        own = self._own(key)
        first = self.constructed.first_equal(own)
        return key if first == own else first.removeprefix(own.removesuffix(key))

    def _own(self, key: str) -> str:
        """Return the name that the model has for a key, or the key itself where it has none."""
        module, dot, name = key.rpartition(".")
        present = f"{module}{dot}{_FORMER_NAMES.get(name, name)}"
        spelled = (key, present, f"{self.prefix}.{key}", f"{self.prefix}.{present}")
        return next((each for each in spelled if self.constructed.shape(each)), key)
