"""Tables on a terminal show what strangers wrote, and never obey it."""

from __future__ import annotations

import io

import pytest

from reinit_cli.cli.render.table import Column, Sheet, show


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("count", [1, 600])
def test_names_and_values_of_strangers_are_escaped_and_bounded_on_a_terminal(count: int) -> None:
    bad = "\x1b]0;title\x07\u202e" + "x" * 100_000
    rows = [(bad, "1")] * count
    terminal = _Terminal()

    show(Sheet((Column("key"), Column("n")), rows, ((f"metadata {bad}", bad),)), terminal)

    shown = terminal.getvalue()
    assert "\x1b]" not in shown
    assert not {"\x07", "\u202e"} & set(shown)
    assert r"\x1b]0;title\x07\u202e" in shown
    assert "[...]" in "".join(shown.split())
    assert len(shown) < 10_000 * (count + 3)
