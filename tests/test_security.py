"""Every promise of SECURITY.md is held by tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROMISES = re.split(r"^\d+\. ", (ROOT / "SECURITY.md").read_text(), flags=re.MULTILINE)[1:]


def test_there_are_ten_promises() -> None:
    assert len(PROMISES) == 10


@pytest.mark.parametrize("promise", PROMISES, ids=lambda text: text[:30])
def test_a_promise_is_held_by_tests(promise: str) -> None:
    held = re.findall(r"`(tests/[a-z_/]+\.py)::(test_\w+)`", promise)
    assert held
    for path, name in held:
        tree = ast.parse((ROOT / path).read_text())
        assert name in {each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)}
