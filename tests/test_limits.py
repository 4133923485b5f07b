"""The page on limits says what the code holds to."""

from __future__ import annotations

from pathlib import Path

import pytest

from reinit_cli import text
from reinit_cli.checkpoints.formats import base, safetensors, strict_json
from reinit_cli.checkpoints.formats.hugging_face import index
from reinit_cli.checkpoints.formats.torch.contents import outline
from reinit_cli.checkpoints.formats.torch.files import archive
from reinit_cli.checkpoints.formats.torch.pickles import budget, machine
from reinit_cli.operations import configs
from reinit_cli.planning import config_sizes, json_edit
from reinit_cli.request import glob, recipe, regex, resize, values
from reinit_cli.storage import local

PAGE = (Path(__file__).parents[1] / "docs/explanation/limits.md").read_text()
ROWS = {
    line.split("|")[1].strip(): line.split("|")[2]
    for line in PAGE.partition("## Sizes")[2].splitlines()
    if line.startswith("| ")
}

SAID = {
    "the header of a safetensors file": (
        (safetensors.MAX_HEADER_NBYTES, "48 MiB", 2**20),
        (strict_json.MAX_ELEMENTS, "800,000 commas", 1),
        (safetensors.MAX_DIMENSIONS, "4,096 dimensions", 1),
        (safetensors.MAX_METADATA, "100,000 names", 1),
    ),
    "the index of a Hugging Face folder": ((index.MAX_INDEX_NBYTES, "48 MiB", 2**20),),
    "a `config.json` to update": (
        (configs.MAX_CONFIG_NBYTES, "4 MiB", 2**20),
        (json_edit.MAX_MEMBERS, "20,000 members", 1),
        (json_edit.MAX_OBJECTS, "256 objects", 1),
        (config_sizes.MAX_LABELS, "1,000,000 labels", 1),
    ),
    "a tokenizer whose tokens are counted": ((configs.MAX_TOKENIZER_NBYTES, "32 MiB", 2**20),),
    "an archive from `torch.save`": (
        (archive.MAX_ENTRIES, "150,000 entries", 1),
        (archive.MAX_DIRECTORY_NBYTES, "32 MiB", 2**20),
    ),
    "the pickle of a torch file": (
        (machine.MAX_OPCODES, "1,200,000 opcodes", 1),
        (budget.MAX_WORK, "2,800,000 opcodes", 1),
        (budget.MAX_NBYTES, "180 MB", 10**6),
    ),
    "the outline of `keys --meta`": (
        (outline.MAX_PARTS, "300 lines", 1),
        (outline.MAX_LEVELS, "5 levels", 1),
        (outline.MOST_VALUES, "200 members", 1),
        (outline.MOST_MEMBERS, "30 hold others", 1),
        (outline.MOST_ITEMS, "6 items", 1),
    ),
    "a provenance record": ((base.MAX_RECORD_NBYTES, "64 MiB", 2**20),),
    "a recipe": (
        (recipe.MAX_TOML_NBYTES, "256 KiB", 2**10),
        (recipe.MAX_JSON_NBYTES, "56 MiB", 2**20),
        (values.MAX_COST, "100,000 names", 1),
    ),
    "names from the braces of a pattern": (
        (glob.MAX_NAMES, "100,000", 1),
        (glob.MAX_IN_WILDCARD, "10,000 next to a wildcard", 1),
    ),
    "a regular expression": (
        (regex.MAX_LENGTH, "10,000 characters", 1),
        (int(regex.MAX_SECONDS), "10 s", 1),
        (int(regex.MAX_SLOW_SECONDS), "1 s", 1),
    ),
    "a line of an error or a warning": ((text.LONGEST_LINE, "2,000 characters", 1),),
    "files of a folder open at the same time": ((local.MAX_OPEN_FILES, "48", 1),),
}


def test_every_row_is_held() -> None:
    assert set(ROWS) - {"item", "---"} == set(SAID)


@pytest.mark.parametrize("row", SAID)
def test_a_figure_is_that_of_the_code(row: str) -> None:
    for value, said, unit in SAID[row]:
        assert said in ROWS[row]
        assert value == int(said.split()[0].replace(",", "")) * unit


def test_other_figures_are_those_of_the_code() -> None:
    assert resize.MAX_ROWS == 2**40
    assert text.MAX_DIGITS == 30
