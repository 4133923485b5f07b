"""Writes the pages of docs/reference from what the code declares: `make docs` runs it."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import chdir
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import click

import reinit_cli
from reinit_cli import errors
from reinit_cli.checkpoints.find import find_source
from reinit_cli.checkpoints.formats.torch.pickles.record_kinds import CARRIED
from reinit_cli.cli.group import COMMANDS, group
from reinit_cli.cli.help import Command
from reinit_cli.cli.hints import hint_of
from reinit_cli.cli.render.manual import Entry
from reinit_cli.execution.measures import Filled
from reinit_cli.initializers import REGISTRY, Initializer
from reinit_cli.initializers.declaration import (
    COMMON,
    LAYOUT,
    PURPOSES,
    REQUIRED,
    Parameter,
    written,
)
from reinit_cli.initializers.gains import NONLINEARITIES, calculate_gain
from reinit_cli.initializers.parameters import Gain
from reinit_cli.operations.difference import Difference, Distance
from reinit_cli.operations.remake import Finding
from reinit_cli.operations.rewrite import Outcome
from reinit_cli.operations.stats import Measured, Statistics
from reinit_cli.operations.verify import Verdict
from reinit_cli.planning.plan import Plan, Step
from reinit_cli.provenance.compare import Gap
from reinit_cli.python.options import PlanOptions, RewriteOptions
from reinit_cli.python.results import Differences, Measurements
from reinit_cli.request.request import Request
from reinit_cli.request.rule import Rule
from reinit_cli.tensors.moments import Moments
from reinit_cli.tensors.spared import NOT_WEIGHTS

ROOT = Path(__file__).parents[1]

MADE = "<!-- Made by docs/make_reference.py from the code; `make docs` generates it. -->"

RESULTS = (
    Plan,
    Step,
    Request,
    RewriteOptions,
    PlanOptions,
    Outcome,
    Filled,
    Moments,
    Differences,
    Difference,
    Distance,
    Measurements,
    Measured,
    Statistics,
    Verdict,
    Finding,
    Gap,
    Initializer,
)
"""What the public functions return or ask for, and what that is made of."""


EXIT_CODES = (
    ("0", "done"),
    (
        "1",
        "negative result: `keys`, `stats` or `models` matched nothing, `diff` found a difference, "
        "a check failed, `stats` found NaN, `verify` found a mismatch",
    ),
    ("2", "error in usage, rules, input or output: one `error:` line, and nothing was written"),
    ("3", "some sources of a batch failed, and the others are done (`--keep-going`)"),
    ("129, 130, 141, 143", "SIGHUP, Ctrl-C, closed pipe, SIGTERM; an output is whole or not there"),
)


def pages() -> dict[str, str]:
    """Return the text of each page, by its path in docs/."""
    return {
        "reference/initializers.md": _page(_initializers()),
        "reference/commands.md": _page(_commands()),
        "reference/python.md": _page(_python()),
        "reference/what-is-read.md": _page(_what_is_read()),
        "reference/json.md": _page(_json()),
    }


def _page(blocks: Iterable[str]) -> str:
    return "\n\n".join((MADE, *blocks)) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _fenced(text: str, language: str = "text") -> str:
    return f"```{language}\n{text}\n```"


# --- initializers ----------------------------------------------------------------------------


def _initializers() -> Iterator[str]:
    # Other packages may add theirs, which are not ours to describe.
    ours = {
        purpose: [each for each in group if each.build.__module__.startswith("reinit_cli.")]
        for purpose, group in REGISTRY.by_purpose().items()
        if purpose != PURPOSES["other"]
    }
    yield "# Initializers"
    yield (
        "In a rule, write the initializer after the first `=` and its arguments after a colon. "
        "Give arguments by name, or give numbers in the order of the table. Words, such as a "
        "nonlinearity or a mode, need no name and can have any order. `reinit inits NAME` prints "
        "the same information."
    )
    for purpose, members in ours.items():
        yield f"**{purpose}**"
        yield _table(
            ("initializer", "use it to"),
            (
                (", ".join(f"[`{name}`](#{each.name})" for name in _names(each)), each.summary)
                for each in members
            ),
        )
    yield "## Arguments of all initializers"
    yield f"Every initializer except `keep` accepts {_and(COMMON)}."
    yield _arguments(COMMON)
    yield "## Arguments for other weight layouts"
    yield (
        "Initializers that use fan_in and fan_out also accept these arguments, for weights whose "
        "layout PyTorch does not know. By default fans are computed as in PyTorch: `shape[1]` and "
        "`shape[0]`, each times the size of the kernel."
    )
    yield _arguments(LAYOUT)
    yield "## Nonlinearities"
    yield "Where an argument accepts a nonlinearity, its name means this gain."
    yield _table(
        ("nonlinearity", "gain"),
        ((f"`{name}`", f"{calculate_gain(name):.6g}") for name in NONLINEARITIES),
    )
    yield (
        "`leaky_relu` has the gain √(2 / (1 + a²)) for the negative slope a: `leaky_relu,a=0.2`. "
        "The gains from `gelu` on are not from PyTorch: each is 1 / √E f(z)² for z from N(0, 1), "
        "which keeps the second moment of a signal."
    )
    yield "## What wildcards skip"
    yield (
        "A pattern with a wildcard matches weights. It skips the tensors in the table, and the "
        "report says so, unless the pattern spells out the last segment of the key, as "
        "`*.inv_freq` does. It also skips integers and bools, and a `bias` of shape (1, 1, n, n), "
        "the causal mask of GPT-2. A weight of 8 bits or less with scales next to it is skipped "
        "too: a weight and its scales are filled together or not at all, and an exact name that "
        "matches only one of them is an error."
    )
    yield (
        "The norms of weight norm (`weight_g`, or `parametrizations.weight.original0`) are set to "
        "those of the newly drawn `weight_v` or `original1`, so that the weight that the module "
        "computes follows the distribution. A rule whose last segment names the norms overrides "
        "this."
    )
    yield _table(
        ("last segment", "next to", "kind", "used by"),
        (
            (
                " ".join(f"`{name}`" for name in each.names),
                " ".join(f"`{name}`" for name in each.next_to)
                + (" of integers" if each.packed else ""),
                each.reason,
                each.source,
            )
            for each in NOT_WEIGHTS
        ),
    )
    for purpose, members in ours.items():
        yield f"## {purpose}"
        for each in members:
            yield from _initializer(each)


def _summary(of: object) -> str:
    return (inspect.getdoc(of) or "").partition("\n")[0]


def _names(declared: Initializer) -> tuple[str, ...]:
    return (declared.name, *declared.aliases)


def _and(parameters: Iterable[Parameter]) -> str:
    *first, last = (f"`{parameter.name}`" for parameter in parameters)
    return f"{', '.join(first)} and {last}" if first else last


def _initializer(declared: Initializer) -> Iterator[str]:
    yield f"### {declared.name}"
    also = f" Alias: {' and '.join(f'`{name}`' for name in declared.aliases)}."
    yield f"{declared.summary}{also if declared.aliases else ''}"
    facts = [
        f"- Law: {declared.law}",
        f"- Defined for: {declared.defined}",
        f"- Example: `{declared.example}`",
        *([f"- Paper: {declared.paper}"] if declared.paper else []),
    ]
    if "fans" in declared.asks:
        facts.append(
            f"- Uses fans, so it also accepts {_and(LAYOUT)}: "
            "[other weight layouts](#arguments-for-other-weight-layouts)"
        )
    if declared.version > 1:
        facts.append(
            f"- Version: {declared.version} ([stored in records]"
            "(../explanation/seeds.md#versions-of-laws))"
        )
    if declared.stream:
        facts.append(
            "- Uses existing values; if it draws random numbers, its stream is "
            f'`"SEED:KEY:{declared.stream}"`{_rounds(declared)}'
        )
    yield "\n".join(facts)
    if declared.parameters:
        yield _arguments(declared.parameters)


def _rounds(declared: Initializer) -> str:
    if not declared.has_rounds:
        return ""
    return (
        f', or `"SEED:KEY:{declared.stream}:ROUND"` with '
        "[`round=ROUND`](../how-to/perturb.md#change-weights-again-and-again)"
    )


def _arguments(parameters: Iterable[Parameter]) -> str:
    return _table(
        ("argument", "accepts", "default"),
        (
            (f"`{parameter.name}`", _accepts(parameter), _default(parameter))
            for parameter in parameters
        ),
    )


def _accepts(parameter: Parameter) -> str:
    kind = parameter.kind
    described = kind.describe()
    if isinstance(kind, Gain):
        described = f"{kind.number.describe()}, or a [nonlinearity](#nonlinearities)"
    return f"{described}; {parameter.meaning}" if parameter.meaning else described


def _default(parameter: Parameter) -> str:
    if parameter.default is REQUIRED:
        return "required"
    value: Any = parameter.default
    return "" if value is None else f"`{written(value)}`"


# --- commands --------------------------------------------------------------------------------


def _commands() -> Iterator[str]:
    yield "# Commands"
    yield (
        "This page shows the help of every command, as `reinit COMMAND --help` prints it. "
        "`reinit COMMAND -h` is shorter."
    )
    yield _table(
        ("command", "use it to"),
        ((f"[`reinit {name}`](#reinit-{name})", each.sentence) for name, each in COMMANDS.items()),
    )
    yield (
        "`reinit SOURCE` means `reinit info SOURCE`; with options it means `reinit run SOURCE …`. "
        "`reinit --version` prints the version."
    )
    yield "## Exit codes"
    yield _table(("exit code", "meaning"), EXIT_CODES)
    yield "## Environment variables"
    yield (
        "`REINIT_SEED` is the default of `--seed`, `REINIT_STREAM` that of `--stream`, and "
        "`REINIT_DEVICE` that of `--device`. "
        "`NO_COLOR` turns colors off. Downloaded weights are cached where torch caches them, under "
        "`TORCH_HOME`. A pipe that is not safetensors is copied to `TMPDIR` first."
    )
    parent = click.Context(group, info_name="reinit", **group.context_settings)
    for name in COMMANDS:
        found = group.get_command(parent, name)
        assert isinstance(found, Command)
        yield from _command(
            found, click.Context(found, parent, info_name=name, **found.context_settings)
        )


def _command(command: Command, context: click.Context) -> Iterator[str]:
    sentence, paragraphs, examples = command.described()
    yield f"## {context.command_path}"
    yield _escaped(_joined(sentence))
    yield _fenced(command.usage_line(context).removeprefix("Usage: "))
    yield from (_escaped(_joined(each)) for each in paragraphs)
    for section in command.sections(context):
        yield f"**{section.heading}**"
        yield "\n".join(f"- `{each.name.strip()}`: {_explained(each)}" for each in section.entries)
    if command.epilog:
        yield _escaped(command.epilog)
    if examples:
        yield _fenced("\n".join(examples))


def _joined(lines: str) -> str:
    return " ".join(lines.split())


def _explained(entry: Entry) -> str:
    """Return the text of an entry as part of a list, with its tables as they are."""
    lines = entry.text.splitlines()
    tables = [f"  {line}" for line in lines if line.startswith("  ")]
    prose = _escaped(_joined(" ".join(line for line in lines if not line.startswith("  "))))
    return "\n".join((prose, "", "    ```text", *tables, "    ```")) if tables else prose


def _escaped(text: str) -> str:
    """Return a text in which Markdown finds no sign of its own outside code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part if part.startswith("`") else re.sub(r"([*<\\])", r"\\\1", part) for part in parts
    )


