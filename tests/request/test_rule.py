"""Text → rules."""

from __future__ import annotations

import inspect
import itertools
import json
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from reinit_cli.errors import ArgumentError, PatternError, RuleError, UnknownNameError
from reinit_cli.initializers import REGISTRY, Initializer, UndefinedError, parse_init
from reinit_cli.initializers.gains import NONLINEARITIES
from reinit_cli.initializers.parameters import Kind, Nested
from reinit_cli.operations.ways import meant
from reinit_cli.request.pattern import Pattern
from reinit_cli.request.rule import Rule, Rules, rules_of

SPLITS = {
    "fc.weight=zeros": ("fc.weight", "zeros"),
    "a=b=zeros": ("a=b", "zeros"),
    "a=zeros=ones": ("a", None),
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
        with pytest.raises(ArgumentError):
            Rule.parse(text)
        return
    rule = Rule.parse(text)
    assert (rule.pattern.text, rule.init.initializer.name, rule.text) == (pattern, name, text)


def test_where_nothing_is_known_the_first_equals_sign_splits() -> None:
    with pytest.raises(UnknownNameError) as refused:
        Rule.parse("a=b=zerros")

    assert refused.value.about == "b=zerros"


KAIMING = {"mode": "fan_in", "nonlinearity": "leaky_relu"}
ARGUMENTS: dict[str, Mapping[str, Any]] = {
    "uniform": {"a": 0.0, "b": 1.0},
    "uniform:-0.1,0.1": {"a": -0.1, "b": 0.1},
    "uniform:b=2": {"a": 0.0, "b": 2.0},
    "normal:1,0.02": {"mean": 1.0, "std": 0.02},
    "normal: std = 1e-2 ": {"mean": 0.0, "std": 0.01},
    "trunc_normal:0,1,-3,3": {"mean": 0.0, "std": 1.0, "a": -3.0, "b": 3.0, "bounds": "absolute"},
    "trunc_normal:in_std,0,1": {"mean": 0.0, "std": 1.0, "a": -2.0, "b": 2.0, "bounds": "in_std"},
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
    "kaiming_normal:nonlinearity=1.7": {"mode": "fan_in", "nonlinearity": 1.7},
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
    "normal:sdt=1": (
        "normal: unknown argument 'sdt'; it takes mean, std, ndim, min_ndim, keep_zeros",
        ("std",),
    ),
    "zeros:3": ("zeros: it takes no argument '3', only ndim=, min_ndim= and keep_zeros=", ()),
    "zeros:min_ndim=-1": ("zeros: min_ndim must be an integer of at least 0, not '-1'", ()),
    "zeros:min_ndim=1.5": ("zeros: min_ndim must be an integer of at least 0, not '1.5'", ()),
    "uniform:a=2": ("uniform: a=2 is above b=1", ()),
    "trunc_normal:0,1,2,1": ("trunc_normal: a=2 is above b=1", ()),
    "trunc_normal:0,0.001,1,2": (
        "trunc_normal: the bounds are too far from the mean, or too wide, to draw between them",
        (),
    ),
    "trunc_normal:0,1e-6,1e-6,1": (
        "trunc_normal: the bounds are too far from the mean, or too wide, to draw between them",
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
        "xavier_uniform: gain must be a number of at least 0 or a nonlinearity such as relu, "
        "not '-1'",
        (),
    ),
    "xavier_normal:fan_avg": (
        "xavier_normal: unknown argument 'fan_avg'; it takes gain=, a= or a nonlinearity such as "
        "relu",
        (),
    ),
}


@pytest.mark.parametrize(("text", "told"), WRONG.items(), ids=WRONG)
def test_wrong_arguments_are_told_with_what_was_meant(
    text: str, told: tuple[str, tuple[str, ...]]
) -> None:
    with pytest.raises((RuleError, UnknownNameError)) as refused:
        parse_init(text)

    problem, near = told
    assert str(refused.value) == problem
    assert meant(refused.value) == near


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
    except (RuleError, UnknownNameError):
        return
    assert rule.text == text or Rule.parse(rule.text) == rule


# --- keys that hold "=", and rules that are none ------------------------------------------

MORE_SPLITS = {
    "step=3.weight=normal:std=0.02": ("step=3.weight", "normal:mean=0.0,std=0.02"),
    "a=b=c=d=keep": ("a=b=c=d", "keep"),
    "zeros=ones": ("zeros", "ones"),
    "a==zeros": ("a=", "zeros"),
    "a=b:c=zeros": ("a=b:c", "zeros"),
    "a= xavier_uniform_ : relu": ("a", "xavier_uniform:gain=relu"),
    "a=Zeros=zeros": ("a=Zeros", "zeros"),
    "{a,b=}=constant:val=2": ("{a,b=}", "constant:val=2.0"),
}


@pytest.mark.parametrize(("text", "parts"), MORE_SPLITS.items(), ids=MORE_SPLITS)
def test_keys_may_hold_equals_signs(text: str, parts: tuple[str, str]) -> None:
    rule = Rule.parse(text)

    assert (rule.pattern.text, str(rule.init)) == parts


NO_RULES = {
    "": "rule '' needs an '=': PATTERN=INIT",
    "fc.weight": "rule 'fc.weight' needs an '=': PATTERN=INIT",
    "fc.weight:zeros": "rule 'fc.weight:zeros' needs an '=': PATTERN=INIT",
    "normal:std=0.02": "rule 'normal:std=0.02' has no pattern: PATTERN=INIT",
    "=zeros": "rule '=zeros' has no pattern: PATTERN=INIT",
    "a[=zeros": "pattern 'a[': '[' is not closed; '[[]' is a literal one",
    "a=": "rule 'a=' has no initializer: PATTERN=INIT",
    "a=zeros=ones": "zeros: it takes no argument 'ones', only ndim=, min_ndim= and keep_zeros=",
    "a=b=zerros": "unknown initializer 'b=zerros'",
    "a=std=0.02": "unknown initializer 'std=0.02'",
    "a=zeros:=ones": "zeros: unknown argument ''; it takes ndim, min_ndim, keep_zeros",
}


@pytest.mark.parametrize(("text", "problem"), NO_RULES.items(), ids=NO_RULES)
def test_what_is_no_rule_is_refused(text: str, problem: str) -> None:
    with pytest.raises((RuleError, UnknownNameError)) as refused:
        Rule.parse(text)

    assert str(refused.value) == problem


# --- names ----------------------------------------------------------------------------------

ALIASES = {
    "glorot_uniform": "xavier_uniform",
    "glorot_normal": "xavier_normal",
    "he_uniform": "kaiming_uniform",
    "he_normal": "kaiming_normal",
}


@pytest.mark.parametrize("declared", [*REGISTRY], ids=lambda declared: declared.name)
def test_the_trailing_underscore_of_torch_is_accepted(declared: Initializer) -> None:
    _, colon, arguments = declared.example.partition(":")

    for name in (declared.name, *declared.aliases):
        plain = parse_init(f"{name}{colon}{arguments}")
        assert plain.initializer is declared
        assert parse_init(f"{name}_{colon}{arguments}") == plain


def test_every_in_place_function_of_torch_has_its_name() -> None:
    """trunc_normal_, xavier_uniform_ …: what `torch.nn.init` has, and keep."""
    torchs = {name.removesuffix("_") for name in dir(torch.nn.init) if re.match("[a-z].*_$", name)}

    assert {declared.name for declared in REGISTRY} >= torchs | {"keep"}


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_the_names_of_others_are_accepted(alias: str, name: str) -> None:
    assert REGISTRY[alias] is REGISTRY[name]
    assert str(parse_init(alias)) == str(parse_init(name))


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("kaming_normal", "kaiming_normal"),
        ("xavier_unifrm", "xavier_uniform"),
        ("glorot_unform", "glorot_uniform"),
        ("HE_NORML", "he_normal"),
        ("orthogonl", "orthogonal"),
        ("kep", "keep"),
    ],
)
def test_a_misspelled_name_is_told_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UnknownNameError) as refused:
        parse_init(f"{name}:1")

    assert str(refused.value) == f"unknown initializer {name!r}"
    assert refused.value.about == name
    assert meant(refused.value)[0] == near


