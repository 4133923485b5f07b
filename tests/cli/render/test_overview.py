"""The overview of a report: the place of each tensor in its network."""

from __future__ import annotations

from typing import Any

import pytest

from reinit_cli.cli.render.overview import Spread, drawn


@pytest.mark.parametrize(
    "keys",
    [
        # As safetensors writes a file of two dtypes: by dtype, then by alphabet.
        ["norm.0.scale", "layers.0.w", "layers.1.w", "layers.10.w", "layers.2.w"],
        # As a listing sorted by numbers has them.
        ["layers.10.w", "layers.0.w", "norm.0.scale", "layers.2.w", "layers.1.w"],
    ],
)
def test_an_overview_goes_by_depth_however_tensors_are_listed(keys: list[str]) -> None:
    assert _order(keys) == [
        *("layers.0.w", "layers.1.w", "layers.2.w", "layers.10.w"),
        "norm.0.scale",
    ]


def test_an_overview_keeps_the_order_of_a_network() -> None:
    keys = ["stem.w", "blocks.0.w", "blocks.1.w", "blocks.10.w", "a_head.w"]

    assert _order(keys) == keys


def _order(keys: list[str]) -> list[str]:
    """Return the keys from left to right."""
    shown: dict[str, Any] | None = drawn([Spread(key, None, 0.5) for key in keys])
    assert shown is not None
    return [mark["title"].partition(":")[0] for mark in shown["marks"]]
