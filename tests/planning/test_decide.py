"""Rules and keys decide what happens to every key."""

from __future__ import annotations

import math
import shlex
import subprocess
import sys
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from reinit_cli.cli.hints import hint_of
from reinit_cli.errors import RuleError, UnfillableError, UnmatchedRuleError
from reinit_cli.initializers import Constant, Elsewhere, Law
from reinit_cli.planning.decide import decide
from reinit_cli.planning.entries import Entries, as_asked
from reinit_cli.planning.plan import Plan
from reinit_cli.request.pattern import Pattern
from reinit_cli.request.request import Request
from reinit_cli.request.rule import Rule, rules_of
from reinit_cli.streams.stream import DEFAULT_STREAM, seed_for
from reinit_cli.streams.torch.stream import TorchStream
from reinit_cli.tensors.dtype import DTYPES
from reinit_cli.tensors.info import RUNNING_STATISTICS, TensorInfo
from reinit_cli.tensors.live import infos_of
from reinit_cli.tensors.optimizer import Group, Optimizer, ParameterNumber, State


def _tensor(key: str, shape: tuple[int, ...] = (4, 3), dtype: str = "float32") -> TensorInfo:
    nbytes = math.prod(shape) * (DTYPES[dtype].nbits if dtype in DTYPES else 8) // 8
    return TensorInfo(key, dtype, shape, nbytes)


NET = (
    _tensor("conv.weight", (8, 3, 3, 3)),
    _tensor("conv.bias", (8,)),
    _tensor("bn.weight", (8,)),
    _tensor("bn.running_mean", (8,)),
    _tensor("bn.running_var", (8,)),
    _tensor("bn.num_batches_tracked", (), "int64"),
    _tensor("fc.weight", (10, 8)),
    _tensor("mask", (10,), "bool"),
)


def _plan(*rules: str, tensors: tuple[TensorInfo, ...] = NET, **options: Any) -> Plan:
    return decide(Entries("net", tensors), Request("net", rules, **options))


def _actions(plan: Plan) -> dict[str, tuple[str, int | None]]:
    return {step.key: (step.action, step.rule) for step in plan.steps if step.action != "copy"}


def test_the_last_rule_that_matches_owns_a_key_whole() -> None:
    plan = _plan("*.weight=normal:std=1,min_ndim=2", "fc.*=zeros", "conv.*=keep")

    assert _actions(plan) == {
        "conv.weight": ("keep", 2),
        "conv.bias": ("keep", 2),
        "fc.weight": ("fill", 1),
    }
    assert plan.shadowed == (2, 0, 0)
    assert plan.warnings == (
        "rule '*.weight=normal:std=1,min_ndim=2' owns no tensor: later rules took all it matches",
    )


DIMENSIONS = (
    ("*.weight=ones", "*.weight=normal:std=1,min_ndim=2", "*.weight=kaiming_normal:relu,ndim=4"),
    ("conv.weight", 2),
    ("bn.weight", 0),
    ("fc.weight", 1),
)


def test_a_rule_for_some_dimensions_leaves_other_tensors_to_earlier_rules() -> None:
    rules, *owners = DIMENSIONS
    assert _actions(_plan(*rules)) == {key: ("fill", rule) for key, rule in owners}
    assert _plan(*rules).shadowed == (2, 1, 0)


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ("*.weight=zeros:ndim=3", "matches 3 keys of net, and none has 3 dimensions"),
        ("*.weight=zeros:min_ndim=5", "matches 3 keys of net, and none has 5 dimensions or more"),
        ("fc.weight=zeros:ndim=1", "matches 1 key of net, and none has 1 dimension"),
    ],
)
def test_a_rule_whose_keys_have_other_dimensions_is_refused(rule: str, wanted: str) -> None:
    with pytest.raises(UnmatchedRuleError) as refused:
        _plan(rule)
    assert str(refused.value) == f"rule {rule!r} {wanted}"
    assert refused.value.known == ()


def test_a_wildcard_takes_what_its_initializer_can_fill_and_says_why_not_the_rest() -> None:
    plan = _plan("*=xavier_uniform")

    assert {step.key: step.reason for step in plan.steps if step.action == "skip"} == {
        "conv.bias": "1-D (fans need at least 2 dimensions)",
        "bn.weight": "1-D (fans need at least 2 dimensions)",
        "bn.running_mean": "a running statistic",
        "bn.running_var": "a running statistic",
        "bn.num_batches_tracked": "a running statistic",
        "mask": "bool values",
    }
    assert [step.key for step in plan.fills] == ["conv.weight", "fc.weight"]


@pytest.mark.parametrize("pattern", ["*.running_var", "bn.running_var", "{bn.running_var,x}"])
def test_a_running_statistic_is_filled_where_it_is_named(pattern: str) -> None:
    assert [step.key for step in _plan(f"{pattern}=ones").fills] == ["bn.running_var"]


def test_an_integer_is_filled_where_it_is_named_and_the_value_fits() -> None:
    plan = _plan("bn.num_batches_tracked=zeros", "mask=ones")

    assert [step.key for step in plan.fills] == ["bn.num_batches_tracked", "mask"]


REFUSED = {
    "conv.bias=xavier_uniform": "1-D (fans need at least 2 dimensions)",
    "conv.weight=eye": "4-D (needs 2 dimensions)",
    "fc.weight=dirac": "2-D (needs 3 to 5 dimensions)",
    "conv.weight=dirac:groups=3": "its first dimension, 8, is not divisible by 3 groups",
    "mask=normal": "bool takes zeros, ones and constant only",
    "mask=constant:2": "bool cannot hold 2 exactly",
    "bn.num_batches_tracked=constant:0.5": "int64 cannot hold 0.5 exactly",
    "bn.num_batches_tracked=constant:nan": "int64 cannot hold nan exactly",
    "bn.num_batches_tracked=constant:1e300": "int64 cannot hold 1e+300 exactly",
    "bn.num_batches_tracked=eye": "0-D (needs 2 dimensions)",
}


