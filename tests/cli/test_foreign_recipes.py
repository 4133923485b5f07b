"""Recipes from strangers: what they name stays below the current folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from reinit_cli import plan, verify
from reinit_cli.cli.completion.words import candidates_for
from reinit_cli.errors import OutputUnwritableError, RecipeError, ReinitError
from reinit_cli.storage.destination import Destination
from reinit_cli.storage.folders import folders_above
from reinit_cli.storage.local_output import LocalOutput

STATE = {"a.weight": torch.ones(4, 4), "b.weight": torch.ones(3)}
RULE = "\n[[rule]]\nmatch = 'a.weight'\ninit = 'zeros'\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder elsewhere that holds a checkpoint, and a checkpoint here."""
    save_file({key: tensor * 7 for key, tensor in STATE.items()}, tmp_path / "private.safetensors")
    save_file(STATE, "m.safetensors")
    return tmp_path


def _tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def _recipe(text: str) -> None:
    Path("r.toml").write_text(text)


OUTPUTS = {
    "a folder": ("{up}/.config/fish/conf.d/", "--shard-size", "1kB"),
    "a file": ("{up}/x.safetensors",),
    "an absolute path": ("{home}/x.safetensors",),
    "a file below a link": ("out/x.safetensors",),
    "a folder below a link": ("out/new/", "--shard-size", "1kB"),
    "a form below a link": ("out/{{stem}}.safetensors",),
    "a form that goes up": ("new/{{stem}}/../../{up}/x.safetensors",),
    "a form of new folders": ("{up}/new/{{stem}}{{suffix}}",),
    "a file below a link to nothing": ("nothing/x.safetensors",),
    "a form that goes up from the source": ("{{parent}}/{up}/x.safetensors",),
    "a URL": ("https://example.org/x.safetensors",),
    "a URL that can be written": ("memory://x.safetensors",),
    "a folder at a URL": ("memory://new/", "--shard-size", "1kB"),
    "a form at a URL": ("memory://{{stem}}{{suffix}}",),
}


@pytest.mark.parametrize("case", OUTPUTS.values(), ids=OUTPUTS)
@pytest.mark.parametrize("options", [(), ("-f",), ("-n",), ("--keep-going",)], ids=str)
def test_a_recipe_writes_nothing_elsewhere(
    reinit: Any, home: Path, case: tuple[str, ...], options: tuple[str, ...]
) -> None:
    Path("out").symlink_to(home)
    Path("nothing").symlink_to(home / "nothing")
    up = os.path.relpath(home)
    output = case[0].format(up=up, home=home)
    _recipe(f"output = {json.dumps(output)}{RULE}")
    before, here = _tree(home), sorted(os.listdir())

    done = reinit("m.safetensors", "-c", "r.toml", *case[1:], *options)

    assert done.code == 2
    assert done.err.startswith("error: recipe 'r.toml': it names ")
    assert _tree(home) == before
    assert sorted(os.listdir()) == here


def test_what_is_refused_is_named_with_the_way_on(reinit: Any, home: Path) -> None:
    Path("out").symlink_to(home)
    _recipe(f"output = 'out/x.safetensors'{RULE}")

    assert reinit("m.safetensors", "-c", "r.toml").err == (
        f"error: recipe 'r.toml': it names 'out/x.safetensors', which leads to "
        f"'{home}/x.safetensors', outside of the current folder\n"
        f"hint: if that is meant, add --allow-path {home}\n"
    )


def test_a_recipe_may_write_where_the_user_allows(reinit: Any, home: Path) -> None:
    Path("deep/er").mkdir(parents=True)
    _recipe(f"output = '{home}/new/{{stem}}{{suffix}}'{RULE}")

    done = reinit("m.safetensors", "-c", "r.toml", "--allow-path", "deep", "--allow-path", home)

    assert (done.code, "error" in done.err) == (0, False)
    assert not load_file(home / "new/m.safetensors")["a.weight"].any()


@pytest.mark.parametrize("allowed", ["new", "deep", "../nowhere"])
def test_what_is_allowed_is_that_folder_alone(reinit: Any, home: Path, allowed: str) -> None:
    (home / "new").mkdir()
    _recipe(f"output = '{home}/new-x.safetensors'{RULE}")

    done = reinit("m.safetensors", "-c", "r.toml", "--allow-path", home / allowed)

    assert done.code == 2
    assert _tree(home) == ["new", "private.safetensors"]


def test_the_command_line_overrides_what_a_recipe_names(reinit: Any, home: Path) -> None:
    _recipe(f"source = '{home}/private.safetensors'\noutput = '{home}/x.safetensors'{RULE}")

    done = reinit("m.safetensors", "-c", "r.toml", "-o", "x.safetensors")

    assert (done.code, "error" in done.err) == (0, False)
    assert _tree(home) == ["private.safetensors"]


def test_the_command_line_may_name_the_same_paths(reinit: Any, home: Path) -> None:
    private = f"{home}/private.safetensors"
    _recipe(f"source = '{private}'\n[[rule]]\nmatch = 'a.*'\ninit = 'rewind:{private}'\n")

    done = reinit(private, "-c", "r.toml", "-o", f"{home}/x.safetensors")

    assert (done.code, "error" in done.err) == (0, False)


