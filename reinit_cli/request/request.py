"""Hold what a user asks for, and the table of its fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, TypedDict, cast

from reinit_cli.initializers.site import Arch
from reinit_cli.request import values
from reinit_cli.request.bounds import Bounds
from reinit_cli.request.cast import Casts, as_asked_for, casts_of
from reinit_cli.request.output_name import OutputName
from reinit_cli.request.pattern import Pattern, patterns_of
from reinit_cli.request.rename import Rename, renames_of
from reinit_cli.request.resize import Resize, resizes_of
from reinit_cli.request.rule import Rule


@dataclass(frozen=True, slots=True)
class Option:
    """How a field of a request is described, read and written.

    Attributes:
        meaning: a sentence, without its capital and full stop.
        name: its name in recipes, plans and records; "" where none of them may say it.
        read: returns its value from that of a recipe; raises ValueError saying what it must be.
        written: returns its value as plans and records have it.
        several: its name where a recipe gives several values, with an output for each; or "".
        was: its name in older recipes, which plans and records keep; or "".
        is_newer: whether plans and records leave it out where it is not asked for, so that they
            stay what they were before there was such an option.
        is_of_command: whether plans and records leave it out always, since each is of one output
            and this says which outputs are made.
    """

    meaning: str
    name: str = ""
    read: Callable[[object], object] = values.read_text
    written: Callable[[Any], object] = lambda value: value
    several: str = ""
    was: str = ""
    is_newer: bool = False
    is_of_command: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks for."""

    source: str
    rules: tuple[Rule | str, ...]
    output: str | OutputName | None = None
    _: KW_ONLY
    weights: str | None = None
    root: str | None = None
    seed: int = 0
    device: str = "cpu"
    strict: bool = False
    allow_unmatched: bool = False
    dtype: Casts = None
    saturate: bool = False
    shard_nbytes: int | None = None
    tensors_only: bool = False
    fix_index: bool = False
    copy: Sequence[Pattern | str] = ()
    safe_pickle: bool = False
    verify_crc: bool = True
    arch: Arch | None = None
    rename: Sequence[Rename | str] = ()
    drop: Sequence[Pattern | str] = ()
    only: Sequence[Pattern | str] = ()
    resize: Sequence[Resize | str] = ()
    num_classes: int | None = None
    reset_buffers: bool = False
    untie: bool = False
    keep_config: bool = False
    reset_optimizer: bool = False
    optimizer_order: str | None = None
    allow_paths: Sequence[str] | Bounds = ()
    record: str | bool = False
    check: bool = False
    force: bool = False
    skip_existing: bool = False
    in_place: bool = False
    fsync: bool = False
    measure_before: bool = False
    sketch: bool = False

    @property
    def reshapes(self) -> bool:
        """Whether it asks for other shapes or places of tensors."""
        return bool(self.resize) or self.num_classes is not None or self.untie

    @property
    def changes_entries(self) -> bool:
        """Whether it asks for other entries: their dtypes, shapes, places, keys or number."""
        return bool(self.dtype or self.reshapes or self.selects)

    @property
    def selects(self) -> bool:
        """Whether it asks for other keys than those of the source."""
        return bool(self.rename or self.drop or self.only)


def _written_dtype(casts: Casts) -> object:
    """Return the dtypes of a request as plans and records have them."""
    found = as_asked_for(casts_of(casts))
    return found if found is None or isinstance(found, str) else list(found)


