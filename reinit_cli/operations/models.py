"""List the models that need no file."""

from __future__ import annotations

from collections.abc import Sequence

from reinit_cli.checkpoints.models.torchvision import ModelSummary, model_names, summarize_model
from reinit_cli.request.pattern import Pattern


def list_models(globs: Sequence[Pattern] = ()) -> list[ModelSummary]:
    """Return the models whose names match a pattern, or all if there is none."""
    names = model_names()
    chosen = [name for name in names if not globs or any(glob.matches(name) for glob in globs)]
    return [summarize_model(name) for name in chosen]
