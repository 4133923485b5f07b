#!/usr/bin/env bash
set -euo pipefail

python - <<'PYTHON'
import torch
from safetensors.torch import save_file

torch.manual_seed(0)
state = {"embed.weight": torch.randn(100, 16), "head.weight": torch.randn(100, 16)}
for layer in range(4):
    state |= {
        f"layers.{layer}.attention.weight": torch.randn(48, 16),
        f"layers.{layer}.attention.bias": torch.randn(48),
        f"layers.{layer}.norm.weight": torch.rand(16),
        f"layers.{layer}.norm.bias": torch.rand(16),
    }
save_file(state, "model.safetensors", {"format": "pt"})
PYTHON

rules=(
    --rule "layers.{2..3}.*.weight=normal:std=0.02"
    --rule "layers.{2..3}.norm.weight=ones"
    --rule "layers.{2..3}.*.bias=zeros"
)

echo "# The layers"
reinit keys model.safetensors --group
echo "# What would change"
reinit model.safetensors "${rules[@]}" --dry-run --verbose
reinit model.safetensors "${rules[@]}" --output last-two.safetensors --quiet

echo "# Eight tensors of two layers differ, and nothing else does"
reinit diff model.safetensors last-two.safetensors --json > difference.json || [ $? -eq 1 ]
python - <<'PYTHON'
import json

changed = [each["key"] for each in json.load(open("difference.json"))["differences"]]
print(*changed, sep="\n")
assert len(changed) == 8
assert all(key.startswith(("layers.2.", "layers.3.")) for key in changed)
PYTHON
