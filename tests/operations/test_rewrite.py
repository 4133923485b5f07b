"""The one story: what is chosen is drawn, and all else stays byte for byte."""

from __future__ import annotations

import io
import os
import threading
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from reinit_cli import apply_, rewrite, seed_for
from reinit_cli.errors import (
    MissingRuleError,
    OutputExistsError,
    OutputUnwritableError,
    SourceChangedError,
    TensorError,
    UnwritableContentError,
)
from reinit_cli.execution import budget, engine
from reinit_cli.operations.prepare import prepare
from reinit_cli.operations.rewrite import execute
from reinit_cli.request.request import Request
from reinit_cli.storage.local import InputFile
from reinit_cli.tensors.dtype import DTYPES
from tests.checkpoints.formats.locating import locate
from tests.tools import needs_safetensors


def _source(name: str = "m.safetensors", order: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    state = {
        "a.weight": torch.randn(30, 20, generator=generator),
        "a.bias": torch.randn(30, generator=generator),
        "b.weight": torch.randn(8, 4, 3, 3, generator=generator).bfloat16(),
        "c.weight": torch.randn(16, 16, generator=generator, dtype=torch.float64),
        "d.count": torch.tensor(5),
    }
    save_file(dict(list(state.items())[::order]), name, {"author": "somebody"})
    return state


def _ranges(name: str) -> dict[str, tuple[int, int]]:
    with InputFile(name) as file:
        located = locate(file)
        return {
            key: (place.offset, place.offset + place.nbytes)
            for key, (place,) in located.places.items()
        }


def test_outside_the_filled_tensors_no_byte_changes() -> None:
    _source()
    before = bytearray(Path("m.safetensors").read_bytes())

    rewrite("m.safetensors", ["{a,c}.weight=normal:std=9"])

    after = bytearray(Path("m-reinit.safetensors").read_bytes())
    for key in ("a.weight", "c.weight"):
        start, end = _ranges("m.safetensors")[key]
        assert after[start:end] != before[start:end]
        before[start:end] = after[start:end] = b""
    assert before == after


def test_keep_alone_is_the_identity() -> None:
    _source()

    rewrite("m.safetensors", ["*=keep"])

    assert Path("m-reinit.safetensors").read_bytes() == Path("m.safetensors").read_bytes()


def test_the_default_output_stands_beside_the_source() -> None:
    os.mkdir("folder.d")
    _source("folder.d/m.x.safetensors")

    rewrite("folder.d/m.x.safetensors", ["*.bias=zeros"])

    assert sorted(os.listdir("folder.d")) == ["m.x-reinit.safetensors", "m.x.safetensors"]


def test_a_file_of_another_suffix_keeps_its_format() -> None:
    _source("m.model")

    rewrite("m.model", ["a.bias=zeros"])

    assert not load_file("m-reinit.model")["a.bias"].any()


def test_one_draw_whatever_the_order_the_other_rules_the_threads_and_the_format() -> None:
    _source()
    _source("reversed.safetensors", order=-1)
    rules = ["a.weight=orthogonal", "*.bias=normal:std=0.1", "b.*=kaiming_uniform:relu"]
    drawn = []
    threads = torch.get_num_threads()
    try:
        for at, (source, chosen, count, suffix) in enumerate(
            [
                ("m.safetensors", rules, 1, "safetensors"),
                ("m.safetensors", rules[::-1], 2, "safetensors"),
                ("reversed.safetensors", rules, 2, "pt"),
                ("m.safetensors", ["*.weight=trunc_normal:std=0.1", *rules, "c.*=zeros"], 1, "pth"),
            ]
        ):
            torch.set_num_threads(count)
            name = f"{at}.{suffix}"
            rewrite(source, chosen, name)
            state = load_file(name) if suffix == "safetensors" else torch.load(name)
            drawn.append({key: state[key] for key in ("a.weight", "a.bias", "b.weight")})
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    in_memory = _source("other.safetensors")
    apply_(in_memory, rules)

    for other in (*drawn[1:], in_memory):
        assert all(torch.equal(drawn[0][key], other[key]) for key in drawn[0])


def test_a_stream_gets_the_bytes_of_the_file() -> None:
    _source()
    stream = io.BytesIO()
    request = Request("m.safetensors", ("*.weight=normal:std=1", "a.bias=ones"))

    execute(prepare(request))
    outcome = execute(prepare(Request("m.safetensors", request.rules, "-")), stream=stream)

    assert stream.getvalue() == Path("m-reinit.safetensors").read_bytes()
    assert outcome.nbytes == len(stream.getvalue())


@pytest.mark.parametrize("nbytes", [1, 3000, 10_000])
def test_a_small_budget_of_memory_changes_nothing_and_blocks_nobody(
    nbytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _source()
    rules = ("*.weight=normal:std=1", "a.bias=ones")
    execute(prepare(Request("m.safetensors", rules)))
    expected = Path("m-reinit.safetensors").read_bytes()
    monkeypatch.setattr(budget, "BUDGET", budget._Budget(nbytes))
    stream = io.BytesIO()

    execute(prepare(Request("m.safetensors", rules, "small.safetensors")))
    execute(prepare(Request("m.safetensors", rules, "-")), stream=stream)

    assert Path("small.safetensors").read_bytes() == stream.getvalue() == expected


@pytest.mark.parametrize("output", ["out.safetensors", "-"])
def test_a_run_that_fails_gives_its_memory_back(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All runs of a process share a budget: what one kept, another would wait for for ever."""
    _source()
    monkeypatch.setattr(budget, "BUDGET", budget._Budget(10**9))

    def fail(nbytes: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        execute(prepare(Request("m.safetensors", ("*=normal",), output)), fail, io.BytesIO())

    assert budget.BUDGET.taken == 0


def test_a_stream_waits_for_memory_that_another_run_has(monkeypatch: pytest.MonkeyPatch) -> None:
    _source()
    rules = ("*.weight=normal:std=1", "a.bias=ones")
    execute(prepare(Request("m.safetensors", rules)))
    monkeypatch.setattr(budget, "BUDGET", budget._Budget(1000))
    other = budget.Share(budget.BUDGET)
    other.take(1000)
    stream = io.BytesIO()

    threading.Timer(0.2, other.give_all_back).start()
    execute(prepare(Request("m.safetensors", rules, "-")), stream=stream)

    assert stream.getvalue() == Path("m-reinit.safetensors").read_bytes()


@pytest.mark.parametrize("output", ["out.safetensors", "out.pt", "-"])
def test_progress_counts_every_byte(output: str) -> None:
    _source()
    told: list[int] = []
    job = prepare(Request("m.safetensors", ("*.weight=normal:std=1",), output))

    outcome = execute(job, told.append, io.BytesIO())

    assert sum(told) == outcome.nbytes


def test_a_source_that_changes_meanwhile_stops_the_run() -> None:
    _source()
    job = prepare(Request("m.safetensors", ("a.*=zeros",)))

    def touch(_: int) -> None:
        os.utime("m.safetensors", ns=(1, 1))

    with pytest.raises(SourceChangedError):
        execute(job, touch)
    with pytest.raises(SourceChangedError):
        execute(job)
    assert os.listdir() == ["m.safetensors"]


@pytest.mark.parametrize("output", ["out.safetensors", "out.pt"])
def test_a_draw_that_fails_leaves_nothing(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _source()

    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("reinit_cli.execution.draw.draw_blocks", fail)
    with pytest.raises(TensorError, match=r"'a.weight' cannot be drawn: .* enough memory"):
        rewrite("m.safetensors", ["*.weight=normal:std=1"], output)
    assert os.listdir() == ["m.safetensors"]


def test_what_was_there_is_measured_if_it_is_asked_for() -> None:
    state = _source()
    job = prepare(Request("m.safetensors", ("*.weight=normal:std=3",), measure_before=True))

    filled = execute(job).filled

    written = load_file("m-reinit.safetensors")
    for key in ("a.weight", "b.weight", "c.weight"):
        before, after = filled[key].before, filled[key].after
        assert before is not None
        assert before.std == pytest.approx(state[key].double().std(correction=0).item(), rel=1e-5)
        assert after.std == pytest.approx(written[key].double().std(correction=0).item(), rel=1e-2)


def test_a_tied_tensor_is_drawn_once_and_written_under_both_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from reinit_cli.checkpoints.models import torchvision as models

    shared = nn.Parameter(torch.zeros(5, 4))
    net = nn.ModuleDict({"head": nn.Linear(4, 5, bias=False), "embed": nn.Embedding(5, 4)})
    net["head"].weight = net["embed"].weight = shared
    net.register_buffer("x", torch.zeros(6)[2:])
    monkeypatch.setattr(models, "_module", lambda *_: net)

    outcome = rewrite("alexnet", ["head.weight=normal:std=1"], "out.safetensors", weights="none")
    rewrite("alexnet", ["head.weight=normal:std=1", "x=ones"], "out.pt", weights="none")

    written = load_file("out.safetensors")
    expected = {"w": torch.zeros(5, 4)}
    apply_({"embed.weight": expected["w"]}, ["embed.weight=normal:std=1"])
    assert outcome.job.plan.warnings == (
        "'embed.weight' and 'head.weight' are one tensor; "
        "a safetensors file holds it under each name",
    )
    assert torch.equal(written["head.weight"], expected["w"])
    assert torch.equal(written["embed.weight"], expected["w"])
    again = torch.load("out.pt")
    assert torch.equal(again["head.weight"], expected["w"])
    assert again["head.weight"].data_ptr() == again["embed.weight"].data_ptr()
    assert again["x"].tolist() == [1] * 4
    assert not shared.any()


def test_four_bit_floats_do_not_fit_a_torch_file() -> None:
    header = b'{"q":{"dtype":"F4","shape":[4],"data_offsets":[0,2]},"w":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}'
    Path("m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(6))

    rewrite("m.safetensors", ["w=ones"])
    with pytest.raises(UnwritableContentError) as refused:
        rewrite("m.safetensors", ["w=ones"], "m.pt")

    assert str(refused.value) == "'m.pt' cannot hold 'q', of dtype F4"


def test_metadata_that_a_torch_file_cannot_hold_is_told() -> None:
    _source()

    outcome = rewrite("m.safetensors", ["a.bias=zeros"], "m.pt")

    assert outcome.job.plan.warnings == (
        "the metadata of m.safetensors is not carried along: author",
    )


@pytest.mark.parametrize(
    "name", [name for name in DTYPES if name not in ("complex32", "complex128")]
)
def test_every_dtype_that_can_be_filled_is(name: str) -> None:
    needs_safetensors(name)
    dtype = getattr(torch, name)
    save_file({"w": torch.zeros(3, 2).to(dtype), "x": torch.zeros(2)}, "m.safetensors")

    job = prepare(Request("m.safetensors", ("w=ones",), measure_before=True))
    filled = execute(job).filled["w"]

    assert load_file("m-reinit.safetensors")["w"].to(torch.complex64).eq(1).all()
    assert (filled.after.mean, filled.after.std) == (1, 0)
    assert filled.before is not None
    assert filled.before.mean == 0


def test_in_place_replaces_the_source_only_when_it_is_asked_to() -> None:
    _source()

    rewrite("m.safetensors", ["a.bias=zeros"], in_place=True)
    assert not load_file("m.safetensors")["a.bias"].any()

    for source, output in (("alexnet", None), ("m.safetensors", "x.safetensors")):
        with pytest.raises(OutputUnwritableError, match="in place means a file as source"):
            rewrite(source, ["*.bias=zeros"], output, in_place=True, weights=None)


def test_without_a_rule_there_is_nothing_to_do() -> None:
    _source()
    with pytest.raises(MissingRuleError):
        rewrite("m.safetensors", [])


def test_every_check_comes_before_the_first_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    _source()
    Path("out.safetensors").write_text("precious")
    monkeypatch.setattr(engine, "run", lambda *_: 1 / 0)

    with pytest.raises(OutputExistsError):
        prepare(Request("m.safetensors", ("a.*=zeros",), "out.safetensors", seed=3))
    assert Path("out.safetensors").read_text() == "precious"


def test_the_crc_of_what_is_copied_is_that_of_the_bytes() -> None:
    state = _source()

    rewrite("m.safetensors", ["a.bias=zeros"], "m.pt")

    from reinit_cli.checkpoints.formats.torch.files.archive import read_entries

    content = Path("m.pt").read_bytes()
    with InputFile("m.pt") as file:
        entries = read_entries(file)
    assert len(entries) > len(state)
    for entry in entries:
        data = content[entry.offset : entry.offset + entry.nbytes]
        assert entry.crc == zlib.crc32(data)


def test_a_large_tensor_has_the_same_values_in_a_stream_as_in_a_file() -> None:
    save_file({"w": torch.zeros(1000, 777), "x": torch.zeros(3)}, "m.safetensors")

    rewrite("m.safetensors", ["w=normal:std=1"], "file.safetensors", stream="torch")
    stream = io.BytesIO()
    request = Request("m.safetensors", ("w=normal:std=1",), "-", stream="torch-1")
    execute(prepare(request), stream=stream)

    generator = torch.Generator().manual_seed(seed_for(0, "w"))
    expected = torch.empty(1000, 777).normal_(0, 1, generator=generator)
    assert torch.equal(load_file("file.safetensors")["w"], expected)
    assert stream.getvalue() == Path("file.safetensors").read_bytes()
