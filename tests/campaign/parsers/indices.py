"""Fuzz the indices of Hugging Face folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from tests.campaign.parsers.checkpoints import safetensors_of
from tests.campaign.parsers.commands import NUMBERS, TEXTS, Input, text_of, try_all
from tests.campaign.parsers.safetensors import value_of
from tests.campaign.server import Run, Servers
from tests.campaign.tally import Tally

INDEX = "model.safetensors.index.json"
SHARDS = {"one.safetensors": ("a", "b"), "two.safetensors": ("c",)}
KEYS = {key for keys in SHARDS.values() for key in keys}


def run(random: Random, count: int, place: Path, servers: Servers) -> Tally:
    """List the keys of folders with odd indices, and rewrite them dry."""
    tally = Tally()
    for at in range(100):
        (place / str(at)).mkdir()
        for name, keys in SHARDS.items():
            data = safetensors_of(dict.fromkeys(keys, (2,)), {})
            (place / str(at) / name).write_bytes(data)
    try_all(_inputs(random, count, place), place, servers.light, tally)
    return tally


def _inputs(random: Random, count: int, place: Path) -> Iterator[Input]:
    for at in range(count):
        seed = random.getrandbits(48)
        data = odd_index(Random(seed))
        folder = str(at % 100)
        (place / folder / INDEX).write_bytes(data)
        argv = ("keys", folder) if at % 3 else (folder, "-n", "-r", "*=zeros")
        judge = _judge(data) if at % 3 else lambda _: None
        yield Input(f"{argv[0]}, indices.odd_index(Random({seed}))", argv, judge)


def _judge(data: bytes) -> Callable[[Run], str | None]:
    def judge(run: Run) -> str | None:
        if run.code != 0:
            return None
        try:
            weight_map = json.loads(data)["weight_map"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            return f"listed, and Python finds no weight_map: {error!r}"
        found = run.out.decode().splitlines()
        if run.err.startswith(b"warning: "):  # the index is wrong, and the shards are listed
            return None if {*found} <= KEYS else f"listed {found}, which no shard has"
        return None if sorted(found) == sorted(weight_map) else f"listed {found}, not {weight_map}"

    return judge


def odd_index(random: Random) -> bytes:
    """Return an index that is nearly right."""
    members = [(json.dumps(key), json.dumps(name)) for name, keys in SHARDS.items() for key in keys]
    for _ in range(random.choice((0, 0, 1, 2))):
        _change(random, members)
    weight_map = f"{{{', '.join(f'{key}: {name}' for key, name in members)}}}"
    metadata = value_of(random) if random.randrange(4) == 0 else '{"total_size": 24}'
    parts = [f'"metadata": {metadata}', f'"weight_map": {weight_map}']
    if random.randrange(12) == 0:
        parts.append(random.choice((*parts, f'"x": {value_of(random)}', '"weight_map": {}')))
    random.shuffle(parts)
    text = random.choice(("", "", "\n ", " " * 600)) + "{" + ", ".join(parts) + "}"
    data = (text + random.choice(("", "", "\n"))).encode("utf-8", "surrogatepass")
    if random.randrange(8) == 0:
        at = random.randrange(len(data) + 1)
        piece = random.choice(
            (b"", b"\xff", b'"', b"\0", b"[", b"}", b"\x1b", b"\xef\xbb\xbf", b"[" * 2000)
        )
        data = data[:at] + piece + data[at + random.randrange(3) :]
    return data


def _change(random: Random, members: list[tuple[str, str]]) -> None:
    at = random.randrange(len(members))
    key, name = members[at]
    kind = random.randrange(6)
    if kind == 0:
        members[at] = (json.dumps(random.choice((*TEXTS, text_of(random)))), name)
    elif kind == 1:
        names = (
            *TEXTS,
            "../one.safetensors",
            "/etc/passwd",
            "missing.safetensors",
            INDEX,
            "ONE.safetensors",
        )
        members[at] = (key, json.dumps(random.choice(names)))
    elif kind == 2:
        members[at] = (
            key,
            random.choice(
                (*(each or "0" for each in NUMBERS), "null", "{}", "[]", '"one.safetensors"')
            ),
        )
    elif kind == 3:
        members.append(members[at])
    elif kind == 4:
        members.append((json.dumps(f"k{random.randrange(9)}"), name))
    elif len(members) > 1:
        del members[at]
