"""Fuzz the arguments of every command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.campaign.parsers.checkpoints import KEYS, write_tiny
from tests.campaign.parsers.commands import NUMBERS, TEXTS, Input, text_of, try_all
from tests.campaign.parsers.patterns import odd_pattern
from tests.campaign.parsers.recipes import INITS
from tests.campaign.server import Run, Servers
from tests.campaign.tally import Tally

OPTIONS: dict[str, tuple[str, ...]] = {
    "keys": (
        "-x",
        "-l",
        "--tree",
        "--group",
        "--sort",
        "--count",
        "--meta",
        "-0",
        "--root",
        "--json",
    ),
    "show": ("--slice", "--full", "--root", "--weights", "-s", "--json"),
    "stats": (
        "--by",
        "--fail-nan",
        "--sort",
        "--head",
        "-x",
        "--root",
        "-s",
        "--json",
        "--report",
        "-f",
    ),
    "diff": (
        "--rtol",
        "--atol",
        "--keys-only",
        "--all",
        "-q",
        "-s",
        "--json",
        "--root",
        "--report",
    ),
    "verify": ("--record", "--source", "--json"),
    "draw": ("--key", "--dtype", "--arch", "-s", "-d", "--json"),
    "inits": ("--json",),
    "models": ("--json",),
    "completion": ("--line", "--breaks"),
    "run": (
        *(
            "-r",
            "-x",
            "-o",
            "-s",
            "-d",
            "-c",
            "--dtype",
            "--shard-size",
            "--resize",
            "--num-classes",
        ),
        *(
            "--root",
            "--arch",
            "--weights",
            "--record",
            "--report",
            "-j",
            "--json",
            "-v",
            "--strict",
        ),
        *(
            "--allow-unmatched",
            "--untie",
            "--check",
            "--tensors-only",
            "--files-from",
            "--sync",
        ),
    ),
}

FLAGS = frozenset(
    (
        *(
            "-l",
            "--tree",
            "--group",
            "--count",
            "--meta",
            "-0",
            "--json",
            "--full",
            "--check",
            "-f",
        ),
        *("--keys-only", "--all", "-q", "-v", "--strict", "--allow-unmatched", "--untie", "--sync"),
        "--tensors-only",
    )
)

DIMENSIONS = tuple(each for each in NUMBERS if each != "2147483648")
"""What a dimension may be: not of gigabytes, which a machine with as much memory draws."""

LIGHT = ("keys", "inits", "completion")
"""The commands that never need torch."""

HEAVY = ("show", "stats", "diff", "verify", "draw", "models", "run", "run", "run", "run")


def run(random: Random, count: int, place: Path, servers: Servers) -> Tally:
    """Run every command with odd arguments; none writes but reports."""
    tally = Tally()
    write_tiny(place)
    try_all(_inputs(random, count // 3, LIGHT), place, servers.light, tally)
    try_all(_inputs(random, count - count // 3, HEAVY), place, servers.torch, tally)
    return tally


def _inputs(random: Random, count: int, commands: tuple[str, ...]) -> Iterator[Input]:
    for _ in range(count):
        seed = random.getrandbits(48)
        inner = Random(seed)
        command = inner.choice(commands)
        argv = odd_arguments(inner, command)
        what = f"arguments.odd_arguments(Random({seed}) after choice({commands}), {command!r})"
        judge = _shown if command not in {"keys", "completion"} else lambda _: None
        yield Input(what, tuple(argv), judge, command)


def _shown(run: Run) -> str | None:
    """Return a line of a table that acts on a terminal; `keys` alone is raw in a pipe."""
    lines = run.out.decode(errors="replace").split("\n")
    bad = next((line for line in lines if not line.replace("\t", "").isprintable()), None)
    return None if bad is None else f"a line that acts on a terminal: {bad[:300]!r}"


def odd_arguments(random: Random, command: str) -> list[str]:
    """Return a command with arguments that are nearly right."""
    argv = [command, *_positional(random, command)]
    for _ in range(random.choice((0, 1, 1, 2, 3))):
        option = random.choice(OPTIONS[command])
        argv.append(option)
        if option not in FLAGS:
            argv.append(_value(random, option))
    if random.randrange(15) == 0:
        argv.insert(random.randrange(1, len(argv) + 1), text_of(random))
    # A name that begins with a dash is an option; no dry run writes, and a report of 500 bytes may.
    return [*argv, "-n"] if command == "run" else argv


def _source(random: Random) -> str:
    good = ("tiny.safetensors",) * 8 + ("odd.safetensors", "odd.safetensors")
    return random.choice((*good, text_of(random)))


def _init(random: Random) -> str:
    name = random.choice(INITS)
    given = [_argument(random) for _ in range(random.choice((0, 0, 1, 2)))]
    return f"{name}:{','.join(given)}" if given else name


def _argument(random: Random) -> str:
    name = random.choice(
        ("std", "mean", "val", "gain", "a", "b", "min_ndim", "parts", "factor", "")
    )
    value = random.choice((random.choice(NUMBERS), text_of(random), "relu", "fan_out"))
    return f"{name}={value}" if name else value


def _positional(random: Random, command: str) -> list[str]:
    if command == "draw":
        dims = [
            random.choice((*("1", "2", "3", "0") * 8, *DIMENSIONS))
            for _ in range(random.randrange(1, 5))
        ]
        many = [random.choice(("1", "0"))] * random.choice((127, 129, 3000))
        shape = ",".join(dims if random.randrange(12) else many)
        return [_init(random), shape if random.randrange(10) else random.choice(TEXTS)]
    if command == "show":
        return [_source(random), random.choice((*KEYS, *KEYS, text_of(random)))]
    if command == "diff":
        return [_source(random), _source(random)]
    if command == "keys":
        return [_source(random), *random.choice(((), (), (odd_pattern(random),)))]
    if command == "inits":
        return [random.choice((*INITS, text_of(random)))]
    if command == "models":
        return [random.choice(("resnet*", odd_pattern(random)))]
    if command == "completion":
        return [random.choice(("bash", "zsh", "fish", text_of(random)))]
    rules = ["-r", f"{random.choice(('*', '*', odd_pattern(random)))}={_init(random)}"]
    return [_source(random), *(rules if command == "run" else ())]


def _value(random: Random, option: str) -> str:
    if random.randrange(5) == 0:
        return text_of(random)
    if option in {"-s", "-j", "--num-classes", "--by", "--rtol", "--atol"}:
        return random.choice(NUMBERS)
    if option == "--slice":
        return ",".join(
            random.choice(("", ":", "0", "-1", "...", "1:2", "::2", f"{random.choice(NUMBERS)}:"))
            for _ in range(random.randrange(4))
        )
    if option == "-r":
        return f"{odd_pattern(random)}={_init(random)}"
    if option == "--resize":
        return f"{random.choice(KEYS)}={random.choice(NUMBERS)}{random.choice(('', ':zeros', ':mean'))}"
    if option == "--shard-size":
        return random.choice(NUMBERS) + random.choice(("", "B", "kB", "GiB", "TB"))
    if option == "--line":
        words = [
            random.choice((_source(random), odd_pattern(random), "-r", "keys", "'", '"a', "*=nor"))
            for _ in range(3)
        ]
        return f"reinit {' '.join(words)}"
    if option in {"--report", "-o", "--record"}:
        return random.choice(
            (*TEXTS, "r.html", "r.svg", "out.pt", "out/", "{stem}.pt", "a\0.html", "\ud83d.html")
        )
    return random.choice(
        (*TEXTS, *NUMBERS, "bfloat16", "cpu", "key", "resnet18", "DEFAULT", "none")
    )
