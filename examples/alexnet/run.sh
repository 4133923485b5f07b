#!/usr/bin/env bash
set -euo pipefail

echo "# The tensors that the pattern matches"
reinit keys alexnet "features.*.weight"

echo "# Eleven values before"
reinit show alexnet features.0.weight --weights none --slice 0,0,0

echo "# The rewrite, with the random numbers of torch"
reinit alexnet --weights none --rule "features.*.weight=xavier_uniform:relu" --stream torch

echo "# The same values after: all lie within ±0.0385"
reinit show alexnet-reinit.safetensors features.0.weight --slice 0,0,0

echo "# PyTorch draws the same tensor for this seed and key"
python - <<'PYTHON'
import torch
from safetensors.torch import load_file

from reinit_cli import seed_for

generator = torch.Generator().manual_seed(seed_for(0, "features.0.weight"))
expected = torch.empty(64, 3, 11, 11)
torch.nn.init.xavier_uniform_(expected, gain=2**0.5, generator=generator)

written = load_file("alexnet-reinit.safetensors")["features.0.weight"]
assert written.abs().max() < 0.0385
assert torch.equal(written, expected)
print("equal")
PYTHON