# --- arguments --------------------------------------------------------------------------------

SIGNATURES = {
    "uniform": ["a", "b"],
    "normal": ["mean", "std"],
    "trunc_normal": ["mean", "std", "a", "b"],
    "xavier_uniform": ["gain"],
    "xavier_normal": ["gain"],
    "kaiming_uniform": ["a", "mode", "nonlinearity"],
    "kaiming_normal": ["a", "mode", "nonlinearity"],
    "orthogonal": ["gain"],
    "sparse": ["sparsity", "std"],
    "constant": ["val"],
    "dirac": ["groups"],
    "eye": [],
    "ones": [],
    "zeros": [],
}


@pytest.mark.parametrize(("name", "arguments"), SIGNATURES.items(), ids=SIGNATURES)
def test_arguments_and_defaults_are_torch_s_in_torch_s_order(
    name: str, arguments: list[str]
) -> None:
    """Behind them some take `a`, the slope of a leaky_relu, or what torch has no word for."""
    of_torch = inspect.signature(getattr(torch.nn.init, f"{name}_")).parameters
    ours = {parameter.name: parameter.default for parameter in REGISTRY[name].parameters}

    assert [each for each in of_torch if each not in ("tensor", "generator")] == arguments
    assert list(ours)[: len(arguments)] == arguments
    assert set(ours) - set(arguments) <= {"a", "axes", "bounds"}
    given = {each: of_torch[each].default for each in arguments}
    bound = dict(REGISTRY[name].bind(_required(name)).arguments)
    assert {each: bound[each] for each in given if each not in _required(name)} == {
        each: default for each, default in given.items() if default is not inspect.Parameter.empty
    }


