"""Commands that write, the folder that they work in, and what may be in it afterward."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.campaign.server import Run, Server
from tests.campaign.tally import complaint

SECONDS, NBYTES = 20, 2_000_000_000
"""What any of the commands may take: they take a hundredth of it."""

State = Mapping[str, tuple[int, bytes]]
"""The files and folders at a place, by their paths: mode and content."""

RULE = ("-r", "a*=zeros")
MINE = "m.safetensors"
OLD = b"what was there before"


@dataclass(frozen=True, slots=True)
class Command:
    """A command that writes.

    Attributes:
        argv: its arguments.
        old: what is there before, to be replaced.
        stdin: the file that it reads from a pipe, or "".
        function: what calls it in its process, or "".
        outputs: how many outputs it makes, of which each may be whole where another fails.
    """

    argv: tuple[str, ...]
    old: tuple[str, ...] = ()
    stdin: str = ""
    function: str = ""
    outputs: int = 1

    def named(self) -> Command:
        """Return it on a file system where no file is without a name."""
        return Command(self.argv, self.old, self.stdin, "tests.campaign.child:named", self.outputs)


def _run(*argv: str, old: Sequence[str] = (), force: bool = False) -> Command:
    return Command((MINE, *RULE, *argv, *(("-f",) if old or force else ())), tuple(old))


_OUT, _RECORD, _PAGE = "out.safetensors", "record.json", "page.html"
_EXTRAS = ("-o", _OUT, f"--record={_RECORD}", "--report", _PAGE)

COMMANDS = {
    "a new file": _run("-o", _OUT),
    "an old file": _run("-o", _OUT, old=[_OUT]),
    "a new file that is synced": _run("-o", _OUT, "--sync"),
    "a file in place": _run("--in-place"),
    "a new file with a name": _run("-o", _OUT).named(),
    "an old file with a name": _run("-o", _OUT, old=[_OUT]).named(),
    "a torch file": Command(("m.pt", *RULE, "-o", "out.pt")),
    "an old torch file": Command(("m.pt", *RULE, "-o", "out.pt", "-f"), ("out.pt",)),
    "a folder": Command(("./folder", *RULE, "-o", "out")),
    "a folder that is synced": Command(("./folder", *RULE, "-o", "out", "--sync")),
    "shards": _run("--shard-size", "9kB", "-o", "out"),
    "a record inside": _run("-o", _OUT, "--record"),
    "a record of a torch file": Command(("m.pt", *RULE, "-o", "out.pt", "--record")),
    "a new record": _run("-o", _OUT, f"--record={_RECORD}"),
    "an old record": _run("-o", _OUT, f"--record={_RECORD}", old=[_OUT, _RECORD]),
    "a new report": _run("-o", _OUT, "--report", _PAGE),
    "an old report": _run("-o", _OUT, "--report", _PAGE, old=[_OUT, _PAGE]),
    "three new files": _run(*_EXTRAS),
    "three old files": _run(*_EXTRAS, old=[_OUT, _RECORD, _PAGE]),
    "three old files with names": _run(*_EXTRAS, old=[_OUT, _RECORD, _PAGE]).named(),
    "an old record of a folder": Command(
        ("./folder", *RULE, "-o", "out", f"--record={_RECORD}", "-f"), (_RECORD,)
    ),
    "a conversion": _run("-o", "out.pt"),
    "an old conversion": _run("-o", "out.pt", old=["out.pt"]),
    "a conversion from torch": Command(("m.pt", "-o", _OUT)),
    "a pipe of safetensors": Command(
        ("-", *RULE, "-o", _OUT), (), MINE, "tests.campaign.child:piped"
    ),
    "a pipe of a torch file": Command(
        ("-", *RULE, "-o", "out.pt"), (), "m.pt", "tests.campaign.child:piped"
    ),
    "standard output": _run("-o", "-"),
    "standard output and an old record": _run("-o", "-", f"--record={_RECORD}", old=[_RECORD]),
    "a batch": Command((MINE, "n.safetensors", *RULE, "-o", "new/"), outputs=2),
    "a batch side by side": Command(
        (MINE, "n.safetensors", *RULE, "-o", "{stem}-new{suffix}", "-j", "2"), outputs=2
    ),
    "a report of statistics": Command(("stats", MINE, "--report", _PAGE)),
    "an old report of a comparison": Command(
        ("diff", MINE, MINE, "--report", _PAGE, "-f"), (_PAGE,)
    ),
    "results as JSON": _run("-o", _OUT, "--json"),
}


class Place:
    """The folder that commands work in, made again for each."""

    def __init__(self, folder: Path, server: Server) -> None:
        """Make the sources.

        Args:
            folder: an empty folder.
            server: one with torch.
        """
        self.work = folder / "work"
        self._sources = folder / "sources"
        self._sources.mkdir()
        self._server = server
        self._expected: dict[str, tuple[State, bytes]] = {}
        server.run([], self._sources, function="tests.campaign.child:make_sources")

    def prepare(self, command: Command) -> State:
        """Put into it what a command finds, and return that."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self._sources, self.work)
        (self.work / "tmp").mkdir()
        for name in command.old:
            (self.work / name).write_bytes(OLD)
            (self.work / name).chmod(0o640)
        return self.state()

    def start(self, command: Command, *, stops: bool = False) -> int:
        """Start a command there."""
        stdin = (self.work / command.stdin).read_bytes() if command.stdin else b""
        environment = {"TMPDIR": str(self.work / "tmp"), "NO_COLOR": "1"}
        return self._server.start(
            command.argv, self.work, stdin, environment, function=command.function, stops=stops
        )

    def wait(self) -> Run:
        """Wait for the command."""
        return self._server.wait()

    def expected(self, name: str) -> tuple[State, bytes]:
        """Return what is there after a command without a fault, and its standard output."""
        if name not in self._expected:
            self.prepare(COMMANDS[name])
            self.start(COMMANDS[name])
            run = self.wait()
            assert run.code == 0, run.err.decode()
            self._expected[name] = (self.state(), run.out)
        return self._expected[name]

    def state(self) -> State:
        """Return what is there now."""
        return {
            str(path.relative_to(self.work)): (stat.S_IMODE(path.lstat().st_mode), _content(path))
            for path in sorted(self.work.rglob("*"))
        }


