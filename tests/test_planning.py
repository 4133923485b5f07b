"""Keys × rules → what happens to every key."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from reinit_cli import planning
from reinit_cli.dtypes import DTYPES
from reinit_cli.errors import TiedRulesError, UnfillableError, UnmatchedRuleError
from reinit_cli.live import infos_of
from reinit_cli.planning import Options, Plan, make_plan
from reinit_cli.rules import rules_of
from reinit_cli.seeds import seed_for
from reinit_cli.tensors import TensorInfo


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
    return make_plan("net", tensors, rules_of(rules), Options(**options))


def _actions(plan: Plan) -> dict[str, tuple[str, int | None]]:
    return {step.key: (step.action, step.rule) for step in plan.steps if step.action != "copy"}


def test_the_last_rule_that_matches_owns_a_key_whole() -> None:
    plan = _plan("*.weight=normal:std=1,min_ndim=2", "fc.*=zeros", "conv.*=keep")

    assert _actions(plan) == {
        "conv.weight": ("keep", 2),
        "conv.bias": ("keep", 2),
        "bn.weight": ("skip", 0),
        "fc.weight": ("fill", 1),
    }
    assert plan.shadowed == (2, 0, 0)
    assert plan.warnings == (
        "rule '*.weight=normal:std=1,min_ndim=2' fills nothing of net: "
        "1 skipped: it has 1 dimension, and 2 or more are needed",
    )


def test_a_wildcard_takes_what_its_initializer_can_fill_and_says_why_not_the_rest() -> None:
    plan = _plan("*=xavier_uniform")

    assert {step.key: step.reason for step in plan.steps if step.action == "skip"} == {
        "conv.bias": "it has 1 dimension, and fans need 2 or more",
        "bn.weight": "it has 1 dimension, and fans need 2 or more",
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
    "conv.bias=xavier_uniform": "it has 1 dimension, and fans need 2 or more",
    "conv.weight=eye": "it has 4 dimensions, and 2 are needed",
    "fc.weight=dirac": "it has 2 dimensions, and 3 to 5 are needed",
    "conv.weight=dirac:groups=3": "its first dimension, 8, is not divisible by 3 groups",
    "fc.weight=zeros:min_ndim=3": "it has 2 dimensions, and 3 or more are needed",
    "mask=normal": "bool takes zeros, ones and constant only",
    "mask=constant:2": "bool cannot hold 2 exactly",
    "bn.num_batches_tracked=constant:0.5": "int64 cannot hold 0.5 exactly",
    "bn.num_batches_tracked=constant:nan": "int64 cannot hold nan exactly",
    "bn.num_batches_tracked=constant:1e300": "int64 cannot hold 1e+300 exactly",
    "bn.num_batches_tracked=eye": "it has 0 dimensions, and 2 are needed",
}


@pytest.mark.parametrize(("rule", "reason"), REFUSED.items(), ids=REFUSED)
def test_a_name_insists(rule: str, reason: str) -> None:
    key = rule.partition("=")[0]
    with pytest.raises(UnfillableError) as refused:
        _plan(rule)

    assert str(refused.value) == f"rule {rule!r} cannot fill {key!r}: {reason}"
    assert not refused.value.by_wildcard


DTYPE_LIMITS = [
    ("float16", "constant:70000", "float16 cannot hold values as large as 70000"),
    ("float16", "normal:std=1e6", "float16 cannot hold values as large as 1e+06"),
    ("float8_e4m3fn", "uniform:-500,500", "float8_e4m3fn cannot hold values as large as 500"),
    ("bfloat16", "constant:70000", ""),
    ("float32", "constant:1e39", "float32 cannot hold values as large as 1e+39"),
    ("float64", "constant:1e39", ""),
    ("float16", "constant:inf", ""),
    ("float8_e4m3fn", "constant:-inf", "float8_e4m3fn has no infinity"),
    ("float8_e4m3fn", "constant:nan", ""),
    ("float32", "uniform:-3e38,3e38", "float32 cannot be drawn from -3e+38 to 3e+38: too wide"),
    ("complex64", "ones", ""),
    ("complex64", "normal", "complex64 takes zeros, ones and constant only"),
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

    assert refused.value.by_wildcard


@pytest.mark.parametrize(
    ("rule", "message", "corrected", "near"),
    [
        ("cnv.weight=zeros", "matches no key of net", "conv.weight=zeros", "conv.weight"),
        ("weight=zeros", "matches no key of net", "*.weight=zeros", "fc.weight"),
        ("re:q=zeros", "matches no key of net", None, None),
        (
            "*.bias=xavier_uniform",
            "fills nothing of net: 1 skipped: it has 1 dimension, and fans need 2 or more",
            None,
            None,
        ),
        (
            "bn.*=xavier_uniform",
            "fills nothing of net: 3 skipped: a running statistic; "
            "1 skipped: it has 1 dimension, and fans need 2 or more",
            None,
            None,
        ),
    ],
)
def test_a_rule_that_does_nothing_is_refused(
    rule: str, message: str, corrected: str | None, near: str | None
) -> None:
    with pytest.raises(UnmatchedRuleError) as refused:
        _plan(rule)

    assert str(refused.value) == f"rule {rule!r} {message}"
    assert refused.value.corrected == corrected
    assert near is None or near in refused.value.near
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
    assert _plan("*.weight=normal:std=1").warnings == (
        "rule '*.weight=normal:std=1' draws 1-dimensional weights, which are usually scales of "
        "normalisations: 'bn.weight'; min_ndim=2 leaves them out",
    )
    assert _plan("*.weight=normal:std=1,min_ndim=2").warnings == ()
    assert _plan("*.weight=ones").warnings == ()


def test_keys_that_share_32_bits_of_their_seeds_are_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planning, "seed_for", lambda _, key: (len(key) << 32) + 7)

    assert _plan("{conv,fc}.weight=normal").warnings == (
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
    assert {step.seed for step in filled.values()} == {seed_for(0, "embed.weight")}
    assert filled["head.weight"].tied == ("embed.weight",)
    assert [step.key for step in plan.fills] == ["embed.weight"]


def test_two_names_of_one_tensor_may_not_disagree() -> None:
    with pytest.raises(TiedRulesError) as refused:
        _plan("head.weight=zeros", "embed.weight=ones", tensors=_tied())

    assert str(refused.value) == (
        "'head.weight' and 'embed.weight' are one tensor, but rule 'head.weight=zeros' "
        "and rule 'embed.weight=ones' say different things of it"
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
        key: seed_for(seed, key) for key in keys
    }


def test_the_seed_of_a_key_is_the_start_of_a_hash() -> None:
    from hashlib import sha256

    digest = sha256("3:größe".encode()).digest()[:8]
    assert seed_for(3, "größe") == int.from_bytes(digest, "little") % 2**63
    assert all(0 <= seed_for(seed, "k") < 2**63 for seed in range(-500, 500))