def _required(name: str) -> dict[str, float]:
    return {"constant": {"val": 0.5}, "sparse": {"sparsity": 0.1}}.get(name, {})


@pytest.mark.parametrize("words", [*itertools.permutations(["relu", "fan_out", "min_ndim=2"])])
def test_words_may_come_in_any_order(words: tuple[str, ...]) -> None:
    assert parse_init(f"kaiming_normal:{','.join(words)}").given == {
        "mode": "fan_out",
        "nonlinearity": "relu",
        "min_ndim": 2,
    }


@pytest.mark.parametrize("words", [*itertools.permutations(["leaky_relu", "0.2", "fan_out"])])
def test_a_number_among_words_is_the_slope(words: tuple[str, ...]) -> None:
    assert parse_init(f"he_normal:{','.join(words)}") == parse_init(
        "kaiming_normal:a=0.2,mode=fan_out,nonlinearity=leaky_relu"
    )


GAINS = {
    "xavier_uniform": 1.0,
    "xavier_uniform:relu": 1.4142135623730951,
    "xavier_uniform:leaky_relu": 1.4141428569978354,
    "xavier_uniform:leaky_relu,0.2": 1.3867504905630728,
    "xavier_normal:a=0.2,gain=leaky_relu": 1.3867504905630728,
    "xavier_normal:3": 3.0,
    "orthogonal:leaky_relu,a=10": 0.14071950894605836,
    "orthogonal:tanh": 5 / 3,
    "orthogonal:-2": -2.0,
    "kaiming_normal": 1.4142135623730951,
    "kaiming_normal:a=0": 1.4142135623730951,
    "kaiming_normal:fan_out": 1.4142135623730951,
    "kaiming_normal:leaky_relu": 1.4141428569978354,
    "kaiming_normal:leaky_relu,fan_out": 1.4141428569978354,
    "kaiming_normal:nonlinearity=leaky_relu": 1.4141428569978354,
    "kaiming_normal:leaky_relu,a=0": 1.4142135623730951,
    "kaiming_normal:0.2": 1.3867504905630728,
    "kaiming_uniform:a=10": 0.14071950894605836,
    "kaiming_uniform:selu": 0.75,
    "kaiming_uniform:nonlinearity=1.7": 1.7,
}


@pytest.mark.parametrize(("text", "gain"), GAINS.items(), ids=GAINS)
def test_the_slope_counts_wherever_a_leaky_relu_is_meant(text: str, gain: float) -> None:
    """Published gains; argument-free, kaiming is torch's leaky_relu with a=0."""
    assert parse_init(text).gain == gain


