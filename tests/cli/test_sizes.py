"""Sizes on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reinit_cli.cli.parameters import (
    SizeType,
)
from tests.cli.conftest import Done


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("5GB", 5_000_000_000),
        ("5g", 5_000_000_000),
        ("1.5 MB", 1_500_000),
        ("2KiB", 2048),
        ("1TiB", 2**40),
        ("77", 77),
    ],
)
def test_a_size_is_written_with_its_unit(text: str, nbytes: int) -> None:
    assert SizeType().convert(text, None, None) == nbytes


@pytest.mark.parametrize("text", ["big", "0", "-1GB", "1PB", "0.1", "GB", ""])
def test_a_size_that_is_none_is_told(
    text: str, reinit: Callable[..., Done], checkpoint: Path
) -> None:
    done = reinit(str(checkpoint), "-o", "out", f"--shard-size={text}")

    assert (done.code, done.err[:7]) == (2, "error: ")
    assert not Path("out").exists()


def test_a_size_makes_shards(reinit: Callable[..., Done], checkpoint: Path) -> None:
    done = reinit(str(checkpoint), "--shard-size", "1kB")

    assert done.code == 0, done.err
    assert len(list(Path("model-reinit").glob("*.safetensors"))) == 3
