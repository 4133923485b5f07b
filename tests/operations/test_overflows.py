"""Draws with numbers that a dtype does not have stop before the commit, or are clamped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from reinit_cli import apply_, plan, rewrite, verify
from reinit_cli.cli import main
from reinit_cli.errors import TensorError, UnfillableError

STREAMS = ("philox", "torch")
LARGE = (2**9, 2**10 + 3)
"""The shape of a tensor that is drawn in several blocks."""


def _weights(*shape: int, std: float = 1.0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    drawn = torch.empty(*shape).normal_(0, std, generator=generator)
    return drawn.clamp(-60000, 60000).to(dtype)


def _in_memory(there: torch.Tensor, init: str, **options: Any) -> torch.Tensor:
    state = {"a": torch.ones(3, 3), "w": there.clone()}
    try:
        apply_(state, {"a": "zeros", "w": init}, **options)
    except TensorError:
        assert torch.equal(state["a"], torch.ones(3, 3))
        assert torch.equal(state["w"].view(torch.uint8), there.view(torch.uint8))
        raise
    return state["w"]


def _in_a_file(there: torch.Tensor, init: str, **options: Any) -> torch.Tensor:
    save_file({"a": torch.ones(3, 3), "w": there}, "m.safetensors")
    Path("out.safetensors").write_bytes(b"before")
    try:
        rewrite(
            "m.safetensors", {"a": "zeros", "w": init}, "out.safetensors", force=True, **options
        )
    except TensorError:
        assert Path("out.safetensors").read_bytes() == b"before"
        raise
    return load_file("out.safetensors")["w"].clone()


def _strided(there: torch.Tensor, init: str, **options: Any) -> torch.Tensor:
    torch.save({"w": there.t().contiguous().t()}, "m.pt")
    rewrite("m.pt", {"w": init}, "out.pt", force=True, **options)
    found: torch.Tensor = torch.load("out.pt")["w"]
    return found


def _as_parts(there: torch.Tensor, init: str, **options: Any) -> torch.Tensor:
    save_file({"w": there}, "m.safetensors")
    rules = {"w[:-1]": init, "w[-1:]": init}
    rewrite("m.safetensors", rules, "out.safetensors", force=True, **options)
    return load_file("out.safetensors")["w"].clone()


WAYS: dict[str, Callable[..., torch.Tensor]] = {
    "in memory": _in_memory,
    "in a file": _in_a_file,
    "strided": _strided,
    "as parts": _as_parts,
}

CASES = {
    "a product": ("scale:1e6", torch.float16, 1.0),
    "a product in e5m2": ("scale:1e6", torch.float8_e5m2, 1.0),
    "a product in e4m3": ("scale:1e3", torch.float8_e4m3fn, 1.0),
    "a product in e4m3fnuz": ("scale:1e3", torch.float8_e4m3fnuz, 1.0),
    "a product in bfloat16": ("scale:3e38", torch.bfloat16, 2.0),
    "a product in float32": ("scale:3e38", torch.float32, 2.0),
    "a product in float64": ("scale:1e308", torch.float64, 2.0),
    "noise": ("noise:std=60000", torch.float16, 1.0),
    "noise by its size": ("noise:relative=9", torch.float16, 9000.0),
    "numbers of the same size": ("resample:normal", torch.float16, 30000.0),
    "a draw": ("identity:gain=64000,std=3000", torch.float16, 1.0),
    "a draw in e4m3": ("identity:gain=440,std=30", torch.float8_e4m3fn, 1.0),
}


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_numbers_that_are_too_large_are_an_error_or_become_the_largest(
    case: str, way: str, stream: str
) -> None:
    init, dtype, std = CASES[case]
    there = _weights(60, 50, std=std, dtype=dtype)
    name = str(dtype).removeprefix("torch.")
    options = {"stream": stream}

    with pytest.raises(TensorError, match=f"'w' overflows {name}: .* beyond its largest") as error:
        WAYS[way](there, init, **options)
    assert error.value.hint == "saturate=True makes them the largest numbers of the dtype"

    clamped = WAYS[way](there, init, saturate=True, **options)
    wide = WAYS[way](there.double(), init, **options) if dtype != torch.float64 else None
    largest = torch.finfo(dtype).max
    assert clamped.double().isfinite().all()
    assert (clamped.double().abs() == largest).any()
    if wide is not None and init.startswith("scale"):
        expected = wide.clamp(-largest, largest).float().to(dtype)
        assert torch.allclose(clamped.double(), expected.double(), rtol=1e-6)


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", [(60, 50), LARGE], ids=str)
def test_infinities_of_the_source_are_carried(
    shape: tuple[int, int], way: str, stream: str
) -> None:
    there = _weights(*shape, dtype=torch.float16)
    there[5, 3], there[-1, -1], there[7, 7] = torch.inf, -torch.inf, torch.nan

    found = WAYS[way](there, "scale:3", stream=stream)

    assert torch.equal(found.isfinite(), there.isfinite())
    assert torch.equal(found[there.isfinite()], (there.float() * 3).half()[there.isfinite()])
    there[-1, 0] = 65504
    with pytest.raises(TensorError, match="'w' overflows float16: 1 number is beyond"):
        WAYS[way](there, "scale:3", stream=stream)
    assert WAYS[way](there, "scale:3", stream=stream, saturate=True)[-1, 0] == 65504


@pytest.mark.parametrize("way", WAYS)
def test_infinities_of_both_checkpoints_are_carried_into_their_mixture(way: str) -> None:
    there, other = _weights(30, 20, dtype=torch.float16), torch.ones(30, 20)
    there[5, 3], other[7, 7] = torch.inf, -torch.inf
    save_file({"w": other}, "other.safetensors")

    found = WAYS[way](there, "blend:other.safetensors,0.5")

    assert found[5, 3].isposinf()
    assert found[7, 7].isneginf()
    assert found.isinf().sum() == 2
    with pytest.raises(TensorError, match="'w' overflows float16"):
        WAYS[way](there, "blend:other.safetensors,1e6")


@pytest.mark.parametrize("stream", STREAMS)
def test_a_rare_number_of_a_draw_is_found(stream: str) -> None:
    """One normal in 1.8 million lies 5 deviations from its mean."""
    there = torch.zeros(2**11, 2**12, dtype=torch.float16)

    with pytest.raises(TensorError, match=r"'w' overflows float16: [0-9]+ numbers? (is|are)"):
        _in_a_file(there, "normal:std=13100", stream=stream)
    with pytest.raises(TensorError, match="'w' overflows float16"):
        _in_memory(there, "normal:std=13100", stream=stream)

    found = _in_a_file(there, "normal:std=13100", stream=stream, saturate=True)
    wide = _in_a_file(there.float(), "normal:std=13100", stream=stream)
    assert torch.equal(found, wide.clamp(-65504, 65504).half())
    assert not wide.half().isfinite().all()


def test_elements_that_no_rule_takes_do_not_count() -> None:
    there = _weights(20, 20, dtype=torch.float16)
    there[15:] *= 1000

    for stream in STREAMS:
        save_file({"w": there}, "m.safetensors")
        rewrite("m.safetensors", ["w[:10]=scale:9000"], "o.safetensors", stream=stream, force=True)
        found = load_file("o.safetensors")["w"]
        assert torch.equal(found[:10], (there[:10].float() * 9000).half())
        assert torch.equal(found[10:], there[10:])


@pytest.mark.parametrize("stream", STREAMS)
def test_new_rows_that_are_too_large_are_an_error(stream: str) -> None:
    save_file({"w": torch.zeros(50, 60, dtype=torch.float16)}, "m.safetensors")
    resize = ["w=110:identity:gain=64000,std=3000"]

    def grown(**options: Any) -> torch.Tensor:
        rewrite("m.safetensors", [], "o.safetensors", resize=resize, stream=stream, **options)
        return load_file("o.safetensors")["w"]

    with pytest.raises(TensorError, match="'w' overflows float16"):
        grown()
    assert not Path("o.safetensors").exists()
    assert grown(saturate=True).isfinite().all()


KNOWN = {
    "normal:std=1e5": 5e5,
    "uniform:-7e4,7e4": 7e4,
    "constant:1e6": 1e6,
    "trunc_normal:std=1e5,a=-9e4,b=9e4": 9e4,
}


@pytest.mark.parametrize("init", KNOWN)
def test_what_bounds_tell_is_known_before_anything_is_drawn(init: str) -> None:
    save_file({"w": torch.zeros(300, 300, dtype=torch.float16)}, "m.safetensors")

    with pytest.raises(UnfillableError) as error:
        plan("m.safetensors", [f"w={init}"])

    assert f"float16 cannot hold values as large as {KNOWN[init]:g}" in str(error.value)
    assert error.value.hint == "saturate=True makes them the largest numbers of the dtype"
    rewrite("m.safetensors", [f"w={init}"], "o.safetensors", saturate=True)
    found = load_file("o.safetensors")["w"].float()
    assert found.isfinite().all()
    assert (found.abs() == 65504).any()
    assert plan("m.safetensors", ["*=" + init], allow_unmatched=True).steps[0].action == "skip"


def test_infinities_that_a_rule_names_are_no_overflow() -> None:
    for dtype in (torch.float16, torch.float32, torch.bfloat16, torch.float8_e5m2):
        for saturate in (False, True):
            state = {"w": torch.zeros(3, dtype=dtype)}
            apply_(state, ["w=constant:-inf"], saturate=saturate)
            assert state["w"].float().isneginf().all()


@pytest.mark.parametrize("source", [None, "m.safetensors"], ids=["alone", "with its source"])
def test_what_was_clamped_is_verified(source: str | None) -> None:
    save_file({"w": torch.zeros(60, 60, dtype=torch.float16)}, "m.safetensors")
    rules = ["w=identity:gain=64000,std=3000"]
    rewrite("m.safetensors", rules, "o.safetensors", saturate=True, record=True)

    verdict = verify("o.safetensors", source=source)

    assert verdict.drawn == ("w",)
    assert verdict.findings == ()


def test_the_command_line_names_the_way_on(capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"w": _weights(60, 50, dtype=torch.float16)}, "m.safetensors")
    args = ["m.safetensors", "-r", "w=scale:1e6", "-o", "o.safetensors", "-q"]

    assert main(args) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("error: 'w' overflows float16: 2,8")
    assert said[0].endswith("numbers are beyond its largest, 65504")
    assert said[1:] == ["hint: --saturate makes them the largest numbers that the dtype has"]
    assert not Path("o.safetensors").exists()
    assert main([*args, "--saturate"]) == 0


@pytest.mark.parametrize("part", [(), ("--slice", "3:40")], ids=["whole", "a part"])
def test_a_sample_that_overflows_is_an_error(
    part: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["draw", "identity:gain=64000,std=3000", "60,60", "--dtype", "fp16", *part]

    assert main(args) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "error: 'weight' overflows float16: " in said.err
    assert "--saturate" in said.err
    assert main([*args, "--saturate", "--json"]) == 0
    values = torch.tensor(json.loads(capsys.readouterr().out)["values"])
    assert values.max() == 65504


def test_a_failed_draw_leaves_a_module_and_its_optimizer_as_they_were() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(20, 20), torch.nn.Linear(20, 20)).half()
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9, lr=0.1)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    kept = {at: state["momentum_buffer"].clone() for at, state in optimizer.state.items()}

    with pytest.raises(TensorError, match=r"'1.weight' overflows float16"):
        apply_(model, {"0.*": "zeros", "1.weight": "scale:1e9"}, optimizer=optimizer)

    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert kept.keys() == optimizer.state.keys()
    assert all(
        torch.equal(state["momentum_buffer"], kept[at]) for at, state in optimizer.state.items()
    )


PIPED = {
    "a draw": ("m.safetensors", ("-r", "w=scale:1e6")),
    "a part": ("m.safetensors", ("-r", "w[:9]=scale:1e6")),
    "moved values": ("m.safetensors", ("-r", "w=shuffle", "--dtype", "float16")),
    "a cast": ("m.safetensors", ("--dtype", "float16")),
    "a cast in an archive": ("m.pt", ("--dtype", "float16")),
}


@pytest.mark.parametrize("case", PIPED)
def test_a_pipe_is_cut_short_before_numbers_that_are_too_large(
    case: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    name, change = PIPED[case]
    dtype = torch.float32 if "--dtype" in change else torch.float16
    state = {"a": torch.ones(3, 3, dtype=dtype), "w": _weights(*LARGE, dtype=dtype)}
    state["w"][-1, -1] = 60000 if dtype == torch.float16 else 1e6
    (save_file if name == "m.safetensors" else torch.save)(state, name)

    assert main([name, *change, "-o", "-"]) == 2

    found = capfdbinary.readouterr()
    assert found.err.startswith((b"error: 'w' overflows", b"error: 'w' cannot be cast"))
    assert main([name, *change, "-o", f"o-{name}", "--saturate", "-q"]) == 0
    assert len(found.out) < Path(f"o-{name}").stat().st_size - LARGE[1]


def test_clamping_is_offered_where_it_helps() -> None:
    save_file({"w": torch.zeros(300, 300)}, "m.safetensors")

    with pytest.raises(UnfillableError, match="as large as 4e\\+38") as error:
        plan("m.safetensors", ["w=normal:std=8e37"])
    assert error.value.hint == "saturate=True makes them the largest numbers of the dtype"
    rewrite("m.safetensors", ["w=normal:std=8e37"], "o.safetensors", saturate=True)

    drawn = load_file("o.safetensors")["w"].double()
    assert drawn.isfinite().all()
    assert drawn.std() == pytest.approx(8e37, rel=0.02)
    for saturate in (False, True):  # float32, in which it is drawn, has no number to clamp
        with pytest.raises(UnfillableError) as error:
            plan("m.safetensors", ["w=constant:1e39"], saturate=saturate)
        assert error.value.hint.startswith("leave it out")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "init", ["lora_orthogonal:part=A,std=1.7e308", "identity:gain=1.7e308,std=1e308"]
)
def test_an_overflow_of_float64_is_one_error(init: str) -> None:
    with pytest.raises(TensorError, match="overflows float64"):
        apply_({"w": torch.zeros(60, 60, dtype=torch.float64)}, {"w": init})
