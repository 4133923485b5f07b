"""What HuggingFaceStorageWriter leaves of several ranks is read and rewritten as one file is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

from reinit_cli import diff, rewrite, stats, verify
from reinit_cli.checkpoints.find import find_source
from reinit_cli.cli import main
from reinit_cli.errors import ReinitError
from tests.checkpoints.formats.dcp.saved import (
    Cut,
    along,
    columns,
    grid,
    rows,
    save_shards,
    whole,
    write_shards,
)

FIRST = "shard-00001-model-00001-of-00001.safetensors"
SECOND = "shard-00002-model-00001-of-00001.safetensors"

LAYOUTS: dict[str, tuple[int, Cut]] = {
    "rows of two": (2, rows),
    "rows of four, some of them empty": (4, rows),
    "columns of three": (3, columns),
    "a grid of four": (4, grid),
    "inner dimensions": (2, along(1)),
}

is_written = pytest.mark.skipif(
    not hasattr(dcp, "HuggingFaceStorageWriter"), reason="torch writes them since 2.8"
)


def _state() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)

    def drawn(*shape: int) -> Tensor:
        return torch.empty(shape).normal_(generator=generator)

    return {
        "emb.weight": drawn(10, 8),
        "layers.0.weight": drawn(6, 8).bfloat16(),
        "layers.0.bias": drawn(7),
        "conv.weight": drawn(4, 6, 3, 3).half(),
        "scale": torch.tensor(2.5),
        "count": torch.arange(12).view(3, 4),
        "norm.running_mean": drawn(5),
        "none.weight": torch.empty(0, 4),
    }


def _raw(tensors: dict[str, Tensor]) -> dict[str, tuple[Any, ...]]:
    return {
        key: (each.dtype, each.shape, each.reshape(-1).view(torch.uint8).numpy().tobytes())
        for key, each in tensors.items()
    }


def _content(folder: Path) -> dict[str, Any]:
    """Return what is in each file; the order of its metadata is another each time."""
    found = {}
    for path in folder.iterdir():
        with safe_open(path, "pt") as file:
            info = {name: text for name, text in file.metadata().items() if name != "format"}
        found[path.name] = _raw(load_file(path)), {each: json.loads(info[each]) for each in info}
    return found


def _read_by_torch(folder: Path) -> dict[str, Tensor]:
    """Return what torch's own reader of such folders puts together."""
    state: dict[str, Any] = {}
    reader = dcp.HuggingFaceStorageReader(str(folder))
    _load_state_dict(state, reader, planner=_EmptyStateDictLoadPlanner(), no_dist=True)
    return state


