"""Collect what a user asks for from all the places that may say it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, cast

import click
from click.core import ParameterSource

from reinit_cli.cli.options import check_device_of_variable
from reinit_cli.lazy import dataclass
from reinit_cli.operations.batch import read_list, requests_of
from reinit_cli.request.partial import PartialRequest, override, without
from reinit_cli.request.request import Request
from reinit_cli.request.rule import Rule
from reinit_cli.storage.destination import InUse
from reinit_cli.storage.location import DASH
from reinit_cli.text import plural


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command line asks for.

    Attributes:
        requests: one for each output.
        is_batch: whether inputs are named and counted.
        reads: the files that say what is asked for, and what each is called.
    """

    requests: tuple[Request, ...]
    is_batch: bool
    reads: InUse

    @property
    def name(self) -> str:
        """Its name on the progress meter."""
        requests = self.requests
        return requests[0].source if len(requests) == 1 else plural(len(requests), "output")

    @property
    def is_streamed(self) -> bool:
        """Whether an output goes to standard output."""
        return any(
            each.output == DASH or (each.output is None and each.source == DASH)
            for each in self.requests
        )


def read_asked(
    ctx: click.Context,
    *,
    sources: tuple[str, ...],
    rules: tuple[Rule, ...],
    configs: tuple[str, ...],
    files_from: str | None,
    null: bool,
    options: dict[str, Any],
) -> Asked:
    """Return what a command line asks for.

    Args:
        ctx: the command line.
        sources: those that it names.
        rules: its own rules, those that exclude keys included.
        configs: the recipes that it names.
        files_from: the list of more sources, or None.
        null: whether a NUL ends each line of that list.
        options: its other options, None where it does not give them.

    Raises:
        ReinitError: a recipe, a variable or the list is wrong.
        click.UsageError: no source is named, or one place is asked for twice.
    """
    _check_standard_input(sources, configs, files_from)
    if files_from is not None:
        sources = (*sources, *read_list(files_from, ends_with_nul=null))
    elif null:
        raise click.UsageError("-0 says how the list of --files-from ends its lines")
    named = sources if sources or files_from is not None else None
    asked = merge(ctx, {**options, "rules": rules, "sources": named}, configs)
    if "sources" not in asked:
        raise click.MissingParameter(ctx=ctx, param_hint="'SOURCE'", param_type="argument")
    is_batch = files_from is not None or len(asked["sources"]) * len(asked.get("seeds", (0,))) > 1
    lists = () if files_from is None else (files_from,)
    reads = dict.fromkeys(configs, "a recipe") | dict.fromkeys(lists, "a list")
    return Asked(requests_of(asked), is_batch, reads)


def merge(ctx: click.Context, given: dict[str, Any], configs: Sequence[str]) -> PartialRequest:
    """Return the command line over its recipes, in their order, over the environment.

    Args:
        ctx: the command line.
        given: its options, None where it does not give them; those that environment
            variables give are among them.
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
    recipes = _read(configs)
    recipe: PartialRequest = reduce(override, (each for _, each in recipes), PartialRequest())
    if said.get("in_place"):
        recipe = without(recipe, "output")  # sources are replaced, so a recipe names no output
    if said.get("in_place") or said.get("force"):
        recipe = without(recipe, "skip_existing")
    spoken = cast("PartialRequest", said)
    if recipes:
        from reinit_cli.request.named import bounds_of_recipes, refuse_code

        refuse_code(recipes, spoken)
        allowed = said.get("allow_paths", ())
        spoken = {**spoken, "allow_paths": bounds_of_recipes(recipes, spoken, allowed)}
    chosen = override(recipe, spoken)
    if "device" in environment and "device" not in chosen:
        check_device_of_variable(environment["device"])
    return override(cast("PartialRequest", environment), chosen)


def _read(configs: Sequence[str]) -> list[tuple[str, PartialRequest]]:
    if not configs:
        return []
    from reinit_cli.operations.recipe_file import read_recipe

    return [(path, read_recipe(path)) for path in configs]


def _check_standard_input(
    sources: Sequence[str], configs: Sequence[str], files_from: str | None
) -> None:
    """Refuse two readers of standard input.

    Raises:
        click.UsageError: there are two.
    """
    readers = [
        *("SOURCE" for source in sources if source == DASH),
        *("--recipe" for config in configs if config == DASH),
        *(("--files-from",) if files_from == DASH else ()),
    ]
    if len(readers) > 1:
        raise click.UsageError(
            f"standard input is read once, and {readers[0]} and {readers[1]} ask for it"
        )
