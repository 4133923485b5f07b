"""Patterns say for which kinds of layers they are, and a part of a tensor stands next to that."""

from __future__ import annotations

import pytest

from reinit_cli.errors import PatternError, RuleError
from reinit_cli.request.pattern import KeyIndex, Pattern
from reinit_cli.request.rename import Rename
from reinit_cli.request.rule import Rule
from reinit_cli.tensors.layers.kinds import KINDS, kinds_named


@pytest.mark.parametrize(
    ("text", "keys", "words", "part"),
    [
        ("kind=Conv2d=zeros", "*", ("Conv2d",), None),
        ("kind=Conv2d,Linear=zeros", "*", ("Conv2d", "Linear"), None),
        ("[kind=norm]=zeros", "*", ("norm",), None),
        ("*.weight[kind=Linear]=zeros", "*.weight", ("Linear",), None),
        ("*.weight [ kind = Linear ] = zeros", "*.weight", ("Linear",), None),
        ("re:fc.*[kind=Linear]=zeros", "re:fc.*", ("Linear",), None),
        ("w[kind=Linear][:, :3]=zeros", "w", ("Linear",), "[:, :3]"),
        ("w[:, :3][kind=Linear]=zeros", "w", ("Linear",), "[:, :3]"),
        ("w[kind=Linear][mask=a=b.pt]=zeros", "w", ("Linear",), "[mask=a=b.pt]"),
        ("kind=Linear[1/4]=zeros", "*", ("Linear",), "[1/4]"),
        ("kind=zeros", "kind", None, None),
        ("kind=constant:0.5", "kind", None, None),
        ("w{[kind=Lar]}=zeros", "w{[kind=Lar]}", None, None),
    ],
)
def test_a_rule_has_a_pattern_kinds_and_a_part(
    text: str, keys: str, words: tuple[str, ...] | None, part: str | None
) -> None:
    rule = Rule.parse(text)
    kinds = rule.pattern.kinds
    assert (kinds.words if kinds is not None else None) == words
    assert (str(rule.part) if rule.part is not None else None) == part
    plain = Pattern.parse(keys)
    assert (rule.pattern.names, rule.pattern.last_segments) == (plain.names, plain.last_segments)
    assert Rule.parse(rule.text) == rule
    again = Rule(rule.match, rule.init)
    assert (again.pattern, again.part) == (rule.pattern, rule.part)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("kind=Conv2d", "needs an '='"),
        ("w[kind=Linear, :3]=zeros", "a bracket of their own"),
        ("w[kind=]=zeros", "a bracket of their own"),
        ("w[kind=a,,b]=zeros", "is not the name of a kind"),
        ("w[kind=Linear][kind=norm]=zeros", "kinds of layers twice"),
        ("w[kind=Linear][:3][kind=norm]=zeros", "kinds of layers twice"),
        ("w" + "[kind=Linear]" * 5000 + "=zeros", "kinds of layers twice"),
    ],
)
def test_a_rule_with_half_a_kind_is_refused(text: str, problem: str) -> None:
    with pytest.raises(RuleError, match=problem):
        Rule.parse(text)


def test_an_initializer_after_a_kind_may_be_misspelled() -> None:
    with pytest.raises(ValueError, match="unknown initializer 'kaimin_normal'"):
        Rule.parse("kind=Conv2d=kaimin_normal")


def test_files_and_models_have_no_kinds_of_layers() -> None:
    with pytest.raises(PatternError, match="only tensors have a kind of layer"):
        KeyIndex(["a.txt"]).select(Pattern.parse("kind=Linear"))
    with pytest.raises(RuleError, match="asks for a kind of layer"):
        Rename.parse("fc.*[kind=Linear]=head.*")


def test_a_key_that_looks_like_a_kind_can_be_named() -> None:
    key = "kind=Linear"
    pattern = Pattern.parse(Pattern.escape(key))
    assert pattern.kinds is None
    assert pattern.select([key, "fc.weight"]) == [0]


def test_a_word_is_a_kind_a_group_or_either_in_another_case() -> None:
    assert kinds_named("Linear") == {"Linear"}
    assert kinds_named("linear") == {"Linear", "Conv1D", "Bilinear"}
    assert kinds_named("CONV2D") == {"Conv2d"}
    assert kinds_named("Conv1D") == {"Conv1D"}
    assert kinds_named("conv1d") == {"Conv1d"}
    assert kinds_named("norm") >= {"LayerNorm", "BatchNorm2d", "Norm"}
    assert kinds_named("Norm") == {"Norm"}
    assert kinds_named("batchnorm") == {
        "BatchNorm",
        "BatchNorm1d",
        "BatchNorm2d",
        "BatchNorm3d",
        "SyncBatchNorm",
    }
    assert kinds_named("layer") == frozenset()
    assert all(kind in kinds_named(kind) for kind in KINDS)
