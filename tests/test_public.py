"""What is public: the names of three modules, and the types that they are annotated with."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

import reinit_cli
import reinit_cli.errors
import reinit_cli.initializers

PUBLIC = {
    "reinit_cli": [
        "ReinitError",
        "Rule",
        "apply_",
        "diff",
        "plan",
        "register",
        "rewrite",
        "seed_for",
        "stats",
        "verify",
    ],
    "reinit_cli.errors": [
        "ArgumentError",
        "CheckFailedError",
        "InputError",
        "MalformedFileError",
        "MissingRuleError",
        "OutputError",
        "OutputExistsError",
        "OutputTakenError",
        "OutputUnwritableError",
        "PackageError",
        "PatternError",
        "RecipeError",
        "RecordError",
        "ReinitError",
        "RuleError",
        "SourceChangedError",
        "SourceError",
        "SourceNotFoundError",
        "TensorError",
        "UnfillableError",
        "UnknownNameError",
        "UnmatchedRuleError",
        "UnreadableSourceError",
        "UnsupportedFormatError",
        "UnwritableContentError",
    ],
    "reinit_cli.initializers": [
        "NOWHERE",
        "REGISTRY",
        "Architecture",
        "Array",
        "Chance",
        "Choice",
        "Constant",
        "Donor",
        "Elsewhere",
        "Fans",
        "Init",
        "Initializer",
        "Integer",
        "Law",
        "Move",
        "Normal",
        "Number",
        "Site",
        "Statistic",
        "Transform",
        "TruncatedNormal",
        "UndefinedError",
        "Uniform",
        "fans",
        "parse_init",
        "register",
    ],
}
"""Everything else is private by convention."""

MODULES = [sys.modules[name] for name in PUBLIC]


def _annotated() -> Iterator[tuple[str, object]]:
    """Yield the public functions and classes, and the methods of the latter."""
    for module in MODULES:
        for name in PUBLIC[module.__name__]:
            value = getattr(module, name)
            if inspect.isfunction(value) or inspect.isclass(value):
                yield f"{module.__name__}.{name}", value
            for method, each in vars(value).items() if inspect.isclass(value) else ():
                function = each.fget if isinstance(each, property) else inspect.unwrap(each)
                function = getattr(function, "__func__", function)
                if inspect.isfunction(function):
                    yield f"{module.__name__}.{name}.{method}", function


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_a_module_exports_its_public_names_alone(module: ModuleType) -> None:
    assert sorted(module.__all__) == sorted(PUBLIC[module.__name__])
    assert all(hasattr(module, name) for name in module.__all__)


def test_the_package_shows_its_public_names_alone() -> None:
    assert dir(reinit_cli) == sorted([*PUBLIC["reinit_cli"], "__version__"])


def test_every_public_error_is_one_of_a_tree() -> None:
    errors = {
        name
        for name, value in vars(reinit_cli.errors).items()
        if inspect.isclass(value) and issubclass(value, Exception)
    }

    assert errors == set(PUBLIC["reinit_cli.errors"])
    assert all(
        issubclass(getattr(reinit_cli.errors, name), reinit_cli.ReinitError) for name in errors
    )


ANNOTATED = dict(_annotated())


@pytest.mark.parametrize("name", ANNOTATED)
def test_annotations_of_what_is_public_can_be_evaluated(name: str) -> None:
    hints = typing.get_type_hints(ANNOTATED[name])

    assert not [hint for hint in hints.values() if isinstance(hint, str | typing.ForwardRef)]


RESULTS = [
    typing.get_type_hints(getattr(reinit_cli, name))["return"]
    for name in ("apply_", "diff", "plan", "rewrite", "stats", "verify")
]


@pytest.mark.parametrize("result", RESULTS, ids=str)
def test_annotations_of_what_public_functions_return_can_be_evaluated(result: object) -> None:
    waiting, seen = [result], set()
    while waiting:
        each = waiting.pop()
        waiting += [*typing.get_args(each), *getattr(each, "__orig_bases__", ())]
        if dataclasses.is_dataclass(each) and each not in seen:
            seen.add(each)
            waiting += typing.get_type_hints(each).values()
    assert seen


def test_annotations_name_the_types_of_torch() -> None:
    chance = typing.get_type_hints(reinit_cli.initializers.Law.fill)["chance"]

    assert typing.get_type_hints(chance.generator) == {"return": torch.Generator}
    target = typing.get_type_hints(reinit_cli.apply_)["target"]
    assert torch.nn.Module in typing.get_args(target)


def test_torch_is_imported_when_annotations_are_evaluated_and_not_before() -> None:
    code = (
        "import sys, typing, inspect\n"
        "import reinit_cli.errors, reinit_cli.initializers\n"
        "from reinit_cli import apply_, rewrite, plan, diff, stats, verify\n"
        "inspect.signature(apply_)\n"
        "assert 'torch' not in sys.modules\n"
        "typing.get_type_hints(apply_)\n"
        "assert 'torch' in sys.modules\n"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_the_package_shows_the_same_names_once_its_functions_were_called() -> None:
    code = (
        "import torch, reinit_cli\n"
        "before = dir(reinit_cli)\n"
        "reinit_cli.apply_({'a': torch.ones(2)}, 'a=zeros')\n"
        "reinit_cli.stats({'a': torch.ones(2)})\n"
        "assert dir(reinit_cli) == before == sorted([*reinit_cli.__all__, '__version__'])\n"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


USER = """
from pathlib import Path

