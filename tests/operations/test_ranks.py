"""Several processes write one output: the same bytes as one, and one commit.

Most tests have a thread for each rank, since they share nothing but files anyway.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file

from reinit_cli import rewrite
from reinit_cli.errors import OutputError, ReinitError
from reinit_cli.execution.fill import Fill
from reinit_cli.initializers import Array, Chance
from reinit_cli.initializers.law import Normal
from reinit_cli.operations.prepare import prepare
from reinit_cli.operations.rewrite import Outcome, execute, telling_ranks
from reinit_cli.request.output_name import OutputName
from reinit_cli.request.ranks import ranks_asked
from reinit_cli.request.request import Request
from reinit_cli.storage.reader import Modes
from reinit_cli.storage.staging import staging
from reinit_cli.storage.staging.ranks import Ranks
from reinit_cli.storage.staging.staging import Staging

REINIT = (sys.executable, "-m", "reinit_cli")
RULES = ("*.weight=normal:std=0.02",)

STATE = {f"{at}.weight": torch.full((60 + at, 50), float(at)) for at in range(6)} | {
    "bias": torch.arange(1000.0)
}


def ranked(source: str, output: str, count: int, **options: Any) -> list[Request]:
    """Return the request of each rank."""
    whole = Request(
        source, RULES, output, world_size=count, run_id="test", **{"timeout": 20.0, **options}
    )
    return [replace(whole, rank=rank) for rank in range(count)]


def together(requests: Sequence[Request]) -> list[Outcome | ReinitError]:
    """Run requests side by side, and return what becomes of each."""

    def run(request: Request) -> Outcome | ReinitError:
        try:
            with telling_ranks([request]):
                job = prepare(request)
            return execute(job)
        except ReinitError as error:
            return error

    with ThreadPoolExecutor(len(requests)) as threads:
        return list(threads.map(run, requests))


def said(results: Sequence[Outcome | ReinitError]) -> list[str]:
    """Return what each error says; "" for none."""
    return [str(each) if isinstance(each, ReinitError) else "" for each in results]


def written(path: str) -> dict[str, bytes]:
    """Return every file at or below a path, hidden ones too."""
    files = [each for each in sorted(Path(path).rglob("*")) if each.is_file()]
    return {str(each.relative_to(path)): each.read_bytes() for each in files}


@pytest.fixture(autouse=True)
def source() -> None:
    save_file(STATE, "m.safetensors")
    Path("one").mkdir()
    Path("many").mkdir()


def _save_zip() -> str:
    torch.save({"state_dict": STATE, "epoch": 3}, "m.pt")
    return "m.pt"


def _save_legacy() -> str:
    torch.save(STATE, "m.pth", _use_new_zipfile_serialization=False)
    return "m.pth"


def _save_strided() -> str:
    torch.save({key: value.t() for key, value in STATE.items() if value.ndim == 2}, "t.pt")
    return "t.pt"


def _save_shards() -> str:
    execute(prepare(Request("m.safetensors", (), "shards", shard_nbytes=2000)))
    return "shards"


def _save_dcp() -> str:
    dcp.save({"model": STATE}, checkpoint_id="dcp", no_dist=True)
    return "dcp"


SOURCES: Mapping[str, Callable[[], str]] = {
    "safetensors": lambda: "m.safetensors",
    "zip": _save_zip,
    "legacy": _save_legacy,
    "strided": _save_strided,
    "folder": _save_shards,
    "dcp": _save_dcp,
}


@pytest.mark.parametrize("count", [2, 3, 8])
@pytest.mark.parametrize("form", SOURCES)
def test_ranks_write_the_bytes_that_one_process_writes(form: str, count: int) -> None:
    path = SOURCES[form]()
    name = f"x-{path}"
    record = form != "legacy"  # which has no place for one
    execute(prepare(Request(path, RULES, f"one/{name}", record=record)))
    assert said(together(ranked(path, f"many/{name}", count, record=record))) == [""] * count
    assert written("many") == written("one")


@pytest.mark.parametrize(
    ("output", "options"),
    [
        ("x.pt", {}),
        ("x", {"shard_nbytes": 3000}),
        ("x.safetensors", {"dtype": "bfloat16"}),
        ("x.safetensors", {"stream": "torch-1"}),
    ],
)
def test_ranks_convert_to_the_bytes_of_one_process(output: str, options: dict[str, Any]) -> None:
    execute(prepare(Request("m.safetensors", RULES, f"one/{output}", **options)))
    assert said(together(ranked("m.safetensors", f"many/{output}", 2, **options))) == ["", ""]
    assert written("many") == written("one")


@pytest.mark.parametrize("output", ["x.safetensors", "x.pt", "x"])
def test_a_record_is_that_of_one_process_where_ranks_draw_rows_of_a_tensor(output: str) -> None:
    save_file({"0.weight": torch.zeros(3000, 300), "1.weight": torch.ones(9, 9)}, "m.safetensors")
    more: dict[str, Any] = {"record": True}
    more |= {} if "." in output else {"shard_nbytes": 2**20}
    execute(prepare(Request("m.safetensors", RULES, f"one/{output}", **more)))
    assert said(together(ranked("m.safetensors", f"many/{output}", 2, **more))) == ["", ""]
    assert written("many") == written("one")


def test_rank_0_reports_what_all_ranks_drew() -> None:
    options: dict[str, Any] = {"check": True, "measure_before": True, "sketch": True}
    whole = execute(prepare(Request("m.safetensors", RULES, "one/x.safetensors", **options)))
    first, *_ = together(ranked("m.safetensors", "many/x.safetensors", 3, **options))
    assert isinstance(first, Outcome)
    assert len(whole.filled) == 6
    assert list(first.filled.items()) == list(whole.filled.items())
    assert first.findings == whole.findings
    assert first.sketches == whole.sketches


@pytest.mark.slow
def test_a_record_and_a_report_beside_the_output_are_those_of_one_process() -> None:
    def write(folder: str, *more: str) -> subprocess.Popen[bytes]:
        files = (f"{folder}/x.safetensors", "--record-to", f"{folder}/r.json")
        page = ("--report", f"{folder}/r.html")
        return subprocess.Popen(
            (*REINIT, "m.safetensors", "-r", *RULES, "-o", *files, *page, *more)
        )

    told = ("--world-size", "2", "--run-id", "a")
    ranks = [write("many", *told, "--rank", rank) for rank in "01"]
    assert [each.wait(60) for each in (*ranks, write("one"))] == [0, 0, 0]
    assert written("many") == written("one")


@pytest.mark.slow
def test_other_ranks_than_0_print_nothing() -> None:
    told = ("--world-size", "2", "--run-id", "a")
    args = (*REINIT, "m.safetensors", "-r", *RULES, "-o", "many/x.safetensors", *told)
    pipe = subprocess.PIPE
    first, second = (
        subprocess.Popen((*args, "--rank", rank), stdout=pipe, stderr=pipe) for rank in "01"
    )
    assert second.communicate(timeout=60) == (b"", b"")
    shown, _ = first.communicate(timeout=60)
    assert b"*.weight" in shown
    assert (first.returncode, second.returncode) == (0, 0)


# --- who is told what ----------------------------------------------------------------------------


def test_torchrun_tells_a_process_its_rank_and_a_bare_rank_tells_nothing() -> None:
    pod = {"RANK": "1", "WORLD_SIZE": "4"}
    torchrun = {**pod, "TORCHELASTIC_RUN_ID": "none"}
    told = {"rank": 1, "world_size": 4, "run_id": "none"}
    assert ranks_asked({}, pod) == {}
    assert ranks_asked({"rank": None}, torchrun) == told
    assert ranks_asked({"world_size": 1}, torchrun) == {}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"rank": 1}, "--rank cannot be used without --world-size and --run-id"),
        ({"run_id": "a"}, "--run-id cannot be used without --rank and --world-size"),
        (
            {"rank": 4, "world_size": 4, "run_id": "a"},
            "there is no rank 4 in a world of 4, which has ranks 0 to 3",
        ),
        (
            {"rank": 0, "world_size": 10**8, "run_id": "a"},
            "a world has 1 to 65,536 ranks, not 100,000,000",
        ),
        ({"rank": 0, "world_size": 2, "run_id": ""}, "--run-id is empty"),
        ({"resume": True}, "--resume is for an output that several ranks write"),
        (
            {"rank": 0, "world_size": 2, "run_id": "a", "timeout": 0.0},
            "a timeout is longer than 0 s",
        ),
        (
            {"rank": 0, "world_size": 2, "run_id": "a", "output": "-"},
            "several ranks cannot write to standard output",
        ),
        (
            {"rank": 0, "world_size": 2, "run_id": "a", "source": "-"},
            "several ranks cannot read standard input",
        ),
        (
            {"rank": 0, "world_size": 2, "run_id": "a", "output": None, "in_place": True},
            "several ranks cannot replace their source (--in-place)",
        ),
        (
            {"rank": 0, "world_size": 2, "run_id": "a", "output": "memory://x.pt"},
            "several ranks write to a file system that they share, not to 'memory://x.pt'",
        ),
        (
            {
                "rank": 0,
                "world_size": 2,
                "run_id": "a",
                "output": OutputName.parse("memory://{stem}.pt"),
            },
            "several ranks write to a file system that they share, not to 'memory://m.pt'",
        ),
    ],
)
def test_what_ranks_cannot_do_is_one_line(options: dict[str, Any], problem: str) -> None:
    request = Request("m.safetensors", RULES, "many/x.safetensors")
    with pytest.raises(OutputError) as caught:
        prepare(replace(request, **options))
    assert str(caught.value) == problem
    assert written("many") == {}


# --- ranks that do not fit -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"seed": 1}, "its seed is 1, not 0"),
        ({"rules": ("0.weight=zeros",)}, "its list of rules is 0.weight=zeros, not *"),
        ({"world_size": 3}, "its world size is 3, not 2"),
    ],
)
def test_a_rank_with_another_plan_ends_all(change: dict[str, Any], differs: str) -> None:
    first, second = ranked("m.safetensors", "many/x.safetensors", 2)
    results = said(together([first, replace(second, **change)]))
    assert results[0] == results[1]
    assert results[0].startswith(f"rank 1 has another plan than rank 0: {differs}")
    assert os.listdir("many") == []


def test_a_rank_that_reads_another_file_ends_all() -> None:
    Path("copy").mkdir()
    save_file(STATE, "copy/m.safetensors")
    os.utime("copy/m.safetensors", (0, 0))
    first, second = ranked("m.safetensors", "many/x.safetensors", 2)
    results = said(together([first, replace(second, source="copy/m.safetensors")]))
    assert results == ["rank 1 has another plan than rank 0: its source files differ"] * 2


def test_a_rank_that_reads_another_object_of_a_store_ends_all() -> None:
    store = fsspec.filesystem("memory")
    for name in ("one", "two"):
        store.pipe(f"/{name}/m.safetensors", Path("m.safetensors").read_bytes())
    first, second = ranked("memory://one/m.safetensors", "many/x.safetensors", 2)
    assert said(together([first, second])) == ["", ""]
    os.unlink("many/x.safetensors")
    results = said(together([first, replace(second, source="memory://two/m.safetensors")]))
    assert results == ["rank 1 has another plan than rank 0: its source files differ"] * 2


def test_a_rank_that_fails_ends_all_and_leaves_nothing() -> None:
    first, second = ranked("m.safetensors", "many/x.safetensors", 2)
    results = said(together([first, replace(second, source="missing.safetensors")]))
    assert results == [
        "rank 1 failed: no such file: 'missing.safetensors'",
        "no such file: 'missing.safetensors'",
    ]
    assert os.listdir("many") == []


@pytest.mark.parametrize("left", [False, True])
def test_a_rank_0_that_fails_before_it_has_met_others_ends_all(left: bool) -> None:
    """It makes no place where all meet, and what a run before it left stays for the next."""
    first, second, third = ranked("m.safetensors", "many/x.safetensors", 3, resume=True)
    if left:
        with pytest.raises(OutputError, match="did not come"):
            execute(prepare(replace(first, timeout=0.3)))
    before = os.listdir("many")

    results = said(together([replace(first, source="missing.safetensors"), second, third]))

    problem = "no such file: 'missing.safetensors'"
    assert results == [problem, *[f"rank 0 failed: {problem}"] * 2]
    assert os.listdir("many") == before
    assert said(together([first, second, third])) == [""] * 3
    assert os.listdir("many") == ["x.safetensors"]


def test_a_disk_too_full_to_begin_is_what_every_rank_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, nbytes: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(staging, "reserve_space", refuse)

    results = said(together(ranked("m.safetensors", "many/x.safetensors", 3)))

    problem = "cannot write 'many/x.safetensors': no space left on device"
    assert results == [problem, *[f"rank 0 failed: {problem}"] * 2]
    assert os.listdir("many") == []


def test_a_rank_that_comes_when_rank_0_has_failed_hears_why() -> None:
    def refuse(nbytes: int) -> None:
        if threading.current_thread().name != "reinit-watch":  # which tells what others wrote
            raise OutputError("", "the disk is gone")

    first, second = ranked("m.safetensors", "many/x.safetensors", 2)
    with ThreadPoolExecutor(2) as threads:
        failing = threads.submit(execute, prepare(first), refuse)
        time.sleep(0.5)
        assert said(together([second])) == ["rank 0 failed: the disk is gone"]
        assert str(failing.exception()) == "the disk is gone"
    assert os.listdir("many") == []


def test_a_rank_that_alone_may_not_replace_ends_all() -> None:
    Path("many/x.safetensors").write_text("old")
    for at in range(2):
        requests = ranked("m.safetensors", "many/x.safetensors", 2, force=True)
        requests[at] = replace(requests[at], force=False)
        results = said(together(requests))
        assert results[at] == "'many/x.safetensors' already exists"
        assert results[1 - at] == f"rank {at} failed: 'many/x.safetensors' already exists"
        assert os.listdir("many") == ["x.safetensors"]


def test_a_second_rank_0_that_fails_leaves_the_run_of_the_first_alone() -> None:
    first, second = ranked("m.safetensors", "many/x.safetensors", 2)
    with ThreadPoolExecutor(3) as threads:
        running = threads.submit(together, [first])
        while not os.listdir("many"):
            time.sleep(0.005)
        wrong = threads.submit(together, [replace(first, source="missing.safetensors")])
        assert said(wrong.result()) == ["no such file: 'missing.safetensors'"]
        assert said(together([second])) == [""]
        assert said(running.result()) == [""]


def test_a_temporary_that_somebody_removes_is_not_said_to_be_left() -> None:
    first, _ = ranked("m.safetensors", "many/x.safetensors", 2)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(together, [first])
        # Rank 0 gives its first sign of life when all of it is made.
        while not list(Path("many").glob(".x.safetensors.reinit-*/beat-0")):
            time.sleep(0.005)
        (left,) = os.listdir("many")
        os.rename(f"many/{left}", "elsewhere")  # to remove it takes longer than a sign of life
        assert said(running.result()) == [f"'many/{left}' was removed"]
    assert os.listdir("many") == []


@pytest.mark.slow
def test_a_rank_of_another_world_ends_all() -> None:
    first, *_ = ranked("m.safetensors", "many/x.safetensors", 2)
    *_, third = ranked("m.safetensors", "many/x.safetensors", 3)
    problem = "rank 2 has another plan than rank 0: its world size is 3, not 2"
    assert said(together([first, third])) == [problem] * 2


def test_a_failure_that_a_killed_rank_0_was_telling_is_of_its_own_run() -> None:
    requests = ranked("m.safetensors", "many/x.safetensors", 2)
    told = Staging("many/x.safetensors", Ranks(0, 2, "test", 20.0), "refusal")
    told.make({}, {}, Modes())
    told.close()
    Path(told.text("failed", 0)).write_text('{"version": 1, "error": "old", "kind": "ranks"}')
    Path(told.text("beat", 0)).write_text(f"{1:20} {0:20}\n")
    assert said(together(requests)) == ["", ""]
    assert os.listdir("many") == ["x.safetensors"]


def test_a_rank_that_does_not_come_is_named_and_so_is_what_is_left() -> None:
    first, second = ranked("m.safetensors", "many/x.safetensors", 2, timeout=0.3)
    (error,) = said(together([first]))
    (left,) = os.listdir("many")
    assert error == f"rank 1 did not come within 0.3 s; 'many/{left}' is left"
    assert left.startswith(".x.safetensors.reinit-")
    # That is stale: rank 0 gives no sign of life in it.
    assert said(together([second])) == ["rank 0 did not come within 0.3 s"]
    assert said(together([replace(first, timeout=20.0), replace(second, timeout=20.0)])) == ["", ""]
    assert os.listdir("many") == ["x.safetensors"]


def test_draws_of_any_rank_that_fail_their_test_keep_the_output_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fill(self: Normal, values: Array, chance: Chance) -> None:
        chance.normal(values, self.mean, 1.25 * self.std)

    monkeypatch.setattr(Normal, "fill", fill)
    options: dict[str, Any] = {"check": True}
    results = together(ranked("m.safetensors", "many/x.safetensors", 2, **options))
    assert isinstance(results[0], Outcome)
    assert len(results[0].failures) > 0
    assert said(results)[1].startswith("rank 0 failed: '")
    assert os.listdir("many") == []


def _interrupt(nbytes: int) -> None:
    del nbytes
    raise KeyboardInterrupt


def test_a_rank_that_is_interrupted_ends_all_and_what_others_did_is_kept() -> None:
    first, second = ranked("m.safetensors", "many/x.safetensors", 2)
    with ThreadPoolExecutor(2) as threads:
        running = threads.submit(together, [first])
        interrupted = threads.submit(execute, prepare(second), _interrupt)
        with pytest.raises(KeyboardInterrupt):
            interrupted.result()
        (error,) = said(running.result())
    (left,) = os.listdir("many")
    assert error == f"rank 1 was interrupted; 'many/{left}' is left"
    assert said(together([replace(each, resume=True) for each in (first, second)])) == ["", ""]
    assert os.listdir("many") == ["x.safetensors"]


def test_ranks_write_a_state_dict_that_each_has_in_memory() -> None:
    whole = rewrite(STATE, "*.weight=normal", "one/x.safetensors")

    def run(rank: int) -> Outcome:
        return rewrite(
            STATE, "*.weight=normal", "many/x.safetensors", rank=rank, world_size=2, run_id="a"
        )

    with ThreadPoolExecutor(2) as threads:
        first, _ = threads.map(run, (0, 1))
    assert first.filled == whole.filled
    assert written("many") == written("one")


# --- going on ------------------------------------------------------------------------------------


@pytest.fixture
def interrupted() -> str:
    """Let rank 0 write its part, and wait in vain for rank 1."""
    first, _ = ranked("m.safetensors", "many/x.safetensors", 2, timeout=0.3)
    together([first])
    execute(prepare(Request("m.safetensors", RULES, "one/x.safetensors")))
    return f"many/{os.listdir('many')[0]}"


def _drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of what is written by draws from now on."""
    from reinit_cli.execution import produce

    keys: list[str] = []
    draw = produce.draw_fill

    def note(fill: Fill, *args: Any) -> Any:
        keys.append(fill.step.key)
        return draw(fill, *args)

    monkeypatch.setattr(produce, "draw_fill", note)
    return keys


