"""Let single system calls of commands that write fail, each once.

After each fault a command has done its work, or it says in one line what is wrong and leaves
what was there before.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

from tests.campaign.server import Servers
from tests.campaign.tally import Tally
from tests.campaign.tracing import Call, Tracer, calls_of, came_to, failing, tracing
from tests.campaign.writing import COMMANDS, Ending, Place

_USUAL = ("EIO", "EINTR")
_FULL = ("ENOSPC", "EIO", "EDQUOT", "EINTR")
_ERRORS = {
    "openat": ("EACCES", "EMFILE", "ENOSPC", "EIO", "EINTR", "EROFS"),
    **dict.fromkeys(("pread64", "preadv", "preadv2", "readv", "read"), _USUAL),
    **dict.fromkeys(("pwrite64", "pwritev", "write", "ftruncate", "fsync", "close"), _FULL),
    "copy_file_range": ("EPERM", "EIO", "EINTR", "ENOSYS", "ENOSPC", "EXDEV", "EOPNOTSUPP"),
    "ioctl": ("EPERM", "EIO", "EINTR", "ENOSYS", "EOPNOTSUPP", "ENOSPC"),
    "fallocate": ("EPERM", "EIO", "EINTR", "ENOSYS", "ENOSPC", "EOPNOTSUPP"),
    "linkat": ("EPERM", "EXDEV", "ENOSPC", "EIO", "EINTR", "EOPNOTSUPP"),
    "link": ("EPERM", "ENOSPC", "EIO"),
    **dict.fromkeys(
        ("rename", "renameat", "renameat2"), ("EINVAL", "EIO", "ENOSPC", "EPERM", "EINTR")
    ),
    **dict.fromkeys(("unlink", "unlinkat", "rmdir"), ("EIO", "EPERM", "EINTR", "EROFS")),
    "mkdir": ("ENOSPC", "EIO", "EACCES", "EINTR"),
    "fchmod": ("EPERM", "EIO"),
    "fchown": ("EPERM", "EIO"),
    "flock": ("ENOLCK", "EINTR", "EIO"),
    "newfstatat": ("EIO", "EACCES"),
    "getdents64": ("EIO", "EINTR"),
    "fcntl": ("EMFILE",),
    **dict.fromkeys(("dup", "dup2", "dup3"), ("EMFILE", "EINTR")),
}
_LASTING = {
    *("pwrite64", "copy_file_range", "fallocate", "fsync", "linkat", "rename", "renameat2"),
    *("unlink", "unlinkat", "mkdir", "rmdir", "fchmod", "flock"),
}
"""What only outputs are made with: from one moment on, a disk may refuse it for good."""

_LASTING_ERRORS = ("EIO", "EROFS", "EPERM", "ENOSPC", "ENOSYS")

SIGNALS = {"TERM": 143, "INT": 130, "HUP": 129}


def run(random: Random, count: int, place: Path, servers: Servers) -> Tally:
    """Inject faults, chosen across all commands and calls."""
    faults = _Faults(Place(place, servers.torch), place / "log", Tally())
    names = random.sample(list(COMMANDS), min(len(COMMANDS), 2 + count // 8))
    while faults.tally.tried < count:
        name = random.choice(names)
        kind = random.choice(("error", "error", "error", "lasting", "signal", "short"))
        if kind == "short":
            faults.cut(name, random.randrange(2**32))
            continue
        call = random.choice(faults.calls(name))
        if kind == "lasting" and call.name in _LASTING:
            faults.inject(name, call, f"error={random.choice(_LASTING_ERRORS)}", lasts=True)
        elif kind == "signal":
            faults.inject(name, call, f"signal={random.choice(list(SIGNALS))}")
        else:
            faults.inject(name, call, f"error={random.choice(_ERRORS[call.name])}")
    return faults.tally


def run_all(place: Path, servers: Servers, names: list[str] | None = None) -> Tally:
    """Inject every fault into every command."""
    faults = _Faults(Place(place, servers.torch), place / "log", Tally())
    for name in names or COMMANDS:
        for call in faults.calls(name):
            for error in _ERRORS[call.name]:
                faults.inject(name, call, f"error={error}")
            for number in SIGNALS:
                faults.inject(name, call, f"signal={number}")
            for error in _LASTING_ERRORS if call.name in _LASTING else ():
                faults.inject(name, call, f"error={error}", lasts=True)
        for seed in range(10):
            faults.cut(name, seed)
    return faults.tally


class _Faults:
    """Injects faults and judges what comes of them."""

    def __init__(self, place: Place, log: Path, tally: Tally) -> None:
        self.tally = tally
        self._place = place
        self._log = log
        self._calls: dict[str, list[Call]] = {}

    def calls(self, name: str) -> list[Call]:
        """Return the calls of a command that a fault may come to."""
        if name not in self._calls:
            self._place.prepare(COMMANDS[name])
            tracer = Tracer(self._place.start(COMMANDS[name], stops=True), self._log, *tracing())
            assert self._place.wait().code == 0
            self._calls[name] = calls_of(tracer.lines(), self._place.work)
            assert self._calls[name], f"no call of {name} is traced"
        return self._calls[name]

    def inject(self, name: str, call: Call, how: str, *, lasts: bool = False) -> None:
        """Let a call of a command fail, and all later calls of its name where that lasts."""
        command = COMMANDS[name]
        expected, out = self._place.expected(name)
        before = self._place.prepare(command)
        process = self._place.start(command, stops=True)
        tracer = Tracer(process, self._log, *failing(call, how, lasts=lasts))
        run = self._place.wait()
        lines = tracer.lines()
        ending = Ending(command, before, run, self._place.state(), expected, out)
        kind, _, what = how.partition("=")
        if not came_to(lines, self._place.work, call):
            self.tally.counts["elsewhere"] = self.tally.counts.get("elsewhere", 0) + 1
            return
        self.tally.add(run, kind=f"{call.name} {what}{' from then on' if lasts else ''}")
        why = ending.wrong() if kind == "error" else wrong_signal(ending, SIGNALS[what])
        if why:
            which = f"{call.name} {call.nth}{' and later' if lasts else ''} {how}"
            self.tally.find(f"{name}: {which}: {command.argv}", why)

    def cut(self, name: str, seed: int) -> None:
        """Let every read and write of a command do a part of what it is asked to do."""
        command = COMMANDS[name]
        expected, out = self._place.expected(name)
        before = self._place.prepare(command)
        self._place.start(
            replace(
                command,
                argv=(str(seed), command.function, *command.argv),
                function="tests.campaign.child:short",
            )
        )
        run = self._place.wait()
        ending = Ending(command, before, run, self._place.state(), expected, out)
        self.tally.add(run, kind="short reads and writes")
        why = ending.wrong() or (None if run.code == 0 else f"exit {run.code}: {run.err!r}")
        if why:
            self.tally.find(f"{name}: short reads and writes {seed}", why)


def wrong_signal(ending: Ending, code: int) -> str | None:
    """Return what is wrong after a signal, or None: it may come too early or too late."""
    run = ending.run
    if run.code is None:
        return "it hangs"
    if b"Traceback" in run.err:
        return "a traceback: " + run.err[-600:].decode(errors="replace")
    if run.code not in (0, code, 128 - code):  # the last where nothing has begun
        return f"exit {run.code} and not {code}: {run.err!r}"
    if run.code == 0:
        return ending.wrong()
    return ending.wrong_files()
