"""Ties and overlaps of tensors are found; views of torch are the oracle."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from reinit_cli.tensors.dtype import DTYPES
from reinit_cli.tensors.info import TensorInfo, overlapping, tied_groups
from reinit_cli.tensors.live import infos_of
from tests.tools import needs_torch

COUNT = torch.arange(24).view(6, 4)
"""Every element is its own place in the storage."""

VIEWS = {
    "all": COUNT,
    "rows": COUNT[2:5],
    "a row": COUNT[3],
    "columns": COUNT[:, 1:3],
    "a column": COUNT[:, 2],
    "transposed": COUNT.T,
    "transposed part": COUNT[1:3, 1:].T,
    "every other": COUNT.view(-1)[1::2],
    "every other of both": COUNT[::2, ::3],
    "flat": COUNT.view(-1)[5:17],
    "three dimensions": COUNT.view(2, 3, 4).permute(2, 0, 1)[1:],
    "the diagonal": COUNT.diagonal(),
    "one element": COUNT[2:3, 3:4],
    "a scalar": COUNT[5, 3],
    "expanded": COUNT[1:2].expand(3, 4),
    "expanded to one": COUNT[1:2, 1:2].expand(1, 1),
    "a new dimension": COUNT[:, None],
    "windows": COUNT.view(-1).unfold(0, 4, 2),
    "windows side by side": COUNT.view(-1).unfold(0, 4, 4),
}


def _info(tensor: torch.Tensor) -> TensorInfo:
    (info,) = infos_of({"w": tensor})
    return info


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_an_extent_spans_the_bytes_of_all_elements(view: torch.Tensor) -> None:
    info = _info(view)

    assert info.extent == (int(view.min()) * 8, (int(view.max()) + 1) * 8)
    assert info.numel == view.numel()
    assert info.nbytes == view.numel() * 8


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_tensor_overlaps_itself_where_two_elements_lie_in_one_place(view: torch.Tensor) -> None:
    assert _info(view).overlaps_itself == (view.unique().numel() < view.numel())


@pytest.mark.parametrize(
    ("dtype", "itemsize"),
    [(torch.float64, 8), (torch.float16, 2), (torch.uint8, 1), (torch.complex64, 8)],
    ids=str,
)
def test_an_extent_counts_in_bytes_of_the_dtype(dtype: torch.dtype, itemsize: int) -> None:
    base = torch.zeros(10, 4, dtype=dtype)

    assert _info(base[2:5]).extent == (8 * itemsize, 20 * itemsize)


def test_a_tensor_of_a_file_without_strides_is_contiguous() -> None:
    info = TensorInfo("w", "bfloat16", (3, 5), 30, storage="file", offset=4)

    assert info.extent == (8, 38)
    assert not info.overlaps_itself


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), max_size=3), st.integers(0, 5))
def test_no_overlap_within_a_tensor_is_missed(dims: list[tuple[int, int]], offset: int) -> None:
    """Strides that torch would not build may be called overlapping though they are not."""
    shape, stride = tuple(dim for dim, _ in dims), tuple(step for _, step in dims)
    view = torch.arange(100).as_strided(shape, stride, offset)
    info = _info(view)

    if view.unique().numel() < view.numel():
        assert info.overlaps_itself
    if not view.numel():
        assert not info.overlaps_itself
    else:
        assert info.extent == (int(view.min()) * 8, (int(view.max()) + 1) * 8)


@pytest.mark.parametrize(
    "empty",
    [torch.zeros(0, 4), torch.zeros(4, 0), torch.zeros(1, 1).expand(0, 4), torch.zeros(0)],
    ids=["no rows", "no columns", "expanded to none", "flat"],
)
def test_an_empty_tensor_has_nothing_to_overlap(empty: torch.Tensor) -> None:
    info = _info(empty)

    assert not info.overlaps_itself
    assert info.numel == info.nbytes == 0
    start, end = info.extent
    assert start == end
    infos = infos_of({"a": empty, "b": empty})
    assert tied_groups(infos) == overlapping(infos) == {}


# --- ties --------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", pytest.param("meta", marks=pytest.mark.slow)])
def test_keys_of_one_parameter_are_tied_by_code_point(device: str) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 5, bias=False, device=device)
            self.Embed = nn.Embedding(5, 3, device=device)
            self.Embed.weight = self.head.weight
            self.außen = self.head
            self.other = nn.Linear(3, 5, bias=False, device=device)

    keys = ("Embed.weight", "außen.weight", "head.weight")
    infos = infos_of(Tied().state_dict())

    assert tied_groups(infos) == dict.fromkeys(keys, keys)
    assert overlapping(infos) == {}


W = torch.zeros(4, 4)
PAIRS = {
    "itself": (W, W, "tied"),
    "a detached copy of its handle": (W, nn.Parameter(W), "tied"),
    "a view that is the whole": (W, W[:], "tied"),
    "twice transposed": (W, W.T.T, "tied"),
    "equal values elsewhere": (W, W.clone(), ""),
    "transposed": (W, W.T, "meet"),
    "flat": (W, W.view(-1), "meet"),
    "the same bytes as integers": (W, W.view(torch.int32), "meet"),
    "its first half as halves": (W[2:], W[:2].view(torch.float16), ""),
    "its first half as doubles": (W[1:], W[:2].view(torch.float64), "meet"),
    "halves": (W[:2], W[2:], ""),
    "quarters that lie side by side": (W[:, :2], W[:, 2:], "meet"),
    "one row in common": (W[:3], W[2:], "meet"),
    "one element in common": (W.view(-1)[:8], W.view(-1)[7:], "meet"),
    "a part": (W, W[1, 1:3], "meet"),
    "nothing of it": (W, W[:0], ""),
}


@pytest.mark.parametrize(("first", "second", "expected"), PAIRS.values(), ids=PAIRS)
def test_two_tensors_are_one_or_meet_or_are_independent(
    first: torch.Tensor, second: torch.Tensor, expected: str
) -> None:
    for infos in (infos_of({"a": first, "b": second}), infos_of({"b": first, "a": second})):
        assert tied_groups(infos) == (
            {"a": ("a", "b"), "b": ("a", "b")} if expected == "tied" else {}
        )
        assert overlapping(infos) == (
            {"a": "it shares memory with 'b'", "b": "it shares memory with 'a'"}
            if expected == "meet"
            else {}
        )


def test_tensors_of_no_storage_share_nothing() -> None:
    infos = (TensorInfo("a", "float32", (2,), 8), TensorInfo("b", "float32", (2,), 8))

    assert tied_groups(infos) == overlapping(infos) == {}


def test_stride_zero_is_the_first_reason_of_an_overlap() -> None:
    base = torch.zeros(4)
    infos = infos_of({"a": base[:1].expand(3), "b": base})

    assert overlapping(infos) == {
        "a": "its elements overlap in memory",
        "b": "it shares memory with 'a'",
    }


def test_a_tensor_that_cannot_be_filled_is_met_too() -> None:
    needs_torch("2.7", "float8_e8m0fnu is a dtype")
    base = torch.zeros(8, dtype=torch.uint8)
    infos = infos_of({"scale": base.view(torch.float8_e8m0fnu), "w": base})

    assert overlapping(infos)["w"] == "it shares memory with 'scale'"


def _views() -> st.SearchStrategy[torch.Tensor]:
    def cut(bounds: tuple[int, int]) -> slice:
        return slice(min(bounds), max(bounds) + 1)

    ends = st.tuples(st.integers(0, 23), st.integers(0, 23)).map(cut)
    rows = st.tuples(st.integers(0, 5), st.integers(0, 5)).map(cut)
    columns = st.tuples(st.integers(0, 3), st.integers(0, 3)).map(cut)
    return (
        ends.map(lambda at: COUNT.view(-1)[at])
        | rows.map(lambda at: COUNT[at])
        | st.tuples(rows, columns).map(lambda at: COUNT[at])
        | st.tuples(rows, columns).map(lambda at: COUNT[at].T)
    )


@given(st.lists(_views(), min_size=1, max_size=7))
def test_tensors_that_nothing_is_said_of_share_no_element(views: list[torch.Tensor]) -> None:
    state = {f"k{at}": view for at, view in enumerate(views)}
    infos = infos_of(state)
    ties, meets = tied_groups(infos), overlapping(infos)

    for (a, first), (b, second) in combinations(state.items(), 2):
        is_one = (first.shape, first.stride(), first.storage_offset()) == (
            second.shape,
            second.stride(),
            second.storage_offset(),
        )
        assert (b in ties.get(a, ())) == (a in ties.get(b, ())) == is_one
        if set(first.flatten().tolist()) & set(second.flatten().tolist()) and not is_one:
            assert {*ties.get(a, (a,))} & meets.keys()
            assert {*ties.get(b, (b,))} & meets.keys()


@given(st.lists(_views(), min_size=1, max_size=7))
def test_nothing_is_said_of_tensors_whose_extents_meet_no_other(views: list[torch.Tensor]) -> None:
    infos = infos_of({f"k{at}": view for at, view in enumerate(views)})
    ties = tied_groups(infos)

    for key in overlapping(infos):
        (mine,) = (info.extent for info in infos if info.key == key)
        others = [info for info in infos if info.key not in ties.get(key, (key,))]
        assert any(mine[0] < other.extent[1] and other.extent[0] < mine[1] for other in others)


# --- what a live tensor is known as --------------------------------------------------------------


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_is_known_by_torch_s_name_and_size(name: str) -> None:
    tensor = torch.empty(2, 3, dtype=getattr(torch, name))
    info = _info(tensor)

    assert (info.dtype, info.shape, info.stride, info.offset) == (name, (2, 3), (3, 1), 0)
    assert info.nbytes == 6 * tensor.element_size()
    assert info.extent == (0, info.nbytes)
    assert info.carried is None
    assert info.fillable_dtype is DTYPES[name]


@pytest.mark.parametrize(
    "name", ["float8_e8m0fnu", "float4_e2m1fn_x2"], ids=["float8_e8m0fnu", "float4"]
)
def test_a_dtype_of_scales_is_carried(name: str) -> None:
    needs_torch("2.8", f"{name} is a dtype")
    info = _info(torch.empty(4, dtype=getattr(torch, name)))

    assert (info.dtype, info.nbytes, info.fillable_dtype) == (name, 4, None)


CARRIED = {
    "sparse": (torch.eye(2).to_sparse(), "float32", "a sparse_coo tensor"),
    "a number": (3, "int", "not a tensor but a int"),
    "nothing": (None, "NoneType", "not a tensor but a NoneType"),
    "extra state": ({"a": torch.zeros(2)}, "dict", "not a tensor but a dict"),
    "bytes": (b"ab", "bytes", "not a tensor but a bytes"),
}


@pytest.mark.parametrize(("value", "dtype", "carried"), CARRIED.values(), ids=CARRIED)
def test_entries_that_are_not_plain_tensors_are_carried(
    value: object, dtype: str, carried: str
) -> None:
    (info,) = infos_of({"x": value})

    assert (info.key, info.dtype, info.carried) == ("x", dtype, carried)
    assert info.fillable_dtype is None
    assert tied_groups((info, info)) == overlapping((info, info)) == {}


def test_entries_keep_their_order() -> None:
    state = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).state_dict()

    infos = infos_of(state)

    assert [info.key for info in infos] == list(state)
    assert [info.shape for info in infos] == [tuple(each.shape) for each in state.values()]
    assert [info.numel for info in infos] == [math.prod(each.shape) for each in state.values()]
