"""Look what is at the place of an output."""

from __future__ import annotations

from reinit_cli.storage.destination import check_scheme
from reinit_cli.storage.local import LocalStore
from reinit_cli.storage.location import is_remote
from reinit_cli.storage.reader import Kind


def kind_at(path: str) -> Kind | None:
    """Return what exists at the place of an output, or None where there is nothing.

    Raises:
        OutputUnwritableError: it is a URL that cannot be written, or that cannot be reached.
    """
    if not is_remote(path):
        return LocalStore().kind_of(path)
    check_scheme(path)
    from reinit_cli.storage.remote.look import kind_at_url

    return kind_at_url(path)
