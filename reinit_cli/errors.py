"""Everything that reinit refuses, as one tree of families.

ReinitError
├── UnknownNameError (LookupError, ValueError)  an unknown name: its kind, the known names
├── RuleError (ValueError)                      a rule, or another requested change
│   ├── PatternError
│   ├── ArgumentError
│   ├── MissingRuleError
│   ├── UnmatchedRuleError (LookupError)
│   └── UnfillableError                         a tensor that its rule cannot fill
├── SourceError                                 a source
│   ├── SourceNotFoundError (FileNotFoundError)
│   ├── UnreadableSourceError (OSError)
│   ├── MalformedFileError (ValueError)
│   ├── UnsupportedFormatError
│   └── SourceChangedError
├── OutputError                                 an output
│   ├── OutputExistsError (FileExistsError)
│   ├── OutputTakenError                        a path that the same run reads or writes
│   ├── OutputUnwritableError (OSError)
│   └── UnwritableContentError
├── RecipeError (ValueError)                    a recipe, a plan, or an environment variable
├── RecordError (ValueError)                    a provenance record
├── TensorError (ValueError)                    values that cannot be shown or transformed
├── CheckFailedError                            drawn values that fail a test
├── PackageError (ImportError)                  a missing or broken package
└── InputError                                  one of several sources, and its error

The module is one long story: the families are read together.

An exception holds facts and says in one line what is wrong; what to type next follows from
the facts, and the command line says it (`reinit_cli.cli.hints`).
"""

from __future__ import annotations

import copyreg
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from reinit_cli.text import LONGEST_LINE, LONGEST_WORD, quoted, shortened

__all__ = [
    "ArgumentError",
    "CheckFailedError",
    "InputError",
    "MalformedFileError",
    "MissingRuleError",
    "OutputError",
    "OutputExistsError",
    "OutputTakenError",
    "OutputUnwritableError",
    "PackageError",
    "PatternError",
    "RecipeError",
    "RecordError",
    "ReinitError",
    "RuleError",
    "SourceChangedError",
    "SourceError",
    "SourceNotFoundError",
    "TensorError",
    "UnfillableError",
    "UnknownNameError",
    "UnmatchedRuleError",
    "UnreadableSourceError",
    "UnsupportedFormatError",
    "UnwritableContentError",
]


class _Fact(str):
    """A text whose `!r` is for people."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Return it within quotes."""
        return quoted(str(self))


