"""Zeros that are kept stay as they are, and transforms see only what is not zero."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from reinit_cli import apply_, rewrite, seed_for, verify
from reinit_cli.initializers import REGISTRY, Transform, parse_init

STREAMS = ("philox", "torch")
LARGE = (2**9, 2**10 + 3)
"""The shape of a tensor that is drawn in several blocks."""


def _pruned(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    """Return weights with both kinds of zeros, none of which are small numbers."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.empty(*shape).normal_(3, 2, generator=generator)
    share = torch.empty(*shape).uniform_(0, 1, generator=generator)
    pruned = (values.abs() + 0.5).copysign(values)
    pruned[share < 0.5] = 0.0
    pruned[share < 0.2] = -0.0
    return pruned.to(dtype)


def _in_memory(there: torch.Tensor, init: str, stream: str, path: Path) -> torch.Tensor:
    del path
    state = {"w": there.clone()}
    apply_(state, [f"w={init}"], stream=stream)
    return state["w"]


def _in_a_file(there: torch.Tensor, init: str, stream: str, path: Path) -> torch.Tensor:
    save_file({"w": there}, path / "m.safetensors")
    out = str(path / "out.safetensors")
    rewrite(str(path / "m.safetensors"), [f"w={init}"], out, stream=stream, force=True)
    return load_file(out)["w"]


def _strided(there: torch.Tensor, init: str, stream: str, path: Path) -> torch.Tensor:
    torch.save({"w": there.t().contiguous().t()}, path / "m.pt")
    rewrite(str(path / "m.pt"), [f"w={init}"], str(path / "out.pt"), stream=stream, force=True)
    found: torch.Tensor = torch.load(path / "out.pt")["w"]
    return found


def _as_a_part(there: torch.Tensor, init: str, stream: str, path: Path) -> torch.Tensor:
    """Fill all of it by a rule on a part, and the last row by another."""
    save_file({"w": there}, path / "m.safetensors")
    rules = [f"w[:-1]={init}", f"w[-1:]={init}"]
    out = str(path / "out.safetensors")
    rewrite(str(path / "m.safetensors"), rules, out, stream=stream, force=True)
    return load_file(out)["w"]


def _under_a_mask(there: torch.Tensor, init: str, stream: str, path: Path) -> torch.Tensor:
    save_file({"w": there}, path / "m.safetensors")
    mask = torch.zeros(there.shape, dtype=torch.bool)
    mask[1::2] = True
    save_file({"mask": mask}, path / "mask.safetensors")
    rules = [f"w={init}", f"w[mask={path / 'mask.safetensors'}]={init}"]
    out = str(path / "out.safetensors")
    rewrite(str(path / "m.safetensors"), rules, out, stream=stream, force=True)
    return load_file(out)["w"]


Way = Callable[[torch.Tensor, str, str, Path], torch.Tensor]
WHOLE: dict[str, Way] = {"in memory": _in_memory, "in a file": _in_a_file, "strided": _strided}
WAYS = WHOLE | {"as parts": _as_a_part, "under a mask": _under_a_mask}


def _bits(tensor: torch.Tensor) -> list[int]:
    found: list[int] = tensor.contiguous().flatten().view(torch.uint8).tolist()
    return found


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("way", WHOLE)
@pytest.mark.parametrize("shape", [(40, 30), LARGE], ids=str)
def test_a_shuffle_permutes_what_is_not_zero(
    shape: tuple[int, int], way: str, stream: str, tmp_path: Path
) -> None:
    there = _pruned(*shape)
    zero = there == 0

    kept = WHOLE[way](there, "shuffle:keep_zeros=true", stream, tmp_path)

    assert _bits(kept[zero]) == _bits(there[zero])
    assert torch.equal(kept[~zero].sort().values, there[~zero].sort().values)
    assert (kept[~zero] != there[~zero]).float().mean() > 0.9
    if stream == "torch":
        generator = torch.Generator().manual_seed(seed_for(0, "w", "shuffle"))
        order = torch.randperm(int((~zero).sum()), generator=generator)
        assert torch.equal(kept[~zero], there[~zero][order])
    else:
        others = {"w": there[~zero]}
        apply_(others, "w=shuffle", stream=stream)
        assert torch.equal(kept[~zero], others["w"])


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", [(40, 30), LARGE], ids=str)
def test_statistics_are_those_of_what_is_not_zero(
    shape: tuple[int, int], way: str, stream: str, tmp_path: Path
) -> None:
    there = _pruned(*shape)
    zero = (there == 0).numpy()
    others = there.numpy()[~zero].astype(np.float64)

    noisy = WAYS[way](there, "noise:relative=0.5,keep_zeros=true", stream, tmp_path)
    drawn = WAYS[way](there, "resample:uniform,keep_zeros=true", stream, tmp_path)

    expected = WAYS[way](there, f"noise:std={0.5 * others.std()}", stream, tmp_path)
    assert torch.allclose(noisy[~zero], expected[~zero], atol=1e-5)
    assert _bits(noisy[zero]) == _bits(drawn[zero]) == _bits(there[zero])
    found = drawn.numpy()[~zero]
    reach = math.sqrt(3) * others.std()
    assert found.min() == pytest.approx(others.mean() - reach, abs=0.02 * reach)
    assert found.max() == pytest.approx(others.mean() + reach, abs=0.02 * reach)


EVERY = sorted(
    {
        *("noise:std=0.1", "noise:relative=0.1", "scale:-2", "resample:normal", "clamp:min=1"),
        *("shrink_perturb:factor=0.5,std=0.01", "shuffle", "normal", "orthogonal", "constant:-7"),
        *("xavier_uniform", "trunc_normal:std=0.1", "sparse:0.1", "eye"),
    }
)
"""Initializers of every kind that fill or change a matrix."""

