"""Errors say what to do next, in the words of Python."""

from __future__ import annotations

import io
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from reinit_cli import ReinitError, apply_, diff, plan, rewrite, stats, verify
from reinit_cli.cli.hints import HINTS as OF_THE_COMMAND
from reinit_cli.python.hints import HINTS

FLAG = re.compile(r"(^|\s)--?[a-z]|\breinit ")
"""What a command line has and Python has not."""


def _files() -> None:
    state = {"lm_head.weight": torch.ones(4, 3), "lm_head.bias": torch.ones(4)}
    save_file(state, "model.safetensors")
    torch.save({"epoch": 3, "model": state}, "train.pt")
    torch.save({"a": {"x": torch.ones(2)}, "b": {"x": torch.ones(2)}}, "two.pt")
    Path("pointer.safetensors").write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1234\n"
    )


MODEL = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))

CALLS: dict[str, tuple[Callable[[], object], str]] = {
    "a key that is misspelled": (
        lambda: plan("model.safetensors", "lm_haed.weight=zeros"),
        "did you mean 'lm_head.weight=zeros'?",
    ),
    "a pattern of an option that is misspelled": (
        lambda: rewrite("model.safetensors", [], "new.pt", drop=["lm_haed.*"]),
        "did you mean drop='lm_head.*'?",
    ),
    "an initializer that is misspelled": (
        lambda: plan("model.safetensors", "*=xavier_unifrom"),
        "did you mean 'xavier_uniform'?",
    ),
    "an argument that is misspelled": (
        lambda: plan("model.safetensors", "*=normal:sdt=1"),
        "did you mean 'std'?",
    ),
    "a rule without an initializer": (
        lambda: plan("model.safetensors", "lm_head.bias"),
        "did you mean 'lm_head.bias=zeros'?",
    ),
    "a file that is misspelled": (
        lambda: stats("modle.safetensors"),
        "did you mean 'model.safetensors'?",
    ),
    "a root that is misspelled": (
        lambda: plan("train.pt", "*=zeros", root="modle"),
        "try root='model'",
    ),
    "a pointer of Git LFS": (lambda: stats("pointer.safetensors"), "fetch it: git lfs pull"),
    "a device that is not here": (
        lambda: apply_(MODEL, "*=zeros", device="cuda:77"),
        "device='auto' uses the best one available",
    ),
    "a dtype that is misspelled": (
        lambda: rewrite("model.safetensors", [], "new.pt", dtype="bfloat166"),
        "did you mean 'bfloat16' or 'float16'?",
    ),
    "an output that exists": (
        lambda: rewrite("model.safetensors", "*=zeros", "train.pt"),
        "pass another output",
    ),
    "an output that is the source": (
        lambda: rewrite("model.safetensors", "*=zeros", "model.safetensors"),
        "pass another output",
    ),
    "what an output cannot hold": (
        lambda: rewrite("train.pt", "*=zeros", "new.safetensors"),
        "an output such as 'out.pt' keeps it, or tensors_only=True leaves it out",
    ),
    "default of a checkpoint": (
        lambda: plan("model.safetensors", "*=default"),
        "pass arch='resnet50', or what makes the module",
    ),
    "nothing to do": (
        lambda: rewrite("model.safetensors", []),
        "pass rules, such as '*.weight=xavier_uniform:relu'",
    ),
    "a skip that is an error": (
        lambda: plan("model.safetensors", "*=xavier_uniform", strict=True),
        "without strict=True it would be skipped",
    ),
    "a record that is missing": (
        lambda: verify("model.safetensors"),
        "write the output with record=True, or with record=FILE",
    ),
    "a key like no other": (
        lambda: apply_({"a": torch.ones(1), "b": torch.ones(1)}, "xyz=zeros"),
        "its keys are 'a', 'b'",
    ),
    "a number that no layer has": (
        lambda: apply_(MODEL, "9.*=zeros", dry_run=True),
        "the numbers are 0..1",
    ),
    "a key of one of two models": (
        lambda: diff(MODEL, "model.safetensors", "0.wieght"),
        "did you mean '0.weight'?",
    ),
}


def test_a_notebook_whose_standard_output_takes_text_alone_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _files()
    for stream in (io.StringIO(), None):
        monkeypatch.setattr("sys.stdout", stream)

        with pytest.raises(ReinitError, match="standard output: it takes no bytes") as refused:
            rewrite("model.safetensors", "*=zeros", "-")

        assert refused.value.hint == "pass a path as output"


@pytest.mark.parametrize(("call", "hint"), CALLS.values(), ids=CALLS)
def test_an_error_carries_its_hint_which_a_traceback_shows(
    call: Callable[[], object], hint: str
) -> None:
    _files()

    with pytest.raises(ReinitError) as refused:
        call()

    error = refused.value
    assert error.hint == hint
    assert error.__notes__ == [f"hint: {hint}"]
    assert hint not in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.hint) == (str(error), hint)


def test_an_error_without_a_way_on_has_no_hint() -> None:
    with pytest.raises(ReinitError) as refused:
        stats(MODEL, "[")

    assert refused.value.hint == ""
    assert not hasattr(refused.value, "__notes__")


def test_no_hint_is_in_the_words_of_the_command_line() -> None:
    texts = [hint for hint in HINTS.values() if isinstance(hint, str)]

    assert [text for text in texts if FLAG.search(text)] == []
    assert [text for text in texts if "force=" in text or "in_place=" in text] == []


def test_what_has_a_hint_on_the_command_line_has_one_in_python() -> None:
    """Commands alone know of reports, of several outputs, of standard output, and of recipes."""
    here = {(family.__name__, kind) for family, kind in HINTS}
    there = {(family.__name__, kind) for family, kind in OF_THE_COMMAND}

    missing = {each for each in there - here if (each[0], "") not in here}
    assert missing == OF_COMMANDS_ALONE


OF_COMMANDS_ALONE = {
    ("UnknownNameError", "placeholder"),
    ("OutputError", "name"),
    ("RecipeError", ""),
    ("RecipeError", "file"),
    ("RecipeError", "code"),
    ("InputError", ""),
}


def test_warnings_and_errors_name_keywords_and_no_options_of_the_command_line() -> None:
    _files()
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    warned = [
        *apply_(model, "1.weight=zeros", dry_run=True).warnings,
        *plan(model, "1.weight=zeros").warnings,
        *rewrite(model, "1.weight=zeros", "new.pt").job.plan.warnings,
        *rewrite("model.safetensors", "*=zeros", "new/", shard_nbytes="9B", dry_run=True).warnings,
    ]
    with pytest.raises(ReinitError) as refused:
        plan("model.safetensors", [], num_classes=3)

    assert len(warned) >= 4
    assert [text for text in (*warned, str(refused.value)) if FLAG.search(text)] == []
    assert any("reset_buffers=True" in text for text in warned)
    assert any("shard_nbytes=" in text for text in warned)
    assert "arch=" in str(refused.value)


@pytest.mark.slow
def test_a_traceback_ends_with_the_hint() -> None:
    code = "import torch, reinit_cli; reinit_cli.apply_({'a': torch.ones(1)}, 'b=zeros')"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stderr.splitlines()[-2:] == [
        "reinit_cli.errors.UnmatchedRuleError: rule 'b=zeros' matches no key of the state dict",
        "hint: its keys are 'a'",
    ]