WITH_GAIN = ["xavier_uniform", "xavier_normal", "orthogonal", "kaiming_uniform", "kaiming_normal"]


@pytest.mark.parametrize("name", WITH_GAIN)
@pytest.mark.parametrize("nonlinearity", [*NONLINEARITIES])
def test_a_slope_is_refused_where_no_leaky_relu_uses_it(name: str, nonlinearity: str) -> None:
    text = f"{name}:{nonlinearity},a=0.1"
    if nonlinearity == "leaky_relu":
        assert parse_init(text).given["a"] == 0.1
        return
    with pytest.raises(ArgumentError) as refused:
        parse_init(text)
    assert str(refused.value) == (
        f"{name}: a is the slope of leaky_relu, and {nonlinearity} has none"
    )


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("normal:0.02", ("normal:std=0.02", "normal:mean=0.02")),
        ("normal: 1e-3 ", ("normal:std=1e-3", "normal:mean=1e-3")),
        ("normal_:0.02", ("normal:std=0.02", "normal:mean=0.02")),
        ("trunc_normal:0.02", ("trunc_normal:std=0.02", "trunc_normal:mean=0.02")),
        ("uniform:0.1", ("uniform:a=-0.1,b=0.1", "uniform:a=0,b=0.1")),
        ("normal:0.02,min_ndim=2", ("normal:std=0.02,min_ndim=2", "normal:mean=0.02,min_ndim=2")),
        ("uniform:1,min_ndim=2", ("uniform:a=-1,b=1,min_ndim=2", "uniform:a=0,b=1,min_ndim=2")),
    ],
)
def test_a_lone_number_that_could_be_two_arguments_is_refused(
    text: str, known: tuple[str, ...]
) -> None:
    with pytest.raises(ArgumentError, match="alone is ambiguous") as refused:
        parse_init(text)

    assert refused.value.known == known
    assert all(parse_init(each) for each in known)


def test_a_lone_number_is_clear_where_only_one_argument_can_be_meant() -> None:
    assert parse_init("xavier_uniform:2").given == {"gain": 2.0}
    assert parse_init("normal:0.5,std=2").given == {"mean": 0.5, "std": 2.0}
    assert parse_init("sparse:0.5").given["sparsity"] == 0.5


