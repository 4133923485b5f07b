"""Results are one line in a terminal and a table in a notebook."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from torch import nn

from reinit_cli import Rule, apply_, diff, plan, rewrite, stats, verify


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(20, 20) for _ in range(40)))


def _verdict() -> object:
    rewrite(_model(), "0.weight=zeros", "recorded.safetensors", record=True, force=True)
    return verify("recorded.safetensors")


RESULTS: dict[str, tuple[Callable[[], object], str]] = {
    "what apply_ did": (
        lambda: apply_(_model(), "*.weight=orthogonal"),
        "<Plan for Sequential: 40 of 80 tensors filled by 1 rule>",
    ),
    "a plan": (
        lambda: plan(_model(), ["*.weight=orthogonal", "0.weight=zeros"]),
        "<Plan for Sequential: 40 of 80 tensors filled by 2 rules>",
    ),
    "a step of a plan": (
        lambda: plan(_model(), "3.weight=zeros").fills[0],
        "<Step 3.weight: fill with zeros>",
    ),
    "what rewrite did": (
        lambda: rewrite(_model(), "*.weight=zeros", "new.safetensors", force=True),
        "<Outcome new.safetensors: 40 of 80 tensors filled by 1 rule, 72.8 kB>",
    ),
    "a rule": (lambda: Rule("fc.*", "zeros"), "Rule.parse('fc.*=zeros')"),
    "measurements": (lambda: stats(_model()), "<Measurements of 80 tensors>"),
    "measurements of modules": (
        lambda: stats(_model(), by="module"),
        "<Measurements of 40 modules>",
    ),
    "one measurement": (
        lambda: stats({"a": torch.tensor([1.0, -1.0, torch.nan])})[0],
        "<Measured a: mean 0, std 1, min -1, max 1, 1 NaN>",
    ),
    "statistics": (
        lambda: stats({"a": torch.tensor([2.0, 2.0])})[0].statistics,
        "<Statistics of 2 elements: mean 2, std 0, min 2, max 2>",
    ),
    "differences": (
        lambda: diff({"a": torch.ones(2), "b": torch.ones(2)}, {"a": torch.ones(2)}),
        "<Differences: 1 identical, 1 removed>",
    ),
    "one difference": (
        lambda: diff({"a": torch.ones(2)}, {"a": torch.zeros(2)})[0],
        "<Difference a: values by 1 at most>",
    ),
    "a verdict": (
        _verdict,
        "<Verdict for recorded.safetensors: matches its record, 1 tensor drawn again>",
    ),
}


@pytest.mark.parametrize(("made", "shown"), RESULTS.values(), ids=RESULTS)
def test_a_result_is_one_short_line(made: Callable[[], object], shown: str) -> None:
    assert repr(made()) == shown


class _Cells(HTMLParser):
    """The rows of all tables, and everything that is wrong with the tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.styles: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.styles += [value or "" for name, value in attrs if name == "style"]
        assert {name for name, _ in attrs} <= {"style", "open"}
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def _cells(result: object) -> list[list[str]]:
    return _Cells(result._repr_html_()).rows  # type: ignore[attr-defined]


def test_a_plan_is_a_table_of_its_rules_and_of_what_they_fill() -> None:
    model = nn.Sequential(nn.Linear(20, 30), nn.BatchNorm1d(30))

    assert _cells(plan(model, {"0.weight": "normal:std=0.02", "*.bias": "zeros"})) == [
        ["pattern", "initializer", "tensors", "parameters"],
        ["0.weight", "normal:mean=0.0,std=0.02", "1", "600"],
        ["*.bias", "zeros", "2", "60"],
        ["key", "shape", "dtype", "initializer", "expected std"],
        ["0.weight", "30x20", "float32", "normal:mean=0.0,std=0.02", "0.02"],
        ["0.bias", "30", "float32", "zeros", "0"],
        ["1.bias", "30", "float32", "zeros", "0"],
    ]


