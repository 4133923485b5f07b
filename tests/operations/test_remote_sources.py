"""A source at a URL does what a local copy of it does, with few requests and without secrets."""

from __future__ import annotations

import importlib
import io
import itertools
import json
import mmap
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import safetensors.torch
import torch
from torch.distributed import checkpoint as dcp

import reinit_cli
from reinit_cli import threads
from reinit_cli.checkpoints.find import find_source
from reinit_cli.cli import main
from tests.servers.s3 import Bucket
from tests.servers.web import RangeServer

STATE = {
    f"layers.{at}.{name}": torch.full((64, 32) if name == "weight" else (64,), at + 0.5)
    for at in range(12)
    for name in ("weight", "bias")
}
RULE = ["-r", "layers.[1-4].weight=normal:std=0.02", "-s", "7"]


def _saved(name: str) -> bytes:
    if name.endswith(".safetensors"):
        return safetensors.torch.save(STATE, {"format": "pt"})
    buffer = io.BytesIO()
    is_zip = not name.startswith("old")
    torch.save(dict(STATE), buffer, _use_new_zipfile_serialization=is_zip)
    return buffer.getvalue()


def _folder(path: Path) -> None:
    """Write a Hugging Face folder of three shards."""
    path.mkdir()
    (path / "config.json").write_text("{}")
    weight_map = {}
    for shard in range(3):
        name = f"model-{shard + 1:05}-of-00003.safetensors"
        part = {key: STATE[key] for key in sorted(STATE)[8 * shard : 8 * shard + 8]}
        safetensors.torch.save_file(part, path / name, {"format": "pt"})
        weight_map |= dict.fromkeys(part, name)
    index = {"metadata": {}, "weight_map": weight_map}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


def _bytes_of(folder: Path) -> dict[str, bytes]:
    if folder.is_file():
        return {"": folder.read_bytes()}
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _serve(server: RangeServer, folder: Path) -> None:
    server.files |= {f"{folder.name}/{name}": data for name, data in _bytes_of(folder).items()}


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    fs = fsspec.filesystem("memory")
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


def _errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("name", ["m.safetensors", "m.pt", "old.pt"])
def test_a_file_is_rewritten_as_its_local_copy_is(server: RangeServer, name: str) -> None:
    server.files[name] = _saved(name)
    Path("local").mkdir()
    Path("local", name).write_bytes(server.files[name])

    assert main([f"{server.url}/{name}", *RULE]) == 0
    assert main([f"local/{name}", *RULE]) == 0

    stem, suffix = os.path.splitext(name)
    out = f"{stem}-reinit{suffix}"
    assert Path(out).read_bytes() == Path("local", out).read_bytes()
    loaded = safetensors.torch.load_file(out) if "safe" in name else torch.load(out)
    assert torch.equal(loaded["layers.5.weight"], STATE["layers.5.weight"])
    assert not torch.equal(loaded["layers.1.weight"], STATE["layers.1.weight"])


@pytest.mark.parametrize("name", ["m.safetensors", "m.pt", "old.pt"])
@pytest.mark.parametrize("fault", [503, "drop", "cut"])
def test_a_fault_at_any_request_changes_nothing(
    server: RangeServer, name: str, fault: str | int
) -> None:
    server.files[name] = _saved(name)
    assert main([f"{server.url}/{name}", *RULE, "-o", "expected/"]) == 0
    (out,) = os.listdir("expected")

    for at in itertools.count():
        server.log.clear()
        server.fault = lambda number, _, at=at: fault if number == at else ""
        assert main([f"{server.url}/{name}", *RULE, "-f", "-o", out]) == 0
        assert Path(out).read_bytes() == Path("expected", out).read_bytes()
        if len(server.log) <= at:
            break  # it took no more requests
    assert at >= 5