MORE_WRONG = {
    "normal: ": ("normal: an argument is empty", ("normal:std=0.02",)),
    "zeros:,": ("zeros: an argument is empty", ("zeros",)),
    "eye:3": ("eye: it takes no argument '3', only ndim=, min_ndim= and keep_zeros=", ()),
    "ones:relu": ("ones: it takes no argument 'relu', only ndim=, min_ndim= and keep_zeros=", ()),
    "keep:1": ("keep: it takes no argument '1'", ()),
    "constant:x": ("constant: unknown argument 'x'; it takes val=", ()),
    "constant:1,2": ("constant: 2 is one number too many", ("constant:1.2",)),
    "constant:vaule=2": (
        "constant: unknown argument 'vaule'; it takes val, ndim, min_ndim, keep_zeros",
        ("val",),
    ),
    "normal:=3": (
        "normal: unknown argument ''; it takes mean, std, ndim, min_ndim, keep_zeros",
        (),
    ),
    "normal:std=1=2": ("normal: std must be a number of at least 0, not '1=2'", ()),
    "normal:std=": ("normal: std must be a number of at least 0, not ''", ()),
    "normal:mean=nan": ("normal: mean must be a number, not 'nan'", ()),
    "normal:mean=1e999": ("normal: mean must be a number, not '1e999'", ()),
    "normal:min_dim=2": (
        "normal: unknown argument 'min_dim'; it takes mean, std, ndim, min_ndim, keep_zeros",
        ("min_ndim",),
    ),
    "trunc_normal:a=3": ("trunc_normal: a=3 is above b=2", ()),
    "trunc_normal:b=-3": ("trunc_normal: a=-2 is above b=-3", ()),
    "trunc_normal:1,2,-3,4,5": (
        "trunc_normal: 5 is one number too many",
        ("trunc_normal:std=0.02,in_std",),
    ),
    "uniform:b=-1": ("uniform: a=0 is above b=-1", ()),
    "sparse:-0.1": ("sparse: sparsity must be a number from 0 to 1, not '-0.1'", ()),
    "sparse:nan": ("sparse: sparsity must be a number from 0 to 1, not 'nan'", ()),
    "sparse:0.1,-1": ("sparse: std must be a number of at least 0, not '-1'", ()),
    "sparse:0.1,0.5,2": ("sparse: 2 is one number too many", ("sparse:0.1",)),
    "dirac:groups=x": ("dirac: groups must be an integer of at least 1, not 'x'", ()),
    "dirac:-1": ("dirac: groups must be an integer of at least 1, not '-1'", ()),
    "xavier_normal:2,0.2": ("xavier_normal: a is the slope of leaky_relu, and 2.0 has none", ()),
    "xavier_uniform:rleu": (
        "xavier_uniform: unknown argument 'rleu'; it takes gain=, a= or a nonlinearity such as "
        "relu",
        ("relu", "relu6"),
    ),
    "xavier_normal:gain=geluu": (
        "xavier_normal: gain must be a number of at least 0 or a nonlinearity such as relu, "
        "not 'geluu'",
        ("gelu",),
    ),
    "orthogonal:inf": (
        "orthogonal: gain must be a number or a nonlinearity such as relu, not 'inf'",
        (),
    ),
    "kaiming_normal:fan_ot": (
        "kaiming_normal: unknown argument 'fan_ot'; it takes a=, mode=, nonlinearity=, "
        "fan_in, fan_out, fan_avg, fan_geo_avg or a nonlinearity such as relu",
        ("fan_out",),
    ),
    "kaiming_normal:fan_in,fan_out": (
        "kaiming_normal: mode is given twice, as fan_in and fan_out",
        (),
    ),
    "kaiming_normal:relu,nonlinearity=tanh": (
        "kaiming_normal: nonlinearity is given twice, as tanh and relu",
        (),
    ),
    "kaiming_normal:0.2,0.3": (
        "kaiming_normal: 0.3 is one number too many",
        ("kaiming_normal:relu,fan_out",),
    ),
    "kaiming_normal:nan": ("kaiming_normal: a must be a number, not 'nan'", ()),
    "kaiming_normal:nonlinearity=geluu": (
        "kaiming_normal: nonlinearity must be a number of at least 0 or a nonlinearity "
        "such as relu, not 'geluu'",
        ("gelu",),
    ),
    "kaiming_uniform:mode=fan_inn": (
        "kaiming_uniform: mode must be one of fan_in, fan_out, fan_avg, fan_geo_avg, not 'fan_inn'",
        ("fan_in",),
    ),
}


@pytest.mark.parametrize(("text", "told"), MORE_WRONG.items(), ids=MORE_WRONG)
def test_every_wrong_argument_is_told_in_full(text: str, told: tuple[str, tuple[str, ...]]) -> None:
    with pytest.raises(ArgumentError) as refused:
        parse_init(text)

    assert (str(refused.value), meant(refused.value)) == told
    assert refused.value.about == text.partition(":")[0]


FILLING = [declared for declared in REGISTRY if declared.name != "keep"]


@pytest.mark.parametrize("declared", FILLING, ids=lambda declared: declared.name)
def test_every_initializer_takes_min_ndim(declared: Initializer) -> None:
    plain = parse_init(declared.example)
    asked = parse_init(f"{declared.example}{',' if ':' in declared.example else ':'}min_ndim=6")

    assert asked.min_ndim == 6
    assert asked.given == {**plain.given, "min_ndim": 6}
    with pytest.raises(UndefinedError, match=r"^4-D \(needs at least 6 dimensions\)$"):
        asked.law((2, 2, 2, 2))
    for wrong in ("-1", "1.5", "x", ""):
        with pytest.raises(ArgumentError) as refused:
            declared.bind({**plain.given, "min_ndim": wrong})
        assert str(refused.value) == (
            f"{declared.name}: min_ndim must be an integer of at least 0, not {wrong!r}"
        )


# --- there and back -----------------------------------------------------------------------------

