"""Views in torch files: filled in the order of torch, box by box, and nothing between them lost."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from reinit_cli import rewrite, seed_for, verify
from reinit_cli.cli import main
from reinit_cli.tensors import moments, spans

VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "transposed": lambda base: base.t(),
    "columns": lambda base: base[:, :30],
    "columns, transposed": lambda base: base[:, 10:30].t(),
    "steps": lambda base: base[::2, ::3],
    "steps, transposed": lambda base: base[1::2, ::3].t(),
    "channels last": lambda base: base.view(4, 5, 8, 15).permute(0, 3, 1, 2),
    "cut out and permuted": lambda base: base.view(4, 5, 8, 15)[:, 1:, :, ::2].permute(3, 1, 0, 2),
}
NORMAL = ["w=normal:std=0.5"]


@pytest.fixture(params=[(2**24, 2**22, 2**12), (600, 200, 24), (100, 40, 0)], ids=str)
def _bounds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    box, span, gap = request.param
    monkeypatch.setattr(spans, "BOX_NBYTES", box)
    monkeypatch.setattr(spans, "LARGEST_BOX_NBYTES", box)
    monkeypatch.setattr(spans, "SPAN_NBYTES", span)
    monkeypatch.setattr(spans, "GAP_NBYTES", gap)


def _save(view: str, dtype: torch.dtype, *, is_zip: bool = True) -> torch.Tensor:
    base = torch.randn(40, 60, generator=torch.Generator().manual_seed(1)).to(dtype)
    state = {"w": VIEWS[view](base), "rest": torch.arange(7.0)}
    torch.save(state, "m.pt", _use_new_zipfile_serialization=is_zip)
    return torch.load("m.pt")["w"]


def _expected(before: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return a view of a storage in which torch has written values."""
    storage = before.untyped_storage().clone()
    view = torch.empty(0, dtype=before.dtype).set_(
        storage, before.storage_offset(), before.shape, before.stride()
    )
    return view.copy_(values)


def _assert_alike(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.stride() == expected.stride()
    assert torch.equal(found, expected)
    assert bytes(found.untyped_storage()) == bytes(expected.untyped_storage())


@pytest.mark.usefixtures("_bounds")
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_filled_as_torch_fills_it_and_its_storage_keeps_the_rest(
    view: str, dtype: torch.dtype, *, is_zip: bool
) -> None:
    before = _save(view, dtype, is_zip=is_zip)
    drawing = torch.float64 if dtype == torch.float64 else torch.float32
    generator = torch.Generator().manual_seed(seed_for(3, "w"))
    drawn = torch.empty(before.shape, dtype=drawing).normal_(0, 0.5, generator=generator)

    rewrite("m.pt", NORMAL, "out.pt", seed=3, record=is_zip, stream="torch")

    state = torch.load("out.pt")
    _assert_alike(state["w"], _expected(before, drawn.to(dtype)))
    assert torch.equal(state["rest"], torch.arange(7.0))
    if is_zip:
        with zipfile.ZipFile("out.pt") as archive:
            assert archive.testzip() is None
        assert verify("out.pt").findings == ()
        assert verify("out.pt", source="m.pt").findings == ()


@pytest.mark.usefixtures("_bounds")
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_changed_in_its_own_order(view: str) -> None:
    before = _save(view, torch.float32)

    rewrite("m.pt", ["w=scale:0.5"], "out.pt")

    _assert_alike(torch.load("out.pt")["w"], _expected(before, before * 0.5))


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("view", VIEWS)
def test_a_pipe_gets_the_same_bytes_as_a_file(
    view: str, capfdbinary: pytest.CaptureFixture[bytes], *, is_zip: bool
) -> None:
    _save(view, torch.float32, is_zip=is_zip)
    rewrite("m.pt", NORMAL, "out.pt")

    assert main(["m.pt", "-r", *NORMAL, "-o", "-"]) == 0

    assert capfdbinary.readouterr().out == Path("out.pt").read_bytes()


@pytest.mark.parametrize("view", ["columns", "steps, transposed"])
def test_what_is_changed_between_the_elements_of_a_view_is_found(view: str) -> None:
    before = _save(view, torch.float32)
    rewrite("m.pt", NORMAL, "out.pt", record=True)
    data = bytearray(Path("out.pt").read_bytes())
    gap = before.untyped_storage()[4 * 31 : 4 * 32] if view == "columns" else None
    gap = bytes(gap) if gap is not None else bytes(before.untyped_storage()[4 * 61 : 4 * 62])
    data[data.index(gap)] ^= 1
    Path("out.pt").write_bytes(data)

    findings = verify("out.pt", source="m.pt").findings

    assert findings


def test_a_storage_that_is_longer_than_a_block_is_drawn_in_order() -> None:
    """Boxes take elements of blocks that are drawn together, wherever these end."""
    numel = moments.BLOCK_NUMEL + 1000
    base = torch.zeros(numel // 100, 100)
    torch.save({"w": base.t()}, "m.pt")
    generator = torch.Generator().manual_seed(seed_for(0, "w"))

    rewrite("m.pt", ["w=normal"], "out.pt", stream="torch")

    expected = torch.empty(base.t().shape).normal_(generator=generator)
    assert torch.equal(torch.load("out.pt")["w"], expected)
