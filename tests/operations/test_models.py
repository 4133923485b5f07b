"""The models that need no file."""

from __future__ import annotations

import pytest
import torchvision

from reinit_cli.errors import UnknownNameError
from reinit_cli.operations.models import list_models
from reinit_cli.request.pattern import Pattern


def test_all_are_those_of_torchvision() -> None:
    assert [each.name for each in list_models()] == torchvision.models.list_models()


def test_patterns_choose_by_name() -> None:
    found = list_models([Pattern.parse("resnet1*"), Pattern.parse("alexnet")])

    assert [each.name for each in found] == ["alexnet", "resnet101", "resnet152", "resnet18"]
    alexnet = torchvision.models.AlexNet_Weights.DEFAULT
    assert found[0].weights == (alexnet.name,)
    assert found[0].parameters == alexnet.meta["num_params"]


def test_a_pattern_that_matches_no_model_is_an_error() -> None:
    with pytest.raises(UnknownNameError, match="no model matches 'nothing'"):
        list_models([Pattern.parse("nothing")])
