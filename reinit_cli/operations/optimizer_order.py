"""Read the order of an optimizer's parameters that a user gives."""

from __future__ import annotations

from reinit_cli.errors import RuleError, SourceNotFoundError, UnreadableSourceError
from reinit_cli.planning.parameters import NDIM
from reinit_cli.request.request import Request
from reinit_cli.storage.local import first_bytes, names_next_to
from reinit_cli.storage.location import DASH
from reinit_cli.text import why

_MAX_NBYTES = 16 * 2**20
"""Of a list of keys: more than any checkpoint has."""


def order_of(request: Request) -> tuple[str, ...] | None:
    """Return the keys of an optimizer's parameters, group after group; None if nobody gives them.

    Raises:
        SourceError: their file cannot be read.
        RuleError: it holds no keys, or no optimizer is reset.
    """
    name = request.optimizer_order
    if name is None:
        return None
    if not request.reset_optimizer:
        problem = "--optimizer-order needs --reset-optimizer"
        raise RuleError(request.called, problem, kind="optimizer")
    keys = (NDIM,) if name == NDIM else _keys_in(name)
    if not keys:
        raise RuleError(name, "it names no key", kind="optimizer")
    return keys


def _keys_in(name: str) -> tuple[str, ...]:
    try:
        if name == DASH:
            raise ValueError("standard input holds no order")
        data = first_bytes(name, _MAX_NBYTES + 1)
        if len(data) > _MAX_NBYTES:
            raise ValueError(f"it has more than {_MAX_NBYTES:,} bytes")
        text = data.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise SourceNotFoundError(name, known=(*names_next_to(name), NDIM)) from error
    except UnicodeDecodeError as error:
        raise UnreadableSourceError(name, "it is not text") from error
    except (OSError, ValueError) as error:
        raise UnreadableSourceError(name, why(error)) from error
    return tuple(line for each in text.split("\n") if (line := each.removesuffix("\r")))
