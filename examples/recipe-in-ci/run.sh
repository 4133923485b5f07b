#!/usr/bin/env bash
set -euo pipefail

recipe=$(dirname "$0")/recipe.toml

reinit --recipe "$recipe" --output start.safetensors
sha256sum start.safetensors > start.sha256

# On another day, in another process: the same bytes.
rm start.safetensors
reinit --recipe "$recipe" --output start.safetensors --quiet
sha256sum --check start.sha256

# Every tensor of the last stage is as new, running statistics included.
python - <<'PYTHON'
from safetensors.torch import load_file

state = load_file("start.safetensors")
stage = {key: value for key, value in state.items() if key.startswith("layer4.")}
assert all(value.eq(1).all() for key, value in stage.items() if key.endswith("running_var"))
assert not any(value.any() for key, value in stage.items() if key.endswith("running_mean"))
assert state["fc.weight"].shape == (10, 512)
PYTHON

# The plan is the job with everything resolved, and a recipe itself.
reinit --recipe "$recipe" --output again.safetensors --dry-run --json > plan.json
reinit --recipe plan.json --quiet
cmp start.safetensors again.safetensors
echo "the plan makes the same bytes"
