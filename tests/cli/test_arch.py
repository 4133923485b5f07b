"""`--arch` with people's own code: what is run, what is refused, and what is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.cli.conftest import Done

CODE = """
import os
from dataclasses import dataclass

import torch
from torch import nn

print("loaded")
os.write(1, b"to the descriptor\\n")


@dataclass
class Sizes:
    width: int = 16


class Net(nn.Module):
    def __init__(self, width=Sizes().width, depth=1):
        super().__init__()
        print("building")
        os.system("echo from a child")
        self.body = nn.Linear(6, width)
        self.head = nn.Linear(width, 4)
        nn.init.normal_(self.body.weight, std=0.02)
        nn.init.constant_(self.head.weight, 7.0)

    class Inner(nn.Linear):
        pass


def make(width):
    return Net(width)


def number():
    return 3


def failing():
    raise ValueError("the width is odd")


def leaving():
    raise SystemExit(3)


def endless():
    return nn.Linear(2**30, 2**30)


ready = nn.Linear(2, 2)
"""

FILL = ("-r", "*=default")


@pytest.fixture
def net() -> Path:
    """The file of a user's own network, and checkpoints of it with two widths."""
    Path("net.py").write_text(CODE)
    for width in (16, 64):
        state = {
            "body.weight": torch.ones(width, 6),
            "body.bias": torch.ones(width),
            "head.weight": torch.ones(4, width),
            "head.bias": torch.ones(4),
        }
        save_file(state, f"width{width}.safetensors")
    return Path("net.py")


def test_default_follows_a_class_in_a_file(net: Path, reinit: Callable[..., Done]) -> None:
    done = reinit("width16.safetensors", *FILL, "--arch", "./net.py:Net", "-o", "new.safetensors")

    assert done.code == 0
    filled = load_file("new.safetensors")
    assert torch.equal(filled["head.weight"], torch.full((4, 16), 7.0))
    assert filled["body.weight"].std().item() == pytest.approx(0.02, rel=0.3)
    bound = 1 / 6**0.5  # that of nn.Linear's bias with six inputs
    assert 0 < filled["body.bias"].abs().max().item() <= bound


@pytest.mark.parametrize("name", ["Net", "make"])
def test_arguments_reach_a_class_or_a_function(
    name: str, net: Path, reinit: Callable[..., Done]
) -> None:
    arch = ("--arch", f"net.py:{name}", "--arch-args", '{"width": 64}')

    done = reinit("width64.safetensors", *FILL, *arch, "-o", "new.safetensors")

    assert done.code == 0
    assert load_file("new.safetensors")["head.weight"].eq(7).all()


def test_a_nested_class_of_an_installed_module_is_named_by_its_path(
    reinit: Callable[..., Done],
) -> None:
    arch = ("--arch", "torch.nn:modules.linear.Linear")
    sizes = ("--arch-args", '{"in_features": 4, "out_features": 3}')

    done = reinit("draw", "default", "3,4", *arch, *sizes, "--json")

    values = torch.tensor(json.loads(done.out)["values"])
    assert 0 < values.abs().max().item() <= 0.5  # as nn.Linear has it: 1/√4


def test_what_code_prints_stays_out_of_a_piped_checkpoint(net: Path) -> None:
    args = ["width16.safetensors", *FILL, "--arch", "./net.py:Net", "-o", "-"]

    ran = subprocess.run(
        [sys.executable, "-m", "reinit_cli", *args], capture_output=True, check=True
    )

    Path("piped.safetensors").write_bytes(ran.stdout)
    assert load_file("piped.safetensors")["head.weight"].eq(7).all()
    for said in (b"loaded", b"building", b"to the descriptor", b"from a child"):
        assert said in ran.stderr


ERRORS = {
    "make": ("missing a required argument: 'width'", "it takes width; write --arch-args"),
    "Nett": ("'./net.py' has no class or function 'Nett'", "did you mean Net?"),
    "number": ("it returns an int, not a torch.nn.Module", ""),
    "failing": ("ValueError: the width is odd (line 40 of './net.py')", ""),
    "leaving": ("it ends the program", ""),
    "ready": ("it is a module already: name the class or function that makes it", ""),
    "CODE.x": ("has no class or function 'CODE'", ""),
    "": ("it names no class or function", "did you mean --arch ./net.py:Net?"),
}


