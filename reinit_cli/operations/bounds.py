"""Hold what recipes, plans and records name, and what links lead to, within bounds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from reinit_cli.checkpoints.find import is_model, names_file_of_weights
from reinit_cli.checkpoints.folder import FolderSource
from reinit_cli.checkpoints.source import Source
from reinit_cli.errors import RecipeError, RuleError, UnreadableSourceError
from reinit_cli.request.bounds import Bounds, bounds_of
from reinit_cli.request.output_name import OutputName
from reinit_cli.request.request import Request
from reinit_cli.request.resize import resizes_of
from reinit_cli.request.rule import rules_of
from reinit_cli.storage.destination import place_of
from reinit_cli.storage.location import is_remote, without_secrets
from reinit_cli.storage.within import STREAMS, can_be_path, is_within


def check_reads(request: Request) -> None:
    """Refuse what a recipe would read elsewhere than in the current folder.

    Raises:
        RecipeError: it names such a path, or a URL, and the user neither names nor allows it.
        RuleError: a rule has a URL that is secret.
    """
    bounds = bounds_of(request.allow_paths)
    for path in dict.fromkeys(_read_paths(request)) if bounds.reads else ():
        recipe = bounds.reads.get(path)
        if recipe is not None:
            _check(path, recipe, bounds)
    _check_no_secrets(request)


def _read_paths(request: Request) -> Iterator[str]:
    yield request.source
    if request.weights is not None and names_file_of_weights(request.source, request.weights):
        yield request.weights
    if request.optimizer_order is not None:
        yield request.optimizer_order
    yield from _paths_in_rules(request)


def _paths_in_rules(request: Request) -> Iterator[str]:
    for rule in rules_of(request.rules):
        yield from rule.reads
    for init in (each.init for each in resizes_of(request.resize)):
        if init is not None:
            yield from init.checkpoints


def _check_no_secrets(request: Request) -> None:
    """Refuse a rule with a URL that is signed or has a password: plans and records keep rules.

    Raises:
        RuleError: there is one.
    """
    for path in _paths_in_rules(request):
        called = without_secrets(path)
        if called != path:
            problem = f"{called!r} has a query or a password, which plans and records would keep"
            raise RuleError(called, problem)


def check_url_of_output(output: str | OutputName | None, allowed: Sequence[str] | Bounds) -> None:
    """Refuse a URL as an output that a recipe names, before anything looks for it.

    Args:
        output: the path, or the form of it.
        allowed: the folders that recipes may lead to, or what names the output.

    Raises:
        RecipeError: it is one.
    """
    bounds = bounds_of(allowed)
    path = output.form if isinstance(output, OutputName) else output
    if path is not None and bounds.output and is_remote(path):
        _check(path, bounds.output, bounds)


def folders_for_output(request: Request) -> tuple[str, ...]:
    """Return the folders in which an output has to be that a recipe names; () for any."""
    bounds = bounds_of(request.allow_paths)
    return _folders(bounds) if _naming_output(request, bounds) else ()


def check_output(request: Request, path: str | None) -> None:
    """Refuse an output elsewhere than in the current folder, where a recipe names it.

    Args:
        request: what is asked for.
        path: the output, or None for standard output.

    Raises:
        RecipeError: it is elsewhere, and the user does not allow that.
    """
    bounds = bounds_of(request.allow_paths)
    recipe = _naming_output(request, bounds)
    if path is not None and recipe:
        _check(path, recipe, bounds, follows=False)


def _naming_output(request: Request, bounds: Bounds) -> str:
    """Return the recipe that names the output, or the source that it is called after; or ""."""
    output = request.output
    is_called_after = output is None or (isinstance(output, OutputName) and output.is_beside)
    return bounds.output or (bounds.reads.get(request.source, "") if is_called_after else "")


def _check(path: str, recipe: str, bounds: Bounds, *, follows: bool = True) -> None:
    if is_remote(path):
        problem = f"it names the URL {without_secrets(path)!r}, and only the command line may"
        raise RecipeError(recipe, problem)
    if path in STREAMS or not can_be_path(path):
        return  # it leads nowhere, and is refused where it is used
    place = os.path.realpath(path) if follows else place_of(path)
    is_elsewhere = not is_within(place, _folders(bounds))
    if is_elsewhere and not (follows and is_model(path)):
        leads = "" if place == os.path.abspath(path) else f", which leads to {place!r}"
        problem = f"it names {path!r}{leads}, outside of the current folder"
        raise RecipeError(recipe, problem, (os.path.dirname(place),), kind="outside")


def _folders(bounds: Bounds) -> tuple[str, ...]:
    return (os.curdir, *bounds.allowed)


def check_links(sources: Iterable[Source], request: Request) -> None:
    """Refuse weights that a folder holds as links to somewhere else.

    What is copied from a stranger's folder would otherwise be a file of the user's own.

    Raises:
        UnreadableSourceError: there is one, and the user does not allow where it leads.
    """
    allowed = bounds_of(request.allow_paths).allowed
    for source in sources:
        for path in source.leaving if isinstance(source, FolderSource) else ():
            place = os.path.realpath(path)
            if not is_within(place, allowed):
                problem = f"it is a link to {place!r}, outside of its folder"
                folder = os.path.dirname(place)
                raise UnreadableSourceError(path, problem, (folder,), kind="link")
