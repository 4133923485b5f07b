"""Numbers of any length, in keys, options and files: used, or refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.cli.conftest import Done

DIGITS = "1" * 5000


@pytest.fixture
def long_keys() -> list[str]:
    """Keys that another tool may have written, in the order of their numbers."""
    numbers = ["0", "2", "007", "10", "9" * 4299, DIGITS, "2" + DIGITS[1:]]
    keys = [f"layers.{number}.w" for number in numbers]
    save_file({key: torch.ones(2, 2) for key in keys}, "m.safetensors")
    return keys


def test_keys_are_sorted_by_numbers_of_any_length(
    reinit: Callable[..., Done], long_keys: list[str]
) -> None:
    done = reinit("keys", "m.safetensors", "--sort", "key")

    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == long_keys


def test_equal_numbers_are_sorted_by_what_follows(reinit: Callable[..., Done]) -> None:
    keys = ["a1.b", "a01.c", "a1.d", "a2.a", "a10"]
    save_file({key: torch.ones(1) for key in reversed(keys)}, "m.safetensors")

    assert reinit("keys", "m.safetensors", "--sort", "key").out.splitlines() == keys


def test_a_layer_whose_number_is_too_long_is_skipped_or_refused_by_name(
    reinit: Callable[..., Done], long_keys: list[str]
) -> None:
    done = reinit("m.safetensors", "-r", "*=depth_scaled", "-n")
    named = reinit("m.safetensors", "-r", f"layers.{DIGITS}.w=depth_scaled", "-n")

    assert done.code == 0
    assert "2 skipped: the number in its key has 5,000 digits" in done.out
    assert named.code == 2
    assert named.err.startswith("error: ")
    assert "the number in its key has 5,000 digits\n" in named.err


@pytest.mark.parametrize(
    "args",
    [
        ["draw", "zeros", DIGITS],
        ["draw", "zeros", f"3x{DIGITS}"],
        ["draw", "zeros", "99999999999999999999"],
        ["draw", "zeros", "1000000000000"],
        ["draw", "normal:std=1", "1000000000000,1000000000000"],
        ["draw", f"kaiming_normal:fan=1{'0' * 400}", "3,3"],
        ["draw", f"depth_scaled:layer={DIGITS}", "3,3"],
        ["draw", f"zeros:min_ndim=1{'0' * 400}", "3,3"],
        ["stats", "m.safetensors", "--by", DIGITS],
        ["m.safetensors", "-n", "-r", f"re:x{{1,{DIGITS}}}=zeros"],
        ["m.safetensors", "-n", "-r", f"layers.{{0..{DIGITS}}}=zeros"],
        ["m.safetensors", "-n", "-r", "*=zeros", "-s", DIGITS],
        ["m.safetensors", "-n", "-r", "*=zeros", "--shard-size", f"{DIGITS}GB"],
        ["m.safetensors", "-n", "--resize", f"layers.0.w={DIGITS}:zeros"],
        ["show", "m.safetensors", "layers.0.w", "--slice", DIGITS],
        ["show", "m.safetensors", "layers.0.w", "--slice", "٣"],
        ["draw", "normal", "٣,2"],
        ["draw", "normal", "3", "--seed", "٣"],
        ["draw", "normal", "3", "--seed", "9" * 31],
        ["draw", "normal:std=٣", "3"],
        ["draw", "constant:1e5000", "3"],
        ["draw", f"constant:{DIGITS}", "3"],
        ["draw", f"clamp:0,{DIGITS}", "3"],
        ["m.safetensors", "-n", "-r", "*=zeros", "--shard-size", "٣GB"],
        ["m.safetensors", "-n", "-r", "*=zeros", "-j", "٣"],
        ["squeezenet1_1", "--weights", "none", "-n", "--num-classes", "٣"],
        ["diff", "m.safetensors", "m.safetensors", "--atol", "1e999"],
        ["diff", "m.safetensors", "m.safetensors", "--rtol", "nan"],
        ["squeezenet1_1", "--weights", "none", "-n", "--num-classes", "99999999999"],
        ["squeezenet1_1", "--weights", "none", "-n", "--num-classes", f"1{'0' * 30}"],
    ],
    ids=lambda args: " ".join(args)[:40],
)
def test_a_number_that_cannot_be_meant_is_refused_in_a_line(
    args: list[str], reinit: Callable[..., Done], long_keys: list[str]
) -> None:
    done = reinit(*args)

    assert (done.code, done.out) == (2, "")
    error, *hint = done.err.splitlines()
    assert error.startswith("error: ")
    assert all(line.startswith("hint: ") for line in hint)
    assert "Traceback" not in done.err
    assert len(done.err) < 3_000


def test_a_tensor_that_memory_cannot_hold_is_said_to_be_so(reinit: Callable[..., Done]) -> None:
    done = reinit("draw", "zeros", "1000000000000")

    needed = "it takes 4,000,000,000,000 bytes of memory, and this machine has"
    assert done.err.startswith(f"error: 'weight' cannot be drawn: {needed} ")


def test_a_slope_that_no_square_holds_has_the_gain_of_its_limit(
    reinit: Callable[..., Done],
) -> None:
    """√2 / √(1 + a²) tends to √2 / |a|."""
    done = reinit("draw", "xavier_normal:leaky_relu,a=1e200", "3,3")

    assert done.code == 0
    assert "gain\t1.4142e-200\n" in done.out


def test_a_record_with_a_number_that_json_lacks_is_no_record(reinit: Callable[..., Done]) -> None:
    save_file({"w": torch.zeros(4)}, "m.safetensors")
    reinit("m.safetensors", "-r", "w=ones", "-o", "r.safetensors", "--record=r.json")
    text = Path("r.json").read_text()
    Path("r.json").write_text(text.replace('"key":"w",', '"key":"w","from_row":1e400,', 1))

    done = reinit("verify", "r.safetensors", "--record", "r.json")

    assert "1e400" in Path("r.json").read_text()
    assert done.code == 2
    assert done.err.startswith("error: 'w': its record says no initializer: ")


@pytest.mark.parametrize(
    "init",
    [
        "normal:std=1e308",
        "normal:std=1e200",
        "normal:mean=1e308,std=1e-200",
        "xavier_normal:gain=1e308",
        "constant:1e308",
        "sparse:0.1,std=1e308",
        "sparse:0.1,std=1e-200",
    ],
)
def test_numbers_at_the_ends_of_float64_are_planned_and_tested(
    init: str, reinit: Callable[..., Done]
) -> None:
    """Their squares are no numbers of float64, which `**` refuses and a product does not."""
    save_file({"w": torch.zeros(8, 6, dtype=torch.float64)}, "m.safetensors")

    planned = reinit("m.safetensors", "-r", f"w={init}", "-n", "-v")
    tested = reinit("m.safetensors", "-r", f"w={init}", "--check", "-o", "out.safetensors")

    assert planned.code == 0
    assert tested.code in (0, 1) or "'w' overflows float64: " in tested.err
    assert sum(line.startswith(("error:", "hint:")) for line in tested.err.splitlines()) <= 2
    assert "Traceback" not in tested.err


LONG = "1" * 31


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (("draw", "normal", "4,4", "-s", LONG), "an integer has at most 30 digits"),
        (("m.safetensors", "-r", "w=normal", "-s", LONG), "a seed has at most 30 digits"),
        (("m.safetensors", "-r", "w=normal", "-s", f"3,-{LONG}"), "a seed has at most 30 digits"),
        (("draw", "normal", "4,4", "--slice", ""), "slice '': it names no elements"),
        (("show", "m.safetensors", "w", "--slice", "[]"), "slice '[]': it names no elements"),
        (
            ("draw", "normal", "4,4", "--slice", "1/4"),
            "slice '1/4': '1/4' is one of equal shares, as only rules can name them",
        ),
    ],
)
def test_what_is_wrong_with_a_number_is_said(
    line: tuple[str, ...], said: str, reinit: Callable[..., Done]
) -> None:
    save_file({"w": torch.ones(4, 4)}, "m.safetensors")

    done = reinit(*line)

    assert done.code == 2
    assert done.err.splitlines()[0].endswith(said)


def test_a_sample_without_elements_has_no_deviation(reinit: Callable[..., Done]) -> None:
    done = reinit("draw", "normal:std=2", "4,4", "--slice", "3:3")

    assert done.code == 0
    assert "tensor([], size=(0, 4))" in done.out
    assert "std\t2 expected\n" in done.out
    assert "nan" not in done.out