# --- python ----------------------------------------------------------------------------------


def _python() -> Iterator[str]:
    yield "# Python"
    yield (
        "This page lists the names that `reinit_cli` exports. Importing it does not import torch; "
        "each name is loaded on first use. [Use Python](../how-to/python.md) has examples."
    )
    names = [name for name in reinit_cli.__all__ if not name.startswith("_")]
    public = {name: getattr(reinit_cli, name) for name in names}
    yield _table(
        ("name", "meaning"),
        (
            (f"[`{name}`](#{_anchor(name)})", _escaped(_summary(each)))
            for name, each in public.items()
        ),
    )
    for name, each in public.items():
        yield from _named(name, each)
        if each is errors.ReinitError:
            yield "Its subclasses, with the built-in exceptions that they also inherit from:"
            yield _fenced(_tree(errors))
    yield "## Arguments and results"
    for result in RESULTS:
        yield from _named(result.__name__, result, level="###", is_called=False)


def _anchor(name: str) -> str:
    return name.lower()


def _tree(module: ModuleType) -> str:
    return (inspect.getdoc(module) or "").split("\n\n")[1]


def _named(name: str, each: Any, *, level: str = "##", is_called: bool = True) -> Iterator[str]:
    yield f"{level} {name}"
    if inspect.isfunction(each):
        yield _fenced(_signature(name, each), "text")
    yield from _docstring(each)
    if inspect.isclass(each):
        if members := list(_properties(each)):
            yield "Properties:"
            yield "\n".join(members)
        if is_called and each is Rule:
            yield f"{level}# {name}(…)"
            yield _fenced(_signature(name, each))
            yield from _docstring(each.__init__)
            for method in (each.parse, each.of, each.keeping):
                yield f"{level}# {name}.{method.__name__}"
                yield _fenced(_signature(f"{name}.{method.__name__}", method))
                yield from _docstring(method)


