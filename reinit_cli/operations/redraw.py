"""Draw again what a record says was drawn, and compare it with the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from reinit_cli.checkpoints.formats.base import Place
from reinit_cli.checkpoints.references import OpenDonors
from reinit_cli.checkpoints.source import Contents
from reinit_cli.errors import RecordError
from reinit_cli.execution.engine import write_together
from reinit_cli.execution.fill import Fill, FillPart
from reinit_cli.execution.fills import Filling
from reinit_cli.execution.joined import joined_by_draws
from reinit_cli.provenance.compare import Comparer, Gap
from reinit_cli.provenance.recorded import RecordedFill
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.segments import Copy, Range, Reserved, Segment
from reinit_cli.threads import Progress

_Draws = Mapping[Range, tuple[Fill, Place]]
"""For some bytes of a file, what is drawn again there."""


def gaps_of_redrawn(
    contents: Contents, filled: Sequence[RecordedFill], device: str, progress: Progress
) -> Mapping[str, Gap]:
    """Draw tensors again, and return for each that comes out different how far it is.

    Args:
        contents: the output.
        filled: what is drawn.
        device: where to draw.
        progress: told the number of bytes that are done.

    Raises:
        RecordError: two of them share bytes.
    """
    files = contents.files()
    filling = Filling(contents, OpenDonors({}, {}))
    fills = [(filling.of(each.step, each.step.tensor), each.places) for each in filled]
    draws = {name: _draws_in(name, fills) for name in files}
    segments = {name: _segments(files[name], each) for name, each in draws.items()}
    comparers = {
        name: Comparer(files[name], [(span, fill.step.tensor) for span, (fill, _) in each.items()])
        for name, each in draws.items()
    }
    for group in joined_by_draws(segments):
        write_together(segments, {name: comparers[name] for name in group}, device, progress)
    gaps: dict[str, Gap] = {}
    for comparer in comparers.values():
        for key, gap in comparer.gaps.items():
            gaps[key] = gaps[key] + gap if key in gaps else gap
    return gaps


def span_of(place: Place) -> Range:
    """Return the bytes of a place in its file."""
    return place.offset, place.offset + place.nbytes


def _draws_in(name: str, fills: Sequence[tuple[Fill, Sequence[Place]]]) -> _Draws:
    """Return what is drawn in a file; of several keys of one tensor one is."""
    return {
        span_of(place): (fill, place)
        for fill, places in fills
        for place in places
        if place.file == name
    }


def _segments(file: Reader, draws: _Draws) -> list[Segment]:
    """Return what is drawn in a file, with room between for everything else."""
    segments: list[Segment] = []
    reached = 0
    for (start, end), (fill, place) in sorted(draws.items(), key=lambda item: item[0]):
        if start < reached:
            raise RecordError(file.path, f"{fill.step.key!r} shares bytes with another tensor")
        if start > reached:
            segments.append(Reserved(start - reached))
        segments.append(_drawn_in(place, fill, file))
        reached = end
    return segments


def _drawn_in(place: Place, fill: Fill, file: Reader) -> Segment:
    """Return what is drawn in one place, among the gaps that its elements leave there."""
    if place.box is not None:
        under = Copy(file, place.offset, place.nbytes) if place.stride else None
        return FillPart(fill, place.nbytes, place.box, place.stride, under)
    stride = fill.step.tensor.stride
    under = Copy(file, place.offset, place.nbytes) if stride else None
    return replace(fill, nbytes=place.nbytes, stride=stride, under=under)
