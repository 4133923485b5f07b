"""Reports as pages and figures: what they hold, and what no name can do to them."""

from __future__ import annotations

import hashlib
import html
import math
import re
from base64 import b64encode
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from reinit_cli.cli.render.figure import figure_of
from reinit_cli.cli.render.html import Page, html_of, without_folders
from reinit_cli.cli.render.panels import Cut, Panel, joined, steps_of, ticks
from reinit_cli.cli.render.table import Column, Sheet
from reinit_cli.initializers.law import Constant, Normal, Uniform
from reinit_cli.tensors.histogram import Histogram

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(1)>",
    "{{ 7*7 }}{% raw %}",
    "\u202egnirts\u2066",
    "\x1b[31mred\x07\n\0",
    "$\\frac{1}$ $",
    "ключ.重み.weight",
    "&amp;&lt;b&gt;",
]

COLUMNS = (Column("key"), Column("std", "number"), Column("notes", "note"))


class Parsed(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def _histogram(low: float = -1.0, high: float = 1.0) -> Histogram:
    return Histogram(low, high, tuple(range(1, 65)))


def _page(keys: list[str], rows: int | None = None) -> Page:
    every = keys * (rows or 1)
    sheet = Sheet(COLUMNS, [(key, "0.5", key) for key in every])
    panels = [
        Panel(key, f"3x3 · {key}", "std 1 → 2", _histogram(), _histogram(), Uniform(-1, 1))
        for key in keys
    ]
    facts = [("source", keys[0])]
    return Page("reinit run", keys[0], facts, keys, [("Rules", sheet), ("Tensors", sheet)], panels)


def test_hostile_names_stay_text() -> None:
    plain = Parsed(html_of(_page(["a"] * len(HOSTILE))).replace(b"<wbr>", b""))
    hostile = Parsed(html_of(_page(HOSTILE)).replace(b"<wbr>", b""))

    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in plain.elements]
    assert [set(attributes) for _, attributes in hostile.elements] == [
        set(attributes) for _, attributes in plain.elements
    ]
    assert "{{ 7*7 }}{% raw %}" in hostile.texts
    assert "<script>alert(1)</script>" in hostile.texts


def test_no_character_of_a_name_reorders_or_acts() -> None:
    text = html_of(_page(HOSTILE)).decode()

    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x07\x1b]", text)
    assert r"\u202egnirts\u2066" in text


def test_the_policy_lets_only_our_own_script_and_style_pass() -> None:
    page = html_of(_page(["a"])).decode()
    policy = re.search('Content-Security-Policy" content="([^"]*)"', page)
    parts = dict(part.split(" ", 1) for part in policy[1].split("; "))

    assert parts["default-src"] == "'none'"
    for tag in ("style", "script"):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert parts[f"{tag}-src"] == f"'sha256-{digest}'"


def test_a_page_names_nothing_that_could_be_fetched() -> None:
    parsed = Parsed(html_of(_page(["a"])))

    links = {"src", "href", "srcset", "action", "style", "xlink:href"}
    assert [
        value
        for _, attributes in parsed.elements
        for name, value in attributes.items()
        if name in links
    ] == ["#picture-0"]
    assert not any("url(" in text or "@import" in text for text in parsed.texts)


def test_a_long_table_is_cut_and_says_so() -> None:
    parsed = Parsed(html_of(_page(["a"], rows=2500)))

    assert "The first 2,000 of 2,500 rows; --json has all." in parsed.texts
    assert sum(tag == "tr" for tag, _ in parsed.elements) == 2 * 2001


def test_the_page_of_the_most_pictures_stays_below_a_megabyte() -> None:
    keys = [f"layers.{number}.mlp.up_projection.weight" for number in range(120)]

    assert len(html_of(_page(keys))) < 1_000_000


def test_the_same_page_is_the_same_bytes() -> None:
    assert html_of(_page(HOSTILE)) == html_of(_page(HOSTILE))


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_same_figure_is_the_same_bytes(kind: str) -> None:
    panels = _page(HOSTILE).panels

    one, two = (figure_of("reinit run", panels, kind) for _ in range(2))

    assert one == two
    assert one.startswith(b"\x89PNG" if kind == "png" else b"<?xml")
    assert not re.search(rb"20\d\d-\d\d-\d\d|Software", one)


def test_an_svg_has_no_script_and_no_link_outside() -> None:
    root = ET.fromstring(figure_of("t", _page(HOSTILE).panels, "svg"))

    assert not [each for each in root.iter() if str(each.tag).endswith("script")]
    links = [value for each in root.iter() for name, value in each.items() if name.endswith("href")]
    assert all(link.startswith("#") for link in links)


def _texts_of(figure: bytes) -> str:
    return html.unescape(figure.decode())


