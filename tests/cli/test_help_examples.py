"""Every example in the help of a command is a command that works."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from glob import glob
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from reinit_cli.cli import main
from reinit_cli.cli.group import COMMANDS

pytestmark = pytest.mark.slow

_EXAMPLE = re.compile(r"^ +reinit (.+)$", re.MULTILINE)


def _folder() -> None:
    """Make the files that the examples speak of."""
    torch.manual_seed(0)
    state = {"lm_head.weight": torch.randn(50, 16), "embed.weight": torch.randn(50, 16)}
    for layer in range(2):
        state[f"layers.{layer}.mlp.up_proj.weight"] = torch.randn(32, 16)
        state[f"layers.{layer}.mlp.up_proj.bias"] = torch.randn(32)
    save_file(state, "model.safetensors", {"format": "pt"})
    save_file({**state, "lm_head.weight": torch.zeros(50, 16)}, "reinit")
    torch.save(state, "model.pt")
    torch.save({key: value + 1 for key, value in state.items()}, "old.pt")
    torch.save({f"module.{key}": value for key, value in state.items()}, "ddp.pt")
    Path("recipe.toml").write_text('[[rule]]\nmatch = "*lm_head.weight"\ninit = "orthogonal"\n')


def _pretrained() -> None:
    """Put weights where torch would have downloaded them."""
    folder = Path(torch.hub.get_dir(), "checkpoints")
    folder.mkdir(parents=True)
    for make, name in (
        (torchvision.models.alexnet, "alexnet-owt-7be5be79.pth"),
        (torchvision.models.resnet50, "resnet50-11ad3fa6.pth"),
    ):
        torch.save(make().state_dict(), folder / name)


def _arguments(line: str) -> list[str]:
    """Split a command as a shell does, which expands names without quotes."""
    words = shlex.split(line, comments=True)
    return [each for word in words for each in (sorted(glob(word)) if word == "*.pt" else [word])]


def _examples(capsys: pytest.CaptureFixture[str]) -> Iterator[str]:
    capsys.readouterr()
    for line in (["--help"], *([name, way] for name in COMMANDS for way in ("-h", "--help"))):
        assert main(line) == 0
        _, found, examples = capsys.readouterr().out.partition("Examples:")
        assert found, line
        for each in _EXAMPLE.findall(examples):
            yield each.strip()


def test_every_example_of_the_help_works(capsys: pytest.CaptureFixture[str]) -> None:
    _folder()
    _pretrained()
    examples = list(dict.fromkeys(_examples(capsys)))
    assert len(examples) > 25

    for example in examples:
        if not example.startswith("completion"):
            output = Path("model-reinit.safetensors")
            output.unlink(missing_ok=True)
            if output.name in example:
                output.hardlink_to("reinit")
            code = main(_arguments(example))
            said = capsys.readouterr().err
            assert code in ((0, 1) if example.startswith("diff") else (0,)), (example, said)
