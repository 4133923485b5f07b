"""Rules on parts of tensors: which of them owns what."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from reinit_cli.cli.hints import hint_of
from reinit_cli.errors import ReinitError, RuleError, UnfillableError, UnmatchedRuleError
from reinit_cli.initializers import Elsewhere
from reinit_cli.planning.decide import decide
from reinit_cli.planning.entries import Entries
from reinit_cli.planning.plan import Plan, Step
from reinit_cli.request.request import Request
from reinit_cli.tensors.info import TensorInfo


def _tensor(key: str, *shape: int, dtype: str = "float32", storage: object = None) -> TensorInfo:
    return TensorInfo(key, dtype, shape, math.prod(shape) * 4, storage=storage)


NET = (
    _tensor("embed.weight", 10, 3),
    _tensor("head.weight", 4, 3),
    _tensor("head.bias", 4),
    _tensor("rnn.bias_ih_l0", 12),
)


def _plan(*rules: str, tensors: tuple[TensorInfo, ...] = NET, **options: Any) -> Plan:
    elsewhere = options.pop("elsewhere", Elsewhere())
    return decide(Entries("net", tensors), Request("net", rules, **options), elsewhere)


def _shares(plan: Plan) -> dict[str, list[tuple[str, str]]]:
    """Return for each tensor that is filled in part what each rule does, in the rules' words."""

    def said(step: Step) -> tuple[str, str]:
        return str(step.part or "rest"), str(step.init or step.action)

    return {step.key: list(map(said, step.shares)) for step in plan.steps if step.patches}


def test_a_later_rule_on_all_of_a_tensor_owns_all_of_it_and_an_earlier_one_the_rest() -> None:
    rules = "embed.weight=normal:std=1", "embed.weight[8:]=ones", "head.*[:2]=ones", "head.*=zeros"

    plan = _plan(*rules)

    assert _shares(plan) == {
        "embed.weight": [("rest", "normal:mean=0.0,std=1.0"), ("[8:]", "ones")]
    }
    assert plan.shadowed == (0, 0, 2, 0)
    assert "rule 'head.*[:2]=ones' owns no tensor" in plan.warnings[0]


def test_parts_come_in_the_order_of_their_rules_and_those_that_are_covered_leave() -> None:
    rules = "embed.weight[1:3]=ones", "embed.weight[0:5]=zeros", "embed.weight[4:, :1]=keep"

    plan = _plan(*rules)

    assert _shares(plan) == {
        "embed.weight": [("rest", "copy"), ("[0:5]", "zeros"), ("[4:, :1]", "keep")]
    }
    assert plan.shadowed == (1, 0, 0)


def test_a_part_has_the_fans_and_the_law_of_the_whole_tensor_and_the_same_seed() -> None:
    whole = _plan("embed.weight=xavier_normal").steps[0]

    (part,) = _plan("embed.weight[8:]=xavier_normal").steps[0].patches

    assert (part.law, part.fans, part.seed) == (whole.law, whole.fans, whole.seed)
    assert (part.tensor.shape, part.tensor.nbytes) == ((2, 3), 24)


def test_a_wildcard_skips_tensors_without_the_part_and_says_why() -> None:
    plan = _plan("*[:, :1]=zeros")

    reasons = {each.key: each.reason for step in plan.steps for each in step.patches}
    of_one = "it has 1 dimension, and the part [:, :1] has 2"
    assert reasons == {
        "embed.weight[:, :1]": "",
        "head.weight[:, :1]": "",
        "head.bias[:, :1]": of_one,
        "rnn.bias_ih_l0[:, :1]": of_one,
    }


REFUSED = {
    "embed.weight[10:]=zeros": "the part [10:] covers nothing: dimension 0 has 10",
    "embed.weight[0:11]=zeros": "11 is outside dimension 0, which has 10",
    "embed.weight[:, :4]=keep": "4 is outside dimension 1, which has 3",
    "embed.weight[1/4]=zeros": "dimension 0 has 10, which 4 does not divide",
    "embed.weight[:, :, 0]=zeros": "it has 2 dimensions, and the part [:, :, 0] has 3",
    "embed.weight[0:2]=shuffle": "it moves values of the whole tensor, and a part would lose some",
    "head.bias[0:2]=xavier_normal": "1-D (fans need at least 2 dimensions)",
}


@pytest.mark.parametrize(("rule", "why"), REFUSED.items(), ids=REFUSED)
def test_a_name_insists_on_its_part(rule: str, why: str) -> None:
    with pytest.raises(UnfillableError) as refused:
        _plan(rule)

    assert refused.value.problem == why
    assert hint_of(refused.value)


def test_strict_refuses_tensors_without_the_part() -> None:
    with pytest.raises(UnfillableError, match="has 1 dimension"):
        _plan("*[:, :1]=zeros", strict=True)


