"""Fuzz provenance records, next to an output, in it, and as recipes."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from tests.campaign.parsers.checkpoints import write_tiny
from tests.campaign.parsers.commands import NUMBERS, TEXTS, Input, try_all
from tests.campaign.parsers.recipes import INITS, value_of
from tests.campaign.server import Run, Servers
from tests.campaign.tally import Tally

MAKE = (
    "tiny.safetensors",
    "-r",
    "layers.*=normal",
    "-o",
    "out.safetensors",
    "--record=record.json",
)


def run(random: Random, count: int, place: Path, servers: Servers) -> Tally:
    """Verify an output by odd records; only the one that was written may hold."""
    tally = Tally()
    write_tiny(place)
    made = servers.torch.run(MAKE, place)
    assert made.code == 0, made.err
    good = (place / "record.json").read_text()
    try_all(_inputs(random, count, place, good), place, servers.torch, tally)
    return tally


def _inputs(random: Random, count: int, place: Path, good: str) -> Iterator[Input]:
    for at in range(count):
        seed = random.getrandbits(48)
        text = odd_record(Random(seed), json.loads(good))
        name = f"{at % 1000}.json"
        (place / name).write_bytes(text.encode("utf-8", "surrogatepass"))
        what = f"records.odd_record(Random({seed}))"
        if at % 4 == 0:
            argv: tuple[str, ...] = ("tiny.safetensors", "-n", "-c", name)
            yield Input(f"-c {what}", argv, kind="recipe")
        else:
            argv = ("verify", "out.safetensors", "--record", name)
            same = text.removesuffix("\n") == good.removesuffix("\n")
            yield Input(f"verify {what}", argv, _holds if same else _does_not_hold, "verify")


def _holds(run: Run) -> str | None:
    return None if run.code == 0 else f"the record that was written does not hold: {run.out!r}"


def _does_not_hold(run: Run) -> str | None:
    return "a record that was changed holds" if run.code == 0 else None


def odd_record(random: Random, form: dict[str, Any]) -> str:
    """Return a record that is nearly the one that was written."""
    changed: Any = copy.deepcopy(form)
    for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
        _change(random, changed)
    text = json.dumps(changed, separators=(",", ":"), ensure_ascii=bool(random.randrange(2)))
    if random.randrange(6) == 0:
        at = random.randrange(len(text) + 1)
        piece = random.choice(
            ("", '"', "9" * 500, "1e999", "[" * 3000, "}", "NaN", "\x1b", "\\", ",", "{")
        )
        text = text[:at] + piece + text[at + random.randrange(3) :]
    return text + random.choice(("", "\n"))


def _change(random: Random, value: Any) -> None:
    """Change a member somewhere within."""
    while isinstance(value, (dict, list)) and value:
        names = list(value) if isinstance(value, dict) else list(range(len(value)))
        name = random.choice(names)
        inner = value[name]
        if isinstance(inner, (dict, list)) and inner and random.randrange(4):
            value = inner
            continue
        kind = random.randrange(5)
        if kind == 0 and isinstance(value, dict):
            del value[name]
        elif kind == 1 and isinstance(value, list):
            value.append(copy.deepcopy(inner))
        elif kind == 2 and isinstance(value, dict):
            odd = ("from_row", "seed_key", "laws", "x", "key", "init")
            value[random.choice(odd)] = value_of(random)
        elif kind == 3:
            value[name] = random.choice((*TEXTS, *NUMBERS, *INITS, None, True, 2**63, -1))
        else:
            value[name] = value_of(random)
        return
