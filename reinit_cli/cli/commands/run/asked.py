"""What a user asks for, from all the places that may say it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, cast

import click
from click.core import ParameterSource

from reinit_cli.cli.options import check_device_of_variable
from reinit_cli.operations.recipe_file import read_recipe
from reinit_cli.request.recipe import DASH
from reinit_cli.request.request import PartialRequest, override, without


def asked(ctx: click.Context, given: dict[str, Any], configs: Sequence[str]) -> PartialRequest:
    """Return the command line over its recipes, in their order, over the environment.

    Args:
        ctx: the command line.
        given: its options, None where it does not say them; those that variables of the
            environment say are among them.
        configs: the files of recipes that it names.

    Raises:
        RecipeError: a recipe is wrong, or a variable names a device that is not there.
    """
    said = {name: value for name, value in given.items() if value is not None}
    environment = {
        name: said.pop(name)
        for name in list(said)
        if ctx.get_parameter_source(name) is ParameterSource.ENVIRONMENT
    }
    recipe: PartialRequest = reduce(override, map(read_recipe, configs), PartialRequest())
    if said.get("in_place"):
        recipe = without(recipe, "output")  # no recipe names an output where sources are replaced
    chosen = override(recipe, cast("PartialRequest", said))
    if "device" in environment and "device" not in chosen:
        check_device_of_variable(environment["device"])
    return override(cast("PartialRequest", environment), chosen)


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
