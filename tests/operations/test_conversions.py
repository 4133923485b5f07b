"""Files laid out anew: other formats, other dtypes, shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from reinit_cli import rewrite
from reinit_cli.errors import OutputUnwritableError, UnwritableContentError
from reinit_cli.execution.assemble import files_of
from reinit_cli.operations.prepare import prepare
from reinit_cli.request.request import Request
from reinit_cli.storage.segments import Check, Copy, Literal
from reinit_cli.streams.stream import seed_for


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    whole = torch.randn(40, 50, generator=generator)
    return {
        "z.weight": whole,
        "a.weight": torch.randn(30, 20, generator=generator).t(),
        "tied.weight": whole,
        "a.steps": torch.tensor(7),
        "half": torch.randn(9, generator=generator).half(),
        "slice": torch.randn(10, 10, generator=generator)[2:5, 3:],
    }


def _save(name: str, **beside: Any) -> dict[str, torch.Tensor]:
    state = _state()
    torch.save({"state_dict": state, **beside} if beside else state, name)
    return state


def _assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert set(found) == set(expected)
    for key, tensor in expected.items():
        assert found[key].dtype == tensor.dtype, key
        assert torch.equal(found[key], tensor), key


def _cast(state: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {
        key: each.to(dtype) if each.is_floating_point() else each for key, each in state.items()
    }


def test_a_torch_file_becomes_a_safetensors_file_that_says_so() -> None:
    state = _save("m.pt")

    outcome = rewrite("m.pt", [], "m.safetensors")

    _assert_equal(load_file("m.safetensors"), state)
    with safe_open("m.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    assert "'tied.weight' and 'z.weight' are one tensor" in outcome.job.plan.warnings[0]


@pytest.mark.parametrize("dtype", ["bfloat16", "float64", "float8_e5m2"])
@pytest.mark.parametrize("output", ["out.safetensors", "out.pt"])
def test_floats_are_cast_as_torch_casts_them(dtype: str, output: str) -> None:
    state = _save("m.pt")

    rewrite("m.pt", [], output, dtype=dtype)

    found = load_file(output) if output.endswith("s") else torch.load(output)
    expected = _cast(state, getattr(torch, dtype))
    assert {key: each.dtype for key, each in found.items()} == {
        key: each.dtype for key, each in expected.items()
    }
    for key, tensor in expected.items():
        assert torch.equal(found[key].double(), tensor.double())


def test_what_is_drawn_is_rounded_once_to_the_dtype_that_is_cast_to() -> None:
    _save("m.pt")

    rewrite("m.pt", ["half=normal:std=2"], "out.pt", dtype="float32", stream="torch")

    generator = torch.Generator().manual_seed(seed_for(0, "half"))
    assert torch.equal(
        torch.load("out.pt")["half"], torch.empty(9).normal_(0, 2, generator=generator)
    )


def test_ties_stay_ties_in_a_torch_file_and_are_filled_under_one_seed() -> None:
    _save("m.pt")

    rewrite("m.pt", ["z.weight=normal:std=1"], "out.pt", dtype="bfloat16", stream="torch")

    found = torch.load("out.pt")
    generator = torch.Generator().manual_seed(seed_for(0, "tied.weight"))
    drawn = torch.empty(40, 50).normal_(0, 1, generator=generator).bfloat16()
    assert torch.equal(found["z.weight"], drawn)
    assert found["z.weight"].data_ptr() == found["tied.weight"].data_ptr()


def test_what_is_no_tensor_is_lost_only_where_that_is_asked_for() -> None:
    _save("m.pt", epoch=3, args={"lr": 0.1})

    size = 10**6
    for output, dtype, shard_nbytes in (
        ("out.safetensors", None, None),
        ("cast", "bfloat16", size),
        ("out", None, size),
    ):
        options = {"dtype": dtype, "shard_nbytes": shard_nbytes}
        with pytest.raises(
            UnwritableContentError, match=r"cannot store epoch \(int\), args \(dict\)"
        ):
            rewrite("m.pt", [], output, **options)  # type: ignore[arg-type]
        outcome = rewrite("m.pt", [], output, **options, tensors_only=True)  # type: ignore[arg-type]
        assert any("epoch (int)" in each for each in outcome.job.plan.warnings)


def test_what_is_set_on_a_state_dict_is_told_where_it_is_dropped() -> None:
    torch.save(torch.nn.Linear(2, 2).state_dict(), "m.pt")

    told = [
        rewrite("m.pt", ["bias=zeros"], output).job.plan.warnings
        for output in ("o.safetensors", "o.pt")
    ]

    assert told == [("not stored, since it is not a tensor: _metadata",), ()]


def test_a_sparse_tensor_is_refused_by_name_where_it_cannot_go() -> None:
    torch.save({"w": torch.ones(2), "s": torch.eye(3).to_sparse()}, "m.pt")

    for output, dtype, size in (("out.safetensors", None, None), ("out", "bfloat16", 10**6)):
        with pytest.raises(UnwritableContentError, match="'s', a sparse tensor"):
            rewrite("m.pt", ["w=zeros"], output, dtype=dtype, shard_nbytes=size)


def test_shards_hold_at_most_their_size_and_an_index_says_where_each_key_is() -> None:
    state = _save("m.pt")

    rewrite("m.pt", ["a.weight=zeros"], "out", shard_nbytes=9_000)

    index = json.loads(Path("out/model.safetensors.index.json").read_text())
    files = sorted(path.name for path in Path("out").glob("*.safetensors"))
    shards = {name: load_file(f"out/{name}") for name in files}
    assert files == [f"model-0000{at}-of-00003.safetensors" for at in (1, 2, 3)]
    assert index["weight_map"] == {key: name for name, shard in shards.items() for key in shard}
    sizes = [sum(each.nbytes for each in shard.values()) for shard in shards.values()]
    assert max(sizes) <= 9_000
    assert index["metadata"]["total_size"] == sum(sizes)
    whole = {key: each for shard in shards.values() for key, each in shard.items()}
    _assert_equal(whole, state | {"a.weight": torch.zeros(20, 30)})


@pytest.mark.parametrize(
    ("shard_nbytes", "warnings"),
    [
        (
            5,
            [
                "shards of at most 5 B are very small; shard_nbytes= takes units, such as 5GB",
                "'a' (8.0 MB) and 1 more tensor are larger than shard_nbytes=; each has a shard to "
                "itself",
            ],
        ),
        (
            5_000_000,
            ["'a' (8.0 MB) is larger than shard_nbytes=; it has a shard to itself"],
        ),
        (10_000_000, []),
    ],
)
def test_shards_that_are_tiny_or_too_small_for_a_tensor_are_warned_of(
    shard_nbytes: int, warnings: list[str]
) -> None:
    save_file({"a": torch.zeros(2_000_000), "b": torch.zeros(10)}, "m.safetensors")

    outcome = rewrite("m.safetensors", [], "out", shard_nbytes=shard_nbytes)

    assert list(outcome.job.plan.warnings) == warnings
    shards = [load_file(path) for path in Path("out").glob("*.safetensors")]
    alone = [{*shard} for shard in shards if "a" in shard]
    assert (alone == [{"a"}]) == bool(warnings)


def test_one_shard_needs_no_index() -> None:
    state = _save("m.pt")

    rewrite("m.pt", [], "out", shard_nbytes=10**6)

    assert [path.name for path in Path("out").iterdir()] == ["model.safetensors"]
    _assert_equal(load_file("out/model.safetensors"), state)


def test_a_folder_is_cast_and_split_anew_with_its_other_files() -> None:
    _save("m.pt")
    rewrite("m.pt", [], "in", shard_nbytes=9_000)
    Path("in/config.json").write_text("{}")

    rewrite("in", [], "out", dtype="bfloat16", shard_nbytes=4_000)

    index = json.loads(Path("out/model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) | {
        "config.json",
        "model.safetensors.index.json",
    } == {path.name for path in Path("out").iterdir()}
    found = {key: load_file(f"out/{name}")[key] for key, name in index["weight_map"].items()}
    _assert_equal(found, _cast(_state(), torch.bfloat16))


@pytest.mark.parametrize("output", ["out.safetensors", "out.pt"])
def test_a_folder_becomes_one_file(output: str) -> None:
    state = _save("m.pt")
    rewrite("m.pt", [], "in", shard_nbytes=9_000)

    rewrite("in", [], output)

    _assert_equal(load_file(output) if output.endswith("s") else torch.load(output), state)


def test_shards_have_the_same_bytes_as_one_file_and_draw_the_same() -> None:
    save_file(
        {key: each.contiguous() for key, each in _state().items() if key != "tied.weight"},
        "m.safetensors",
    )
    rules = ["*=normal:std=1"]

    rewrite("m.safetensors", rules, "one.safetensors")
    rewrite("m.safetensors", rules, "many", shard_nbytes=1)

    one = load_file("one.safetensors")
    many = [load_file(path) for path in Path("many").glob("*.safetensors")]
    _assert_equal({key: each for shard in many for key, each in shard.items()}, one)


@pytest.mark.parametrize(("output", "in_place"), [("out.pt", False), ("-", False), (None, True)])
def test_shards_go_nowhere_but_into_a_folder(output: str | None, in_place: bool) -> None:
    _save("m.pt")

    with pytest.raises(OutputUnwritableError, match="shards go into a folder"):
        rewrite("m.pt", [], output, in_place=in_place, shard_nbytes=100)


def test_a_conversion_reads_no_file_but_its_source() -> None:
    _save("m.pt")
    job = prepare(Request("m.pt", ("*=zeros",), "out.bin", dtype="float16"))

    with job.source.open(0) as contents, job.references.opened((), 0) as donors:
        segments = files_of(job, contents, donors, "")[""]

    read = {segment.file.path for segment in segments if isinstance(segment, (Copy, Check))}
    assert read == {"m.pt"}


def test_a_new_torch_file_copies_the_tensors_of_its_source_instead_of_holding_them() -> None:
    save_file({"w": torch.ones(100, 100), "rest": torch.zeros(200, 50)}, "m.safetensors")
    job = prepare(Request("m.safetensors", ("w=zeros",), "out.pt"))

    with job.source.open(0) as contents, job.references.opened((), 0) as donors:
        segments = files_of(job, contents, donors, "")[""]

    assert [each.nbytes for each in segments if isinstance(each, Copy)] == [40_000]
    assert sum(each.nbytes for each in segments if isinstance(each, Literal)) < 8_000


def test_a_key_that_only_a_pickle_can_hold_is_filled_and_stays_in_torch_files() -> None:
    torch.save({"half\udc80": torch.zeros(2), "whole": torch.zeros(3)}, "in.pt")

    rewrite("in.pt", ["*=ones"], output="out.pt")

    _assert_equal(torch.load("out.pt"), {"half\udc80": torch.ones(2), "whole": torch.ones(3)})
    for output, size in (("out.safetensors", None), ("folder", 10**6)):
        with pytest.raises(UnwritableContentError, match="half"):
            rewrite("in.pt", ["*=ones"], output=output, shard_nbytes=size)
    assert sorted(path.name for path in Path().iterdir()) == ["in.pt", "out.pt"]