def _content(path: Path) -> bytes:
    if path.is_dir():
        return b""
    data = path.read_bytes()
    # A page says how long the run took.
    return b"a whole page" if data.rstrip().endswith(b"</html>") else data


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ended, and what it left.

    Attributes:
        command: the command.
        before: what was there.
        run: how it ended.
        after: what is there.
        expected: what would be there after a run without a fault.
        out: what would be on standard output.
    """

    command: Command
    before: State
    run: Run
    after: State
    expected: State
    out: bytes

    def wrong(self) -> str | None:
        """Return what is wrong after a fault, or None."""
        # With `-o -` the report is on standard error too, as a table.
        lines = [line for line in self.run.err.splitlines(keepends=True) if b"\t" not in line]
        said = replace(self.run, err=b"".join(lines))
        if why := complaint(said, seconds=SECONDS, nbytes=NBYTES):
            return why
        return self._wrong_success() if self.run.code == 0 else self._wrong_failure()

    def wrong_files(self, may_have: str = "$^") -> str | None:
        """Return what is wrong with the files after a run that was ended, or None.

        Each is as it was or as it was to be.

        Args:
            may_have: a pattern of other names that may be there.
        """
        for name in sorted({*self.before, *self.after, *self.expected}):
            found = self.after.get(name)
            may_be = found in (self.before.get(name), self.expected.get(name))
            if not may_be and not re.search(may_have, name):
                return f"{name!r} {self._described(name)}"
        return None

    def _wrong_success(self) -> str | None:
        for name in sorted({*self.after, *self.expected}):
            if self.after.get(name) != self.expected.get(name):
                return f"exit 0, and {name!r} {self._described(name)}"
        if "-" in self.command.argv[-4:] and self.run.out != self.out:
            return "exit 0, and standard output is not whole"
        return None

    def _wrong_failure(self) -> str | None:
        said = self.run.err.decode(errors="replace")
        for name in sorted({*self.before, *self.after}):
            found = self.after.get(name)
            if found == self.before.get(name):
                continue
            is_told = repr(name) in self._told(said, name)
            if is_told and found == self.expected.get(name):
                continue
            if re.search(r"\.reinit-[0-9a-f]{12}", name) and is_told:
                continue
            if self.command.outputs > 1 and found == self.expected.get(name):
                continue
            return f"exit {self.run.code}, and {name!r} {self._described(name)}: {said!r}"
        return None

    def _told(self, said: str, name: str) -> str:
        """Return the part of an error that says what was written or left all the same.

        What lies in a folder is named as it is.
        """
        parts = re.sub(r"'/[^']*/work/", "'", said).replace("\nhint:", ";").split(";")
        told = [part for part in parts if "written" in part or "could not be removed" in part]
        left = re.match(r".*?\.reinit-[0-9a-f]{12}", name)
        top = left[0] if left else name.partition(os.sep)[0]
        return " ".join(told).replace("/'", "'").replace(repr(top), repr(name))

    def _described(self, name: str) -> str:
        found, was = self.after.get(name), self.before.get(name)
        if found is None:
            return "is gone" if was is not None else "is missing"
        if was is None and name not in self.expected:
            return "was left behind"
        mode, content = found
        return f"has {len(content)} bytes {content[:40]!r} and mode {mode:o}"
