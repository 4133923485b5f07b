"""Change a source, or the place of the output, at any moment of a run.

Whatever happens, it has to look as if the run had happened as a whole before the change or
after it: exit code 0 means that what is there now is one of these two; any other run has
changed nothing.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import torch
from safetensors.torch import save_file

from tests.campaign.moments import change
from tests.campaign.server import Run, Server, Servers
from tests.campaign.tally import Tally, complaint

_INDEX = "m/model.safetensors.index.json"
_SHARDS = {key: f"{'one' if key < 'd' else 'two'}.safetensors" for key in "abcde"}
_RUN_CHANGED = "tests.campaign.moments:run_changed"
_MOST_SECONDS, _MOST_NBYTES = 30.0, 400_000_000

World = Mapping[str, tuple[int, bytes]]
"""Every file of a folder by its path: its permissions and its bytes; a folder has none."""

Change = tuple[str, ...]
"""What happens, and the paths that it happens to."""


def _state(value: float) -> dict[str, torch.Tensor]:
    """Return tensors of which what a rule fills parts the others: they are copied apart."""
    return {key: torch.full((30 + at, 40), value + at) for at, key in enumerate("abcde")}


def _make_file(place: Path) -> None:
    for name, value in (("m", 1.0), ("other", 5.0), ("donor", 7.0), ("other-donor", 8.0)):
        save_file(_state(value), place / f"{name}.safetensors")
        torch.save(_state(value), place / f"{name}.pt")
    (place / "out").mkdir()
    (place / "out/old.safetensors").write_bytes(b"old")


def _make_folder(place: Path) -> None:
    (place / "m/below").mkdir(parents=True)
    for name in set(_SHARDS.values()):
        for path, value in ((place / "m" / name, 1.0), (place / f"other-{name}", 5.0)):
            state = _state(value)
            save_file({key: state[key] for key in state if _SHARDS[key] == name}, path)
    save_file(_state(9.0), place / "m/all.safetensors")
    (place / _INDEX).write_text(json.dumps({"weight_map": _SHARDS}))
    weight_map = dict.fromkeys(_SHARDS, "all.safetensors")
    (place / "other-index").write_text(json.dumps({"weight_map": weight_map}))
    (place / "m/config.json").write_text('{"layers": 2}')
    (place / "other-config").write_text('{"layers": 3}')
    (place / "m/below/words.txt").write_text("a b c")
    (place / "out").mkdir()


_ON_FILE = ("rewrite", "replace", "shorten", "lengthen", "restrict", "remove")
_NEEDS_OTHER = ("rewrite", "replace")


def _changes_of(path: str, other: str) -> list[Change]:
    return [(what, path, other) if what in _NEEDS_OTHER else (what, path) for what in _ON_FILE]


_FOLDER_CHANGES: list[Change] = [
    *_changes_of("m/one.safetensors", "other-one.safetensors"),
    *_changes_of("m/config.json", "other-config"),
    ("replace", _INDEX, "other-index"),
    ("remove", _INDEX),
    ("remove", "m/two.safetensors"),
    ("remove", "m/all.safetensors"),
    ("create", "m/below/late.txt"),
    ("create", "m/pytorch_model.bin"),
    ("restrict", "m/below/words.txt"),
]


@dataclass(frozen=True, slots=True)
class Situation:
    """A command, and what may happen meanwhile.

    Attributes:
        make: puts its files into a folder.
        argv: the command.
        changes: what may happen.
        is_in_place: whether the source is replaced: then what somebody writes into a file
            that was opened before is lost, however careful the run is.
    """

    make: Callable[[Path], None]
    argv: tuple[str, ...]
    changes: list[Change]
    is_in_place: bool = False


_RULE = ("-r", "b=zeros", "-r", "d=zeros", "-q")
_TENSORS = _changes_of("m.safetensors", "other.safetensors")
_TORCH = _changes_of("m.pt", "other.pt")

SITUATIONS: dict[str, Situation] = {
    "a file": Situation(
        _make_file,
        ("m.safetensors", *_RULE, "-o", "out/new.safetensors", "--sync"),
        [*_TENSORS, ("create", "out/new.safetensors"), ("swap folder", "out")],
    ),
    "a torch file": Situation(
        _make_file,
        ("m.pt", *_RULE, "-o", "out/new.pt", "--record=out/record.json"),
        [*_TORCH, ("create", "out/record.json")],
    ),
    "a converted file": Situation(
        _make_file,
        ("m.pt", *_RULE, "-o", "out/new.safetensors", "--sync"),
        [*_TORCH, ("create", "out/new.safetensors")],
    ),
    "a replaced file": Situation(
        _make_file,
        ("m.safetensors", *_RULE, "-o", "out/old.safetensors", "--force"),
        [
            *_TENSORS,
            ("replace", "out/old.safetensors", "other.pt"),
            ("remove", "out/old.safetensors"),
            ("swap folder", "out"),
        ],
    ),
    "shards": Situation(
        _make_file,
        ("m.safetensors", *_RULE, "-o", "out/new", "--shard-size", "8kB"),
        [*_TENSORS, ("create", "out/new"), ("swap folder", "out")],
    ),
    "a donor": Situation(
        _make_file,
        ("m.safetensors", "-r", "?=rewind:donor.safetensors", "-q", "-o", "out/new.safetensors"),
        _changes_of("donor.safetensors", "other-donor.safetensors"),
    ),
    "a folder": Situation(
        _make_folder, ("./m", *_RULE, "-o", "out/new", "--sync"), _FOLDER_CHANGES
    ),
    "a folder as a file": Situation(
        _make_folder, ("./m", *_RULE, "-o", "out/new.pt"), _FOLDER_CHANGES
    ),
    "a file in place": Situation(
        _make_file, ("m.safetensors", *_RULE, "--in-place"), _TENSORS, is_in_place=True
    ),
    "a torch file in place": Situation(
        _make_file, ("m.pt", *_RULE, "--in-place"), _TORCH, is_in_place=True
    ),
}


def world_of(place: Path) -> World:
    """Return all that is in a folder."""
    found = {}
    for path in sorted(place.rglob("*")):
        data = b"" if path.is_dir() else path.read_bytes()
        found[str(path.relative_to(place))] = (path.stat().st_mode, data)
    return found


@dataclass(slots=True)
class _Stage:
    """Where runs happen, and what they do where nothing happens meanwhile.

    Attributes:
        place: a folder of its own.
        server: what runs commands.
        worlds: for each situation and change what may be there in the end: after a run
            that succeeded, and after one that did not.
        looks: how often a run looks at the file system.
        seconds: how long it takes.
    """

    place: Path
    server: Server
    worlds: dict[tuple[str, Change], tuple[list[World], World]] = field(default_factory=dict)
    looks: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def set_up(self, name: str) -> Path:
        """Make the files of a situation."""
        template, here = self.place / f"template {name}", self.place / "here"
        if not template.exists():
            template.mkdir()
            SITUATIONS[name].make(template)
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(template, here)
        return here

    def expected(self, name: str, what: Change) -> tuple[list[World], World]:
        """Return what may be there in the end."""
        if (name, what) not in self.worlds:
            succeeded = []
            here = self.set_up(name)
            assert self._run_alone(name, here).code == 0
            _change(here, what)
            succeeded.append(world_of(here))
            here = self.set_up(name)
            _change(here, what)
            changed = world_of(here)
            if self._run_alone(name, here).code == 0:
                succeeded.append(world_of(here))
            self.worlds[name, what] = succeeded, changed
        return self.worlds[name, what]

    def _run_alone(self, name: str, here: Path) -> Run:
        counted = self.place / "count"
        counted.write_text("0")
        started = time.monotonic()
        run = self.run(name, here, 0, (), str(counted))
        self.seconds.setdefault(name, time.monotonic() - started)
        self.looks.setdefault(name, int(counted.read_text()))
        return run

    def run(self, name: str, here: Path, at: int, what: Change, counted: str = "") -> Run:
        """Run the command of a situation, and change something at a moment."""
        argv = (str(at), json.dumps(what), counted, *SITUATIONS[name].argv)
        return self.server.run(argv, here, function=_RUN_CHANGED)


def _change(here: Path, what: Change) -> None:
    change(what[0], *(str(here / path) for path in what[1:]))


def run(random: Random, count: int, place: Path, servers: Servers) -> Tally:
    """Change files at moments of runs: at every third try in true concurrency."""
    stage, tally = _Stage(place, servers.torch), Tally()
    for at in range(count):
        name = random.choice(list(SITUATIONS))
        situation = SITUATIONS[name]
        what = random.choice(situation.changes)
        succeeded, changed = stage.expected(name, what)
        here = stage.set_up(name)
        if at % 3 == 2 and not (situation.is_in_place and what[0] in ("rewrite", "lengthen")):
            moment = f"after {_concurrently(stage, name, what, here, random):.4f} s"
            done = servers.torch.wait()
        else:
            # Half of them when the plan is made: more goes wrong then, in fewer looks.
            last = stage.looks[name] + 2
            look = random.randint(random.choice((1, last // 2)), last)
            moment = f"before look {look} of {stage.looks[name]}"
            done = stage.run(name, here, look, what)
        found = _complaint(done, world_of(here), succeeded, changed)
        tally.add(done, kind=f"exit code {done.code}")
        if found:
            tally.find(f"try {at}: {name}, {' '.join(what)} {moment}", found)
    return tally


def _concurrently(stage: _Stage, name: str, what: Change, here: Path, random: Random) -> float:
    delay = random.random() * stage.seconds[name]
    stage.server.start(SITUATIONS[name].argv, here)
    time.sleep(delay)
    _change(here, what)
    return delay


def _complaint(done: Run, now: World, succeeded: list[World], changed: World) -> str | None:
    if found := complaint(done, seconds=_MOST_SECONDS, nbytes=_MOST_NBYTES):
        return found
    if done.code == 0 and now not in succeeded:
        return f"exit code 0, and neither before the change nor after it: {_unlike(now, changed)}"
    if done.code != 0 and now != changed:
        return f"exit code {done.code}, and not as it was: {_unlike(now, changed)}: {done.err!r}"
    return None


def _unlike(now: World, changed: World) -> str:
    """Name the files that are not as if nothing had run."""
    names = sorted({*now, *changed})
    return ", ".join(name for name in names if now.get(name) != changed.get(name)) or "nothing"


# --- two runs in place ---------------------------------------------------------------------


def run_pairs(random: Random, count: int, place: Path, servers: Servers) -> Tally:
    """Let two runs replace one file at the same time; each that succeeds has to be in it."""
    tally = Tally()
    keys = ("a", "b")
    with Server("torch", "reinit_cli.operations.rewrite") as second:
        runners = (servers.torch, second)
        expected = {done: _zeroed(place / "alone", done, servers.torch) for done in _SUBSETS}
        for at in range(count):
            here = _fresh(place / "pair")
            pause = random.random() * 0.05
            for server, key in zip(runners, keys, strict=True):
                server.start(_in_place(key), here)
                time.sleep(pause if key == "a" else 0)
            runs = [server.wait() for server in runners]
            for each in runs:
                tally.add(each, kind=f"exit code {each.code}")
            done = tuple(key for key, each in zip(keys, runs, strict=True) if each.code == 0)
            found = [complaint(each, seconds=30, nbytes=_MOST_NBYTES) for each in runs]
            if world_of(here) != expected[done]:
                found.append(f"{done} succeeded, and the file does not have exactly that")
            if why := next(filter(None, found), None):
                tally.find(f"pair {at} with a pause of {pause:.4f} s", why)
    return tally


_SUBSETS: tuple[tuple[str, ...], ...] = ((), ("a",), ("b",), ("a", "b"))


def _in_place(key: str) -> tuple[str, ...]:
    return ("m.safetensors", "-r", f"{key}=zeros", "--in-place", "-q")


def _fresh(here: Path) -> Path:
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir()
    save_file(_state(1.0), here / "m.safetensors")
    return here


def _zeroed(place: Path, keys: tuple[str, ...], server: Server) -> World:
    here = _fresh(place)
    for key in keys:
        assert server.run(_in_place(key), here).code == 0
    return world_of(here)
