"""Hold what a user asks for, and the table of its fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY
from typing import Any

from reinit_cli.initializers.arch import Arguments
from reinit_cli.initializers.site import Arch
from reinit_cli.lazy import dataclass
from reinit_cli.request import values
from reinit_cli.request.bounds import Bounds
from reinit_cli.request.cast import Casts, as_asked_for, casts_of
from reinit_cli.request.output_name import OutputName
from reinit_cli.request.pattern import Pattern, patterns_of
from reinit_cli.request.rename import Rename, renames_of
from reinit_cli.request.resize import Resize, resizes_of
from reinit_cli.request.rule import Rule
from reinit_cli.storage.location import without_secrets
from reinit_cli.streams.stream import DEFAULT_STREAM


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
    """A request: everything that a user asks for."""

    source: str
    rules: tuple[Rule | str, ...]
    output: str | OutputName | None = None
    _: KW_ONLY
    weights: str | None = None
    root: str | None = None
    seed: int = 0
    stream: str = DEFAULT_STREAM
    device: str = "cpu"
    strict: bool = False
    allow_unmatched: bool = False
    dtype: Casts = None
    saturate: bool = False
    to: str | None = None
    shard_nbytes: int | None = None
    tensors_only: bool = False
    fix_index: bool = False
    copy: Sequence[Pattern | str] = ()
    safe_pickle: bool = False
    verify_crc: bool = True
    arch: Arch | None = None
    arch_args: Arguments | None = None
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
    rank: int | None = None
    world_size: int | None = None
    run_id: str | None = None
    timeout: float = 600.0
    resume: bool = False
    measure: bool = True
    measure_before: bool = False
    sketch: bool = False

    @property
    def called(self) -> str:
        """Its source as it may be shown and kept: a URL may have what is secret."""
        return without_secrets(self.source)

    @property
    def reshapes(self) -> bool:
        """Whether it asks for other shapes or places of tensors."""
        return bool(self.resize) or self.num_classes is not None or self.untie

    @property
    def changes_entries(self) -> bool:
        """Whether it asks for other entries: their dtypes, shapes, places, keys or number."""
        return bool(self.dtype or self.reshapes or self.selects)

    @property
    def is_shared(self) -> bool:
        """Whether several processes write the output together."""
        return self.world_size is not None and self.world_size > 1

    @property
    def makes_folder(self) -> bool:
        """Whether it asks for a new folder, whatever the output is called."""
        return self.to is not None or self.shard_nbytes is not None

    @property
    def new_root(self) -> tuple[str, ...]:
        """The keys that lead to the state dict in a new DCP folder; none for the whole."""
        is_nested = self.to is not None and self.root not in (None, "", ".")
        return tuple((self.root or "").split(".")) if is_nested else ()

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
    "rules": Option("the rules in order; the last matching rule wins", "rule"),
    "output": Option(
        'a path, a name template, a folder to put it in, "-" for standard output, or None for '
        "the default name",
        "output",
    ),
    "weights": Option(
        'for a model: "DEFAULT", the name of its weights, "none" or a file', "weights"
    ),
    "root": Option("the path of the state dict in a torch file; None to find it", "root"),
    "seed": Option(
        "the seed of the run; every key has its own random stream",
        "seed",
        values.read_seeds,
        several="seeds",
    ),
    "stream": Option(
        'the random stream that values are drawn from: "philox", "torch", or the exact name of '
        'one, such as "torch-1"',
        "stream",
        values.read_stream,
    ),
    "device": Option("where values are drawn", "device", values.read_device),
    "strict": Option("whether a skipped tensor is an error", "strict", values.read_flag),
    "allow_unmatched": Option(
        "whether a rule that matches or fills nothing is only a warning",
        "allow_unmatched",
        values.read_flag,
    ),
    "dtype": Option(
        "the dtype to cast floating-point tensors to, by torch's name; None to leave them "
        'unchanged. Strings such as "*norm*=float32" cast some of them; the last match decides',
        "dtype",
        values.read_dtype,
        _written_dtype,
    ),
    "saturate": Option(
        "whether casts and draws clamp numbers that are too large for the dtype; otherwise they "
        "are an error",
        "saturate",
        values.read_flag,
        is_newer=True,
    ),
    "to": Option(
        'the layout of the output: "dcp" for a folder of torch.distributed.checkpoint, with keys '
        "under `root`; None to let the output's name decide",
        "to",
        values.read_layout,
        is_newer=True,
    ),
    "shard_nbytes": Option(
        "the most bytes of tensors per file, for a folder of safetensors files or with `to`; None "
        "to let the output's name decide",
        "shard_size",
        values.read_nbytes,
    ),
    "tensors_only": Option(
        "whether to write only the tensors of the state dict and nothing else of the source",
        "tensors_only",
        values.read_flag,
        was="drop_non_tensors",
    ),
    "fix_index": Option(
        "whether to write a new index for a folder if that of its shards is missing or wrong",
        "fix_index",
        values.read_flag,
        is_newer=True,
    ),
    "copy": Option(
        "globs on the paths of files in a folder to copy even if they would be left out next to "
        "new weights",
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
    "verify_crc": Option("whether a CRC-32 mismatch is an error", "verify_crc", values.read_flag),
    "arch": Option(
        "the architecture whose constructor `default` reproduces: a torchvision model's name, "
        '"timm:NAME", "transformers" for the config.json of the folder, "./net.py:Class" or '
        '"package.module:Class", or a callable that returns a module; None if the source is a '
        "model or no rule needs it",
        "arch",
        written=lambda arch: arch if isinstance(arch, str) else None,
    ),
    "arch_args": Option(
        "the arguments of that constructor, by their names",
        "arch_args",
        values.read_arguments,
        is_newer=True,
    ),
    "rename": Option(
        "new names of keys, each applied after the previous ones: "
        '"module.*=*", where each star is the text that a star on the left matches',
        "rename",
        values.read_renames,
        lambda renames: [each.text for each in renames_of(renames)],
        is_newer=True,
    ),
    "drop": Option(
        "patterns over keys in the source, for tensors to leave out",
        "drop",
        values.read_patterns,
        lambda patterns: [each.text for each in patterns_of(patterns)],
        is_newer=True,
    ),
    "only": Option(
        "patterns over keys in the source, for tensors to keep; all if empty",
        "only",
        values.read_patterns,
        lambda patterns: [each.text for each in patterns_of(patterns)],
        is_newer=True,
    ),
    "resize": Option(
        "new first dimensions of tensors, and the initializer of new rows; the last match wins: "
        '"embed.weight=50300:mean"',
        "resize",
        values.read_resizes,
        lambda resizes: [each.text for each in resizes_of(resizes)],
    ),
    "num_classes": Option(
        "the number of classes of a model, whose head is then drawn by its own default; None to "
        "leave it unchanged",
        "num_classes",
        values.read_count,
    ),
    "reset_buffers": Option(
        "whether to reset running statistics with the weights next to them",
        "reset_buffers",
        values.read_flag,
        was="with_buffers",
    ),
    "untie": Option("whether to turn tied keys into separate tensors", "untie", values.read_flag),
    "keep_config": Option(
        "whether to leave the config.json of a folder unchanged if tensors are resized, cast or "
        "untied",
        "keep_config",
        values.read_flag,
        is_newer=True,
    ),
    "reset_optimizer": Option(
        "whether to reset the optimizer state of filled parameters to that of a new optimizer",
        "reset_optimizer",
        values.read_flag,
    ),
    "optimizer_order": Option(
        "a file with the keys of the optimizer's parameters, group after group, one per line; "
        '"ndim" if matrices come first, then the others; None to find the order',
        "optimizer_order",
        is_newer=True,
    ),
    "allow_paths": Option(
        "folders, in addition to the current one, in which recipes, plans and records may name "
        "files, and to which the weights of a folder may link"
    ),
    "record": Option(
        "whether to store in the output how it was made, or the path of a separate record",
        "record",
        values.read_flag,
        lambda record: record is True,
    ),
    "check": Option("whether to test each draw against its distribution"),
    "force": Option("whether to replace an existing output"),
    "skip_existing": Option(
        "whether to skip a source whose output exists, whatever that output holds",
        "skip_existing",
        values.read_flag,
        is_of_command=True,
    ),
    "in_place": Option("whether to replace the source by the output"),
    "fsync": Option("whether to fsync a new output too"),
    "rank": Option(
        "which of several processes that write the output together this one is, from 0 on; None "
        "if it is the only one"
    ),
    "world_size": Option("the number of these processes"),
    "run_id": Option("the name that all of these processes have for this run"),
    "timeout": Option("the seconds to wait for one of them that gives no sign of life"),
    "resume": Option(
        "whether to go on from what these processes had finished when a run with the same name "
        "was interrupted"
    ),
    "measure": Option("whether to measure the values that tensors are filled with"),
    "measure_before": Option("whether to measure filled tensors before they are filled"),
    "sketch": Option("whether to count histograms of the values before and after"),
}
"""Each field of a request, in the order in which plans and records list them."""

FORMER = {option.was: name for name, option in OPTIONS.items() if option.was} | {"sync": "fsync"}
"""What fields were called before, in Python too; records and plans still have the names of some."""

NESTED = ("source", "rules", "output", "weights", "root")
"""The fields that plans and records hold in an object of their own, with what they know of it."""


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