import torch
from torch import nn

from reinit_cli import Rule, apply_, diff, plan, rewrite, stats, verify

model = nn.Linear(3, 2)
decided = apply_(model, "*=zeros")
apply_(model.state_dict(), {"weight": "zeros"}, seed=3, device=torch.device("cpu"), progress=True)
apply_(model, [("weight", "zeros"), Rule("bias", "ones"), "bias=keep"], dry_run=True)
apply_(model, "*=zeros", optimizer=torch.optim.SGD(model.parameters()))
outcome = rewrite(Path("a.pt"), "*=zeros", Path("b.pt"), dtype=torch.bfloat16, record=Path("c"))
outcome = rewrite(model, "*=zeros", "b.pt", dtype={"a.*": torch.float16}, drop="x.*")
nbytes: int = outcome.nbytes
decided = rewrite("a.pt", "*=zeros", dry_run=True)
keys: list[str] = [step.key for step in plan(model, "*=zeros", weights="none").fills]
first = plan("a.pt", "*=zeros").fills[0]
means: list[float] = [each.statistics.finite.mean for each in stats(model, "a.*", by="module")]
differs: bool = any(each.differs for each in diff(model, Path("a.pt")))
holds: bool = verify(Path("a.pt"), source=model).holds

apply_("a.pt", "*=zeros")  # type: ignore[arg-type]
apply_(model, 5)  # type: ignore[arg-type]
apply_(model, {"weight": 0.0})  # type: ignore[dict-item]
apply_(model, "*=zeros", seed="3")  # type: ignore[arg-type]
rewrite(5, "*=zeros")  # type: ignore[call-overload]
rewrite("a.pt", "*=zeros", sed=3)  # type: ignore[call-overload]
plan("a.pt", "*=zeros", device=0)  # type: ignore[arg-type]
plan("a.pt", "*=zeros", record=True)  # type: ignore[call-arg]
stats("a.pt", by="layer")  # type: ignore[arg-type]
diff("a.pt")  # type: ignore[call-arg]
verify(model)  # type: ignore[arg-type]
Rule("a", 5)  # type: ignore[arg-type]
"""


@pytest.mark.slow
def test_a_type_checker_takes_right_calls_and_no_others(tmp_path: Path) -> None:
    """An ignored error that is none is an error of its own."""
    mypy = pytest.importorskip("mypy.api")
    (tmp_path / "user.py").write_text(USER)
    root = str(Path(reinit_cli.__file__).parents[1])
    (tmp_path / "mypy.ini").write_text(
        f"[mypy]\nstrict = true\nmypy_path = {root}\ncache_dir = {tmp_path}\n"
        "[mypy-torchvision.*]\nignore_missing_imports = true\n"
    )

    said, _, code = mypy.run(
        ["--config-file", str(tmp_path / "mypy.ini"), str(tmp_path / "user.py")]
    )

    assert code == 0, said
