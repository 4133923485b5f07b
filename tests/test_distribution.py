"""What is installed is what the documents say: its name, its versions, its command."""

from __future__ import annotations

import re
import runpy
import tomllib

import pytest
from packaging.requirements import Requirement

from tests.pages import PAGES, ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
REQUIREMENTS = [Requirement(each) for each in PROJECT["dependencies"]]
README = (ROOT / "README.md").read_text()
COMPATIBILITY = PAGES["reference/compatibility.md"]


def test_the_distribution_has_a_name_of_its_own_and_the_command_stays() -> None:
    assert PROJECT["name"] == "reinit-cli"
    assert PROJECT["scripts"] == {"reinit": "reinit_cli.__main__:entry"}


@pytest.mark.parametrize("package", [each.name for each in REQUIREMENTS])
def test_the_page_on_compatibility_states_the_lowest_versions(package: str) -> None:
    (specifiers,) = (each.specifier for each in REQUIREMENTS if each.name == package)
    (stated,) = re.findall(rf"^\| {package} \| ([\d.]+) \|", COMPATIBILITY, re.MULTILINE)

    assert str(specifiers) == f">={stated}"


def test_the_documents_state_the_lowest_python() -> None:
    lowest = PROJECT["requires-python"].removeprefix(">=")

    assert f"| Python | {lowest} |" in COMPATIBILITY
    assert f"Python {lowest} or newer" in README
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py{lowest.replace('.', '')}"


def test_the_readme_states_the_lowest_torch() -> None:
    (torch,) = (each for each in REQUIREMENTS if each.name == "torch")

    assert f"PyTorch {str(torch.specifier).removeprefix('>=')} or newer" in README


def test_constraints_for_the_lowest_versions_come_from_the_project_alone() -> None:
    floors = runpy.run_path(str(ROOT / ".ci" / "lowest.py"))["floors"]()

    assert floors.keys() == {each.name for each in REQUIREMENTS}
