"""A tensor in a file of torch gets another dtype, shape or storage, and nothing else changes."""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from reinit_cli.checkpoints.formats.torch.edits import span_machine
from reinit_cli.checkpoints.formats.torch.edits.pickle_edits import edited
from reinit_cli.checkpoints.formats.torch.edits.replacements import Changed, Replacement
from reinit_cli.checkpoints.formats.torch.edits.span_machine import read_spans
from reinit_cli.checkpoints.formats.torch.edits.tensor_edits import changed_tensor
from reinit_cli.checkpoints.formats.torch.pickles.budget import MAX_WORK, Budget
from reinit_cli.checkpoints.formats.torch.pickles.machine import read_pickle
from reinit_cli.checkpoints.formats.torch.pickles.tensor_call import Span
from reinit_cli.storage.local import InputFile
from reinit_cli.storage.segments import Copy, Literal
from reinit_cli.tensors.dtype import DTYPES
from reinit_cli.tensors.info import TensorInfo


def _saved(value: Any, protocol: int) -> tuple[bytes, dict[str, bytes]]:
    """Save an object; return its pickle, and the storages by key."""
    buffer = io.BytesIO()
    torch.save(value, buffer, pickle_protocol=protocol)
    with zipfile.ZipFile(buffer) as archive:
        found = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    storages = {
        name.removeprefix("data/"): data for name, data in found.items() if name.startswith("data/")
    }
    return found["data.pkl"], storages


