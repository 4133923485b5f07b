"""What to type next: the one place that turns errors into hints."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import click

from reinit_cli import errors
from reinit_cli.cli.group import COMMANDS
from reinit_cli.text import near, printable

Told = tuple[str, str | None]
"""What went wrong, and the way on."""


def explain(error: errors.ReinitError, args: Sequence[str]) -> Told:
    """Return what one of our own errors says, and the way on.

    Args:
        error: what was refused.
        args: the arguments behind the program's name.
    """
    hint = _hint(error)
    if isinstance(error, errors.MissingRuleError):
        hint = _meant_command(args) or hint
    return printable(str(error)), printable(hint) if hint else None


def explain_usage(error: click.ClickException, args: Sequence[str]) -> Told:
    """Return what an error in the options says, and the way on.

    Args:
        error: what click found.
        args: the arguments behind the program's name.
    """
    message = " ".join(error.format_message().split())
    problem = message[:1].lower() + message[1:].removesuffix(".")
    if isinstance(error, click.NoSuchOption):
        possible = near(error.option_name, error.possibilities or ()) or error.possibilities
        problem = f"there is no option {error.option_name}"
        hint = _did_you_mean(possible or (), f"{_command_of(error)} -h lists the options")
    else:
        hint = _meant_command(args) or f"{_command_of(error)} -h shows how"
    return printable(problem), printable(hint)


def _command_of(error: click.ClickException) -> str:
    ctx = getattr(error, "ctx", None)
    return ctx.command_path if ctx is not None else "reinit"


def _meant_command(args: Sequence[str]) -> str | None:
    """Return a hint where the first word is nearly a command, as in `reinit kyes FILE`."""
    if not args or args[0] in COMMANDS:
        return None
    command = next(iter(near(args[0], COMMANDS, 1)), None)
    return f"did you mean: reinit {shlex.join((command, *args[1:]))}?" if command else None


def _hint(error: errors.ReinitError) -> str | None:
    match error:
        case errors.UnknownInitializerError():
            return _did_you_mean(error.near, "reinit inits lists the initializers")
        case errors.ArgumentError():
            lists = f"reinit inits {error.initializer} explains its arguments"
            return _did_you_mean(error.near, lists)
        case errors.PluginError():
            return f"mend or remove it: pip uninstall {error.package}"
        case errors.MissingRuleError():
            return 'give one, such as -r "*.weight=xavier_uniform:relu"; reinit inits lists more'
        case errors.InputError():
            return _hint(error.cause)
        case errors.RecipeError():
            cause = error.__cause__
            return _hint(cause) if isinstance(cause, errors.RuleError) else _meant(error.near)
        case errors.PlaceholderError():
            return _did_you_mean(
                [f"{{{name}}}" for name in error.near], "{{ and }} stand for braces"
            )
        case errors.EqualOutputsError():
            apart = "{stem}-seed{seed}" if error.differs_in_seed else "{parent}/{stem}-new"
            return f"name them apart, such as -o '{apart}{{suffix}}'"
        case errors.UnmatchedRuleError():
            return _unmatched(error)
        case errors.MissingArchitectureError():
            return "name it with --arch, such as --arch resnet50; reinit models lists the names"
        case errors.UnknownArchitectureError():
            return _did_you_mean(error.near, "reinit models lists the models")
        case errors.UnfillableError():
            if error.by_wildcard:
                return "without --strict it would be skipped"
            return f"leave it out, or see reinit inits {error.initializer}"
        case errors.TiedRulesError():
            return "give one of them only, both the same initializer, or --untie"
        case errors.ResizeError():
            return _did_you_mean(error.near, _NEW_ROWS)
        case errors.UnknownModelError():
            return _unknown_model(error)
        case errors.UnknownWeightsError():
            return _did_you_mean(error.near, "--weights none builds it without")
        case errors.WeightsUnavailableError():
            return (
                "put the file there, or give --weights FILE with your own, or --weights none "
                "for a model as it is constructed"
            )
        case errors.SourceNotFoundError():
            return _did_you_mean(error.near, "reinit models lists the models that need no file")
        case errors.UnsupportedFormatError():
            return _unsupported(error.kind)
        case errors.RootError():
            roots = " or ".join(
                f"--root {shlex.quote(root or '.')}" for root in error.candidates[:3]
            )
            return f"try {roots}" if roots else None
        case errors.UnknownNamesError():
            return "without --refuse-unknown-globals they are carried along, and never imported"
        case errors.CorruptError():
            return "get it anew, or go on with --no-verify-crc"
        case errors.LossError():
            is_torch = error.path.endswith((".pt", ".pth", ".bin", ".ckpt"))
            other = "leave out --dtype" if is_torch else "give -o a .pt name"
            return f"add --drop-non-tensors to lose it, or {other}"
        case errors.UnknownKeyError():
            lists = f"reinit keys {shlex.quote(error.source)} lists the keys"
            return _did_you_mean(error.near, lists)
        case errors.SliceError():
            return "write it as Python does: 0,:,:,:2"
        case errors.BesideExistsError():
            return f"add --force to replace it, or name another with --{error.what}"
        case errors.OutputExistsError():
            return "add --force to replace it, or name another with -o"
        case errors.OutputIsSourceError():
            return "name another with -o, or add --in-place to replace the source"
        case errors.IrrevocableOutputError():
            return "name a file with -o, and write it out when it has passed: cat FILE"
        case errors.UnrecordableError():
            return "write it beside: --record=FILE"
        case errors.RecordError():
            return "--record writes one into an output, and --record=FILE beside it"
        case errors.BesideIsOutputError():
            return f"name another file with --{error.what}"
        case errors.MissingPackageError():
            # Not an extra of ours: under our name the package index has another project.
            return f"pip install {error.package}"
        case errors.CheckFailedError():
            return "nothing was written; another --seed draws anew, without --check it is written"
        case errors.UnwritableContentError(suffix=str(suffix)):
            return f"-o with a {suffix} name can hold it"
        case errors.DeviceUnavailableError():
            return "--device auto takes the best that is there"
        case errors.UnknownDtypeError():
            return _did_you_mean(error.near, "dtypes have torch's names, such as bfloat16")
    return None


def _unsupported(kind: str) -> str:
    """Return the way on from a format that is recognised but not read."""
    for word, way in _WAYS_ON.items():
        if word in kind:
            return way
    return "name a safetensors file, or one that torch.save wrote"


_NEW_ROWS = "write it as PATTERN=N:INIT, such as embed.weight=50300:mean or :normal:std=0.02"

_WAYS_ON = {
    "TorchScript": "save its weights first: torch.save(torch.jit.load(FILE).state_dict(), 'm.pt')",
    "exported": "save its weights first: torch.save(torch.export.load(FILE).state_dict, 'm.pt')",
    "compressed": "unpack it and pack it anew with: zip -0 -r",
    "gzip": "unpack it first: gunzip",
    "big-endian": "load it with torch and save it anew on this machine",
}


def _meant(found: Sequence[str]) -> str | None:
    return _did_you_mean(found, "") or None


def _did_you_mean(found: Sequence[str], otherwise: str) -> str:
    return f"did you mean {' or '.join(found)}?" if found else otherwise


def _unmatched(error: errors.UnmatchedRuleError) -> str:
    source = shlex.quote(error.source)
    if error.corrected:
        return f"did you mean -r {shlex.quote(error.corrected)}?"
    if error.near:
        return f"the nearest keys are {', '.join(error.near)}; reinit keys {source} lists all"
    return f"reinit keys {source} lists the keys"


def _unknown_model(error: errors.UnknownModelError) -> str:
    command = next(iter(near(error.name, COMMANDS, 1)), None)
    meant = (*((f"the command {command}",) if command else ()), *error.near)
    return _did_you_mean(meant, "reinit models lists the models; a path has a dot or a slash")
