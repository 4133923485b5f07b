"""Turn errors into hints: what to type next."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from reinit_cli import errors
from reinit_cli.cli.mistypes import concerns_words, mistyped
from reinit_cli.cli.offers import (
    arch_arguments,
    arguments,
    did_you_mean,
    drawn,
    dtype,
    head,
    initializer,
    key,
    kind,
    model,
    of_timm,
    one_by_one,
    pointed,
    resize,
    rows,
    rule,
    selection,
    spelled,
    tag,
    there,
    unmatched,
)
from reinit_cli.operations.ways import (
    ON_HUB,
    credentials_for,
    fetching,
    meant,
    offered,
    path_of_url,
    perhaps_on_hub,
    uploading,
    way_from,
    way_from_cut_off,
)
from reinit_cli.storage.location import without_secrets
from reinit_cli.text import near, one_line
from reinit_cli.version import __version__

_MOST_COMMANDS = 5
"""How many names are offered."""

Explained = tuple[str, str | None]
"""What went wrong, and the way on."""


def explain(error: errors.ReinitError, args: Sequence[str]) -> Explained:
    """Return what one of our own errors says, and the way on.

    Args:
        error: what was refused.
        args: the arguments after the program's name.
    """
    typed, args = args, [without_secrets(arg) for arg in args]
    words = mistyped(args, error) if concerns_words(error) else None
    if words is not None:
        return one_line(words[0]), one_line(words[1])
    hint = hint_of(error)
    if isinstance(error, errors.UnknownNameError) and error.kind == "pattern":
        from reinit_cli.cli.selection import hint_of_pattern

        hint = hint_of_pattern(error, args)
    if error.kind in ("several", "in place") and error.about in args:
        hint = one_by_one(error, args)
    if hint and error.kind == "whole" and error.about not in typed:
        hint += ", with the query or password that is left out here"
    return one_line(str(error)), one_line(hint) if hint else None


def hint_of(error: errors.ReinitError) -> str | None:
    """Return the way on from an error, or None where there is none to offer."""
    return offered(error, HINTS) or None


def _placeholder(error: errors.UnknownNameError) -> str:
    return did_you_mean([f"{{{name}}}" for name in meant(error)], _BRACES)


def _timm_model(error: errors.UnknownNameError) -> str:
    found = [f"{error.of}{name}" for name in meant(error)]
    return did_you_mean(found, "reinit models timm: lists them")


def _weights(error: errors.SourceNotFoundError) -> str:
    first = "put the file there"
    if error.known:
        first = f"run {error.known[0]} where there is a network"
    return (
        f"{first}, or give --weights FILE with your own, or --weights none for a model as it is "
        "constructed"
    )


def _file(otherwise: str) -> Callable[[Any], str]:
    """Offer the files of a folder that are spelled like the one that is missing from it."""

    def hint(error: errors.ReinitError) -> str:
        folder, name = os.path.split(error.about)
        return did_you_mean(
            [os.path.join(folder, found) for found in near(name, error.known)], otherwise
        )

    return hint


def _source(error: errors.SourceNotFoundError) -> str:
    """Offer a file that is spelled like it, or the model of a hub that may be meant."""
    offered = did_you_mean(of_timm(error.about)) or perhaps_on_hub(error)
    return _file(offered or there(error))(error)


def _roots(error: errors.ReinitError) -> str:
    roots = (meant(error) or error.known)[:3]
    tries = " or ".join(f"--root {shlex.quote(root or '.')}" for root in roots)
    more = [root or "." for root in error.known if root not in roots]
    return f"try {tries}" + (f"; there are also {', '.join(more)}" if more else "") if tries else ""


def _root(error: errors.UnsupportedFormatError) -> str:
    tries = _roots(error)
    if tries and not error.problem.startswith("holds no "):
        return tries
    # Its tensors are those of an optimizer, if it has any: few people want them.
    held = f"reinit keys --meta {shlex.quote(error.about)} shows what it holds"
    return f"{held}, or {tries}" if tries else held


def _lost(error: errors.UnwritableContentError) -> str:
    keeps = "leave out the change of dtypes, shapes or ties to keep it"
    if error.known:
        keeps = f"give -o a {error.known[0]} name to keep it"
    if error.of:
        keeps = f"name the file itself, {shlex.quote(error.of)}, and a file as -o to keep it"
    return f"{keeps}, or add --tensors-only to leave it out"


def _beyond(error: errors.UnwritableContentError) -> str:
    return f"-o with a {error.known[0]} name can hold it" if error.known else ""


def _linked(error: errors.OutputUnwritableError) -> str:
    if error.known:
        return f"name the file itself: {shlex.quote(error.known[0])}"
    return "name a new file with -o: other checkpoints may share this one"


def _suffix(error: errors.OutputUnwritableError) -> str:
    return did_you_mean([f"-o {shlex.quote(each)}" for each in error.known])


def _of_input(error: errors.InputError) -> str:
    """Return the way on for one of several inputs, of which some may be done already."""
    if isinstance(error.cause, errors.OutputExistsError):
        return "add --skip-existing to make only those that are missing"
    return hint_of(error.cause) or ""


def _existing(error: errors.OutputExistsError) -> str:
    return f"name another with {_option(error)} (reinit run -h shows how to overwrite)"


def _option(error: errors.ReinitError) -> str:
    return "--record-to" if error.kind == "record" else f"--{error.kind}"


def _elsewhere(error: errors.OutputUnwritableError) -> str:
    option = {"": "-o", "record": "--record-to"}.get(error.of, f"--{error.of}")
    return f"name another place with {option}"


def _allowed(error: errors.ReinitError) -> str:
    return f"if that is meant, add --allow-path {shlex.quote(error.known[0])}"


def _recipe(error: errors.RecipeError) -> str:
    cause = error.__cause__
    # How a rule is written is the same everywhere; an option is a field here.
    if isinstance(cause, errors.RuleError):
        return hint_of(cause) or ""
    if isinstance(cause, errors.UnknownNameError) and cause.kind in ("initializer", "newer stream"):
        return hint_of(cause) or ""
    is_stream = isinstance(cause, errors.UnknownNameError) and cause.kind == "stream"
    return did_you_mean(meant(error), "a stream is philox or torch" if is_stream else "")


_SCRATCH = "temporary files go into TMPDIR: name a folder with room, such as TMPDIR=/var/tmp"

_UPGRADE = f"upgrade reinit: this is version {__version__}"

_BRACES = "{{ and }} stand for braces"

_SATURATE = "--saturate makes them the largest numbers that the dtype has"

HINTS: dict[tuple[type, str], str | Callable[[Any], str]] = {
    (errors.UnknownNameError, "initializer"): initializer,
    (errors.UnknownNameError, "dtype"): dtype,
    (errors.UnknownNameError, "float dtype"): (
        "--dtype takes float64, float32, float16, bfloat16 or one of the float8 dtypes"
    ),
    (errors.UnknownNameError, "stream"): spelled("--stream takes philox or torch"),
    (errors.UnknownNameError, "newer stream"): _UPGRADE,
    (errors.UnknownNameError, "device"): "--device auto uses the best one available",
    (errors.UnknownNameError, "inexact device"): "--device cpu draws the same values",
    (errors.UnknownNameError, "model"): model(
        "reinit models lists the models; a path has a dot or a slash"
    ),
    (errors.UnknownNameError, "architecture"): model("reinit models lists the models"),
    (errors.UnknownNameError, "weights"): spelled("--weights none builds it without"),
    (errors.UnknownNameError, "tag"): tag,
    (errors.UnknownNameError, "key"): key,
    (errors.UnknownNameError, "root"): _roots,
    (errors.UnknownNameError, "placeholder"): _placeholder,
    (errors.UnknownNameError, "file to copy"): spelled(
        "--copy takes globs on paths in the folder, such as 'original/*'"
    ),
    (errors.RuleError, "rule"): rule,
    (errors.RuleError, "pattern"): lambda error: (
        f"say which tensors: -r {shlex.quote(f'*.weight={error.about}')}"
    ),
    (errors.RuleError, "part"): lambda error: (
        f"the part: -r {shlex.quote(error.known[0])}; the key: -r {shlex.quote(error.known[1])}"
    ),
    (errors.RuleError, "tied"): "give one of them only, both the same initializer, or --untie",
    (errors.RuleError, "resize"): resize,
    (errors.RuleError, "rows"): lambda error: f"reinit inits {error.of} shows what it can fill",
    (errors.RuleError, "large rows"): _SATURATE,
    (errors.RuleError, "classes"): head,
    (errors.RuleError, "owner"): (
        "take the whole with --root ., and name the parameters of all optimizers, one after the "
        "other: --optimizer-order FILE, a key in each line"
    ),
    (errors.RuleError, "parameters"): (
        "name them in the order of the optimizer's groups, of several optimizers one after the "
        "other: --optimizer-order FILE, a key in each line; or ndim, where matrices come first"
    ),
    **{
        (errors.RuleError, option): selection(f"--{option}")
        for option in ("rename", "drop", "only", "dtype")
    },
    (errors.RuleError, "form"): "write it as OLD=NEW, such as --rename 'module.*=*'",
    (errors.RuleError, "clash"): "drop one of them, or give it another name",
    (errors.RuleError, "architecture"): (
        "name it with --arch: resnet50, timm:NAME, transformers (for a folder) or ./net.py:Class; "
        "the initializer reset needs none"
    ),
    (errors.UnknownNameError, "timm model"): _timm_model,
    (errors.UnknownNameError, "type of models"): spelled(
        "another version may; its own code is run only as --arch ./modeling.py:Class"
    ),
    (errors.UnknownNameError, "class"): spelled("it comes after the colon: --arch ./net.py:Class"),
    (errors.RuleError, "arch"): lambda error: (
        f"did you mean --arch {shlex.quote(error.known[0])}?" if error.known else ""
    ),
    (errors.RuleError, "arch arguments"): arch_arguments,
    (errors.RuleError, "no arch"): "name it with --arch, such as --arch ./net.py:Class",
    (errors.PatternError, "rule"): rows,
    (errors.PatternError, "part"): "only rules take parts of tensors; reinit show has --slice",
    (errors.ArgumentError, ""): arguments,
    (errors.ArgumentError, "point"): pointed,
    (errors.MissingRuleError, ""): lambda error: (
        'give one, such as -r "*.weight=xavier_uniform:relu"; '
        f"reinit info{' ' + shlex.quote(error.about) if error.about else ''} shows what there is"
    ),
    (errors.UnmatchedRuleError, ""): unmatched,
    (errors.UnmatchedRuleError, "kind"): kind,
    (errors.UnfillableError, ""): lambda error: f"leave it out, or see reinit inits {error.of}",
    (errors.UnfillableError, "drawn"): drawn,
    (errors.UnfillableError, "large"): _SATURATE,
    (errors.UnfillableError, "part"): (
        "a part is counted from 0, and below 0 from the end; reinit keys -l shows the shapes"
    ),
    (errors.UnfillableError, "mask"): (
        "a mask has the shape of the tensor, and values 0 and 1; reinit keys -l shows the shapes"
    ),
    (errors.UnfillableError, "norm"): "give the norms a rule of their own, such as keep or ones",
    (errors.UnfillableError, "wildcard"): "without --strict it would be skipped",
    (errors.SourceNotFoundError, ""): _source,
    (errors.SourceNotFoundError, "link"): "",
    **ON_HUB,
    (errors.SourceNotFoundError, "url"): lambda error: path_of_url(error.about),
    (errors.SourceNotFoundError, "elsewhere"): lambda error: fetching(error.about),
    (errors.SourceNotFoundError, "remote"): _file(""),
    (errors.SourceNotFoundError, "scheme"): (
        "name a path, or a URL such as s3://, gs:// or https://"
    ),
    (errors.UnreadableSourceError, "access"): lambda error: credentials_for(error.about),
    (errors.UnreadableSourceError, "whole"): lambda error: fetching(error.about),
    (errors.SourceNotFoundError, "weights"): _weights,
    (errors.UnreadableSourceError, "link"): _allowed,
    (errors.MalformedFileError, ""): way_from_cut_off,
    (errors.MalformedFileError, "shards"): "--fix-index writes an index of the tensors that it has",
    (errors.MalformedFileError, "crc"): "download it again, or continue with --no-verify-crc",
    (errors.UnsupportedFormatError, ""): way_from,
    (errors.UnsupportedFormatError, "root"): _root,
    (errors.UnsupportedFormatError, "several"): lambda error: (
        f"name one of them: {' or '.join(map(shlex.quote, error.known[:_MOST_COMMANDS]))}"
    ),
    (errors.UnsupportedFormatError, "names"): (
        "without --safe-pickle they are copied, and never imported"
    ),
    (errors.UnsupportedFormatError, "edit"): (
        "add --tensors-only to write the state dict's tensors and nothing else"
    ),
    (errors.OutputError, "name"): lambda error: (
        _BRACES if error.about else "name a file or a folder, such as -o new.safetensors"
    ),
    (errors.OutputError, "check"): (
        "name a file with -o, and write it out when it has passed: cat FILE"
    ),
    (errors.OutputError, "resume"): "--skip-existing makes only the outputs that are missing",
    (errors.OutputError, "rank plan"): "give every rank the same command and the same files",
    (errors.OutputError, "rank gone"): lambda error: (
        "the same command with --resume goes on from what was finished" if error.notes else ""
    ),
    (errors.OutputExistsError, ""): "name another with -o (reinit run -h shows how to overwrite)",
    (errors.OutputExistsError, "report"): _existing,
    (errors.OutputExistsError, "record"): _existing,
    (errors.OutputUnwritableError, "scratch"): _SCRATCH,
    (errors.UnreadableSourceError, "scratch"): _SCRATCH,
    (errors.OutputTakenError, ""): lambda error: f"name another file with {_option(error)}",
    (errors.OutputTakenError, "source"): lambda error: (
        "name another with -o"
        + ("" if error.of else " (reinit run --help shows how to replace a source)")
    ),
    (errors.OutputTakenError, "inside"): "name another with -o",
    (errors.OutputTakenError, "read"): "name another with -o",
    (errors.OutputTakenError, "output"): (
        "name them apart, such as -o '{parent}/{stem}-new{suffix}'"
    ),
    (errors.OutputTakenError, "twice"): "name it once",
    (errors.OutputTakenError, "seed"): "name them apart, such as -o '{stem}-seed{seed}{suffix}'",
    (errors.OutputUnwritableError, "file"): "name a file in it",
    (errors.OutputUnwritableError, "suffix"): _suffix,
    (errors.OutputUnwritableError, "link"): _linked,
    (errors.OutputUnwritableError, "in place"): lambda error: (
        f"name one of them: {' or '.join(map(shlex.quote, error.known[:_MOST_COMMANDS]))}"
    ),
    (errors.OutputUnwritableError, "hub"): lambda error: uploading(error.about),
    (errors.OutputUnwritableError, "url"): lambda error: path_of_url(error.about),
    (errors.OutputUnwritableError, "remote"): "name another place with -o",
    (errors.OutputUnwritableError, "access"): _elsewhere,
    (errors.OutputUnwritableError, "cache"): "name an output elsewhere with -o",
    (errors.OutputUnwritableError, "folder"): "name a new folder with -o; nothing of it is removed",
    (errors.OutputUnwritableError, "locked"): "try again when the other run has finished",
    (errors.OutputUnwritableError, "open"): (
        "try again when the other program has closed it, or name a new file with -o"
    ),
    (errors.UnwritableContentError, ""): _beyond,
    (errors.UnwritableContentError, "rest"): _lost,
    (errors.UnwritableContentError, "left out"): "add --tensors-only to leave it out",
    (errors.UnwritableContentError, "record"): "write it to a separate file: --record-to FILE",
    (errors.RecipeError, ""): _recipe,
    (errors.RecipeError, "file"): _file(""),
    (errors.RecipeError, "outside"): _allowed,
    (errors.RecipeError, "code"): lambda error: (
        f"if you trust it, add --arch {shlex.quote(error.known[0])}"
    ),
    (errors.RecordError, "newer stream"): _UPGRADE,
    (errors.RecordError, "stream"): "",
    (errors.RecordError, ""): (
        "make the output with --record, or with --record-to FILE for a separate file"
    ),
    (errors.TensorError, "cast"): _SATURATE,
    (errors.TensorError, "overflow"): _SATURATE,
    (errors.TensorError, "slice"): "write it as Python does: 0,:,:,:2",
    (errors.CheckFailedError, ""): (
        "nothing was written; try another --seed, or leave out --check"
    ),
    # Not an extra of ours: under our name the package index has another project.
    (errors.PackageError, ""): lambda error: f"pip install {error.about}",
    (errors.PackageError, "broken"): (
        lambda error: f"install it again: pip install --force-reinstall {error.about}"
    ),
    (errors.PackageError, "law"): lambda error: (
        f"it is a fault of {error.about}: tell its authors, or use another initializer"
    ),
    (errors.PackageError, "plugin"): (
        lambda error: f"fix or remove it: pip uninstall {error.about}"
    ),
    (errors.InputError, ""): _of_input,
}
"""What each family and kind of error is answered with; "" stands for all its other kinds."""
