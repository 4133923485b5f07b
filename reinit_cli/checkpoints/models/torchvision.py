"""Find and build torchvision's models: their names, weights, and state dicts."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reinit_cli.checkpoints.models.borrowing import own_random_state, replaced
from reinit_cli.checkpoints.models.model import (
    NO_WEIGHTS,
    Download,
    not_the_weights,
    unavailable,
)
from reinit_cli.checkpoints.models.published import file_nbytes
from reinit_cli.errors import UnknownNameError
from reinit_cli.lazy import dataclass
from reinit_cli.storage.local import LocalStore
from reinit_cli.streams.stream import seed_for
from reinit_cli.tensors.info import TensorInfo

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from torchvision.models import WeightsEnum

Fetch = Callable[["WeightsEnum"], Mapping[str, "Tensor"]]
"""Gives the state dict that some weights stand for; an empty one leaves a model as it is."""


@dataclass(frozen=True, slots=True)
class Model:
    """A torchvision model with the weights that were chosen for it.

    Attributes:
        name: as `torchvision.models.list_models` has it.
        weights: a member of its weights enum, or None for a model as it is constructed.
    """

    name: str
    weights: WeightsEnum | None


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """The facts of a model that are known without building it.

    Attributes:
        name: its name.
        kind: what it is for, such as "classification".
        weights: the names of its pretrained weights, the default first.
        parameters: those that it has with the default weights, None where it has no weights.
        file_nbytes: the size of the file of its default weights, or None.
    """

    name: str
    kind: str
    weights: tuple[str, ...]
    parameters: int | None
    file_nbytes: int | None


def model_names() -> list[str]:
    """Return the names of all models, without importing torchvision where possible.

    They are asked for wherever a word may be a model or a file, and the import takes seconds.
    """
    names = () if "torchvision" in sys.modules else _names_in_source()
    if names:
        return sorted(names)
    import torchvision

    return list(torchvision.models.list_models())


_REGISTERED = re.compile(r'@register_model\((?:name="(\w+)")?\)\n(?:.*\n)*?def (\w+)\(')
"""How torchvision's modules say which of their functions are models."""


def _names_in_source() -> set[str]:
    """Return the names that torchvision's modules register, as far as they can be read."""
    return {
        name or function for text in _source_texts() for name, function in _REGISTERED.findall(text)
    }


def _source_texts() -> Iterator[str]:
    """Yield the text of each module in which torchvision registers models."""
    spec = find_spec("torchvision")
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in Path(folder, "models").rglob("*.py"):
            with suppress(OSError, UnicodeDecodeError):
                yield path.read_text(encoding="utf-8")


_MEMBER = re.compile(r"^    (\w+) = ", re.MULTILINE)
"""How the members of an enum of weights are written."""


def weights_in_source(model: str) -> list[str]:
    """Return the names of a model's weights, as far as torchvision's modules can be read.

    torchvision is not imported; `find_model` knows for certain.
    """
    for text in _source_texts():
        for registered in _REGISTERED.finditer(text):
            if model == (registered[1] or registered[2]):
                signature = text[registered.end() :].partition("\n)")[0].partition(") ->")[0]
                weights = re.search(r"\bweights: .*?(\w+Weights)\b", signature, re.DOTALL)
                body = text.partition(f"class {weights[1]}(")[2] if weights else ""
                return _MEMBER.findall(re.split(r"\n(?=\S)", body, maxsplit=1)[0])
    return []


def find_model(name: str, weights: str) -> Model:
    """Return a model by the names a user gave.

    Args:
        name: a model's name.
        weights: "DEFAULT", the name of a member of its weights enum, or "none".

    Raises:
        UnknownNameError: there is no such model, or it has no such weights.
    """
    import torchvision

    names = model_names()
    if name not in names:
        raise UnknownNameError(name, known=names, kind="model")
    if weights.lower() == NO_WEIGHTS:
        return Model(name, None)
    known = torchvision.models.get_model_weights(name)
    member = known.__members__.get(weights.rpartition(".")[2])
    if member is None:
        names = list(known.__members__)
        problem = f"it has {', '.join(names)}" if names else "it has none"
        raise UnknownNameError(weights, problem, (*names, NO_WEIGHTS), kind="weights", of=name)
    return Model(name, member)


def summarize_model(name: str) -> ModelSummary:
    """Return what torchvision says of a model."""
    import torchvision

    members = torchvision.models.get_model_weights(name).__members__
    default = members.get("DEFAULT")
    # Aliases, DEFAULT among them, are names of members too.
    by_default = list(dict.fromkeys(member.name for member in members.values()))
    if default is not None:
        by_default.sort(key=lambda member: member != default.name)
    builder = torchvision.models.get_model_builder(name)
    module = builder.__module__.removeprefix("torchvision.models").strip(".")
    kind = module.rpartition(".")[0] or "classification"
    return ModelSummary(
        name=name,
        kind=kind,
        weights=tuple(by_default),
        parameters=default.meta.get("num_params") if default is not None else None,
        file_nbytes=file_nbytes(default.meta) if default is not None else None,
    )


def inspect_model(model: Model) -> tuple[TensorInfo, ...]:
    """Return the entries of a model's state dict, without its weights and offline."""
    from reinit_cli.tensors.live import infos_of_module

    # Quantizing runs the model once, so nothing of it can stay on `meta`.
    with own_random_state(0), nullcontext() if _is_quantized(model) else _on_meta():
        return infos_of_module(_module(model, _nothing))


def build_empty_model(model: Model) -> Mapping[str, Any]:
    """Return the state dict of a model without weights, and without values."""
    with own_random_state(0), _on_meta():
        return _build(model, _nothing)


