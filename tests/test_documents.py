"""What the README, the pages of docs/ and the examples ask a user to type works, word for word."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file

from reinit_cli.cli import main
from reinit_cli.initializers import REGISTRY
from reinit_cli.request.recipe import FIELDS
from tests.checkpoints.hub.mock import Server
from tests.checkpoints.hub.models import small
from tests.pages import ALL_PAGES, PAGES, ROOT, Block, Reader, blocks_of, copy_beside, typed_in
from tests.tools import package

README = ALL_PAGES["README.md"]

NOT_TYPED = {
    ("README.md", "pip install ."): "an installation: gigabytes from a package index",
    ("docs/index.md", "pip install ."): "an installation: gigabytes from a package index",
    (
        "examples/README.md",
        "cp -r examples/fresh-head /tmp/fresh-head && cd /tmp/fresh-head && bash run.sh",
    ): ("a copy out of a clone"),
    ("docs/how-to/remote.md", "pip install s3fs"): "an installation, and storage of the reader's",
    ("docs/how-to/remote.md", "reinit keys s3://bucket/model.safetensors"): "such storage",
    (
        "docs/how-to/remote.md",
        'reinit model.safetensors -r "lm_head.weight=normal:std=0.02" -o s3://bucket/runs/',
    ): "such storage",
    (
        "docs/how-to/remote.md",
        'reinit hf://org/model -r "lm_head.weight=normal:std=0.02" -o new/',
    ): "an account on the Hub",
    ("docs/how-to/completion.md", 'eval "$(reinit completion bash)"'): "settings of a shell",
}
"""The blocks that no test types, by page and first command, with the reason; ten at most."""

GENERATED = "docs/reference/commands.md"
"""Its blocks are the help's, whose examples the tests of the help run."""

PROGRAMS = ("reinit", "python", "pip", "pipx", "uv", "make", "git", "hf", "curl", "export", "cp")
_COMMAND = re.compile(rf"^(?:\$ |(?:{'|'.join(PROGRAMS)}) )", re.MULTILINE)


def _is_typed(block: Block) -> bool:
    return block.language in ("console", "python") or block.file is not None


def _first_line(block: Block) -> str:
    return block.text.splitlines()[0].partition("  ")[0]


TYPED = [name for name, page in ALL_PAGES.items() if any(map(_is_typed, blocks_of(page)))]


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages may register initializers of their own, which are nobody else's."""
    monkeypatch.setattr(REGISTRY, "_by_name", dict(REGISTRY._by_name))


@pytest.fixture
def weights(environment: dict[str, str]) -> None:
    """Put pretrained weights where torch would have downloaded them."""
    del environment
    folder = Path(torch.hub.get_dir(), "checkpoints")
    folder.mkdir(parents=True)
    torch.save(torchvision.models.alexnet().state_dict(), folder / "alexnet-owt-7be5be79.pth")