@pytest.mark.parametrize(("rule", "reason"), REFUSED.items(), ids=REFUSED)
def test_a_name_insists(rule: str, reason: str) -> None:
    key = rule.partition("=")[0]
    with pytest.raises(UnfillableError) as refused:
        _plan(rule)

    assert str(refused.value) == f"rule {rule!r} cannot fill {key!r}: {reason}"
    assert refused.value.kind == ""


DTYPE_LIMITS = [
    ("float16", "constant:70000", "float16 cannot hold values as large as 70000"),
    ("float16", "normal:std=1e6", "float16 cannot hold values as large as 5e+06"),
    ("float8_e4m3fn", "uniform:-500,500", "float8_e4m3fn cannot hold values as large as 500"),
    ("bfloat16", "constant:70000", ""),
    ("float32", "constant:1e39", "float32 cannot hold values as large as 1e+39"),
    ("float64", "constant:1e39", ""),
    ("float16", "constant:inf", ""),
    ("float8_e4m3fn", "normal:std=300", "float8_e4m3fn cannot hold values as large as 1500"),
    ("float8_e4m3fn", "constant:-inf", "float8_e4m3fn has no infinity"),
    ("float8_e4m3fn", "constant:nan", ""),
    ("float32", "uniform:-3e38,3e38", "float32 cannot be drawn from -3e+38 to 3e+38: too wide"),
    ("complex64", "ones", ""),
    ("complex64", "normal", ""),
    ("complex64", "normal:std=1e38", "complex64 cannot hold values as large as 3.53553e+38"),
    ("complex64", "uniform:-3e38,3e38", "complex64 cannot be drawn from -3e+38 to 3e+38: too wide"),
    ("uint8", "constant:255", ""),
    ("uint8", "constant:256", "uint8 cannot hold 256 exactly"),
    ("uint8", "constant:-1", "uint8 cannot hold -1 exactly"),
    ("uint64", "constant:18446744073709551615", ""),
    ("F4", "zeros", "F4 can be carried but not filled"),
    ("qint8", "zeros", "qint8 can be carried but not filled"),
]


@pytest.mark.parametrize(("dtype", "init", "reason"), DTYPE_LIMITS)
def test_a_dtype_holds_what_it_can(dtype: str, init: str, reason: str) -> None:
    tensors = (_tensor("w", (4, 4), dtype),)
    if not reason:
        assert [step.key for step in _plan(f"w={init}", tensors=tensors).fills] == ["w"]
        return
    with pytest.raises(UnfillableError) as refused:
        _plan(f"w={init}", tensors=tensors)
    assert str(refused.value).endswith(f": {reason}")


def test_strict_makes_a_skip_an_error() -> None:
    with pytest.raises(UnfillableError) as refused:
        _plan("conv.*=xavier_uniform", strict=True)

    assert refused.value.kind == "wildcard"


@pytest.mark.parametrize(
    ("rule", "message", "hint"),
    [
        ("cnv.weight=zeros", "matches no key of net", "did you mean -r conv.weight=zeros?"),
        ("weight=zeros", "matches no key of net", "did you mean -r '*.weight=zeros'?"),
        ("re:q=zeros", "matches no key of net", "list the keys with: reinit keys net"),
        (
            "re:con.weight=zeros",
            "matches no key of net",
            "similar key: conv.weight; list the keys with: reinit keys net",
        ),
        (
            "*.bias=xavier_uniform",
            "fills nothing of net: 1 skipped: 1-D (fans need at least 2 dimensions)",
            "for 1-D tensors use ones, zeros or normal, such as -r '*.bias=ones'",
        ),
        (
            "bn.*=xavier_uniform",
            "fills nothing of net: 3 skipped: a running statistic; "
            "1 skipped: 1-D (fans need at least 2 dimensions)",
            "for 1-D tensors use ones, zeros or normal, such as -r 'bn.*=ones'",
        ),
    ],
)
def test_a_rule_that_does_nothing_is_refused(rule: str, message: str, hint: str) -> None:
    with pytest.raises(UnmatchedRuleError) as refused:
        _plan(rule)

    assert str(refused.value) == f"rule {rule!r} {message}"
    assert hint_of(refused.value) == hint
    assert _plan(rule, allow_unmatched=True).warnings[0] == f"rule {rule!r} {message}"


def test_a_keep_that_matches_nothing_is_refused_too_but_need_not_fill() -> None:
    assert _actions(_plan("mask=keep")) == {"mask": ("keep", 0)}
    with pytest.raises(UnmatchedRuleError):
        _plan("nothing=keep")


def test_a_rule_whose_keys_later_rules_took_is_a_warning() -> None:
    plan = _plan("fc.weight=normal:std=1", "fc.*=zeros")

    assert plan.warnings == (
        "rule 'fc.weight=normal:std=1' owns no tensor: later rules took all it matches",
    )


def test_a_random_law_on_a_norm_s_scale_is_a_warning() -> None:
    assert _plan("*.weight=normal:std=1", "*.running_*=keep").warnings == (
        "rule '*.weight=normal:std=1' draws 1-dimensional weights, which are usually scales of "
        "normalizations: 'bn.weight'; min_ndim=2 leaves them out",
    )
    for rule in ("*.weight=normal:std=1,min_ndim=2", "*.weight=ones"):
        assert _plan(rule, "*.running_*=keep").warnings == ()