OPTIONS: Mapping[str, Option] = {
    "source": Option("a model's name or a path", "source", values.read_sources, several="sources"),
    "rules": Option("in the order of precedence, the last first to own", "rule"),
    "output": Option(
        'a path, the form of one, a folder that takes it under its own name, "-" for standard '
        "output, or None for the default name",
        "output",
    ),
    "weights": Option(
        'for a model: "DEFAULT", the name of its weights, "none" or a file', "weights"
    ),
    "root": Option(
        "the path of the state dict in what a torch file holds; None to look for it", "root"
    ),
    "seed": Option(
        "the seed of the whole run; every key has its own stream",
        "seed",
        values.read_seeds,
        several="seeds",
    ),
    "device": Option("where values are drawn", "device", values.read_device),
    "strict": Option("whether every skip is an error", "strict", values.read_flag),
    "allow_unmatched": Option(
        "whether a rule that matches or fills nothing is only a warning",
        "allow_unmatched",
        values.read_flag,
    ),
    "dtype": Option(
        "what floating tensors are cast to, by torch's name; None to leave them. Several texts "
        'such as "*norm*=float32" cast some of them, and the last that matches decides',
        "dtype",
        values.read_dtype,
        _written_dtype,
    ),
    "saturate": Option(
        "whether a cast makes numbers beyond the dtype its largest; otherwise they are an error",
        "saturate",
        values.read_flag,
        is_newer=True,
    ),
    "shard_nbytes": Option(
        "write a folder of safetensors files, with so many bytes of tensors in each at most; "
        "None where the output's name decides",
        "shard_size",
        values.read_nbytes,
    ),
    "tensors_only": Option(
        "whether the output holds the state dict's tensors and nothing else of the source",
        "tensors_only",
        values.read_flag,
        was="drop_non_tensors",
    ),
    "fix_index": Option(
        "whether a folder gets a new index where that of its shards is missing or wrong",
        "fix_index",
        values.read_flag,
        is_newer=True,
    ),
    "copy": Option(
        "globs on the paths of files in a folder, which are copied even where they would be left "
        "out next to new weights",
        "copy",
        values.read_patterns,
        lambda patterns: [each.text for each in patterns_of(patterns)],
        is_newer=True,
    ),
    "safe_pickle": Option(
        "whether names in a pickle that torch does not allow are an error",
        "safe_pickle",
        values.read_flag,
        was="refuse_unknown_globals",
    ),
    "verify_crc": Option(
        "whether a CRC-32 that does not match stops the run", "verify_crc", values.read_flag
    ),
    "arch": Option(
        "whose constructor `default` follows: a torchvision model's name, or what makes a "
        "module; None where the source is a model, or no rule asks",
        "arch",
        written=lambda arch: arch if isinstance(arch, str) else None,
    ),
    "rename": Option(
        "which keys get other names, each given the names that those before it gave: "
        '"module.*=*", where each star takes the text of one on the left',
        "rename",
        values.read_renames,
        lambda renames: [each.text for each in renames_of(renames)],
        is_newer=True,
    ),
    "drop": Option(
        "which tensors are left out, by their keys in the source",
        "drop",
        values.read_patterns,
        lambda patterns: [each.text for each in patterns_of(patterns)],
        is_newer=True,
    ),
    "only": Option(
        "which tensors are taken, by their keys in the source; all where none is named",
        "only",
        values.read_patterns,
        lambda patterns: [each.text for each in patterns_of(patterns)],
        is_newer=True,
    ),
    "resize": Option(
        "which tensors get another first dimension, and what fills rows that were not there, "
        'in the order of precedence: "embed.weight=50300:mean"',
        "resize",
        values.read_resizes,
        lambda resizes: [each.text for each in resizes_of(resizes)],
    ),
    "num_classes": Option(
        "how many classes a model is to tell apart, its head drawn by its own default; None for "
        "as many as it does",
        "num_classes",
        values.read_count,
    ),
    "reset_buffers": Option(
        "whether running statistics are reset with the weights beside them",
        "reset_buffers",
        values.read_flag,
        was="with_buffers",
    ),
    "untie": Option("whether tied keys become tensors of their own", "untie", values.read_flag),
    "keep_config": Option(
        "whether the config.json of a folder stays as it is where tensors are resized, cast or "
        "untied",
        "keep_config",
        values.read_flag,
        is_newer=True,
    ),
    "reset_optimizer": Option(
        "whether the optimizer's slots of what is filled become what a new one starts with",
        "reset_optimizer",
        values.read_flag,
    ),
    "optimizer_order": Option(
        "a file with the keys of the optimizer's parameters, group after group, one in each "
        'line; "ndim" where matrices come first, and then the others; None to look for it',
        "optimizer_order",
        is_newer=True,
    ),
    "allow_paths": Option(
        "the folders, besides the current one, in which recipes, plans and records may name "
        "files, and to which the weights of a folder may be links"
    ),
    "record": Option(
        "whether a record of what made the output goes into it, or the path it goes to",
        "record",
        values.read_flag,
        lambda record: record is True,
    ),
    "check": Option("whether each draw is tested against its law"),
    "force": Option("whether an existing output is replaced"),
    "skip_existing": Option(
        "whether a source whose output exists already is skipped, whatever that output holds",
        "skip_existing",
        values.read_flag,
        is_of_command=True,
    ),
    "in_place": Option("whether the source is replaced by the output"),
    "fsync": Option("whether a new output too is forced to the disk"),
    "measure_before": Option("whether the tensors that are filled are measured as they were"),
    "sketch": Option("whether histograms of what was there and what is drawn are counted"),
}
"""Each field of a request, in the order in which plans and records list them."""