@pytest.mark.parametrize("name", ["m.safetensors", "m.pt", "old.pt"])
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (403, "no access to"),
        ("gone", "there is no"),
        ("whole", "the server sends whole files only"),
        ("other etag", "changed while it was being read"),
        (500, "four times"),
    ],
)
def test_what_cannot_be_read_at_any_request_is_one_line_and_writes_nothing(
    server: RangeServer, name: str, fault: str | int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files[name] = _saved(name)

    for at in itertools.count(fault == "other etag"):
        server.log.clear()
        server.fault = lambda number, _, at=at: fault if number >= at else ""
        code = main([f"{server.url}/{name}", *RULE])
        if len(server.log) <= at:
            break  # it took no more requests
        assert code == 2
        first, *rest = _errors(capsys)
        changed = "changed while it was being read"
        assert first.startswith("error: ")
        assert says in first or (fault == "gone" and changed in first)
        assert len(rest) <= 1
        assert os.listdir() == []
    assert at >= 5


def _sparse(path: str, state: dict[str, torch.Tensor]) -> None:
    """Write what such tensors take, with holes for their values."""
    if path.endswith(".pt"):
        with torch.serialization.skip_data():
            torch.save(state, path)
        return
    at, header = 0, {}
    for key, tensor in state.items():
        end = at + tensor.nbytes
        header[key] = {"dtype": "F32", "shape": [*tensor.shape], "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    with Path(path).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)


@pytest.mark.parametrize(
    ("name", "requests", "nbytes"), [("m.safetensors", 2, 128 * 2**10), ("m.pt", 4, 2**20)]
)
def test_the_keys_of_two_gigabytes_take_few_requests(
    server: RangeServer,
    name: str,
    requests: int,
    nbytes: int,
    capfd: pytest.CaptureFixture[str],
) -> None:
    state = {f"model.layers.{at}.attn.weight": torch.empty(2**21) for at in range(254)}
    _sparse(name, state)
    with Path(name).open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
        server.files[name] = data  # type: ignore[assignment]
        server.etags[name] = '"1"'

        assert main(["keys", f"{server.url}/{name}"]) == 0

        server.files.clear()
    assert capfd.readouterr().out.split() == list(state)
    assert len(server.log) <= requests
    assert server.nbytes <= nbytes


def test_keys_of_an_object_take_two_requests(bucket: Bucket) -> None:
    bucket.put("m.safetensors", _saved("m.safetensors"))
    bucket.server.asked.clear()

    assert main(["keys", bucket.url("m.safetensors")]) == 0
    assert bucket.server.verbs == ["head", "get"]


@pytest.mark.parametrize("nbytes", [2**18, 10 * 2**20])
def test_statistics_fetch_each_byte_once_and_ahead(
    server: RangeServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    nbytes: int,
) -> None:
    """Threads that each read a tensor of their own drove what was fetched out of the cache."""
    state = {f"layers.{at}.weight": torch.full((nbytes // 4,), at + 0.5) for at in range(4)}
    server.files["m.safetensors"] = data = safetensors.torch.save(state)
    Path("m.safetensors").write_bytes(data)
    server.latency = 0.02
    monkeypatch.setattr(threads, "cores", lambda: 8)

    assert main(["stats", f"{server.url}/m.safetensors"]) == 0

    found = capsys.readouterr().out
    assert server.nbytes < len(data) + 2**17
    assert server.most_in_flight > 1 or nbytes == 2**18
    assert main(["stats", "m.safetensors"]) == 0
    assert capsys.readouterr().out == found


def test_a_comparison_fetches_both_sources_ahead_and_each_byte_once(
    server: RangeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [f"layers.{at}.weight" for at in range(4)]
    first = {key: torch.full((3 * 2**20,), at + 0.5) for at, key in enumerate(keys)}
    second = {key: torch.full((3 * 2**20,), 0.5) for key in reversed(keys)}
    nbytes = 0
    for name, state in (("first", first), ("second", second)):
        server.files[f"{name}.safetensors"] = data = safetensors.torch.save(state)
        Path(f"{name}.safetensors").write_bytes(data)
        nbytes += len(data)
    server.latency = 0.02

    remote = [f"{server.url}/{name}.safetensors" for name in ("first", "second")]
    assert main(["diff", *remote, "--json"]) == 1

    found = json.loads(capsys.readouterr().out)
    assert server.nbytes < nbytes + 2**18
    assert server.most_in_flight > 2
    assert found["counts"] == {"same": 1, "values": 3}
    assert main(["diff", "first.safetensors", "second.safetensors", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["differences"] == found["differences"]


def test_a_rewrite_fetches_nothing_of_what_is_filled(server: RangeServer) -> None:
    state = {"a": torch.zeros(2**18), "b": torch.ones(2**20), "c": torch.zeros(2**18)}
    server.files["m.safetensors"] = safetensors.torch.save(state)

    assert main([f"{server.url}/m.safetensors", "-r", "b=zeros"]) == 0

    assert server.nbytes <= 2**21 + 2**19


def test_a_folder_is_read_by_its_index_where_nothing_lists_it(
    server: RangeServer, capfd: pytest.CaptureFixture[str]
) -> None:
    _folder(Path("hf"))
    _serve(server, Path("hf"))
    index = f"{server.url}/hf/model.safetensors.index.json"

    assert main(["keys", index]) == 0
    assert sorted(capfd.readouterr().out.split()) == sorted(STATE)
    assert len(server.log) == 1 + 1 + 3
    assert main([index, *RULE, "-o", "out"]) == 0
    assert main(["hf", *RULE, "-o", "local"]) == 0

    expected = _bytes_of(Path("local"))
    del expected["config.json"]  # which no index names
    assert _bytes_of(Path("out")) == expected


def test_a_folder_over_http_has_to_be_named_by_its_index(
    server: RangeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", f"{server.url}/hf/"]) == 2

    assert _errors(capsys)[0] == (
        f"error: cannot read '{server.url}/hf/': "
        "http does not list folders: name a file, or the index"
    )


def test_a_folder_of_a_store_is_rewritten_with_all_its_files(
    memory: fsspec.AbstractFileSystem,
) -> None:
    _folder(Path("hf"))
    memory.put("hf", "/b/hf", recursive=True)

    assert main(["memory://b/hf", *RULE]) == 0
    assert main(["hf", *RULE, "-o", "local"]) == 0

    assert _bytes_of(Path("hf-reinit")) == _bytes_of(Path("local"))


def test_a_dcp_folder_is_read_from_a_store_and_by_its_metadata(
    server: RangeServer, memory: fsspec.AbstractFileSystem
) -> None:
    dcp.save(STATE, checkpoint_id="dcp", no_dist=True)
    memory.put("dcp", "/b/dcp", recursive=True)
    _serve(server, Path("dcp"))
    assert main(["dcp", *RULE, "-o", "local"]) == 0

    assert main(["memory://b/dcp", *RULE, "-o", "one"]) == 0
    assert main([f"{server.url}/dcp/.metadata", *RULE, "-o", "two"]) == 0

    expected = _bytes_of(Path("local"))
    assert _bytes_of(Path("one")) == _bytes_of(Path("two")) == expected


def test_a_part_of_a_dcp_folder_on_the_web_is_answered_with_its_metadata(
    server: RangeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    dcp.save(STATE, checkpoint_id="dcp", no_dist=True)
    _serve(server, Path("dcp"))

    assert main(["keys", f"{server.url}/dcp/__0_0.distcp"]) == 2

    said = capsys.readouterr().err
    assert "is a part of a DCP folder" in said
    assert said.rstrip().endswith(f"reinit keys {server.url}/dcp/.metadata")


def test_donors_may_be_at_urls(memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe_file("/b/m.pt", _saved("m.pt"))
    safetensors.torch.save_file(
        {key: torch.zeros_like(STATE[key]) for key in STATE}, "z.safetensors"
    )

    assert (
        main(["z.safetensors", "-r", "*=blend:memory://b/m.pt,0.5", "-o", "out.safetensors"]) == 0
    )

    for key, tensor in safetensors.torch.load_file("out.safetensors").items():
        assert torch.equal(tensor, STATE[key] / 2)


@pytest.mark.parametrize(
    "command",
    [
        ["keys", "-l"], ["keys", "--meta"], ["info"], ["show", "-k", "layers.0.bias"],
        ["stats"], ["keys", "--json"], ["info", "--json"],
    ],
)  # fmt: skip
def test_what_looks_at_a_source_says_the_same_of_a_remote_one(
    memory: fsspec.AbstractFileSystem, command: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    Path("m.pt").write_bytes(_saved("m.pt"))
    memory.put("m.pt", "/m.pt")
    verb, *options = command
    keys = options[options.index("-k") + 1 :] if "-k" in options else []
    options = [each for each in options if each not in ("-k", *keys)]

    said = []
    for source in ("m.pt", "memory://m.pt"):
        assert main([verb, source, *keys, *options]) == 0
        said.append(capfd.readouterr().out.replace("memory://m.pt", "m.pt"))

    assert said[0] == said[1]


def test_a_remote_output_of_a_record_is_verified_against_its_remote_source(
    memory: fsspec.AbstractFileSystem,
) -> None:
    memory.pipe_file("/b/m.pt", _saved("m.pt"))
    assert main(["memory://b/m.pt", *RULE, "--record"]) == 0
    memory.put("m-reinit.pt", "/b/new.pt")

    assert main(["diff", "memory://b/m.pt", "m-reinit.pt"]) == 1
    assert main(["verify", "memory://b/new.pt", "--source", "memory://b/m.pt"]) == 0
    assert main(["verify", "memory://b/new.pt"]) == 0
    memory.pipe_file("/b/new.pt", Path("m-reinit.pt").read_bytes()[:-300] + bytes(300))
    assert main(["verify", "memory://b/new.pt"]) != 0


def test_a_signature_is_sent_and_kept_nowhere(
    server: RangeServer, capfd: pytest.CaptureFixture[str]
) -> None:
    server.files["m.pt"] = _saved("m.pt")
    url = f"http://me:SECRET@{server.url[7:]}/m.pt?sig=SECRET"
    reports = ["--record", "--report", "report.html"]

    assert main([url, *RULE, "-v", *reports, "-o", "1.pt"]) == 0
    assert main([url, *RULE, "--json", "-o", "2.pt"]) == 0
    assert main([url, *RULE, "-n", "--json"]) == 0
    for command in (["info"], ["stats", "--json"], ["stats"], ["keys", "-l"], ["keys", "--meta"]):
        assert main([command[0], url, *command[1:]]) == 0
    assert main(["diff", url, url]) == 0
    assert main(["show", url, "layers.0.bias"]) == 0
    for command in ("stats", "show", "keys", "diff"):
        assert main([command, url, *([url] * (command == "diff")), "nothing"]) in (1, 2)
    assert main([url, url + "x", *RULE, "-o", "many/"]) in (2, 3)
    assert main(["verify", "1.pt", "--source", url]) == 0
    assert main(["keys", "1.pt", "--meta"]) == 0
    assert main([url]) in (0, 2)
    for fault in (403, 404, 500, "whole", "drop"):
        server.fault = lambda *_, fault=fault: fault
        assert main([url, *RULE, "-o", "3.pt"]) == 2
    server.fault = lambda *_: ""
    assert main([url, "-r", "nothing=zeros"]) == 2
    assert main([url, *RULE, "--in-place"]) == 2
    assert main([url, *RULE, "-o", "1.pt"]) == 2

    found = capfd.readouterr()
    assert "SECRET" not in found.out + found.err
    assert not [path for path in Path().iterdir() if b"SECRET" in path.read_bytes()]
    assert any("sig=SECRET" in entry[0] for entry in server.log)


def test_a_signed_url_is_refused_in_a_rule(
    server: RangeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("m.safetensors").write_bytes(_saved("m.safetensors"))

    for url in (f"{server.url}/m.pt?sig=SECRET", f"http://me:SECRET@{server.url[7:]}/m.pt"):
        assert main(["m.safetensors", "-r", f"*=blend:{url},0.5"]) == 2
        (error, *_) = _errors(capsys)
        assert error.endswith("has a query or a password, which plans and records would keep")
        assert "SECRET" not in error
    assert server.log == []


def test_a_recipe_names_no_url(server: RangeServer, capsys: pytest.CaptureFixture[str]) -> None:
    Path("m.safetensors").write_bytes(_saved("m.safetensors"))
    url = f"{server.url}/x.safetensors?sig=SECRET"
    Path("r.toml").write_text(
        f'[[rule]]\nmatch = "*"\ninit = "blend"\ncheckpoint = "{url}"\nt = 0.5\n'
    )

    for more in ([], ["--allow-path", "."]):
        assert main(["m.safetensors", "--recipe", "r.toml", *more]) == 2
        error = _errors(capsys)[0]
        assert "and only the command line may" in error
        assert "SECRET" not in error
    assert server.log == []


@pytest.mark.parametrize(
    ("fault", "says", "hint"),
    [
        (403, "no access to '{}': the server says 403 Forbidden", ""),
        (404, "there is no '{}'", ""),
        (
            "whole",
            "cannot read '{}': the server sends whole files only",
            "hint: fetch it first: curl --fail -L -O {}",
        ),
    ],
)
def test_what_a_server_refuses_comes_with_the_way_on(
    server: RangeServer,
    fault: str | int,
    says: str,
    hint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.files["m.safetensors"] = bytes(2**17)
    server.fault = lambda *_: fault
    url = f"{server.url}/m.safetensors"

    assert main(["keys", url]) == 2

    expected = [f"error: {says.format(url)}", *([hint.format(url)] if hint else [])]
    assert _errors(capsys) == expected


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nowhere://x/m.pt", "error: 'nowhere://x/m.pt': there is no file system for nowhere://"),
        ("memory://b/modle.pt", "error: there is no 'memory://b/modle.pt'"),
    ],
)
def test_a_url_of_nothing_is_one_line(
    memory: fsspec.AbstractFileSystem, url: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    memory.pipe_file("/b/model.pt", b"")

    assert main(["keys", url]) == 2

    error, hint = _errors(capsys)
    assert error == says
    assert hint in (
        "hint: name a path, or a URL such as s3://, gs:// or https://",
        "hint: did you mean memory://b/model.pt?",
    )


@pytest.mark.parametrize("package", ["s3fs", "gcsfs", "aiohttp"])
def test_a_missing_package_is_named(
    package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scheme = {"s3fs": "s3", "gcsfs": "gs", "aiohttp": "https"}[package]
    registry = importlib.import_module("fsspec.registry")
    monkeypatch.delitem(registry._registry, scheme, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)

    assert main(["keys", f"{scheme}://host/m.pt"]) == 2

    assert _errors(capsys) == [
        f"error: {scheme}:// needs {package}, which is not installed",
        f"hint: pip install {package}",
    ]


def test_the_report_says_how_much_was_fetched(
    server: RangeServer, capfd: pytest.CaptureFixture[str]
) -> None:
    server.files["m.pt"] = _saved("m.pt")

    assert main([f"{server.url}/m.pt", *RULE, "--json"]) == 0

    fetched = json.loads(capfd.readouterr().out)["fetched"]
    assert fetched == {"requests": len(server.log), "nbytes": server.nbytes}
    server.log.clear()
    assert main([f"{server.url}/m.pt", *RULE, "-n", "-o", "new.pt"]) == 0
    said = capfd.readouterr()
    assert f"fetched: {server.nbytes / 1000:.1f} kB in {len(server.log)} request" in said.err


def test_a_rewrite_of_a_dcp_folder_fetches_the_edges_of_its_pieces_and_what_is_copied(
    server: RangeServer,
) -> None:
    state = {f"w.{at}": torch.full((200, 200), at + 0.5) for at in range(20)}
    state |= {f"b.{at}": torch.full((9,), at + 0.5) for at in range(20)}
    dcp.save(state, checkpoint_id="dcp", no_dist=True)
    _serve(server, Path("dcp"))

    assert main([f"{server.url}/dcp/.metadata", "-r", "w.*=zeros", "-o", "out"]) == 0
    filled, requests = server.nbytes, len(server.log)
    server.log.clear()
    assert main([f"{server.url}/dcp/.metadata", "-o", "out.safetensors"]) == 0

    assert filled < 600_000  # of 3.3 MB
    assert requests < 120
    assert server.nbytes < 4_500_000
    found = safetensors.torch.load_file("out.safetensors")
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_the_source_of_an_outcome_goes_to_another_process(
    server: RangeServer, memory: fsspec.AbstractFileSystem
) -> None:
    _folder(Path("hf"))
    _serve(server, Path("hf"))
    memory.pipe_file("/m.pt", _saved("m.pt"))

    for url in ("memory://m.pt", f"{server.url}/hf/model.safetensors.index.json?sig=1"):
        again = pickle.loads(pickle.dumps(find_source(url)))
        with again.open(0) as contents:
            contents.check_unchanged()
            assert contents.view(again.tensors[0]).parts[0].data.file.read(0, 4)


def test_python_functions_take_urls(memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe_file("/b/m.pt", _saved("m.pt"))

    outcome = reinit_cli.rewrite("memory://b/m.pt", ["layers.1.weight=zeros"])

    assert outcome.job.destination.path == "m-reinit.pt"
    assert torch.load("m-reinit.pt")["layers.1.weight"].count_nonzero() == 0
