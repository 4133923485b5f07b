"""Find the source of a request."""

from __future__ import annotations

from reinit_cli.checkpoints.find import find_source
from reinit_cli.checkpoints.source import Source
from reinit_cli.request.request import Request


def source_for(request: Request) -> Source:
    """Return the source of a request.

    Raises:
        SourceError: there is no such source, or it cannot be read.
    """
    is_root_new = request.to is not None
    return find_source(request.source, request.weights, request.root, is_root_new=is_root_new)