@pytest.fixture
def model_on_hub(name: str, environment: dict[str, str], tmp_path: Path) -> Iterator[None]:
    """Have a model on a Hub of our own, and a cache without any."""
    if name == "docs/how-to/hub.md":
        package("huggingface_hub")
    server = Server.started()
    for revision in ("main", "v1.0"):
        server.hub.add("org/model", small(tmp_path / revision), revision)
    environment |= {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hub")}
    environment |= {"HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1,localhost"}
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.slow
@pytest.mark.usefixtures("own_registry", "weights", "model_on_hub")
@pytest.mark.parametrize("name", TYPED)
def test_every_command_of_a_page_works_in_turn_in_an_empty_folder(
    name: str, environment: dict[str, str]
) -> None:
    copy_beside(ROOT / name, Path())
    reader = Reader(environment)
    blocks = blocks_of(ALL_PAGES[name])
    for before, block in zip([Block("", ""), *blocks], blocks, strict=False):
        if before.language == "python" and block.language == "text":
            assert block.text == reader.printed
        elif (name, _first_line(block)) not in NOT_TYPED:
            reader.follow(block)
    reader.finish()


@pytest.mark.slow
def test_the_picture_of_the_readme_shows_what_its_commands_print() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_picture.py"))["pictures"]()

    for name, picture in made.items():
        kept = (ROOT / "docs" / "images" / name).read_text()
        assert _without_versions(picture) == _without_versions(kept), (
            f"{name} is not what the commands print; python docs/make_picture.py draws it again"
        )


def _without_versions(picture: str) -> str:
    """Leave out the torch of who drew a picture, and how wide its name is."""
    return re.sub(r"(?:torch [\d.]+\S*,|textLength=\S+)", "", picture)


def test_no_command_is_left_out_but_for_a_reason() -> None:
    left_out = {
        (name, _first_line(block))
        for name, page in ALL_PAGES.items()
        for block in blocks_of(page)
        if name != GENERATED and not _is_typed(block) and _COMMAND.search(block.text)
    }

    assert left_out == NOT_TYPED.keys()
    assert len(NOT_TYPED) <= 10


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= 900


def test_every_link_of_the_readme_and_the_examples_leads_somewhere() -> None:
    missing = [
        (name, target)
        for name, page in ALL_PAGES.items()
        if not name.startswith("docs/")  # mkdocs follows the links of its own pages
        for target in re.findall(r"(?:\]\(|(?:src|srcset|href)=\")([^)#\"]+)", page)
        if "://" not in target and not (ROOT / name).parent.joinpath(target).exists()
    ]

    assert missing == []


def test_nobody_is_told_to_install_another_project() -> None:
    """The package index has another project that is called like the command."""
    texts = [*ALL_PAGES.values(), *(path.read_text() for path in ROOT.glob("reinit_cli/**/*.py"))]
    install = re.compile(r"(?:pip3?|pipx|uv tool) install [^`\n]*\breinit\b(?!-cli|`)")

    assert not [found for text in texts for found in install.findall(text)]


def test_the_recipes_of_the_page_do_what_they_say() -> None:
    blocks = blocks_of(PAGES["recipes.md"])
    setup = next(block for block in blocks if block.language == "python")
    exec(compile(setup.text, "recipes.md", "exec"), {})
    for block in blocks:
        if block.file is not None:
            Path(block.file).write_text(block.text)

    for name in ("toml", "json"):
        source = ["model.safetensors", "-c", f"recipe.{name}", "-o", f"{name}.safetensors"]
        assert main([*source, "--quiet"]) == 0

    before, by_toml, by_json = map(
        load_file, ("model.safetensors", "toml.safetensors", "json.safetensors")
    )
    bias = "layers.0.mlp.up_proj.bias"
    assert by_toml["lm_head.weight"].std() == pytest.approx(0.02, rel=0.1)
    assert torch.equal(by_toml[bias], before[bias])
    assert not by_json[bias].any()


def test_the_page_on_recipes_has_every_field() -> None:
    table = PAGES["recipes.md"].partition("| field |")[2].partition("\n\n")[0]
    assert [field for field in FIELDS if f"`{field}`" not in table] == []


def test_the_table_of_rules_names_every_initializer() -> None:
    table = PAGES["reference/rules.md"].partition("| in a pattern |")[2].partition("\n\n")[0]
    builtin = [each.name for each in REGISTRY if each.build.__module__.startswith("reinit_cli.")]
    assert [name for name in builtin if f"`{name}" not in table] == []


def test_every_option_of_a_rewrite_is_explained() -> None:
    from reinit_cli.cli.commands.run.command import command

    assert all(
        getattr(option, "help", "source")
        for option in command.params
        if option.param_type_name == "option"
    )


def test_every_example_shows_its_command_and_how_long_it_takes() -> None:
    stories = [each.parent for each in ROOT.glob("examples/*/README.md")]

    assert len(stories) >= 9
    for story in stories:
        page = (story / "README.md").read_text()
        (script,) = story.glob("run.*")
        (typed,) = [typed for block in blocks_of(page) for typed in typed_in(block)]
        runner = {".sh": "bash", ".py": "python"}[script.suffix]
        assert typed.command == f"{runner} {script.name}"
        assert typed.shown
        assert re.search(r"About \d+ seconds", page)
        assert f"({story.name}/README.md)" in ALL_PAGES["examples/README.md"]
