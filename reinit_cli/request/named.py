"""Tell what recipes name from what the command line names."""

from __future__ import annotations

from collections.abc import Sequence

from reinit_cli.errors import RecipeError
from reinit_cli.initializers.arch import names_code
from reinit_cli.request.bounds import Bounds
from reinit_cli.request.partial import PartialRequest
from reinit_cli.request.resize import resizes_of


def reads_of(asked: PartialRequest) -> tuple[str, ...]:
    """Return what a request with gaps reads: its sources, and what it names besides."""
    rows = (each.init for each in resizes_of(asked.get("resize", ())))
    weights = asked.get("weights")
    order = asked.get("optimizer_order")
    return (
        *asked.get("sources", ()),
        *((weights,) if weights is not None else ()),
        *((order,) if order is not None else ()),
        *(name for rule in asked.get("rules", ()) for name in rule.reads),
        *(name for init in rows if init is not None for name in init.checkpoints),
    )


def refuse_code(recipes: Sequence[tuple[str, PartialRequest]], said: PartialRequest) -> None:
    """Refuse code that recipes name and the user does not: to import it is to run it.

    Args:
        recipes: what each is called, and what it says.
        said: what the user says.

    Raises:
        RecipeError: there is some.
    """
    if said.get("arch") is not None:
        return
    for recipe, asked in recipes:
        arch = asked.get("arch")
        if isinstance(arch, str) and names_code(arch):
            problem = f"it names code, {arch!r}, which is run only if you name it"
            raise RecipeError(recipe, problem, (arch,), kind="code")


def bounds_of_recipes(
    recipes: Sequence[tuple[str, PartialRequest]], said: PartialRequest, allowed: Sequence[str]
) -> Bounds:
    """Return which paths recipes name and the user does not.

    Args:
        recipes: what each is called, and what it says.
        said: what the user says.
        allowed: the folders that recipes may name, besides the current one.
    """
    named = set(reads_of(said))
    reads = {
        path: recipe for recipe, asked in recipes for path in reads_of(asked) if path not in named
    }
    outputs = [recipe for recipe, asked in recipes if "output" in asked]
    output = outputs[-1] if outputs and "output" not in said else ""
    return Bounds(tuple(allowed), reads, output)