@pytest.mark.usefixtures("interrupted")
def test_a_run_goes_on_from_notes_that_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = _drawn(monkeypatch)
    requests = ranked("m.safetensors", "many/x.safetensors", 2, resume=True)
    assert said(together(requests)) == ["", ""]
    assert 0 < len(drawn) < 6
    assert written("many") == written("one")


def test_what_no_longer_has_its_digest_is_written_again(
    interrupted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = Path(interrupted, "file")
    staged.write_bytes(bytes(staged.stat().st_size))
    drawn = _drawn(monkeypatch)
    requests = ranked("m.safetensors", "many/x.safetensors", 2, resume=True)
    assert said(together(requests)) == ["", ""]
    assert len(drawn) == 6
    assert written("many") == written("one")


@pytest.mark.parametrize("spoil", ["source", "note", "owner"])
def test_a_note_of_something_else_does_not_count(
    spoil: str, interrupted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = Path(interrupted, "note-0")
    if spoil == "source":
        save_file({key: value + 1 for key, value in STATE.items()}, "m.safetensors")
        execute(prepare(Request("m.safetensors", RULES, "one/x.safetensors", force=True)))
    elif spoil == "note":
        note.write_text(note.read_text()[:-9])
    else:
        note.rename(note.with_name("note-1"))
    drawn = _drawn(monkeypatch)
    requests = ranked("m.safetensors", "many/x.safetensors", 2, resume=True)
    assert said(together(requests)) == ["", ""]
    assert len(drawn) == 6
    assert written("many") == written("one")


def test_without_resume_a_run_begins_from_nothing(
    interrupted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del interrupted
    drawn = _drawn(monkeypatch)
    assert said(together(ranked("m.safetensors", "many/x.safetensors", 2))) == ["", ""]
    assert len(drawn) == 6
    assert written("many") == written("one")


def test_a_second_run_with_the_same_name_is_refused() -> None:
    first, _ = ranked("m.safetensors", "many/x.safetensors", 2, timeout=0.8)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(together, [first])
        while not list(Path("many").glob("*/beat-0")):
            time.sleep(0.005)
        (refused,) = said(together([first]))
        running.result()
    assert refused == "another rank 0 of the run 'test' is writing 'many/x.safetensors'"


@pytest.mark.parametrize("age", [3600, 100_000])
def test_what_ranks_left_is_removed_by_others_after_a_day(interrupted: str, age: int) -> None:
    then = time.time() - age
    for text in Path(interrupted).iterdir():
        os.utime(text, (then, then))
    execute(prepare(Request("m.safetensors", RULES, "many/x.safetensors")))
    left = [] if age > 86_400 else [os.path.basename(interrupted)]
    assert sorted(os.listdir("many")) == sorted(["x.safetensors", *left])


def test_what_a_killed_rank_0_had_begun_to_make_is_removed(
    interrupted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed before the temporary had its name."""
    requests = ranked("m.safetensors", "many/x.safetensors", 2)
    drafts: list[str] = []
    rename = os.rename

    def keep(old: str, new: str) -> None:
        if new == interrupted:
            drafts.append(old)
            shutil.copytree(old, "kept")
        rename(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", keep)
        assert said(together(requests)) == ["", ""]
    os.unlink("many/x.safetensors")
    os.rename("kept", drafts[0])
    assert said(together(requests)) == ["", ""]
    assert written("many") == written("one")


@pytest.mark.parametrize("output", ["x.safetensors", "x"])
def test_an_output_of_ranks_has_the_permissions_of_one_process(output: str) -> None:
    more: dict[str, Any] = {} if "." in output else {"shard_nbytes": 3000}
    execute(prepare(Request("m.safetensors", RULES, f"one/{output}", **more)))
    assert said(together(ranked("m.safetensors", f"many/{output}", 2, **more))) == ["", ""]
    modes = [
        {str(each.relative_to(folder)): each.stat().st_mode for each in Path(folder).rglob("*")}
        for folder in ("one", "many")
    ]
    assert modes[0] == modes[1]


def test_an_output_is_replaced_only_when_all_parts_are_there() -> None:
    Path("many/x.safetensors").write_bytes(b"old")
    requests = ranked("m.safetensors", "many/x.safetensors", 2, force=True, timeout=0.3)
    together(requests[:1])
    assert Path("many/x.safetensors").read_bytes() == b"old"
    again = [replace(each, timeout=20.0) for each in requests]
    assert said(together(again)) == ["", ""]
    execute(prepare(Request("m.safetensors", RULES, "one/x.safetensors")))
    assert written("many") == written("one")
