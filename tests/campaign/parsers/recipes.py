"""Fuzz recipes, TOML and JSON, with dry runs that obey them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from tests.campaign.parsers.checkpoints import write_tiny
from tests.campaign.parsers.commands import NUMBERS, TEXTS, Input, text_of, try_all
from tests.campaign.parsers.patterns import odd_pattern
from tests.campaign.server import Run, Servers
from tests.campaign.tally import Tally

FIELDS = (
    *("seed", "device", "strict", "allow_unmatched", "dtype", "shard_size", "tensors_only"),
    *(
        "verify_crc",
        "arch",
        "resize",
        "num_classes",
        "untie",
        "record",
        "output",
        "root",
        "version",
    ),
    *(
        "stream",
        "source",
        "weights",
        "rule",
        "tensors",
        "dry_run",
        "filled",
        "warnings",
        "force",
        "x",
    ),
)

INITS = (
    *("zeros", "ones", "normal", "constant", "xavier_uniform", "keep", "uniform", "orthogonal"),
    *(
        "block",
        "icnr",
        "scale",
        "noise",
        "clamp",
        "default",
        "rewind",
        "identity",
        "sparse",
        "nothing",
    ),
)

ARGUMENTS = (
    "std",
    "mean",
    "val",
    "gain",
    "a",
    "b",
    "inner",
    "parts",
    "min_ndim",
    "checkpoint",
    "x",
)


def run(random: Random, count: int, place: Path, servers: Servers) -> Tally:
    """Run odd recipes dry; what is no TOML or JSON must be refused."""
    tally = Tally()
    write_tiny(place)
    try_all(_inputs(random, count, place), place, servers.light, tally)
    return tally


def _inputs(random: Random, count: int, place: Path) -> Iterator[Input]:
    for at in range(count):
        seed = random.getrandbits(48)
        inner = Random(seed)
        is_json = bool(inner.randrange(2))
        name = f"{at % 1000}.{'json' if is_json else 'toml'}"
        data = odd_recipe(inner, is_json=is_json)
        (place / name).write_bytes(data)
        what = f"recipes.odd_recipe(Random({seed}) after randrange(2), is_json={is_json})"
        kind = "json" if is_json else "toml"
        yield Input(what, ("tiny.safetensors", "-n", "-c", name), _judge(data, kind), kind)


def _judge(data: bytes, kind: str) -> Callable[[Run], str | None]:
    def judge(run: Run) -> str | None:
        try:
            text = data.decode("utf-8-sig")
            form = json.loads(text) if kind == "json" else tomllib.loads(text)
        except (ValueError, RecursionError):
            return None if run.code == 2 else f"exit code {run.code} for what is no {kind}"
        return None if isinstance(form, dict) or run.code == 2 else f"exit code {run.code}"

    return judge


def odd_recipe(random: Random, *, is_json: bool) -> bytes:
    """Return a recipe that is nearly right."""
    form: dict[str, Any] = dict(_field(random) for _ in range(random.randrange(3)))
    form["rule"] = [_rule(random) for _ in range(random.randrange(1, 4))]
    if random.randrange(10) == 0:
        form["rule"] = value_of(random)
    text = json.dumps(form, ensure_ascii=bool(random.randrange(2))) if is_json else toml_of(form)
    data = text.encode("utf-8", "surrogatepass")
    if random.randrange(4) == 0:
        at = random.randrange(len(data) + 1)
        piece = random.choice(
            (b"", b"\xff", b'"', b"\0", b"[[", b"}", b"\n", b"'''", b".", b"=", b"\x1b", b"#")
        )
        data = data[:at] + piece * random.choice((1, 1, 2000)) + data[at + random.randrange(3) :]
    return random.choice((b"", b"", b"", b"\xef\xbb\xbf", b"\n ")) + data


RIGHT: dict[str, tuple[Any, ...]] = {
    "seed": (0, 7, "0..2", -3),
    "device": ("cpu",),
    "strict": (False,),
    "allow_unmatched": (True, False),
    "dtype": ("bfloat16", "float32"),
    "shard_size": ("5GB", 100, 2**62),
    "resize": ("a.weight=9:zeros", ["a.weight=9:zeros"], []),
    "untie": (True, False),
    "output": ("out.safetensors", "{stem}-x{suffix}", "-"),
    "version": (1,),
    "stream": ("torch-1",),
    "record": (True, False),
}
"""Values that fields may have."""


def _field(random: Random) -> tuple[str, Any]:
    if random.randrange(3):
        name = random.choice(list(RIGHT))
        return name, random.choice(RIGHT[name])
    return random.choice(FIELDS), value_of(random)


def _rule(random: Random) -> dict[str, Any]:
    match = random.choice(("*", "*.weight", "*", "re:.*", "layers.*", odd_pattern(random)))
    rule: dict[str, Any] = {"match": match, "init": random.choice((*INITS, *INITS[:5], *INITS[:5]))}
    if rule["init"] in ("constant", "uniform") and random.randrange(3):
        rule |= {"val": 0.5} if rule["init"] == "constant" else {"a": -1, "b": 1}
    for _ in range(random.choice((0, 0, 0, 0, 0, 1, 2))):
        rule[random.choice(ARGUMENTS)] = value_of(random)
    if random.randrange(8) == 0:
        rule["init"] = f"{rule['init']}:{text_of(random)}"
    if random.randrange(15) == 0:
        rule[random.choice(("match", "init"))] = value_of(random)
    return rule


def value_of(random: Random, depth: int = 0) -> Any:
    """Return a value that a field may have."""
    kind = random.randrange(9 if depth < 3 else 6)
    if kind == 0:
        return random.choice((0, 1, -1, 3, 2**31, 2**63, 10**12, 10**30, 10**400, 10**4000))
    if kind == 1:
        return random.choice((0.5, 1e200, 1e308, -0.0, float("inf"), float("nan"), 5e-324))
    if kind == 2:
        return random.choice(TEXTS)
    if kind == 3:
        return random.choice(NUMBERS)
    if kind == 4:
        return bool(random.randrange(2))
    if kind == 5:
        return text_of(random)
    if kind == 6:
        return [value_of(random, depth + 1) for _ in range(random.randrange(3))]
    if kind == 7:
        return {text_of(random): value_of(random, depth + 1) for _ in range(random.randrange(3))}
    return random.choice(
        ("cpu", "bfloat16", "5GB", "0..4", "out.pt", "out/", "{stem}-x{suffix}", "a.weight=9:zeros")
    )


def toml_of(form: dict[str, Any]) -> str:
    """Write TOML; what it has no form for is written as text."""
    rules = form["rule"] if isinstance(form["rule"], list) else []
    tables = [rule for rule in rules if isinstance(rule, dict)]
    lines = [f"{_key(name)} = {_toml(value)}" for name, value in form.items() if name != "rule"]
    if not tables:
        lines.append(f"rule = {_toml(form['rule'])}")
    for rule in tables:
        lines += ["[[rule]]", *(f"{_key(name)} = {_toml(value)}" for name, value in rule.items())]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if name.isidentifier() and name.isascii() else json.dumps(name)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return hex(value) if value > 10**20 else str(value)
    if isinstance(value, float):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_key(name)} = {_toml(each)}' for name, each in value.items())}}}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
