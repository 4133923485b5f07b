"""What is public: the names of three modules, and the types that they are annotated with."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
import typing
from collections.abc import Iterator
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
    hints = typing.get_type_hints(reinit_cli.initializers.Law.fill)

    assert hints == {
        "tensor": torch.Tensor,
        "generator": torch.Generator,
        "return": type(None),
    }
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