FORMER = {option.was: name for name, option in OPTIONS.items() if option.was} | {"sync": "fsync"}
"""What fields were called before, in Python too; records and plans still have the names of some."""

NESTED = ("source", "rules", "output", "weights", "root")
"""The fields that plans and records hold in an object of their own, with what they know of it."""


class PlainPlanOptions(TypedDict, total=False):
    """The options of a plan that are of one type, whoever gives them."""

    root: str | None
    seed: int
    strict: bool
    allow_unmatched: bool
    arch: Arch | None
    rename: Sequence[Rename | str]
    drop: Sequence[Pattern | str]
    only: Sequence[Pattern | str]
    resize: Sequence[Resize | str]
    num_classes: int | None
    reset_buffers: bool
    untie: bool
    reset_optimizer: bool


class PlainOptions(PlainPlanOptions, total=False):
    """The options of a run that are of one type, whoever gives them."""

    keep_config: bool
    saturate: bool
    tensors_only: bool
    fix_index: bool
    copy: Sequence[Pattern | str]
    safe_pickle: bool
    verify_crc: bool
    check: bool
    force: bool
    skip_existing: bool
    in_place: bool
    fsync: bool
    measure_before: bool
    sketch: bool


class RequestOptions(PlainOptions, total=False):
    """The options of a request, once what Python users give for them is read."""

    weights: str | None
    device: str
    optimizer_order: str | None
    allow_paths: Sequence[str] | Bounds
    dtype: Casts
    shard_nbytes: int | None
    record: str | bool


class PartialRequest(RequestOptions, total=False):
    """A request with gaps, as a recipe or a command line gives it; a gap is a key that is missing."""

    rules: tuple[Rule, ...]
    sources: tuple[str, ...]
    seeds: tuple[int, ...]
    output: str | OutputName


def override(lower: PartialRequest, upper: PartialRequest) -> PartialRequest:
    """Merge two requests with gaps: the upper overrides, and its rules come later.

    So do its resizes, its renames, and what it drops or takes.

    The output, weights and root of the lower are dropped with its source.
    """
    with_source = ("output", "weights", "root")
    has_other = lower.get("sources") not in (None, upper.get("sources"))
    if "sources" in upper and has_other:
        lower = without(lower, *with_source)
    both: PartialRequest = {**lower, **upper}
    both["rules"] = (*lower.get("rules", ()), *upper.get("rules", ()))
    both["resize"] = (*lower.get("resize", ()), *upper.get("resize", ()))
    if rename := (*lower.get("rename", ()), *upper.get("rename", ())):
        both["rename"] = rename
    if drop := (*lower.get("drop", ()), *upper.get("drop", ())):
        both["drop"] = drop
    if only := (*lower.get("only", ()), *upper.get("only", ())):
        both["only"] = only
    if copy := (*lower.get("copy", ()), *upper.get("copy", ())):
        both["copy"] = copy
    return both


def without(asked: PartialRequest, *names: str) -> PartialRequest:
    """Return a request with more gaps."""
    left = {name: value for name, value in asked.items() if name not in names}
    return cast("PartialRequest", left)


def options_form(request: Request) -> dict[str, object]:
    """Return the options of a request, as plans and records have them."""
    return {
        option.was or option.name: option.written(getattr(request, name))
        for name, option in OPTIONS.items()
        if option.name and name not in NESTED and not option.is_of_command
        if getattr(request, name) or not option.is_newer
    }


def described(names: Iterable[str]) -> str:
    """Return what follows the first line of the docstring of something with these fields."""
    lines = (f"    {name}: {OPTIONS[name].meaning}." for name in names)
    return "\n".join(("", "", "Attributes:", *lines))


# The table holds each sentence once, and help() shows it.
Request.__doc__ = f"{Request.__doc__}{described(OPTIONS)}"