@pytest.mark.parametrize(("name", "said"), ERRORS.items(), ids=ERRORS)
def test_what_is_wrong_with_a_constructor_is_one_error(
    name: str, said: tuple[str, str], net: Path, reinit: Callable[..., Done]
) -> None:
    done = reinit("width16.safetensors", *FILL, "--arch", f"./net.py:{name}", "-o", "new.pt")

    problem, hint = said
    lines = [line for line in done.err.splitlines() if line.startswith(("error:", "hint:"))]
    assert done.code == 2
    assert problem in lines[0]
    assert hint in "".join(lines[1:])
    assert "Traceback" not in done.err
    assert not Path("new.pt").exists()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("def (", "SyntaxError: invalid syntax in line 1"),
        (
            "import nowhere_to_be_found",
            "ModuleNotFoundError: No module named 'nowhere_to_be_found'",
        ),
        ("raise RuntimeError", "RuntimeError (line 1 of './net.py')"),
        ("Net = 3", "it is an int, not a class or function"),
        ("class Net:\n    def __init__(self):\n        self.__init__()", "RecursionError"),
        ("import sys; sys.exit('bye')", "it ends the program"),
        ("\0", "null bytes"),
    ],
)
def test_a_file_that_cannot_be_run_is_one_error(
    text: str, problem: str, net: Path, reinit: Callable[..., Done]
) -> None:
    net.write_text(text)

    done = reinit("width16.safetensors", *FILL, "--arch", "./net.py:Net", "-o", "new.pt")

    (error,) = (line for line in done.err.splitlines() if line.startswith("error:"))
    assert done.code == 2
    assert "'./net.py:Net' cannot be built" in error
    assert problem in error


def test_a_misspelled_argument_is_answered_with_the_one_that_is_meant(
    net: Path, reinit: Callable[..., Done]
) -> None:
    arch = ("--arch", "./net.py:Net", "--arch-args", '{"widht": 64}')

    done = reinit("width64.safetensors", *FILL, *arch)

    assert done.code == 2
    assert "got an unexpected keyword argument 'widht'" in done.err
    assert "hint: did you mean width?" in done.err


@pytest.mark.parametrize("text", ["[1]", "{", "64", '{"a": NaN}', '{"width": 1} x'])
def test_arguments_that_are_no_json_object_are_refused(
    text: str, net: Path, reinit: Callable[..., Done]
) -> None:
    done = reinit("width64.safetensors", *FILL, "--arch", "./net.py:Net", "--arch-args", text)

    assert done.code == 2
    assert done.err.startswith("error: invalid value for '--arch-args': it ")


def test_arguments_alone_need_an_architecture(net: Path, reinit: Callable[..., Done]) -> None:
    done = reinit("width64.safetensors", *FILL, "--arch-args", '{"width": 64}')

    assert done.code == 2
    assert done.err == (
        "error: arguments of a constructor are given, and no architecture\n"
        "hint: name it with --arch, such as --arch ./net.py:Class\n"
    )


