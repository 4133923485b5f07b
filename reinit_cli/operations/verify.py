"""Verify a checkpoint against its record: draw again what was filled, digest everything else.

It shows integrity, not authorship: whoever changes a file can write another record for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial

from reinit_cli.checkpoints.fetching import fetch
from reinit_cli.checkpoints.find import find_source
from reinit_cli.checkpoints.folder import FolderSource
from reinit_cli.checkpoints.formats.base import RECORD_NAME, Recorded
from reinit_cli.checkpoints.formats.folder_record import record_text
from reinit_cli.checkpoints.source import Contents, Source
from reinit_cli.checkpoints.state import StateSource
from reinit_cli.checkpoints.trained import with_optimizer
from reinit_cli.errors import (
    RecordError,
    ReinitError,
    UnknownNameError,
    UnsupportedFormatError,
)
from reinit_cli.lazy import dataclass
from reinit_cli.operations.devices import redrawing_device
from reinit_cli.operations.folder_facts import model_type_of
from reinit_cli.operations.redraw import gaps_of_redrawn, span_of
from reinit_cli.operations.remake import Finding, remade, request_of, tensors_of
from reinit_cli.operations.stats import unmeasurable
from reinit_cli.provenance.compare import Gap
from reinit_cli.provenance.digests import (
    Ranges,
    digests_of,
    filled_digests,
    joined,
)
from reinit_cli.provenance.record import (
    Form,
    is_whole,
    parse_record,
    torch_version,
)
from reinit_cli.provenance.recorded import (
    NOT_GIVEN,
    Given,
    RecordedFill,
    RecordReader,
)
from reinit_cli.storage.location import without_secrets
from reinit_cli.storage.stores import store_of
from reinit_cli.text import html_section, html_table, named, plural
from reinit_cli.threads import Progress, unwatched


@dataclass(frozen=True, slots=True, repr=False)
class Verdict:
    """The result of `verify`.

    Attributes:
        output: the name of the checkpoint.
        record: its record.
        drawn: the keys whose tensors were drawn again.
        undrawn: for each other filled key, why only its digest was compared.
        findings: the mismatches, in order.
        source: the source that it was rebuilt from, or None.
        constructor: how the constructor that drew again differs from the recorded one, or "".
    """

    output: str
    record: Form
    drawn: tuple[str, ...]
    undrawn: Mapping[str, str]
    findings: tuple[Finding, ...]
    source: str | None = None
    constructor: str = ""

    def __repr__(self) -> str:
        """Show whether it matches its record, and how many tensors were drawn again."""
        found = "; ".join(map(str, self.findings[:1]))
        more = f" and {len(self.findings) - 1} more" if self.findings[1:] else ""
        said = f": {named(found)}{more}" if found else ""
        return f"<Verdict for {named(self.output)}: {self._summary}{said}>"

    def _repr_html_(self) -> str:
        """Show in a notebook what does not match the record, and what was not drawn again."""
        findings = [(each.what, each.problem, str(each.gap or "")) for each in self.findings]
        undrawn = [(key, f"not drawn again: {why}", "") for key, why in self.undrawn.items()]
        rows = [*findings, *undrawn]
        table = html_table(("what", "problem", "difference"), rows) if rows else ""
        return html_section(f"{self.output}: {self._summary}", table)

    @property
    def _summary(self) -> str:
        matches = "matches its record" if self.holds else "does not match its record"
        return f"{matches}, {plural(len(self.drawn), 'tensor')} drawn again"

    @property
    def holds(self) -> bool:
        """Whether the checkpoint matches its record."""
        return not self.findings


def verify(
    output: str,
    *,
    source: str | StateSource | None = None,
    record: str | None = None,
    progress: Progress | None = None,
    allow_paths: Sequence[str] = (),
    given: Given = NOT_GIVEN,
) -> Verdict:
    """Draw again what a checkpoint's record says was drawn, and compare all with it.

    Args:
        output: the path of the checkpoint.
        source: what it was made from; then every byte is made again and compared.
        record: the path of the record; None where the checkpoint holds it.
        progress: told the number of bytes that are done.
        allow_paths: the folders, besides the current one, in which the record may name files.
        given: the architecture whose constructor `default` followed, if it is the user's own code.

    Raises:
        RecipeError: the record names a file elsewhere.
        RecordError: there is no record, or it cannot be read.
        ReinitError: the checkpoint or the source cannot be read.
    """
    found = _with_all_files(find_source(output))
    where, output = output, without_secrets(output)
    if found.located is None:
        raise RecordError(output, "it is a model, and no file with a record")
    with found.open(0) as contents:
        inside = contents.recorded() if record is None else {}
        text = _text_of(output, record, inside)
        form = parse_record(text, record or output)
        found = _at_root(found, where, form)
        if isinstance(found, FolderSource) and form.get("reset_optimizer"):
            found = with_optimizer(found)
    fetch(found, progress=progress or unwatched)
    with found.open(0) as contents:
        verdict = _verified(found, contents, form, inside, given, progress or unwatched)
        if not is_whole(form, text):
            changed = Finding("the record", "is not as it was written")
            verdict = replace(verdict, findings=(changed, *verdict.findings))
        if source is not None:
            in_memory = source if isinstance(source, StateSource) else None
            name = without_secrets(source) if isinstance(source, str) else source.name
            request = request_of(name, found, form, allow_paths, given)
            compared = remade(
                request, found, contents, form, inside, progress or unwatched, in_memory
            )
            findings = (*verdict.findings, *compared)
            verdict = replace(verdict, findings=findings, source=name)
        contents.check_unchanged()
    return verdict


def nbytes_to_verify(output: str, source: object | None) -> int:
    """Return how many bytes `verify` reads of an output, for a progress bar.

    Args:
        output: the path of the checkpoint, which need not exist.
        source: what it is compared with too, which reads it a second time.
    """
    nbytes = 0
    with suppress(ReinitError):  # which `verify` will say
        store = store_of(output)
        kind = store.kind_of(output)
        if kind == "folder":
            nbytes = sum(each.fingerprint.nbytes for each in store.list(output).files.values())
        elif kind == "file":
            with closing(store.open(output)) as file:
                nbytes = file.nbytes
    return nbytes if source is None else 2 * nbytes


def _at_root(found: Source, output: str, form: Form) -> Source:
    """Return the output with its state dict where the record says that it is."""
    root = form["source"].get("root")
    if root is None or found.located is None or found.located.root == root:
        return found
    try:
        return _with_all_files(find_source(output, root=root or "."))
    except (UnknownNameError, UnsupportedFormatError):
        return found  # it was converted


def _with_all_files(found: Source) -> Source:
    """Return an output with all its files, those included that `--copy` brought."""
    if not isinstance(found, FolderSource):
        return found
    located = found.located
    everything = (*located.others, *located.stale)
    return replace(found, located=located.with_others(everything))


def _text_of(output: str, path: str | None, inside: Mapping[str, Recorded]) -> str:
    """Return a record as it is written in an output, or in a file next to it."""
    if path is None:
        if not inside:
            raise RecordError(output, "it has no record")
        (recorded,) = inside.values()
        return recorded.text
    with closing(store_of(path).open(path)) as file:
        return record_text(file).removesuffix("\n")


def _verified(
    source: Source,
    contents: Contents,
    form: Form,
    inside: Mapping[str, Recorded],
    given: Given,
    progress: Progress,
) -> Verdict:
    rows = {str(row["key"]): row for row in form["filled"]}
    known = tensors_of(source)
    missing = {key: None for key in rows if key not in known or unmeasurable(known[key])}
    reading = RecordReader(source, form, given, partial(model_type_of, source))
    filled = [reading.filled(known[key], row) for key, row in rows.items() if key not in missing]
    again = [each for each in filled if not each.undrawn]
    device = redrawing_device(str(form["device"]), str(form["stream"]))
    gaps = gaps_of_redrawn(contents, again, device, progress)
    findings = [
        *(Finding(repr(key), "was filled, and is not there") for key in missing),
        *_changed(contents, filled, form, inside, gaps),
    ]
    told = {finding.what for finding in findings}
    findings += (
        Finding(repr(key), _otherwise(form, reading.other_constructor), gap)
        for key, gap in gaps.items()
        if repr(key) not in told
    )
    drawn = tuple(each.step.key for each in again)
    undrawn = {each.step.key: each.undrawn for each in filled if each.undrawn}
    other = reading.other_constructor
    return Verdict(source.name, form, drawn, undrawn, tuple(findings), constructor=other)


def _otherwise(form: Form, constructor: str) -> str:
    """Say what a tensor is that is as recorded and comes out otherwise here.

    Args:
        form: the record.
        constructor: how the constructor differs from the one that it names, or "".
    """
    if constructor:
        return "matches its record, but is drawn differently by this constructor"
    problem = "matches its record, but is drawn differently here, as on another kind of CPU"
    here = torch_version()
    return f"{problem} or by torch {form.get('torch')}" if form.get("torch") != here else problem


def _changed(
    contents: Contents,
    filled: Sequence[RecordedFill],
    form: Form,
    inside: Mapping[str, Recorded],
    gaps: Mapping[str, Gap],
) -> Iterator[Finding]:
    """Compare the digests with those that were recorded."""
    files = {
        name: digests_of(file.read, _ranges(name, file.nbytes, filled, inside))
        for name, file in contents.files().items()
        if name != RECORD_NAME
    }
    digests = filled_digests(files)
    for each in filled:
        if digests[each.step.key] != each.digest:
            yield Finding(repr(each.step.key), "does not match its record", gaps.get(each.step.key))
    rests = {name: (each.nbytes, each.rest) for name, each in files.items()}
    if joined(rests)[1] != form["rest"]["sha256"]:
        yield Finding("everything that was not filled", "does not match its record")


def _ranges(
    name: str, nbytes: int, filled: Sequence[RecordedFill], inside: Mapping[str, Recorded]
) -> Ranges:
    """Return what was filled in a file, and where its record is."""
    places = {
        each.step.key: tuple(sorted(span_of(place) for place in each.places if place.file == name))
        for each in filled
    }
    here = {key: spans for key, spans in places.items() if spans}
    return Ranges(nbytes, here, inside[name].ranges if name in inside else ())
