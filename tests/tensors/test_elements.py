"""Elements in arrays: every dtype of torch's has an array of its size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reinit_cli.tensors.dtype import DTYPES
from reinit_cli.tensors.elements import Elements, stored_dtype


@pytest.mark.parametrize("name", DTYPES)
def test_an_array_has_the_size_of_torchs_elements(name: str) -> None:
    assert stored_dtype(name).itemsize == getattr(torch, name).itemsize


@pytest.mark.parametrize("name", ["float32", "float16", "int64", "uint16", "bool", "complex64"])
def test_what_numpy_knows_is_read_as_torch_reads_it(name: str) -> None:
    tensor = torch.arange(4).to(getattr(torch, name))
    data = np.frombuffer(tensor.numpy().tobytes(), stored_dtype(name))

    assert data.tolist() == tensor.tolist()


def test_flat_elements_are_in_row_major_order() -> None:
    elements = Elements(np.arange(6, dtype="<f4").reshape(2, 3).T, "float32")

    assert elements.flat.array.tolist() == [0, 3, 1, 4, 2, 5]
    assert (elements.numel, elements.nbytes) == (6, 24)
