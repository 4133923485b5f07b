"""Outputs at URLs: the bytes of the local output, all of them or none."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load, save_file

from reinit_cli import rewrite, verify
from reinit_cli.errors import (
    CheckFailedError,
    OutputExistsError,
    OutputTakenError,
    OutputUnwritableError,
    ReinitError,
)
from tests.servers.s3 import CUT, CUT_AFTERWARDS, DENIED, Asked, Fault

if TYPE_CHECKING:
    from tests.servers.s3 import Bucket

RULES = {"*.weight": "normal:std=0.02"}


def _state(nbytes: int = 9 * 2**20) -> dict[str, torch.Tensor]:
    """Return a state dict that takes several parts, most of which are copied."""
    return {
        "head.weight": torch.ones(64, 32),
        "head.bias": torch.arange(32.0),
        "table": torch.arange(nbytes // 4, dtype=torch.float32),
        "tail.weight": torch.ones(1000, 300),
        "strided.weight": torch.ones(40, 30).t(),
        "scalar": torch.tensor(3),
    }


def _safetensors(path: str) -> None:
    save_file({key: each.contiguous() for key, each in _state().items()}, path)


def _legacy(path: str) -> None:
    torch.save(_state(), path, _use_new_zipfile_serialization=False)


def _folder(path: str) -> None:
    _safetensors("whole.safetensors")
    rewrite("whole.safetensors", (), path, shard_nbytes=5 * 2**20)
    Path(path, "config.json").write_text('{"a": 1}')
    Path(path, "nothing").touch()


def _dcp(path: str) -> None:
    from torch.distributed.checkpoint import save

    save({key: each for key, each in _state().items() if key != "scalar"}, checkpoint_id=path)


MAKERS: dict[str, Callable[[str], None]] = {
    "m.safetensors": _safetensors,
    "m.pt": lambda path: torch.save({"model": _state(), "epoch": 3}, path),
    "old.pt": _legacy,
    "folder": _folder,
}


def _files(path: str) -> dict[str, bytes]:
    """Return the files at a path, by their path in it."""
    root = Path(path)
    if root.is_file():
        return {"": root.read_bytes()}
    found = (each for each in root.rglob("*") if each.is_file())
    return {str(each.relative_to(root)): each.read_bytes() for each in found}


def _objects(bucket: Bucket, key: str) -> dict[str, bytes]:
    return {
        name.removeprefix(key).lstrip("/"): data
        for name, data in bucket.objects.items()
        if name == key or name.startswith(f"{key}/")
    }


@pytest.fixture
def memory() -> Iterator[dict[str, bytes]]:
    from fsspec import filesystem

    fs = filesystem("memory")
    fs.store.clear()
    yield fs.store
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


# --- the same bytes --------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAKERS)
def test_what_goes_to_s3_is_the_local_output(bucket: Bucket, name: str) -> None:
    MAKERS[name](name)
    rewrite(name, RULES, f"local-{name}")

    rewrite(name, RULES, bucket.url(f"there/{name}"))

    assert _objects(bucket, f"there/{name}") == _files(f"local-{name}")
    assert bucket.uploads == []


def test_a_dcp_folder_goes_to_s3_as_it_would_go_to_the_disk(bucket: Bucket) -> None:
    _dcp("dcp")
    rewrite("dcp", RULES, "local")

    rewrite("dcp", RULES, bucket.url("dcp"))

    assert _objects(bucket, "dcp") == _files("local")


@pytest.mark.parametrize("name", ["m.safetensors", "m.pt"])
@pytest.mark.parametrize("record", [True, False])
def test_what_comes_from_s3_and_goes_to_s3_is_the_local_output(
    bucket: Bucket, name: str, record: bool
) -> None:
    MAKERS[name](name)
    bucket.put(name, Path(name).read_bytes())
    rewrite(bucket.url(name), RULES, f"local-{name}", record=record)

    rewrite(bucket.url(name), RULES, bucket.url(f"new-{name}"), record=record)

    assert _objects(bucket, f"new-{name}") == _files(f"local-{name}")
    assert not record or not verify(bucket.url(f"new-{name}")).findings


@pytest.mark.parametrize("name", ["m.safetensors", "m.pt"])
def test_memory_is_read_and_written_like_the_disk(memory: dict[str, bytes], name: str) -> None:
    MAKERS[name](name)
    rewrite(name, RULES, f"local-{name}")

    rewrite(name, {}, f"memory://{name}")
    rewrite(f"memory://{name}", RULES, f"memory://new/{name}")
    rewrite(f"memory://{name}", RULES, f"back-{name}")

    assert memory[f"/new/{name}"].getvalue() == Path(f"local-{name}").read_bytes()  # type: ignore[attr-defined]
    assert Path(f"back-{name}").read_bytes() == Path(f"local-{name}").read_bytes()


def test_values_that_a_rule_changes_come_from_s3_and_go_there(bucket: Bucket) -> None:
    rules = {"table": "noise:std=0.1", "*.weight": "shuffle"}
    _safetensors("m.safetensors")
    bucket.put("m.safetensors", Path("m.safetensors").read_bytes())
    rewrite("m.safetensors", rules, "local.safetensors")

    rewrite(bucket.url("m.safetensors"), rules, bucket.url("new.safetensors"))
    rewrite(bucket.url("m.safetensors"), rules, "back.safetensors")

    local = Path("local.safetensors").read_bytes()
    assert bucket.objects["new.safetensors"] == local
    assert Path("back.safetensors").read_bytes() == local


@pytest.mark.parametrize("output", ["back.safetensors", "memory://back.safetensors"])
@pytest.mark.usefixtures("memory")
def test_what_is_filled_is_not_fetched(bucket: Bucket, output: str) -> None:
    _safetensors("m.safetensors")
    bucket.put("m.safetensors", Path("m.safetensors").read_bytes())
    bucket.server.asked.clear()

    rewrite(bucket.url("m.safetensors"), {"table": "normal"}, output)

    fetched = sum(asked.nbytes for asked in bucket.server.asked if asked.verb == "get")
    filled = _state()["table"].nbytes
    assert 0 < fetched < Path("m.safetensors").stat().st_size - filled + 2**18


@pytest.mark.parametrize("name", ["m.pt", "dcp"])
@pytest.mark.parametrize(
    ("options", "output"),
    [
        ({"drop": "table"}, "new.pt"),
        ({"drop": "table", "tensors_only": True}, "new.safetensors"),
    ],
    ids=["left out", "converted"],
)
def test_what_is_left_out_is_not_fetched(
    bucket: Bucket, name: str, options: dict[str, Any], output: str
) -> None:
    {**MAKERS, "dcp": _dcp}[name](name)
    for path, data in _files(name).items():
        bucket.put(f"{name}/{path}".rstrip("/"), data)
    rewrite(name, RULES, f"local/{output}", **options)
    bucket.server.asked.clear()

    rewrite(bucket.url(name), RULES, output, **options)

    fetched = sum(asked.nbytes for asked in bucket.server.asked if asked.verb == "get")
    assert 0 < fetched < 5 * 2**20 < _state()["table"].nbytes
    assert Path(output).read_bytes() == Path("local", output).read_bytes()


def test_a_folder_that_ends_in_a_slash_takes_the_file_under_its_name(bucket: Bucket) -> None:
    _safetensors("m.safetensors")

    rewrite("m.safetensors", RULES, bucket.url("dir/"))

    assert list(bucket.objects) == ["dir/m.safetensors"]


def test_a_record_and_its_output_may_lie_on_either_side(bucket: Bucket) -> None:
    _safetensors("m.safetensors")

    rewrite("m.safetensors", RULES, bucket.url("new.safetensors"), record="here.json")
    rewrite("m.safetensors", RULES, "new.safetensors", record=bucket.url("there.json"))

    assert bucket.objects["new.safetensors"] == Path("new.safetensors").read_bytes()
    there, here = bucket.objects["there.json"], Path("here.json").read_bytes()
    assert json.loads(there)["rest"] == json.loads(here)["rest"]


# --- refused beforehand ----------------------------------------------------------------------


def test_an_object_that_exists_is_refused_before_anything_is_read_or_sent(bucket: Bucket) -> None:
    _safetensors("m.safetensors")
    bucket.put("new.safetensors", b"other")
    bucket.server.asked.clear()

    with pytest.raises(OutputExistsError):
        rewrite("m.safetensors", RULES, bucket.url("new.safetensors"), dry_run=True)

    assert set(bucket.server.verbs) == {"head"}
    assert bucket.objects == {"new.safetensors": b"other"}


def test_force_replaces_an_object(bucket: Bucket) -> None:
    _safetensors("m.safetensors")
    bucket.put("new.safetensors", b"other")

    rewrite("m.safetensors", RULES, bucket.url("new.safetensors"), force=True)

    assert set(load(bucket.objects["new.safetensors"])) == set(_state())


@pytest.mark.parametrize("force", [True, False])
def test_a_folder_of_objects_is_never_replaced(bucket: Bucket, force: bool) -> None:
    _folder("folder")
    bucket.put("new/folder/part", b"other")

    with pytest.raises(OutputUnwritableError, match="it is a folder, which is never replaced"):
        rewrite("folder", RULES, bucket.url("new/"), force=force)

    assert bucket.objects == {"new/folder/part": b"other"}


@pytest.mark.parametrize("other", ["s3://{}/m.safetensors", "s3a://{}/m.safetensors"])
def test_a_source_is_never_its_own_output(bucket: Bucket, other: str) -> None:
    _safetensors("m.safetensors")
    bucket.put("m.safetensors", Path("m.safetensors").read_bytes())

    with pytest.raises(OutputTakenError, match="is the source itself"):
        rewrite(bucket.url("m.safetensors"), RULES, other.format(bucket.name), force=True)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("https://example.org/m.safetensors", "only s3://, gs:// and memory:// are written to"),
        ("ftp://example.org/m.safetensors", "only s3://, gs:// and memory:// are written to"),
        ("zip://m.safetensors", "only s3://, gs:// and memory:// are written to"),
        ("hf://org/model", "each file would be a commit of its own"),
        ("hf://org/model/", "each file would be a commit of its own"),
        ("file:///tmp/m.safetensors", "files on this machine are named by paths"),
        ("s3:///m.safetensors", "it has no name in a bucket"),
    ],
)
def test_a_url_that_is_never_written_is_refused(url: str, problem: str) -> None:
    save_file({"a.weight": torch.ones(3)}, "m.safetensors")

    with pytest.raises(OutputUnwritableError, match=problem):
        rewrite("m.safetensors", RULES, url, dry_run=True)


def test_a_bucket_that_does_not_exist_is_one_line(bucket: Bucket) -> None:
    _safetensors("m.safetensors")

    with pytest.raises(OutputUnwritableError) as caught:
        rewrite("m.safetensors", RULES, "s3://no-such-bucket/new.safetensors")

    assert str(caught.value) == (
        "cannot write 's3://no-such-bucket/new.safetensors': there is no such bucket"
    )


# --- nothing, or everything ------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    from s3fs import S3FileSystem

    monkeypatch.setattr(S3FileSystem, "retries", 2)


def _nth(verb: str, number: int, fault: Fault) -> Callable[[Asked], Fault | None]:
    """Return what lets the nth request of a kind, and those after it, meet a fault."""
    counted = itertools.count()
    return lambda asked: fault if asked.verb == verb and next(counted) >= number else None


@pytest.mark.parametrize(
    "fault",
    [
        DENIED,
        pytest.param(Fault(500, "InternalError"), marks=pytest.mark.slow),
        pytest.param(CUT, marks=pytest.mark.slow),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("verb", "number"),
    [("create", 0), ("create", 2), ("part", 0), ("part", 3), ("complete", 0), ("complete", 3)],
)
@pytest.mark.usefixtures("impatient")
def test_whatever_request_fails_is_one_line_and_leaves_nothing(
    bucket: Bucket, verb: str, number: int, fault: Fault
) -> None:
    _folder("folder")

    with (
        bucket.server.failing(_nth(verb, number, fault)),
        pytest.raises(OutputUnwritableError) as caught,
    ):
        rewrite("folder", RULES, bucket.url("new"))

    assert "\n" not in str(caught.value)
    assert bucket.objects == {}
    assert bucket.uploads == []


@pytest.mark.parametrize("verb", ["create", "part", "complete"])
def test_a_request_whose_answer_is_lost_is_made_again(bucket: Bucket, verb: str) -> None:
    _safetensors("m.safetensors")
    rewrite("m.safetensors", RULES, "local.safetensors")
    left = iter([CUT_AFTERWARDS])

    with bucket.server.failing(lambda asked: next(left, None) if asked.verb == verb else None):
        rewrite("m.safetensors", RULES, bucket.url("new.safetensors"))

    assert bucket.objects == {"new.safetensors": Path("local.safetensors").read_bytes()}


def test_an_object_that_appears_meanwhile_is_kept(bucket: Bucket) -> None:
    """The store refuses the completion, however late the other came."""
    _safetensors("m.safetensors")

    def other_comes(asked: Asked) -> None:
        if asked.verb == "complete":
            bucket.server.choose = None
            bucket.put("new.safetensors", b"other")

    with bucket.server.failing(other_comes), pytest.raises(OutputExistsError):
        rewrite("m.safetensors", RULES, bucket.url("new.safetensors"))

    assert bucket.objects == {"new.safetensors": b"other"}
    assert bucket.uploads == []


def test_the_index_of_a_folder_appears_last(bucket: Bucket) -> None:
    _folder("folder")

    rewrite("folder", RULES, bucket.url("new"))

    completed = [asked.path for asked in bucket.server.asked if asked.verb == "complete"]
    assert completed[-1].endswith("/new/model.safetensors.index.json")
    first = bucket.server.verbs.index("complete")
    assert {"create", "part"}.isdisjoint(bucket.server.verbs[first:])


def test_what_appeared_of_a_folder_is_removed_where_the_rest_is_refused(bucket: Bucket) -> None:
    _folder("folder")

    def refuse_index(asked: Asked) -> Fault | None:
        return DENIED if asked.verb == "complete" and "index" in asked.path else None

    with bucket.server.failing(refuse_index), pytest.raises(OutputUnwritableError):
        rewrite("folder", RULES, bucket.url("new"))

    assert "delete" in bucket.server.verbs
    assert bucket.objects == {}


def test_a_source_that_changes_leaves_nothing(bucket: Bucket) -> None:
    _safetensors("m.safetensors")

    def touch(asked: Asked) -> None:
        if asked.verb == "part":
            Path("m.safetensors").touch()

    with bucket.server.failing(touch), pytest.raises(ReinitError):
        rewrite("m.safetensors", RULES, bucket.url("new.safetensors"))

    assert bucket.objects == {}
    assert bucket.uploads == []


def test_a_check_that_fails_leaves_nothing(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    from reinit_cli.execution import checks

    _safetensors("m.safetensors")
    failed = checks.Finding("mean", 1.0, 0.0, 0.0, passed=False)
    monkeypatch.setattr(checks.Checker, "findings", lambda _: (failed,))

    with pytest.raises(CheckFailedError):
        rewrite("m.safetensors", RULES, bucket.url("new.safetensors"), check=True)

    assert "create" in bucket.server.verbs
    assert bucket.objects == {}
    assert bucket.uploads == []


# --- processes -------------------------------------------------------------------------------


def _start(bucket: Bucket, *args: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "reinit_cli", *args],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _reaches(bucket: Bucket, verb: str, seconds: float = 60) -> bool:
    until = time.monotonic() + seconds
    while verb not in bucket.server.verbs and time.monotonic() < until:
        time.sleep(0.01)
    return verb in bucket.server.verbs


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_process_that_is_ended_leaves_nothing_visible(bucket: Bucket, number: int) -> None:
    _safetensors("m.safetensors")

    def slowly(asked: Asked) -> None:
        if asked.verb == "part":
            time.sleep(0.5)

    with bucket.server.failing(slowly):
        process = _start(
            bucket, "m.safetensors", "-r", "head.*=normal", "-o", bucket.url("new.safetensors")
        )
        assert _reaches(bucket, "part")
        process.send_signal(number)
        _, said = process.communicate(timeout=60)

    assert bucket.objects == {}
    if number == signal.SIGKILL:
        assert bucket.uploads == ["new.safetensors"]
    else:
        assert process.returncode == 128 + number
        assert bucket.uploads == []
        assert b"Traceback" not in said


def test_the_next_run_aborts_what_a_killed_one_left(bucket: Bucket) -> None:
    """Moto says of every upload that it began in 2010."""
    _safetensors("m.safetensors")
    for key in ("new.safetensors", "new.safetensors/part", "new.safetensors2", "other"):
        bucket.fs.call_s3("create_multipart_upload", Bucket=bucket.name, Key=key)

    rewrite("m.safetensors", RULES, bucket.url("new.safetensors"))

    assert sorted(bucket.uploads) == ["new.safetensors2", "other"]


@pytest.mark.usefixtures("impatient")
def test_an_upload_that_somebody_aborted_is_told_from_a_bucket_that_is_missing(
    bucket: Bucket,
) -> None:
    MAKERS["m.safetensors"]("m.safetensors")

    gone = _nth("complete", 0, Fault(404, "NoSuchUpload"))

    with bucket.server.failing(gone), pytest.raises(OutputUnwritableError, match="upload is gone"):
        rewrite("m.safetensors", RULES, bucket.url("new.safetensors"))
