"""What a user asks for, from all the places that may say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce

import click

from reinit_cli.errors import RecipeError, UnknownNameError
from reinit_cli.operations.recipe_file import read_recipe
from reinit_cli.request.recipe import DASH, Recipe, of_environment


def asked(
    given: Recipe, configs: Sequence[str], environment: Mapping[str, str], *, in_place: bool
) -> Recipe:
    """Return the command line over its recipes, in their order, over the environment.

    Args:
        given: what the command line says itself.
        configs: the files of recipes that it names.
        environment: the variables of the environment.
        in_place: whether sources are replaced, so that no recipe names an output.

    Raises:
        RecipeError: a recipe or a variable is wrong.
    """
    from_environment = of_environment(environment)
    recipe = reduce(Recipe.under, map(read_recipe, configs), Recipe())
    if in_place:
        recipe = replace(recipe, output=None)
    chosen = recipe.under(given)
    if chosen.device is None and from_environment.device is not None:
        _check_device_of_variable(from_environment.device)
    return from_environment.under(chosen)


def check_standard_input(
    sources: Sequence[str], configs: Sequence[str], files_from: str | None
) -> None:
    """Refuse two readers of standard input.

    Raises:
        click.UsageError: there are two.
    """
    readers = [
        *("SOURCE" for source in sources if source == DASH),
        *("--config" for config in configs if config == DASH),
        *(("--files-from",) if files_from == DASH else ()),
    ]
    if len(readers) > 1:
        raise click.UsageError(
            f"standard input is read once, and {readers[0]} and {readers[1]} ask for it"
        )


def _check_device_of_variable(device: str) -> None:
    """Name the variable where its device is not there.

    Raises:
        RecipeError: it is so.
    """
    from reinit_cli.tensors.device import check_device

    try:
        check_device(device)
    except UnknownNameError as error:
        raise RecipeError("REINIT_DEVICE", str(error), kind="variable") from error
