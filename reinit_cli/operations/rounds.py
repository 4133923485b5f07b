"""Warn where a random change of values was already made with the same random numbers."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from reinit_cli.checkpoints.formats.folder_record import record_text
from reinit_cli.checkpoints.source import Contents, Source
from reinit_cli.errors import ReinitError
from reinit_cli.initializers import Init, parse_init
from reinit_cli.planning.plan import Plan, Step
from reinit_cli.provenance.record import RECORD_START, Form, parse_record
from reinit_cli.request.part import part_of
from reinit_cli.request.rule import Rule
from reinit_cli.storage.local import InputFile, names_next_to
from reinit_cli.text import plural, quoted

_MOST_FILES = 100
"""The most files next to a source that are looked at: folders may hold any number."""

_DIGESTED = 1 << 22
"""The bytes of a tensor that are read together."""


_ODD = (OSError, ValueError, TypeError, KeyError)


def repeated_changes(source: Source, plan: Plan) -> tuple[str, ...]:
    """Warn of random changes that the source's provenance record shows already.

    Args:
        source: what is read, with its record in it, or in a file of its own next to it.
        plan: what happens to each of its keys.
    """
    draws = [
        draw for draw in plan.draws if draw.init is not None and draw.init.initializer.has_rounds
    ]
    if not draws or source.path is None:
        return ()
    # A record that is not as reinit writes it is for `verify` to refuse.
    with suppress(ReinitError, *_ODD), source.open(0) as contents:
        for form in _records_of(source, source.path, contents):
            return tuple(_warnings(plan, draws, form))
    return ()


def _records_of(source: Source, path: str, contents: Contents) -> Iterator[Form]:
    """Yield the record that a source holds, or those next to it that are of its bytes."""
    inside = [each.text for each in contents.recorded().values()]
    if inside:
        yield parse_record(inside[0], path)
        return
    folder = os.path.dirname(os.path.abspath(path))
    names = sorted(name for name in names_next_to(path.rstrip(os.sep)) if name.endswith(".json"))
    for name in names[:_MOST_FILES]:
        with suppress(ReinitError, *_ODD):
            form = _record_at(os.path.join(folder, name))
            if form is not None and _is_of(form, source, contents):
                yield form


def _record_at(path: str) -> Form | None:
    """Read a file if it starts as records do."""
    start = RECORD_START.encode()
    with InputFile(path) as file:
        is_record = file.nbytes > len(start) and file.read(0, len(start)) == start
        return parse_record(record_text(file).removesuffix("\n"), path) if is_record else None


def _is_of(form: Form, source: Source, contents: Contents) -> bool:
    """Whether a tensor that a record has as filled is in the source, to the last bit."""
    places = source.located.places if source.located else {}
    nbytes = {tensor.key: tensor.nbytes for tensor in source.tensors}
    rows = {str(row["key"]): row for row in form["filled"]}
    whole = [key for key in rows if len(places.get(key, ())) == 1 and "from_row" not in rows[key]]
    if not whole or not nbytes.keys() >= rows.keys():
        return False
    key = min(whole, key=lambda each: (nbytes[each], each))
    (place,) = places[key]
    file = contents.files()[place.file]
    digest = hashlib.sha256()
    for at in range(0, place.nbytes, _DIGESTED):
        digest.update(file.read(place.offset + at, min(_DIGESTED, place.nbytes - at)))
    return bool(digest.hexdigest() == rows[key]["sha256"])


def _warnings(plan: Plan, draws: Sequence[Step], form: Form) -> Iterator[str]:
    """Yield a warning for each rule that repeats what a record shows."""
    request = plan.request
    if form["seed"] != request.seed or form["stream"] != request.stream:
        return
    rows = {_key_of(row): row for row in form["filled"]}
    shapes = {step.seed_key: step.tensor.shape for step in plan.fills}
    repeated: dict[int, list[Step]] = {}
    for draw in draws:
        if draw.rule is not None and _is_in(draw, rows, shapes):
            repeated.setdefault(draw.rule, []).append(draw)
    for at, steps in repeated.items():
        rule = plan.rules[at]
        more = f" and {plural(len(steps) - 1, 'more tensor')}" if steps[1:] else ""
        yield (
            f"rule {quoted(rule.text)} repeats random numbers: {steps[0].key!r}{more} got the same "
            f"{rule.init.initializer.name} before, as the source's record shows; "
            f"-r {shlex.quote(_in_next_round(rule))} draws others"
        )


def _in_next_round(rule: Rule) -> str:
    """Return the rule to type instead, in the user's own words if they name no round."""
    if rule.init.round:
        return f"{rule.match}={replace(rule.init, round=rule.init.round + 1)}"
    has_arguments = ":" in rule.text.removeprefix(f"{rule.match}=")
    return f"{rule.text}{',' if has_arguments else ':'}round=1"


def _key_of(row: Form) -> str:
    """Return the first of the keys of a tensor, which its own stream is of."""
    return str(row.get("law_key", row.get("seed_key", row["key"])))


def _is_in(draw: Step, rows: Mapping[str, Form], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a record shows a change of some elements of a tensor by the same numbers."""
    part = "" if draw.part is None else str(draw.part)
    key = draw.seed_key.removesuffix(part)
    row = rows.get(key)
    assert draw.init is not None
    return row is not None and any(
        init.stream == draw.init.stream and _overlap(draw, text, shapes[key])
        for init, text in _changes_in(row)
    )


def _changes_in(row: Form) -> Iterator[tuple[Init, str | None]]:
    """Yield the initializers of a row, with the part that each filled; None for the rest."""
    yield parse_init(row["init"]), None
    for each in row.get("parts", ()):
        yield parse_init(each["init"]), str(each["part"])


def _overlap(draw: Step, text: str | None, shape: tuple[int, ...]) -> bool:
    """Whether a change is about elements that an earlier one, of a part or of all, was about."""
    if text is None or draw.part is None:
        return True
    part = part_of(text)
    if part.mask or draw.part.mask:
        return part == draw.part
    both = zip(part.ranges(shape), draw.ranges, strict=True)
    return all(any(index in one for index in other) for one, other in both)
