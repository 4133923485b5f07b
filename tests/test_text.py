"""Words and numbers for people."""

from __future__ import annotations

import pytest

from reinit_cli.text import nbytes


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (244_408_336, "244.4 MB"),
        (4 * 10**12, "4.0 TB"),
        (4 * 10**15, "4,000.0 TB"),
        (2**63, "9,223,372.0 TB"),
    ],
)
def test_bytes_are_shown_in_decimal_units(count: int, text: str) -> None:
    assert nbytes(count) == text
