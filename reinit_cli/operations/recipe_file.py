"""Read a recipe from disk, or what can stand for one: a plan, a record, an output."""

from __future__ import annotations

from reinit_cli.checkpoints.formats import FORMATS, names_folder
from reinit_cli.errors import RecipeError
from reinit_cli.request.partial import PartialRequest
from reinit_cli.request.recipe import MAX_JSON_NBYTES, parse_recipe
from reinit_cli.storage.local import LocalStore, first_bytes, names_next_to
from reinit_cli.storage.location import DASH
from reinit_cli.text import why

_HEAD_NBYTES = 512
"""The bytes by which a checkpoint is recognized."""


def read_recipe(path: str) -> PartialRequest:
    """Read a recipe from a file, from a checkpoint's record, or from standard input for "-".

    Raises:
        RecipeError: it cannot be read, or is not a recipe.
    """
    if LocalStore().kind_of(path) == "folder":
        return parse_recipe(_record_in(path), path)
    try:
        data = first_bytes(path, MAX_JSON_NBYTES + 1)
    except FileNotFoundError as error:
        raise RecipeError(path, why(error), names_next_to(path), kind="file") from error
    except (OSError, ValueError) as error:
        raise RecipeError(path, why(error)) from error
    is_index = names_folder(path) and b'"weight_map"' in data
    is_checkpoint = path != DASH and (
        is_index or any(each.recognizes(data[:_HEAD_NBYTES]) for each in FORMATS)
    )
    return parse_recipe(_record_in(path) if is_checkpoint else data, path)


def _record_in(path: str) -> bytes:
    """Return the provenance record that a checkpoint holds.

    Raises:
        RecipeError: it holds none.
        ReinitError: it cannot be read.
    """
    from reinit_cli.provenance.record import record_in

    text = record_in(path)
    if text is None:
        raise RecipeError(path, "it is a checkpoint without a record")
    return text.encode()
