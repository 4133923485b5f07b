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
from reinit_cli.execution.fill import Filled
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
        "the answer is no: `keys`, `stats` or `models` matched nothing, `diff` found a difference, "
        "a check failed, `stats` found NaN, `verify` found a mismatch",
    ),
    ("2", "error: usage, rule, input or output; one `error:` line, and nothing was written"),
    ("3", "some inputs of a batch failed, and the others are done (`--keep-going`)"),
    ("129, 130, 141, 143", "SIGHUP, Ctrl-C, closed pipe, SIGTERM; nothing was written"),
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
        "What a tensor can be filled with. In a rule an initializer stands behind the first `=`, "
        "and its arguments behind a colon: by name, or numbers in the order of the table, or "
        "words, such as a nonlinearity or a mode, in any order. `reinit inits NAME` prints the "
        "same on the command line."
    )
    for purpose, members in ours.items():
        yield f"**{purpose}**"
        yield _table(
            ("initializer", "what for"),
            (
                (", ".join(f"[`{name}`](#{each.name})" for name in _names(each)), each.summary)
                for each in members
            ),
        )
    yield "## Arguments of all initializers"
    yield f"Every initializer that fills takes {_and(COMMON)}."
    yield _arguments(COMMON)
    yield "## Arguments that say how a weight is to be read"
    yield (
        "The initializers whose law follows from fan_in and fan_out also take these, for weights "
        "whose fans are not those that torch reads from the shape. "
        "Fans are torch's by default: `shape[1]` and `shape[0]`, each times the kernel's size."
    )
    yield _arguments(LAYOUT)
    yield "## Nonlinearities"
    yield "Where an argument takes a nonlinearity, its name stands for this gain."
    yield _table(
        ("nonlinearity", "gain"),
        ((f"`{name}`", f"{calculate_gain(name):.6g}") for name in NONLINEARITIES),
    )
    yield (
        "`leaky_relu` has the gain √(2 / (1 + a²)), a its negative slope: `leaky_relu,a=0.2`. "
        "The gains from `gelu` on are not torch's: each is 1 / √E f(z)² for z from N(0, 1), which "
        "keeps the second moment of a signal."
    )
    yield "## What a wildcard leaves alone"
    yield (
        "A pattern with a wildcard takes weights. It skips what follows, and says so, unless the "
        "pattern spells out the last segment of the key, as `*.inv_freq` does; so it does with "
        "integers and bools, and with a `bias` of shape (1, 1, n, n), the causal mask of GPT-2. "
        "A weight of 8 bits or less with scales next to it is skipped too: a weight and its scales "
        "are filled together or not at all, and a name that takes one of them is an error. "
        "The norms of weight norm (`weight_g`, or `parametrizations.weight.original0`) are set to "
        "those of the `weight_v` or `original1` that is drawn, so that the weight that the module "
        "computes follows the law; a rule whose last segment names them owns them."
    )
    yield _table(
        ("last segment", "next to", "what it is", "from"),
        (
            (
                " ".join(f"`{name}`" for name in each.names),
                " ".join(f"`{name}`" for name in each.next_to),
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
    also = f" Also called {' and '.join(f'`{name}`' for name in declared.aliases)}."
    yield f"{declared.summary}{also if declared.aliases else ''}"
    facts = [
        f"- Law: {declared.law}",
        f"- Defined for: {declared.defined}",
        f"- Example: `{declared.example}`",
        *([f"- Paper: {declared.paper}"] if declared.paper else []),
    ]
    if "fans" in declared.asks:
        facts.append(
            f"- Reads the fans, so takes {_and(LAYOUT)} too: "
            "[how a weight is to be read](#arguments-that-say-how-a-weight-is-to-be-read)"
        )
    if declared.version > 1:
        facts.append(
            f"- Version: {declared.version}, which [records name]"
            "(../explanation/seeds.md#versions-of-laws)"
        )
    if declared.stream:
        facts.append(
            f'- Changes what is there; where it draws, the stream is `"SEED:KEY:{declared.stream}"`'
        )
    yield "\n".join(facts)
    if declared.parameters:
        yield _arguments(declared.parameters)


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
        return "must be given"
    value: Any = parameter.default
    return "" if value is None else f"`{written(value)}`"


# --- commands --------------------------------------------------------------------------------


def _commands() -> Iterator[str]:
    yield "# Commands"
    yield "What `reinit COMMAND --help` prints, for every command. `reinit COMMAND -h` is shorter."
    yield _table(
        ("command", "what for"),
        ((f"[`reinit {name}`](#reinit-{name})", each.sentence) for name, each in COMMANDS.items()),
    )
    yield (
        "`reinit SOURCE` alone is `reinit info SOURCE`; with options it is `reinit run SOURCE …`. "
        "`reinit --version` prints the version."
    )
    yield "## Exit codes"
    yield _table(("exit code", "means"), EXIT_CODES)
    yield "## Variables of the environment"
    yield (
        "`REINIT_SEED` is the default of `--seed`, `REINIT_DEVICE` of `--device`. "
        "`NO_COLOR` is obeyed. Downloaded weights are kept where torch keeps them, under `TORCH_HOME`; "
        "a pipe that is no safetensors file is copied into `TMPDIR` first."
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
        "The names that `reinit_cli` exports. Importing it imports no torch; a name is imported "
        "when it is first asked for. [From Python](../how-to/python.md) shows them at work."
    )
    names = [name for name in reinit_cli.__all__ if not name.startswith("_")]
    public = {name: getattr(reinit_cli, name) for name in names}
    yield _table(
        ("name", "what for"),
        (
            (f"[`{name}`](#{_anchor(name)})", _escaped(_summary(each)))
            for name, each in public.items()
        ),
    )
    for name, each in public.items():
        yield from _named(name, each)
        if each is errors.ReinitError:
            yield "Its tree, and the built-in exceptions that some of them are too:"
            yield _fenced(_tree(errors))
    yield "## What they return and ask for"
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
            yield "It also tells:"
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
        if isinstance(member, property):
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
    yield "# What is read"
    yield (
        "A file is told by its content, whatever its name; a folder by the names in it. "
        "Nothing in a file is executed, and what is not read is named, with the way on."
    )
    yield from _nestings()
    yield from _carried()
    yield from _folders()
    yield from _foreign()
    yield from _buffers()


def _nestings() -> Iterator[str]:
    found: Any = import_module("tests.checkpoints.formats.torch.nestings")
    yield "## Where a torch file has its state dict"
    yield (
        "A known name comes first, unless other networks of its size lie next to it; then the "
        "smallest place that holds nearly all of the weights. `--root` names another, by the path "
        "in the third column; `.` is the whole."
    )
    yield _table(
        ("the file holds", "as written by", "state dict at", "other networks", "a key of it"),
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
    yield "## Tensors that are carried along"
    yield (
        "These are listed and written again byte for byte, and not filled: a rule that names one "
        "is an error, and a wildcard skips it."
    )
    numpy = "an array of NumPy, and of its objects, big-endian numbers or Fortran order"
    yield "\n".join(f"- {each}" for each in dict.fromkeys((*CARRIED.values(), numpy)))


def _folders() -> Iterator[str]:
    found: Any = import_module("tests.checkpoints.formats.folders")
    yield "## Folders"
    yield "What is in a folder says which of its files are read; what is refused gets the way on."
    yield _table(
        ("folder", "holds", "what happens", "the way on"),
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
    yield "## Files that are named and not read"
    yield "They are recognized by their first bytes and their suffix, in a pipe too."
    rows = [
        *(("m.safetensors", content, what) for content, what, _ in found.STAND_INS.values()),
        *((name, content, what) for name, (content, what) in found.FOREIGN.items()),
        *(
            (f"m.{suffix}", compress(found.save(found.STATE)), what)
            for compress, suffix, what in found.COMPRESSED.values()
        ),
    ]
    yield _table(
        ("a file such as", "is named", "the way on"),
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
        "A file does not say which tensors are buffers, as a module does, so names "
        "and dtypes decide: running statistics, integers, bools and what a wildcard leaves alone "
        "are buffers, but for quantized weights, which count as many elements as are stored. "
        "This gives torch's numbers for all models of torchvision, except that the frozen norms "
        "of its detectors have a weight and a bias that are buffers there."
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
        "Every command prints JSON with `--json`: one line of ASCII with one object. Only "
        "`reinit keys` prints a line for each key, and `reinit run` a line for each output. "
        "[reinit.schema.json](reinit.schema.json) is a JSON Schema of all of it, and every output "
        "of the tests is held against it."
    )
    yield (
        'NaN and infinities are the strings `"NaN"`, `"Infinity"` and `"-Infinity"`. A name says '
        "its unit: `numel` counts elements, `nbytes` bytes, `seconds` is a time. A member that "
        "may be missing is marked *(optional)* below."
    )
    yield "## What `version` means"
    yield (
        "`version` is 1. Within a version members may be added, and no member changes its meaning, "
        "its type or its name, or goes. So read the members that you know, and ignore others. What "
        "is printed for people, in tables and messages, may change at any time."
    )
    yield "## Errors"
    yield (
        "With `--json` an error is one line on standard error, next to lines of warnings, which "
        "begin with `warning:`. The exit code is the same as without `--json`."
    )
    for name in outputs:
        yield from _form(name, schema["$defs"][name])
    yield "## Parts that several outputs have"
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