class ReinitError(Exception):
    """The base class of all errors; its text is one line.

    Attributes:
        about: the path, key, rule or name that was refused.
        problem: what is wrong with it.
        known: valid alternatives: names, keys, paths, corrected texts.
        kind: the variant of the error within its class; "" for the usual one.
        word: the misspelled part of `about`, or None.
        of: the source, model or initializer that refused it or does not have it.
        hint: what to do next, for errors of Python functions; "" if unknown. The command line
            has its own hints.
        notes: short notes on files that exist in spite of the error.
        is_answer: whether it is a negative result rather than a failure.
    """

    sentences: ClassVar[Mapping[str, str]] = {"": "{problem}"}
    """The text of each kind of the family, made of its facts."""

    is_answer = False

    def __init__(
        self,
        about: str = "",
        problem: str = "",
        known: Iterable[str] = (),
        *,
        kind: str = "",
        word: str | None = None,
        of: str = "",
    ) -> None:
        self.about = about
        self.problem = problem
        self.known = tuple(known)
        self.kind = kind
        self.word = word
        self.of = of
        self.hint = ""
        self.notes: tuple[str, ...] = ()
        super().__init__(str(self))

    def __str__(self) -> str:
        """Say what is wrong, in one line."""
        sentence = self.sentences.get(self.kind) or self.sentences[""]
        said = sentence.format_map(
            {
                name: _Fact(shortened(fact, LONGEST_LINE if name == "problem" else LONGEST_WORD))
                for name, fact in vars(self).items()
                if isinstance(fact, str)
            }
        )
        return "; ".join((said, *self.notes))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the facts, so that an error survives the way between two processes."""
        return copyreg.__newobj__, (type(self),), vars(self)  # type: ignore[attr-defined]


class UnknownNameError(ReinitError, LookupError, ValueError):
    """A name that nothing has.

    Its kind says what has no such name: an initializer, a dtype, a device ("inexact
    device" for one that draws other numbers), a random stream ("newer stream" for one of a later
    version), a model (or file), an architecture (or "timm model", or "type of models" of transformers), the class of one in a module or file, the weights of a model ("tag" where they are a part of its name), a key of a source, the
    root of a file, or a placeholder of an output's name. It is "pattern" where a pattern matches none of the names,
    "excluded" where all that match are excluded, and "empty" where there is none at all.
    """

    sentences: ClassVar[Mapping[str, str]] = {
        "": "unknown {kind} {about!r}",
        "newer stream": "stream {about!r} is newer than this reinit, which has {problem}",
        "float dtype": "dtype {about!r} is not a floating-point one",
        "device": "device {about!r} is not available (available: {problem})",
        "inexact device": "device {about!r} does not draw {of} right: {problem}",
        "model": "{about!r} is neither a torchvision model nor a file",
        "architecture": "there is no torchvision model {about!r}",
        "type of models": "transformers {problem} has no type of models {about!r}",
        "timm model": "there is no timm model {about!r}",
        "class": "{of!r} has no class or function {about!r}",
        "weights": "{of} has no weights {about!r}; {problem}",
        "tag": "{of} has no weights {about!r}; {problem}",
        "key": "{of} has no key {about!r}",
        "pattern": "no {problem} matches {about!r}",
        "excluded": "no {about} is left: -x excludes all of them",
        "empty": "{of} has no tensors",
        "root": "{of!r} has no state dict at {about!r}",
        "file to copy": "{of!r} has no file {about!r} to copy",
        "placeholder": "output {of!r}: there is no placeholder '{{{about}}}'; there is {problem}",
    }


class RuleError(ReinitError, ValueError):
    """A rule, or another change of tensors, that cannot be obeyed as it was given.

    Its kind is "" for how a rule is written, "tied" where two rules disagree, "architecture"
    where a rule depends on one that is not known, "arch" where one cannot be built, "arch
    arguments" where its constructor does not take some (`known` is what it takes), "no arch" where
    there is no constructor for them, "part" where a bracket can be read in two ways
    (`known` is how each is written), and otherwise what was asked for besides
    rules: "rename" ("form" for how one is written, "clash" for a name that two keys would have),
    "drop", "only", "dtype", "resize" ("rows" for new rows that an initializer, `of`, cannot fill,
    "large rows" where numbers that are too large can be clamped), "classes", "optimizer",
    "parameters" where it is not certain which tensors those of an optimizer are, or "owner"
    where it is not certain of which network an optimizer is.
    """

    sentences: ClassVar[Mapping[str, str]] = {
        "": "{problem}",
        "architecture": "`default` needs an architecture: a checkpoint does not say which model it is",
        "arch": "the architecture {about!r} cannot be built: {problem}",
        "no arch": "arguments of a constructor are given, and no architecture",
        "arch arguments": "the architecture {about!r} cannot be built: {problem}",
        "classes": "{about!r} {problem}",
        "optimizer": "the optimizer state cannot be reset: {about!r}: {problem}",
        "parameters": "the optimizer state cannot be reset: {about!r}: {problem}",
        "owner": "the optimizer state cannot be reset: {about!r}: {problem}",
    }


class PatternError(RuleError):
    """A pattern that is not a glob over keys."""

    sentences: ClassVar[Mapping[str, str]] = {"": "pattern {about!r}: {problem}"}


class ArgumentError(RuleError):
    """An argument that an initializer does not take.

    `known` is what to write instead, or where `word` is misspelled, what it can be. Its kind is
    "empty", "missing", "lone" for a number that may be either of two arguments, or "point" for
    a fraction with a comma. `of` is the pattern of its rule.
    """

    sentences: ClassVar[Mapping[str, str]] = {
        "": "{about}: {problem}",
        "empty": "{about}: an argument is empty",
        "missing": "{about}: {problem} is missing",
        "lone": "{about}: {problem} alone is ambiguous",
    }


class MissingRuleError(RuleError):
    """Nothing is asked for of a source, which `about` names."""

    sentences: ClassVar[Mapping[str, str]] = {"": "no rule was given, so there is nothing to do"}


class UnmatchedRuleError(RuleError, LookupError):
    """A rule that matches no key, or fills none of those that it matches.

    `about` is the rule, `word` its pattern, `of` the source, and `known` the source's keys
    where none matched. The kind is "exclude" for the pattern of -x.
    """

    sentences: ClassVar[Mapping[str, str]] = {
        "": "rule {about!r} {problem}",
        "exclude": "-x {word!r} {problem}",
    }


class UnfillableError(RuleError):
    """A tensor that a rule selects but its initializer cannot fill.

    `about` is the key, `word` the rule and `of` the initializer. The kind is "wildcard" where
    only `strict` makes it an error, "large" where its dtype has no numbers as large, "norm" where another tensor holds norms of it, "part" where
    the tensor may not have the part that the rule names, and "drawn" where an initializer (`word`)
    fills a tensor without a rule.
    """

    sentences: ClassVar[Mapping[str, str]] = {
        "": "rule {word!r} cannot fill {about!r}: {problem}",
        "drawn": "{word} cannot fill {about!r}: {problem}",
    }


class SourceError(ReinitError):
    """A source that cannot be read.

    Its kind is "no tensors" for a mapping in memory without one, `known` being its keys of others.
    """

    sentences: ClassVar[Mapping[str, str]] = {
        "": "{problem}",
        "no tensors": "{about} has no tensors",
    }


class SourceNotFoundError(SourceError, FileNotFoundError):
    """A path where there is no file.

    `known` holds the names in the same folder. Its kind is "link" where a link leads to
    nothing (`of`), "elsewhere" for a URL where only files of this machine are read, "remote" for a URL, "scheme" for one that no file system has (`of`), "url" for that of a file of this machine, and "weights"
    where pretrained weights should be. On the Hugging Face Hub it is "model" or "revision" for what
    there is not, and "in model" for a file of a model (`of`).
    """

    sentences: ClassVar[Mapping[str, str]] = {
        "": "no such file: {about!r}",
        "link": "{about!r} is a link to {of!r}, which does not exist",
        "elsewhere": "{about!r} is not on this machine, and nothing is fetched",
        "remote": "there is no {about!r}",
        "scheme": "{about!r}: there is no file system for {of}://",
        "url": "{about!r} is a URL, and files are named by their paths",
        "model": "there is no model {about!r} on the Hugging Face Hub, or it is private",
        "revision": "the model {of!r} has no revision {about!r}",
        "in model": "{of!r} has no file {about!r}",
        "weights": "the pretrained weights of {of} are not at {about!r} "
        "and cannot be downloaded ({problem})",
    }


class UnreadableSourceError(SourceError, OSError):
    """A source that cannot be read, or where its links of weights lead ("link").

    Its kind is "access" where a server lets us not have it; on the Hugging Face Hub it is "gated"
    where terms have to be accepted, "token" where it may want another token, "hub" where the
    Hub cannot be reached (`of` is its address), and "uncached" where it must not be asked.
    """

    sentences: ClassVar[Mapping[str, str]] = {
        "": "cannot read {about!r}: {problem}",
        "access": "no access to {about!r}: {problem}",
        "gated": "no access to {about!r}: its terms have to be accepted",
        "token": "no access to {about!r}: {problem}",
        "uncached": "{about!r} is not in the cache of the Hub, and HF_HUB_OFFLINE is set",
    }


class MalformedFileError(SourceError, ValueError):
    """A file that is not what its format allows.

    Its kind is what the file would have to be, "crc" where the bytes are not those whose
    CRC-32 it records, or "shards" where a folder can be read, but not rewritten as it is.
    """

    sentences: ClassVar[Mapping[str, str]] = {
        "": "{about!r} is not a valid {kind}: {problem}",
        "DCP metadata": "{about!r} is not valid {kind}: {problem}",
        "crc": "{about!r} is damaged: {problem}",
        "shards": "{about!r} cannot be rewritten as it is: {problem}",
    }

    def __init__(self, about: str, problem: str, kind: str = "checkpoint") -> None:
        super().__init__(about, problem, kind=kind)


class UnsupportedFormatError(SourceError):
    """A file that is recognized but not read.

    `word` is the way on, as the command line knows it, and `known` what it holds. Its kind is
    "stand-in" where something lies in the place of a checkpoint that was to be downloaded,
    "several" where one of several sources has to be named (`known` holds their paths),
    "root" where no one state dict is found in it (`known` holds the places with tensors),
    "names" where its pickle names what torch does not allow, and "edit" where its pickle cannot
    be changed without changing more than was asked for.
    """

    sentences: ClassVar[Mapping[str, str]] = {
        "": "{about!r} is {problem}, which cannot be read",
        "stand-in": "{about!r} is {problem}",
        "several": "{about!r} {problem}",
        "root": "{about!r} {problem}",
        "names": "the pickle in {about!r} names {problem}",
        "edit": "the pickle in {about!r} cannot be changed in place: {problem}",
    }


class SourceChangedError(SourceError):
    """A source that changed while it was read; of the kind "sent" where bytes had gone out."""

    sentences: ClassVar[Mapping[str, str]] = {
        "": "{about!r} changed while it was being read; nothing was written",
        "sent": "{about!r} changed while it was being read; standard output has a part",
    }


class OutputError(ReinitError):
    """An output that cannot be written.

    Its kind is "name" where the form of its name is wrong, "copy" where other files are to go
    along and there are none, "check" where it could not be taken back, "unnamed" where its
    source is in memory and no path is given, "ranks" where several processes cannot write it
    together, "rank plan" where they do not plan the same,
    "rank gone" where one of them is gone without a reason of its own, and "resume" where there
    is one process only.
    """

    sentences: ClassVar[Mapping[str, str]] = {
        "": "{problem}",
        "name": "output {about!r}: {problem}",
        "copy": "{about!r} has no other files to copy, or the output is not a folder",
        "check": "--check cannot be used with -o -",
        "ranks": "{problem}",
        "unnamed": "{about} is in memory and has no path to name an output after",
    }


class OutputExistsError(OutputError, FileExistsError):
    """An output that exists; the kind is "report" or "record" for a file next to it."""

    sentences: ClassVar[Mapping[str, str]] = {"": "{about!r} already exists"}


class OutputTakenError(OutputError):
    """A place that the same run reads, or writes another output to.

    Its kind is "source" where an output is the source itself, "inside" where a folder would be
    inside of its source (`of`), "read" where it would replace another file that is read, "report" or "record" where such a file would replace a
    checkpoint or another file of the run, and "output" where two outputs have one place, "seed" if
    only their seeds differ and "twice" if nothing does.
    """

    sentences: ClassVar[Mapping[str, str]] = {
        "": "the {kind} {about!r} would take the place of {problem}",
        "source": "the output {about!r} is the source itself",
        "inside": "the output {about!r} would be a folder inside its source {of!r}",
        "read": "the output {about!r} would take the place of {problem} that is read",
        "output": "{problem}",
        "seed": "{problem}",
        "twice": "{problem}",
    }


class OutputUnwritableError(OutputError, OSError):
    """A place that cannot be written to; of the kind "stream", standard output.

    Its kind is "sync" where what was written may be lost in a crash of the system, "temporary"
    where only a temporary is left over, and where a source cannot be replaced "link" (to `of`;
    `known` is what can be named instead), "in place" for a folder (`known` holds its files),
    "locked" or "open" by another, "access" for a folder that is read-only (`of` is "report" or
    "record" for a file next to an output), and "remote" for a URL. It is "hub" for a place on the Hub, "url"
    for the URL of a file on this machine, "cache" where it would lie in one, and "suffix" where its
    suffix does not name a format (`known` holds names that can be meant).
    """

    sentences: ClassVar[Mapping[str, str]] = {
        "": "cannot write {about!r}: {problem}",
        "stream": "cannot write to standard output: {problem}",
        "sync": "cannot force {about!r} to the disk: {problem}",
        "temporary": "{problem}",
        "link": "cannot replace {about!r}: it is a link to {of!r}",
        "open": "cannot replace {about!r}: another program has it open to write",
        "locked": "cannot replace {about!r}: another run is replacing it",
    }


class UnwritableContentError(OutputError):
    """Content that the format of an output cannot hold.

    `known` holds the suffix of a format that can. The kind is "rest" for what lies next to the
    tensors and would be lost ("left out" where no format would keep it), and "record" for a
    provenance record. `of` is the only file of
    weights in a folder, which would keep it if it were named.
    """

    sentences: ClassVar[Mapping[str, str]] = {
        "": "{about!r} cannot hold {problem}",
        "rest": "{about!r} cannot store {problem}",
        "left out": "{about!r} cannot store {problem}",
        "record": "{problem} cannot store a record",
    }


class RecipeError(ReinitError, ValueError):
    """A recipe, plan or record that cannot be obeyed; of the kind "variable", an environment's.

    Of the kind "outside" it names a path outside of the current folder, in the folder `known`;
    of the kind "code", code that only a user may name, as `known`.
    """

    sentences: ClassVar[Mapping[str, str]] = {
        "": "recipe {about!r}: {problem}",
        "variable": "environment variable {about}: {problem}",
    }


class RecordError(ReinitError, ValueError):
    """A provenance record that cannot be read, or does not exist."""

    sentences: ClassVar[Mapping[str, str]] = {"": "{about!r}: {problem}"}


class TensorError(ReinitError, ValueError):
    """A tensor whose values cannot be shown.

    Where it is not to be shown, its kind is "transform", "draw", "write", "slice", "cast",
    "overflow" (of the dtype `of`) or "mask".
    """

    sentences: ClassVar[Mapping[str, str]] = {
        "": "the values of {about!r} cannot be shown: {problem}",
        "transform": "{about!r} cannot be transformed: {problem}",
        "draw": "{about!r} cannot be drawn: {problem}",
        "write": "{about!r} cannot be written: {problem}",
        "slice": "slice {about!r}: {problem}",
        "mask": "{about!r} of {of!r} is not a valid mask: {problem}",
        "cast": "{about!r} cannot be cast: {problem} would become infinite or NaN",
        "overflow": "{about!r} overflows {of}: {problem}",
    }


class CheckFailedError(ReinitError):
    """What was drawn does not follow its distribution; nothing was committed.

    Args:
        failures: each in a line, the first of the plan first; kept as `known`.
    """

    is_answer = True

    def __init__(self, failures: Sequence[str]) -> None:
        more = f"; {len(failures) - 1} more tests failed" if len(failures) > 1 else ""
        super().__init__("", f"{failures[0]}{more}", failures)


class PackageError(ReinitError, ImportError):
    """A package that `of` needs and that is not installed.

    Its kind is "plugin" where a package of initializers cannot be loaded, "broken" where
    another cannot be imported, "law" where one of its initializers fails, and "stream" where this Python cannot draw a random stream.
    """

    sentences: ClassVar[Mapping[str, str]] = {
        "": "{of} needs {about}, which is not installed",
        "law": "the initializer {of!r} of {about} failed: {problem}",
        "plugin": "the initializers {of!r} of {about} cannot be loaded: {problem}",
        "broken": "{about} cannot be imported: {problem}",
        "stream": "{about} cannot be drawn with this Python: {problem}",
    }


class InputError(ReinitError):
    """What is wrong with one of several inputs; the cause says it.

    Args:
        source: the input as the user named it; kept as `about`.
        cause: what is wrong.
    """

    def __init__(self, source: str, cause: ReinitError) -> None:
        self.cause = cause
        said = str(cause)
        super().__init__(source, said if quoted(source) in said else f"{source}: {said}")
