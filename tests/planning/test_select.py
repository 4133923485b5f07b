"""Tensors are left out by the source's keys, and then renamed, or it is said why not."""

from __future__ import annotations

import pytest

from reinit_cli.errors import RuleError
from reinit_cli.planning.decide import decide
from reinit_cli.planning.entries import Entries, as_asked
from reinit_cli.planning.plan import Plan
from reinit_cli.planning.select import selection_of
from reinit_cli.request.request import Request
from reinit_cli.streams.stream import DEFAULT_STREAM, seed_for
from reinit_cli.tensors.info import TensorInfo

KEYS = ("module.a.weight", "module.a.bias", "module.b.weight", "step")


def names(**options: object) -> list[str]:
    request = Request("m.pt", (), **options)  # type: ignore[arg-type]
    return list(selection_of("m.pt", KEYS, request).names.values())


def test_only_and_drop_see_the_names_of_the_source_and_renames_what_is_left() -> None:
    assert names(only=["module.*"], drop=["*.bias"], rename=["module.*=*"]) == [
        "a.weight",
        "b.weight",
    ]


def test_each_rename_sees_the_names_that_those_before_it_gave() -> None:
    assert names(rename=["module.*=net.*", "net.a.*=first.*"])[:3] == [
        "first.weight",
        "first.bias",
        "net.b.weight",
    ]


def test_two_keys_change_places_by_a_third_name() -> None:
    swap = ["module.a.weight=t", "module.b.weight=module.a.weight", "t=module.b.weight"]
    assert names(rename=swap) == ["module.b.weight", "module.a.bias", "module.a.weight", "step"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"rename": ["modul.*=*"]}, "rename 'modul.*=*' matches no key of m.pt"),
        (
            {"rename": ["step=x", "step=y"]},
            "rename 'step=y' matches no key of m.pt, as the renames before it name them",
        ),
        ({"drop": ["*.b.biass"]}, "drop '*.b.biass' matches no key of m.pt"),
        ({"only": ["x.*"]}, "only 'x.*' matches no key of m.pt"),
        ({"drop": ["*"]}, "no key of m.pt is left"),
        ({"rename": ["step*=*"]}, "rename 'step*=*' leaves nothing of 'step'"),
        (
            {"rename": ["module.{a,b}.*=*"]},
            "'module.a.weight' and 'module.b.weight' of m.pt would both be named 'weight'",
        ),
        (
            {"rename": ["module.a.weight=step"]},
            "'module.a.weight' and 'step' of m.pt would both be named 'step'",
        ),
        (
            {"rename": ["*=x"]},
            "'module.a.weight' and 'module.a.bias' of m.pt would both be named 'x', "
            "and 2 more names would be given twice",
        ),
    ],
)
def test_what_cannot_be_selected_is_refused(options: dict[str, object], problem: str) -> None:
    with pytest.raises(RuleError) as caught:
        names(**options)
    assert str(caught.value) == problem


def test_what_matches_nothing_is_a_warning_where_that_is_allowed() -> None:
    request = Request("m.pt", (), drop=("x",), rename=("y=z",), allow_unmatched=True)

    selection = selection_of("m.pt", KEYS, request)

    assert tuple(selection.names) == KEYS
    assert selection.warnings == (
        "drop 'x' matches no key of m.pt",
        "rename 'y=z' matches no key of m.pt",
    )


def _plan(*rules: str, **options: object) -> Plan:
    tensors = tuple(
        TensorInfo(key, "float32", (4, 4), 64, storage=0 if "weight" in key else None)
        for key in KEYS
    )
    request = Request("m.pt", rules, **options)  # type: ignore[arg-type]
    return decide(as_asked(Entries("m.pt", tensors), request, {}), request)


def test_rules_see_the_new_keys_and_seeds_are_those_of_the_new_names() -> None:
    plan = _plan("b.bias=normal", rename=("module.a.*=b.*",), drop=("module.b.*",))

    steps = {step.key: step for step in plan.steps}
    assert list(steps) == ["b.weight", "b.bias", "step"]
    assert steps["b.bias"].seed == seed_for(0, "b.bias", stream=DEFAULT_STREAM)
    assert (steps["b.bias"].origin, steps["step"].origin) == ("module.a.bias", "step")
    assert plan.dropped == ("module.b.weight",)


def test_a_tie_stays_a_tie_under_new_names_and_ends_with_its_last_key() -> None:
    tied = {step.key: step.tied for step in _plan(rename=("module.*=*",)).steps}
    assert tied["a.weight"] == ("b.weight",)

    left = {step.key: step.tied for step in _plan(drop=("module.b.*",)).steps}
    assert left["module.a.weight"] == ()