def _properties(of: type) -> Iterator[str]:
    for name, member in vars(of).items():
        if isinstance(member, property) and not name.startswith("_"):
            yield f"- `{name}`: {_escaped(_lowered(_summary(member)))}"


def _lowered(text: str) -> str:
    """Return a sentence as part of a list: without its capital and full stop."""
    return (text[:1].lower() + text[1:]).rstrip(".")


def _signature(name: str, function: Callable[..., Any]) -> str:
    parts: list[str] = []
    found = inspect.signature(function)
    parameters = list(found.parameters.values())
    for at, each in enumerate(parameters, start=1):
        if each.kind is each.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        stars = "**" if each.kind is each.VAR_KEYWORD else ""
        default = "" if each.default is each.empty else f" = {_value(each.default)}"
        parts.append(f"{stars}{each.name}: {each.annotation}{default}")
        behind = [one.kind for one in parameters[at : at + 1]]
        if each.kind is each.POSITIONAL_ONLY and behind != [each.kind]:
            parts.append("/")
    inside = "".join(f"    {part},\n" for part in parts)
    return f"{name}(\n{inside}) -> {found.return_annotation}"


def _value(default: object) -> str:
    """Return a default as it is written; of a function, whose text has an address, its name."""
    if inspect.isfunction(default):
        return str(default.__name__)
    return f'"{default}"' if isinstance(default, str) else repr(default)


