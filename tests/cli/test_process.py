"""The command as a process: terminals, pipes, signals, another process's bytes."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

REINIT = (sys.executable, "-m", "reinit_cli")

pytestmark = pytest.mark.slow


def _in_terminal(*args: str, width: int = 100, **environment: str) -> tuple[int, str]:
    """Run a command in a pseudo-terminal; return its exit code and what appeared."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    with subprocess.Popen(
        [*REINIT, *args],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=inherited | {"TERM": "xterm-256color"} | environment,
    ) as process:
        os.close(theirs)
        seen = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    return process.returncode, seen.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # EIO: the last one who had it open has gone
        return b""


def _plain(seen: str) -> list[str]:
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen).replace("\r\n", "\n")
    lines = (line.rpartition("\r")[2].rstrip() for line in text.splitlines())
    return [line for line in lines if line]


@pytest.fixture
def checkpoint() -> Path:
    save_file(
        {
            "a.weight": torch.zeros(30, 20),
            "a.bias": torch.zeros(30),
            "evil\x1b[31m\u202e": torch.ones(2),
        },
        "model.safetensors",
    )
    return Path("model.safetensors")


def test_keys_on_a_terminal_are_a_table_and_hostile_names_are_shown_escaped(
    checkpoint: Path,
) -> None:
    code, seen = _in_terminal("keys", "model.safetensors")

    assert code == 0
    assert "\x1b[31m" not in seen
    assert _plain(seen) == [
        "key                 shape  dtype    parameters   bytes",
        "──────────────────  ─────  ───────  ──────────  ──────",
        "a.bias              30     float32          30   120 B",
        "a.weight            30x20  float32         600  2.4 kB",
        r"evil\x1b[31m\u202e  2      float32           2     8 B",
        "total  3 tensors, 632 parameters, 2.5 kB",
    ]


def test_a_tree_on_a_terminal_is_indented(checkpoint: Path) -> None:
    code, seen = _in_terminal("keys", "model.safetensors", "a.*", "--tree")

    assert code == 0
    assert _plain(seen) == [
        "module     tensors  shape  dtype    parameters   bytes",
        "─────────  ───────  ─────  ───────  ──────────  ──────",
        "a                2                         630  2.5 kB",
        "├─ bias             30     float32          30   120 B",
        "└─ weight           30x20  float32         600  2.4 kB",
        "total  2 tensors, 630 parameters, 2.5 kB",
    ]


def test_a_very_long_table_looks_like_a_short_one() -> None:
    save_file({f"k.{at:04}": torch.zeros(2, at % 3 + 1) for at in range(600)}, "many.safetensors")

    code, seen = _in_terminal("keys", "many.safetensors", "--no-pager")

    assert code == 0
    lines = _plain(seen)
    assert lines[:3] == [
        "key     shape  dtype    parameters  bytes",
        "──────  ─────  ───────  ──────────  ─────",
        "k.0000  2x1    float32           2    8 B",
    ]
    assert len(lines) == 603


def test_a_rewrite_on_a_terminal_shows_a_table_and_its_notes_below(checkpoint: Path) -> None:
    code, seen = _in_terminal("model.safetensors", "-r", "a.*=xavier_uniform:relu", "-n")

    assert code == 0
    header, _, *rest = _plain(seen)
    assert header.split() == [
        *("pattern", "initializer", "tensors", "parameters", "bytes", "expected", "std"),
    ]
    assert rest == [
        "a.*      xavier_uniform relu (gain 1.414)        1         600  2.4 kB        0.2828",
        "note         a.*: 1 skipped: 1-D (fans need at least 2 dimensions)",
        "unchanged    2 tensors, 32 parameters, 128 B",
        "total        3 tensors, 632 parameters, 2.5 kB",
        "seed         0 (stream philox-1)",
        "device       cpu",
        "source       model.safetensors",
        "would write  model-reinit.safetensors",
    ]


