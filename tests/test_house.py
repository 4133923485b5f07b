"""The house: who imports whom, how large a room is, and when torch is imported."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import reinit_cli
from reinit_cli.initializers import REGISTRY, families

PACKAGE = Path(reinit_cli.__file__).parent
MODULES = {
    ".".join(("reinit_cli", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
HEAVY = ("torch", "torchvision", "numpy", "jinja2", "matplotlib")
MOST_LINES = 400
MOST_ROOMS = 20
MOST_FLOORS = 10


@dataclass(frozen=True)
class Row:
    """What one room may import."""

    may: tuple[str, ...]
    never: tuple[str, ...]


def _rows() -> dict[str, Row]:
    """Return the table of arrows in docs/architecture.md."""
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    (table,) = re.findall(r"\| room \| may import \|.*?\n\n", text, re.DOTALL)
    found = {}
    for line in table.splitlines()[2:]:
        if line:
            room, may, never = (re.findall(r"`([\w.]+)`", cell) for cell in line.split("|")[1:4])
            found[room[0]] = Row(tuple(may), tuple(never))
    return found


ROWS = _rows()


def _lies_in(module: str, place: str) -> bool:
    return module == place or module.startswith(f"{place}.")


def _is_allowed(module: str, target: str) -> bool:
    """Whether the table lets one module import another, both named below reinit_cli."""
    room, other = module.partition(".")[0], target.partition(".")[0]
    if module == "__main__":
        return other == "cli" or other not in ROWS
    if other == room or other not in ROWS:
        return other == room or room in ROWS or "." not in module
    if room not in ROWS:
        return False
    rows = [row for place, row in ROWS.items() if _lies_in(module, place)]
    return all(
        any(_lies_in(target, place) for place in row.may)
        and not any(_lies_in(target, place) for place in row.never)
        for row in rows
    )


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _imports(node: ast.AST, *, for_checkers: bool, inside_functions: bool) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if _is_type_checking(child) and not for_checkers:
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif inside_functions or not isinstance(child, ast.FunctionDef):
            yield from _imports(child, for_checkers=for_checkers, inside_functions=inside_functions)


@cache
def _imported(
    module: str, *, for_checkers: bool = False, inside_functions: bool = True
) -> frozenset[str]:
    """Return the modules that a module imports; of packages that are not ours the name alone."""
    tree = ast.parse(MODULES[module].read_text())
    found = set()
    for name in _imports(tree, for_checkers=for_checkers, inside_functions=inside_functions):
        ours = [known for known in MODULES if _lies_in(name, known)]
        found.add(max(ours, key=len) if ours else name.partition(".")[0])
    return frozenset(found)


def _in(module: str, *rooms: str) -> bool:
    return any(_lies_in(module, f"reinit_cli.{room}") for room in rooms)


def _arrows() -> list[tuple[str, str]]:
    """Return every import between our modules, named below reinit_cli."""
    return [
        (module.removeprefix("reinit_cli."), target.removeprefix("reinit_cli."))
        for module in MODULES
        for target in _imported(module, for_checkers=True)
        if target in MODULES and module != "reinit_cli" and target != "reinit_cli"
    ]


def test_every_import_goes_down_the_table_of_arrows() -> None:
    assert [arrow for arrow in _arrows() if not _is_allowed(*arrow)] == []


@pytest.mark.parametrize(
    ("module", "target"),
    [
        ("storage.local", "planning.plan"),
        ("request.rule", "checkpoints.find"),
        ("checkpoints.formats.safetensors", "initializers.law"),
        ("initializers.registry", "checkpoints.formats.safetensors"),
        ("planning.decide", "storage.local"),
        ("cli.commands.keys", "execution.engine"),
        ("operations.rewrite", "cli.group"),
        ("text", "storage.local"),
    ],
)
def test_an_import_that_the_table_does_not_name_is_found(module: str, target: str) -> None:
    assert not _is_allowed(module, target)


def test_the_table_names_every_room_once_and_no_other() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}

    assert {room for room in ROWS if "." not in room} == rooms


def test_every_import_of_ours_names_its_module_in_full() -> None:
    """A relative one, or one whose name is a string, would not be compared with the table."""
    relative = [
        (module, ast.unparse(node))
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    by_string = {
        module.removeprefix("reinit_cli.")
        for module, path in MODULES.items()
        if re.search(r"import_module\((?!\")", path.read_text())
    }

    assert relative == []
    # The names of what is public, the families, and the commands; and modules of other packages.
    of_others = {"lazy", "checkpoints.models.own_code", "checkpoints.models.packages"}
    assert by_string == {"reinit_cli", "initializers.registry", "cli.group"} | of_others


def test_nothing_imports_the_package_itself() -> None:
    importing = {module for module in MODULES if "reinit_cli" in _imported(module)}

    assert not importing


def test_there_are_few_rooms_on_few_floors() -> None:
    def floor(room: str) -> int:
        below = {place.partition(".")[0] for place in ROWS[room].may} - {room}
        return 1 + max(map(floor, below), default=1)

    top = [path for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()]
    assert len([path for path in top if path.name != "__pycache__"]) <= MOST_ROOMS
    assert max(floor(room) for room in ROWS if "." not in room) <= MOST_FLOORS


@pytest.mark.parametrize("module", MODULES)
def test_a_long_module_says_why(module: str) -> None:
    text = MODULES[module].read_text()
    reason = ast.get_docstring(ast.parse(text)) or ""

    is_short = text.count("\n") <= MOST_LINES
    assert is_short or "one long story" in reason


@pytest.mark.parametrize("package", ["click", "rich", "jinja2", "matplotlib"])
def test_what_people_see_is_made_in_cli_alone_but_for_the_bar_of_python(package: str) -> None:
    importing = [module for module in MODULES if package in _imported(module, for_checkers=True)]
    others = [module for module in importing if not _in(module, "cli")]

    assert others == (["reinit_cli.python.bar"] if package == "rich" else [])


_FILES = re.compile(
    r"open|os\.(walk|listdir|scandir|l?stat)|os\.path\.(l?exists|isfile|isdir|getsize|samefile)"
)


def test_only_storage_looks_at_files_but_for_completion() -> None:
    looking = {
        module.removeprefix("reinit_cli.")
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and _FILES.fullmatch(ast.unparse(node.func))
    }

    assert {name for name in looking if not name.startswith("storage.")} == {
        "cli.completion.candidates"
    }


def test_nothing_but_the_entry_imports_the_command_line() -> None:
    inward = {arrow for arrow in _arrows() if arrow[1].startswith("cli")}

    assert {module for module, _ in inward if not module.startswith("cli")} == {"__main__"}


def test_what_decides_knows_nothing_of_torch() -> None:
    seen: set[str] = set()
    waiting = [module for module in MODULES if _in(module, "planning", "request")]
    while waiting:
        name = waiting.pop()
        seen.add(name)
        # A law fills with torch when it is told to; to decide, it is not asked.
        inside_functions = _in(name, "planning", "request")
        targets = _imported(name, inside_functions=inside_functions)
        waiting += [target for target in targets if target in MODULES and target not in seen]
        assert not targets & set(HEAVY), name


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_torch_as_it_is_imported(module: str) -> None:
    assert not _imported(module, inside_functions=False) & set(HEAVY)


def test_no_imports_go_in_a_circle() -> None:
    """Those for type checkers and those inside functions included."""
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    graph = {
        # `from reinit_cli.checkpoints.formats import safetensors` names the package on the way.
        module: {target for target in _imported(module, for_checkers=True) if target in MODULES}
        - packages
        - {module}
        for module in MODULES
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join((*path, module))
        if module not in done:
            for target in sorted(graph[module]):
                visit(target, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_the_table_of_families_has_every_name_of_ours_in_their_order() -> None:
    names = {
        name: family
        for each in REGISTRY
        for name in (each.name, *each.aliases)
        for package, _, family in [each.build.__module__.rpartition(".")]
        if package == families.__name__
    }

    # A name that the table lacks works, but only after every family is imported.
    assert [
        (name, family) for family in families.FAMILIES for name in families.FAMILIES[family]
    ] == [*names.items()]


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


@pytest.mark.parametrize(
    "args", [[], ["--help"], ["help"], ["--version"], ["run", "-h"], ["help", "run"]]
)
def test_help_imports_no_room_that_reads_files(args: list[str]) -> None:
    """It would take four times as long."""
    rooms = tuple(f"reinit_cli.{room}." for room in ("checkpoints", "operations", "execution"))
    code = (
        "import sys; from reinit_cli.cli import main; main(sys.argv[1:]); "
        f"sys.exit(any(name.startswith({rooms!r}) for name in sys.modules))"
    )
    command = [sys.executable, "-c", code, *args]

    assert subprocess.run(command, check=False, capture_output=True, timeout=60).returncode == 0


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
    "summary of a file": ["model.safetensors"],
    "summary of a torch file": ["info", "model.pt", "--json"],
    "summary of a folder": ["folder/"],
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

    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


_PHILOX = ["-r", "*.weight=normal:std=0.02", "--stream", "philox", "-o", "out.safetensors"]

_WITH_NUMPY_ALONE = {
    "values": ["show", "model.pt", "*"],
    "values as JSON": ["show", "model.safetensors", "*.weight", "--json"],
    "a slice": ["show", "model.pt", "a.weight", "--slice", "0"],
    "statistics": ["stats", "model.pt"],
    "histograms as JSON": ["stats", "model.safetensors", "--json"],
    "files that differ": ["diff", "model.pt", "other.safetensors"],
    "files that are nearly equal": ["diff", "model.pt", "other.safetensors", "--atol", "0.1"],
    "normals": ["model.safetensors", *_PHILOX],
    "normals that are checked": ["model.safetensors", *_PHILOX, "--check", "-v"],
    "normals in a torch file": ["model.pt", *_PHILOX, "-o", "out.pt"],
    "uniforms": ["model.safetensors", *_PHILOX, "-r", "a.weight=xavier_uniform"],
    "truncated normals": ["model.safetensors", *_PHILOX, "-r", "*=trunc_normal"],
    "constants": ["model.safetensors", *_PHILOX, "-r", "*=constant:0.5"],
    "scaled values": ["model.safetensors", *_PHILOX, "-r", "*=scale:0.5"],
    "another dtype": ["model.pt", "--dtype", "bfloat16", "-o", "out.safetensors"],
    "other names": ["model.safetensors", "--rename", "a.*=b.*", "-o", "out.safetensors"],
    "another format": ["model.pt", "-o", "out.safetensors"],
    "shards": ["model.safetensors", "-o", "out/", "--shard-size", "100"],
    "verification": ["verify", "recorded.safetensors"],
    "verification against the source": [
        "verify",
        "recorded.safetensors",
        "--source",
        "model.safetensors",
    ],
}
"""What needs numpy at most, where torch would take ten times as long to be imported."""


@pytest.mark.parametrize("args", _WITH_NUMPY_ALONE.values(), ids=_WITH_NUMPY_ALONE)
def test_numpy_alone_is_imported_for(args: list[str]) -> None:
    state = {"a.weight": torch.ones(3, 40), "a.bias": torch.zeros(3)}
    torch.save(state, "model.pt")
    save_file(state, "model.safetensors")
    save_file({**state, "a.bias": torch.ones(3)}, "other.safetensors")
    if args[0] == "verify":
        reinit_cli.rewrite(
            "model.safetensors",
            "*.weight=normal",
            "recorded.safetensors",
            stream="philox",
            record=True,
        )
    others = [name for name in HEAVY if name != "numpy"]
    code = (
        "import sys; from reinit_cli.cli import main; code = main(sys.argv[1:]); "
        f"print('imported', *(name for name in {others!r} if name in sys.modules)); sys.exit(code)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, *args], check=False, capture_output=True, timeout=60
    )

    assert done.returncode == (1 if args[0] == "diff" else 0), done.stderr
    assert done.stdout.splitlines()[-1] == b"imported"


_PLAIN = (
    *("uniform:-1,1", "normal:std=0.02", "trunc_normal:std=0.02", "zeros", "ones", "constant:0.5"),
    *("xavier_uniform", "xavier_normal", "kaiming_uniform:relu", "kaiming_normal", "lecun_normal"),
    *("variance_scaling", "depth_scaled", "prior_bias", "eye", "identity", "sparse:0.1", "icnr"),
    *("keep", "scale:0.5", "clamp:-1,1", "noise:std=0.1", "resample", "shuffle"),
)
"""Initializers that need nothing but numpy."""


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_no_plain_initializer_imports_torch(name: str) -> None:
    keys = [f"layers.{at}.weight" for at in range(len(_PLAIN))]
    state = {
        key: torch.ones(8, 16, 3) if "icnr" in init else torch.ones(8, 16)
        for key, init in zip(keys, _PLAIN, strict=True)
    }
    (torch.save if name.endswith(".pt") else save_file)(state, name)
    rules = [
        word for key, init in zip(keys, _PLAIN, strict=True) for word in ("-r", f"{key}={init}")
    ]
    code = (
        "import sys; from reinit_cli.cli import main; code = main(sys.argv[1:]); "
        "print('imported', *{'torch'} & set(sys.modules)); sys.exit(code)"
    )
    args = (name, *rules, "--stream", "philox", "--check", "-v", "--report", "r.html", "--record")

    done = subprocess.run(
        [sys.executable, "-c", code, *args], check=False, capture_output=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == b"imported"


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_to_list_the_keys_of_a_file_imports_only_what_reads_it(name: str) -> None:
    torch.save({"a.bias": torch.zeros(1)}, "model.pt")
    save_file({"a.bias": torch.zeros(1)}, "model.safetensors")
    code = (
        "import sys; from reinit_cli.cli import main; main(sys.argv[1:]); "
        "print(*(name for name in sys.modules if name.startswith('reinit_cli.')), sep='\\n')"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, "keys", name], capture_output=True, check=True, text=True
    )

    imported = done.stdout.split()
    assert "reinit_cli.checkpoints.file" in imported
    for other in ("initializers", "execution", "planning", "storage.pipe", "storage.local_output"):
        assert f"reinit_cli.{other}" not in imported


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import reinit_cli, sys; sys.exit(any(name in sys.modules for name in {(*HEAVY, 'click', 'rich')!r}))"

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