VALUES = st.floats(-1e30, 1e30) | st.integers(-(2**70), 2**70)


def _values_of(kind: Kind) -> st.SearchStrategy[Any]:
    if isinstance(kind, Nested):
        return st.sampled_from(["normal", "kaiming_normal:relu;fan_out", "orthogonal:gain=2"])
    words = st.sampled_from(kind.words) if kind.words else st.nothing()
    return words | VALUES if kind.takes_numbers else words


@pytest.mark.parametrize("declared", [*REGISTRY], ids=lambda declared: declared.name)
@given(data=st.data())
def test_what_is_bound_is_read_back_from_its_text(declared: Initializer, data: Any) -> None:
    kinds = {parameter.name: parameter.kind for parameter in declared.parameters}
    given_ = {
        name: data.draw(_values_of(kind), name) for name, kind in kinds.items() if data.draw(BOOLS)
    }
    if "fans" in declared.asks and data.draw(BOOLS):
        given_ |= data.draw(LAYOUTS)
    try:
        init = declared.bind(given_ | {"min_ndim": data.draw(st.integers(0, 9))})
    except ArgumentError:
        return

    assert parse_init(str(init)) == init
    assert declared.bind(init.given) == init
    form = json.loads(json.dumps(Rule.of("a.*", str(init)).serial()))
    assert (form.pop("match"), form.pop("init")) == ("a.*", declared.name)
    assert declared.bind(form) == init


BOOLS = st.booleans()
LAYOUTS = st.fixed_dictionaries(
    {},
    optional={
        "fan": st.integers(0, 9),
        "groups": st.integers(0, 9),
        "transposed": BOOLS,
        "axes": st.text("oikb", max_size=5),
    },
)


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
def test_a_constant_that_is_not_finite_survives_too(value: str) -> None:
    init = parse_init(f"constant:{value}")

    assert str(init) == f"constant:val={value}"
    assert str(parse_init(str(init))) == str(init)


# --- from Python --------------------------------------------------------------------------------


def test_a_rule_from_python_takes_values_and_their_texts() -> None:
    assert Rule.of("a", "normal", std=0.5) == Rule.of("a", "normal", std="0.5")
    assert Rule.of("a", "zeros").text == "a=zeros"
    assert Rule.parse(Rule.of("a=b", "xavier_uniform_", gain="relu").text).init == (
        Rule.of("a=b", "xavier_uniform:relu").init
    )


@pytest.mark.parametrize(
    ("init", "arguments", "problem"),
    [
        ("foo", {}, "unknown initializer 'foo'"),
        ("foo", {"std": 1}, "unknown initializer 'foo'"),
        (
            "normal",
            {"sdt": 1},
            "normal: unknown argument 'sdt'; it takes mean, std, ndim, min_ndim, keep_zeros",
        ),
        ("normal", {"std": None}, "normal: std must be a number of at least 0, not None"),
        ("normal", {"std": [1]}, "normal: std must be a number of at least 0, not [1]"),
        ("normal", {"std": -1}, "normal: std must be a number of at least 0, not -1"),
        ("dirac", {"groups": True}, "dirac: groups must be an integer of at least 1, not True"),
        ("dirac", {"groups": 2.0}, "dirac: groups must be an integer of at least 1, not 2.0"),
        (
            "kaiming_normal",
            {"mode": 1},
            "kaiming_normal: mode must be one of fan_in, fan_out, fan_avg, fan_geo_avg, not 1",
        ),
        (
            "orthogonal",
            {"gain": True},
            "orthogonal: gain must be a number or a nonlinearity such as relu, not True",
        ),
    ],
)
def test_wrong_values_from_python_are_refused(
    init: str, arguments: dict[str, Any], problem: str
) -> None:
    with pytest.raises((RuleError, UnknownNameError)) as refused:
        Rule.of("a", init, **arguments)

    assert str(refused.value) == problem


def test_a_rule_that_keeps_is_short_for_the_text() -> None:
    assert Rule.keeping("a.*") == Rule.parse("a.*=keep")
    assert Rule.keeping("a.*").init.keeps
    assert Rule.keeping("a.*").serial() == {"match": "a.*", "init": "keep"}
    assert not Rule.parse("a.*=zeros").init.keeps


