"""The house: who imports whom, and when torch is imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import reinit_cli

PACKAGE = Path(reinit_cli.__file__).parent
MODULES = {
    ".".join(("reinit_cli", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
HEAVY = ("torch", "torchvision", "numpy", "jinja2", "matplotlib")


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _imports(node: ast.AST, *, inside_functions: bool) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if _is_type_checking(child):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif inside_functions or not isinstance(child, ast.FunctionDef):
            yield from _imports(child, inside_functions=inside_functions)


def _imported(module: str, *, inside_functions: bool = True) -> set[str]:
    """The modules that a module imports at run time, ours by their module."""
    tree = ast.parse(MODULES[module].read_text())
    found = set()
    for name in _imports(tree, inside_functions=inside_functions):
        ours = [known for known in MODULES if name == known or name.startswith(f"{known}.")]
        found.add(max(ours, key=len) if ours else name.partition(".")[0])
    return found


def _in(module: str, *rooms: str) -> bool:
    return any(
        module == f"reinit_cli.{room}" or module.startswith(f"reinit_cli.{room}.") for room in rooms
    )


def _arrows() -> list[tuple[str, str]]:
    return [(module, target) for module in MODULES for target in _imported(module)]


def test_click_lives_in_cli_alone() -> None:
    assert [arrow for arrow in _arrows() if arrow[1] == "click" and not _in(arrow[0], "cli")] == []


@pytest.mark.parametrize("package", ["rich", "jinja2", "matplotlib"])
def test_what_reports_are_made_with_lives_in_report_alone(package: str) -> None:
    assert [
        arrow for arrow in _arrows() if arrow[1] == package and not _in(arrow[0], "report")
    ] == []


def test_nothing_but_the_entry_imports_the_command_line() -> None:
    inward = [arrow for arrow in _arrows() if _in(arrow[1], "cli") and not _in(arrow[0], "cli")]

    assert inward == [("reinit_cli.__main__", "reinit_cli.cli")]


def test_only_the_command_line_imports_reports() -> None:
    assert [
        arrow
        for arrow in _arrows()
        if _in(arrow[1], "report") and not _in(arrow[0], "cli", "report")
    ] == []


def test_formats_and_initializers_never_meet() -> None:
    assert [
        arrow
        for arrow in _arrows()
        if (_in(arrow[0], "formats") and _in(arrow[1], "initializers"))
        or (_in(arrow[0], "initializers") and _in(arrow[1], "formats"))
    ] == []


@pytest.mark.parametrize("module", ["patterns", "rules", "planning", "seeds", "tensors"])
def test_what_decides_knows_nothing_of_files_and_torch(module: str) -> None:
    seen: set[str] = set()
    waiting = [f"reinit_cli.{module}"]
    while waiting:
        name = waiting.pop()
        seen.add(name)
        # A law fills with torch when it is told to; to decide, it is not asked.
        targets = _imported(name, inside_functions=not _in(name, "initializers"))
        waiting += [target for target in targets if target in MODULES and target not in seen]
        assert not targets & set(HEAVY), name

    assert not any(_in(name, "sources", "engine", "output", "inputs", "formats") for name in seen)


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_torch_as_it_is_imported(module: str) -> None:
    assert not _imported(module, inside_functions=False) & set(HEAVY)


def test_no_imports_go_in_a_circle() -> None:
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    graph = {
        module: {
            target for target in _imported(module, inside_functions=False) if target in MODULES
        }
        # `from reinit_cli.checkpoints.formats import safetensors` names the package on the way.
        - packages
        - {module}
        for module in MODULES
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join((*path, module))
        if module not in done:
            for target in graph[module]:
                visit(target, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_no_module_hides_a_public_name() -> None:
    assert not {f"reinit_cli.{name}" for name in reinit_cli.__all__} & set(MODULES)


def test_every_public_name_can_be_had() -> None:
    assert all(getattr(reinit_cli, name) is not None for name in reinit_cli.__all__)
    assert set(reinit_cli.__all__) <= set(dir(reinit_cli))


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'rewrit'"):
        _ = reinit_cli.rewrit


def test_no_command_is_the_name_of_a_model() -> None:
    import torchvision

    from reinit_cli.cli.group import COMMANDS

    assert not set(COMMANDS) & set(torchvision.models.list_models())


_LIGHT = {
    "help": ["--help"],
    "version": ["--version"],
    "help of run": ["run", "-h"],
    "rule with a syntax error": ["model.safetensors", "-r", "foo"],
    "unknown initializer": ["model.safetensors", "-r", "*=foo"],
    "keys of a file": ["keys", "model.safetensors"],
    "keys of a file as JSON": ["keys", "model.safetensors", "*.bias", "--json"],
    "initializers": ["inits"],
    "dry run on a file": ["model.safetensors", "-r", "*=zeros", "--dry-run"],
    "keys of a torch file": ["keys", "model.pt"],
    "dry run on a torch file": ["model.pt", "-r", "*=zeros", "--dry-run"],
    "conversion of a torch file, planned": ["model.pt", "-o", "new.safetensors", "--dry-run"],
    "a folder of a plain name": ["folder", "-r", "*=zeros", "--dry-run"],
    "a model that is misspelled": ["alexnt", "-r", "*=zeros"],
    "dry run on several files": [
        "model.safetensors",
        "model.pt",
        "-r",
        "*=zeros",
        "-n",
        "-s",
        "0,1",
    ],
    "recipe with an unknown field": ["model.safetensors", "-c", "recipe.toml"],
    "dry run of a recipe": ["model.safetensors", "-c", "recipe.json", "-n"],
    "groups of keys": ["keys", "model.pt", "--group"],
    "a tree of keys": ["keys", "model.safetensors", "--tree"],
    "what is beside the keys": ["keys", "model.pt", "--meta"],
    "an unknown key to show": ["show", "model.pt", "a.bios"],
    "a slice that is none": ["show", "model.pt", "a.bias", "--slice", "x"],
    "files that are the same": ["diff", "model.pt", "model.safetensors"],
    "keys that are the same": ["diff", "model.pt", "model.safetensors", "--keys-only"],
    "completion of a rule": ["completion", "bash", "--line", "reinit model.pt -r a."],
    "missing file": ["missing.safetensors", "-r", "*=zeros"],
}


@pytest.mark.parametrize("args", _LIGHT.values(), ids=_LIGHT)
def test_torch_is_not_imported_for(args: list[str]) -> None:
    header = b'{"a.bias":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}     '
    Path("model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0\0\0")
    torch.save({"a.bias": torch.zeros(1)}, "model.pt")
    Path("recipe.toml").write_text("sed = 3")
    Path("recipe.json").write_text('{"rule": [{"match": "*", "init": "zeros"}]}')
    Path("folder").mkdir()
    Path("folder/model.safetensors").write_bytes(Path("model.safetensors").read_bytes())
    code = (
        "import sys; from reinit_cli.cli import main; main(sys.argv[1:]); "
        f"sys.exit(any(name in sys.modules for name in {HEAVY!r}))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, *args], check=False, capture_output=True, timeout=60
    )

    assert (done.returncode, done.stderr.decode()[:9]) in (
        (0, ""),
        (0, "error: ru"),
        (0, "error: re"),
        (0, "4 of 4 pl"),
        (0, "error: un"),
        (0, "error: th"),
        (0, "error: 'a"),
        (0, "error: mo"),
        (0, "error: sl"),
    )


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import reinit_cli, sys; sys.exit(any(name in sys.modules for name in {(*HEAVY, 'click', 'rich')!r}))"

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