def test_a_plan_says_what_it_skips_and_what_it_warns_of() -> None:
    model = nn.Sequential(nn.Linear(20, 30), nn.BatchNorm1d(30))

    decided = plan(model, {"*.weight": "xavier_uniform", "1.bias": "ones"})

    assert _cells(decided)[1][-1].startswith("1 skipped: ")
    assert decided.warnings
    assert all(f"warning: {escape(each)}" in decided._repr_html_() for each in decided.warnings)
    assert repr(decided).endswith(f", {len(decided.warnings)} warning>")


def test_a_verdict_is_a_table_of_what_does_not_match() -> None:
    rewrite(_model(), "0.weight=normal:std=1", "recorded.safetensors", record=True)
    data = bytearray(Path("recorded.safetensors").read_bytes())
    data[-1] ^= 1
    Path("recorded.safetensors").write_bytes(data)

    cells = _cells(verify("recorded.safetensors"))

    assert cells[0][:2] == ["what", "problem"]
    assert len(cells) == 2


def test_what_was_written_shows_the_std_that_torch_finds_in_it() -> None:
    outcome = rewrite(_model(), "0.weight=normal:std=0.5", "new.pt")

    std = torch.load("new.pt")["0.weight"].std(correction=0).item()
    assert _cells(outcome)[-1] == [
        "0.weight", "20x20", "float32", "normal:mean=0.0,std=0.5", "0.5", f"{std:.5g}",
    ]  # fmt: skip


def test_measurements_and_differences_are_tables() -> None:
    state = {"a": torch.tensor([1.0, 3.0]), "b": torch.ones(4)}

    assert _cells(stats(state))[:2] == [
        ["key", "elements", "mean", "std", "min", "max", "zeros", "NaN", "infinite"],
        ["a", "2", "2", "1", "1", "3", "0", "0", "0"],
    ]
    assert _cells(diff(state, {"a": torch.tensor([1.0, 5.0]), "b": torch.ones(4)})) == [
        ["key", "change", "first", "second", "elements", "max difference", "relative L2"],
        ["a", "values", "float32 2", "float32 2", "1", "2", f"{2 / 10**0.5:.5g}"],
    ]


def test_keys_of_strangers_are_shown_as_text() -> None:
    key = "<script>alert('x')</script>&\x1b[31m\u202e"
    state = {key: torch.ones(2)}

    for result in (stats(state), diff(state, {key: torch.zeros(2)}), plan(state, "*=zeros")):
        cells = _cells(result)
        assert "<script>alert('x')</script>&\\x1b[31m\\u202e" in cells[-1]


def test_a_long_table_says_how_much_it_leaves_out() -> None:
    state = {str(at): torch.ones(1) for at in range(150)}

    html = stats(state)._repr_html_()

    assert len(_Cells(html).rows) == 101
    assert "and 50 more rows" in html


def test_a_table_has_no_colors_so_that_it_fits_a_dark_page() -> None:
    outcome = rewrite(_model(), "*.weight=normal:std=0.5", "new.safetensors")

    for style in _Cells(outcome._repr_html_()).styles:
        assert "color" not in style
        assert "background" not in style


def test_what_acts_on_a_terminal_is_shown_as_text() -> None:
    first = {"a\x1b[31m\u202e\n": torch.ones(2)}

    shown = (
        plan(first, "*=zeros").fills,
        list(stats(first)),
        list(diff(first, {key: value + 1 for key, value in first.items()})),
    )

    assert all(repr(each).isprintable() for each in shown)


def test_the_text_of_a_rule_in_python_makes_the_rule() -> None:
    rule = Rule.of("fc.*", "normal", std=0.02)

    assert eval(repr(rule), {"Rule": Rule}) == rule


def test_outcomes_of_modules_can_be_compared() -> None:
    first, second = (rewrite(_model(), "0.*=zeros", f"{name}.pt") for name in "ab")

    assert first == first  # noqa: PLR0124
    assert first != second


@pytest.mark.parametrize("is_dry", [True, False])
def test_a_dry_run_may_be_asked_for_by_a_variable(is_dry: bool) -> None:
    made = rewrite(_model(), "0.*=zeros", "new.pt", dry_run=is_dry)

    assert Path("new.pt").exists() is not is_dry
    assert repr(made).startswith("<Plan" if is_dry else "<Outcome")
