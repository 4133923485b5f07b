"""What can go wrong, as one tree.

ReinitError
├── RuleError (ValueError)            a rule as it was written
│   ├── PatternError
│   ├── UnknownInitializerError
│   ├── PluginError
│   ├── ArgumentError
│   ├── MissingRuleError
│   ├── UnmatchedRuleError (LookupError)
│   ├── MissingArchitectureError
│   ├── UnfillableError               a tensor that its rule cannot fill
│   ├── TiedRulesError                one tensor under two keys, two wishes
│   ├── ResizeError
│   ├── ClassesError
│   └── OptimizerError
├── SourceError                       what is read
│   ├── SourceNotFoundError (FileNotFoundError)
│   ├── UnreadableSourceError (OSError)
│   ├── MalformedFileError (ValueError)
│   ├── UnsupportedFormatError
│   ├── RootError (LookupError)
│   ├── UnknownNamesError
│   ├── CorruptError
│   ├── SourceChangedError
│   ├── UnknownModelError (LookupError)
│   ├── UnknownArchitectureError (LookupError)
│   ├── UnknownWeightsError (LookupError)
│   ├── WeightsUnavailableError
│   └── WeightsMismatchError
├── OutputError                       what is written
│   ├── OutputExistsError (FileExistsError)
│   │   └── BesideExistsError
│   ├── OutputIsSourceError
│   ├── BesideIsOutputError
│   ├── OutputUnwritableError (OSError)
│   ├── IrrevocableOutputError
│   ├── UnwritableContentError
│   ├── UnrecordableError
│   ├── LossError
│   ├── PlaceholderError (ValueError)
│   └── EqualOutputsError
├── SettingError (ValueError)         what is read beside the command line
│   ├── RecipeError
│   ├── RecordError
│   └── VariableError
├── InputError                        one of several inputs, and what is wrong with it
├── CheckFailedError                  what was drawn
├── UnknownKeyError (LookupError)     what is looked at
├── UnreadableTensorError
├── SliceError (ValueError)
├── MissingPackageError (ImportError) what a report is made with
├── DeviceUnavailableError            where values are drawn
└── UnknownDtypeError (LookupError)

An exception holds facts and says them in one line; what to type next is the command
line's to say (`reinit_cli.cli.advice`).
"""

from __future__ import annotations

from collections.abc import Sequence


class ReinitError(Exception):
    """Anything this project refuses to do; its text is one line."""


class RuleError(ReinitError, ValueError):
    """A rule that cannot be obeyed as it was written."""


class PatternError(RuleError):
    """A pattern that is not a glob over keys.

    Args:
        pattern: the whole pattern as written.
        problem: what is wrong with it.
    """

    def __init__(self, pattern: str, problem: str) -> None:
        super().__init__(f"pattern {pattern!r}: {problem}")
        self.pattern = pattern


class UnknownInitializerError(RuleError):
    """A name that no initializer has.

    Args:
        name: the name as written.
        near: names that are spelled alike, the nearest first.
    """

    def __init__(self, name: str, near: Sequence[str] = ()) -> None:
        super().__init__(f"unknown initializer {name!r}")
        self.name = name
        self.near = tuple(near)


class PluginError(RuleError):
    """A package whose initializers cannot be loaded.

    Args:
        package: its name.
        entry: the name of its entry point.
        problem: what loading it raised.
    """

    def __init__(self, package: str, entry: str, problem: str) -> None:
        super().__init__(f"the initializers {entry!r} of {package} cannot be loaded: {problem}")
        self.package = package


class ArgumentError(RuleError):
    """An argument that its initializer does not take.

    Args:
        initializer: its name.
        problem: what is wrong.
        near: what was perhaps meant: whole initializer texts or words.
    """

    def __init__(self, initializer: str, problem: str, near: Sequence[str] = ()) -> None:
        super().__init__(f"{initializer}: {problem}")
        self.initializer = initializer
        self.near = tuple(near)


class MissingRuleError(RuleError):
    """Nothing was asked for."""

    def __init__(self) -> None:
        super().__init__("no rule was given, so there is nothing to do")


class UnmatchedRuleError(RuleError, LookupError):
    """A rule that matches no key, or fills none of those it matches.

    Args:
        rule: the rule as written.
        problem: that it matches no key of the source, or why it fills nothing of it.
        source: the name of what was searched.
        corrected: the rule with its pattern's segments spelled as the nearest keys
            have them, if that matches.
        near: the nearest keys.
    """

    def __init__(
        self,
        rule: str,
        problem: str,
        source: str,
        corrected: str | None = None,
        near: Sequence[str] = (),
    ) -> None:
        super().__init__(f"rule {rule!r} {problem}")
        self.rule = rule
        self.source = source
        self.corrected = corrected
        self.near = tuple(near)


