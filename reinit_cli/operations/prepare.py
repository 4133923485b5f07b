"""Turn a request into a job: find the source, decide, and choose the output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from reinit_cli.checkpoints.fetching import doubts_about_files
from reinit_cli.checkpoints.folder import FolderSource, looked_into
from reinit_cli.checkpoints.model import ModelSource, drawn_from
from reinit_cli.checkpoints.models.named import arch_given
from reinit_cli.checkpoints.references import References, find_references
from reinit_cli.checkpoints.source import Source, doubts_about
from reinit_cli.checkpoints.state import StateSource
from reinit_cli.checkpoints.trained import with_optimizer
from reinit_cli.errors import (
    MalformedFileError,
    MissingRuleError,
    OutputError,
    RuleError,
    UnsupportedFormatError,
    UnwritableContentError,
)
from reinit_cli.execution.assemble import check_changes
from reinit_cli.execution.sketches import pictured
from reinit_cli.initializers.site import Arch, Elsewhere, Versions
from reinit_cli.lazy import dataclass
from reinit_cli.operations.bounds import (
    check_links,
    check_output,
    check_reads,
)
from reinit_cli.operations.devices import with_device
from reinit_cli.operations.entries import entries_of
from reinit_cli.operations.layers import layers_for
from reinit_cli.operations.masks import with_masks
from reinit_cli.operations.optimizer_order import order_of
from reinit_cli.operations.output_place import destination_of, refuse_conflicts
from reinit_cli.operations.rounds import repeated_changes
from reinit_cli.operations.sought import source_for
from reinit_cli.planning.counted import LABELS, counted_as
from reinit_cli.planning.decide import decide as planned
from reinit_cli.planning.entries import as_asked
from reinit_cli.planning.folder_files import files_to_copy
from reinit_cli.planning.job import Job
from reinit_cli.planning.memory import refuse_too_large
from reinit_cli.planning.outgrown import copied_state, outgrown
from reinit_cli.planning.output import (
    Layout,
    Rewritten,
    choose_layout,
    content_notes,
    content_of,
    layout_for,
    source_notes,
)
from reinit_cli.planning.plan import Plan
from reinit_cli.planning.reshape import RESIZE, RESIZE_VERSION
from reinit_cli.request.bounds import Bounds
from reinit_cli.request.cast import as_asked_for, casts_of
from reinit_cli.request.pattern import Pattern, patterns_of
from reinit_cli.request.ranks import check_ranks
from reinit_cli.request.rename import renames_of
from reinit_cli.request.request import Request
from reinit_cli.request.resize import resizes_of
from reinit_cli.request.rule import rules_of
from reinit_cli.storage.attributes import lost_with
from reinit_cli.storage.destination import (
    CHECKPOINT,
    Destination,
    check_destination,
    check_extra_file,
    check_not_inside,
)
from reinit_cli.storage.location import DASH
from reinit_cli.storage.memory import limits
from reinit_cli.text import plural


@dataclass(frozen=True, slots=True)
class Decided:
    """A plan, and what it refers to.

    Attributes:
        plan: what happens to every key.
        references: what the rules refer to besides the source.
    """

    plan: Plan
    references: References


def decide(source: Source, request: Request, versions: Versions | None = None) -> Decided:
    """Decide what happens to every key of a source.

    Args:
        source: what is read.
        request: what is asked for; its rules and resizes are read.
        versions: those of initializers and of resizing, where a record names them.

    Raises:
        RuleError: a rule, a resize or the optimizer's reset cannot be obeyed.
        TensorError: this process cannot have the memory that a draw needs.
    """
    wanted = request.num_classes
    arch = arch_given(request.arch, request.arch_args or {}, source)
    own = arch if source.architecture is None else arch_given(None, {}, source)
    heads = heads_of(source, own, wanted) if wanted is not None else {}
    resizing = Elsewhere(versions=versions).version_of(RESIZE, RESIZE_VERSION)
    choosing = layers_for(_choosing(request), source, arch)
    saved = entries_of(source, request.root)
    saved = replace(saved, order=order_of(request), layers=choosing)
    entries = as_asked(saved, request, heads, resizing)
    rules = rules_of(request.rules)
    rows = (each.init for each in entries.reshapes.values() if each.init is not None)
    inits = (*(rule.init for rule in rules), *rows)
    layers = source.layers if isinstance(source, StateSource) else None
    masks = [rule.mask for rule in rules if rule.mask]
    references = find_references(inits, entries.tensors, arch, layers, entries.origins, masks)
    elsewhere = replace(references.elsewhere, versions=versions)
    plan = with_masks(planned(entries, request, elsewhere), references)
    if versions is None:
        plan = replace(plan, warnings=(*plan.warnings, *repeated_changes(source, plan)))
    refuse_too_large(plan, limits())
    return Decided(plan, references)


def _choosing(request: Request) -> Iterator[Pattern]:
    """Yield the patterns that choose tensors before rules do."""
    yield from patterns_of((*request.only, *request.drop))
    yield from (each.pattern for each in casts_of(request.dtype))
    yield from (each.pattern for each in resizes_of(request.resize))


def heads_of(source: Source, arch: Arch | None, num_classes: int) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes of the tensors of a model that depend on how many classes it has.

    Args:
        source: the model, or a checkpoint of it.
        arch: the model.
        num_classes: how many it is to have.

    Raises:
        RuleError: the source is not a model that tells classes apart.
    """
    from reinit_cli.checkpoints.models.heads import classifier, heads
    from reinit_cli.checkpoints.models.starts import endings

    if num_classes < 1:
        raise RuleError(source.name, f"has at least a class, not {num_classes}", kind="classes")
    model = classifier(arch)
    if model is None:
        problem = "is a checkpoint: name its model with --arch, or --resize its head"
        raise RuleError(
            source.name, problem, _heads_of_labels(source), kind="classes", word=str(num_classes)
        )
    made = heads(model, num_classes)
    found = {
        tensor.key: shape
        for tensor in source.tensors
        if (shape := next(filter(None, map(made.get, endings(tensor.key))), None))
    }
    if not found:
        raise RuleError(
            source.name,
            f"has no head of {model.name}",
            _heads_of_labels(source),
            kind="classes",
            word=str(num_classes),
        )
    return found