_SECTION = re.compile(r"(Args|Raises|Returns|Attributes):$")
_ENTRY = re.compile(r"    ([\w, ]+): (.*)$")


def _docstring(of: object) -> Iterator[str]:
    """Yield a docstring as Markdown: its sections as lists."""
    for paragraph in (inspect.getdoc(of) or "").split("\n\n"):
        head, _, rest = paragraph.partition("\n")
        if head.startswith(">>>"):
            yield _fenced(paragraph, "pycon")
            continue
        if not _SECTION.match(head):
            yield _escaped(" ".join(paragraph.split("\n")))
            continue
        yield {"Args:": "Arguments:"}.get(head, head)
        entries: list[str] = []
        for line in rest.split("\n"):
            if entry := _ENTRY.match(line):
                names = ", ".join(f"`{name}`" for name in entry[1].split(", "))
                entries.append(f"- {names}: {_escaped(entry[2])}")
            elif entries:
                entries[-1] += f" {_escaped(line.strip())}"
            else:
                entries.append(_escaped(line.strip()))
        yield "\n".join(entries)


# --- what is read ----------------------------------------------------------------------------


def _what_is_read() -> Iterator[str]:
    # The tables are those that the tests go through, and the tests are not installed.
    sys.path.append(str(ROOT))
    yield "# Supported files"
    yield (
        "`reinit` recognizes a file by its content, whatever its name, and a folder by the names "
        "of its files. Nothing in a file is executed. For files that it does not support, the "
        "error says what they are and what to do instead."
    )
    yield from _nestings()
    yield from _carried()
    yield from _folders()
    yield from _foreign()
    yield from _buffers()


