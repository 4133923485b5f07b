"""Rules on parts of tensors: every element is as if its own rule had filled the whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from reinit_cli import apply_, plan, rewrite, verify
from reinit_cli.errors import ReinitError, TensorError
from reinit_cli.request.part import parted
from reinit_cli.tensors.regions import Region

STREAMS = ("torch", "philox")
DTYPES = ("float32", "float64", "bfloat16", "float16", "float8_e4m3fn", "int32", "bool")
State = dict[str, torch.Tensor]


def _noise(shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    """Return a tensor of any bits, NaNs of every kind included."""
    generator = torch.Generator().manual_seed(1)
    named = getattr(torch, dtype)
    nbytes = math.prod(shape) * named.itemsize
    high = 2 if dtype == "bool" else 256
    bits = torch.randint(0, high, (nbytes,), dtype=torch.uint8, generator=generator)
    return bits.view(named).view(shape)


def _bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def _whole(state: Mapping[str, torch.Tensor], rule: str, **options: Any) -> State:
    """Return a state in which a rule filled all of its tensor."""
    filled = {key: tensor.clone() for key, tensor in state.items()}
    apply_(filled, rule, **options)
    return filled


def _index(text: str) -> Any:
    """Return what torch takes for a part of slices."""
    words = [word.strip() for word in text.split(",")]
    return tuple(
        slice(*(int(each) if each else None for each in word.split(":"))) for word in words
    )


PARTS = ("90:", ":, :3", "::2", "10:20, 1:", "-3:", ":, ::3", "5:6", ":", "4:50:7, 2:7")
INITS = (
    "normal:std=0.02",
    "xavier_uniform",
    "orthogonal",
    "zeros",
    "trunc_normal:std=1",
    "sparse:0.5",
)


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_that_of_the_whole_draw_and_the_rest_stays(part: str, stream: str) -> None:
    state = {"w": torch.randn(100, 9), "other": torch.randn(4)}
    for init in INITS:
        filled = {key: tensor.clone() for key, tensor in state.items()}

        apply_(filled, f"w[{part}]={init}", stream=stream)

        expected = state["w"].clone()
        expected[_index(part)] = _whole(state, f"w={init}", stream=stream)["w"][_index(part)]
        assert torch.equal(filled["w"], expected), init
        assert torch.equal(filled["other"], state["other"])


@pytest.mark.parametrize("stream", STREAMS)
def test_a_large_tensor_is_filled_in_part_as_a_small_one_is(stream: str) -> None:
    state = {"w": torch.randn(700, 1001)}  # three blocks, whose ends lie within rows
    rules = ("w[:, 7:400]=normal:std=2", "w[300:310]=uniform", "w[::3, ::2]=scale:3")
    filled = {"w": state["w"].clone()}

    apply_(filled, rules, stream=stream)

    expected = state["w"].clone()
    for rule in rules:
        pattern, _, init = rule.partition("=")
        index = _index(pattern[2:-1])
        expected[index] = _whole(state, f"w={init}", stream=stream)["w"][index]
    assert torch.equal(filled["w"], expected)


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_no_rule_covers_keeps_every_bit_in_every_dtype_and_format(
    tmp_path: Path, dtype: str, stream: str
) -> None:
    state = {"w": _noise((40, 6), dtype)}
    save_file(state, tmp_path / "m.safetensors")
    torch.save(state, tmp_path / "m.pt")
    expected = state["w"].clone()
    expected[10:12, 2:] = 1
    for source in ("m.safetensors", "m.pt"):
        for output in ("o.safetensors", "o.pt"):
            to = tmp_path / output
            rewrite(str(tmp_path / source), "w[10:12, 2:]=ones", str(to), force=True, stream=stream)
            found = load_file(to) if output == "o.safetensors" else torch.load(to)
            assert _bits(found["w"]) == _bits(expected)


def test_a_strided_tensor_is_filled_in_part_where_it_lies(tmp_path: Path) -> None:
    base = torch.randn(30, 20)
    state = {"t": base.t(), "gaps": torch.randn(12, 8)[::2, ::2], "tied": base.t()}
    torch.save(state, tmp_path / "m.pt")

    rewrite(str(tmp_path / "m.pt"), ["t[3:5]=zeros", "gaps[:, 1/4]=ones"], str(tmp_path / "o.pt"))

    found = torch.load(tmp_path / "o.pt")
    expected = {key: tensor.clone() for key, tensor in state.items()}
    expected["t"][3:5] = 0
    expected["gaps"][:, 1:2] = 1
    assert torch.equal(found["t"], expected["t"])
    assert torch.equal(found["tied"], expected["t"])
    assert torch.equal(found["gaps"], expected["gaps"])
    assert found["t"].stride() == state["t"].stride()


@pytest.mark.parametrize("stream", STREAMS)
def test_a_cast_rounds_what_stays_once_and_a_change_after_it(tmp_path: Path, stream: str) -> None:
    state = {"w": torch.randn(64, 5)}
    save_file(state, tmp_path / "m.safetensors")
    rules = ["w[:8]=scale:0.3", "w[8:16]=normal:std=0.1"]
    options: dict[str, Any] = {"dtype": "bfloat16", "force": True, "stream": stream}

    def made(*rules: str) -> torch.Tensor:
        to = tmp_path / "o.safetensors"
        rewrite(str(tmp_path / "m.safetensors"), list(rules), str(to), **options)
        return load_file(to)["w"]

    expected = state["w"].bfloat16()
    expected[:8] = made("w=scale:0.3")[:8]
    expected[8:16] = made("w=normal:std=0.1")[8:16]
    assert _bits(made(*rules)) == _bits(expected)


def test_a_cast_that_loses_a_number_is_refused_only_where_it_stays(tmp_path: Path) -> None:
    state = {"w": torch.tensor([[1e10, 1.0], [2.0, 3.0]])}
    save_file(state, tmp_path / "m.safetensors")
    source, to = str(tmp_path / "m.safetensors"), str(tmp_path / "o.safetensors")

    rewrite(source, "w[:1]=zeros", to, dtype="float16")

    assert load_file(to)["w"].tolist() == [[0, 0], [2, 3]]
    with pytest.raises(TensorError, match="infinite"):
        rewrite(source, "w[1:]=zeros", to, dtype="float16", force=True)


@pytest.mark.parametrize("stream", STREAMS)
def test_new_rows_are_filled_by_a_rule_on_them(tmp_path: Path, stream: str) -> None:
    state = {"embed.weight": torch.randn(50, 4)}
    save_file(state, tmp_path / "m.safetensors")
    to = tmp_path / "o.safetensors"
    rules = ["embed.weight[50:]=normal:std=0.02", "embed.weight[3:4]=zeros"]

    rewrite(
        str(tmp_path / "m.safetensors"), rules, str(to), resize="embed.weight=60", stream=stream
    )

    found = load_file(to)["embed.weight"]
    whole = _whole(
        {"embed.weight": torch.zeros(60, 4)}, "embed.weight=normal:std=0.02", stream=stream
    )
    expected = torch.cat((state["embed.weight"], whole["embed.weight"][50:]))
    expected[3] = 0
    assert torch.equal(found, expected)
    with pytest.raises(ReinitError, match="resized and transformed"):
        plan(
            str(tmp_path / "m.safetensors"),
            "embed.weight[:2]=scale:2",
            resize="embed.weight=60:mean",
        )


@pytest.mark.parametrize("stream", STREAMS)
def test_changes_of_a_part_are_those_of_the_whole(stream: str) -> None:
    state = {"w": torch.randn(200, 7)}
    state["w"][:, 3] = 0
    for init in (
        "scale:0.5",
        "noise:std=0.1",
        "noise:relative=0.1",
        "resample",
        "clamp:min=-0.5,max=0.5",
        "shrink_perturb:0.4,0.01",
        "normal:std=1,keep_zeros=true",
    ):
        filled = {"w": state["w"].clone()}
        apply_(filled, f"w[20:30, 2:]={init}", stream=stream)
        expected = state["w"].clone()
        expected[20:30, 2:] = _whole(state, f"w={init}", stream=stream)["w"][20:30, 2:]
        assert torch.equal(filled["w"], expected), init


@pytest.mark.parametrize("stream", STREAMS)
def test_a_part_is_rewound_to_another_checkpoint(tmp_path: Path, stream: str) -> None:
    state, then = {"w": torch.randn(20, 3)}, {"w": torch.randn(20, 3)}
    save_file(then, tmp_path / "then.safetensors")
    filled = {"w": state["w"].clone()}

    apply_(filled, f"w[5:9]=rewind:{tmp_path / 'then.safetensors'}", stream=stream)

    state["w"][5:9] = then["w"][5:9]
    assert torch.equal(filled["w"], state["w"])


@pytest.mark.parametrize("kind", ["bool", "uint8", "float32"])
@pytest.mark.parametrize("name", ["mask.safetensors", "mask.pt"])
def test_a_mask_says_which_elements_are_filled_or_kept(
    tmp_path: Path, name: str, kind: str
) -> None:
    state = {"w": torch.randn(300, 1000), "b": torch.randn(5)}
    mask = (torch.rand(300, 1000) < 0.3).to(getattr(torch, kind))
    path = tmp_path / name
    held = {"w": mask, "b": torch.ones(5)}
    (save_file if name.endswith("s") else torch.save)(held, path)
    filled = {key: tensor.clone() for key, tensor in state.items()}

    decided = apply_(filled, {"w": "normal:std=3", f"w[mask={path}]": "keep"})

    drawn = _whole(state, "w=normal:std=3")["w"]
    assert torch.equal(filled["w"], torch.where(mask.bool(), state["w"], drawn))
    assert decided.steps[0].patches[0].tensor.numel == int(mask.sum())


def test_a_mask_of_other_numbers_is_refused(tmp_path: Path) -> None:
    state = {"w": torch.tensor([0.0, 1.0, 0.5])}
    save_file(state, tmp_path / "m.safetensors")

    with pytest.raises(TensorError, match="other values than 0 and 1"):
        plan(str(tmp_path / "m.safetensors"), f"w[mask={tmp_path / 'm.safetensors'}]=zeros")


@pytest.mark.parametrize("stream", STREAMS)
def test_draws_of_parts_are_measured_and_tested(tmp_path: Path, stream: str) -> None:
    save_file({"w": torch.full((100, 50), 7.0)}, tmp_path / "m.safetensors")
    rules = ["w=uniform:a=-1,b=1", "w[:50]=normal:std=0.02", "w[20:30]=zeros", "w[40:]=keep"]

    outcome = rewrite(
        str(tmp_path / "m.safetensors"),
        rules,
        str(tmp_path / "o.safetensors"),
        check=True,
        measure_before=True,
        stream=stream,
    )

    numels = {key: each.after.numel for key, each in outcome.filled.items()}
    assert numels == {"w": 0, "w[:50]": 1500, "w[20:30]": 500}
    std = outcome.filled["w[:50]"].after.std
    assert abs(std - 0.02) < 0.002
    before = outcome.filled["w[:50]"].before
    assert before is not None
    assert (before.numel, before.mean, before.std) == (1500, 7.0, 0.0)
    assert {each.test for each in outcome.findings["w[:50]"]} == {"mean", "std", "distribution"}
    assert all(each.passed for found in outcome.findings.values() for each in found)


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("name", ["o.safetensors", "o.pt"])
def test_a_record_verifies_parts_and_finds_what_changed(
    tmp_path: Path, name: str, stream: str
) -> None:
    save_file({"w": torch.randn(100, 50), "b": torch.randn(8)}, tmp_path / "m.safetensors")
    rules = ["w[50:]=normal:std=0.02", "w[:, :3]=scale:2", "w[60:61]=keep", "b[1/4]=ones"]
    source, to = str(tmp_path / "m.safetensors"), tmp_path / name
    rewrite(source, rules, str(to), record=True, stream=stream)

    assert verify(str(to)).holds
    assert verify(str(to)).drawn == ("b", "w")
    assert verify(str(to), source=source).holds

    state = load_file(to) if name == "o.safetensors" else torch.load(to)
    bits = _bits(state["w"][55, 10:12])
    data = to.read_bytes()
    at = data.index(bits)
    to.write_bytes(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :])
    (finding,) = [each for each in verify(str(to)).findings if each.what == "'w'"]
    assert finding.gap is not None
    assert finding.gap.changed == 1


SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)


@given(SHAPES, st.data())
@settings(max_examples=200, deadline=None)
def test_a_region_has_the_elements_that_numpy_s_index_has(
    shape: tuple[int, ...], data: st.DataObject
) -> None:
    ranges = tuple(
        range(
            low := data.draw(st.integers(0, dim - 1)),
            data.draw(st.integers(low + 1, dim)),
            data.draw(st.integers(1, 3)),
        )
        for dim in shape
    )
    expected = np.zeros(shape, bool)
    expected[np.ix_(*ranges)] = True
    start = data.draw(st.integers(0, expected.size - 1))
    stop = data.draw(st.integers(start + 1, expected.size))

    found = Region(shape, ranges).members(start, stop)

    wanted = expected.reshape(-1)[start:stop]
    assert (not wanted.any()) if found is None else found.tolist() == wanted.tolist()


@given(
    st.lists(
        st.tuples(st.sampled_from(PARTS), st.sampled_from((*INITS, "keep", "scale:2"))),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=25, deadline=None)
def test_of_several_parts_the_last_that_covers_an_element_decides(
    asked: list[tuple[str, str]],
) -> None:
    state = {"w": torch.arange(900.0).view(100, 9)}
    filled = {"w": state["w"].clone()}
    expected = state["w"].clone()
    for part, init in asked:
        drawn = state if init == "keep" else _whole(state, f"w={init}")
        expected[_index(part)] = drawn["w"][_index(part)]

    apply_(filled, [f"w[{part}]={init}" for part, init in asked])

    assert torch.equal(filled["w"], expected)


def test_only_what_a_part_needs_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    from reinit_cli.streams.philox.chance import PhiloxChance

    drawn = []
    normal = PhiloxChance.normal

    def counted(self: PhiloxChance, out: Any, *args: Any) -> None:
        drawn.append(out.size)
        normal(self, out, *args)

    monkeypatch.setattr(PhiloxChance, "normal", counted)
    apply_({"w": torch.zeros(4000, 1000)}, "w[1500:1510]=normal:std=1", stream="philox")

    assert sum(drawn) == 10_000


def test_a_part_of_a_key_with_brackets_is_one() -> None:
    pattern, part = parted("w[[]a[]][1:2]")

    assert (pattern, str(part)) == ("w[[]a[]]", "[1:2]")
    filled = {"w[a]": torch.zeros(3)}
    apply_(filled, "w[[]a[]][1:2]=ones")
    assert filled["w[a]"].tolist() == [0, 1, 0]