class MissingArchitectureError(RuleError):
    """A rule that asks for an architecture's default where none is known."""

    def __init__(self) -> None:
        super().__init__("default depends on the architecture, which a checkpoint does not name")


class UnfillableError(RuleError):
    """A tensor that a rule names but its initializer cannot fill.

    Args:
        rule: the rule as written.
        key: the tensor's key.
        reason: why not.
        initializer: the name of the rule's initializer.
        by_wildcard: whether a wildcard found it, so that only `strict` makes it an error.
    """

    def __init__(
        self, rule: str, key: str, reason: str, *, initializer: str, by_wildcard: bool
    ) -> None:
        super().__init__(f"rule {rule!r} cannot fill {key!r}: {reason}")
        self.rule = rule
        self.key = key
        self.initializer = initializer
        self.by_wildcard = by_wildcard


class TiedRulesError(RuleError):
    """Two keys of one tensor that are given different rules.

    Args:
        first, second: pairs of key and rule.
    """

    def __init__(self, first: tuple[str, str], second: tuple[str, str]) -> None:
        super().__init__(
            f"{first[0]!r} and {second[0]!r} are one tensor, but "
            f"rule {first[1]!r} and rule {second[1]!r} say different things of it"
        )


class ResizeError(RuleError):
    """A first dimension that cannot become what is asked for.

    Args:
        resize: as written, or the key that it cannot be done to.
        problem: why not.
        near: the nearest keys.
    """

    def __init__(self, resize: str, problem: str, near: Sequence[str] = ()) -> None:
        super().__init__(problem if repr(resize) in problem else f"resize {resize!r} {problem}")
        self.near = tuple(near)


class ClassesError(RuleError):
    """A source that cannot be given another number of classes."""

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(f"{source!r} {problem}")


class OptimizerError(RuleError):
    """Optimizer state that cannot be reset.

    Args:
        path: the file, or where in it the optimizer lies.
        problem: why not.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"the optimizer state cannot be reset: {path!r}: {problem}")


class SourceError(ReinitError):
    """A source that cannot be read."""


class SourceNotFoundError(SourceError, FileNotFoundError):
    """A path where nothing is.

    Args:
        path: as written.
        near: names in the same folder, or of models, that are spelled alike.
    """

    def __init__(self, path: str, near: Sequence[str] = ()) -> None:
        super().__init__(f"there is no file {path!r}")
        self.path = path
        self.near = tuple(near)


class UnreadableSourceError(SourceError, OSError):
    """A source that the system does not let us read."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"cannot read {path!r}: {problem}")


class MalformedFileError(SourceError, ValueError):
    """A file that is not what its format allows.

    Args:
        path: the file.
        problem: the first thing that is wrong.
        format_: what it would have to be.
    """

    def __init__(self, path: str, problem: str, format_: str = "checkpoint") -> None:
        super().__init__(f"{path!r} is no valid {format_}: {problem}")
        self.path = path


class UnsupportedFormatError(SourceError):
    """A file of a format that is recognised but not read.

    Args:
        path: the file.
        kind: what it was recognised as.
    """

    def __init__(self, path: str, kind: str) -> None:
        super().__init__(f"{path!r} is {kind}, which cannot be read")
        self.path = path
        self.kind = kind


class RootError(SourceError, LookupError):
    """A file in which the state dict is not found.

    Args:
        path: the file.
        root: where the user says it is, or None.
        candidates: where tensors are.
    """

    def __init__(self, path: str, root: str | None, candidates: Sequence[str]) -> None:
        if root is not None:
            problem = f"{path!r} has no dictionary at {root!r}"
        elif candidates:
            problem = f"{path!r} holds tensors in {len(candidates)} places, none the obvious one"
        else:
            problem = f"{path!r} holds no state dict"
        super().__init__(problem)
        self.candidates = tuple(candidates)


class UnknownNamesError(SourceError):
    """A pickle that names what torch does not allow.

    Args:
        path: the file.
        names: what it would import.
    """

    def __init__(self, path: str, names: Sequence[str]) -> None:
        super().__init__(f"the pickle in {path!r} names {', '.join(names)}")
        self.path = path


