"""The page in a real browser: it renders, sorts and filters, and nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from reinit_cli.cli import main
from reinit_cli.request.pattern import Pattern
from tests.browser import started_browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("browser"),
]

HOSTILE = "<img src=x onerror=document.title='owned'>.weight"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started_browser() as driver:
        yield driver


@pytest.fixture
def page(browser: Any) -> Any:
    """The report on a rewrite of tensors whose sizes sort otherwise as text."""
    state = {
        HOSTILE: torch.zeros(30, 40),
        "a.weight": torch.randn(9, 100),
        "a.bias": torch.randn(1000),
        "b.weight": torch.randn(20, 50),
        "b.bias": torch.randn(20),
    }
    save_file(state, "m.safetensors")
    args = ["-r", "*.weight=xavier_uniform", "-r", "*.bias=zeros", "--check", "-q"]
    assert main(["run", "m.safetensors", *args, "--report", "r.html"]) == 0
    browser.get(Path("r.html").resolve().as_uri())
    return browser


def _shown(page: Any) -> list[str]:
    script = (
        "return [...document.querySelectorAll('table.filtered tbody tr')]"
        ".filter(row => !row.hidden).map(row => row.cells[0].textContent)"
    )
    return page.execute_script(script)


def _column(page: Any, title: str) -> Any:
    (found,) = (
        each
        for each in page.find_elements("css selector", "table.filtered th button")
        if each.text == title
    )
    return found


def test_it_renders_and_nothing_is_fetched_or_refused(page: Any) -> None:
    assert page.title == "m.safetensors"
    assert len(page.find_elements("css selector", "figure svg path.expected")) == 3
    box = page.find_element("css selector", "figure svg path.after").rect
    assert box["width"] > 100
    assert box["height"] > 30
    assert page.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert page.get_log("browser") == []


def test_a_hostile_key_is_text(page: Any) -> None:
    assert HOSTILE in _shown(page)
    assert page.find_elements("css selector", "img") == []


def test_a_header_sorts_by_number_and_again_backwards(page: Any) -> None:
    fan_in = _column(page, "fan_in")

    fan_in.click()
    ascending = _shown(page)
    fan_in.click()
    descending = _shown(page)

    assert ascending[:3] == [HOSTILE, "b.weight", "a.weight"]
    assert descending[:3] == ["a.weight", "b.weight", HOSTILE]
    # What has no number comes last either way.
    assert set(ascending[3:]) == set(descending[3:]) == {"a.bias", "b.bias"}
    head = fan_in.find_element("xpath", "..")
    assert head.get_attribute("aria-sort") == "descending"


def test_a_header_sorts_texts_with_their_numbers(page: Any) -> None:
    _column(page, "shape").click()

    assert _shown(page) == ["a.weight", "b.bias", "b.weight", HOSTILE, "a.bias"]


def test_the_box_filters_rows_and_pictures(page: Any) -> None:
    box = page.find_element("css selector", "input[type=search]")

    box.send_keys("BIAS")

    assert sorted(_shown(page)) == ["a.bias", "b.bias"]
    assert page.find_element("css selector", ".count").text == "2 of 5 tensors"
    shown = [each for each in page.find_elements("css selector", "figure") if each.is_displayed()]
    assert sorted(each.get_attribute("data-key") for each in shown) == ["a.bias", "b.bias"]

    box.clear()
    box.send_keys("no such row")
    assert _shown(page) == []
    assert page.find_element("css selector", ".nothing").text.startswith("No row matches.")


@pytest.mark.parametrize(
    "pattern",
    [
        *("*.bias", "a.*", "*eight", "?.weight", "[ab].bias", "[!a].*", "{a,b}.weight", "*"),
        *("a", "b.bia*", "*.{bias,x}", "{0..9}.weight", "*[t]", "*onerror=*", "a.?eight", "b.*t"),
    ],
)
def test_the_box_takes_the_patterns_of_the_command_line(page: Any, pattern: str) -> None:
    keys = _shown(page)
    page.find_element("css selector", "input[type=search]").send_keys(pattern)

    is_pattern = set(pattern) & set("*?[{")
    matches = Pattern.parse(pattern).matches if is_pattern else lambda key: pattern in key
    # Text without a wildcard is sought in the whole row, of which these parts are in no cell.
    assert is_pattern or pattern == "a"
    expected = [key for key in keys if matches(key)] if is_pattern else keys
    assert sorted(_shown(page)) == sorted(expected)


def test_pictures_are_sorted_with_the_table(page: Any) -> None:
    _column(page, "shape").click()

    drawn = page.execute_script(
        "return [...document.querySelectorAll('figure')].map(each => each.dataset.key)"
    )
    assert drawn == [key for key in _shown(page) if key in drawn]
    assert len(drawn) == 5


def test_a_key_leads_to_its_picture(page: Any) -> None:
    (link,) = page.find_elements("link text", "a.weight")
    link.click()

    target = page.find_element("css selector", "figure:target")
    assert target.get_attribute("data-key") == "a.weight"


def test_on_a_phone_only_tables_and_the_overview_are_wider_than_the_screen(page: Any) -> None:
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        assert page.execute_script("return document.documentElement.scrollWidth") == 390
        arrows = page.execute_script(
            "return [...document.querySelectorAll('th button')].map("
            "each => +getComputedStyle(each, '::after').opacity)"
        )
        assert min(arrows) > 0.3  # nothing hovers there
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_overview_names_each_tensor_and_its_stds(page: Any) -> None:
    titles = page.execute_script(
        "return [...document.querySelectorAll('.overview title')].map(each => each.textContent)"
    )

    assert len(titles) == 5
    assert any(title.startswith("b.bias: std ") for title in titles)
    assert sum(", expected 0" in title for title in titles) == 5


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_it_has_a_light_and_a_dark_face(page: Any, scheme: str, is_dark: bool) -> None:
    features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", features)

    paper, ink = page.execute_script(
        "const style = getComputedStyle(document.documentElement);"
        "return [style.backgroundColor, style.color].map("
        "  colour => colour.match(/\\d+/g).slice(0, 3).reduce((sum, each) => sum + +each, 0))"
    )

    assert (paper < ink) is is_dark
    assert abs(paper - ink) > 450