def test_several_inputs_on_a_terminal_are_one_table(checkpoint: Path) -> None:
    Path("bad.pt").write_bytes(b"")

    code, seen = _in_terminal(
        *("model.safetensors", "bad.pt", "-r", "a.*=xavier_uniform", "-o", "out/", "--keep-going"),
        NO_COLOR="1",
    )

    assert code == 3
    # A bar that was shown while torch was imported has been erased again.
    lines = [line for line in _plain(seen) if not line.startswith("2 outputs ")]
    assert re.fullmatch(r"took    [0-9.]+ s", lines.pop(-2))
    assert lines == [
        "error: 'bad.pt' is empty",
        "hint: the download failed, or is not complete; fetch it again",
        "source             result  tensors  parameters   bytes  output",
        "─────────────────  ──────  ───────  ──────────  ──────  ─────────────────────",
        "model.safetensors  done          1         600  2.4 kB  out/model.safetensors",
        "bad.pt             failed",
        "note    model.safetensors: 1 skipped: 1-D (fans need at least 2 dimensions)",
        "note    bad.pt: 'bad.pt' is empty",
        "rule    a.* = xavier_uniform gain=1",
        "seed    0 (stream philox-1)",
        "device  cpu",
        "total   1 output, 2.7 kB",
        "1 of 2 done, 1 failed",
    ]


@pytest.mark.parametrize("width", [40, 80, 90])
def test_every_column_that_a_narrow_terminal_leaves_out_is_named(width: int) -> None:
    """A table in which all columns have something to say, as of zeros, NaN and infinities."""
    values = torch.tensor([0.0, 1.0, float("nan"), float("inf")])
    save_file({"model.layers.0.post_attention_layernorm.weight": values}, "all.safetensors")
    _, wide = _in_terminal("stats", "all.safetensors", width=200)
    _, narrow = _in_terminal("stats", "all.safetensors", width=width)

    (columns,) = (line.split() for line in _plain(wide) if line.startswith("key "))
    said = re.findall(r"[\w.]+", " ".join(_plain(narrow)))
    assert {"elements", "NaN", "Inf"} <= set(columns)
    assert [name for name in columns if name not in said] == []


def test_colour_obeys_no_color(checkpoint: Path) -> None:
    _, coloured = _in_terminal("nothing.safetensors", "-r", "*=zeros")
    _, plain = _in_terminal("nothing.safetensors", "-r", "*=zeros", NO_COLOR="1")
    _, table = _in_terminal("keys", "model.safetensors", NO_COLOR="1")

    assert "\x1b[31m" in coloured
    assert "\x1b" not in plain
    assert not re.search(r"\x1b\[3[0-9]", table)


def test_a_checkpoint_is_not_written_to_a_terminal(checkpoint: Path) -> None:
    code, seen = _in_terminal("model.safetensors", "-r", "a.*=zeros", "-o", "-")

    assert code == 2
    assert _plain(seen)[0] == (
        "error: refusing to write a checkpoint to a terminal; redirect it or name a file with -o"
    )