def build_model(model: Model, **arguments: Any) -> Module:
    """Return a model as its constructor makes it, without its weights.

    Args:
        model: the model; its constructor gets the arguments that its weights ask for.
        arguments: others of its constructor.
    """
    with own_random_state(0):
        return _module(model, _nothing, **arguments)


def float_weights(name: str) -> list[str]:
    """Return the names of a model's pretrained weights that are not quantized."""
    import torchvision

    members = torchvision.models.get_model_weights(name).__members__.values()
    names = (each.name for each in members if not _is_quantized(Model(name, each)))
    return list(dict.fromkeys(names))  # DEFAULT is another name of one


def default_num_classes(name: str) -> int | None:
    """Return how many classes a model tells apart by default, or None if it has none."""
    default = _default_weights(name)
    categories = default.meta.get("categories") if default is not None else None
    return len(categories) if categories else None


def _default_weights(name: str) -> WeightsEnum | None:
    import torchvision

    members = torchvision.models.get_model_weights(name).__members__
    return members.get("DEFAULT") or next(iter(members.values()), None)


def load_model(model: Model, seed: int) -> Mapping[str, Any]:
    """Return the state dict of a model, with its weights downloaded if need be.

    Without weights it is built under its own seed, so that it too has the same bytes
    every time.

    Args:
        model: the model.
        seed: the seed of the run.

    Raises:
        SourceNotFoundError: the weights are not here and cannot be had.
        SourceError: a file in torch's cache holds other weights.
    """
    with own_random_state(seed_for(seed, model.name)):
        try:
            return _build(model, lambda weights: _fetch(model, weights))
        except RuntimeError as error:
            if model.weights is None or "loading state_dict" not in str(error):
                raise
            problem = str(error).splitlines()[1].strip().partition(",")[0]
            path = cache_path(model.weights)
            raise not_the_weights(model.name, path, problem) from error


def _build(model: Model, fetch: Fetch, **others: Any) -> Mapping[str, Any]:
    state: Mapping[str, Any] = _module(model, fetch, **others).state_dict()
    return state


def _module(model: Model, fetch: Fetch, **others: Any) -> Module:
    import torch
    import torchvision

    arguments: dict[str, Any] = {"weights": model.weights, **others}
    if model.weights is None and has_backbone_weights(model.name):
        arguments["weights_backbone"] = None
    if _is_quantized(model):
        arguments["quantize"] = True
    with _loading_with(fetch), torch.no_grad(), warnings.catch_warnings():
        # A user cannot fix deprecations in torchvision's own code.
        warnings.simplefilter("ignore")
        module: Module = torchvision.models.get_model(model.name, **arguments)
        return module.eval()


def has_backbone_weights(name: str) -> bool:
    """Whether the backbone of a model has pretrained weights of its own."""
    import inspect

    import torchvision

    builder = torchvision.models.get_model_builder(name)
    return "weights_backbone" in inspect.signature(builder).parameters


def _is_quantized(model: Model) -> bool:
    """Whether the weights are those of a quantized model."""
    return model.weights is not None and "unquantized" in model.weights.meta


@contextmanager
def _loading_with(fetch: Fetch) -> Iterator[None]:
    """Let torchvision's constructors take state dicts from `fetch`.

    An empty one leaves a model as it is, which is how its keys are read offline with the
    arguments that its weights ask for.
    """
    import torch
    from torchvision.models import WeightsEnum

    load_state_dict = torch.nn.Module.load_state_dict

    def load(module: Any, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        return load_state_dict(module, state_dict, *args, **kwargs) if state_dict else None

    with (
        replaced(WeightsEnum, "get_state_dict", lambda weights, *_, **__: fetch(weights)),
        replaced(torch.nn.Module, "load_state_dict", load),
    ):
        yield


@contextmanager
def _on_meta() -> Iterator[None]:
    """Send what layers make their parameters and buffers with to the meta device.

    The whole device context would send more: 15 regnets read a tensor while they are
    built, which `meta` cannot give.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class LayersOnMeta(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            del types
            kwargs = dict(kwargs or {})
            if func in (torch.empty, torch.zeros, torch.ones):
                kwargs["device"] = "meta"
            return func(*args, **kwargs)

    with LayersOnMeta():
        yield


def _nothing(weights: WeightsEnum) -> Mapping[str, Tensor]:
    del weights
    return {}


def cache_path(weights: WeightsEnum) -> str:
    """Return where torch's own cache holds weights that were downloaded."""
    from torch.hub import get_dir

    return os.path.join(get_dir(), "checkpoints", os.path.basename(weights.url))


def download_of(model: Model) -> Download | None:
    """Return what is downloaded before a model can be built; None where nothing is."""
    weights = model.weights
    if weights is None:
        return None
    path = cache_path(weights)
    if LocalStore().kind_of(path) is not None:
        return None
    return Download(model.name, weights.name, path, file_nbytes(weights.meta))


def _fetch(model: Model, weights: WeightsEnum) -> Mapping[str, Tensor]:
    """Return downloaded weights from torch's own cache, and download them first if need be."""
    import pickle
    from urllib.error import URLError

    from torch.hub import load_state_dict_from_url

    path = cache_path(weights)
    try:
        return load_state_dict_from_url(
            weights.url, progress=sys.stderr.isatty(), check_hash=True, weights_only=True
        )
    except URLError as error:
        raise unavailable(model.name, path, str(error.reason)) from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        problem = str(error).partition("\n")[0]
        raise unavailable(model.name, path, problem) from error
