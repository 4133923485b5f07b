"""The values of one tensor, read without the rest."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from reinit_cli.checkpoints.find import find_source
from reinit_cli.errors import TensorError, UnknownNameError
from reinit_cli.operations.show import MOST_DIMENSIONS, read_values
from reinit_cli.tensors.slice import parse_slice


def test_a_part_is_what_torch_slices() -> None:
    tensor = torch.arange(60.0).reshape(3, 4, 5)
    save_file({"w": tensor, "other": torch.zeros(2)}, "m.safetensors")

    values = read_values(find_source("m.safetensors"), "w", ("1,:,::2", parse_slice("1,:,::2")), 0)

    assert torch.equal(values.tensor, tensor[1, :, ::2])
    assert values.info.shape == (3, 4, 5)


def test_a_key_that_is_missing_is_an_error_that_knows_the_keys() -> None:
    save_file({"w": torch.zeros(2)}, "m.safetensors")

    with pytest.raises(UnknownNameError) as refused:
        read_values(find_source("m.safetensors"), "v", None, 0)

    assert (str(refused.value), refused.value.known) == ("m.safetensors has no key 'v'", ("w",))


@pytest.mark.parametrize("count", [MOST_DIMENSIONS, MOST_DIMENSIONS + 1, 4096])
def test_what_is_nested_too_deeply_to_be_printed_is_refused(count: int) -> None:
    header = {"w": {"dtype": "F32", "shape": [1] * count, "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    Path("m.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    source = find_source("m.safetensors")

    if count <= MOST_DIMENSIONS:
        values = read_values(source, "w", None, 0)
        assert values.printed(full=True).count("[") == count
        return
    with pytest.raises(TensorError, match=f"they have {count:,} dimensions, and 128 can be shown"):
        read_values(source, "w", None, 0)
