"""Every example in a docstring of what is public runs, and prints what it says."""

from __future__ import annotations

import doctest
import inspect

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import reinit_cli

PUBLIC = {name: getattr(reinit_cli, name) for name in reinit_cli.__all__}


def _examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(recurse=True)
    known = {**PUBLIC, "torch": torch}
    found = [finder.find(each, name, globs=known) for name, each in PUBLIC.items()]
    parser = doctest.DocTestParser()
    package = parser.get_doctest(reinit_cli.__doc__ or "", known, "reinit_cli", None, None)
    return [test for tests in (*found, [package]) for test in tests if test.examples]


EXAMPLES = {test.name: test for test in _examples()}


@pytest.mark.parametrize("test", EXAMPLES.values(), ids=EXAMPLES)
def test_an_example_prints_what_it_says(test: doctest.DocTest) -> None:
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))
    save_file(model.state_dict(), "model.safetensors")
    said: list[str] = []

    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append)

    assert not said, "".join(said)


def test_every_function_has_an_example() -> None:
    functions = {name for name, each in PUBLIC.items() if inspect.isfunction(each)}

    assert functions - EXAMPLES.keys() == {"register"}
