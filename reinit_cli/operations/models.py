"""List the models that need no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reinit_cli.checkpoints.models.model import TIMM
from reinit_cli.checkpoints.models.torchvision import ModelSummary, model_names, summarize_model
from reinit_cli.errors import UnknownNameError
from reinit_cli.operations.keys import choice_of, no_match
from reinit_cli.request.pattern import Pattern


def list_models(globs: Sequence[Pattern] = ()) -> list[ModelSummary]:
    """Return the models whose names match a pattern, or those of torchvision if there is none.

    Those of timm are listed where a pattern starts with "timm:", and where it is a part of names.

    Raises:
        PackageError: timm is not installed.
        UnknownNameError: a pattern matches no name.
    """
    of_timm = [glob for glob in globs if glob.text.startswith(TIMM)]
    others = [glob for glob in globs if glob not in of_timm]
    found = [*map(summarize_model, _chosen(model_names(), others))] if others or not globs else []
    return [*found, *(_models_of_timm(of_timm) if of_timm else ())]


def _chosen(names: Sequence[str], globs: Sequence[Pattern]) -> list[str]:
    choice = choice_of(names, globs)
    if choice.unmatched:
        raise _no_model(choice.unmatched[0], names)
    return [names[at] for at in choice.positions]


def _no_model(glob: Pattern, names: Sequence[str]) -> UnknownNameError:
    error = no_match(glob, names, "model", "")
    error.is_answer = True
    return error


def _models_of_timm(globs: Sequence[Pattern]) -> list[ModelSummary]:
    """Return the models of timm that match a pattern, by their names or one with a tag."""
    from reinit_cli.checkpoints.models.timm_cache import all_tags

    tags = all_tags(globs[0].text)
    chosen = {name for glob in globs for name in _names_of_timm(glob, tags)}
    return [_summary(name, tags[name]) for name in tags if name in chosen]


def _names_of_timm(glob: Pattern, tags: Mapping[str, Mapping[str, bool]]) -> list[str]:
    labels = {f"{TIMM}{name}": name for name in tags}
    for name, each in tags.items():
        labels |= {f"{TIMM}{name}.{tag}": name for tag in each if tag}
    names = [*labels]
    found = [labels[names[at]] for at in choice_of(names, [glob]).positions]
    if not found and glob.names is not None:
        part = glob.text.removeprefix(TIMM)
        found = [labels[label] for label in names if part in label.removeprefix(TIMM)]
    if not found:
        raise _no_model(glob, [f"{TIMM}{name}" for name in tags])
    return found


def _summary(name: str, tags: Mapping[str, bool]) -> ModelSummary:
    from reinit_cli.checkpoints.models.timm_cache import tells_classes

    weights = tuple(tag for tag, has_weights in tags.items() if has_weights)
    kind = "classification" if tells_classes(name) else "features"
    return ModelSummary(f"{TIMM}{name}", kind, weights, parameters=None, file_nbytes=None)
