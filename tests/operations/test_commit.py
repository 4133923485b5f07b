"""One commit for all files of a run: the output, its record and its report."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from reinit_cli import errors
from reinit_cli.operations.prepare import prepare
from reinit_cli.operations.rewrite import Outcome, ReportFile, execute
from reinit_cli.request.request import Request
from reinit_cli.storage.destination import Destination
from reinit_cli.storage.local_output import LocalOutput
from reinit_cli.storage.scratch import ScratchFolder
from reinit_cli.threads import ENDING_SIGNALS

STATE = {"a.weight": torch.ones(300, 40), "b.weight": torch.ones(20, 30)}
REINIT = (sys.executable, "-m", "reinit_cli")


@pytest.fixture(params=["file", "folder"])
def source(request: pytest.FixtureRequest) -> str:
    if request.param == "file":
        save_file(STATE, "model")
    else:
        Path("model").mkdir()
        save_file(STATE, "model/model.safetensors")
    return "./model"


def _remove_folder() -> None:
    shutil.rmtree("aside")


def _take_names() -> None:
    for name in ("record.json", "report.html"):
        Path("aside", name).write_text("other")


@pytest.mark.parametrize("meddle", [_remove_folder, _take_names])
@pytest.mark.parametrize("extra", ["record", "report"])
def test_an_output_does_not_appear_without_its_record_and_report(
    source: str, extra: str, meddle: Callable[[], None]
) -> None:
    """The folder is lost, or the name is taken, while tensors are being drawn."""
    Path("aside").mkdir()
    record = "aside/record.json" if extra == "record" else False
    destination = Destination("aside/report.html", kind="report")
    report = ReportFile(destination, lambda _: b"page") if extra == "report" else None
    job = prepare(Request(source, ("a*=zeros",), "out", record=record))
    pending = [meddle]

    def meddle_once(nbytes: int) -> None:
        while pending:
            pending.pop()()

    with pytest.raises(errors.OutputError) as refused:
        execute(job, meddle_once, report=report)

    assert refused.value.kind == (extra if meddle is _take_names else "")

    assert [name for name in sorted(os.listdir()) if name != "aside"] == ["model"]
    assert not Path("aside").exists() or {path.read_text() for path in Path("aside").iterdir()} == {
        "other"
    }


def test_a_report_that_cannot_be_made_leaves_nothing(source: str) -> None:
    def fail(_: Outcome) -> bytes:
        raise errors.PackageError("jinja2")

    job = prepare(Request(source, ("a*=zeros",), "out", record="record.json"))

    with pytest.raises(errors.PackageError):
        execute(job, report=ReportFile(Destination("report.html"), fail))

    assert os.listdir() == ["model"]


def test_output_record_and_report_appear_together(source: str) -> None:
    job = prepare(Request(source, ("a*=zeros",), "out", record="record.json"))
    seen: list[list[str]] = []

    def page(outcome: Outcome) -> bytes:
        seen.append(sorted(os.listdir()))
        return ",".join(outcome.filled).encode()

    execute(job, report=ReportFile(Destination("report.html"), page))

    assert not {"out", "record.json", "report.html"} & set(seen[0])
    assert sorted(os.listdir()) == ["model", "out", "record.json", "report.html"]
    assert Path("report.html").read_text() == "a.weight"
    assert json.loads(Path("record.json").read_text())["filled"][0]["key"] == "a.weight"


# --- files in use ----------------------------------------------------------------------------


@pytest.fixture
def in_use() -> None:
    save_file(STATE, "model.safetensors")
    save_file(STATE, "donor.safetensors")
    Path("recipe.json").write_text('{"rule": [{"match": "a*", "init": "zeros"}]}')
    Path("list").write_text("model.safetensors\n")
    Path("folder").mkdir()
    for number, key in ((1, "a.weight"), (2, "b.weight")):
        save_file({key: STATE[key]}, f"folder/model-{number:05}-of-00002.safetensors")
    weight_map = {
        "a.weight": "model-00001-of-00002.safetensors",
        "b.weight": "model-00002-of-00002.safetensors",
    }
    Path("folder/model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    Path("folder/config.json").write_text("{}")
    os.link("donor.safetensors", "link.safetensors")
    os.link("recipe.json", "recipe.pt")
    os.link("list", "list.pt")


REWIND = ("-r", "a*=rewind:donor.safetensors")
ZEROS = ("-r", "a*=zeros")
TAKEN = {
    "a donor": (
        ("model.safetensors", *REWIND, "-o", "donor.safetensors"),
        "the output 'donor.safetensors' would take the place of a checkpoint that is read",
    ),
    "a donor by another name": (
        ("model.safetensors", *REWIND, "-o", "link.safetensors"),
        "the output 'link.safetensors' would take the place of a checkpoint that is read",
    ),
    "a donor in place": (
        ("donor.safetensors", "-r", "a*=rewind:model.safetensors", "-o", "model.safetensors"),
        "the output 'model.safetensors' would take the place of a checkpoint that is read",
    ),
    "a donor by its record": (
        ("model.safetensors", *REWIND, "-o", "new.pt", "--record=donor.safetensors"),
        "the record 'donor.safetensors' would take the place of a checkpoint",
    ),
    "a shard": (
        ("folder/", *ZEROS, "-o", "new", "--record=folder/model-00001-of-00002.safetensors"),
        "the record 'folder/model-00001-of-00002.safetensors' would take the place of a checkpoint",
    ),
    "another file of a folder": (
        ("folder/", *ZEROS, "-o", "new", "--record=folder/config.json"),
        "the record 'folder/config.json' would take the place of a checkpoint",
    ),
    "a recipe": (
        ("model.safetensors", "-c", "recipe.json", "-o", "new.pt", "--record=recipe.json"),
        "the record 'recipe.json' would take the place of a recipe",
    ),
    "a recipe by the output": (
        ("model.safetensors", "-c", "recipe.json", "-o", "recipe.pt"),
        "the output 'recipe.pt' would take the place of a recipe that is read",
    ),
    "a list": (
        ("--files-from", "list", *ZEROS, "-o", "list.pt"),
        "the output 'list.pt' would take the place of a list that is read",
    ),
}


@pytest.mark.usefixtures("in_use")
@pytest.mark.parametrize(("args", "said"), TAKEN.values(), ids=TAKEN)
def test_a_file_that_is_read_is_never_replaced(args: tuple[str, ...], said: str) -> None:
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}

    done = subprocess.run([*REINIT, *args, "-f"], capture_output=True, text=True, check=False)

    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[0] == f"error: {said}"
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


@pytest.mark.usefixtures("in_use")
@pytest.mark.parametrize(
    ("others", "taken"),
    [
        (("model.safetensors", *REWIND, "-o", "new.pt"), "donor.html"),
        (("model.safetensors", "-c", "recipe.json", "-o", "new.pt"), "recipe.html"),
        (("model.safetensors", *ZEROS, "-o", "new.pt", "--record=new.html"), "new.html"),
    ],
)
def test_a_report_never_replaces_another_file_of_the_run(
    others: tuple[str, ...], taken: str
) -> None:
    for name in ("donor.safetensors", "recipe.json"):
        Path(name).rename(Path(name).with_suffix(".html"))
        others = tuple(part.replace(name, str(Path(name).with_suffix(".html"))) for part in others)
    if taken == "recipe.html":
        others = tuple(part.replace("recipe.html", "recipe.json") for part in others)
        Path("recipe.html").rename("recipe.json")
        os.link("recipe.json", "recipe.html")

    done = subprocess.run(
        [*REINIT, *others, "--report", taken, "-f"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert f"error: the report {taken!r} would take the place of " in done.stderr
    assert not Path("new.pt").exists()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("-o", "own.pt"), "the output 'own.pt' is the source itself"),
        (("--record=own.pt",), "the record 'own.pt' would take the place of a checkpoint"),
    ],
)
def test_the_weights_of_a_model_are_never_replaced(args: tuple[str, ...], said: str) -> None:
    from torchvision.models import squeezenet1_1

    torch.save(squeezenet1_1().state_dict(), "own.pt")
    before = Path("own.pt").read_bytes()

    command = [*REINIT, "squeezenet1_1", "--weights", "own.pt", "-r", "features.0.*=zeros"]
    done = subprocess.run([*command, *args, "-f"], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == f"error: {said}"
    assert (os.listdir(), Path("own.pt").read_bytes()) == (["own.pt"], before)


@pytest.mark.usefixtures("in_use")
def test_the_source_of_a_rewind_may_be_the_file_that_is_replaced_in_place() -> None:
    args = ("model.safetensors", "-r", "a*=rewind:model.safetensors", "--in-place")

    subprocess.run([*REINIT, *args], check=True, capture_output=True)

    assert torch.equal(load_file("model.safetensors")["a.weight"], STATE["a.weight"])


# --- many files ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_folder_of_more_files_than_may_be_open_is_rewritten_and_verified() -> None:
    Path("many").mkdir()
    names = [f"model-{at:05}-of-01100.safetensors" for at in range(1100)]
    for at, name in enumerate(names):
        save_file({f"layer.{at}": torch.full((2, 2), float(at))}, f"many/{name}")
    weight_map = {f"layer.{at}": name for at, name in enumerate(names)}
    Path("many/model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    command = 'ulimit -n 256; "$0" -m reinit_cli "$@"'
    limited = ("sh", "-c", command, sys.executable)

    args = ("./many", "-r", "layer.7=ones", "-o", "new", "--record", "-q")
    subprocess.run([*limited, *args], check=True)
    subprocess.run([*limited, "verify", "new", "--source", "./many"], check=True)

    for at in (0, 7, 1099):
        with safe_open(f"new/{names[at]}", "pt") as file:
            expected = 1.0 if at == 7 else float(at)
            assert torch.equal(file.get_tensor(f"layer.{at}"), torch.full((2, 2), expected))
    assert len(list(Path("new").glob("*.safetensors"))) == 1100


def test_two_runs_to_one_new_folder_leave_the_folder_of_one_of_them() -> None:
    Path("model").mkdir()
    save_file(STATE, "model/model.safetensors")
    runs = [
        subprocess.Popen(
            [*REINIT, "./model", "-r", "a*=zeros", "-o", "new", "-q"],
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]

    said = [run.communicate()[1].splitlines() for run in runs]

    # One that begins when another has ended finds a folder, and writes into it, as `cp -r` would.
    others = os.path.exists("new/model")
    assert [run.returncode for run in runs].count(0) == 1 + others
    refused = {
        error
        for name in ("new", "new/model")
        for error in (
            f"error: {name!r} already exists",
            f"error: cannot write {name!r}: it is a folder, which is never replaced",
        )
    }
    assert {lines[0] for lines in said if lines} <= refused
    assert sorted(os.listdir()) == ["model", "new"]
    assert not load_file("new/model.safetensors")["a.weight"].any()


@pytest.mark.parametrize("moment", range(12))
@pytest.mark.parametrize(
    ("output", "closed"),
    [
        (None, LocalOutput),
        ("new.safetensors", LocalOutput),
        ("folder", LocalOutput),
        ("new.pt", ScratchFolder),
    ],
)
def test_a_signal_as_an_output_is_closed_leaves_nothing_behind(
    output: str | None,
    closed: type[LocalOutput | ScratchFolder],
    moment: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python lets a signal raise as a function begins, those that clean up included."""
    monkeypatch.setenv("TMPDIR", os.getcwd())
    save_file(STATE, "model.safetensors")
    shard_nbytes = 48_000 if output == "folder" else None
    job = prepare(
        Request(
            *("model.safetensors", ("a*=zeros",), output),
            in_place=output is None,
            shard_nbytes=shard_nbytes,
        )
    )
    calls: list[str] = []

    def interrupt(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and (calls or frame.f_code is closed.__exit__.__code__):
            calls.append(frame.f_code.co_name)
            if len(calls) > moment:
                raise SystemExit(129)

    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    handlers = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    sys.setprofile(interrupt)
    try:
        with pytest.raises(SystemExit):
            execute(job)
    finally:
        sys.setprofile(None)
        # What holds signals back was interrupted too, which no signal does; it ends here at last.
        gc.collect()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)

    assert calls
    assert not [name for name in os.listdir() if ".reinit" in name]
