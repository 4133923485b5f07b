"""Give the summary of a source for programs: as JSON, and as lines."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from reinit_cli.cli.group import COMMANDS
from reinit_cli.cli.render.facts import revision_form
from reinit_cli.cli.render.json import VERSION
from reinit_cli.cli.render.table import Sheet
from reinit_cli.operations.info import Summary
from reinit_cli.operations.next_commands import Command
from reinit_cli.operations.sums import Sums
from reinit_cli.tensors.counts import Counts

if TYPE_CHECKING:
    from reinit_cli.provenance.record import Form


def info_form(summary: Summary) -> dict[str, Any]:
    """Return the summary of a source for JSON."""
    holdings, sums = summary.holdings, summary.sums
    source = holdings.source
    located = source.located if source else None
    counts = sums.counts if sums else Counts()
    return {
        "version": VERSION,
        "source": holdings.name,
        **revision_form(source),
        "format": holdings.format,
        "file_nbytes": summary.file_nbytes,
        **asdict(counts),
        "dtypes": [asdict(share) for share in sums.dtypes] if sums else [],
        "modules": [{"name": each.name, **asdict(each.counts)} for each in sums.modules]
        if sums
        else [],
        "groups": _group_forms(sums) if sums else [],
        "state_dict": located.root if located else None,
        "networks": [each._asdict() for each in located.neighbors] if located else [],
        "contents": [asdict(part) for part in summary.parts],
        "optimizers": [{"path": path, "kind": kind} for path, kind in summary.optimizers.items()],
        "weights": asdict(summary.weights) if summary.weights else None,
        "config": asdict(summary.config) if summary.config else None,
        "shards": asdict(summary.shards) if summary.shards else None,
        "ties": [list(keys) for keys in sums.ties] if sums else [],
        "quantized": sums.quantized if sums else 0,
        "metadata": dict(metadata_of(summary)),
        "record": record_form(summary.record) if summary.record else None,
        "notes": list(summary.notes),
        "next": [command_line(each) for each in summary.commands],
    }


def _group_forms(sums: Sums) -> list[dict[str, Any]]:
    return [
        {
            "pattern": group.pattern,
            "shape": group.tensors[0].shape,
            "dtype": group.tensors[0].dtype,
            **asdict(counts),
        }
        for group, counts in zip(sums.groups, sums.sizes, strict=True)
    ]


def metadata_of(summary: Summary) -> Mapping[str, str]:
    """Return the strings that a source holds besides its tensors and its record."""
    source = summary.holdings.source
    located = source.located if source else None
    return located.plain_metadata if located else {}


def record_form(record: Form) -> dict[str, Any]:
    """Return what a record says of how a source was made, without its digests."""
    source = record["source"]
    return {
        "reinit": record.get("reinit"),
        "torch": record.get("torch"),
        "source": source["name"],
        "weights": source["weights"],
        "rules": [_rule_text(rule) for rule in record["rule"]],
        "seed": record["seed"],
        "filled": len(record["filled"]),
    }


def _rule_text(rule: Any) -> str:
    """Return a rule of a record as it is typed; whoever wrote the record chose what it is."""
    if not isinstance(rule, dict):
        return str(rule)
    arguments = [
        f"{name}={str(value).removesuffix('.0')}"
        for name, value in rule.items()
        if name not in ("match", "init")
    ]
    init = ":".join(filter(None, (str(rule.get("init")), ",".join(arguments))))
    return f"{rule.get('match')}={init}"


def command_line(command: Command) -> str:
    """Return a command as a shell takes it."""
    is_misread = command.source.startswith("-") or (not command.verb and command.source in COMMANDS)
    source = f"./{command.source}" if is_misread else command.source
    return shlex.join(("reinit", *filter(None, (command.verb,)), source, *command.arguments))


def lines_of(form: Mapping[str, Any]) -> Sheet:
    """Return the summary for programs that read lines: a name and a value in each."""
    return Sheet((), (), tuple(_lines(form)))


_SUMS = {"dtypes": ("dtype", "nbytes"), "modules": ("name", "parameters")}
"""Of what has a name and sums, the name and the sum that a line has."""

_LEFT_OUT = ("version", "groups", "networks")


def _lines(form: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in form.items():
        if name in _SUMS:
            title, amount = _SUMS[name]
            yield from ((f"{name}.{each[title]}", str(each[amount])) for each in value)
        elif name == "contents":
            yield from (
                (f"contents.{each['path']}", f"{each['kind']} {each['text']}".strip())
                for each in value
            )
        elif name == "optimizers":
            yield from ((f"optimizers.{each['path']}", each["kind"]) for each in value)
        elif name == "ties":
            yield from (("ties", " ".join(keys)) for keys in value)
        elif name not in _LEFT_OUT:
            yield from _flat(name, value)


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield a value by its name, what it consists of each by its own; nothing of none."""
    if isinstance(value, dict):
        for inner, each in value.items():
            yield from _flat(f"{name}.{inner}", each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _flat(name, each)
    elif value is not None and value != "":
        yield name, str(value).lower() if isinstance(value, bool) else str(value)
