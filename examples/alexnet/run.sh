#!/usr/bin/env bash
set -euo pipefail

reinit keys alexnet "features.*.weight"
reinit draw "xavier_uniform:relu" 64,3,11,11 --key features.0.weight
reinit alexnet --weights none --rule "features.*.weight=xavier_uniform:relu" --verbose

# The written tensor is the drawn one; torch is only here to show it.
python - <<'PYTHON'
from safetensors import safe_open

with safe_open("alexnet-reinit.safetensors", "pt") as file:
    weight = file.get_tensor("features.0.weight")
print(weight[0, 0, :3, :3], weight.abs().max())
assert weight.abs().max() <= 0.0384734
PYTHON
