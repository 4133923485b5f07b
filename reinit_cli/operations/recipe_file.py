"""Read a recipe, a plan or a record from disk."""

from __future__ import annotations

from reinit_cli.errors import RecipeError
from reinit_cli.request.recipe import DASH, MAX_JSON_NBYTES, parse_recipe
from reinit_cli.request.request import PartialRequest
from reinit_cli.storage.local import names_beside
from reinit_cli.text import why


def read_recipe(path: str) -> PartialRequest:
    """Read a recipe from a file, or from standard input for "-".

    Raises:
        RecipeError: it cannot be read or is none.
    """
    try:
        with open(0 if path == DASH else path, "rb", closefd=path != DASH) as file:
            data = file.read(MAX_JSON_NBYTES + 1)
    except FileNotFoundError as error:
        raise RecipeError(path, why(error), names_beside(path), kind="file") from error
    except (OSError, ValueError) as error:
        raise RecipeError(path, why(error)) from error
    return parse_recipe(_record_in(data, path) or data, path)


def _record_in(data: bytes, path: str) -> bytes | None:
    """Return the record that a checkpoint holds of its making, or None of what is a text.

    Raises:
        RecipeError: it is a checkpoint without one.
    """
    is_checkpoint = data[:2] == b"PK" or (data[8:9] == b"{" and b"\0" in data[:8])
    if not is_checkpoint or path == DASH:
        return None
    from reinit_cli.provenance.record import record_in

    text = record_in(path)
    if text is None:
        raise RecipeError(path, "it is a checkpoint that holds no record")
    return text.encode()
