"""Records of folders that were made before `--copy` came are verified still."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reinit_cli import verify

# The outputs are of the code of that time, which copied what is left out now, and called new
# files as transformers does. All were made from `source` with `-r head.weight=uniform --record`,
# `cast` with `--dtype bfloat16` too, `shards` with `--shard-size 30B`, and `resized` with
# `--resize embed.weight=4:zeros`.
DATA = Path(__file__).parent / "data" / "folder_before_copy"
OUTPUTS = ["filled", "cast", "shards", "resized", "one.safetensors"]


@pytest.mark.parametrize("output", OUTPUTS)
def test_an_old_record_of_a_folder_is_verified_with_its_source(output: str) -> None:
    verdict = verify(str(DATA / output), source=str(DATA / "source"))

    assert verdict.findings == ()
    assert "head.weight" in verdict.drawn


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("changed", ["model.gguf", "original/params.json", "config.json"])
def test_another_source_than_that_of_an_old_record_is_found_out(
    tmp_path: Path, output: str, changed: str
) -> None:
    source = tmp_path / "source"
    shutil.copytree(DATA / "source", source)
    (source / changed).write_text("something else\n")

    (finding,) = verify(str(DATA / output), source=str(source)).findings

    assert "is not the source that was recorded" in str(finding)
