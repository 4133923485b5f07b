"""Names of timm's models, completed and offered: read from its modules, which are not imported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec

import pytest
import torch

from tests.cli.conftest import Done
from tests.tools import missing

BREAKS = " \t\n\"'@><=;|&(:"


@pytest.fixture(autouse=True)
def installed() -> None:
    if find_spec("timm") is None:
        missing("timm is not installed")


@pytest.mark.parametrize(
    ("line", "candidates"),
    [
        ("reinit tim", ["timm:"]),
        ("reinit keys tim", ["timm:"]),
        ("reinit models timm:resnet18", ["resnet18 ", "resnet18d "]),
        ("reinit timm:resnet18", ["resnet18 ", "resnet18d "]),
        ("reinit diff alexnet timm:resnet18.gl", ["resnet18.gluon_in1k "]),
        ("reinit m.pt --arch timm:resnet18.gl", ["resnet18.gluon_in1k "]),
        ("reinit timm:resnet18d --weights ra", ["ra2_in1k ", "ra4_e3600_r224_in1k "]),
        ("reinit timm:resnet18d --weights DEF", ["DEFAULT "]),
        ("reinit timm:resnet99", []),
    ],
)
def test_names_and_tags_go_on(
    line: str, candidates: list[str], reinit: Callable[..., Done]
) -> None:
    done = reinit("completion", "bash", "--breaks", BREAKS, "--line", line)

    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == candidates


def test_timm_is_not_imported_for_its_names() -> None:
    code = (
        "import sys; from reinit_cli.cli import main; "
        "main(['completion', 'zsh', '--line', 'reinit timm:resnet18.']); "
        "sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, text=True, capture_output=True)

    assert done.returncode == 0
    assert "timm:resnet18.a1_in1k " in done.stdout.splitlines()


@pytest.mark.slow
def test_keys_of_a_model_of_timm_are_completed(reinit: Callable[..., Done]) -> None:
    done = reinit("completion", "zsh", "--line", "reinit timm:resnet18 -r fc.w")

    assert done.out.splitlines() == ["fc.weight="]


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (
            ["resnet50d", "-r", "*.bias=zeros"],
            "did you mean: reinit timm:resnet50d -r '*.bias=zeros'?",
        ),
        (["keys", "resnet50d"], "did you mean timm:resnet50d?"),
        (["keys", "resnet50d.a1_in1k"], "did you mean timm:resnet50d.a1_in1k?"),
        (["m.pt", "-r", "*=default", "--arch", "resnet50d"], "did you mean timm:resnet50d?"),
        (["keys", "resnet50d.ckpt"], "there is m.pt"),
        (["keys", "timm:resnet18.a1_in1"], "did you mean timm:resnet18.a1_in1k?"),
        (["keys", "timm:resnet18.nope"], "such as timm:resnet18.a1_in1k"),
        (["keys", "timm:resnet18", "--weights", "a1_in"], "did you mean a1_in1k?"),
        (["keys", "resnet81"], "did you mean resnet"),
    ],
)
def test_a_model_of_timm_alone_is_offered_by_its_whole_name(
    args: list[str], hint: str, reinit: Callable[..., Done]
) -> None:
    torch.save({"weight": torch.ones(2)}, "m.pt")

    done = reinit(*args)

    assert done.code == 2
    assert f"hint: {hint}" in done.err


@pytest.mark.slow
def test_weights_are_chosen_for_models_of_timm_that_are_compared(
    reinit: Callable[..., Done],
) -> None:
    """There is no network: with their own weights they could not be read."""
    model = "timm:test_vit"

    same = reinit("diff", model, model, "--weights", "none")

    assert (same.code, same.err.splitlines()[0]) == (0, f"from: {model}")
    assert same.err.splitlines()[2].endswith(" identical")
