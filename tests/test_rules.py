"""Text → rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinit_cli.errors import ArgumentError, RuleError, UnknownInitializerError
from reinit_cli.initializers import REGISTRY, parse_init
from reinit_cli.rules import Rule, rules_of

SPLITS = {
    "fc.weight=zeros": ("fc.weight", "zeros"),
    "a=b=zeros": ("a=b", "zeros"),
    "a=zeros=ones": ("a", None),
    "a= zeros": ("a", "zeros"),
    "a=zeros_": ("a", "zeros"),
    "a=he_normal:relu": ("a", "kaiming_normal"),
    "a=normal:std=1": ("a", "normal"),
    "re:a=?b=ones": ("re:a=?b", "ones"),
}


@pytest.mark.parametrize(("text", "expected"), SPLITS.items(), ids=SPLITS)
def test_a_rule_is_split_before_the_first_known_initializer(
    text: str, expected: tuple[str, str | None]
) -> None:
    pattern, name = expected
    if name is None:
        with pytest.raises(UnknownInitializerError):
            Rule.parse(text)
        return
    rule = Rule.parse(text)
    assert (rule.pattern.text, rule.init.initializer.name, rule.text) == (pattern, name, text)


def test_where_nothing_is_known_the_first_equals_sign_splits() -> None:
    with pytest.raises(UnknownInitializerError) as refused:
        Rule.parse("a=b=zerros")

    assert refused.value.name == "b=zerros"


KAIMING = {"mode": "fan_in", "nonlinearity": "leaky_relu"}
ARGUMENTS: dict[str, Mapping[str, Any]] = {
    "uniform": {"a": 0.0, "b": 1.0},
    "uniform:-0.1,0.1": {"a": -0.1, "b": 0.1},
    "uniform:b=2": {"a": 0.0, "b": 2.0},
    "normal:1,0.02": {"mean": 1.0, "std": 0.02},
    "normal: std = 1e-2 ": {"mean": 0.0, "std": 0.01},
    "trunc_normal:0,1,-3,3": {"mean": 0.0, "std": 1.0, "a": -3.0, "b": 3.0},
    "constant:0.5": {"val": 0.5},
    "constant:-inf": {"val": float("-inf")},
    "zeros:min_ndim=2": {"min_ndim": 2},
    "dirac:2": {"groups": 2},
    "sparse:0.1": {"sparsity": 0.1, "std": 0.01},
    "xavier_uniform": {"gain": 1.0},
    "xavier_uniform:2.5": {"gain": 2.5},
    "xavier_uniform:relu": {"gain": "relu"},
    "xavier_uniform:gain=relu,min_ndim=4": {"gain": "relu", "min_ndim": 4},
    "xavier_normal:a=0.2,leaky_relu": {"gain": "leaky_relu", "a": 0.2},
    "xavier_normal:leaky_relu": {"gain": "leaky_relu"},
    "orthogonal:-1": {"gain": -1.0},
    "kaiming_normal": {"a": 0.0, **KAIMING},
    "kaiming_normal:0.2": {"a": 0.2, **KAIMING},
    "kaiming_normal:leaky_relu": {"a": 0.01, **KAIMING},
    "kaiming_normal:leaky_relu,a=0.3": {"a": 0.3, **KAIMING},
    "kaiming_normal:fan_out": {"a": 0.0, **KAIMING, "mode": "fan_out"},
    "kaiming_uniform:relu,fan_out": {"mode": "fan_out", "nonlinearity": "relu"},
    "kaiming_uniform:fan_out,relu": {"mode": "fan_out", "nonlinearity": "relu"},
    "kaiming_uniform:mode=fan_out,nonlinearity=tanh": {"mode": "fan_out", "nonlinearity": "tanh"},
}


@pytest.mark.parametrize(("text", "given_"), ARGUMENTS.items(), ids=ARGUMENTS)
def test_arguments_are_read_by_name_by_position_and_by_kind(
    text: str, given_: Mapping[str, Any]
) -> None:
    init = parse_init(text)

    assert init.given == given_
    assert parse_init(str(init)) == init


def test_an_unnamed_slope_is_torch_s_zero_and_a_named_leaky_relu_s_a_hundredth() -> None:
    assert parse_init("kaiming_normal").gain == 2**0.5
    assert parse_init("kaiming_normal:leaky_relu").gain == 1.4141428569978354


WRONG = {
    "foo": ("unknown initializer 'foo'", ()),
    "normall": ("unknown initializer 'normall'", ("normal",)),
    "normal:": ("normal: an argument is empty", ("normal:std=0.02",)),
    "normal:std=1,": ("normal: an argument is empty", ("normal:std=0.02",)),
    "normal:0.02": (
        "normal: 0.02 alone is ambiguous",
        ("normal:std=0.02", "normal:mean=0.02"),
    ),
    "uniform:0.1": (
        "uniform: 0.1 alone is ambiguous",
        ("uniform:a=-0.1,b=0.1", "uniform:a=0,b=0.1"),
    ),
    "normal:1,2,3": ("normal: 3 is one number too many", ("normal:std=0.02",)),
    "normal:std=1,std=2": ("normal: std is given twice, as 1 and 2", ()),
    "normal:std=x": ("normal: std must be a number of at least 0, not 'x'", ()),
    "normal:std=nan": ("normal: std must be a number of at least 0, not 'nan'", ()),
    "normal:std=inf": ("normal: std must be a number of at least 0, not 'inf'", ()),
    "normal:std=-1": ("normal: std must be a number of at least 0, not '-1'", ()),
    "normal:sd=1": ("normal: unknown argument 'sd'; it takes mean, std, min_ndim", ("std",)),
    "zeros:3": ("zeros: it takes no argument '3', only min_ndim=", ()),
    "zeros:min_ndim=-1": ("zeros: min_ndim must be an integer of at least 0, not '-1'", ()),
    "zeros:min_ndim=1.5": ("zeros: min_ndim must be an integer of at least 0, not '1.5'", ()),
    "uniform:a=2": ("uniform: a=2 is above b=1", ()),
    "trunc_normal:0,1,2,1": ("trunc_normal: a=2 is above b=1", ()),
    "trunc_normal:0,0.001,1,2": (
        "trunc_normal: the bounds are too far from the mean, or too wide, to draw by rejection",
        (),
    ),
    "trunc_normal:0,1e-6,1e-6,1": (
        "trunc_normal: the bounds are too far from the mean, or too wide, to draw by rejection",
        (),
    ),
    "constant": ("constant: val is missing", ("constant:0.5",)),
    "sparse": ("sparse: sparsity is missing", ("sparse:0.1",)),
    "sparse:1.5": ("sparse: sparsity must be a number from 0 to 1, not '1.5'", ()),
    "dirac:0": ("dirac: groups must be an integer of at least 1, not '0'", ()),
    "dirac:1.5": ("dirac: groups must be an integer of at least 1, not '1.5'", ()),
    "kaiming_normal:relu,a=0.1": (
        "kaiming_normal: a is the slope of leaky_relu, and relu has none",
        (),
    ),
    "xavier_normal:a=0.1": (
        "xavier_normal: a is the slope of leaky_relu, and 1.0 has none",
        (),
    ),
    "xavier_uniform:relu,tanh": ("xavier_uniform: gain is given twice, as relu and tanh", ()),
    "xavier_uniform:-1": (
        "xavier_uniform: gain must be a number of at least 0 or a nonlinearity (linear, conv1d, "
        "conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d, sigmoid, tanh, "
        "relu, selu, leaky_relu), not '-1'",
        (),
    ),
    "kaiming_normal:mode=fan_avg": (
        "kaiming_normal: mode must be one of fan_in, fan_out, not 'fan_avg'",
        ("fan_in",),
    ),
}


@pytest.mark.parametrize(("text", "told"), WRONG.items(), ids=WRONG)
def test_wrong_arguments_are_told_with_what_was_meant(
    text: str, told: tuple[str, tuple[str, ...]]
) -> None:
    with pytest.raises(RuleError) as refused:
        parse_init(text)

    problem, near = told
    assert str(refused.value) == problem
    assert getattr(refused.value, "near", ()) == near


def test_a_bool_is_no_number() -> None:
    with pytest.raises(ArgumentError, match="std must be a number of at least 0, not True"):
        Rule.of("a", "normal", std=True)


def test_a_rule_from_python_is_the_rule_from_text() -> None:
    rule = Rule.of("head.*", "kaiming_normal", nonlinearity="relu", mode="fan_out")

    assert rule.init == Rule.parse("head.*=kaiming_normal:relu,fan_out").init
    assert rule.text == "head.*=kaiming_normal:mode=fan_out,nonlinearity=relu"
    assert Rule.of("head.*", "kaiming_normal:relu,fan_out").init == rule.init
    assert rules_of(["a=zeros", rule]) == (Rule.parse("a=zeros"), rule)


def test_a_serial_rule_can_be_bound_again() -> None:
    rule = Rule.parse("a.*=xavier_uniform:leaky_relu,a=0.2,min_ndim=3")
    form = dict(rule.serial())

    assert (form.pop("match"), form.pop("init")) == ("a.*", "xavier_uniform")
    assert REGISTRY["xavier_uniform"].bind(form) == rule.init


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(0, 1e300))
def test_numbers_survive_being_written_and_read(mean: float, std: float) -> None:
    init = REGISTRY["normal"].bind({"mean": mean, "std": std})

    assert parse_init(str(init)) == init


@given(st.text(max_size=30))
def test_whatever_the_text_the_answer_is_ours(text: str) -> None:
    try:
        rule = Rule.parse(text)
    except RuleError:
        return
    assert rule.text == text
