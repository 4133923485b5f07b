"""A command line in this process, and a small checkpoint to use it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from reinit_cli.cli import main
from tests.json_schema import check_json
from tests.said import said


@dataclass(frozen=True)
class Done:
    """What a command said and returned."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """What it said on standard error, in the same words whether with --json or without."""
        return said(self.err)


@pytest.fixture
def reinit(capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    def run(*args: str) -> Done:
        capfd.readouterr()
        code = main([str(arg) for arg in args])
        out, err = capfd.readouterr()
        if "--json" in args:
            check_json(out, err, code)
        return Done(code, out, err)

    return run


@pytest.fixture
def checkpoint() -> Path:
    """A file with convolutions, biases, a normalisation and its statistics."""
    generator = torch.Generator().manual_seed(7)
    state = {
        "features.0.weight": torch.randn(8, 3, 5, 5, generator=generator),
        "features.0.bias": torch.randn(8, generator=generator),
        "norm.weight": torch.ones(8),
        "norm.running_mean": torch.zeros(8),
        "norm.num_batches_tracked": torch.tensor(3),
        "classifier.weight": torch.randn(10, 8, generator=generator).bfloat16(),
        "classifier.bias": torch.randn(10, generator=generator).bfloat16(),
    }
    save_file(state, "model.safetensors", metadata={"format": "pt", "author": "somebody"})
    return Path("model.safetensors")
