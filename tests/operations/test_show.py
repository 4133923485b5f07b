"""The values of one tensor, read without the rest."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from reinit_cli.checkpoints.find import find_source
from reinit_cli.checkpoints.source import Source
from reinit_cli.errors import TensorError
from reinit_cli.operations.show import MOST_DIMENSIONS, Part, Values, opened_views, read_values
from reinit_cli.tensors.printing import Style
from reinit_cli.tensors.slice import parse_slice


def _read(source: Source, part: Part | None = None) -> Values:
    with opened_views(source, source.tensors[-1:], part, 0, [source.tensors[-1].key]) as chosen:
        ((info, view),) = chosen.views
        return read_values(view, info)


def test_a_part_is_what_torch_slices() -> None:
    tensor = torch.arange(60.0).reshape(3, 4, 5)
    save_file({"w": tensor, "other": torch.zeros(2)}, "m.safetensors")

    values = _read(find_source("m.safetensors"), ("1,:,::2", parse_slice("1,:,::2")))

    assert values.elements.array.tolist() == tensor[1, :, ::2].flatten().tolist()
    assert values.shape == (4, 3)
    assert values.info.shape == (3, 4, 5)


@pytest.mark.parametrize("count", [MOST_DIMENSIONS, MOST_DIMENSIONS + 1, 4096])
def test_what_is_nested_too_deeply_to_be_printed_is_refused(count: int) -> None:
    header = {"w": {"dtype": "F32", "shape": [1] * count, "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    Path("m.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    source = find_source("m.safetensors")

    if count <= MOST_DIMENSIONS:
        values = _read(source)
        assert values.printed(Style(), full=True).count("[") == count
        return
    with pytest.raises(TensorError, match=f"they have {count:,} dimensions, and 128 can be shown"):
        _read(source)
