"""What a pattern that matches nothing was perhaps meant to be."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinit_cli.request.pattern import Pattern
from reinit_cli.request.spelling import corrected_pattern, nearest_keys, numbers_there
from reinit_cli.text import near

KEYS = [
    "features.0.weight",
    "features.0.bias",
    "features.denseblock1.norm.weight",
    "classifier.1.weight",
    "classifier.1.bias",
    "bn.running_mean",
    "model.layers.0.self_attn.q_proj.weight",
]

CORRECTED = {
    "a letter too few": ("feature.*.weight", "features.*.weight"),
    "two letters swapped": ("classifier.1.weigth", "classifier.1.weight"),
    "several segments": ("clasifier.*.bais", "classifier.*.bias"),
    "another case": ("Classifier.1.Weight", "classifier.1.weight"),
    "a segment left out before": ("q_proj.weight", "*.q_proj.weight"),
    "a segment misspelled and one left out": ("q_prj.weight", "*.q_proj.weight"),
    "the last segment alone": ("weight", "*.weight"),
    "a middle segment alone": ("self_attn", "*self_attn*"),
    "a first segment alone": ("classifier", "classifier.*"),
    "a star kept as it is": ("clasifier.*", "classifier.*"),
    "braces kept as they are": ("clasifier.{0..3}.bias", "classifier.{0..3}.bias"),
    "a class kept as it is": ("clasifier.[0-3].bias", "classifier.[0-3].bias"),
    "nothing like it": ("zzz.qqq", None),
    "a right name in the wrong place": ("features.1.weight", None),
    "hyphens for underscores": ("*.self-attn.q-proj.weight", "*.self_attn.q_proj.weight"),
    "two patterns": (
        "classifier.1.weight, features.0.*",
        "{classifier.1.weight,features.0.*}",
    ),
    "two patterns, one of which matches nothing": ("classifier.1.weight,zzz", None),
    "a regex": ("re:clasifier.*", None),
    "a first segment like no other, before every key": ("xyz.*", None),
    "a number like no other, before every key": ("9.*", None),
    "a regex that is empty": ("re:", None),
    "braces that hold a dot": (
        "{classifier.1,features.0}.wieght",
        "{classifier.1,features.0}.weight",
    ),
}


@pytest.mark.parametrize(("pattern", "corrected"), CORRECTED.values(), ids=CORRECTED)
def test_segments_are_spelled_as_the_nearest_of_the_keys_have_them(
    pattern: str, corrected: str | None
) -> None:
    assert corrected_pattern(pattern, KEYS) == corrected


@given(
    st.text("abfe.*[]{}-!?0", max_size=12), st.lists(st.text("abfe.0[{", min_size=1), max_size=6)
)
def test_whatever_is_proposed_matches_a_key_and_is_new(pattern: str, keys: list[str]) -> None:
    corrected = corrected_pattern(pattern, keys)

    if corrected is not None:
        assert corrected != pattern
        assert Pattern.parse(corrected).select(keys)


def test_without_keys_nothing_is_proposed() -> None:
    assert corrected_pattern("a.b", []) is None
    assert nearest_keys("a.b", []) == []


@pytest.mark.parametrize(
    ("pattern", "keys"),
    [
        ("classifier.1.weigth", ["classifier.1.weight"]),
        ("classifier.1.bia", ["classifier.1.bias"]),
        ("bn.runing_mean", ["bn.running_mean"]),
        ("BN.RUNNING_MEAN", ["bn.running_mean"]),
        ("zzz", []),
    ],
)
def test_the_nearest_keys_come_first(pattern: str, keys: list[str]) -> None:
    assert nearest_keys(pattern, KEYS)[: len(keys) or None] == keys


def test_at_most_three_keys_are_named_and_none_that_is_clearly_further() -> None:
    keys = [f"layer{at}.weight" for at in range(50)]

    assert len(nearest_keys("layer.weight", keys)) == 3
    assert nearest_keys("fc.weight", ["fc.weights", "fc2.wait"]) == ["fc.weights"]


@given(st.text(max_size=8), st.lists(st.text(max_size=8), max_size=8), st.integers(1, 3))
def test_near_words_are_known_words(word: str, known: list[str], count: int) -> None:
    found = near(word, known, count)

    assert len(found) <= count
    assert set(found) <= set(known)


def test_a_proposal_does_not_depend_on_the_hash_of_strings() -> None:
    code = (
        "from reinit_cli.request.spelling import corrected_pattern as corrected\n"
        "keys = ['a.Weight', 'a.weight', 'a.WEIGHT', 'a.bias1', 'a.bias2', 'a.bias3']\n"
        "print(corrected('a.weigth', keys), corrected('a.bias', keys))"
    )

    def proposed(seed: int) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
        return subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    assert len({proposed(seed) for seed in range(6)}) == 1


def test_long_names_that_are_alike_are_searched_in_bounded_time() -> None:
    """To compare two of them takes a third of a millisecond."""
    alike = "layer." + "abcdefghij" * 18
    keys = [f"{alike}{at:06d}" for at in range(20_000)]
    started = time.process_time()

    assert nearest_keys(f"{alike}00000x", keys)[0].startswith(alike)
    assert corrected_pattern(f"{'.'.join(f's{at}x' for at in range(3_000))}*", keys) is None
    assert nearest_keys("x" * 10**6, ["x" * 10**6 + "y"]) == []
    assert time.process_time() - started < 4


@pytest.mark.slow
def test_a_hundred_thousand_keys_are_searched_in_seconds() -> None:
    keys = [
        f"model.layers.{layer}.{module}.{kind}"
        for layer in range(5000)
        for module in ("q_proj", "k_proj", "up_proj", "norm", "gate")
        for kind in ("weight", "bias", "scale", "zero")
    ]
    started = time.process_time()

    assert corrected_pattern("model.layer.*.norm.weigth", keys) == "model.layers.*.norm.weight"
    assert nearest_keys("model.layers.7.norm.weigth", keys)[0] == "model.layers.7.norm.weight"
    assert time.process_time() - started < 10


THERE = {
    "all from zero": ("step-13.w", [f"step-{at}.w" for at in range(13)], "'step-' are 0..12"),
    "gaps": ("step-3.w", [f"step-{at}.w" for at in (0, 1, 2, 5, 9)], "'step-' are 0..2, 5, 9"),
    "many gaps": ("a.2.w", [f"a.{at}.w" for at in range(1, 24, 2)], "'a.' are 1, 3, 5, ..., 23"),
    "two": ("a.1.w", ["a.0.w", "a.2.w"], "'a.' are 0, 2"),
    "zeros in front": ("ckpt-9.w", [f"ckpt-{at:03}.w" for at in (11, 9, 10)], "are 009..011"),
    "one": ("a.0.w", ["a.03.w", "b.7.w"], "the only number after 'a.' is 03"),
    "no text before": ("9.w", ["0.w", "1.w"], "the numbers are 0..1"),
    "two places": (
        "*.layer.9.w",
        [f"{at}.layer.{layer}.w" for at in ("dec", "enc") for layer in range(len(at), 5)],
        "the numbers after 'dec.layer.' are 3..4; the numbers after 'enc.layer.' are 3..4",
    ),
}


@pytest.mark.parametrize(("pattern", "keys", "said"), THERE.values(), ids=THERE)
def test_the_numbers_that_there_are_instead_are_said_as_they_are_written(
    pattern: str, keys: list[str], said: str
) -> None:
    assert numbers_there(pattern, keys).endswith(said)