def test_a_figure_of_many_has_the_largest_in_their_order_and_says_so() -> None:
    panels = [Panel(f"layers.{at}", "", "", None, _histogram(), numel=at % 7) for at in range(60)]
    few = sorted(panels, key=lambda panel: -panel.numel)[:48]

    drawn = _texts_of(figure_of("t", panels, "svg"))

    found = re.findall(r"<!-- (layers\.\d+) -->", drawn)
    assert found == [panel.key for panel in panels if panel in few]
    assert "<!-- The 48 largest of 60 -->" in drawn
    assert "<!-- The 48 largest of 99 -->" in _texts_of(figure_of("t", panels, "svg", 99))
    assert "largest" not in _texts_of(figure_of("t", few, "svg"))


def _narrow(low: float, high: float, width: float) -> Histogram:
    """Elements of which nearly all lie in the middle."""
    middle = round(64 * width)
    counts = [1] * 64
    counts[32 - middle : 32 + middle] = [1000] * (2 * middle)
    return Histogram(low, high, tuple(counts))


def test_a_bar_that_is_cut_off_is_marked() -> None:
    cut = Panel("k", "", "std 1 → 2", _narrow(-1, 1, 1 / 16), _histogram())
    whole = Panel("k", "", "std 1 → 2", _histogram(), _histogram())

    assert whole.cut == Cut([])
    assert joined(cut.cut.bars) == [(pytest.approx(-0.125), pytest.approx(0.125))]
    page = html_of(Page("reinit run", "m", [], [], [], [cut, whole])).decode()
    assert page.count('<path class="cut"') == 2  # the bar, and the legend
    (times,) = re.findall(r"before is ([\d.]+) times as high", page)
    peak = max(y for _, y in steps_of(cut.before))
    assert float(times) == pytest.approx(peak / cut.height, rel=0.05)
    assert f"before: {times}× as high" in _texts_of(figure_of("t", [cut], "svg"))


def test_values_beyond_the_sides_are_marked() -> None:
    wide = Panel("k", "", "", _histogram(-100, 1), _histogram())

    assert (wide.cut.goes_lower, wide.cut.goes_higher) == (True, False)
    page = html_of(Page("reinit run", "m", [], [], [], [wide])).decode()
    assert page.count('class="beyond"') == 1


def test_single_values_have_bars_of_one_height() -> None:
    """A constant of 1 and one of 200, of which neither has a width."""
    one, other = (Histogram(value, value, (64,) + (0,) * 63) for value in (1.0, 200.0))
    panel = Panel("k", "", "", one, other)

    heights = [max(y for _, y in panel.outline(each)) for each in (one, other)]
    assert heights[0] == pytest.approx(heights[1])


def test_the_outline_of_a_histogram_has_the_area_one() -> None:
    points = steps_of(_histogram(-3, 5))
    area = sum((right - left) * (y + z) / 2 for (left, y), (right, z) in pairwise(points))

    assert area == pytest.approx(1)


def test_the_expected_density_is_that_of_the_law() -> None:
    expected = Panel("k", "", "", None, _histogram(-5, 5), Normal(0, 1)).expected

    for x, y in expected[2:-2]:
        assert y == pytest.approx(math.exp(-x * x / 2) / math.sqrt(2 * math.pi), abs=2e-3)


def test_a_law_without_chance_has_no_density() -> None:
    assert Panel("k", "", "", None, _histogram(), Constant(0.0)).expected == []


@pytest.mark.parametrize(
    ("before", "window"),
    [((-2, 2), (-2, 2)), ((-0.5, 0.5), (-1, 1)), ((-100, 100), (-3, 3)), ((50, 60), (-1, 3))],
)
def test_a_picture_shows_what_is_new_whole(before, window) -> None:
    assert Panel("k", "", "", _histogram(*before), _histogram()).window == window


@pytest.mark.parametrize(
    ("low", "high"), [(-0.13, 0.13), (0, 1), (-1e-30, 1e-30), (1e30, 3e30), (999, 1000), (-3, 9)]
)
def test_ticks_are_round_and_few(low: float, high: float) -> None:
    found = ticks(low, high)

    assert 1 <= len(found) <= 6
    margin = (high - low) * 1e-9
    assert all(low - margin <= tick <= high + margin for tick in found)


def test_paths_are_shown_by_their_last_part() -> None:
    said = without_folders("/data/a/m.pt (3 MB)", ("/data/a/m.pt", "x.pt", None))

    assert said == "m.pt (3 MB)"


@pytest.mark.parametrize("is_sorted", [True, False])
def test_layers_come_as_people_count_but_a_network_keeps_its_order(is_sorted: bool) -> None:
    network = ["stem", *(f"layers.{at}" for at in (0, 1, 2, 10, 11)), "head"]
    page = html_of(_page(sorted(network) if is_sorted else network)).decode()

    counted = ["head", *network[1:-1], "stem"] if is_sorted else network
    assert re.findall(r'<tr data-key="([^"]*)"', page)[-len(network) :] == counted
    assert re.findall(r'<figure id="picture-\d+" data-key="([^"]*)"', page) == counted