def test_the_working_folder_is_searched_for_no_module(
    net: Path, reinit: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    net.rename("own_net.py")
    for entry in ("", str(Path.cwd())):
        monkeypatch.setattr(sys, "path", [entry, *sys.path])

    done = reinit("width16.safetensors", *FILL, "--arch", "own_net:Net")

    assert done.code == 2
    assert "loaded" not in done.err
    assert done.err == (
        "error: the architecture 'own_net:Net' cannot be built: there is no installed module "
        "'own_net', and the working folder is not searched\n"
        "hint: did you mean --arch ./own_net.py:Net?\n"
    )


def test_a_file_does_not_import_its_neighbors(net: Path, reinit: Callable[..., Done]) -> None:
    net.rename("own_net.py")
    Path("other.py").write_text("from own_net import Net")

    done = reinit("width16.safetensors", *FILL, "--arch", "./other.py:Net")

    assert done.code == 2
    assert "ModuleNotFoundError: No module named 'own_net'" in done.err
    assert "loaded" not in done.err


@pytest.mark.parametrize("folder", ["own", "."])
def test_a_module_that_pythonpath_names_is_imported(folder: str, net: Path) -> None:
    Path("own").mkdir()
    net.rename(f"{folder}/own_net.py")
    args = ["width16.safetensors", *FILL, "--arch", "own_net:Net", "-o", "new.safetensors"]
    path = os.pathsep.join((folder, os.environ.get("PYTHONPATH", ""), *sys.path))

    subprocess.run(
        [sys.executable, "-m", "reinit_cli", *args],
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )

    assert load_file("new.safetensors")["head.weight"].eq(7).all()
    assert not Path(folder, "__pycache__").exists()


def test_code_that_a_recipe_names_is_not_run(net: Path, reinit: Callable[..., Done]) -> None:
    Path("recipe.toml").write_text(
        'arch = "./net.py:Net"\narch_args = {width = 64}\n[[rule]]\nmatch = "*"\ninit = "default"\n'
    )

    refused = reinit("width64.safetensors", "-c", "recipe.toml", "-o", "new.safetensors")

    assert refused.code == 2
    assert refused.err == (
        "error: recipe 'recipe.toml': it names code, './net.py:Net', which is run only if you "
        "name it\n"
        "hint: if you trust it, add --arch ./net.py:Net\n"
    )
    named = ("--arch", "./net.py:Net")
    done = reinit("width64.safetensors", "-c", "recipe.toml", *named, "-o", "new.safetensors")
    assert done.code == 0  # and with the arguments of the recipe
    assert load_file("new.safetensors")["head.weight"].eq(7).all()


def test_another_architecture_does_not_get_the_arguments_of_a_recipe(
    net: Path, reinit: Callable[..., Done]
) -> None:
    Path("recipe.toml").write_text('arch = "./net.py:Net"\narch_args = {width = 64}\n')

    done = reinit(
        "width16.safetensors", "-c", "recipe.toml", *FILL, "--arch", "net.py:Net", "-o", "new.pt"
    )

    assert done.code == 0


def test_code_that_a_plan_names_is_not_run(net: Path, reinit: Callable[..., Done]) -> None:
    arch = ("--arch", "./net.py:Net", "--arch-args", '{"width": 64}')
    planned = reinit("width64.safetensors", *FILL, *arch, "-o", "new.safetensors", "-n", "--json")
    plan = json.loads(planned.out)
    assert (plan["arch"], plan["arch_args"]) == ("./net.py:Net", {"width": 64})
    Path("plan.json").write_text(planned.out)

    refused = reinit("width64.safetensors", "-c", "plan.json")
    done = reinit("width64.safetensors", "-c", "plan.json", "--arch", "./net.py:Net")

    assert (refused.code, done.code) == (2, 0)
    assert "loaded" not in refused.err


def test_verify_runs_code_only_where_the_command_names_it(
    net: Path, reinit: Callable[..., Done]
) -> None:
    import hashlib

    arch = ("--arch", str(net.resolve()) + ":Net", "--arch-args", '{"width": 64}')
    reinit("width64.safetensors", *FILL, *arch, "-o", "new.safetensors", "--record")

    alone = reinit("verify", "new.safetensors")
    named = reinit("verify", "new.safetensors", "--arch", "./net.py:Net")
    source = ("--source", "width64.safetensors")
    refused = reinit("verify", "new.safetensors", *source)
    remade = reinit("verify", "new.safetensors", *source, "--arch", "./net.py:Net", "--json")

    assert "loaded" not in alone.err + refused.err
    assert "4 tensors: their constructor is run only with --arch ./net.py:Net" in alone.out
    assert "drawn again\t4 tensors" in named.out
    assert (alone.code, named.code, refused.code, remade.code) == (0, 0, 2, 0)
    assert "hint: if you trust it, add --arch ./net.py:Net\n" in refused.err
    record = json.loads(remade.out)["record"]
    digest = hashlib.sha256(CODE.encode()).hexdigest()
    assert record["constructor"] == {"file": "net.py", "sha256": digest}
    assert record["arch"] == "./net.py:Net"  # without the folder, which is this machine's


def test_verify_finds_a_value_that_the_named_code_does_not_give(
    net: Path, reinit: Callable[..., Done]
) -> None:
    arch = ("--arch", "./net.py:Net")
    reinit("width16.safetensors", *FILL, *arch, "-o", "new.safetensors", "--record")
    net.write_text(CODE.replace("7.0", "8.0"))

    done = reinit("verify", "new.safetensors", *arch)

    assert done.code == 1
    assert "head.weight" in done.out
    assert "is drawn differently by this constructor" in done.out
    other = "net.py is not the file that was recorded: its SHA-256 differs"
    assert f"constructor\t{other}\n" in done.out


def test_verify_says_that_the_named_code_is_another_where_its_values_are_the_same(
    net: Path, reinit: Callable[..., Done]
) -> None:
    arch = ("--arch", "./net.py:Net")
    reinit("width16.safetensors", *FILL, *arch, "-o", "new.safetensors", "--record")

    same = reinit("verify", "new.safetensors", *arch, "--json")
    net.rename("moved.py")
    moved = reinit("verify", "new.safetensors", "--arch", "./moved.py:Net", "--json")
    net.write_text(CODE + "\n# a remark\n")
    changed = reinit("verify", "new.safetensors", *arch, "--json")
    Path("two.py").write_text(CODE + "\n# another\n")
    other = reinit("verify", "new.safetensors", "--arch", "./two.py:Net", "--json")

    forms = [json.loads(each.out) for each in (same, moved, changed, other)]
    assert all(form["holds"] for form in forms)
    assert [form["constructor"] for form in forms] == [
        None,
        None,
        "net.py is not the file that was recorded: its SHA-256 differs",
        "it is from two.py, and the record names net.py",
    ]


def test_python_takes_the_same_names_and_arguments(net: Path) -> None:
    from reinit_cli import apply_, rewrite, verify

    given = {"arch": "./net.py:Net", "arch_args": {"width": 64}}
    rewrite("width64.safetensors", "*=default", "new.safetensors", record=True, **given)
    state = load_file("width64.safetensors")
    apply_(state, "*=default", **given)

    assert all(torch.equal(state[key], each) for key, each in load_file("new.safetensors").items())
    verdict = verify("new.safetensors", source="width64.safetensors", arch="./net.py:Net")
    assert verdict.holds
    assert len(verdict.drawn) == 4


def test_arguments_reach_a_callable_from_python(net: Path) -> None:
    from torch import nn

    from reinit_cli import apply_

    layer = nn.Linear(4, 3)
    with torch.no_grad():
        layer.weight.fill_(9)

    apply_(layer, "*=default", arch=nn.Linear, arch_args={"in_features": 4, "out_features": 3})

    assert layer.weight.abs().max().item() <= 0.5
    with pytest.raises(TypeError, match="arch_args must be an object of arguments by name"):
        apply_(layer, "*=default", arch=nn.Linear, arch_args={"in_features": object()})


def test_default_without_an_architecture_says_how_to_name_one(reinit: Callable[..., Done]) -> None:
    save_file({"embed.weight": torch.zeros(4, 4)}, "model.safetensors")

    done = reinit("model.safetensors", "-r", "*=default")

    assert done.code == 2
    assert done.err.splitlines() == [
        "error: `default` needs an architecture: a checkpoint does not say which model it is",
        "hint: name it with --arch: resnet50, timm:NAME, transformers (for a folder) or "
        "./net.py:Class; the initializer reset needs none",
    ]
    assert reinit("model.safetensors", "-r", "*=reset", "-n").code == 0


@pytest.mark.parametrize("base", ["Exception", "BaseException"])
def test_an_exception_without_a_text_of_its_own_is_one_error(
    net: Path, reinit: Callable[..., Done], base: str
) -> None:
    net.write_text(
        f"class Odd({base}):\n    def __str__(self):\n        raise ValueError('no')\n\n"
        "def Net():\n    raise Odd\n"
    )

    done = reinit("width16.safetensors", *FILL, "--arch", "./net.py:Net", "-n")

    said = "the architecture './net.py:Net' cannot be built: Odd (line 6 of './net.py')"
    assert (done.code, done.err.partition("\n")[0]) == (2, f"error: {said}")
