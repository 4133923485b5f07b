"""Differences between two sources are reported tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from reinit_cli import rewrite
from reinit_cli.checkpoints.find import find_source
from reinit_cli.operations.diff import compare, compare_keys
from reinit_cli.operations.difference import Difference
from reinit_cli.tensors.distance import Tolerance
from tests.tools import needs_safetensors


def _compare(first: str, second: str, rtol: float = 0.0, atol: float = 0.0) -> list[Difference]:
    sources = find_source(first), find_source(second)
    return compare(*sources, lambda _: True, Tolerance(rtol, atol), 0, lambda _: None)


def _changes(found: Sequence[Difference]) -> dict[str, str]:
    return {each.key: each.change for each in found if each.change != "same"}


def _state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {
        "a.weight": torch.randn(300, 1000, generator=generator),
        "b.weight": torch.randn(20, 30, generator=generator),
        "b.steps": torch.tensor(3),
        "c.half": torch.randn(50, generator=generator).bfloat16(),
        "d.empty": torch.empty(0, 3),
    }


@pytest.fixture(autouse=True)
def files() -> None:
    state = _state()
    save_file(state, "m.safetensors")
    torch.save(state, "m.pt")
    torch.save({"state_dict": state, "epoch": 3}, "nested.pt", _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("other", ["m.pt", "nested.pt", "m.safetensors"])
def test_the_same_tensors_in_another_format_are_the_same(other: str) -> None:
    found = _compare("m.safetensors", other)

    assert len(found) == 5
    assert _changes(found) == {}


def test_a_folder_is_compared_with_a_file() -> None:
    rewrite("m.safetensors", [], "shards", shard_nbytes=2_000)

    assert _changes(_compare("shards/", "m.pt")) == {}


def test_a_rewritten_file_differs_in_what_the_rules_took_and_its_ties() -> None:
    state = _state()
    torch.save(state | {"tied": state["b.weight"]}, "t.pt")
    rewrite("t.pt", ["b.weight=normal", "c.*=zeros"], "new.pt")

    assert _changes(_compare("t.pt", "new.pt")) == dict.fromkeys(
        ("b.weight", "c.half", "tied"), "values"
    )


def test_added_removed_moved_reshaped_and_cast_tensors_are_reported() -> None:
    state = _state()
    new = {
        "a.moved": state["a.weight"],
        "b.weight": state["b.weight"].reshape(30, 20),
        "b.steps": state["b.steps"].int(),
        "c.half": state["c.half"],
        "e.added": torch.ones(2),
    }
    save_file(new, "new.safetensors")

    found = {each.key: each for each in _compare("m.pt", "new.safetensors")}

    assert {key: each.change for key, each in found.items()} == {
        "a.weight": "moved",
        "b.weight": "shape",
        "b.steps": "dtype",
        "c.half": "same",
        "d.empty": "removed",
        "e.added": "added",
    }
    moved = found["a.weight"].second
    assert moved is not None
    assert moved.key == "a.moved"
    keys = compare_keys(find_source("m.pt"), find_source("new.safetensors"), lambda _: True)
    assert {each.key for each in keys if each.change == "added"} == {"a.moved", "e.added"}


def test_distances_are_those_of_numpy() -> None:
    state = _state()
    before = state["a.weight"].clone()
    noise = torch.randn(300, 1000, generator=torch.Generator().manual_seed(9))
    state["a.weight"][:30] += 0.1 * noise[:30]
    save_file(state, "new.safetensors")

    (found,) = (each for each in _compare("m.pt", "new.safetensors") if each.change != "same")

    a, b = (each.double().numpy().ravel() for each in (before, state["a.weight"]))
    distance = found.distance
    assert distance is not None
    assert (found.change, distance.numel, distance.changed) == ("values", a.size, (a != b).sum())
    assert distance.max_abs == np.abs(b - a).max()
    assert distance.relative_l2 == pytest.approx(np.linalg.norm(b - a) / np.linalg.norm(a))
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert distance.cosine == pytest.approx(cosine, rel=1e-12)


def test_values_are_compared_across_dtypes() -> None:
    state = _state()
    save_file({key: each.float() for key, each in state.items()}, "wide.safetensors")
    rewrite("m.pt", [], "narrow.safetensors", dtype="bfloat16")

    wide = {each.key: each for each in _compare("m.pt", "wide.safetensors")}
    narrow = {each.key: each for each in _compare("m.pt", "narrow.safetensors")}

    assert wide["c.half"].change == "dtype"
    assert wide["c.half"].distance is None  # every value is the same
    apart = narrow["a.weight"].distance
    assert apart is not None
    assert 0 < apart.relative_l2 < 2**-8


def test_a_view_is_compared_by_its_elements() -> None:
    base = torch.arange(600.0).reshape(20, 30)
    torch.save({"x": base.t(), "y": base[2:5, 3:]}, "views.pt")
    torch.save({"x": base.t().contiguous(), "y": base[2:5, 3:].clone() + 1}, "whole.pt")

    assert _changes(_compare("views.pt", "whole.pt")) == {"y": "values"}
    assert _changes(_compare("views.pt", "views.pt")) == {}


@pytest.mark.parametrize(("rtol", "atol"), [(0, 0.02), (0.01, 0), (0.001, 0.001), (1e-5, 1e-8)])
def test_a_tolerance_is_that_of_numpy(rtol: float, atol: float) -> None:
    generator = torch.Generator().manual_seed(4)
    a = torch.randn(5000, generator=generator)
    b = a * (1 + 0.01 * torch.randn(5000, generator=generator))
    a[:6] = torch.tensor([math.nan, math.nan, math.inf, math.inf, 0.0, 1.0])
    b[:6] = torch.tensor([math.nan, 1.0, math.inf, -math.inf, -0.0, 1.0])
    save_file({"x": a}, "a.safetensors")
    save_file({"x": b}, "b.safetensors")

    (found,) = _compare("a.safetensors", "b.safetensors", rtol, atol)

    far = ~np.isclose(a.double().numpy(), b.double().numpy(), rtol, atol, equal_nan=True)
    assert found.distance is not None
    assert found.distance.changed == far.sum() > 0
    assert found.distance.max_abs == math.inf
    assert found.distance.relative_l2 < 0.1  # of the finite ones


def test_within_the_tolerance_all_is_the_same() -> None:
    save_file({"x": torch.ones(3)}, "a.safetensors")
    save_file({"x": torch.ones(3) * 1.0001}, "b.safetensors")

    assert _changes(_compare("a.safetensors", "b.safetensors")) == {"x": "values"}
    assert _changes(_compare("a.safetensors", "b.safetensors", rtol=1e-3)) == {}


def test_other_bits_of_equal_values_are_reported_unless_there_is_a_tolerance() -> None:
    save_file({"x": torch.tensor([0.0, 1.0])}, "a.safetensors")
    save_file({"x": torch.tensor([-0.0, 1.0])}, "b.safetensors")

    assert _changes(_compare("a.safetensors", "b.safetensors")) == {"x": "bits"}
    assert _changes(_compare("a.safetensors", "b.safetensors", atol=1e-9)) == {}


def test_entries_that_are_not_plain_tensors_are_not_compared() -> None:
    torch.save({"s": torch.eye(3).to_sparse(), "n": 3, "w": torch.ones(2)}, "a.pt")
    torch.save({"s": torch.eye(3).to_sparse() * 2, "n": "x", "w": torch.ones(2)}, "b.pt")

    found = _compare("a.pt", "b.pt")

    assert _changes(found) == {"s": "unknown", "n": "dtype"}
    assert [each.differs for each in found] == [False, True, False]


def test_a_source_that_changes_meanwhile_is_an_error() -> None:
    from reinit_cli.errors import SourceChangedError

    sources = find_source("m.pt"), find_source("m.safetensors")
    Path("m.pt").write_bytes(b"")
    with pytest.raises(SourceChangedError):
        compare(*sources, lambda _: True, Tolerance(), 0, lambda _: None)


def test_tensors_that_are_alike_have_moved_to_the_key_most_like_theirs() -> None:
    torch.save({f"enc.{name}.bias": torch.zeros(3) for name in "ab"}, "old.pt")
    torch.save({f"model.enc.{name}.bias": torch.zeros(3) for name in "cba"}, "new.pt")

    found = _compare("old.pt", "new.pt")

    moves = {each.key: each.second.key for each in found if each.second and each.first}
    assert moves == {f"enc.{name}.bias": f"model.enc.{name}.bias" for name in "ab"}
    assert _changes(found)["model.enc.c.bias"] == "added"


def test_large_integers_differ_where_float64_rounds_them() -> None:
    save_file({"a": torch.tensor([2**62, 1])}, "one.safetensors")
    save_file({"a": torch.tensor([2**62 + 1, 1])}, "two.safetensors")

    (found,) = _compare("one.safetensors", "two.safetensors")

    assert found.change == "values"
    assert found.distance is not None
    assert found.distance.changed == 1


LIMITS = [
    (2**62, 2**62 + 1),
    (-(2**63), 2**63 - 1),
    (2**63 - 1, -(2**63)),
    (-(2**53) - 1, -(2**53)),
]


@pytest.mark.parametrize(("one", "two"), LIMITS)
def test_the_largest_difference_of_integers_is_that_of_python(one: int, two: int) -> None:
    save_file({"a": torch.tensor([one, 5, 7])}, "one.safetensors")
    save_file({"a": torch.tensor([two, 5, 7])}, "two.safetensors")

    (found,) = _compare("one.safetensors", "two.safetensors")
    (close,) = _compare("one.safetensors", "two.safetensors", atol=float(abs(two - one)))

    assert found.distance is not None
    assert found.distance.max_abs == float(abs(two - one))
    assert close.change == "same"


def test_views_that_lie_alike_are_compared_as_they_lie() -> None:
    weight = torch.randn(30, 20)
    torch.save({"a": weight.t(), "b": torch.arange(20.0)[::2]}, "one.pt")
    gaps = torch.arange(20.0)
    gaps[1::2] = 0
    other = weight.clone()
    other[2, 3] += 1
    torch.save({"a": other.t(), "b": gaps[::2]}, "two.pt")

    found = _compare("one.pt", "two.pt")

    assert _changes(found) == {"a": "values"}
    assert found[0].distance is not None
    assert found[0].distance.changed == 1


def test_a_complex_tensor_is_compared_with_a_real_one() -> None:
    needs_safetensors("complex64")
    save_file({"x": torch.tensor([1.0, 2.0])}, "real.safetensors")
    save_file({"x": torch.tensor([1 + 0j, 2 + 1j])}, "complex.safetensors")

    (found,) = _compare("real.safetensors", "complex.safetensors")

    assert found.change == "dtype"
    assert found.distance is not None
    assert (found.distance.changed, found.distance.max_abs) == (1, 1.0)
