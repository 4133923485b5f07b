"""What the README and the examples tell a user to type works, word for word."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from tests.pages import PAGES, shell

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RECIPES = (ROOT / "docs" / "recipes.md").read_text()
COMMANDS = re.findall(r"^\$ (.+)$", README, re.MULTILINE)
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)

pytestmark = pytest.mark.slow


def test_nobody_is_told_to_install_us_by_name() -> None:
    """The package index has another project of that name."""
    texts = [
        README,
        *PAGES.values(),
        *(path.read_text() for path in ROOT.glob("reinit_cli/**/*.py")),
    ]

    assert not [text for text in texts if re.search(r"pip3? install [^`\n]*\breinit\b(?!`)", text)]


def _language_model() -> None:
    state = {"lm_head.weight": torch.randn(50, 16), "embed.weight": torch.randn(50, 16)}
    for layer in range(4):
        state |= {
            f"layers.{layer}.mlp.up_proj.weight": torch.randn(32, 16),
            f"layers.{layer}.mlp.up_proj.bias": torch.randn(32),
            f"layers.{layer}.input_norm.weight": torch.randn(16),
        }
    save_file(state, "model.safetensors", {"format": "pt"})


def test_the_readme_has_ten_examples() -> None:
    examples = README.partition("## Ten examples")[2].partition("\n## ")[0]
    assert examples.count("```console") == 10


def test_every_command_of_the_readme_works_in_turn(environment: dict[str, str]) -> None:
    _language_model()
    cached = Path(torch.hub.get_dir(), "checkpoints", "alexnet-owt-7be5be79.pth")
    cached.parent.mkdir(parents=True)
    torch.save(torchvision.models.alexnet().state_dict(), cached)

    said = {command: shell(command, environment) for command in COMMANDS}

    assert {"alexnet-reinit.safetensors", "fresh.safetensors", "zero-biases.pt"} <= set(
        os.listdir()
    )
    assert said['reinit keys model.safetensors "*.bias" | wc -l'].strip() == "4"


def test_every_recipe_and_command_of_the_page_on_recipes_works(
    environment: dict[str, str],
) -> None:
    _language_model()
    (toml,) = re.findall(r"```toml\n(.*?)```", RECIPES, re.DOTALL)
    (text,) = re.findall(r"```json\n(.*?)```", RECIPES, re.DOTALL)
    Path("recipe.toml").write_text(toml)
    Path("recipe.json").write_text(text)

    for command in re.findall(r"^\$ (.+)$", RECIPES, re.MULTILINE):
        shell(command, environment)
    shell("reinit model.safetensors -c recipe.json -o json.safetensors", environment)

    written = load_file("head.safetensors")["lm_head.weight"]
    orthogonal = written.T @ written
    assert torch.allclose(orthogonal, torch.eye(len(orthogonal)), atol=1e-5)
    assert not load_file("json.safetensors")["layers.0.mlp.up_proj.bias"].any()


def test_the_page_on_recipes_has_every_field() -> None:
    from reinit_cli.request.recipe import FIELDS

    table = RECIPES.partition("| field |")[2].partition("\n\n")[0]
    assert [field for field in FIELDS if f"`{field}`" not in table] == []


def test_the_python_of_the_readme_works_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    from reinit_cli.initializers import REGISTRY

    # The README registers an initializer of its own, which is nobody else's.
    monkeypatch.setattr(REGISTRY, "_by_name", dict(REGISTRY._by_name))
    scope: dict[str, object] = {}
    for block in PYTHON:
        exec(compile(block, "README.md", "exec"), scope)

    from reinit_cli import rewrite

    rewrite("alexnet", ["features.0.weight=xavier_uniform:relu"], "x.safetensors", weights="none")
    drawn = scope["w"]
    assert isinstance(drawn, torch.Tensor)
    assert torch.equal(drawn, load_file("x.safetensors")["features.0.weight"])


def test_the_table_of_rules_names_every_initializer() -> None:
    from reinit_cli.initializers import REGISTRY

    table = README.partition("## Rules")[2].partition("\n## ")[0]
    builtin = [each.name for each in REGISTRY if each.build.__module__.startswith("reinit_cli.")]
    assert [name for name in builtin if f"`{name}" not in table] == []


def test_every_option_of_a_rewrite_is_explained() -> None:
    from reinit_cli.cli.commands.run.command import command

    assert all(
        getattr(option, "help", "source")
        for option in command.params
        if option.param_type_name == "option"
    )


@pytest.mark.parametrize(
    "story", sorted(path.parent.name for path in ROOT.glob("examples/*/README.md"))
)
def test_every_example_runs(story: str, environment: dict[str, str]) -> None:
    (script,) = (ROOT / "examples" / story).glob("run.*")
    runner = "bash" if script.suffix == ".sh" else "python"

    assert shell(f'{runner} "{script}"', environment)
