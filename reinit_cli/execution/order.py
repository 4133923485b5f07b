"""Find the files that cannot be written from their first byte to their last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reinit_cli.execution.fill import Fill, FillPart
from reinit_cli.execution.joined import joined_by_draws
from reinit_cli.storage.segments import Segment, looks_ahead


def files_in_any_order(files: Mapping[str, Sequence[Segment]]) -> frozenset[str]:
    """Return the files whose bytes are written in any order.

    These depend on bytes after them, are laid element by element, or hold parts of what is
    drawn once for several files.
    """
    together = [name for group in joined_by_draws(files) if group[1:] for name in group]
    alone = [name for name, segments in files.items() if looks_ahead(segments) or _lays(segments)]
    return frozenset((*together, *alone))


def _lays(segments: Sequence[Segment]) -> bool:
    return any(isinstance(each, (Fill, FillPart)) and each.stride is not None for each in segments)
