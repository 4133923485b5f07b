"""The functions that `reinit_cli` exports."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from reinit_cli.errors import OutputError
from reinit_cli.initializers.site import Arch
from reinit_cli.lazy import LazyModule
from reinit_cli.operations.apply import apply, plan_in_memory
from reinit_cli.operations.diff import compare, compare_keys, names_of
from reinit_cli.operations.prepare import job_of, prepare
from reinit_cli.operations.rewrite import Outcome, execute, plan_of, telling_ranks
from reinit_cli.operations.stats import WHOLE_MODULE, measurable, measure_source
from reinit_cli.operations.verify import Verdict, nbytes_to_verify
from reinit_cli.operations.verify import verify as verified
from reinit_cli.planning.plan import Plan
from reinit_cli.provenance.recorded import Given
from reinit_cli.python.bar import Watching, watched
from reinit_cli.python.given import (
    arguments_of,
    both_of,
    chosen_of,
    chosen_of_both,
    device_of,
    is_in_memory,
    memory_of,
    options_of,
    patterns_given,
    seed_of,
    source_of,
    stream_of,
    text_of_path,
)
from reinit_cli.python.hints import hinted
from reinit_cli.python.options import PlanOptions, RewriteOptions
from reinit_cli.python.results import Differences, Measurements
from reinit_cli.python.surroundings import in_main_memory
from reinit_cli.python.words import with_words_of_python
from reinit_cli.request.partial import RequestOptions
from reinit_cli.request.pattern import Pattern
from reinit_cli.request.rename import Rename
from reinit_cli.request.request import Request
from reinit_cli.request.rule import Rules, rules_of
from reinit_cli.storage.destination import exists
from reinit_cli.storage.folders import folders_above
from reinit_cli.streams.stream import DEFAULT_STREAM
from reinit_cli.tensors.distance import Tolerance

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")


@hinted()
@in_main_memory()
def plan(
    source: str | os.PathLike[str] | torch.nn.Module | Mapping[str, torch.Tensor],
    rules: Rules,
    **options: Unpack[PlanOptions],
) -> Plan:
    """Return what `rewrite` would do to every key, without reading a tensor.

    >>> plan("model.safetensors", "*.weight=kaiming_normal:relu")
    <Plan for model.safetensors: 2 of 4 tensors filled by 1 rule>

    Args:
        source: a path or URL, the name of a model, a module or a state dict.
        rules: as for `rewrite`.
        options: see `PlanOptions`.

    Raises:
        ReinitError: the plan cannot be made.
    """
    read = options_of("plan", options, PlanOptions)
    found = source_of(source, read.get("weights"), read.get("root"))
    request = Request(_name(source, found.name), rules_of(rules), **read)
    return with_words_of_python(plan_of(request, found))


@overload
def rewrite(
    source: str | os.PathLike[str] | torch.nn.Module | Mapping[str, torch.Tensor],
    rules: Rules,
    output: str | os.PathLike[str] | None = None,
    *,
    dry_run: Literal[False] = False,
    progress: Watching = False,
    **options: Unpack[RewriteOptions],
) -> Outcome: ...


@overload
def rewrite(
    source: str | os.PathLike[str] | torch.nn.Module | Mapping[str, torch.Tensor],
    rules: Rules,
    output: str | os.PathLike[str] | None = None,
    *,
    dry_run: Literal[True],
    progress: Watching = False,
    **options: Unpack[RewriteOptions],
) -> Plan: ...


@overload
def rewrite(
    source: str | os.PathLike[str] | torch.nn.Module | Mapping[str, torch.Tensor],
    rules: Rules,
    output: str | os.PathLike[str] | None = None,
    *,
    dry_run: bool,
    progress: Watching = False,
    **options: Unpack[RewriteOptions],
) -> Outcome | Plan: ...


@hinted()
@in_main_memory()
def rewrite(
    source: str | os.PathLike[str] | torch.nn.Module | Mapping[str, torch.Tensor],
    rules: Rules,
    output: str | os.PathLike[str] | None = None,
    *,
    dry_run: bool = False,
    progress: Watching = False,
    **options: Unpack[RewriteOptions],
) -> Outcome | Plan:
    """Re-initialize the tensors that rules match and write a new checkpoint.

    >>> rewrite("model.safetensors", {"2.weight": "normal:std=0.02", "2.bias": "zeros"}, "new.safetensors")
    <Outcome new.safetensors: 2 of 4 tensors filled by 2 rules, 11.3 kB>

    Args:
        source: a path or URL, the name of a model, a module or a state dict.
        rules: one or several: "features.*.weight=xavier_uniform:relu", a `Rule`, a list of
            these or of pairs, or a dictionary of patterns and initializers.
        output: a path, or None for the default name; required for a source in memory.
        dry_run: write nothing, and return the plan.
        progress: show a bar, or call this with the number of bytes done since the last call.
        options: see `RewriteOptions`.

    Raises:
        CheckFailedError: a draw does not follow its distribution; nothing is written then.
        ReinitError: the request cannot be carried out; nothing is written then.
    """
    read = options_of("rewrite", options, RewriteOptions)
    path = None if output is None else text_of_path(output, "output")
    if path is None and is_in_memory(source):
        raise OutputError(memory_of(source).name, kind="unnamed")
    is_root_new = read.get("to") is not None
    found = source_of(source, read.get("weights"), read.get("root"), is_root_new=is_root_new)
    request = Request(_name(source, found.name), rules_of(rules), path, **read)
    if request.skip_existing and exists((planned := job_of(request, found)).destination):
        return planned.plan if dry_run else Outcome(planned, {}, 0, 0.0, is_skipped=True)
    with telling_ranks(() if dry_run else (request,)):
        job = prepare(request, found)
    job = replace(job, plan=with_words_of_python(job.plan))
    if dry_run:
        return job.plan
    with (
        folders_above(() if request.rank else job.destinations),
        watched(progress, found.name, job.nbytes) as done,
    ):
        return execute(job, done).insist()


@hinted()
@in_main_memory()
def apply_(
    target: torch.nn.Module | Mapping[str, torch.Tensor],
    rules: Rules,
    *,
    seed: int = 0,
    stream: str = DEFAULT_STREAM,
    device: str | torch.device = "cpu",
    strict: bool = False,
    allow_unmatched: bool = False,
    arch: Arch | None = None,
    arch_args: Mapping[str, object] | None = None,
    reset_buffers: bool = False,
    saturate: bool = False,
    with_buffers: bool = False,
    optimizer: torch.optim.Optimizer | None = None,
    dry_run: bool = False,
    progress: Watching = False,
) -> Plan:
    """Re-initialize tensors of a module or a state dict in place, and return the plan.

    The values are the same that `rewrite` gives a checkpoint with the same keys.

    >>> model = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.Linear(64, 10))
    >>> apply_(model, "1.*=zeros")
    <Plan for Sequential: 2 of 4 tensors filled by 1 rule>
    >>> bool(model[1].weight.any())
    False

    Args:
        target: a module, with the keys of its state dict, or a mapping of keys to tensors.
        rules: as for `rewrite`.
        seed: the seed of the run; every key has its own random stream.
        stream: the random stream that values are drawn from: "philox", "torch", or the exact
            name of one, such as "torch-1".
        device: where values are drawn; the tensors stay where they are.
        strict: make every skipped tensor an error.
        allow_unmatched: allow a rule to match or fill nothing.
        arch: the architecture whose constructor `default` reproduces: a torchvision model's
            name, "timm:NAME", "./net.py:Class" or "package.module:Class", or a callable that
            returns a module; None for the `reset_parameters` of the module's own layers.
        arch_args: the arguments of that constructor, by their names.
        reset_buffers: reset running statistics next to filled weights.
        saturate: make numbers that are too large for a dtype its largest, not an error.
        with_buffers: the former name of `reset_buffers`.
        optimizer: reset its state for exactly the filled parameters, as if it were new.
        dry_run: change nothing, and return the plan.
        progress: show a bar, or call this with the number of bytes done since the last call.

    Raises:
        ReinitError: a rule cannot be applied, or a tensor cannot be read, drawn or written;
            nothing is changed then.
    """
    from reinit_cli.operations.optimizer_state import filled_parameters, reset

    source = memory_of(target)
    options: RequestOptions = {
        "seed": seed_of(seed),
        "stream": stream_of(stream),
        "device": device_of(device),
        "strict": strict,
        "allow_unmatched": allow_unmatched,
        "arch": arch,
        "arch_args": arguments_of(arch_args),
        "reset_buffers": reset_buffers or with_buffers,
        "saturate": saturate,
    }
    decided = plan_in_memory(source, Request(source.name, rules_of(rules), **options))
    held = filled_parameters(optimizer, decided) if optimizer is not None else []
    plan_ = with_words_of_python(decided.plan)
    if dry_run:
        decided.check()
        return plan_
    nbytes = sum(step.tensor.nbytes for step in decided.plan.fills)
    with watched(progress, source.name, nbytes) as done:
        apply(decided, done)
    if optimizer is not None:
        reset(optimizer, held)
    return plan_


@hinted()
@in_main_memory()
def diff(
    first: str | os.PathLike[str] | torch.nn.Module | Mapping[str, torch.Tensor],
    second: str | os.PathLike[str] | torch.nn.Module | Mapping[str, torch.Tensor],
    patterns: str | Iterable[Pattern | str] = (),
    *,
    rtol: float = 0.0,
    atol: float = 0.0,
    keys_only: bool = False,
    weights: str | os.PathLike[str] | None = None,
    root: str | None = None,
    seed: int = 0,
    stream: str = DEFAULT_STREAM,
    rename: str | Iterable[Rename | str] = (),
    progress: Watching = False,
) -> Differences:
    """Compare two sources; `differs` marks the keys that differ.

    >>> diff("model.safetensors", "model.safetensors")
    <Differences: 4 identical>

    Args:
        first: a path or URL, the name of a model, a module or a state dict.
        second: the source to compare it with, given in the same ways.
        patterns: the keys to compare; all if empty.
        rtol: the relative tolerance, as a share of the second's values.
        atol: the absolute tolerance.
        keys_only: compare keys, shapes and dtypes only, and read no tensors.
        weights: for a model: "DEFAULT", the name of its weights, "none" or a file.
        root: the path of the state dict in a torch file; None to find it.
        seed: the seed of models that are built without weights.
        stream: the random stream of these models.
        rename: new names for keys of the first source before they are compared, such as
            "module.*=*".
        progress: show a bar, or call this with the number of bytes done since the last call.

    Returns:
        One difference per key, in the order of the first source, then keys of the second only.

    Raises:
        ReinitError: a source cannot be read, a pattern is not valid, or a rename cannot be applied.
    """
    mine, theirs = both_of((first, second), weights, root, stream)
    names = names_of(mine, patterns_given(rename))
    is_chosen = chosen_of_both(mine, theirs, names, patterns).__contains__
    if keys_only:
        return Differences(compare_keys(mine, theirs, is_chosen, names))
    nbytes = sum(each.nbytes for each in mine.tensors if is_chosen(names.get(each.key, each.key)))
    with watched(progress, f"{mine.name} and {theirs.name}", nbytes) as done:
        tolerance = Tolerance(rtol, atol)
        return Differences(compare(mine, theirs, is_chosen, tolerance, seed_of(seed), done, names))


@hinted()
@in_main_memory()
def stats(
    source: str | os.PathLike[str] | torch.nn.Module | Mapping[str, torch.Tensor],
    patterns: str | Iterable[Pattern | str] = (),
    *,
    by: Literal["module"] | int | None = None,
    bins: int | None = None,
    weights: str | os.PathLike[str] | None = None,
    root: str | None = None,
    seed: int = 0,
    stream: str = DEFAULT_STREAM,
    progress: Watching = False,
) -> Measurements:
    """Measure the tensors or modules of a source, except tensors without values.

    >>> stats({"a.bias": torch.zeros(3)})[0]
    <Measured a.bias: mean 0, std 0, min 0, max 0>

    Args:
        source: a path or URL, the name of a model, a module or a state dict.
        patterns: the keys to measure; all if empty.
        by: how to group tensors: "module" by all but the last segment of the key, a number by
            that many segments, None not at all.
        bins: count the finite elements in this many bins; None for no histogram.
        weights: for a model: "DEFAULT", the name of its weights, "none" or a file.
        root: the path of the state dict in a torch file; None to find it.
        seed: the seed of a model that is built without weights.
        stream: the random stream of this model.
        progress: show a bar, or call this with the number of bytes done since the last call.

    Raises:
        ReinitError: the source cannot be read, or a pattern is not valid.
    """
    found = source_of(source, weights, root, stream)
    tensors, _ = measurable(found, chosen_of(found, patterns))
    if isinstance(by, str) and by != "module":
        raise TypeError(f"by must be 'module' or an integer, not {by!r}")
    depth = WHOLE_MODULE if by == "module" else by
    nbytes = sum(each.nbytes for each in tensors) * (2 if bins else 1)
    with watched(progress, found.name, nbytes) as done:
        return Measurements(measure_source(found, tensors, depth, seed_of(seed), done, bins=bins))


@hinted()
@in_main_memory()
def verify(
    output: str | os.PathLike[str],
    *,
    source: str | os.PathLike[str] | torch.nn.Module | Mapping[str, torch.Tensor] | None = None,
    record: str | os.PathLike[str] | None = None,
    progress: Watching | None = False,
    allow_paths: Sequence[str | os.PathLike[str]] = (),
    arch: Arch | None = None,
    arch_args: Mapping[str, object] | None = None,
) -> Verdict:
    """Verify a checkpoint against its record: draw filled tensors again and compare everything.

    >>> made = rewrite("model.safetensors", "2.weight=orthogonal", "recorded.safetensors", record=True)
    >>> verify("recorded.safetensors", source="model.safetensors")
    <Verdict for recorded.safetensors: matches its record, 1 tensor drawn again>

    Args:
        output: the path of the checkpoint.
        source: the source it was made from, to rebuild and compare every byte; or None.
        record: the path of a separate record; None if the checkpoint holds it.
        progress: show a bar, or call this with the number of bytes done since the last call.
        allow_paths: folders, in addition to the current one, in which the record may name files.
        arch: the architecture that `default` followed, where that is your own code, which a
            record never runs.
        arch_args: the arguments of its constructor; None for those in the record.

    Raises:
        RecipeError: the record names a file outside these folders.
        RecordError: there is no record, or it cannot be read.
        ReinitError: the checkpoint or the source cannot be read.
    """
    path = text_of_path(output, "output")
    made_from: Any = source
    if source is not None:
        made_from = memory_of(source) if is_in_memory(source) else text_of_path(source, "source")
    beside = None if record is None else text_of_path(record, "record")
    what = "an entry of allow_paths"
    allowed = [text_of_path(each, what) for each in patterns_given(allow_paths)]
    given = Given(arch, arguments_of(arch_args))
    with watched(progress or False, path, nbytes_to_verify(path, source)) as done:
        return verified(
            path, source=made_from, record=beside, progress=done, allow_paths=allowed, given=given
        )


def _name(given: object, name: str) -> str:
    """Return what a request calls its source: as the user wrote it, where that is a text."""
    return text_of_path(given, "a source") if not is_in_memory(given) else name
