"""Custom initializers can be registered."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from reinit_cli import apply_, register
from reinit_cli.initializers import REGISTRY
from reinit_cli.initializers.law import Normal


def test_a_custom_initializer_is_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REGISTRY, "_by_name", dict(REGISTRY._by_name))

    @register(law="N(0, scale²)", example="mine:scale=2")
    def mine(shape: tuple[int, ...], *, scale: float = 1.0) -> Normal:
        """Draw as I like it."""
        del shape
        return Normal(0.0, scale)

    state = {"w": torch.zeros(1000)}
    apply_(state, ["w=mine:0.5"])

    assert state["w"].std().item() == pytest.approx(0.5, rel=0.1)
    with pytest.raises(ValueError, match="there is an initializer 'mine' already"):
        register(law="x", example="x")(mine)


@pytest.mark.parametrize("name", ["match", "init"])
def test_an_argument_cannot_be_a_field_of_rules(name: str) -> None:
    """A recipe has both side by side."""
    scope: dict[str, object] = {}
    exec(f"def odd(shape, *, {name}: float = 1.0) -> None: pass", scope)

    with pytest.raises(ValueError, match=f"'{name}' is a field of every rule"):
        register(law="x", example="x")(scope["odd"])


def test_an_argument_of_no_kind_is_refused_as_it_is_registered() -> None:
    def odd(shape: tuple[int, ...], *, scale: list[int]) -> None:
        del shape, scale

    with pytest.raises(
        TypeError, match="is not a kind of argument; annotate it as float, int, bool or str"
    ):
        register(law="x", example="x")(odd)


@pytest.mark.parametrize("module", ["reinit_cli.initializers", "reinit_cli.initializers.law"])
def test_the_families_are_there_whichever_module_comes_first(module: str) -> None:
    """In a process of its own: here tests have imported the families."""
    code = f"import {module}; from reinit_cli.initializers import REGISTRY; print(*(each.name for each in REGISTRY))"
    names = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert {"normal", "orthogonal", "shuffle", "default"} <= set(names)


_LOOK_UP = """
import sys
from reinit_cli.initializers import REGISTRY
for name in sys.argv[1:]:
    assert REGISTRY[name].build
prefix = "reinit_cli.initializers.families."
print(*sorted(name.removeprefix(prefix) for name in sys.modules if name.startswith(prefix)))
print(*(each.name for each in REGISTRY))
"""


@pytest.mark.parametrize(
    ("looked_up", "imported"),
    [
        ("xavier_uniform", {"xavier"}),
        ("he_normal_", {"kaiming"}),
        ("zeros normal", {"constants", "basic"}),
    ],
)
def test_a_family_is_imported_for_its_names_and_the_order_of_the_list_stays(
    looked_up: str, imported: set[str]
) -> None:
    command = [sys.executable, "-c", _LOOK_UP, *looked_up.split()]
    first, listed = subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.splitlines()

    assert set(first.split()) == imported
    assert listed.split() == [each.name for each in REGISTRY]


def test_an_initializer_that_the_table_lacks_is_found() -> None:
    code = (
        "from reinit_cli.initializers import registry; registry._FAMILY_OF.clear(); "
        "print('orthogonal' in registry.REGISTRY, 'orthogonl' in registry.REGISTRY)"
    )
    command = [sys.executable, "-c", code]

    assert subprocess.run(command, capture_output=True, check=True).stdout == b"True False\n"


def test_every_initializer_of_ours_is_listed_under_one_purpose() -> None:
    groups = REGISTRY.by_purpose()

    assert "From other packages" not in groups
    listed = [each.name for group in groups.values() for each in group]
    assert sorted(listed) == sorted(each.name for each in REGISTRY)
    assert max(len(each.summary) for group in groups.values() for each in group) <= 62
