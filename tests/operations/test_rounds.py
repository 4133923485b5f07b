"""A random change that is made again draws other numbers in another round, and says if not."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from reinit_cli import apply_, plan, rewrite, seed_for, verify
from reinit_cli.cli import main
from reinit_cli.errors import ArgumentError
from reinit_cli.initializers import REGISTRY, parse_init
from tests.cli.conftest import Done, reinit

__all__ = ["reinit"]  # a fixture

STREAMS = ["philox", "torch"]
BASE, ONCE = "base.safetensors", "once.safetensors"


@pytest.fixture
def base() -> dict[str, torch.Tensor]:
    """A checkpoint in the working folder."""
    torch.manual_seed(0)
    state = {f"layers.{at}.weight": torch.randn(60, 50) for at in range(3)}
    save_file(state, BASE)
    return state


def _warnings(source: str, *rules: str, **options: int | str) -> list[str]:
    planned = plan(source, list(rules), **options)  # type: ignore[arg-type]
    return [each for each in planned.warnings if "random numbers" in each]


# --- what a round draws ------------------------------------------------------------------------


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("again", ["", ",round=1"])
def test_noise_adds_up_as_independent_noise_only_in_another_round(stream: str, again: str) -> None:
    state = {"w": torch.zeros(300, 400)}

    apply_(state, ["w=noise:std=1"], stream=stream)
    apply_(state, [f"w=noise:std=1{again}"], stream=stream)

    assert state["w"].std().item() == pytest.approx(2**0.5 if again else 2, rel=0.01)


def test_a_round_of_the_torch_stream_is_three_lines_of_torch() -> None:
    state = {"w": torch.ones(30, 40)}
    generator = torch.Generator().manual_seed(seed_for(0, "w", "noise:2"))

    apply_(state, ["w=noise:std=0.5,round=2"], stream="torch")

    assert torch.equal(state["w"], 1 + torch.empty(30, 40).normal_(0, 0.5, generator=generator))


def test_a_round_of_philox_is_the_stream_whose_name_ends_with_it() -> None:
    digest = sha256(b"0:w:noise:3").digest()[:16]
    philox = np.random.Philox(key=int.from_bytes(digest, "little"), counter=2**256 - 1)
    words = philox.random_raw(504).astype("<u8").view("<u4")[:1000]
    state = {"w": torch.zeros(1000)}

    apply_(state, ["w=noise:std=1,round=3"])

    # The upper bit of a word is the sign of its normal.
    assert (state["w"].numpy() < 0).tolist() == (words.view("<i4") >= 0).tolist()


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize(
    "rule", ["noise:std=1", "noise:relative=0.5", "shrink_perturb:0.5,1", "resample", "shuffle"]
)
def test_round_zero_is_what_it_was_without_rounds(stream: str, rule: str) -> None:
    states = [{"w": torch.linspace(-1, 1, 600)} for _ in range(3)]
    comma = "," if ":" in rule else ":"

    for state, end in zip(states, ["", "round=0", "round=1"], strict=True):
        apply_(state, [f"w={rule}{comma if end else ''}{end}"], stream=stream)

    assert torch.equal(states[0]["w"], states[1]["w"])
    assert not torch.equal(states[0]["w"], states[2]["w"])
    assert str(parse_init(f"{rule}{comma}round=0")) == str(parse_init(rule))


def test_every_transform_that_draws_takes_rounds_and_no_other_initializer_does() -> None:
    takes = {each.name for each in REGISTRY if "round" in {one.name for one in each.all_parameters}}

    assert takes == {"noise", "shrink_perturb", "resample", "shuffle", "mean"}


@pytest.mark.parametrize("value", ["-1", "1.5", "x", "true"])
def test_a_round_is_counted_from_zero(value: str) -> None:
    with pytest.raises(ArgumentError, match="round must be an integer of at least 0"):
        parse_init(f"noise:std=1,round={value}")


def test_new_rows_of_another_round_are_others(base: dict[str, torch.Tensor]) -> None:
    for end in ("", ":round=1"):
        resize = [f"layers.0.weight=70:mean{end}"]
        rewrite(BASE, [], f"o{len(end)}.safetensors", resize=resize)
    first, second = (load_file(f"o{at}.safetensors")["layers.0.weight"] for at in (0, 8))

    assert torch.equal(first[:60], second[:60])
    assert not torch.equal(first[60:], second[60:])


def test_a_round_stands_in_recipes_plans_and_records(base: dict[str, torch.Tensor]) -> None:
    rewrite(BASE, ["*.0.weight=noise:std=1,round=4"], ONCE, record=True)

    assert plan(BASE, ["*.0.weight=noise:std=1,round=4"]).rules[0].serial() == {
        "match": "*.0.weight",
        "init": "noise",
        "std": 1.0,
        "round": 4,
    }
    assert verify(ONCE, source=BASE).findings == ()
    assert main([BASE, "-c", ONCE, "-o", "again.safetensors", "-q"]) == 0
    again = load_file("again.safetensors")
    assert all(torch.equal(again[key], value) for key, value in load_file(ONCE).items())


# --- what is said where a round is repeated ----------------------------------------------------


@pytest.mark.parametrize("stream", STREAMS)
def test_the_same_change_with_the_same_numbers_is_warned_of_with_the_rule_to_type(
    base: dict[str, torch.Tensor], reinit: Callable[..., Done], stream: str
) -> None:
    options = ("--stream", stream, "-f")
    rule = "*.weight=noise:std=1"
    reinit(BASE, "-r", rule, "-o", ONCE, "--record", *options)

    again = reinit(ONCE, "-r", rule, "-o", "o.safetensors", *options)
    typed = reinit(ONCE, "-r", f"{rule},round=1", "-o", "o.safetensors", *options)

    assert (
        f"warning: rule '{rule}' repeats random numbers: 'layers.0.weight' and 2 more tensors got "
        "the same noise before, as the source's record shows; "
        f"-r '{rule},round=1' draws others\n" in again.err
    )
    assert "random numbers" not in typed.err
    noise = load_file("o.safetensors")["layers.1.weight"] - base["layers.1.weight"]
    assert noise.std().item() == pytest.approx(2**0.5, rel=0.05)


@pytest.mark.parametrize(
    ("rule", "typed"),
    [
        ("layers.1.weight=shuffle", "layers.1.weight=shuffle:round=1"),
        ("*.{1,2}.weight=resample:uniform", "*.{1,2}.weight=resample:uniform,round=1"),
        ("*=shrink_perturb:0.5,0.1,round=3", "*=shrink_perturb:factor=0.5,std=0.1,round=4"),
        ("*.weight[0:2]=noise:std=1", "*.weight[0:2]=noise:std=1,round=1"),
    ],
)
def test_the_rule_to_type_does_not_warn(
    base: dict[str, torch.Tensor], rule: str, typed: str
) -> None:
    rewrite(BASE, [rule], ONCE, record=True)

    (warning,) = _warnings(ONCE, rule)

    assert f"-r {shlex.quote(typed)} draws others" in warning
    assert not _warnings(ONCE, typed)


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        ("*.weight=noise:std=1", {"seed": 1}),
        ("*.weight=noise:std=1", {"stream": "torch"}),
        ("layers.2.weight=noise:std=1", {}),
        ("*.weight[10:]=noise:std=1", {}),
        ("*.weight=shuffle", {}),
        ("*.weight=scale:2", {}),
        ("*.weight=normal:std=2", {}),
    ],
    ids=str,
)
def test_other_numbers_are_not_warned_of(
    base: dict[str, torch.Tensor], rule: str, options: dict[str, int | str]
) -> None:
    rules = ["layers.0.weight[0:10]=noise:std=1", "layers.1.weight[:10]=noise:std=1"]
    rewrite(BASE, rules, ONCE, record=True)

    assert not _warnings(ONCE, rule, **options)
    assert _warnings(ONCE, "*.weight[9:12]=noise:std=7")


def test_a_record_of_its_own_counts_for_the_file_that_it_is_of(
    base: dict[str, torch.Tensor],
) -> None:
    rule = "*.weight=noise:std=1"
    rewrite(BASE, [rule], ONCE, record="any-name.json")

    assert _warnings(ONCE, rule)
    assert not _warnings(BASE, rule)


def test_the_record_of_a_folder_counts() -> None:
    os.mkdir("hf")
    save_file({"w": torch.ones(30, 40)}, "hf/model.safetensors")
    Path("hf/config.json").write_text("{}")
    rewrite("hf", ["w=noise:std=1"], "noisy", record=True)

    assert _warnings("noisy", "w=noise:std=1")
    assert not _warnings("hf", "w=noise:std=1")


@pytest.mark.parametrize(
    "text",
    [
        '{"version":1,"reinit":"',
        '{"version":1,"reinit":"1","filled":3}',
        '{"version":1,"reinit":"1","stream":"philox-1","filled":[{"key":[],"init":{},"sha256":1}]}',
    ],
)
def test_what_only_looks_like_a_record_is_passed_over(
    base: dict[str, torch.Tensor], text: str
) -> None:
    rule = "*.weight=noise:std=1"
    rewrite(BASE, [rule], ONCE, record="r.json")
    Path("a.json").write_text(text)
    os.mkfifo("b.json")
    os.symlink("/dev/zero", "c.json")

    assert _warnings(ONCE, rule)


def test_a_record_whose_parts_make_no_sense_is_passed_over(base: dict[str, torch.Tensor]) -> None:
    rule = "*.weight=noise:std=1"
    rewrite(BASE, [rule], ONCE, record="r.json")
    form = json.loads(Path("r.json").read_text())
    form["filled"][0]["parts"] = [7, {"part": "0:99", "init": "no_such_law"}]
    Path("r.json").write_text(json.dumps(form, separators=(",", ":")))

    assert not _warnings(ONCE, "layers.0.weight[1:2]=resample")