def _heads_of_labels(source: Source) -> Sequence[str]:
    """Return the keys of weights that by their names are of heads of labels."""
    return [
        tensor.key
        for tensor in source.tensors
        if len(tensor.shape) > 1 and tensor.key.endswith(".weight")
        if LABELS in counted_as(tensor.key)
    ]


def prepare(request: Request, found: Source | None = None) -> Job:
    """Decide everything that a run does, without writing a byte.

    Args:
        request: what is asked for.
        found: the request's source where it was found already.

    Raises:
        ReinitError: the request cannot be fulfilled.
    """
    job = job_of(request, found)
    check_ranks(replace(job.request, output=job.destination.path or DASH))
    check_links((job.source,), job.request)
    reads, path = job.reads, job.destination.path
    check_destination(job.destination, job.source.path, reads, in_place=request.in_place)
    if job.source.is_folder and job.layout.format.is_folder:
        check_not_inside(job.destination, job.source.path)
    in_use = {**reads, path: CHECKPOINT} if path is not None else reads
    for record in job.destinations[1:]:
        check_extra_file(record.path or "", in_use, "record", replaces=request.force)
    check_changes(job)
    lost = (note for each in job.destinations for note in lost_with(each))
    return replace(job, plan=replace(job.plan, warnings=(*job.plan.warnings, *lost)))


def job_of(request: Request, found: Source | None = None, versions: Versions | None = None) -> Job:
    """Return a request after every check but those of the place where the output goes.

    Args and raises: as `prepare`, and the versions of initializers that a record names.
    """
    request = _read(request)
    check_reads(request)
    source = found or source_for(request)
    source = with_state(source, request, versions)
    _check_names(source, refuses=request.safe_pickle)
    request = with_device(request)
    destination = destination_of(request, source)
    check_output(request, destination.path)
    layout = choose_layout(request, destination.path, source)
    # A recipe without rules is most likely one that came out empty; a record may be of a copy.
    has_recipe = isinstance(request.allow_paths, Bounds) and versions is None
    is_copy = request.fix_index or (request.output is not None and not has_recipe)
    if not request.rules and isinstance(layout, Rewritten) and not is_copy:
        raise MissingRuleError(request.called)
    decided = decide(source, request, versions)
    layout = layout_for(decided.plan, source, layout)
    read = [each.origin for each in decided.plan.steps if each.is_filled or layout.is_created]
    if (looked := looked_into(source, read)) is not source:
        source, decided = looked, decide(looked, request, versions)
    donors = decided.references.donors.values()
    check_links(donors, request)
    _check_content(request, source, destination, layout)
    check_faults(source, request, is_created=layout.is_created)
    source, left_out = _with_files(source, decided.plan, layout)
    doubts = [doubt for donor in donors for doubt in doubts_about(donor)]
    doubts += doubts_about_files(source)
    notes = (*_notes(decided.plan, source, destination, layout), *left_out, *doubts)
    plan = replace(decided.plan, warnings=(*decided.plan.warnings, *notes))
    texts: Mapping[str, str] = {}
    if request.dtype is not None or request.reshapes:
        from reinit_cli.operations.configs import followed

        configs = followed(source, plan, layout)
        warnings = (*plan.warnings, *configs.warnings)
        plan, texts = replace(plan, warnings=warnings, config=configs.changes), configs.texts
    wanted = pictured(plan) if request.sketch else frozenset()
    return Job(source, plan, destination, layout, wanted, decided.references, texts=texts)


