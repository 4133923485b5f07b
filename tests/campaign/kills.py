"""End commands that write at any moment, in every way.

After SIGKILL each file is as it was or as it was to be, and the next run removes the
temporary that may be left. After SIGTERM, SIGINT and SIGHUP nothing is left.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

from tests.campaign.faults import SIGNALS, wrong_signal
from tests.campaign.server import Run, Servers
from tests.campaign.tally import Tally
from tests.campaign.tracing import Call, Tracer, calls_of, failing, tracing
from tests.campaign.writing import COMMANDS, Command, Ending, Place, State

_TEMPORARY = r"\.reinit-[0-9a-f]{12}"


def run(random: Random, count: int, place: Path, servers: Servers) -> Tally:
    """End commands at random moments, and at random system calls."""
    kills = _Kills(random, Place(place, servers.torch), place / "log", Tally())
    names = random.sample(list(COMMANDS), min(len(COMMANDS), 2 + count // 8))
    while kills.tally.tried < count:
        name = random.choice(names)
        match random.choice(("a call", "a call", "a moment", "a signal")):
            case "a call":
                kills.at_a_call(name)
            case "a moment":
                kills.at_a_moment(name, "KILL")
            case _:
                kills.at_a_moment(name, random.choice(list(SIGNALS)))
    return kills.tally


class _Kills:
    """Ends commands and judges what they leave."""

    def __init__(self, random: Random, place: Place, log: Path, tally: Tally) -> None:
        self.tally = tally
        self._random = random
        self._place = place
        self._log = log
        self._calls: dict[str, list[Call]] = {}
        self._seconds: dict[str, float] = {}

    def at_a_call(self, name: str) -> None:
        """Kill a command when it makes a system call."""
        if name not in self._calls:
            self._place.prepare(COMMANDS[name])
            tracer = Tracer(self._place.start(COMMANDS[name], stops=True), self._log, *tracing())
            assert self._place.wait().code == 0
            self._calls[name] = calls_of(tracer.lines(), self._place.work)
        call = self._random.choice(self._calls[name])
        self._place.expected(name)
        before = self._place.prepare(COMMANDS[name])
        process = self._place.start(COMMANDS[name], stops=True)
        tracer = Tracer(process, self._log, *failing(call, "signal=KILL"))
        run = self._place.wait()
        tracer.lines()
        self._judge(name, before, run, "KILL", f"killed at {call.name} {call.nth}")

    def at_a_moment(self, name: str, number: str) -> None:
        """End a command at a random moment."""
        if name not in self._seconds:
            started = time.monotonic()
            self._place.expected(name)
            self._place.prepare(COMMANDS[name])
            self._place.start(COMMANDS[name])
            self._place.wait()
            self._seconds[name] = time.monotonic() - started
        seconds = self._random.random() * self._seconds[name]
        before = self._place.prepare(COMMANDS[name])
        process = self._place.start(COMMANDS[name])
        time.sleep(seconds)
        os.kill(process, getattr(signal, f"SIG{number}"))
        run = self._place.wait()
        self._judge(name, before, run, number, f"SIG{number} after {seconds:.3f} s")

    def _judge(self, name: str, before: State, run: Run, number: str, what: str) -> None:
        command = COMMANDS[name]
        expected, out = self._place.expected(name)
        ending = Ending(command, before, run, self._place.state(), expected, out)
        self.tally.add(run, kind=f"SIG{number}")
        if number != "KILL":
            why = wrong_signal(ending, SIGNALS[number])
        else:
            why = _wrong_kill(ending) or self._wrong_next(command, ending)
        if why:
            self.tally.find(f"{name}: {what}: {command.argv}", why)

    def _wrong_next(self, command: Command, killed: Ending) -> str | None:
        """Run the command once more, which removes what was left; return what is wrong."""
        argv = command.argv
        if not {"-f", "--in-place"} & set(argv):
            argv = (*argv, "-f")
        shutil.rmtree(self._place.work / "out", ignore_errors=True)  # which is never replaced
        self._place.start(replace(command, argv=argv))
        run = self._place.wait()
        if run.code != 0:
            return f"the next run ends with {run.code}: {run.err!r}"
        after = self._place.state()
        left = [name for name in after if re.search(_TEMPORARY, name)]
        if left:
            return f"the next run leaves {left}"
        contents = {name: content for name, (_, content) in after.items()}
        if contents != {name: content for name, (_, content) in killed.expected.items()}:
            return "the next run writes something else"
        return None


def _wrong_kill(ending: Ending) -> str | None:
    if ending.run.code not in (0, -signal.SIGKILL):
        return f"exit {ending.run.code}: {ending.run.err!r}"
    temporaries = {
        found[1] for name in ending.after if (found := re.match(rf"(.*?{_TEMPORARY})", name))
    }
    of = Counter(re.sub(_TEMPORARY, "", name) for name in temporaries)
    if of and max(of.values()) > 1:
        return f"more than one temporary: {sorted(temporaries)}"
    return ending.wrong_files(_TEMPORARY)