def test_keys_that_share_32_bits_of_their_seeds_are_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(TorchStream, "seed_for", lambda _, __, key, ___: (len(key) << 32) + 7)

    rules = ("{conv,fc}.weight=normal", "*.running_*=keep")
    assert _plan(*rules, stream="torch-1").warnings == (
        "'conv.weight' and 'fc.weight' are drawn from one stream; another seed parts them",
    )


def test_an_empty_tensor_is_filled_with_nothing() -> None:
    plan = _plan("w=xavier_uniform", tensors=(_tensor("w", (0, 5)),))

    assert [step.key for step in plan.fills] == ["w"]


# --- one tensor under several keys -------------------------------------------------------


def _tied() -> tuple[TensorInfo, ...]:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 5)
            self.embed = nn.Embedding(5, 3)
            self.embed.weight = self.head.weight

    return infos_of(Tied().state_dict())


def test_a_rule_on_one_key_of_a_tensor_changes_it_under_all() -> None:
    plan = _plan("head.weight=normal", tensors=_tied())

    filled = {step.key: step for step in plan.steps if step.action == "fill"}
    assert filled.keys() == {"head.weight", "embed.weight"}
    assert {step.seed for step in filled.values()} == {
        seed_for(0, "embed.weight", stream=DEFAULT_STREAM)
    }
    assert filled["head.weight"].tied == ("embed.weight",)
    assert [step.key for step in plan.fills] == ["embed.weight"]


def test_two_names_of_one_tensor_may_not_disagree() -> None:
    with pytest.raises(RuleError) as refused:
        _plan("head.weight=zeros", "embed.weight=ones", tensors=_tied())

    assert str(refused.value) == (
        "'head.weight' and 'embed.weight' are tied, but rule 'head.weight=zeros' "
        "and rule 'embed.weight=ones' disagree"
    )
    agreed = _plan("head.weight=zeros", "embed.weight=zeros", tensors=_tied())
    assert len(list(agreed.fills)) == 1


def test_of_two_wildcards_on_one_tensor_the_last_decides() -> None:
    plan = _plan("head.w*=zeros", "embed.*=ones", tensors=_tied())

    assert {step.law.low for step in plan.steps if step.law} == {1.0}


def test_tensors_that_overlap_cannot_be_filled() -> None:
    base = torch.zeros(10)
    state = {"a": base[:6], "b": base[4:], "c": torch.zeros(1).expand(4), "d": base.new_zeros(3)}
    tensors = infos_of(state)

    plan = _plan("*=ones", tensors=tensors)

    assert {step.key: step.reason for step in plan.steps} == {
        "a": "it shares memory with 'b'",
        "b": "it shares memory with 'a'",
        "c": "its elements overlap in memory",
        "d": "",
    }


def test_parts_of_one_storage_that_do_not_meet_are_independent() -> None:
    base = torch.zeros(10, 4)
    tensors = infos_of({"a": base[:5], "b": base[5:], "t": torch.zeros(3, 4).T})

    assert [step.key for step in _plan("*=ones", tensors=tensors).fills] == ["a", "b", "t"]


# --- what a draw depends on --------------------------------------------------------------

KEYS = st.lists(st.text("ab.", min_size=1, max_size=4), min_size=1, max_size=8, unique=True)


@given(KEYS, st.randoms(), st.integers(0, 99))
def test_seeds_and_laws_do_not_depend_on_the_order_of_keys_or_on_other_rules(
    keys: list[str], random: Any, seed: int
) -> None:
    tensors = [_tensor(key) for key in keys]
    plain = _plan("*=kaiming_normal", tensors=tuple(tensors), seed=seed)
    random.shuffle(tensors)

    other = _plan(
        "*=zeros", "*=ones", "*=kaiming_normal", tensors=(*tensors, _tensor("x")), seed=seed
    )

    drawn = {step.key: (step.seed, step.law) for step in other.fills}
    assert all(drawn[step.key] == (step.seed, step.law) for step in plain.fills)
    assert {step.key: step.seed for step in plain.fills} == {
        key: seed_for(seed, key, stream=DEFAULT_STREAM) for key in keys
    }


def test_the_seed_of_a_key_is_the_start_of_a_hash() -> None:
    from hashlib import sha256

    digest = sha256("3:größe".encode()).digest()[:8]
    assert seed_for(3, "größe") == int.from_bytes(digest, "little") % 2**63
    assert all(0 <= seed_for(seed, "k") < 2**63 for seed in range(-500, 500))


# --- who owns a key -----------------------------------------------------------------------


def test_without_rules_everything_is_copied() -> None:
    plan = _plan()

    assert [step.key for step in plan.steps] == [tensor.key for tensor in NET]
    assert {(step.action, step.rule, step.law, step.seed) for step in plan.steps} == {
        ("copy", None, None, 0)
    }
    assert plan.warnings == plan.shadowed == ()


def test_a_key_that_a_later_rule_skips_is_not_given_back_to_an_earlier_one() -> None:
    """The last rule that matches owns a key whole, whatever becomes of it."""
    plan = _plan("conv.*=ones", "*=xavier_uniform")

    assert _actions(plan)["conv.bias"] == ("skip", 1)
    assert plan.shadowed == (2, 0)
    assert plan.warnings[0] == "rule 'conv.*=ones' owns no tensor: later rules took all it matches"