def test_a_bracket_that_as_a_set_matches_a_key_is_refused_and_both_readings_are_named() -> None:
    tensors = (_tensor("w", 4), _tensor("w1", 4))

    with pytest.raises(RuleError) as refused:
        _plan("w[1/2]=zeros", tensors=tensors)

    assert str(refused.value) == (
        "rule 'w[1/2]=zeros' can mean the part [1/2] of the tensors that 'w' matches, or the key "
        "'w1', with [1/2] as a set of characters"
    )
    assert hint_of(refused.value) == "the part: -r 'w [1/2]=zeros'; the key: -r 'w{[1/2]}=zeros'"
    part, key = refused.value.known
    assert _shares(_plan(part, tensors=tensors)) == {"w": [("rest", "copy"), ("[1/2]", "zeros")]}
    assert [step.action for step in _plan(key, tensors=tensors).steps] == ["copy", "fill"]


@pytest.mark.parametrize("rule", ["re:w[1/2]=zeros", "*[1/2]=zeros"])
def test_regexes_and_wildcards_are_as_uncertain(rule: str) -> None:
    tensors = (_tensor("w", 4), _tensor("w1", 4))

    with pytest.raises(RuleError) as refused:
        _plan(rule, tensors=tensors)

    for way, expected in zip(refused.value.known, (True, False), strict=True):
        assert bool(_shares(_plan(way, tensors=tensors))) is expected


def test_keys_of_one_tensor_have_the_parts_of_all_of_them() -> None:
    tensors = (_tensor("a", 4, 3, storage=1), _tensor("b", 4, 3, storage=1))

    plan = _plan("a[:1]=zeros", "b[2:]=ones", tensors=tensors)

    parts = [("rest", "copy"), ("[:1]", "zeros"), ("[2:]", "ones")]
    assert _shares(plan) == {"a": parts, "b": parts}
    assert [step.key for step in plan.fills] == ["a"]
    with pytest.raises(RuleError, match="disagree"):
        _plan("a[:1]=zeros", "b=ones", tensors=tensors)


MASKS = {
    "same key": ({"head.weight": (4, 3), "other": (2,)}, "head.weight"),
    "the only tensor": ({"mask": (4, 3)}, "mask"),
    "another shape": ({"mask": (3, 4)}, "the mask 'mask' of 'm.pt' is [3, 4], and it [4, 3]"),
    "no such key": ({"x": (4, 3), "y": (4, 3)}, "'m.pt' has no such key"),
}


@pytest.mark.parametrize(("there", "expected"), MASKS.values(), ids=MASKS)
def test_a_mask_is_the_tensor_of_the_same_key_or_the_only_one(
    there: dict[str, tuple[int, ...]], expected: str
) -> None:
    donor = {key: _tensor(key, *shape, dtype="bool") for key, shape in there.items()}
    elsewhere = Elsewhere(donors={"m.pt": donor})
    if expected in there:
        plan = _plan("head.weight[mask=m.pt]=ones", elsewhere=elsewhere)
        assert plan.steps[1].patches[0].mask_key == expected
        return
    with pytest.raises(UnfillableError, match=re.escape(expected)):
        _plan("head.weight[mask=m.pt]=ones", elsewhere=elsewhere)


HINTED = {
    "head.weight[2]=zeros": "this row of the tensor: -r 'head.weight[2:3]=zeros'",
    "head.bias[-1]=zeros": "this row of the tensor: -r 'head.bias[-1:]=zeros'",
    "head.weigth[:2]=zeros": "did you mean -r 'head.weight[:2]=zeros'?",
    "embed.weight[-1]=zeros": "this row of the tensor: -r 'embed.weight[-1:]=zeros'",
    "layers[0:2]=zeros": "these layers: -r 'layers.{0..1}.*=zeros'",
    "embed.weight[0..2]=zeros": "these rows of a tensor: 'embed.weight[0:3]'",
}


@pytest.mark.parametrize(("rule", "hint"), HINTED.items(), ids=HINTED)
def test_what_was_meant_as_a_part_is_offered_as_one(rule: str, hint: str) -> None:
    tensors = (*NET, _tensor("layers.0.w", 2, 2), _tensor("layers.1.w", 2, 2))

    with pytest.raises(ReinitError) as refused:
        _plan(rule, tensors=tensors)

    found = hint_of(refused.value)
    assert found in (
        hint,
        hint.replace("this row of the tensor: -r ", "this row of a tensor: ").replace("=zeros", ""),
    )


def test_norms_do_not_follow_a_direction_that_is_filled_in_part() -> None:
    tensors = (_tensor("fc.weight_g", 4, 1), _tensor("fc.weight_v", 4, 3))

    with pytest.raises(UnfillableError, match="a part of it is filled"):
        _plan("fc.weight_v[:2]=ones", tensors=tensors)
    plan = _plan("fc.weight_v[:2]=ones", "fc.weight_g=keep", tensors=tensors)
    assert [step.is_filled for step in plan.steps] == [False, True]


def test_an_optimizer_is_not_reset_for_a_part() -> None:
    with pytest.raises(RuleError, match="optimizer"):
        _plan("head.weight[:2]=ones", reset_optimizer=True)


def test_a_rule_on_a_part_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(UnmatchedRuleError, match="matches no key"):
        _plan("nothing[0:1]=zeros")


def test_too_many_parts_of_one_tensor_are_refused() -> None:
    with pytest.raises(RuleError, match=r"1,001 rules fill parts of 'embed\.weight'"):
        _plan(*(f"embed.weight[{at % 10}:{at % 10 + 1}]=zeros" for at in range(1001)))
