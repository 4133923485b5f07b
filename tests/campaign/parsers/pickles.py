"""Fuzz the pickles of torch files: programs from a grammar, and what torch wrote, mutated."""

from __future__ import annotations

import io
import pickletools
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from tests.campaign.parsers.programs import STORAGES, Program
from tests.campaign.parsers.readings import MOST_NBYTES, examine_all
from tests.campaign.server import Servers
from tests.campaign.tally import Tally, complaint

_MOST_PICKLED = 2 * 2**20
_WITH_TORCH = 4.0
"""The CPU seconds that a command on a tiny file may take where it needs torch."""

_COMMANDS = (
    ("keys", "{}", "--meta"),
    ("keys", "{}", "--json"),
    ("keys", "{}", "--tree"),
    ("keys", "{}", "--group", "--sort", "key"),
    ("{}", "-r", "*=zeros", "--dry-run"),
    ("{}", "-r", "*=zeros", "--dry-run", "--json"),
    ("{}", "-r", "*=zeros", "--reset-optimizer", "--dry-run"),
    ("{}", "-r", "*=zeros", "-o", "out.pt", "-f"),
    ("{}", "-r", "*=normal:std=0.02", "-o", "out.safetensors", "-f", "--tensors-only"),
    ("{}", "-r", "*=zeros", "-o", "out.pt", "-f", "--record", "--json"),
    ("{}", "-r", "x=zeros", "-o", "out.pt", "-f"),
    ("{}", "--dtype", "float16", "-o", "out.pt", "-f"),
    ("stats", "{}"),
    ("show", "{}", "layer.0"),
    ("diff", "{}", "{}"),
)


def run(random: Random, count: int, place: Path, servers: Servers) -> Tally:
    """List the keys of random checkpoints, and compare them with what torch reads."""
    tally = Tally()
    bases = written_by_torch(place)
    examine_all(_inputs(random, count, place, bases), servers, tally)
    return tally


def run_commands(random: Random, count: int, place: Path, servers: Servers) -> Tally:
    """Run every command on random checkpoints."""
    tally = Tally()
    bases = written_by_torch(place)
    for what, path in _inputs(random, count, place, bases):
        argv = [word.format(path.name) for word in random.choice(_COMMANDS)]
        ended = servers.torch.run(argv, place, limit=30)
        tally.add(ended, kind=f"exit {ended.code}")
        why = complaint(ended, seconds=_WITH_TORCH, nbytes=MOST_NBYTES)
        if why:
            tally.find(f"{what} {argv}", why)
    return tally


def _inputs(
    random: Random, count: int, place: Path, bases: list[bytes]
) -> Iterator[tuple[str, Path]]:
    for at in range(count):
        seed = random.getrandbits(48)
        path = place / f"{at % 100}.pt"
        path.write_bytes(checkpoint(Random(seed), bases))
        yield f"pickles.checkpoint(Random({seed}))", path


def checkpoint(random: Random, bases: list[bytes]) -> bytes:
    """Return a random file: a program in an archive, or what torch wrote with another pickle."""
    if random.randrange(2):
        pickled = Program(random).whole()
        if not random.randrange(4):
            pickled = mutated(random, pickled)
        return _archive(pickled)
    base = random.choice(bases)
    with zipfile.ZipFile(io.BytesIO(base)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in entries if name.endswith("data.pkl"))
    entries[name] = mutated(random, entries[name])
    return zipped(entries)


def mutated(random: Random, pickled: bytes) -> bytes:
    """Return a pickle with opcodes deleted, repeated, moved, or given other arguments."""
    parts = _opcodes(pickled)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        parts = _mutated_once(random, parts)
    return b"".join(parts)[:_MOST_PICKLED]


def _opcodes(pickled: bytes) -> list[bytes]:
    """Return the opcodes of a pickle with their arguments."""
    try:
        starts = [at for _, _, at in pickletools.genops(pickled) if at is not None]
    except (ValueError, UnicodeError):
        return [pickled]
    return [pickled[a:b] for a, b in zip(starts, [*starts[1:], len(pickled)], strict=True)]


def _mutated_once(random: Random, parts: list[bytes]) -> list[bytes]:
    at = random.randrange(len(parts) + 1)
    length = random.choice((1, 1, 1, 2, 3, 10, 40))
    within = parts[at : at + length]
    match random.randrange(9):
        case 0:
            within = []
        case 1:
            within *= random.choice((2, 2, 2, 3, 100, 5_000))
        case 2:
            within = within[::-1]
        case 3:
            other = random.randrange(len(parts) + 1)
            within = parts[other : other + length]
        case 4:
            within = [_another_argument(random, each) for each in within]
        case 5:
            within = [Program(random).value(2)]
        case 6:
            within = [*within, Program(random).value(2)]
        case 7:
            within = [_flipped(random, each) for each in within]
        case _:
            depth = random.choice((1, 5, 99, 101, 2_000))
            within = [b"(" * depth, *within, b"t" * depth]
    return [*parts[:at], *within, *parts[at + length :]]


def _another_argument(random: Random, opcode: bytes) -> bytes:
    match opcode[:1]:
        case b"J" | b"K" | b"M" | b"\x8a":
            return Program(random).number()
        case b"h" | b"j" | b"q" | b"r":
            index = random.choice((0, 1, 2, 5, random.randrange(300), 2**32 - 1))
            return random.choice((b"j", b"r")) + struct.pack("<I", index)
        case b"X":
            return Program(random).key()
        case b"c":
            return Program(random).name("torch", random.choice(("IntStorage", "Size", "x")))
        case _:
            return opcode


def _flipped(random: Random, data: bytes) -> bytes:
    flipped = bytearray(data)
    if flipped:
        flipped[random.randrange(len(flipped))] ^= 1 << random.randrange(8)
    return bytes(flipped)


def _archive(pickled: bytes) -> bytes:
    entries = {"a/data.pkl": pickled}
    for at in range(len(STORAGES)):
        entries[f"a/data/{at}"] = bytes(range(at * 64, at * 64 + 64))
    return zipped({**entries, "a/version": b"3\n"})


def zipped(entries: dict[str, bytes]) -> bytes:
    """Return an archive of entries that are stored as they are."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return file.getvalue()


def written_by_torch(place: Path, **options: Any) -> list[bytes]:
    """Return small checkpoints of the kinds that people save.

    Args:
        place: where they are written on the way.
        options: those of `torch.save`.
    """
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    shared = torch.arange(12, dtype=torch.float32)
    views = {"whole": shared, "part": shared[2:8], "turned": shared.view(3, 4).t()}
    saved = (
        model.state_dict(),
        {"state_dict": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3},
        {"model": views, "ema": {"w": torch.ones(2, dtype=torch.bfloat16)}, "rest": [1, "x", None]},
        {"w": torch.nn.Parameter(torch.ones(2)), "u": torch.ones(2, dtype=torch.uint16)},
    )
    path = place / "base.pt"
    found = []
    for each in saved:
        torch.save(each, path, **options)
        found.append(path.read_bytes())
    return found