def with_state(source: Source, request: Request, versions: Versions | None = None) -> Source:
    """Return a source with the optimizer in its folder, where that is to be reset.

    A model without weights is drawn from the stream that is asked for.

    Raises:
        SourceError: it cannot be read.
    """
    if isinstance(source, FolderSource) and request.reset_optimizer:
        return with_optimizer(source)
    return drawn_from(source, request.stream, versions)


def _read(request: Request) -> Request:
    """Read the texts of a request.

    Raises:
        ReinitError: one of them is wrong, or nothing is asked for.
    """
    rules, resizes = rules_of(request.rules), resizes_of(request.resize)
    refuse_conflicts(request)
    check_ranks(request)
    if request.shard_nbytes is not None and request.shard_nbytes < 1:
        raise OutputError("", f"shards have at least a byte, not {request.shard_nbytes}")
    if not all(request.new_root):
        raise OutputError("", f"--root {request.root} has an empty name between its dots")
    changes = request.changes_entries or request.tensors_only
    asks = request.makes_folder or request.fix_index or changes
    if not (rules or asks or request.output not in (None, DASH)):
        raise MissingRuleError(request.called)
    return replace(
        request,
        dtype=as_asked_for(casts_of(request.dtype)),
        rules=rules,
        resize=resizes,
        rename=renames_of(request.rename),
        drop=patterns_of(request.drop),
        only=patterns_of(request.only),
    )


def _check_content(
    request: Request, source: Source, destination: Destination, layout: Layout
) -> None:
    """Refuse what the output cannot do or hold.

    Raises:
        RuleError: a new file has no optimizer state to reset.
        UnwritableContentError: it cannot hold a provenance record.
        OutputError: it cannot be taken back when a check fails.
    """
    path = destination.path
    if request.reset_optimizer and layout.is_created:
        problem = "it is lost where a file is laid out anew"
        raise RuleError(source.name, problem, kind="optimizer")
    if request.record is True and (path is None or not layout.format.holds_record):
        place = "standard output" if path is None else repr(path)
        raise UnwritableContentError(path or DASH, place, kind="record")
    if request.check and path is None:
        raise OutputError(DASH, kind="check")


def _notes(plan: Plan, source: Source, destination: Destination, layout: Layout) -> tuple[str, ...]:
    """Return what a user should know of the source and of the output.

    Raises:
        UnwritableContentError: the output's format cannot hold something.
    """
    content = content_of(source, tuple(step.tensor for step in plan.steps))
    changed = content_notes(source, content, destination.path, layout, plan.request)
    located = source.located
    kept = located.optimizers if located is not None and not layout.is_created else ()
    return (
        *source_notes(source, plan.request),
        *_undrawn(plan, source),
        *changed,
        *outgrown(plan, kept),
    )


def _undrawn(plan: Plan, source: Source) -> Iterator[str]:
    """Say which tensors of a model are not as its weights have them, or as its streams draw them."""
    if not isinstance(source, ModelSource):
        return
    yield from source.model.changes(source.tensors)
    if not source.is_drawn:
        return
    keys = {step.origin for step in plan.steps if not step.is_filled}
    found = list(source.undrawn(keys))
    if found:
        key, why = found[0]
        more = f" and {plural(len(found) - 1, 'more tensor')}" if found[1:] else ""
        yield (
            f"{key!r}{more} of {source.name} cannot be drawn one by one ({why}): torch draws the "
            "model as a whole, and they are taken from it"
        )


def check_faults(source: Source, request: Request, *, is_created: bool = False) -> None:
    """Refuse to rewrite a folder whose index is missing or wrong, unless it is to be mended.

    Args:
        source: what is read.
        request: what is asked for.
        is_created: whether new files are written, which need no index of the source's.

    Raises:
        MalformedFileError: it is to be rewritten as it is.
    """
    faults = source.located.faults if source.located else ()
    if request.fix_index or (is_created and all(fault.is_lack_alone for fault in faults)):
        return
    if faults:
        problem = "; ".join(fault.problem for fault in faults)
        raise MalformedFileError(source.path or source.name, problem, "shards")


def _with_files(source: Source, plan: Plan, layout: Layout) -> tuple[Source, tuple[str, ...]]:
    """Return a source whose other files are those that are copied, and what is left out.

    Raises:
        OutputError: files are asked for where there is no folder to copy them from, or to.
        UnknownNameError: a file is asked for that is not there.
    """
    if not isinstance(source, FolderSource) or not layout.format.is_folder:
        if plan.request.copy:
            raise OutputError(source.name, kind="copy")
        return source, ()
    files = files_to_copy(source.located, source.sizes, plan, source.tensors)
    notes = (
        *files.notes(source.path, source.located.unreachable),
        *copied_state(plan, files.copied),
    )
    return replace(source, located=source.located.with_others(files.copied)), notes


def _check_names(source: Source, *, refuses: bool) -> None:
    names = source.located.unknown_names if source.located else ()
    if names and refuses:
        raise UnsupportedFormatError(source.path or source.name, ", ".join(names), kind="names")