def test_what_a_last_keep_excludes_stays() -> None:
    rules = [*rules_of(["*.weight=zeros"]), Rule.keeping("{conv,fc}.weight")]
    plan = decide(Entries("net", NET), Request("net", tuple(rules), strict=True))

    assert _actions(plan) == {
        "conv.weight": ("keep", 1),
        "bn.weight": ("fill", 0),
        "fc.weight": ("keep", 1),
    }
    assert plan.shadowed == (2, 0)


def test_a_keep_keeps_what_nothing_could_fill() -> None:
    plan = _plan("*=keep", strict=True)

    assert {step.action for step in plan.steps} == {"keep"}
    assert list(plan.fills) == []


def test_the_plan_knows_its_rules_and_options() -> None:
    rules = rules_of(["conv.weight=ones", "q=zeros"])
    request = Request("net", rules, seed=7, device="cuda:1", strict=True, allow_unmatched=True)
    plan = decide(Entries("net", NET), request)

    assert (plan.source, plan.rules, plan.request) == ("net", rules, request)
    assert [[step.key for step in owned] for owned in plan.by_rule()] == [["conv.weight"], []]


@pytest.mark.parametrize(
    ("rule", "bound", "std"),
    [
        ("xavier_uniform:relu", 0.0384734, 0.0222126),
        ("kaiming_normal:relu", None, 0.0742270),
        ("kaiming_normal:relu,fan_out", None, 0.0160706),
        ("kaiming_uniform:2.2360679775", 0.0524864, None),
        ("trunc_normal:std=0.02", 2.0, None),
        ("zeros", None, 0.0),
    ],
)
def test_a_step_knows_its_fans_and_its_bound(
    rule: str, bound: float | None, std: float | None
) -> None:
    """The first layer of AlexNet, by the published numbers."""
    tensors = (_tensor("features.0.weight", (64, 3, 11, 11)),)
    (step,) = _plan(f"*={rule}", tensors=tensors).steps

    assert step.fans is not None
    assert step.law is not None
    assert (step.fans.fan_in, step.fans.fan_out) == (363, 7744)
    assert step.bound is None if bound is None else step.bound == pytest.approx(bound, rel=1e-5)
    assert std is None or step.law.std == pytest.approx(std, rel=1e-5)


# --- what cannot be filled ----------------------------------------------------------------

STRICT = {
    "*=xavier_uniform": ("conv.bias", "1-D (fans need at least 2 dimensions)"),
    "bn.*=zeros": ("bn.running_mean", "a running statistic"),
    "mas?=zeros": ("mask", "bool values"),
}


@pytest.mark.parametrize(("rule", "told"), STRICT.items(), ids=STRICT)
def test_strict_names_the_first_skip(rule: str, told: tuple[str, str]) -> None:
    key, reason = told
    assert {step.key: step.reason for step in _plan(rule, allow_unmatched=True).steps}[
        key
    ] == reason

    with pytest.raises(UnfillableError) as refused:
        _plan(rule, strict=True, allow_unmatched=True)

    assert str(refused.value) == f"rule {rule!r} cannot fill {key!r}: {reason}"
    assert refused.value.kind == "wildcard"
    assert refused.value.about == key
    assert refused.value.of == rule.partition("=")[2].partition(":")[0]


@pytest.mark.parametrize("name", sorted(RUNNING_STATISTICS))
@pytest.mark.parametrize(
    ("pattern", "action"),
    [
        ("{}", "fill"),
        ("*{}", "fill"),
        ("*.{}", "fill"),
        ("{{bn.{},x}}", "fill"),
        ("*.{}*", "fill"),
        ("re:.*\\.{}", "fill"),
        ("bn.*", "skip"),
        ("*", "skip"),
        ("{{bn,x}}.?*", "skip"),
        ("re:.*", "skip"),
    ],
)
def test_running_statistics_are_taken_where_the_last_segment_names_them(
    name: str, pattern: str, action: str
) -> None:
    dtype = "int64" if name == "num_batches_tracked" else "float32"
    key = name if pattern == "{}" else f"bn.{name}"
    tensors = (_tensor("bn.bias", (8,)), _tensor(key, (8,), dtype))
    plan = _plan(f"{pattern.format(name)}=ones", "bn.bias=zeros", tensors=tensors)

    (step,) = (step for step in plan.steps if step.key == key)
    assert (step.action, step.reason) == (
        action,
        "a running statistic" if action == "skip" else "",
    )


INFINITE = torch.tensor(math.inf)
FLOATS = [name for name, dtype in DTYPES.items() if dtype.kind == "float"]
INTEGERS = [name for name, dtype in DTYPES.items() if dtype.kind == "integer"]


def _refusal(dtype: str, init: str) -> str:
    try:
        _plan(f"w={init}", tensors=(_tensor("w", (4, 4), dtype),))
    except UnfillableError as refused:
        return str(refused).removeprefix(f"rule 'w={init}' cannot fill 'w': ")
    return ""


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_float_holds_up_to_its_largest_value(dtype: str) -> None:
    largest = torch.finfo(getattr(torch, dtype)).max

    assert _refusal(dtype, f"constant:{largest!r}") == ""
    assert _refusal(dtype, f"constant:{-largest!r}") == ""
    if dtype != "float64":
        too_large = f"{dtype} cannot hold values as large as {2 * largest:g}"
        assert _refusal(dtype, f"constant:{2 * largest!r}") == too_large
        assert _refusal(dtype, f"constant:{-2 * largest!r}") == too_large
        assert _refusal(dtype, f"uniform:0,{2 * largest!r}") != ""
        # Of a normal law five deviations must fit.
        assert _refusal(dtype, f"normal:mean=0,std={2 / 5 * largest!r}") == too_large
        assert _refusal(dtype, f"normal:mean={2 * largest!r},std=0") == too_large
        assert _refusal(dtype, f"normal:mean=0,std={largest / 6!r}") == ""


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_float_takes_infinity_where_torch_has_one_for_it(dtype: str) -> None:
    has_infinity = bool(INFINITE.to(getattr(torch, dtype)).float().isinf())

    for text in ("inf", "-inf"):
        expected = "" if has_infinity else f"{dtype} has no infinity"
        assert _refusal(dtype, f"constant:{text}") == expected
    assert _refusal(dtype, "constant:nan") == ""