def test_rules_stay_in_their_order() -> None:
    texts = ["b=ones", "a=zeros", "b=ones"]

    assert [rule.text for rule in rules_of(iter(texts))] == texts
    assert rules_of([]) == ()
    with pytest.raises(PatternError):
        rules_of(["a=zeros", "[=zeros"])


def test_a_rule_is_made_from_a_pattern_and_an_initializer() -> None:
    init = parse_init("normal:std=0.02")

    assert Rule("fc.*", "zeros") == Rule.parse("fc.*=zeros")
    assert Rule("fc.*", "normal:std=0.02") == Rule.parse("fc.*=normal:std=0.02")
    assert Rule("fc.*", init).init == init
    assert Rule("a=b", "zeros").pattern.text == "a=b"


FORMS: dict[str, Rules] = {
    "a text": "fc.*=normal:std=0.02",
    "a rule": Rule("fc.*", "normal:std=0.02"),
    "a dictionary": {"fc.*": "normal:std=0.02"},
    "a dictionary with an initializer": {"fc.*": parse_init("normal:std=0.02")},
    "a list of texts": ["fc.*=normal:std=0.02"],
    "a list of pairs": [("fc.*", "normal:std=0.02")],
    "a list of rules": [Rule("fc.*", "normal:std=0.02")],
}


@pytest.mark.parametrize("rules", FORMS.values(), ids=FORMS)
def test_rules_may_be_given_in_any_form(rules: Rules) -> None:
    (rule,) = rules_of(rules)

    assert rule.pattern == Pattern.parse("fc.*")
    assert rule.init == parse_init("normal:std=0.02")


def test_a_dictionary_keeps_the_order_of_its_rules() -> None:
    assert [rule.text for rule in rules_of({"*": "ones", "fc.*": "zeros"})] == [
        "*=ones",
        "fc.*=zeros",
    ]


NOT_RULES = {
    "a number": (5, "rules must be such as 'fc.*=zeros'"),
    "nothing": (None, "not None"),
    "a list of numbers": ([5], "a rule must be a text such as 'fc.*=zeros'"),
    "bytes": (b"fc.*=zeros", "a rule must be a text such as 'fc.*=zeros'"),
    "a triple": ([("a", "zeros", "c")], "not a tuple"),
    "a number as an initializer": (
        {"a": 0.0},
        "such as 'normal:std=0.02', or a function of torch.nn.init, not a float",
    ),
    "a number as a pattern": ({0: "zeros"}, "such as 'fc.*', not an int"),
}


@pytest.mark.parametrize(("rules", "said"), NOT_RULES.values(), ids=NOT_RULES)
def test_what_is_not_a_rule_is_a_type_error_that_says_what_is(rules: Any, said: str) -> None:
    with pytest.raises(TypeError, match=re.escape(said)) as refused:
        rules_of(rules)

    assert len(str(refused.value).splitlines()) == 1


def test_functions_of_torch_are_initializers() -> None:
    assert Rule("fc.*", nn.init.zeros_) == Rule("fc.*", "zeros")
    assert Rule("fc.*", nn.init.xavier_uniform_).init == parse_init("xavier_uniform")
    drawn = partial(nn.init.normal_, mean=1, std=0.02)
    assert Rule("fc.*", drawn).init == parse_init("normal:mean=1,std=0.02")
    fan = partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu")
    assert rules_of({"fc.*": fan})[0].init == parse_init("kaiming_normal:relu,fan_out")
    for other in (nn.init.calculate_gain, torch.zeros, nn.Linear, partial(nn.init.normal_, None)):
        with pytest.raises(TypeError, match="or a function of torch"):
            Rule("fc.*", other)


def test_a_rule_shows_its_text_and_no_more() -> None:
    assert repr(Rule.parse("fc.*=kaiming_normal:relu")) == "Rule.parse('fc.*=kaiming_normal:relu')"
    assert len(repr(Rule("*" * 5_000, "zeros"))) < 600
    assert repr(parse_init("normal:std=0.02")) == "Init('normal:mean=0.0,std=0.02')"
