"""List the models that need no file."""

from __future__ import annotations

from collections.abc import Sequence

from reinit_cli.checkpoints.models.torchvision import ModelSummary, model_names, summarize_model
from reinit_cli.operations.keys import choice_of, no_match
from reinit_cli.request.pattern import Pattern


def list_models(globs: Sequence[Pattern] = ()) -> list[ModelSummary]:
    """Return the models whose names match a pattern, or all if there is none.

    Raises:
        UnknownNameError: a pattern matches no name.
    """
    names = model_names()
    choice = choice_of(names, globs)
    if choice.unmatched:
        error = no_match(choice.unmatched[0], names, "model", "")
        error.is_answer = True
        raise error
    return [summarize_model(names[at]) for at in choice.positions]