@pytest.mark.parametrize(
    "pattern", ["re:(a|aa)+$", "re:(a+)+$", "*{a,aa}" * 13 + "c", "re:(.*a){12}.*c"]
)
def test_a_hostile_pattern_of_a_recipe_or_an_option_ends_in_one_error(pattern: str) -> None:
    save_file({"a" * 60 + "b": torch.zeros(2)}, "m.safetensors")
    recipe = f'[[rule]]\nmatch = "{pattern}"\ninit = "zeros"\n'

    for words, text in ((("-c", "-"), recipe), (("-r", f"{pattern}=zeros"), "")):
        done = subprocess.run(
            [*REINIT, "m.safetensors", *words, "-n"],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2
        assert re.match(
            "error: [^\n]* matches no key of m.safetensors\n(hint: .*\n)?$", done.stderr
        )
    assert os.listdir() == ["m.safetensors"]


def test_a_reader_who_has_enough_is_no_error(checkpoint: Path) -> None:
    save_file({"a": torch.zeros(4_000_000)}, "large.safetensors")
    with subprocess.Popen(
        [*REINIT, "large.safetensors", "-r", "a=zeros", "-o", "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()

        assert process.wait(60) == 128 + signal.SIGPIPE
        assert process.stderr.read() == b""


def test_keys_into_a_closed_pipe_are_silent(checkpoint: Path) -> None:
    header = {f"key.{at:06}": torch.zeros(0) for at in range(30_000)}
    save_file(header, "many.safetensors")

    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{' '.join(REINIT)} keys many.safetensors | head -n 1"],
        check=False,
        capture_output=True,
        timeout=60,
    )

    assert (done.stdout, done.stderr) == (b"key.000000\n", b"")


SLOW_INITIALIZER = """
import time
from reinit_cli import register
from reinit_cli.__main__ import entry
from reinit_cli.initializers import Constant

class Slow(Constant):
    def fill(self, values, chance):
        print("drawing", flush=True)
        time.sleep(0.2)

@register(law="slow", example="slow")
def slow(shape):
    return Slow(0.0)

entry()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("temporary", ["unnamed", "named"])
def test_an_interrupted_run_leaves_nothing_behind(
    number: signal.Signals, code: int, temporary: str
) -> None:
    save_file({f"{at}": torch.zeros(5) for at in range(600)}, "many.safetensors")
    Path("old.safetensors").write_text("precious")
    without = "import os; del os.O_TMPFILE\n" if temporary == "named" else ""
    with subprocess.Popen(
        [
            *(sys.executable, "-c", without + SLOW_INITIALIZER, "many.safetensors"),
            *("-r", "*=slow", "-f", "-o", "old.safetensors"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert (len(os.listdir()) == 3) == (temporary == "named")
        process.send_signal(number)
        _, err = process.communicate(timeout=60)

    assert process.returncode == code
    assert err == (b"error: interrupted\n" if number == signal.SIGINT else b"")
    assert sorted(os.listdir()) == ["many.safetensors", "old.safetensors"]
    assert Path("old.safetensors").read_text() == "precious"


# What gets Ctrl-C as a function returns.
INTERRUPTED = """
import os, signal, sys
from reinit_cli.__main__ import entry

name = sys.argv.pop(1)

def interrupt(frame, event, _):
    if event == "return" and frame.f_code.co_qualname == name:
        sys.setprofile(None)
        os.kill(os.getpid(), signal.SIGINT)

sys.setprofile(interrupt)
entry()
"""


def _interrupted(*args: str) -> list[str]:
    """Return the lines on stderr of a command that gets Ctrl-C as a function returns."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *args],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 130
    return done.stderr.splitlines()


@pytest.mark.parametrize(
    "function",
    [
        *("WholeFile.appear", "sync_folders_of", "LocalOutput.__exit__", "Report.keep"),
        *("execute", "_executed", "Report.take", "Report._show"),
    ],
)
def test_an_interrupted_run_says_that_its_output_was_written_if_it_was(
    checkpoint: Path, function: str
) -> None:
    rules = ("-r", "a.weight=zeros", "-o", "new.safetensors")

    said = _interrupted(function, str(checkpoint), *rules)

    assert said[-1] == "error: interrupted; 'new.safetensors' was written"
    assert not load_file("new.safetensors")["a.weight"].any()


def test_an_interrupted_run_names_its_record_its_report_and_a_folder(checkpoint: Path) -> None:
    Path("model").mkdir()
    checkpoint.rename("model/model.safetensors")
    options = ("-r", "a.weight=zeros", "-o", "new", "--report", "page.html")

    said = _interrupted("LocalOutput._name_folder", "./model", *options, "--record-to", "made.json")

    written = "'made.json', 'page.html' and 'new' were written"
    assert said == [f"error: interrupted; {written}"]
    assert {"made.json", "page.html", "new"} <= set(os.listdir())


def test_an_interrupted_run_that_had_no_output_yet_says_no_more(checkpoint: Path) -> None:
    rules = ("-r", "a.weight=zeros", "-o", "new.safetensors")

    assert _interrupted("WholeFile.stage", str(checkpoint), *rules) == ["error: interrupted"]
    assert not os.path.exists("new.safetensors")


def test_an_interrupted_batch_counts_what_is_done_and_names_what_it_had_not_counted(
    checkpoint: Path,
) -> None:
    rules = ("-r", "a.weight=zeros", "-s", "0..2", "-o", "{seed}.safetensors")

    said = _interrupted("LocalOutput.commit", str(checkpoint), *rules)

    assert said == ["0 of 3 done", "error: interrupted; '0.safetensors' was written"]
    assert sorted(os.listdir()) == ["0.safetensors", "model.safetensors"]


@pytest.mark.parametrize("function", ["execute", "_executed", "Report.keep"])
def test_an_interrupted_batch_counts_what_was_written_before_it_was_told(
    checkpoint: Path, function: str
) -> None:
    rules = ("-r", "a.weight=zeros", "-s", "0..2", "-o", "{seed}.safetensors")

    said = _interrupted(function, str(checkpoint), *rules)

    assert said[0] == "1 of 3 done"
    assert said[-1].startswith("error: interrupted")
    assert sorted(os.listdir()) == ["0.safetensors", "model.safetensors"]


@pytest.mark.parametrize("function", ["Report.keep", "Report.take"])
def test_an_interrupted_batch_of_jobs_counts_each_output_once(
    checkpoint: Path, function: str
) -> None:
    rules = ("-r", "a.weight=zeros", "-s", "0..2", "-o", "{seed}.safetensors", "-j", "2")

    said = _interrupted(function, str(checkpoint), *rules)

    written = len(list(Path().glob("[0-9].safetensors")))
    assert (said[0], said[-1]) == (f"{written} of 3 done", "error: interrupted")


def test_an_interrupted_report_of_values_that_was_written_is_named(checkpoint: Path) -> None:
    said = _interrupted("WholeFile.appear", "stats", str(checkpoint), "--report", "page.html")

    assert said[-1] == "error: interrupted; 'page.html' was written"
    assert os.path.exists("page.html")


def test_another_process_with_other_threads_and_hashes_writes_the_same_bytes(
    checkpoint: Path,
) -> None:
    written = set()
    for at, environment in enumerate(
        ({"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2", "OMP_NUM_THREADS": "1"})
    ):
        subprocess.run(
            [
                *(*REINIT, "model.safetensors", "-o", f"{at}.safetensors", "-q"),
                *("-r", "a.*=orthogonal", "-r", "*.bias=normal:std=1"),
            ],
            check=True,
            env=os.environ | environment,
            timeout=60,
        )
        written.add(Path(f"{at}.safetensors").read_bytes())

    assert len(written) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [["stats", "large.safetensors"], ["diff", "large.safetensors", "other.safetensors"]]
)
@pytest.mark.parametrize("seconds", [0.3, 0.7, 1.5, 2.5])
def test_a_long_look_stops_within_a_moment(command: list[str], seconds: float) -> None:
    """Before, within and behind the import of torch; of one tensor that takes many seconds."""
    nbytes = 40 * 2**30  # of a sparse file, which takes no room
    header = f'{{"w":{{"dtype":"BF16","shape":[{nbytes // 2}],"data_offsets":[0,{nbytes}]}}}}'
    for name in ("large", "other"):
        with open(f"{name}.safetensors", "wb") as file:
            file.write(len(header).to_bytes(8, "little") + header.encode())
            file.truncate(8 + len(header) + nbytes)
    with subprocess.Popen(
        [*REINIT, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            time.sleep(seconds)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=5)
        finally:
            process.kill()

    assert (process.returncode, out, err) == (130, b"", b"error: interrupted\n")