def _nestings() -> Iterator[str]:
    found: Any = import_module("tests.checkpoints.formats.torch.nestings")
    yield "## How the state dict in a torch file is found"
    yield (
        "A known name is used first, unless other networks of the same size are next to it. "
        "Otherwise `reinit` uses the smallest part of the file that holds nearly all weights. "
        "`--root` selects another one by its path, as in the third column; `.` is the whole file."
    )
    yield _table(
        ("the file holds", "written by", "state dict at", "other networks", "one of its keys"),
        (
            (
                name,
                nesting.who,
                f"`{nesting.root or '.'}`",
                _code(nesting.networks),
                f"`{next(iter(nesting.keys))}`",
            )
            for name, nesting in found.NESTINGS.items()
        ),
    )


def _carried() -> Iterator[str]:
    yield "## Tensors that are only copied"
    yield (
        "These are listed and copied byte for byte, but cannot be filled: an exact name fails, "
        "and a wildcard skips them."
    )
    numpy = "a NumPy array, also of objects, big-endian numbers or in Fortran order"
    yield "\n".join(f"- {each}" for each in dict.fromkeys((*CARRIED.values(), numpy)))


def _folders() -> Iterator[str]:
    found: Any = import_module("tests.checkpoints.formats.folders")
    yield "## Folders"
    yield "The files in a folder decide which of them are read. Errors say what to do instead."
    yield _table(
        ("folder", "files", "result", "what to do"),
        (
            (
                kind.what,
                _code([*kind.weights, *kind.indices, *kind.others][:_MOST_NAMED]),
                f"{kind.happens}{f': {_escaped(kind.says)}' if kind.says else ''}",
                f"`{kind.way.strip()}`" if kind.way.startswith(_COMMANDS) else kind.way,
            )
            for kind in found.KINDS
        ),
    )


_MOST_NAMED = 3

_COMMANDS = ("reinit ", "python ", "zip ", "accelerate ", "tools/")


def _foreign() -> Iterator[str]:
    found: Any = import_module("tests.checkpoints.formats.test_foreign")
    yield "## Files that are recognized but not supported"
    yield "They are recognized by their first bytes and their suffix, also in a pipe."
    rows = [
        *(("m.safetensors", content, what) for content, what, _ in found.STAND_INS.values()),
        *((name, content, what) for name, (content, what) in found.FOREIGN.items()),
        *(
            (f"m.{suffix}", compress(found.save(found.STATE)), what)
            for compress, suffix, what in found.COMPRESSED.values()
        ),
    ]
    yield _table(
        ("example", "reported as", "what to do"),
        (
            (f"`{name}`", _escaped(what), _way(name, content))
            for name, content, what in rows
            if len(what) < _LONGEST
        ),
    )