@pytest.mark.parametrize("dtype", INTEGERS)
def test_an_integer_holds_what_is_exact_and_in_its_range(dtype: str) -> None:
    limits = torch.iinfo(getattr(torch, dtype))

    for value in (limits.min, limits.max, 0, 1, "1e2", "-0"):
        assert _refusal(dtype, f"constant:{value}") == ""
    for value in (limits.min - 1, limits.max + 1, 0.5, "inf", "nan"):
        assert _refusal(dtype, f"constant:{value}") == (
            f"{dtype} cannot hold {float(value):g} exactly"
        )
    for init in ("zeros", "ones"):
        assert _refusal(dtype, init) == ""
    for init in ("normal", "uniform", "xavier_uniform", "eye", "sparse:0.5", "orthogonal"):
        assert _refusal(dtype, init) == f"{dtype} takes zeros, ones and constant only"


def test_an_integer_keeps_what_no_float_holds() -> None:
    tensors = (_tensor("w", (2,), "int64"),)
    (step,) = _plan(f"w=constant:{2**53 + 1}", tensors=tensors).fills

    assert step.law is not None
    assert step.law.low == 2**53 + 1


@pytest.mark.parametrize(
    ("value", "is_held"),
    [("0", True), ("1", True), ("2", False), ("-1", False), ("0.5", False), ("nan", False)],
)
def test_a_bool_holds_zero_and_one(value: str, is_held: bool) -> None:
    expected = "" if is_held else f"bool cannot hold {float(value):g} exactly"

    assert _refusal("bool", f"constant:{value}") == expected


@pytest.mark.parametrize("dtype", ["complex32", "complex64", "complex128"])
def test_a_complex_tensor_takes_constants_normals_and_uniforms(dtype: str) -> None:
    for init in ("zeros", "ones", "constant:-2.5", "constant:inf", "constant:nan"):
        assert _refusal(dtype, init) == ""
    for init in ("normal", "uniform", "xavier_normal", "kaiming_normal:relu"):
        assert _refusal(dtype, init) == ""
    for init in ("eye", "kaiming_uniform", "sparse:0", "trunc_normal", "orthogonal", "mamba_dt"):
        reason = f"{dtype} takes constants and the laws of normal and uniform only"
        assert _refusal(dtype, init) == reason
    assert _plan("*=ones", tensors=(_tensor("w", (2,), dtype),)).steps[0].action == "fill"


def test_a_wildcard_skips_a_dtype_that_overflows() -> None:
    tensors = (_tensor("half", (4, 4), "float16"), _tensor("full", (4, 4)))

    assert {step.key: step.reason for step in _plan("*=normal:1e5,1", tensors=tensors).steps} == {
        "half": "float16 cannot hold values as large as 100005",
        "full": "",
    }


UNFILLABLE = {
    "an unknown dtype": (
        _tensor("w", (4,), "float8_e8m0fnu"),
        "float8_e8m0fnu can be carried but not filled",
    ),
    "a dtype of the future": (_tensor("w", (4,), "U3"), "U3 can be carried but not filled"),
    "a quantized tensor": (
        TensorInfo("w", "qint8", (4,), 4, carried="a quantized tensor (qint8)"),
        "a quantized tensor (qint8)",
    ),
    "a sparse tensor": (
        TensorInfo("w", "float32", (4,), 16, carried="a sparse_coo tensor"),
        "a sparse_coo tensor",
    ),
    "a shared element": (
        TensorInfo("w", "float32", (4,), 16, storage=1, stride=(0,)),
        "its elements overlap in memory",
    ),
}


@pytest.mark.parametrize(("tensor", "reason"), UNFILLABLE.values(), ids=UNFILLABLE)
def test_what_cannot_be_filled_is_carried(tensor: TensorInfo, reason: str) -> None:
    tensors = (tensor, _tensor("v"))

    assert _actions(_plan("v=zeros", tensors=tensors)) == {"v": ("fill", 0)}
    assert _actions(_plan("w=keep", tensors=tensors)) == {"w": ("keep", 0)}
    skipping = _plan("*=zeros", tensors=tensors)
    assert [(step.action, step.reason) for step in skipping.steps] == [
        ("skip", reason),
        ("fill", ""),
    ]
    with pytest.raises(UnfillableError) as refused:
        _plan("w=zeros", tensors=tensors)
    assert str(refused.value) == f"rule 'w=zeros' cannot fill 'w': {reason}"


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (0, 3, 3), (4, 0, 3)], ids=str)
@pytest.mark.parametrize("init", ["normal:std=1", "zeros", "trunc_normal:std=1,a=-1"])
def test_an_empty_tensor_does_not_stop_a_plan(shape: tuple[int, ...], init: str) -> None:
    (step,) = _plan(f"w={init}", tensors=(_tensor("w", shape),)).fills

    assert step.key == "w"


