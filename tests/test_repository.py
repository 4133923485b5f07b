"""Workflows, forms and metadata of the repository call what exists and say what is so."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from reinit_cli.version import __version__
from tests.pages import ROOT

yaml = pytest.importorskip("yaml")

GITHUB = ROOT / ".github"
FILES = sorted([*GITHUB.rglob("*.yml"), ROOT / "CITATION.cff"])
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _read(*parts: str) -> Any:
    return yaml.safe_load(GITHUB.joinpath(*parts).read_text())


def _steps(workflow: str) -> Iterator[dict[str, Any]]:
    for job in _read("workflows", workflow)["jobs"].values():
        yield from job["steps"]


def _commands(workflow: str) -> list[str]:
    return [step["run"].strip() for step in _steps(workflow) if "run" in step]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_of_the_repository_is_yaml(path: Any) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict)


@pytest.mark.parametrize("workflow", ["ci.yml", "release.yml"])
def test_a_workflow_calls_what_exists(workflow: str) -> None:
    commands = _commands(workflow)

    assert commands
    for command in commands:
        program, *words = command.split()
        if program.startswith(".ci/"):
            assert os.access(ROOT / program, os.X_OK), command
        elif program == "make":
            assert set(words) <= TARGETS, command
        else:
            assert program in ("grep", "gh"), command


@pytest.mark.parametrize("workflow", ["ci.yml", "release.yml"])
def test_a_workflow_may_no_more_than_it_needs(workflow: str) -> None:
    read = _read("workflows", workflow)

    assert read["permissions"] == {"contents": "read"}
    writing = {
        name: job["permissions"] for name, job in read["jobs"].items() if "permissions" in job
    }
    expected = {"publish": {"id-token": "write"}, "notes": {"contents": "write"}}
    assert writing == (expected if workflow == "release.yml" else {})


def test_linux_is_tested_with_the_oldest_and_the_newest_python() -> None:
    linux = _read("workflows", "ci.yml")["jobs"]["linux"]

    oldest, newest = linux["strategy"]["matrix"]["python"]
    assert f">={oldest}" == PROJECT["requires-python"]
    assert [int(part) for part in newest.split(".")] > [int(part) for part in oldest.split(".")]
    assert {"run": ".ci/run"} in linux["steps"]


def test_a_release_is_made_of_what_was_tried() -> None:
    release = _read("workflows", "release.yml")["jobs"]

    assert ".ci/wheel" in [step.get("run") for step in release["build"]["steps"]]
    assert release["publish"]["needs"] == "build"
    (uploaded,) = (step for step in release["build"]["steps"] if "upload" in step.get("uses", ""))
    (fetched,) = (step for step in release["publish"]["steps"] if "download" in step["uses"])
    assert uploaded["with"]["name"] == fetched["with"]["name"]


def test_a_release_is_refused_where_the_tag_is_not_the_version() -> None:
    (check,) = (command for command in _commands("release.yml") if command.startswith("grep"))
    line = (ROOT / "reinit_cli" / "version.py").read_text().splitlines()[-1]

    (pattern,) = re.findall(r'-qx "(.*)" reinit_cli/version\.py$', check)
    assert pattern.replace("${GITHUB_REF_NAME#v}", __version__).replace("\\", "") == line


@pytest.mark.parametrize("form", ["bug.yml", "feature.yml"])
def test_a_form_asks_for_the_summary_of_the_checkpoint(form: str) -> None:
    fields = _read("ISSUE_TEMPLATE", form)["body"]

    (info,) = (each["attributes"] for each in fields if each.get("id") == "info")
    assert "`reinit info FILE --json`" in info["description"]


def test_a_citation_names_this_version_and_license() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())

    assert cited["version"] == __version__
    assert cited["license"] == PROJECT["license"]


def test_the_changelog_is_in_the_usual_form_and_names_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[([^]]+)\]", text, re.MULTILINE)
    lines = [line for line in text.splitlines() if line.startswith("- ")]

    assert versions[:2] == ["Unreleased", __version__]
    assert set(re.findall(r"^### (\w+)", text, re.MULTILINE)) <= {
        *("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
    }
    assert len(lines) == len(set(lines))