_LONGEST = 100


def _way(name: str, content: bytes) -> str:
    """Return what the command line hints at where it is given such a file."""
    with TemporaryDirectory() as folder, chdir(folder):
        Path(name).write_bytes(content)
        try:
            find_source(name if "." in name else f"./{name}")
        except errors.ReinitError as error:
            return _escaped(hint_of(error) or "")
    raise AssertionError(f"{name} is read")


def _buffers() -> Iterator[str]:
    yield "## Parameters and buffers"
    yield (
        "Unlike a module, a file does not say which tensors are buffers, so names and dtypes "
        "decide. Running statistics, integers, bools and the tensors that wildcards skip are "
        "buffers. Quantized weights are parameters and count as many elements as are stored. The "
        "numbers agree with PyTorch for all torchvision models, except for the frozen norms of "
        "its detectors: there, weight and bias are buffers."
    )


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def main() -> None:
    """Write every page."""
    for name, text in pages().items():
        path = ROOT / "docs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


# --- JSON ------------------------------------------------------------------------------------


def _json() -> Iterator[str]:
    schema = json.loads((ROOT / "docs/reference/reinit.schema.json").read_text("utf-8"))
    outputs = [each["$ref"].rpartition("/")[2] for each in schema["oneOf"]]
    yield "# JSON"
    yield (
        "Every command prints JSON with `--json`: one object, on one line of ASCII. Only "
        "`reinit keys` prints a line for each key, and `reinit run` a line for each output. "
        "[reinit.schema.json](reinit.schema.json) is a JSON Schema for all of them, and the tests "
        "validate every output against it."
    )
    yield (
        'NaN and infinities are the strings `"NaN"`, `"Infinity"` and `"-Infinity"`. Names '
        "include units: `numel` counts elements, `nbytes` counts bytes, `seconds` is a time. "
        "Members that can be missing are marked *(optional)*."
    )
    yield "## Version"
    yield (
        "`version` is 1. Within a version, members may be added, but none is removed or changes "
        "its name, type or meaning. Read the members that you know, and ignore others. Tables and "
        "messages for people may change at any time."
    )
    yield "## Errors"
    yield (
        "With `--json` an error is one line on standard error. Warnings are separate lines there "
        "that start with `warning:`. The exit code is the same as without `--json`."
    )
    for name in outputs:
        yield from _form(name, schema["$defs"][name])
    yield "## Shared parts"
    for name, part in schema["$defs"].items():
        if name not in outputs:
            yield f"### {name}"
            yield part["description"]
            yield from _members(part)


def _form(name: str, form: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {name}"
    yield f"`{form['title']}`"
    yield " ".join(filter(None, (form["description"], form.get("$comment"))))
    yield from _members(form)


def _members(form: Mapping[str, Any]) -> Iterator[str]:
    rows = list(_rows(form, ""))
    if rows:
        yield _table(("member", "type", "meaning"), rows)


def _rows(form: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    for name, member in form.get("properties", {}).items():
        here = f"{path}{name}"
        optional = "" if name in form["required"] else " *(optional)*"
        yield f"`{here}`{optional}", _type(member), _escaped(member.get("description", ""))
        yield from _rows(member, f"{here}.")
        yield from _rows(member.get("items", {}), f"{here}[].")


def _type(member: Mapping[str, Any]) -> str:
    """Return the type of a member in a word or two."""
    if "$ref" in member:
        name = member["$ref"].rpartition("/")[2]
        return f"[{name}](#{name})"
    if "anyOf" in member:
        return " or ".join(map(_type, member["anyOf"]))
    if "const" in member:
        return f"`{json.dumps(member['const'])}`"
    types = member.get("type", "any")
    names = [types] if isinstance(types, str) else types
    return " or ".join(
        f"list of {_type(member['items'])}" if each == "array" else each for each in names
    )


if __name__ == "__main__":
    main()