@pytest.mark.parametrize(
    "init",
    [
        "xavier_uniform",
        "xavier_normal",
        "kaiming_uniform",
        "kaiming_normal:relu,fan_out",
        "orthogonal",
        "eye",
        "sparse:0.5",
    ],
)
def test_an_empty_matrix_is_defined_for_all(init: str) -> None:
    for shape in ((0, 5), (5, 0), (0, 0)):
        assert [step.key for step in _plan(f"w={init}", tensors=(_tensor("w", shape),)).fills] == [
            "w"
        ]


def test_a_scalar_is_filled_by_what_needs_no_dimensions() -> None:
    tensors = (_tensor("temperature", ()),)

    assert len(list(_plan("temperature=normal:std=1", tensors=tensors).fills)) == 1
    assert len(list(_plan("*=constant:2", tensors=tensors).fills)) == 1
    with pytest.raises(UnfillableError) as refused:
        _plan("temperature=xavier_uniform", tensors=tensors)
    assert str(refused.value) == (
        "rule 'temperature=xavier_uniform' cannot fill 'temperature': "
        "0-D (fans need at least 2 dimensions)"
    )
    with pytest.raises(UnmatchedRuleError, match=r"and none has 1 dimension or more$"):
        _plan("temperature=zeros:min_ndim=1", tensors=tensors)


@pytest.mark.parametrize("min_ndim", range(6))
def test_min_ndim_leaves_out_what_has_fewer(min_ndim: int) -> None:
    tensors = tuple(_tensor(f"w{ndim}", (2,) * ndim) for ndim in range(6))

    plan = _plan(f"*=normal:std=1,min_ndim={min_ndim}", tensors=tensors)

    assert [step.key for step in plan.fills] == [f"w{ndim}" for ndim in range(min_ndim, 6)]
    assert {step.reason for step in plan.steps if step.action == "skip"} <= {
        f"{ndim}-D (needs at least {min_ndim} dimension{'' if min_ndim == 1 else 's'})"
        for ndim in range(min_ndim)
    }


# --- rules that do nothing ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "corrected"),
    [
        ("cnv.weight=normal:std=0.02", "conv.weight=normal:std=0.02"),
        ("weight= zeros", "*.weight= zeros"),
        ("Conv.*=kaiming_normal:relu,fan_out", "conv.*=kaiming_normal:relu,fan_out"),
        ("bn.runing_mean=keep", "bn.running_mean=keep"),
    ],
)
def test_the_corrected_rule_can_be_given_as_it_is(rule: str, corrected: str) -> None:
    with pytest.raises(UnmatchedRuleError) as refused:
        _plan(rule)

    assert (refused.value.about, refused.value.of) == (rule, "net")
    assert hint_of(refused.value) == f"did you mean -r {shlex.quote(corrected)}?"
    assert _actions(_plan(corrected))


def test_all_rules_that_do_nothing_are_warned_of_where_that_is_allowed() -> None:
    plan = _plan("q.*=zeros", "conv.weight=ones", "*.bias=eye", "r=keep", allow_unmatched=True)

    assert plan.warnings[:3] == (
        "rule 'q.*=zeros' matches no key of net",
        "rule '*.bias=eye' fills nothing of net: 1 skipped: 1-D (needs 2 dimensions)",
        "rule 'r=keep' matches no key of net",
    )
    assert [step.key for step in plan.fills] == ["conv.weight"]


def test_a_rule_that_matches_nothing_is_refused_though_others_fill() -> None:
    with pytest.raises(UnmatchedRuleError, match=r"^rule 'q=zeros' matches no key of net$"):
        _plan("conv.weight=ones", "q=zeros")


def test_an_empty_source_matches_nothing() -> None:
    with pytest.raises(UnmatchedRuleError) as refused:
        _plan("*=zeros", tensors=())

    assert str(refused.value) == "rule '*=zeros' matches no key of net"
    assert refused.value.known == ()


def test_reasons_of_skips_are_counted_the_commonest_first() -> None:
    tensors = tuple(
        _tensor(key, (8,), dtype)
        for key, dtype in [("a", "int64"), ("b", "float32"), ("c", "float32"), ("d", "float32")]
    )
    with pytest.raises(UnmatchedRuleError) as refused:
        _plan("*=xavier_normal", tensors=tensors)

    assert str(refused.value) == (
        "rule '*=xavier_normal' fills nothing of net: "
        "3 skipped: 1-D (fans need at least 2 dimensions); 1 skipped: integer values"
    )


def test_every_ruined_scale_is_counted_and_the_first_is_named() -> None:
    tensors = tuple(_tensor(f"{key}.weight", (8,)) for key in "abc")
    warning = (
        "rule {!r} draws 1-dimensional weights, which are usually scales of "
        "normalizations: {}; min_ndim=2 leaves them out"
    )

    assert _plan("*=normal:std=1", tensors=tensors).warnings == (
        warning.format("*=normal:std=1", "'a.weight' and 2 more"),
    )
    assert _plan("b.weight=uniform", "c.weight=ones", tensors=tensors).warnings == (
        warning.format("b.weight=uniform", "'b.weight'"),
    )
    bias = (_tensor("a.bias", (8,)), _tensor("weights", (8,)), _tensor("a.weight", ()))
    assert _plan("*=normal:std=1", tensors=bias).warnings == ()


COLLIDING = ("blocks.72672.weight", "blocks.123135.weight")
"""By a search: under seed 0 their seeds agree in the low 32 bits, and in those alone."""


