"""Declare the options of `reinit run`, in the order in which -h shows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from reinit_cli.cli.commands.run.many import FILES, MANY, RANKS
from reinit_cli.cli.help import argument, option
from reinit_cli.cli.options import (
    REPORT_HELP,
    ROOT,
    SOURCES,
    WEIGHTS,
    CountType,
    allow_path_option,
    arch_args_option,
    device_option,
    display_options,
    json_option,
    rename_option,
    seeds_option,
    stream_option,
)
from reinit_cli.cli.parameters import (
    CastType,
    ExclusionType,
    PatternType,
    ResizeType,
    RuleType,
    SizeType,
    refuse_empty,
)
from reinit_cli.request.values import LAYOUTS

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])

RULES, SOURCE, SHAPES = "Rules", "Source", "Shapes and what goes with them"
RANDOMNESS, OUTPUT = "Randomness", "Output"
CHECKS, DISPLAY, RARE = "Preview, check and record", "Display", "Rarely needed"

HEADINGS = (RULES, SOURCE, SHAPES, RANDOMNESS, OUTPUT, FILES, RANKS, CHECKS, DISPLAY, RARE)
"""The sections of --help, in their order."""

_OFTEN = (
    argument(
        "sources",
        nargs=-1,
        metavar="SOURCE...",
        help=f"{SOURCES}, which is pretrained unless --weights says otherwise",
    ),
    option(
        "-r",
        "--rule",
        "rules",
        type=RuleType(),
        multiple=True,
        metavar="PATTERN=INIT[:ARGS]",
        heading=RULES,
        brief="Fill matching tensors (repeatable; last match wins)",
        help="Fill the tensors whose keys match. Repeatable; if several rules match a key, the "
        "last one wins.\n"
        "  PATTERN  *  any characters, dots included    ?  one character\n"
        "           [abc] [!abc]    {a,b} {0..8}    re:REGEX\n"
        "           at the end a part: [5:] [:, :3] [1/4] [mask=FILE] [heads=3]\n"
        "           kind=Conv2d or *.weight[kind=norm]: by the kind of layer\n"
        "  INIT     a name from torch.nn.init without its underscore, reset,\n"
        "           default, a transform like noise, or keep (see reinit inits)\n"
        "  ARGS     std=0.02 | relu | fan_out | min_ndim=2 | keep_zeros=true",
    ),
    option(
        "-x",
        "--exclude",
        "excluded",
        type=ExclusionType(),
        multiple=True,
        metavar="PATTERN",
        heading=RULES,
        brief="Leave matching tensors alone",
        help="Leave matching tensors as they are (same as a final rule PATTERN=keep)",
    ),
    option(
        "-o",
        "--output",
        metavar="PATH",
        heading=OUTPUT,
        brief='File, folder/ or "out/{stem}-seed{seed}{suffix}"',
        help="A file (its suffix chooses the format), which may be an s3:// or gs:// URL; a folder that exists or a name that ends "
        "in /, which takes the output under the name of its source, as cp does; '-' for stdout; "
        "or a template with {stem}, {suffix}, {name}, {parent}, {seed}  "
        "[default: SOURCE-reinit next to the source]",
    ),
    option(
        "-c",
        "--recipe",
        "configs",
        multiple=True,
        metavar="FILE",
        heading=RULES,
        brief="Read rules and options from TOML, JSON or a plan",
        was=("--config",),
        help="Read rules and options from a TOML or JSON recipe, a saved plan, or a recorded "
        "checkpoint. Repeatable. Rules on the command line come last; options on the command "
        "line win.",
    ),
    option(
        "-n",
        "--dry-run",
        is_flag=True,
        heading=CHECKS,
        brief="Show the plan; write nothing",
        help="Show the plan. Reads no tensor data and writes nothing.",
    ),
    seeds_option,
    stream_option,
    device_option,
    option(
        "-f",
        "--force",
        is_flag=True,
        heading=OUTPUT,
        brief="Overwrite the output",
        help="Overwrite an existing output",
    ),
    option(
        "--resize",
        type=ResizeType(),
        multiple=True,
        metavar="PATTERN=N[:INIT]",
        heading=SHAPES,
        brief="Change the first dimension: vocabularies, heads",
        help="Set the first dimension of matching tensors, and of their biases, to N. Existing "
        "rows are kept unless a rule fills the tensor; new rows are filled by INIT, e.g. mean "
        "or normal:std=0.02. Repeatable.",
    ),
    option(
        "--num-classes",
        type=CountType(),
        metavar="N",
        heading=SHAPES,
        brief="New head for a model of torchvision or timm",
        help="Give a model of torchvision or timm (SOURCE or --arch) a head with N classes, "
        "initialized as its constructor does",
    ),
    option(
        "--reset-buffers/--no-reset-buffers",
        default=None,
        heading=SHAPES,
        brief="Reset BatchNorm statistics of what is filled",
        was=("--with-buffers",),
        help="Reset BatchNorm running statistics next to a filled weight or bias",
    ),
    option(
        "--check",
        is_flag=True,
        heading=CHECKS,
        brief="Test every draw against its distribution",
        help="Test every draw against its distribution, before rounding; if a test fails, write "
        "nothing and exit with 1",
    ),
    json_option,
    option(
        "-v",
        "--verbose",
        is_flag=True,
        heading=DISPLAY,
        brief="| show every tensor",
        help="Show every tensor",
    ),
    option(
        "--progress/--no-progress",
        default=None,
        heading=DISPLAY,
        shows="both",
        help="Show how far the run is, in a log too as lines now and then, or never  "
        "[default: a bar on a terminal]",
    ),
    option(
        "-q",
        "--quiet",
        is_flag=True,
        heading=DISPLAY,
        brief="| print errors only",
        help="Print errors only",
    ),
)

_SELDOM = (
    option(
        "--strict/--no-strict",
        default=None,
        heading=RULES,
        help="Treat every skipped tensor as an error",
    ),
    option(
        "--allow-unmatched/--no-allow-unmatched",
        default=None,
        heading=RULES,
        help="Warn, instead of failing, if a rule matches or fills nothing",
    ),
    option("--weights", **WEIGHTS),
    option("--root", **ROOT),
    option(
        "--arch",
        metavar="ARCH",
        heading=SOURCE,
        help="Architecture whose constructor the initializer 'default' follows: a torchvision "
        "model, timm:NAME, transformers (the folder's config.json), or your own code, which is "
        "then run: ./net.py:Class or package.module:Class  [default: SOURCE, if it is a model]",
    ),
    arch_args_option,
    option(
        "--only",
        type=PatternType(),
        multiple=True,
        metavar="PATTERN",
        heading=SOURCE,
        help="Take only tensors whose keys in the source match. Repeatable.",
    ),
    option(
        "--drop",
        type=PatternType(),
        multiple=True,
        metavar="PATTERN",
        heading=SOURCE,
        help="Leave out tensors whose keys in the source match. Repeatable.",
    ),
    rename_option,
    option(
        "--untie/--no-untie",
        default=None,
        heading=SHAPES,
        help="Turn tied keys into separate tensors, each with its own random stream",
    ),
    option(
        "--keep-config/--no-keep-config",
        default=None,
        heading=SHAPES,
        help="Leave the config.json of a folder as it is if tensors are resized, cast or untied",
    ),
    option(
        "--reset-optimizer/--no-reset-optimizer",
        default=None,
        heading=SHAPES,
        help="Reset the optimizer state of exactly the parameters that are filled",
    ),
    option(
        "--optimizer-order",
        metavar="FILE|ndim",
        heading=SHAPES,
        help="Which keys the optimizer's parameters have, if it does not name them: FILE lists "
        "the keys, one a line, group after group; ndim means matrices first, then vectors  "
        "[default: found by shapes and the order of the state dict]",
    ),
    option(
        "--skip-existing/--no-skip-existing",
        default=None,
        heading=OUTPUT,
        help="Skip inputs whose output already exists, whatever it holds: a run that was "
        "interrupted, repeated with this, makes the rest",
    ),
    option(
        "--in-place",
        is_flag=True,
        heading=OUTPUT,
        help="Replace the source",
    ),
    option(
        "--dtype",
        type=CastType(),
        multiple=True,
        metavar="[PATTERN=]DTYPE",
        heading=OUTPUT,
        help="Cast floating-point tensors, or those that match, e.g. bfloat16 or "
        "'*norm*=float32'. Repeatable; the last one that matches a tensor wins.",
    ),
    option(
        "--saturate/--no-saturate",
        default=None,
        heading=OUTPUT,
        help="Clip numbers that the dtype of a tensor cannot hold to its largest, instead of failing: "
        "those of --dtype and of initializers",
    ),
    option(
        "--to",
        type=click.Choice(LAYOUTS),
        heading=OUTPUT,
        help="Write a DCP folder, which torch.distributed.checkpoint loads on any number of ranks; "
        "--root model puts the keys under 'model'",
    ),
    option(
        "--shard-size",
        "shard_nbytes",
        type=SizeType(),
        metavar="SIZE",
        heading=OUTPUT,
        help="Write a folder of safetensors shards, or of files of a DCP folder, of at most SIZE: 5GB, "
        "500MB, 2GiB",
    ),
    option(
        "--tensors-only/--no-tensors-only",
        default=None,
        heading=OUTPUT,
        was=("--drop-non-tensors",),
        help="Keep only the tensors of the state dict; drop optimizer state, epochs and other "
        "objects",
    ),
    option(
        "--copy",
        type=PatternType(),
        multiple=True,
        metavar="PATTERN",
        heading=OUTPUT,
        help="Copy matching files of a folder that would be left out next to new weights. "
        "Repeatable.",
    ),
    *MANY,
    option(
        "--record",
        is_flag=True,
        default=None,
        heading=CHECKS,
        help="Store in the output how it was made, for 'reinit verify'",
    ),
    option(
        "--record-to",
        metavar="FILE",
        callback=refuse_empty,
        heading=CHECKS,
        help="Store that in a separate file instead",
    ),
    option("--report", metavar="FILE", heading=CHECKS, help=REPORT_HELP),
    allow_path_option,
    option(
        "--fix-index/--no-fix-index",
        default=None,
        heading=RARE,
        help="Write a new index if that of a folder's shards is missing or wrong",
    ),
    option(
        "--safe-pickle/--no-safe-pickle",
        default=None,
        heading=RARE,
        was=("--refuse-unknown-globals",),
        help="Refuse pickles that torch.load(weights_only=True) would reject",
    ),
    option(
        "--verify-crc/--no-verify-crc",
        default=None,
        heading=RARE,
        shows="off",
        help="Continue if the checksum of an entry in a torch file does not match",
    ),
    option(
        "--fsync",
        is_flag=True,
        heading=RARE,
        was=("--sync",),
        help="Force a new output to the disk before reporting success",
    ),
)


def run_options(command: _Decorated) -> _Decorated:
    """Give a command the options of a run."""
    for declare in reversed((*_OFTEN, display_options, *_SELDOM)):
        command = declare(command)
    return command
