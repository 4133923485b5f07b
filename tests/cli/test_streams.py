"""Every command, whatever its standard streams lead to: a full disk, nothing, plain ASCII."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.said import said

REINIT = (sys.executable, "-m", "reinit_cli")

COMMANDS = {
    "nothing": (),
    "--help": ("--help",),
    "-h": ("-h",),
    "help run": ("help", "run"),
    "keys --help": ("keys", "--help"),
    "a file alone": ("model.safetensors",),
    "info": ("info",),
    "info FILE --json": ("info", "model.safetensors", "--json"),
    "keys -l": ("keys", "model.safetensors", "-l"),
    "diff of the same": ("diff", "model.safetensors", "model.safetensors"),
    "--version": ("--version",),
    "help": ("help",),
    "version": ("version",),
    "help of a command": ("help", "keys"),
    "run -h": ("run", "-h"),
    "run": ("model.safetensors", "-r", "a.*=zeros", "-o", "out.safetensors"),
    "run --json": ("model.safetensors", "-r", "a.*=zeros", "-n", "--json"),
    "run into a pipe": ("model.safetensors", "-r", "a.*=zeros", "-o", "-"),
    "several": ("model.safetensors", "other.pt", "-r", "*=zeros", "-o", "out/"),
    "keys": ("keys", "model.safetensors"),
    "keys --json": ("keys", "model.safetensors", "--json"),
    "keys --tree": ("keys", "model.safetensors", "--tree"),
    "keys --count": ("keys", "model.safetensors", "--count"),
    "show": ("show", "model.safetensors", "a.weight"),
    "stats": ("stats", "model.safetensors"),
    "diff": ("diff", "model.safetensors", "other.pt"),
    "verify": ("verify", "made.safetensors"),
    "inits": ("inits",),
    "inits NAME": ("inits", "xavier_normal"),
    "draw": ("draw", "normal", "3"),
    "models": ("models", "resnet1*"),
    "completion": ("completion", "bash"),
    "a word": ("completion", "bash", "--line", "reinit ke"),
}

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("checkpoints")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    state = {"a.weight": torch.ones(3, 4), "b\u03b1.weight": torch.ones(2, 2)}
    save_file(state, folder / "model.safetensors")
    torch.save({"a.weight": torch.zeros(3, 4)}, folder / "other.pt")
    made = ("model.safetensors", "-r", "a.*=ones", "-o", "made.safetensors", "--record")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([*REINIT, *made], cwd=folder, env=environment, check=True, capture_output=True)
    return folder


@pytest.fixture
def checkpoints(folder: Path) -> None:
    for each in folder.iterdir():
        Path(each.name).symlink_to(each)


def _run(
    args: tuple[str, ...], redirected: str = "", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirected}', "sh", *REINIT, *args],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=120,
    )


FULL = ("no space left on device", ">/dev/full")
CLOSED = ("bad file descriptor", ">&-")
WRITTEN = {
    "run": "; 'out.safetensors' was written",
    "several": "; 'out/model.safetensors' and 'out/other.pt' were written",
}
LIGHT = (
    "nothing",
    "--help",
    "run",
    "run into a pipe",
    "keys",
    "keys --json",
    "inits",
    "completion",
)


@pytest.mark.parametrize(
    ("name", "problem", "redirected"),
    [*((name, *FULL) for name in COMMANDS), *((name, *CLOSED) for name in LIGHT)],
)
def test_a_standard_output_that_takes_nothing_is_an_error_of_one_line(
    name: str, problem: str, redirected: str
) -> None:
    if redirected == FULL[1] and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")

    done = _run(COMMANDS[name], redirected)

    *others, last = said(done.stderr.decode()).splitlines()
    expected = f"error: cannot write to standard output: {problem}{WRITTEN.get(name, '')}"
    assert (done.returncode, last) == (2, expected)
    assert not any(line.startswith(("Traceback", "error", " ")) for line in others)


@pytest.mark.parametrize("name", ["run -h", "keys --tree", "stats", "inits", "draw", "models"])
def test_what_a_stream_cannot_encode_is_escaped(name: str) -> None:
    """Python itself escapes the same text."""
    plain = _run(COMMANDS[name], PYTHONIOENCODING="utf-8")
    done = _run(COMMANDS[name], PYTHONIOENCODING="ascii")

    assert (done.returncode, done.stderr) == (0, plain.stderr)
    assert b"error" not in plain.stderr
    assert done.stdout == plain.stdout.decode().encode("ascii", "backslashreplace")


def test_escapes_are_those_that_the_encoding_needs() -> None:
    latin = _run(COMMANDS["inits NAME"], PYTHONIOENCODING="latin-1").stdout

    assert "std²)".encode("latin-1") in latin
    assert rb"gain\xb7" not in latin
    assert rb"\u221a(" in latin


def test_keys_and_checkpoints_in_a_pipe_are_what_they_are() -> None:
    for name in ("keys", "run into a pipe"):
        plain = _run(COMMANDS[name])
        assert plain.returncode == 0
        assert _run(COMMANDS[name], PYTHONIOENCODING="ascii").stdout == plain.stdout


@pytest.mark.parametrize("name", ["--help", "run into a pipe", "several", "stats"])
def test_a_closed_standard_error_changes_nothing(name: str) -> None:
    plain = _run(COMMANDS[name])
    for each in Path("out").glob("*"):
        each.unlink()
    done = _run(COMMANDS[name], "2>&-")

    assert done.returncode == plain.returncode == 0
    assert (done.stdout, done.stderr) == (plain.stdout, b"")


@pytest.mark.parametrize("redirected", ["2>&-", "2>/dev/full", ">&- 2>&-", "<&- >&- 2>&-"])
def test_an_error_that_nobody_reads_has_its_exit_code(redirected: str) -> None:
    done = _run(("nothing.safetensors", "-r", "*=zeros"), redirected)

    assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"")


def test_with_all_streams_closed_an_output_has_no_byte_of_anything_else() -> None:
    """A file that is opened as the descriptor of standard output would get what is printed."""
    args = ("model.safetensors", "-r", "a.*=zeros", "-o")
    _run((*args, "plain.safetensors"))

    done = _run((*args, "out.safetensors"), "<&- >&- 2>&-")

    assert done.returncode == 2  # the report could not be written
    assert Path("out.safetensors").read_bytes() == Path("plain.safetensors").read_bytes()


def test_a_closed_standard_input_cannot_be_read() -> None:
    done = _run(("keys", "-"), "<&-")

    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"error: cannot read '-': bad file descriptor\n"


@pytest.mark.parametrize(
    ("args", "redirected", "problem"),
    [
        (("model.safetensors",), ">>model.safetensors", "is the source itself"),
        (("model.safetensors",), "1<>model.safetensors", "is the source itself"),
        (("-",), "<model.safetensors >>model.safetensors", "would take the place of a checkpoint"),
        (
            ("other.pt", "-r", "a.*=rewind:model.safetensors"),
            ">>model.safetensors",
            "would take the place of a checkpoint",
        ),
    ],
)
def test_a_checkpoint_is_not_sent_to_a_file_that_is_read(
    args: tuple[str, ...], redirected: str, problem: str
) -> None:
    """As `cat` refuses to: its input file is its output file."""
    before = Path("model.safetensors").read_bytes()

    done = _run((*args, "-r", "a.*=ones", "-o", "-"), redirected)

    assert done.returncode == 2
    assert done.stderr.startswith(f"error: the output '-' {problem}".encode())
    assert Path("model.safetensors").read_bytes() == before


def test_a_checkpoint_is_added_to_another_file() -> None:
    plain = _run(COMMANDS["run into a pipe"]).stdout
    Path("log").write_bytes(b"before")

    assert _run(COMMANDS["run into a pipe"], ">>log").returncode == 0
    assert Path("log").read_bytes() == b"before" + plain


def test_a_file_that_standard_input_reads_is_not_replaced() -> None:
    before = Path("model.safetensors").read_bytes()

    done = _run(("-", "-r", "a.*=ones", "-f", "-o", "./model.safetensors"), "<model.safetensors")

    taken = b"error: the output './model.safetensors' would take the place of a checkpoint that is"
    assert (done.returncode, done.stderr.startswith(taken)) == (2, True)
    assert Path("model.safetensors").read_bytes() == before


def test_a_reader_who_is_gone_is_no_error() -> None:
    for args in (("--help",), ("inits",), ("keys", "model.safetensors", "--json")):
        ours, theirs = os.pipe()
        os.close(ours)
        with subprocess.Popen([*REINIT, *args], stdout=theirs, stderr=subprocess.PIPE) as process:
            os.close(theirs)
            _, said = process.communicate(timeout=60)

        assert (process.returncode, said) == (141, b"")


def test_an_output_that_does_not_block_is_waited_for() -> None:
    """A shell or a terminal that is shared can leave standard output so."""
    save_file({f"key.{at:06}": torch.zeros(0) for at in range(20_000)}, "many.safetensors")
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with subprocess.Popen(
        [*REINIT, "keys", "many.safetensors", "--json"], stdout=theirs
    ) as process:
        os.close(theirs)
        time.sleep(1)  # until the pipe is full
        with open(ours) as reader:
            keys = [json.loads(line)["key"] for line in reader]

    assert process.returncode == 0
    assert keys == [f"key.{at:06}" for at in range(20_000)]


def test_a_long_table_on_a_terminal_of_ascii_has_no_escapes_for_lines() -> None:
    save_file({f"k.{at:04}": torch.zeros(2) for at in range(600)}, "many.safetensors")

    for name in ("many.safetensors", "model.safetensors"):
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [*REINIT, "keys", name],
            stdout=theirs,
            env=os.environ | {"PYTHONIOENCODING": "ascii", "TERM": "xterm"},
        ) as process:
            os.close(theirs)
            seen = _all_of(ours)
        assert process.returncode == 0
        assert b"----" in seen
        assert b"u2500" not in seen


def _all_of(terminal: int) -> bytes:
    seen = b""
    with suppress(OSError):  # EIO: the other end has gone
        while read := os.read(terminal, 65536):
            seen += read
    os.close(terminal)
    return seen