_NAMED = {init.partition(":")[0] for init in EVERY}
EVERY += [
    each.example for each in REGISTRY if each.purpose == "existing" and each.name not in _NAMED
]
EVERY.remove("keep")

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e5m2]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("way", WAYS)
def test_zeros_keep_every_bit(way: str, dtype: torch.dtype, tmp_path: Path) -> None:
    there = _pruned(24, 20, dtype=dtype)
    zero = there.float() == 0
    assert {0, 0x80} <= set(_bits(there[zero]))

    for stream in STREAMS:
        for init in EVERY:
            law = parse_init(init).law((24, 20))
            if way not in WHOLE and isinstance(law, Transform) and not law.is_sequential:
                continue  # it is refused on parts
            comma = "," if ":" in init else ":"
            kept = WAYS[way](there, f"{init}{comma}keep_zeros=true", stream, tmp_path)
            assert _bits(kept[zero]) == _bits(there[zero]), init
            assert _bits(kept[~zero]) != _bits(there[~zero]), init


@pytest.mark.parametrize(
    "dtype", [torch.float8_e4m3fn, torch.int8, torch.int64, torch.bool, torch.complex64], ids=str
)
def test_a_shuffle_of_any_dtype_permutes_what_is_not_zero(dtype: torch.dtype) -> None:
    there = _pruned(40, 30).round().to(dtype)
    zero = there.to(torch.complex64) == 0

    kept = _in_memory(there, "shuffle:keep_zeros=true", "philox", Path())

    assert _bits(kept[zero]) == _bits(there[zero])
    assert sorted(map(str, kept[~zero].tolist())) == sorted(map(str, there[~zero].tolist()))


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize(
    ("init", "way"),
    [
        *(("shuffle", way) for way in WHOLE),
        *((init, way) for init in ("resample", "noise:relative=1", "normal") for way in WAYS),
    ],
)
def test_a_tensor_of_zeros_stays(init: str, way: str, stream: str, tmp_path: Path) -> None:
    there = torch.zeros(6, 4).copysign(torch.tensor([1.0, -1, 1, -1]))
    comma = "," if ":" in init else ":"

    kept = WAYS[way](there, f"{init}{comma}keep_zeros=true", stream, tmp_path)

    assert _bits(kept) == _bits(there)


def test_a_number_that_a_cast_makes_zero_is_no_zero_of_the_source(tmp_path: Path) -> None:
    there = torch.tensor([[1e-300, 0.0, -0.0, 5.0]], dtype=torch.float64)
    save_file({"w": there}, tmp_path / "m.safetensors")

    rewrite(
        str(tmp_path / "m.safetensors"),
        ["w=constant:3,keep_zeros=true"],
        str(tmp_path / "out.safetensors"),
        dtype="float16",
    )

    expected = torch.tensor([[3.0, 0.0, -0.0, 3.0]], dtype=torch.float16)
    assert _bits(load_file(tmp_path / "out.safetensors")["w"]) == _bits(expected)


def test_a_ticket_keeps_the_zeros_of_the_late_weights_and_not_the_early_ones(
    tmp_path: Path,
) -> None:
    early, late = _pruned(20, 20, seed=1), _pruned(20, 20, seed=2)
    save_file({"w": early}, tmp_path / "early.safetensors")

    init = f"rewind:{tmp_path / 'early.safetensors'},keep_zeros=true"
    ticket = _in_a_file(late, init, "philox", tmp_path)

    assert _bits(ticket) == _bits(torch.where(late == 0, late, early))


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("version", [1, 2])
def test_new_rows_lie_near_the_mean_of_what_is_not_zero(
    version: int, stream: str, tmp_path: Path
) -> None:
    rows = _pruned(400, 3).double()
    rows[:, 2] = 0
    save_file({"w": rows}, tmp_path / "m.safetensors")

    def grown(init: str) -> np.ndarray[Any, Any]:
        out = str(tmp_path / "out.safetensors")
        resize = [f"w=9400:{init}"]
        rewrite(str(tmp_path / "m.safetensors"), [], out, resize=resize, stream=stream, force=True)
        return load_file(out)["w"][400:].numpy()

    found = grown("mean:keep_zeros=true" if version > 1 else "mean")

    for column in range(3):
        values = rows[:, column].numpy()
        values = values[values != 0] if version > 1 else values
        mean, std = (values.mean(), values.std()) if len(values) else (0.0, 0.0)
        expected = math.sqrt(1e-9) * std
        # 9000 rows: their mean lies within 1 % of a deviation.
        assert found[:, column].mean() == pytest.approx(mean, abs=0.05 * expected + 1e-18)
        assert found[:, column].std() == pytest.approx(expected, rel=0.05)


def test_records_name_the_version_of_kept_zeros_and_others_do_not(tmp_path: Path) -> None:
    save_file({"w": _pruned(20, 20)}, tmp_path / "m.safetensors")
    out = str(tmp_path / "out.safetensors")

    def laws(*rules: str) -> Any:
        rewrite(str(tmp_path / "m.safetensors"), rules, out, record=True, force=True)
        assert verify(out, source=str(tmp_path / "m.safetensors")).findings == ()
        with safe_open(out, "pt") as file:
            return json.loads(file.metadata()["reinit"]).get("laws")

    assert laws("w=shuffle:keep_zeros=true") == {"keep_zeros": 2}
    assert laws("w[:5]=normal:keep_zeros=true") == {"keep_zeros": 2}
    assert laws("w=shuffle") is None
