"""`--arch timm:NAME`: every tensor as a model of timm starts, and nothing loaded or fetched."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from reinit_cli import rewrite
from tests.cli.conftest import Done
from tests.tools import package

pytestmark = pytest.mark.slow  # timm takes seconds to import


def _trained(**arguments: object) -> dict[str, torch.Tensor]:
    """A residual network of timm whose floating-point tensors are all ones."""
    timm = package("timm")
    state = timm.create_model("resnet18", **arguments).state_dict()
    trained = {
        key: torch.ones_like(each) if each.is_floating_point() else each
        for key, each in state.items()
    }
    save_file(trained, "trained.safetensors")
    return trained


def test_every_tensor_of_a_model_is_filled_as_timm_does(reinit: Callable[..., Done]) -> None:
    _trained(num_classes=7)  # the head of timm has 1000: the number is read from the tensors

    done = reinit(
        "trained.safetensors", "-r", "*=default", "--arch", "timm:resnet18.a1_in1k", "-o", "new.pt"
    )

    filled = torch.load("new.pt", weights_only=True)
    fresh = package("timm").create_model("resnet18", num_classes=7).state_dict()
    assert done.code == 0
    assert "skipped" not in done.out
    assert filled.keys() == fresh.keys()
    for key, values in fresh.items():
        assert filled[key].shape == values.shape
        if values.numel() > 1000:
            assert filled[key].std().item() == pytest.approx(values.std().item(), rel=0.1), key
        elif not key.startswith("fc."):
            assert torch.equal(filled[key], values), key


def test_arguments_reach_the_constructor_of_timm() -> None:
    _trained(in_chans=1)

    outcome = rewrite(
        "trained.safetensors",
        "conv1.*=default",
        "new.safetensors",
        arch="timm:resnet18",
        arch_args={"in_chans": 1},
    )

    assert [step.key for step in outcome.job.plan.fills] == ["conv1.weight"]


def test_a_head_for_other_classes_is_drawn_as_timm_draws_it(
    reinit: Callable[..., Done],
) -> None:
    trained = _trained()
    args = ("--arch", "timm:resnet18", "--num-classes", "10", "-o", "ten.safetensors")

    done = reinit("trained.safetensors", *args)

    ten = load_file("ten.safetensors")
    bound = 1 / 512**0.5  # timm leaves the head to nn.Linear, which has 512 inputs here
    assert done.code == 0
    assert ten["fc.weight"].shape == (10, 512)
    assert 0.9 * bound < ten["fc.weight"].abs().max().item() <= bound
    assert torch.equal(ten["layer1.0.conv1.weight"], trained["layer1.0.conv1.weight"])


def test_a_record_names_timm_and_its_version_and_is_verified(
    reinit: Callable[..., Done],
) -> None:
    _trained()
    args = ("--arch", "timm:resnet18", "-o", "new.safetensors", "--record")
    reinit("trained.safetensors", "-r", "fc.*=default", *args)

    done = reinit("verify", "new.safetensors", "--source", "trained.safetensors", "--json")

    verdict = json.loads(done.out)
    assert done.code == 0
    assert verdict["drawn"] == ["fc.bias", "fc.weight"]
    assert verdict["record"]["constructor"] == {
        "package": "timm",
        "version": package("timm").__version__,
    }


def test_a_recipe_may_name_a_model_of_timm(reinit: Callable[..., Done]) -> None:
    _trained(num_classes=3)
    Path("recipe.toml").write_text(
        'arch = "timm:resnet18"\narch_args = {num_classes = 3}\n'
        '[[rule]]\nmatch = "fc.*"\ninit = "default"\n'
    )

    done = reinit("trained.safetensors", "-c", "recipe.toml", "-o", "new.safetensors")

    assert done.code == 0


ERRORS = {
    "timm:resnet81": ("there is no timm model 'resnet81'", "did you mean resnet18 "),
    "timm:": ("there is no timm model ''", "reinit models timm: lists them"),
    "timm:hf-hub:timm/resnet18.a1_in1k": ("there is no timm model 'hf-hub:", ""),
    "timm:local-dir:here": ("there is no timm model 'local-dir:here'", ""),
}


@pytest.mark.parametrize(("arch", "said"), ERRORS.items(), ids=ERRORS)
def test_what_is_not_the_name_of_a_model_is_one_error(
    arch: str,
    said: tuple[str, str],
    reinit: Callable[..., Done],
) -> None:
    _trained()
    Path("here").mkdir()
    Path("here/config.json").write_text('{"architecture": "resnet18"}')

    done = reinit("trained.safetensors", "-r", "fc.*=default", "--arch", arch)

    assert done.code == 2
    assert said[0] in done.err
    assert said[1] in done.err
    assert done.err.count("error:") == 1


class Touch:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return Path.touch, (Path("touched"),)  # type: ignore[return-value]


@pytest.mark.parametrize(
    "argument", ['{"checkpoint_path": "bad.pt"}', '{"pretrained": true}', '{"pretrained_cfg": {}}']
)
def test_no_argument_loads_weights(argument: str, reinit: Callable[..., Done]) -> None:
    _trained()
    torch.save(Touch(), "bad.pt")
    arch = ("--arch", "timm:resnet18", "--arch-args", argument)

    done = reinit("trained.safetensors", "-r", "fc.*=default", *arch)

    assert done.code == 2
    assert "would load weights" in done.err
    assert not Path("touched").exists()


def test_a_constructor_that_fails_is_one_error(reinit: Callable[..., Done]) -> None:
    _trained()
    arch = ("--arch", "timm:resnet18", "--arch-args", '{"nonsense": 1}')

    done = reinit("trained.safetensors", "-r", "fc.*=default", *arch)

    assert done.code == 2
    assert done.err.startswith("error: the architecture 'timm:resnet18' cannot be built: TypeError")


def test_the_names_of_models_are_completed(reinit: Callable[..., Done]) -> None:
    line = "reinit m.safetensors --arch timm:"

    done = reinit("completion", "zsh", "--line", line)

    names = {f"timm:{name} " for name in package("timm").list_models()}
    assert set(done.out.removesuffix("\n").split("\n")) == names


def test_a_missing_package_is_one_error(
    reinit: Callable[..., Done],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _trained()
    monkeypatch.setitem(sys.modules, "timm", None)

    done = reinit("trained.safetensors", "-r", "fc.*=default", "--arch", "timm:resnet18")

    assert done.code == 2
    assert done.err == (
        "error: the architecture 'timm:resnet18' needs timm, which is not installed\n"
        "hint: pip install timm\n"
    )