def _loaded(data: bytes, storages: dict[str, bytes], *, weights_only: bool) -> Any:
    """Load a pickle as torch does from an archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, each in {
            "data.pkl": data,
            "byteorder": b"little",
            "version": b"3\n",
            **{f"data/{key}": each for key, each in storages.items()},
        }.items():
            archive.writestr(f"archive/{name}", each)
    buffer.seek(0)
    return torch.load(buffer, weights_only=weights_only)


def _info(dtype: str, shape: tuple[int, ...], storage: str) -> TensorInfo:
    nbytes = DTYPES[dtype].nbits // 8 * torch.Size(shape).numel()
    return TensorInfo("w", dtype, shape, nbytes, storage)


def _with(
    data: bytes, changes: Callable[[Any, Any], Mapping[Span, Replacement]]
) -> tuple[bytes, list[Span]]:
    """Edit a pickle; return it, and the spans that no edit touched."""
    Path("x.pkl").write_bytes(data)
    with InputFile("x.pkl") as file:
        spans = read_spans(file, 0, len(data), Budget(file.path))
        replacements = changes(spans, spans.top)
        segments = edited(file, 0, len(data), spans, replacements)
        out = b""
        for each in segments:
            assert isinstance(each, (Copy, Literal))
            is_bytes = isinstance(each, Literal)
            out += each.data if is_bytes else file.read(each.offset, each.nbytes)
    return out, sorted(replacements)


def _first(info: TensorInfo) -> Callable[[Any, Any], dict[Span, Changed]]:
    """Change the first value of a dictionary."""

    def changes(spans: Any, top: Any) -> dict[Span, Changed]:
        return {spans.pairs(top)[0].value: changed_tensor(spans, top.pairs[1], info)}

    return changes


PROTOCOLS = (2, 4)


@pytest.mark.parametrize("after", DTYPES)
@pytest.mark.parametrize("before", ["float32", "uint16"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_tensor_gets_any_dtype_and_shape(protocol: int, before: str, after: str) -> None:
    kept = torch.arange(6).to(getattr(torch, before))
    value = OrderedDict(w=torch.zeros(2, 3, dtype=getattr(torch, before)), kept=kept, epoch=3)
    data, storages = _saved(value, protocol)
    new = torch.ones(5, 4, 3, 2, dtype=torch.uint8).to(getattr(torch, after))

    found, _ = _with(data, _first(_info(after, (5, 4, 3, 2), "7")))

    storages["7"] = bytes(new.untyped_storage())
    for weights_only in {protocol == 2, False}:
        loaded = _loaded(found, storages, weights_only=weights_only)
        assert loaded["w"].dtype == new.dtype
        assert loaded["w"].shape == new.shape
        assert loaded["w"].stride() == new.stride()
        assert bytes(loaded["w"].untyped_storage()) == bytes(new.untyped_storage())
        assert torch.equal(loaded["kept"].view(torch.uint8), kept.view(torch.uint8))
        assert list(loaded) == ["w", "kept", "epoch"]
        assert loaded["epoch"] == 3
    if protocol == 2:
        pickletools.dis(found, io.StringIO())


def test_what_stays_keeps_its_bytes_and_what_changes_is_written_in_its_place() -> None:
    value = {"w": torch.zeros(2, 3), "other": torch.ones(4), "notes": ["a", {"b": 1}]}
    data, _ = _saved(value, 2)

    found, (span,) = _with(data, _first(_info("float32", (2, 5), "0")))

    start, end = span
    assert found[:start] == data[:start]
    assert found.endswith(data[end:])
    assert len(found) == len(data)
    assert found.index(b"K\x02K\x05\x86") > start


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_who_shares_a_tensor_outside_keeps_the_old_one(protocol: int) -> None:
    shared = torch.arange(6.0).view(2, 3)
    value = {"w": shared, "ema": {"w": shared, "v": shared}, "view": shared[0]}
    data, storages = _saved(value, protocol)

    found, _ = _with(data, _first(_info("bfloat16", (2, 3), "5")))

    loaded = _loaded(found, storages | {"5": bytes(12)}, weights_only=False)
    assert loaded["w"].dtype == torch.bfloat16
    assert torch.equal(loaded["ema"]["w"], shared)
    assert loaded["ema"]["w"] is loaded["ema"]["v"]
    assert torch.equal(loaded["view"], shared[0])
    assert loaded["view"].untyped_storage().data_ptr() == loaded["ema"]["w"].data_ptr()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_one_object_under_two_keys_stays_one_object(protocol: int) -> None:
    shared = torch.nn.Parameter(torch.zeros(2, 3))
    value = {"w": shared, "between": torch.ones(2), "tied": shared, "data": shared.data}
    data, storages = _saved(value, protocol)
    info = _info("float16", (4,), "9")

    def changes(spans: Any, top: Any) -> dict[Span, Changed]:
        pairs = spans.pairs(top)
        return {
            pairs[at].value: changed_tensor(spans, top.pairs[2 * at + 1], info) for at in (0, 2)
        }

    found, _ = _with(data, changes)

    loaded = _loaded(found, storages | {"9": bytes(8)}, weights_only=False)
    assert loaded["w"] is loaded["tied"]
    assert isinstance(loaded["w"], torch.nn.Parameter)
    assert (loaded["w"].dtype, loaded["w"].shape) == (torch.float16, (4,))
    assert torch.equal(loaded["data"], torch.zeros(2, 3))


def _with_state() -> torch.nn.Parameter:
    parameter = torch.nn.Parameter(torch.zeros(2, 3), requires_grad=False)
    parameter.tag = "kept"
    return parameter


def _typed() -> torch.Tensor:
    tensor = torch.zeros(2, 3)
    tensor.tag = "kept"
    return tensor


@pytest.mark.parametrize("make", [_with_state, _typed, lambda: torch.nn.Buffer(torch.zeros(2, 3))])
@pytest.mark.parametrize("dtype", ["float64", "uint16"])
def test_what_wraps_a_tensor_stays(make: Callable[[], torch.Tensor], dtype: str) -> None:
    was = make()
    data, storages = _saved({"w": was}, 2)

    found, _ = _with(data, _first(_info(dtype, (1,), "0")))

    loaded = _loaded(
        found, storages | {"0": bytes(8 if dtype == "float64" else 2)}, weights_only=False
    )["w"]
    assert type(loaded) is type(was)
    assert loaded.dtype == getattr(torch, dtype)
    assert loaded.shape == (1,)
    assert loaded.requires_grad == was.requires_grad
    assert loaded.__dict__ == was.__dict__


def test_a_view_of_a_transposed_tensor_becomes_a_contiguous_one_of_its_own() -> None:
    base = torch.arange(12.0).view(3, 4)
    data, storages = _saved({"w": base.t()[1:], "base": base}, 2)

    found, _ = _with(data, _first(_info("float32", (3, 3), "1")))

    loaded = _loaded(found, storages | {"1": bytes(36)}, weights_only=True)
    assert loaded["w"].is_contiguous()
    assert loaded["w"].storage_offset() == 0
    assert torch.equal(loaded["base"], base)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_tensor_that_torch_writes_often_is_noted_as_its_opcodes_are(
    protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shortcut for the calls that torch writes changes nothing that is noted."""
    shared = torch.zeros(3)
    value = {f"key {at}": torch.zeros(at % 3 + 1, 2, 300) for at in range(90)}
    value |= {"one": shared, "two": shared, "view": shared[1:], "flat": torch.zeros(())}
    data, _ = _saved(value, protocol)
    Path("x.pkl").write_bytes(data)
    with InputFile("x.pkl") as file:
        fast = read_spans(file, 0, len(data), Budget(file.path))
        monkeypatch.setattr(span_machine, "call_as_written", lambda *_: None)
        slow = read_spans(file, 0, len(data), Budget(file.path))

        for name in ("at", "after", "key", "start", "end", "is_atom"):
            assert getattr(fast.events, name) == getattr(slow.events, name), name
        pairs = zip(fast.top.pairs[1::2], slow.top.pairs[1::2], strict=True)
        for one, other in pairs:
            assert fast.of(one) == slow.of(other)
            assert [*map(list, fast.call(one))] == [*map(list, slow.call(other))]


def test_a_file_reads_as_fast_after_entries_are_dropped_and_others_cast() -> None:
    """Holes in the memo and new names keep the shortcut for what torch writes."""
    value = {f"key {at}": torch.zeros(2, 3) for at in range(3000)}
    data, _ = _saved(value, 2)

    def changes(spans: Any, top: Any) -> dict[Span, Replacement]:
        pairs = spans.pairs(top)
        dropped = {span: b"" for pair in pairs[1000:2000] for span in pair.whole}
        cast = {
            pairs[at].value: changed_tensor(
                spans, top.pairs[2 * at + 1], _info("bfloat16", (2, 3), str(at))
            )
            for at in (*range(500, 1000), *range(2001, 3000, 2))
        }
        return dropped | cast

    found, _ = _with(data, changes)

    works = []
    for each in (data, found):
        Path("x.pkl").write_bytes(each)
        budget = Budget("x.pkl")
        with InputFile("x.pkl") as file:
            top = read_pickle(file, 0, len(each), budget).top
        works.append((MAX_WORK - budget.work) / (len(top.pairs) // 2))
    assert works[1] < 1.05 * works[0]
    assert len(found) < 0.75 * len(data)
    pickletools.dis(found, io.StringIO())
