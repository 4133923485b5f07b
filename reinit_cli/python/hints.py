"""Say what to do next about an error, in the words of Python."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from reinit_cli import errors
from reinit_cli.initializers.synonyms import initializers_offered
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
from reinit_cli.python.words import in_python
from reinit_cli.request.spelling import corrected_pattern, nearest_keys, numbers_there
from reinit_cli.text import near, one_line
from reinit_cli.version import __version__


@contextmanager
def hinted() -> Iterator[None]:
    """Give errors their hint, which a traceback shows below them."""
    try:
        yield
    except errors.ReinitError as error:
        error.problem = in_python(error.problem)
        hint = hint_of(error)
        if hint and not error.hint:
            error.hint = one_line(hint)
            error.add_note(f"hint: {error.hint}")
        raise


def hint_of(error: errors.ReinitError) -> str:
    """Return the way on from an error, or "" where there is none to offer."""
    return offered(error, HINTS)


def _did_you_mean(found: Sequence[str], otherwise: str = "") -> str:
    return f"did you mean {' or '.join(map(repr, found))}?" if found else otherwise


def _spelled(otherwise: str) -> Callable[[Any], str]:
    """Offer the known names that are spelled like the one that is not."""
    return lambda error: _did_you_mean(meant(error), otherwise)


def _initializer(error: errors.UnknownNameError) -> str:
    found = initializers_offered(error.about) or meant(error)
    return _did_you_mean(found, "list(reinit_cli.initializers.REGISTRY) has them all")


def _dtype(error: errors.UnknownNameError) -> str:
    few = error.known if len(error.known) <= _FEW else meant(error)
    return _did_you_mean(few, "take one of torch's, such as torch.bfloat16")


_FEW = 3
"""How many names are offered, however they are spelled."""


def _rule(error: errors.RuleError) -> str:
    example = f"{error.about}=zeros" if error.about else ""
    return _did_you_mean(error.known[:1] or ((example,) if example else ()))


def _argument(error: errors.ArgumentError) -> str:
    is_rule = error.word is None and error.of
    rules = [f"{error.of}={each}" for each in error.known] if is_rule else meant(error)
    return _did_you_mean(rules)


_WRAPPERS = {
    "module.": "DataParallel puts 'module.' before every key: pass its .module",
    "_orig_mod.": "torch.compile puts '_orig_mod.' before every key: pass its ._orig_mod",
    "_fsdp_wrapped_module.": (
        "FSDP puts '_fsdp_wrapped_module.' before every key, and each process has a part"
    ),
}
"""What wraps a module, by what it puts before the keys."""


def _unmatched(error: errors.UnmatchedRuleError) -> str:
    """Offer a pattern that matches, or the keys that are spelled like it."""
    pattern = error.word or ""
    rest = error.about.removeprefix(pattern)
    prefix, said = _wrapped(error.known)
    if prefix:
        return f"{said}, or write {prefix + pattern + rest!r}"
    corrected = corrected_pattern(pattern, error.known)
    if corrected:
        return _did_you_mean((corrected + rest,))
    numbers = numbers_there(pattern, error.known)
    if numbers:
        return numbers
    nearest = nearest_keys(pattern, error.known)
    return f"the nearest keys are {', '.join(nearest)}" if nearest else _keys(error.known)


def _wrapped(keys: Sequence[str]) -> tuple[str, str]:
    """Return what the wrappers of a module put before all of its keys, and what to say of it.

    One wrapper may hold another: then it is said of the outer one.
    """
    found, said = "", ""
    while keys and (prefix := next(filter(partial(_is_before_all, keys, found), _WRAPPERS), "")):
        found, said = found + prefix, said or _WRAPPERS[prefix]
    return found, said


def _is_before_all(keys: Sequence[str], found: str, prefix: str) -> bool:
    return all(key.startswith(found + prefix) for key in keys)


def _keys(known: Sequence[str]) -> str:
    """Say what keys look like where none is spelled like the one that was asked for."""
    few = ", ".join(map(repr, known[:_FEW]))
    more = ", ..." if known[_FEW:] else ""
    return f"its keys are {few}{more}" if few else ""


def _selection(option: str) -> Callable[[Any], str]:
    """Offer a pattern of an option that matches a key, or the keys that are spelled like it."""

    def hint(error: errors.RuleError) -> str:
        pattern = error.word or ""
        corrected = corrected_pattern(pattern, error.known)
        if corrected:
            return f"did you mean {option}={corrected + error.about.removeprefix(pattern)!r}?"
        return _did_you_mean(nearest_keys(pattern, error.known))

    return hint


def _tag(error: errors.UnknownNameError) -> str:
    return _did_you_mean([f"{error.of}.{each}" for each in meant(error) or error.known[:1]])


def _key(error: errors.ReinitError) -> str:
    return _did_you_mean(nearest_keys(error.word or error.about, error.known))


def _pattern(error: errors.UnknownNameError) -> str:
    corrected = corrected_pattern(error.about, error.known)
    nearest = (corrected,) if corrected else nearest_keys(error.about, error.known)
    return _did_you_mean(nearest, _keys(error.known))


def _roots(error: errors.ReinitError) -> str:
    roots = [root or "." for root in (meant(error) or error.known)[:_FEW]]
    return f"try {' or '.join(f'root={root!r}' for root in roots)}" if roots else ""


def _file(error: errors.SourceNotFoundError) -> str:
    folder, name = os.path.split(error.about)
    found = [os.path.join(folder, each) for each in near(name, error.known)]
    return _did_you_mean(found, perhaps_on_hub(error))


def _within(error: errors.ReinitError) -> str:
    few = " or ".join(f"[{key!r}]" for key in error.known[:_FEW])
    return f"pass what is in it: {few}" if few else ""


def _lost(error: errors.UnwritableContentError) -> str:
    keeps = f"an output such as 'out{error.known[0]}' keeps it, or " if error.known else ""
    return f"{keeps}tensors_only=True leaves it out"


def _named(error: errors.ReinitError) -> str:
    return f"name one of them: {', '.join(map(repr, error.known[:_FEW]))}" if error.known else ""


def _allowed(error: errors.ReinitError) -> str:
    return f"if that is meant, pass allow_paths=[{error.known[0]!r}]" if error.known else ""


_SCRATCH = "temporary files go into TMPDIR: name a folder with room, such as TMPDIR=/var/tmp"

_UPGRADE = f"upgrade reinit: this is version {__version__}"

_ORDER = "name its parameters with optimizer_order=FILE, a key in each line, or 'ndim'"

_SATURATE = "saturate=True makes them the largest numbers of the dtype"

HINTS: dict[tuple[type, str], str | Callable[[Any], str]] = {
    (errors.UnknownNameError, "initializer"): _initializer,
    (errors.UnknownNameError, "dtype"): _dtype,
    (errors.UnknownNameError, "float dtype"): _dtype,
    (errors.UnknownNameError, "stream"): _spelled("pass stream='philox' or stream='torch'"),
    (errors.UnknownNameError, "newer stream"): _UPGRADE,
    (errors.UnknownNameError, "device"): "device='auto' uses the best one available",
    (errors.UnknownNameError, "inexact device"): "device='cpu' draws the same values",
    (errors.UnknownNameError, "model"): _spelled(
        "torchvision.models.list_models() lists the models; a pathlib.Path is always a file"
    ),
    (errors.UnknownNameError, "architecture"): _spelled(
        "torchvision.models.list_models() lists the models"
    ),
    (errors.UnknownNameError, "weights"): _spelled("weights='none' builds it without"),
    (errors.UnknownNameError, "tag"): _tag,
    (errors.UnknownNameError, "key"): _key,
    (errors.UnknownNameError, "pattern"): _pattern,
    (errors.UnknownNameError, "file to copy"): _spelled(
        "copy takes globs on paths in the folder, such as 'original/*'"
    ),
    (errors.UnknownNameError, "root"): _roots,
    (errors.RuleError, ""): _rule,
    (errors.RuleError, "tied"): "name one of them only, give both the same initializer, or untie",
    (errors.RuleError, "architecture"): "pass arch='resnet50', or what makes the module",
    (errors.UnknownNameError, "timm model"): lambda error: _did_you_mean(
        [f"{error.of}{name}" for name in meant(error)], "timm.list_models() lists them"
    ),
    (errors.UnknownNameError, "type of models"): _spelled("another version may have it"),
    (errors.UnknownNameError, "class"): _spelled("it comes after the colon: './net.py:Class'"),
    (errors.RuleError, "arch"): "",
    (errors.RuleError, "arch arguments"): lambda error: (
        f"it takes {', '.join(error.known)}: pass arch_args={{{error.known[0]!r}: ...}}"
        if error.known
        else "it takes none"
    ),
    (errors.RuleError, "no arch"): "pass arch, the constructor that takes them",
    (errors.RuleError, "resize"): "write it as 'PATTERN=N:INIT', such as 'embed.weight=50300:mean'",
    (errors.RuleError, "rows"): "give them another initializer",
    (errors.RuleError, "large rows"): _SATURATE,
    (errors.RuleError, "classes"): "",
    (errors.RuleError, "optimizer"): "",
    (errors.RuleError, "owner"): _ORDER,
    (errors.RuleError, "parameters"): _ORDER,
    (errors.RuleError, "form"): "write it as 'OLD=NEW', such as 'module.*=*'",
    (errors.RuleError, "clash"): "drop one of them, or give it another name",
    **{
        (errors.RuleError, option): _selection(option)
        for option in ("rename", "drop", "only", "dtype")
    },
    (errors.PatternError, ""): "",
    (errors.ArgumentError, ""): _argument,
    (errors.MissingRuleError, ""): "pass rules, such as '*.weight=xavier_uniform:relu'",
    (errors.UnmatchedRuleError, ""): _unmatched,
    (errors.UnfillableError, ""): lambda error: (
        f"leave it out, or give it another initializer than {error.of}"
    ),
    (errors.UnfillableError, "large"): _SATURATE,
    (errors.UnfillableError, "norm"): "give the norms a rule of their own, such as keep or ones",
    (errors.UnfillableError, "wildcard"): "without strict=True it would be skipped",
    (errors.SourceError, "no tensors"): _within,
    (errors.SourceNotFoundError, ""): _file,
    (errors.SourceNotFoundError, "link"): "",
    **ON_HUB,
    (errors.SourceNotFoundError, "url"): lambda error: path_of_url(error.about),
    (errors.SourceNotFoundError, "elsewhere"): lambda error: fetching(error.about),
    (errors.SourceNotFoundError, "remote"): _file,
    (
        errors.SourceNotFoundError,
        "scheme",
    ): "name a path, or a URL such as s3://, gs:// or https://",
    (errors.UnreadableSourceError, "access"): lambda error: credentials_for(error.about),
    (errors.UnreadableSourceError, "whole"): lambda error: fetching(error.about),
    (errors.SourceNotFoundError, "weights"): lambda error: (
        f"{f'run {error.known[0]}' if error.known else 'put the file there'}, or pass weights=FILE "
        "with your own, or weights='none' for a model as it is constructed"
    ),
    (errors.UnreadableSourceError, "link"): _allowed,
    (errors.MalformedFileError, ""): way_from_cut_off,
    (errors.MalformedFileError, "shards"): "fix_index=True writes an index of its tensors",
    (errors.MalformedFileError, "crc"): "fetch it again, or go on with verify_crc=False",
    (errors.UnsupportedFormatError, ""): way_from,
    (errors.UnsupportedFormatError, "root"): _roots,
    (errors.UnsupportedFormatError, "several"): _named,
    (errors.UnsupportedFormatError, "names"): (
        "without safe_pickle=True they are copied, and never imported"
    ),
    (errors.UnsupportedFormatError, "edit"): (
        "tensors_only=True writes the tensors of the state dict and nothing else"
    ),
    (errors.OutputError, "unnamed"): (
        "pass a path as output, or change the module itself with apply_"
    ),
    (errors.OutputExistsError, ""): "pass another output",
    (errors.OutputTakenError, "source"): "pass another output",
    (errors.OutputTakenError, ""): "pass another path",
    (errors.OutputUnwritableError, "link"): _named,
    (errors.OutputUnwritableError, "in place"): _named,
    (errors.OutputUnwritableError, "suffix"): (
        "name it such as 'out.safetensors' or 'out.pt', or 'out/' for a folder"
    ),
    (errors.OutputUnwritableError, "file"): "name a file in it",
    (errors.OutputUnwritableError, "hub"): lambda error: uploading(error.about),
    (errors.OutputUnwritableError, "url"): lambda error: path_of_url(error.about),
    (errors.OutputUnwritableError, "remote"): "pass another output",
    (errors.OutputUnwritableError, "stream"): "pass a path as output",
    (errors.OutputUnwritableError, "access"): lambda error: f"pass another {error.of or 'output'}",
    (errors.OutputUnwritableError, "cache"): "pass an output elsewhere",
    (errors.OutputUnwritableError, "folder"): "pass a new folder: nothing of it is removed",
    (errors.OutputUnwritableError, "open"): (
        "try again when the other program has closed it, or pass another output"
    ),
    (errors.OutputUnwritableError, "scratch"): _SCRATCH,
    (errors.UnreadableSourceError, "scratch"): _SCRATCH,
    (errors.OutputError, "check"): "pass a file as output",
    (errors.OutputError, "resume"): "skip_existing=True makes only the outputs that are missing",
    (errors.OutputError, "rank plan"): "pass the same arguments and the same files in every rank",
    (errors.OutputError, "rank gone"): lambda error: (
        "the same call with resume=True goes on from what was finished" if error.notes else ""
    ),
    (errors.OutputUnwritableError, "locked"): "try again when the other run has finished",
    (errors.UnwritableContentError, ""): lambda error: (
        f"an output such as 'out{error.known[0]}' can hold it" if error.known else ""
    ),
    (errors.UnwritableContentError, "rest"): _lost,
    (errors.UnwritableContentError, "left out"): "pass tensors_only=True to leave it out",
    (errors.UnwritableContentError, "record"): "pass record=FILE to write it next to the output",
    (errors.RecipeError, "outside"): _allowed,
    (errors.RecordError, "newer stream"): _UPGRADE,
    (errors.RecordError, "stream"): "",
    (errors.RecordError, ""): "write the output with record=True, or with record=FILE",
    (errors.TensorError, "cast"): _SATURATE,
    (errors.TensorError, "overflow"): _SATURATE,
    (errors.TensorError, "slice"): "",
    (
        errors.CheckFailedError,
        "",
    ): "another seed draws other values; without check=True they are written",
    (errors.PackageError, ""): lambda error: f"pip install {error.about}",
    (errors.PackageError, "law"): lambda error: (
        f"it is a fault of {error.about}: tell its authors, or use another initializer"
    ),
    (errors.PackageError, "broken"): lambda error: f"pip install --force-reinstall {error.about}",
}
"""What to do next, by the family and the kind of an error."""