class CorruptError(SourceError):
    """Bytes that are not those whose CRC-32 the file records."""

    def __init__(self, path: str, name: str) -> None:
        super().__init__(f"{path!r} is damaged: the CRC-32 of {name!r} does not match")
        self.path = path


class SourceChangedError(SourceError):
    """A source that changed while it was read."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path!r} changed while it was being read; nothing was written")


class UnknownModelError(SourceError, LookupError):
    """A name that is neither a torchvision model nor a file.

    Args:
        name: as written.
        near: model names, commands or files that are spelled alike.
    """

    def __init__(self, name: str, near: Sequence[str] = ()) -> None:
        super().__init__(f"{name!r} is neither a torchvision model nor a file")
        self.name = name
        self.near = tuple(near)


class UnknownArchitectureError(SourceError, LookupError):
    """A name of no torchvision model.

    Args:
        name: as written.
        near: names of models that are spelled alike.
    """

    def __init__(self, name: str, near: Sequence[str] = ()) -> None:
        super().__init__(f"there is no torchvision model {name!r}")
        self.name = name
        self.near = tuple(near)


class UnknownWeightsError(SourceError, LookupError):
    """Weights that a model does not have.

    Args:
        model: the model's name.
        weights: as written.
        known: the names of the weights it has.
        near: those that are spelled alike.
    """

    def __init__(
        self, model: str, weights: str, known: Sequence[str], near: Sequence[str] = ()
    ) -> None:
        has = f"it has {', '.join(known)}" if known else "it has none"
        super().__init__(f"{model} has no weights {weights!r}; {has}")
        self.model = model
        self.known = tuple(known)
        self.near = tuple(near)


class WeightsUnavailableError(SourceError):
    """Pretrained weights that are not in torch's cache and cannot be downloaded.

    Args:
        model: the model's name.
        path: the file that was looked for.
        problem: what the download said.
    """

    def __init__(self, model: str, path: str, problem: str) -> None:
        super().__init__(
            f"the pretrained weights of {model} are not at {path!r} "
            f"and cannot be downloaded ({problem})"
        )
        self.model = model
        self.path = path


class WeightsMismatchError(SourceError):
    """A file of weights whose tensors are not the model's."""

    def __init__(self, model: str, path: str, problem: str) -> None:
        super().__init__(f"{path!r} does not hold the weights of {model}: {problem}")


class OutputError(ReinitError):
    """An output that cannot be written."""


class OutputExistsError(OutputError, FileExistsError):
    """An output that is already there."""

    def __init__(self, path: str) -> None:
        super().__init__(f"the output {path!r} exists")
        self.path = path


class BesideExistsError(OutputExistsError):
    """A file beside an output that is there already.

    Args:
        path: the file.
        what: "report" or "record", as its option is called.
    """

    def __init__(self, path: str, what: str) -> None:
        super().__init__(path)
        self.what = what


class OutputIsSourceError(OutputError):
    """An output that is the source itself."""

    def __init__(self, path: str) -> None:
        super().__init__(f"the output {path!r} is the source itself")
        self.path = path


class BesideIsOutputError(OutputError):
    """A file beside an output that would go where a checkpoint is read or written.

    Args:
        path: the file.
        what: "report" or "record", as its option is called.
    """

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"the {what} {path!r} would take the place of a checkpoint")
        self.path = path
        self.what = what