READING = {
    "a source": "source = '{path}'\n[[rule]]\nmatch = '*'\ninit = 'keep'\n",
    "one of several sources": "source = ['m.safetensors', '{path}']" + RULE,
    "a rule": "[[rule]]\nmatch = 'a.*'\ninit = 'rewind:{path}'\n",
    "an argument of a rule": "[[rule]]\nmatch = 'a.*'\ninit = 'rewind'\ncheckpoint = '{path}'\n",
    "an order of parameters": "reset_optimizer = true\noptimizer_order = '{path}'" + RULE,
    "new rows": "resize = 'a.weight=8:rewind:{path}'\n",
    "a rule that another overrides": "[[rule]]\nmatch = 'a.*'\ninit = 'rewind:{path}'\n" + RULE,
}


@pytest.mark.parametrize("form", READING.values(), ids=READING)
@pytest.mark.parametrize("through", ["up", "absolute", "a link", "a link to a folder"])
def test_a_recipe_reads_nothing_elsewhere(reinit: Any, home: Path, form: str, through: str) -> None:
    Path("link.safetensors").symlink_to(home / "private.safetensors")
    Path("folder").symlink_to(home)
    path = {
        "up": f"{os.path.relpath(home)}/private.safetensors",
        "absolute": f"{home}/private.safetensors",
        "a link": "link.safetensors",
        "a link to a folder": "folder/private.safetensors",
    }[through]
    _recipe(form.format(path=path))
    sources = () if "source" in form else ("m.safetensors",)

    done = reinit(*(sources or ("-v",)), "-c", "r.toml", "-o", "new/{name}")

    assert done.code == 2
    assert done.err.startswith(f"error: recipe 'r.toml': it names '{path}'")
    assert done.err.endswith(f"add --allow-path {home}\n")
    assert not Path("new").exists()


@pytest.mark.parametrize("form", READING.values(), ids=READING)
def test_no_recipe_names_a_url(reinit: Any, home: Path, form: str) -> None:
    url = "https://example.org/m.safetensors"
    Path("https:/example.org").mkdir(parents=True)
    Path("m.safetensors").rename(url)
    save_file(STATE, "m.safetensors")
    _recipe(form.format(path=url))
    sources = () if "source" in form else ("m.safetensors",)

    assert reinit(*(sources or ("-v",)), "-c", "r.toml", "-n", "-o", "new/{name}").err == (
        f"error: recipe 'r.toml': it names the URL '{url}', and only the command line may\n"
    )


def test_a_recipe_may_read_where_the_user_allows(reinit: Any, home: Path) -> None:
    _recipe(f"[[rule]]\nmatch = 'a.*'\ninit = 'rewind:{home}/private.safetensors'\n")

    done = reinit("m.safetensors", "-c", "r.toml", "--allow-path", home)

    assert (done.code, "error" in done.err) == (0, False)
    assert load_file("m-reinit.safetensors")["a.weight"].eq(7).all()


def test_the_weights_that_a_recipe_chooses_for_a_model_are_no_file_elsewhere(
    reinit: Any, home: Path
) -> None:
    _recipe(f"source = 'alexnet'\nweights = '{home}/private.safetensors'{RULE}")

    done = reinit("run", "-c", "r.toml", "-n")

    assert done.code == 2
    assert done.err.startswith(f"error: recipe 'r.toml': it names '{home}/private.safetensors'")


@pytest.mark.parametrize("name", ["alexnet", "-", "/dev/stdin"])
def test_models_and_streams_are_nowhere_else(reinit: Any, home: Path, name: str) -> None:
    Path("alexnet").symlink_to(home)
    _recipe(f"source = '{name}'\nweights = 'none'{RULE}")

    assert "outside of the current folder" not in reinit("run", "-c", "r.toml", "-n").err


@pytest.mark.parametrize("output", ["-", "/dev/stdout"])
def test_standard_output_is_nowhere_else(reinit: Any, home: Path, output: str) -> None:
    _recipe(f"output = '{output}'{RULE}")

    assert "outside of the current folder" not in reinit("m.safetensors", "-c", "r.toml", "-n").err


def test_a_plan_stays_below_the_current_folder_too(reinit: Any, home: Path) -> None:
    planned = reinit("m.safetensors", "-r", "a.*=zeros", "-o", f"{home}/x.pt", "-n", "--json")
    Path("plan.json").write_text(planned.out)

    assert reinit("run", "-c", "plan.json").code == 2
    assert _tree(home) == ["private.safetensors"]
    assert reinit("run", "-c", "plan.json", "--allow-path", home).code == 0
    assert (home / "x.pt").exists()


def _with_record_naming(path: Path) -> None:
    """Write `m-reinit.safetensors` with a record whose rule names another checkpoint."""
    with safe_open("m-reinit.safetensors", "pt") as file:
        metadata = file.metadata()
    record = json.loads(metadata["reinit"])
    record["rule"] = [{"match": "a.weight", "init": "rewind", "checkpoint": str(path)}]
    metadata["reinit"] = json.dumps(record)
    save_file(load_file("m-reinit.safetensors"), "m-reinit.safetensors", metadata)