@is_written
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_tests_make_what_torch_writes(layout: str) -> None:
    ranks, cut = LAYOUTS[layout]
    save_shards(Path("ours"), _state(), ranks, cut)
    write_shards(Path("theirs"), _state(), ranks, cut)

    assert _content(Path("ours")) == _content(Path("theirs"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_are_those_of_the_unsharded_file(layout: str) -> None:
    ranks, cut = LAYOUTS[layout]
    save_shards(Path("hf"), _state(), ranks, cut)
    save_file(_state(), "m.safetensors")
    rules = ["*.weight=normal:std=0.02", "scale=uniform:a=1,b=2", "*.bias=scale:factor=3"]

    outcome = rewrite("hf", rules, "out", seed=3)
    unsharded = rewrite("m.safetensors", rules, "new.safetensors", seed=3)
    rewrite("hf", rules, "one.safetensors", seed=3)

    want = _raw(load_file("new.safetensors"))
    assert set(outcome.filled) == set(unsharded.filled)
    assert _raw(load_file("one.safetensors")) == want
    if hasattr(dcp, "HuggingFaceStorageReader"):
        got = _read_by_torch(Path("out"))
        # Torch's reader makes no tensor of what has no elements.
        assert _raw(got) == {key: each for key, each in want.items() if key in got}
        assert len(got) >= len(want) - 1
    for each in Path("hf").iterdir():
        before, after = (Path(at, each.name).read_bytes() for at in ("hf", "out"))
        header = 8 + int.from_bytes(before[:8], "little")
        assert before[:header] == after[:header]
        assert len(before) == len(after)


def test_a_file_for_each_of_some_tensors_is_one_of_the_folder() -> None:
    numbers = {key: 1 + at % 3 for at, key in enumerate(_state())}
    save_shards(Path("hf"), _state(), 2, rows, numbers)
    assert len(list(Path("hf").iterdir())) == 6

    rewrite("hf", (), "one.safetensors")

    assert _raw(load_file("one.safetensors")) == _raw(_state())


def test_it_is_looked_at_like_any_other_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    save_shards(Path("hf"), _state(), 4, grid)

    assert main(["keys", "hf"]) == 0
    assert set(capsys.readouterr().out.split()) == set(_state())
    assert main(["show", "hf", "emb.weight", "--slice", "3,:", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)["values"]
    assert torch.equal(torch.tensor(values), _state()["emb.weight"][3])
    assert main(["info", "hf", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["format"], said["tensors"]) == ("folder of sharded safetensors", len(_state()))
    measured = {each.key: each.statistics for each in stats("hf")}
    mean = float(_state()["emb.weight"].double().mean())
    assert measured["emb.weight"].finite.mean == pytest.approx(mean, rel=1e-12)
    assert main(["hf", "-r", "emb.weight=zeros", "-n"]) == 0
    rewrite("hf", ["emb.weight=zeros"], "out")
    assert [each.key for each in diff("hf", "out") if each.differs] == ["emb.weight"]


def test_its_record_is_verified() -> None:
    save_shards(Path("hf"), _state(), 4, grid)
    Path("hf/config.json").write_text("{}")
    rewrite("hf", ["*.weight=normal"], "out", record=True)

    assert verify("out").findings == ()
    assert verify("out", source="hf").findings == ()
    assert Path("out/config.json").read_text() == "{}"

    name = max(Path("out").glob("shard-*"), key=lambda each: each.stat().st_size)
    data = bytearray(name.read_bytes())
    data[-1] ^= 1
    name.write_bytes(data)
    assert verify("out").findings


def test_one_file_of_it_is_no_shard_any_more() -> None:
    save_shards(Path("hf"), _state(), 2, rows)

    rewrite("hf", (), "one.safetensors")

    with safe_open("one.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_a_shard_that_is_named_alone_may_hold_pieces(capsys: pytest.CaptureFixture[str]) -> None:
    save_shards(Path("hf"), _state(), 2, rows)

    assert main(["keys", f"hf/{SECOND}"]) == 0

    assert "may hold only pieces of its tensors; name its folder" in capsys.readouterr().err


def test_it_is_not_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    save_shards(Path("hf"), _state(), 2, rows)

    assert main(["hf", "-r", "emb.weight=zeros", "--in-place"]) == 2

    assert "a folder of sharded safetensors is not replaced" in capsys.readouterr().err


def test_a_consolidated_model_is_read_and_not_the_shards_beside_it() -> None:
    save_shards(Path("hf"), _state(), 2, rows)
    save_file({"a.weight": torch.zeros(2)}, "hf/model.safetensors")

    assert [each.key for each in find_source("hf").tensors] == ["a.weight"]


def _with_metadata(name: str, change: Callable[[dict[str, str]], None]) -> None:
    path = Path("hf", name)
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
    change(metadata)
    save_file(load_file(path), path, metadata)


def _said(change: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
    """Return a change of what the second file says of its pieces."""

    def changed(metadata: dict[str, str]) -> None:
        info = json.loads(metadata["DCP_SHARDING_INFO"])
        change(info)
        metadata["DCP_SHARDING_INFO"] = json.dumps(info)

    return lambda: _with_metadata(SECOND, changed)


def _text(text: str) -> Callable[[], None]:
    return lambda: _with_metadata(SECOND, lambda metadata: metadata.update(DCP_SHARDING_INFO=text))


def _start(*offsets: object) -> Callable[[], None]:
    return _said(lambda info: info.update({"emb.weight": {"saved_offsets": [*offsets]}}))


def _as_doubles() -> None:
    path = Path("hf", SECOND)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    tensors["emb.weight"] = tensors["emb.weight"].double()
    save_file(tensors, path, metadata)


def _flat() -> None:
    path = Path("hf", SECOND)
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
    tensors = load_file(path)
    tensors["emb.weight"] = tensors["emb.weight"].reshape(-1)
    info = json.loads(metadata["DCP_SHARDING_INFO"])
    metadata["DCP_SHARDING_INFO"] = json.dumps(info | {"emb.weight": {"saved_offsets": [5]}})
    save_file(tensors, path, metadata)


WRONG: dict[str, tuple[Callable[[], None], str]] = {
    "no JSON": (_text("pickle"), "does not start with '{'"),
    "a list": (_text("[]"), "does not start with '{'"),
    "nested far too deeply": (_text('{"a":' * 100_000 + "0" + "}" * 100_000), "is not JSON"),
    "more objects than are read": (
        _text('{"a":[' + ",".join(["{}"] * 260_000) + "]}"),
        "more than 250,000 objects",
    ),
    "a key twice": (
        _text('{"emb.weight":{"saved_offsets":[5,0]},"emb.weight":{"saved_offsets":[0,0]}}'),
        "has a key twice",
    ),
    "a tensor without a start": (
        _said(lambda info: info.pop("emb.weight")),
        "no saved_offsets of 'emb.weight'",
    ),
    "a start that is not a list": (
        _said(lambda info: info.update({"emb.weight": {"saved_offsets": "5, 0"}})),
        "no saved_offsets of 'emb.weight'",
    ),
    "a negative start": (_start(-5, 0), "not all integers in [0, 2^63)"),
    "a start that is a fraction": (_start(5.5, 0), "only integers are allowed"),
    "a start that is true": (_start(*[True, 0]), "not all integers in [0, 2^63)"),
    "a start beyond 64 bits": (_start(2**63, 0), "not all integers in [0, 2^63)"),
    "a start of other dimensions": (_start(5), "has 1 saved_offsets, and 2 dimensions"),
    "pieces that overlap": (_start(3, 0), "the pieces of 'emb.weight' overlap"),
    "pieces with a hole": (_start(7, 0), "the pieces of 'emb.weight' leave a hole"),
    "a hole as large as can be": (_start(2**62, 2**62), "'emb.weight' leave a hole"),
    "both at the start": (_start(0, 0), "the pieces of 'emb.weight' overlap"),
    "another dtype": (_as_doubles, "'emb.weight' is float32 in one file, and float64 in another"),
    "another number of dimensions": (_flat, "have not the same number of dimensions"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_a_shard_says_of_its_pieces_is_checked(
    what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change, says = WRONG[what]
    save_shards(Path("hf"), _state(), 2, rows)
    change()

    assert main(["hf", "-r", "*=zeros", "-o", "out"]) == 2

    (error, *rest) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert says in error
    assert not [line for line in rest if not line.startswith("hint: ")]
    assert not Path("out").exists()


def test_a_file_that_says_nothing_of_pieces_has_whole_tensors() -> None:
    """Torch's reader takes it so, too."""
    Path("hf").mkdir()
    save_file({"a.weight": torch.ones(2, 3)}, Path("hf", FIRST))
    save_file({"b.weight": torch.ones(4)}, Path("hf", SECOND))

    found = find_source("hf")

    assert {each.key: each.shape for each in found.tensors} == {
        "a.weight": (2, 3),
        "b.weight": (4,),
    }


def test_what_one_rank_wrote_is_a_hugging_face_folder() -> None:
    save_shards(Path("hf"), _state(), 1, whole)

    located = find_source("hf").located

    assert located is not None
    assert located.format == "safetensors"


def test_a_piece_that_is_missing_in_the_middle_is_named() -> None:
    save_shards(Path("hf"), _state(), 3, rows)
    Path("hf", SECOND).unlink()

    with pytest.raises(ReinitError, match="leave a hole"):
        find_source("hf")


def test_a_first_piece_that_is_missing_is_named_where_one_rank_is_left() -> None:
    save_shards(Path("hf"), {"a.weight": torch.ones(4, 3)}, 2, rows)
    Path("hf", FIRST).unlink()

    with pytest.raises(ReinitError, match="leave a hole"):
        find_source("hf")


def test_what_another_rank_than_the_first_wrote_alone_is_whole_where_it_starts_at_0() -> None:
    save_shards(Path("hf"), _state(), 2, whole)
    assert [path.name for path in Path("hf").iterdir()] == [SECOND]

    rewrite("hf", ["emb.weight=zeros"], "out")

    expected = {**_state(), "emb.weight": torch.zeros_like(_state()["emb.weight"])}
    assert _raw(load_file(f"out/{SECOND}")) == _raw(expected)


def test_links_out_of_the_folder_are_read_where_the_user_allows_them() -> None:
    save_shards(Path("blobs"), _state(), 2, rows)
    Path("hf").mkdir()
    for each in Path("blobs").iterdir():
        Path("hf", each.name).symlink_to(f"../blobs/{each.name}")

    with pytest.raises(ReinitError, match="outside of its folder"):
        rewrite("hf", (), "one.safetensors")
    rewrite("hf", (), "one.safetensors", allow_paths=["blobs"])

    assert _raw(load_file("one.safetensors")) == _raw(_state())


def test_a_folder_of_several_runs_names_them_as_folders(capsys: pytest.CaptureFixture[str]) -> None:
    for run in ("first", "second"):
        save_shards(Path("runs") / run, _state(), 2, rows)

    assert main(["keys", "runs"]) == 2

    said = capsys.readouterr().err
    assert "holds no weights itself, but there are first, second\n" in said
    assert main(["keys", "runs/second", "--count"]) == 0