def test_two_keys_that_draw_the_same_values_are_a_warning() -> None:
    first, second = (seed_for(0, key) for key in COLLIDING)
    assert first != second
    drawn = [
        torch.randn(9, generator=torch.Generator().manual_seed(seed)) for seed in (first, second)
    ]
    assert torch.equal(*drawn)

    tensors = tuple(map(_tensor, (*COLLIDING, "x.weight")))
    torch_1 = partial(_plan, tensors=tensors, stream="torch-1")
    assert torch_1("*=normal:std=1").warnings == (
        "'blocks.72672.weight' and 'blocks.123135.weight' are drawn from one stream; "
        "another seed parts them",
    )
    assert torch_1("*=normal:std=1", seed=1).warnings == ()
    assert torch_1("*=zeros").warnings == ()
    assert torch_1("*=normal:std=1", f"{COLLIDING[0]}=keep").warnings == ()


# --- one tensor under several keys, again -------------------------------------------------

SHARED = torch.zeros(5, 3)


def _under(*keys: str, tensor: torch.Tensor = SHARED) -> tuple[TensorInfo, ...]:
    return infos_of(dict.fromkeys(keys, tensor))


@pytest.mark.parametrize(
    ("keys", "smallest"),
    [
        (("b.weight", "a.weight"), "a.weight"),
        (("a.weight", "Z.weight"), "Z.weight"),
        (("é.weight", "z.weight"), "z.weight"),
        (("a.10.weight", "a.9.weight"), "a.10.weight"),
        (("aa", "a", "ab"), "a"),
        (("\U0001f600", "\uffff"), "\uffff"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_the_smallest_key_by_code_point_seeds_a_tie(keys: tuple[str, ...], smallest: str) -> None:
    expected = seed_for(5, smallest, stream=DEFAULT_STREAM)
    for key in keys:
        for order in (keys, keys[::-1]):
            rule = f"{Pattern.escape(key)}=normal"
            plan = _plan(rule, tensors=_under(*order), seed=5)
            assert {step.seed for step in plan.steps} == {expected}
            assert {step.seed_key for step in plan.steps} == {smallest}
            assert [step.action for step in plan.steps] == ["fill"] * len(keys)
            assert len(list(plan.fills)) == 1
            assert {step.key: set(step.tied) for step in plan.steps} == {
                each: {*keys} - {each} for each in keys
            }


def test_a_wildcard_on_a_tie_yields_to_a_later_name() -> None:
    tensors = _under("embed.weight", "head.weight")

    kept = _plan("head.*=normal:std=1", "embed.weight=keep", tensors=tensors)
    assert _actions(kept) == {"embed.weight": ("keep", 1), "head.weight": ("keep", 1)}
    filled = _plan("embed.*=normal:std=1", "head.weight=ones", tensors=tensors)
    assert {(step.action, step.rule) for step in filled.steps} == {("fill", 1)}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("head.weight=zeros", "embed.weight=ones"),
        ("head.weight=zeros", "embed.*=ones"),
        ("head.weight=keep", "embed.weight=ones"),
        ("head.weight=zeros", "embed.weight=keep"),
        ("head.weight=normal:std=1", "embed.weight=normal:std=2"),
        ("head.weight=zeros", "embed.weight=zeros:min_ndim=2"),
    ],
)
def test_a_name_that_a_tie_would_overrule_is_an_error_that_names_both(
    first: str, second: str
) -> None:
    with pytest.raises(RuleError) as refused:
        _plan(first, second, tensors=_under("embed.weight", "head.weight"))

    assert str(refused.value) == (
        f"'head.weight' and 'embed.weight' are tied, but rule {first!r} and "
        f"rule {second!r} disagree"
    )


def test_names_of_one_tensor_may_say_the_same_in_other_words() -> None:
    tensors = _under("embed.weight", "head.weight")
    plan = _plan(
        "head.weight=he_normal:relu",
        "embed.weight=kaiming_normal_:nonlinearity=relu",
        tensors=tensors,
    )

    assert [step.action for step in plan.steps] == ["fill", "fill"]
    assert plan.shadowed == (1, 0)


def test_a_tie_with_a_running_statistic_is_spared_as_one() -> None:
    tensors = _under("bn.running_var", "x.buffer", tensor=torch.zeros(3))

    plan = _plan("*=ones", tensors=(*tensors, _tensor("v")))
    assert [(step.action, step.reason) for step in plan.steps] == [
        ("skip", "a running statistic"),
        ("skip", "a running statistic"),
        ("fill", ""),
    ]
    assert len(list(_plan("x.buffer=ones", tensors=tensors).fills)) == 1
    assert len(list(_plan("*.running_var=ones", tensors=tensors).fills)) == 1
    both = _under("a.running_mean", "a.running_var", tensor=torch.zeros(3))
    assert len(list(_plan("*.running_{mean,var}=ones", tensors=both).fills)) == 1
    with pytest.raises(UnmatchedRuleError, match=r"2 skipped: a running statistic$"):
        _plan("*.running_var=ones", tensors=both)


def test_ties_that_meet_another_tensor_are_skipped_together() -> None:
    base = torch.zeros(10)
    state = {"a": base[:6], "b": base[4:], "a2": base[:6], "c": torch.zeros(2)}
    plan = _plan("*=ones", tensors=infos_of(state))

    assert _actions(plan) == {
        "a": ("skip", 0),
        "b": ("skip", 0),
        "a2": ("skip", 0),
        "c": ("fill", 0),
    }
    for key in ("a", "b", "a2"):
        with pytest.raises(UnfillableError, match="shares memory with"):
            _plan(f"{key}=ones", tensors=infos_of(state))
    assert _actions(_plan("c=ones", tensors=infos_of(state))) == {"c": ("fill", 0)}


# --- what a draw depends on, again --------------------------------------------------------

INITS = ["xavier_uniform", "kaiming_normal:relu", "normal:std=0.5", "ones", "orthogonal", "keep"]


@given(st.lists(st.sampled_from(INITS), min_size=1, max_size=6), st.randoms(), st.integers(-5, 5))
def test_the_order_of_rules_that_do_not_meet_changes_nothing(
    inits: list[str], random: Any, seed: int
) -> None:
    tensors = tuple(_tensor(f"layers.{at}.weight", (at + 2, 3)) for at in range(len(inits)))
    rules = [f"layers.{at}.*={init}" for at, init in enumerate(inits)]
    plain = _plan(*rules, tensors=tensors, seed=seed)
    random.shuffle(rules)
    mixed = _plan(*rules, tensors=tensors, seed=seed)

    def drawn(plan: Plan) -> list[Any]:
        return [(step.key, step.action, step.law, step.seed) for step in plan.steps]

    assert drawn(mixed) == drawn(plain)


@given(st.permutations(["a", "b", "tied.1", "tied.2", "part.1", "part.2"]), st.integers(0, 9))
def test_the_order_of_keys_changes_nothing(keys: list[str], seed: int) -> None:
    base = torch.zeros(8, 3)
    state = {
        "a": torch.zeros(4, 3),
        "b": torch.zeros(2, 3),
        "tied.1": SHARED,
        "tied.2": SHARED,
        "part.1": base[:5],
        "part.2": base[5:],
    }

    def told(order: list[str]) -> dict[str, Any]:
        plan = _plan(
            "*=kaiming_uniform",
            "tied.2=xavier_normal",
            tensors=infos_of({key: state[key] for key in order}),
            seed=seed,
        )
        return {step.key: (step.action, step.law, step.seed, step.tied) for step in plan.steps}

    assert told(keys) == told(sorted(keys))
    assert told(keys)["tied.2"][2] == seed_for(seed, "tied.1", stream=DEFAULT_STREAM)


@given(st.integers(0, 9), st.sampled_from(["float32", "float16", "bfloat16", "float64"]))
def test_neither_dtype_nor_layout_changes_a_seed_or_a_law(seed: int, dtype: str) -> None:
    weight = torch.zeros(4, 3, dtype=getattr(torch, dtype))
    layouts = (weight, torch.zeros(3, 4, dtype=weight.dtype).T, torch.zeros(9, 6)[1:5, 2:5])
    steps = [
        _plan("w=xavier_uniform", tensors=infos_of({"w": each}), seed=seed).fills[0]
        for each in layouts
    ]

    expected = seed_for(seed, "w", stream=DEFAULT_STREAM)
    assert {(step.law, step.seed) for step in steps} == {(steps[0].law, expected)}


# --- what a decision needs ------------------------------------------------------------------


def test_deciding_needs_neither_torch_nor_a_room_that_opens_files() -> None:
    code = (
        "import sys, reinit_cli.planning.decide\n"
        "print(*sorted({'.'.join(name.split('.')[:3]) for name in sys.modules}))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )

    loaded = done.stdout.split()
    assert "reinit_cli.planning.decide" in loaded
    assert "torch" not in loaded
    assert [name for name in loaded if name.startswith("reinit_cli.checkpoints")] == []
    values = {"reinit_cli.storage", "reinit_cli.storage.location", "reinit_cli.storage.segments"}
    assert {name for name in loaded if name.startswith("reinit_cli.storage")} <= values


def test_every_step_that_draws_says_what_fills_it_and_a_rule_only_where_one_does() -> None:
    key = "fc.weight"
    statistics = (_tensor("fc.running_mean", (10,)), _tensor("emb", (5, 2)))
    number = ParameterNumber("0")
    states = {number: State({"exp_avg": _tensor("state.0.exp_avg", (10, 8))})}
    optimizer = Optimizer("optimizer", (Group((number,), (key,)),), states)
    entries = Entries("net", (*NET, *statistics), optimizers=(optimizer,))
    request = Request(
        "net",
        ("conv.*=constant:2",),
        resize=("emb=7:normal:std=0.1",),
        reset_buffers=True,
        reset_optimizer=True,
    )

    wanted = as_asked(entries, request, {key: (10, 8)})
    plan = decide(wanted, request, Elsewhere(_Ones()))

    filled = {step.key: (step.rule, str(step.init), step.head) for step in plan.steps if step.law}
    assert filled == {
        "conv.weight": (0, "constant:val=2.0", ""),
        "conv.bias": (0, "constant:val=2.0", ""),
        "fc.weight": (None, "default", "fc.weight"),
        "fc.running_mean": (None, "zeros", ""),
        "emb": (None, "normal:mean=0.0,std=0.1", ""),
    }
    assert [(step.key, step.rule, str(step.init)) for step in plan.slots] == [
        ("state.0.exp_avg", None, "zeros")
    ]
    assert plan.rules == rules_of(request.rules)


class _Ones:
    """An architecture whose constructor fills everything with ones."""

    def law(self, key: str, shape: tuple[int, ...], seed: int | None = None) -> Law:
        del key, shape, seed
        return Constant(1.0)

    def first_equal(self, key: str) -> str:
        return key


def test_which_of_several_ties_is_named_first_does_not_depend_on_hashes() -> None:
    tensors = tuple(
        replace(_tensor(f"{name}{at}"), storage=at) for at in range(20) for name in ("a", "b")
    )

    with pytest.raises(RuleError, match="'a0' and 'b0' are tied"):
        decide(
            Entries("net", tensors),
            Request("net", ("a{0..19}=zeros", "b*=ones")),
        )
