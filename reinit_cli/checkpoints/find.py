"""Find the source that a name, a path or "-" stands for."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from reinit_cli.checkpoints.file import FileSource, file_source, stream_source
from reinit_cli.checkpoints.folder import folder_source, name_of_folder
from reinit_cli.checkpoints.formats import SUFFIXES, names_folder, suffix_of
from reinit_cli.checkpoints.model import ModelSource
from reinit_cli.checkpoints.models.model import (
    DEFAULT_WEIGHTS,
    NO_WEIGHTS,
    TIMM,
    NamedModel,
    misfit,
    not_the_weights,
)
from reinit_cli.checkpoints.source import Source
from reinit_cli.errors import SourceError, UnknownNameError
from reinit_cli.lazy import dataclass
from reinit_cli.storage.local import LocalStore, names_next_to
from reinit_cli.storage.location import DASH, SourceName, is_fetched, without_secrets
from reinit_cli.storage.reader import Store
from reinit_cli.storage.stores import store_of


def find_source(
    text: str,
    weights: str | None = None,
    root: str | None = None,
    *,
    is_root_new: bool = False,
) -> Source:
    """Return the source that a user names.

    What starts with "timm:" is a model of timm. A word without dots and slashes is a torchvision
    model, or a file if no model has the name; anything else is a path.

    Args:
        text: what the user wrote.
        weights: for a model "DEFAULT", the name of its weights, "none", or a file; None
            means "DEFAULT".
        root: the path of the state dict in what a torch file holds; None to look for it.
        is_root_new: whether the path is one in the output, which the source may have or not.

    Raises:
        SourceError: there is no such source, or it cannot be read.
    """
    if root is not None and is_root_new:
        return _source_with_new_root(text, weights, root)
    if text == DASH:
        return stream_source(root)
    if not may_be_model(text):
        if weights is not None:
            raise SourceError(
                text,
                f"{without_secrets(text)!r} is a path, and weights are chosen for a model's name",
            )
        return _path_source(text, root)
    return _model_source(text, weights or DEFAULT_WEIGHTS, root)


def _source_with_new_root(text: str, weights: str | None, root: str) -> Source:
    """Return a source with the state dict at a path in it, or the one that is found."""
    find: Callable[[str | None], Source] = partial(find_source, text, weights)
    if text == DASH:
        from reinit_cli.storage.pipe import StandardInput

        # What was read of a pipe stays in it, and is read again.
        find = partial(stream_source, file=StandardInput())
    try:
        return find(root)
    except UnknownNameError as error:
        if error.kind != "root":
            raise
        return find(None)


@dataclass(frozen=True, slots=True)
class NamedPath:
    """A source of which no more than its path is known.

    Attributes:
        called: its name in parts, as `Source.called`.
        is_folder: whether it is a folder of several files.
    """

    called: SourceName
    is_folder: bool


def named_by_path(text: str, weights: str | None = None) -> NamedPath | None:
    """Return the name of a source without a look into it; None where that takes a look.

    Args:
        text: what the user wrote.
        weights: those that were chosen, which a path has none of.
    """
    if is_fetched(text):
        return _named_by_url(without_secrets(text))
    kind = LocalStore().kind_of(text)
    if text == DASH or weights is not None or kind is None or is_model(text):
        return None
    if kind == "folder":
        return NamedPath(name_of_folder(text), is_folder=True)
    if names_folder(text):
        return NamedPath(name_of_folder(os.path.dirname(text) or "."), is_folder=True)
    return NamedPath(SourceName.of_file(text, suffix_of(text)), is_folder=False)


def _named_by_url(url: str) -> NamedPath | None:
    """Return the name of what is at a URL, as far as the URL alone tells."""
    if url.endswith("/"):
        return NamedPath(name_of_folder(url), is_folder=True)
    if names_folder(url):
        return NamedPath(name_of_folder(os.path.dirname(url)), is_folder=True)
    suffix = suffix_of(url)
    is_file = suffix.lower() in SUFFIXES
    return NamedPath(SourceName.of_file(url, suffix), is_folder=False) if is_file else None


def is_model(text: str) -> bool:
    """Whether a name is that of a model, and not of a file."""
    from reinit_cli.checkpoints.models.torchvision import model_names

    return text.startswith(TIMM) or (may_be_model(text) and text in model_names())


def may_be_model(text: str) -> bool:
    """Whether a user may have named a model, and not a path: a file may be called like one too."""
    return text.isidentifier() or text.startswith(TIMM)


def _path_source(path: str, root: str | None) -> Source:
    store = store_of(path)
    if is_folder(path, store):
        return folder_source(path, root, store)
    return file_source(path, path, root, store)


def is_folder(path: str, store: Store) -> bool:
    """Whether a path is that of a folder, or of the index of one."""
    return names_folder(without_secrets(path)) or store.kind_of(path) == "folder"


def _model_source(name: str, weights: str, root: str | None) -> Source:
    if not is_model(name):
        from reinit_cli.checkpoints.models.torchvision import model_names

        if LocalStore().kind_of(name) is not None:
            return _path_source(name, root)
        raise UnknownNameError(name, known=(*model_names(), *names_next_to(name)), kind="model")
    if names_file_of_weights(name, weights):
        return _with_weights_of(_named(name, NO_WEIGHTS), weights, root)
    model = _named(name, weights)
    return ModelSource(model, model.inspected())


def _named(name: str, weights: str) -> NamedModel:
    """Return a model by its name and that of its weights, which are not a file."""
    if name.startswith(TIMM):
        from reinit_cli.checkpoints.models.timm_source import TimmSource

        return TimmSource.find(name, weights)
    from reinit_cli.checkpoints.models.torchvision import find_model
    from reinit_cli.checkpoints.models.torchvision_model import TorchvisionModel

    return TorchvisionModel(find_model(name, weights))


def names_file_of_weights(model: str, weights: str) -> bool:
    """Whether what is given as a model's weights is a file, and not the name of weights.

    Args:
        model: the name of the model.
        weights: the weights; a file that is called like weights of the model is not meant.
    """
    if os.sep in weights or suffix_of(weights).lower() in SUFFIXES:
        return True
    if weights == DEFAULT_WEIGHTS or weights.lower() == NO_WEIGHTS:
        return False
    return LocalStore().kind_of(weights) == "file" and (
        weights.rpartition(".")[2] not in weights_in_source(model)
    )


def weights_in_source(model: str) -> list[str]:
    """Return the names of a model's weights, as far as its library can be read."""
    if model.startswith(TIMM):
        from reinit_cli.checkpoints.models.timm_names import timm_tags_in_source

        return timm_tags_in_source(model.removeprefix(TIMM).partition(".")[0])
    from reinit_cli.checkpoints.models import torchvision

    return torchvision.weights_in_source(model)


def _with_weights_of(model: NamedModel, path: str, root: str | None) -> FileSource:
    """Return a file as the weights of a model, after a look at every key and shape."""
    source = file_source(path, model.label, root)
    problem = misfit(model.inspected(), source.tensors)
    if problem:
        raise not_the_weights(model.label, source.path, problem)
    return replace(source, weights=source.path, model=model)