def test_a_record_inside_a_checkpoint_reads_nothing_elsewhere(reinit: Any, home: Path) -> None:
    assert reinit("m.safetensors", "-r", "a.weight=zeros", "--record").code == 0
    _with_record_naming(home / "private.safetensors")

    as_recipe = reinit("m.safetensors", "-c", "m-reinit.safetensors", "-o", "x.safetensors")
    verified = reinit("verify", "m-reinit.safetensors", "--source", "m.safetensors")

    for done in (as_recipe, verified):
        assert done.code == 2
        assert done.err.startswith("error: recipe 'm-reinit.safetensors': it names ")
        assert done.err.endswith(f"hint: if that is meant, add --allow-path {home}\n")
    assert reinit("verify", "m-reinit.safetensors").code == 1  # a record that was changed


def test_a_record_may_name_what_the_user_allows(reinit: Any, home: Path) -> None:
    private = home / "private.safetensors"
    assert reinit("m.safetensors", "-r", f"a.weight=rewind:{private}", "--record").code == 0
    verify_ = ("verify", "m-reinit.safetensors", "--source", "m.safetensors")

    with pytest.raises(RecipeError, match="outside of the current folder"):
        verify("m-reinit.safetensors", source="m.safetensors")

    assert reinit(*verify_).code == 2
    assert reinit(*verify_, "--allow-path", home).code == 0
    assert verify("m-reinit.safetensors", source="m.safetensors", allow_paths=[str(home)]).holds


def test_no_recipe_can_allow_a_path(reinit: Any, home: Path) -> None:
    for name in ("allow_path", "allow_paths", "allow-path"):
        _recipe(f"{name} = ['{home}']\noutput = '{home}/x.safetensors'{RULE}")
        assert reinit("m.safetensors", "-c", "r.toml").code == 2
    assert _tree(home) == ["private.safetensors"]


def test_a_recipe_elsewhere_names_paths_from_the_current_folder(reinit: Any, home: Path) -> None:
    (home / "r.toml").write_text(f"output = 'new/x.safetensors'{RULE}")
    Path("new").mkdir()

    assert reinit("m.safetensors", "-c", str(home / "r.toml")).code == 0
    assert Path("new/x.safetensors").exists()


def test_an_output_is_not_called_after_a_source_through_a_link(reinit: Any, home: Path) -> None:
    (home / "back.safetensors").symlink_to(Path("m.safetensors").resolve())
    Path("out").symlink_to(home)
    _recipe(f"source = 'out/back.safetensors'{RULE}")

    assert reinit("run", "-c", "r.toml").code == 2
    assert reinit("run", "-c", "r.toml", "-s", "0..1").code == 2
    assert _tree(home) == ["back.safetensors", "private.safetensors"]


def test_a_link_at_the_end_of_an_output_is_replaced_and_not_followed(
    reinit: Any, home: Path
) -> None:
    Path("x.safetensors").symlink_to(home / "private.safetensors")
    _recipe(f"output = 'x.safetensors'{RULE}")

    assert reinit("m.safetensors", "-c", "r.toml", "-f").code == 0
    assert load_file(home / "private.safetensors")["a.weight"].eq(7).all()
    assert not Path("x.safetensors").is_symlink()


def test_a_link_that_appears_after_the_plan_is_not_followed(home: Path) -> None:
    Path("out").mkdir()
    destination = Destination("out/x.pt", within=(".",))
    with pytest.raises(OutputUnwritableError, match="a link leads it out"):  # noqa: SIM117
        with LocalOutput(destination) as output:
            output.file("", 1).write_at(0, b"x")
            Path("out").rename("moved")
            Path("out").symlink_to(home)
            output.commit()
    deep = Destination("out/new/x.pt", makes_folders=True, within=(".",))
    with pytest.raises(OutputUnwritableError, match="a link leads it out"), folders_above([deep]):
        pass

    assert _tree(home) == ["private.safetensors"]


def test_completion_reads_nothing_that_a_recipe_names(home: Path) -> None:
    _recipe(f"source = '{home}/private.safetensors'{RULE}")

    assert candidates_for(["-c", "r.toml", "-r"], "a") == []
    assert candidates_for(["m.safetensors", "-c", "r.toml", "-r"], "a") == ["a."]


def test_a_file_called_like_weights_is_not_taken_for_them(reinit: Any, home: Path) -> None:
    for name in ("DEFAULT", "none", "IMAGENET1K_V1"):
        Path(name).write_bytes(Path("m.safetensors").read_bytes())

    assert reinit("keys", "alexnet", "--count").code == 0
    assert reinit("keys", "alexnet", "--weights", "none", "--count").code == 0
    assert reinit("keys", "alexnet", "--weights", "IMAGENET1K_V1", "--count").code == 0
    with pytest.raises(ReinitError, match="does not hold the weights of alexnet"):
        plan("alexnet", ["*=zeros"], weights="./DEFAULT")