class OutputUnwritableError(OutputError, OSError):
    """A place that cannot be written to."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"cannot write {path!r}: {problem}")
        self.path = path


class UnwritableContentError(OutputError):
    """Content that the output's format cannot hold.

    Args:
        path: the output.
        problem: what cannot be held, by key.
        suffix: the suffix of a format that can hold it, or None.
    """

    def __init__(self, path: str, problem: str, suffix: str | None = None) -> None:
        super().__init__(f"{path!r} cannot hold {problem}")
        self.path = path
        self.suffix = suffix


class IrrevocableOutputError(OutputError):
    """An output that cannot be taken back when a check fails."""

    def __init__(self) -> None:
        super().__init__("what is written to standard output cannot be taken back by --check")


class UnrecordableError(OutputError):
    """An output that cannot hold a record of its own making."""

    def __init__(self, path: str) -> None:
        place = "standard output" if path == "-" else repr(path)
        super().__init__(f"{place} cannot hold a record of its own making")


class LossError(OutputError):
    """Content beside the tensors that the output's format cannot hold.

    Args:
        path: the output.
        lost: paths of what would be lost, each with what it is.
    """

    def __init__(self, path: str, lost: Sequence[str]) -> None:
        more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
        super().__init__(f"{path!r} would lose {', '.join(lost[:5])}{more}")
        self.path = path


class PlaceholderError(OutputError, ValueError):
    """The form of an output's name with something in braces that stands for nothing.

    Args:
        form: the form as written.
        problem: what is wrong with it.
        near: placeholders that are spelled alike.
    """

    def __init__(self, form: str, problem: str, near: Sequence[str] = ()) -> None:
        super().__init__(f"output {form!r}: {problem}")
        self.near = tuple(near)


class EqualOutputsError(OutputError):
    """Two outputs of one command at one place.

    Args:
        path: the place, "-" for standard output.
        first, second: the sources, with their seeds where those differ.
        differs_in_seed: whether only the seeds tell the two apart.
    """

    def __init__(self, path: str, first: str, second: str, *, differs_in_seed: bool) -> None:
        place = "standard output" if path == "-" else repr(path)
        super().__init__(f"{first} and {second} would both be written to {place}")
        self.differs_in_seed = differs_in_seed


class SettingError(ReinitError, ValueError):
    """What is read beside the command line and is not as it must be."""


class RecipeError(SettingError):
    """A recipe that cannot be obeyed.

    Args:
        path: its file.
        problem: the first thing that is wrong.
        near: fields or files that are spelled alike.
    """

    def __init__(self, path: str, problem: str, near: Sequence[str] = ()) -> None:
        super().__init__(f"recipe {path!r}: {problem}")
        self.path = path
        self.near = tuple(near)


class VariableError(SettingError):
    """An environment variable that cannot be obeyed."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"environment variable {name}: {problem}")
        self.name = name


class RecordError(SettingError):
    """A record of a checkpoint's making that cannot be read, or is not there.

    Args:
        path: the file.
        problem: the first thing that is wrong.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path!r}: {problem}")
        self.path = path


class InputError(ReinitError):
    """What is wrong with one of several inputs; the cause says it.

    Args:
        source: the input as the user named it.
        cause: what is wrong.
    """

    def __init__(self, source: str, cause: ReinitError) -> None:
        said = str(cause)
        super().__init__(said if repr(source) in said else f"{source}: {said}")
        self.source = source
        self.cause = cause


class CheckFailedError(ReinitError):
    """What was drawn does not follow its law; nothing was committed.

    Args:
        failures: each in a line, the first of the plan first.
    """

    def __init__(self, failures: Sequence[str]) -> None:
        more = f"; {len(failures) - 1} more tests failed" if len(failures) > 1 else ""
        super().__init__(f"{failures[0]}{more}")
        self.failures = tuple(failures)


class UnknownKeyError(ReinitError, LookupError):
    """A key that a source does not have.

    Args:
        key: as written.
        source: the name of the source.
        near: its keys that are spelled alike.
    """

    def __init__(self, key: str, source: str, near: Sequence[str] = ()) -> None:
        super().__init__(f"{source} has no key {key!r}")
        self.source = source
        self.near = tuple(near)


class UnreadableTensorError(ReinitError):
    """An entry whose values cannot be read."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"the values of {key!r} cannot be shown: {reason}")


class UntransformableError(ReinitError):
    """A tensor whose values a transform cannot work on; nothing was committed."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key!r} cannot be transformed: {problem}")
        self.key = key


class SliceError(ReinitError, ValueError):
    """A slice that is none, or that a tensor does not have."""

    def __init__(self, text: str, problem: str) -> None:
        super().__init__(f"slice {text!r}: {problem}")


class MissingPackageError(ReinitError, ImportError):
    """A package that is installed only where it is asked for.

    Args:
        purpose: what needs it.
        package: its name.
    """

    def __init__(self, purpose: str, package: str) -> None:
        super().__init__(f"{purpose} needs {package}, which is not installed")
        self.package = package


class DeviceUnavailableError(ReinitError):
    """A device that is not there.

    Args:
        device: as written.
        available: the devices that are.
    """

    def __init__(self, device: str, available: Sequence[str]) -> None:
        super().__init__(f"device {device!r} is not there; there is {', '.join(available)}")
        self.device = device
        self.available = tuple(available)


class UnknownDtypeError(ReinitError, LookupError):
    """A name that no dtype has."""

    def __init__(self, name: str, near: Sequence[str] = ()) -> None:
        super().__init__(f"unknown dtype {name!r}")
        self.name = name
        self.near = tuple(near)
