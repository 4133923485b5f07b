"""One line says how far some work is, whatever room it has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinit_cli.cli.render.gauge import Gauge, bar_line, clock, log_line
from reinit_cli.cli.render.layout import width_of
from reinit_cli.cli.screen import Screen

KEY = "model.layers.31.post_attention_layernorm.weight"


def _gauge(*, key: str = KEY, total: int | None = 1_000_000_000) -> Gauge:
    """Return work of 1 GB of which 250 MB were done in 10 seconds."""
    gauge = Gauge("model.safetensors", 15.0)
    if total is not None:
        gauge.total = total
        gauge.begin(100.0)
        gauge.note(1, key)
        gauge.advance(total // 4, 110.0)
    return gauge


def test_at_80_columns_a_line_has_the_tensor_its_share_speed_and_time_left() -> None:
    line = bar_line(_gauge(), 110.0, 80, Screen())

    assert line.split() == [KEY, *line.split()[1:-5], "25%", "25.0", "MB/s", "0:30", "left"]
    assert width_of(line) <= 80


def test_with_more_room_there_is_a_bar_and_the_name_of_the_source() -> None:
    line = bar_line(_gauge(), 110.0, 120, Screen())

    assert line.startswith(f"model.safetensors: {KEY}  ━")
    drawn = [char for char in line if char in "━╌"]
    assert drawn.count("━") / len(drawn) == pytest.approx(0.25, abs=1 / len(drawn))


def test_without_a_tensor_in_work_the_source_is_named() -> None:
    assert bar_line(_gauge(key=""), 110.0, 80, Screen()).startswith("model.safetensors  ━")


def test_where_only_ascii_is_shown_the_line_has_no_more() -> None:
    for width in range(1, 130):
        assert bar_line(_gauge(), 110.0, width, Screen(is_unicode=False)).isascii()


@given(st.integers(1, 200), st.text(max_size=80), st.integers(0, 2**45), st.floats(0, 1e6))
def test_no_line_is_wider_than_the_terminal(width: int, key: str, total: int, now: float) -> None:
    gauge = _gauge(key=key, total=total)

    assert width_of(bar_line(gauge, 100 + now, width, Screen())) <= width


def test_what_leaves_a_narrow_line_last_is_the_share() -> None:
    said = [bar_line(_gauge(), 110.0, width, Screen()) for width in (50, 22, 16, 5)]

    assert "…" in said[0]
    assert said[1:] == [" 25%  0:30 left", " 25%  0:30 left", " 25%"]


def test_a_plan_has_no_share() -> None:
    assert bar_line(_gauge(total=None), 0.0, 80, Screen()) == "planning model.safetensors"
    assert log_line(_gauge(total=None), 0.0) == "model.safetensors: planning"


def test_a_line_of_a_log_says_the_same() -> None:
    assert log_line(_gauge(), 110.0) == (
        f"model.safetensors: 25% of 1.0 GB, 25.0 MB/s, 0:30 left, {KEY}"
    )
    assert log_line(_gauge(), 110.0, is_last=True) == "model.safetensors: 250.0 MB in 10.0 s"


def test_the_tensor_that_was_begun_first_is_shown_until_it_ends() -> None:
    gauge = _gauge(key="")
    gauge.note(1, "slow")
    gauge.note(2, "quick")
    assert gauge.key == "slow"
    gauge.note(2, "")
    assert gauge.key == "slow"
    gauge.note(1, "next")
    gauge.note(2, "another")
    assert gauge.key == "next"
    gauge.note(1, "")
    gauge.note(2, "")
    assert gauge.key == ""


def test_a_speed_is_that_of_late() -> None:
    gauge = _gauge(key="", total=10**9)
    for second in range(1, 61):
        gauge.advance(10**6, 110.0 + second)

    assert gauge.speed(170.0) == pytest.approx(10**6, rel=0.1)
    assert gauge.seconds_left(170.0) == pytest.approx(690, rel=0.1)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (6.2, "0:07"), (750, "12:30"), (3900, "1:05:00")]
)
def test_a_time_is_shown_as_on_a_watch(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown
