#!/usr/bin/env bash
set -euo pipefail

recipe=$(dirname "$0")/recipe.toml

reinit resnet18 --weights none --recipe "$recipe" --output start.safetensors
sha256sum start.safetensors > start.sha256

# On another day, in another process: the same bytes.
rm start.safetensors
reinit resnet18 --weights none --recipe "$recipe" --output start.safetensors --quiet
sha256sum --check start.sha256

# The plan is the job with everything resolved, and a recipe itself.
reinit resnet18 --weights none --recipe "$recipe" --output again.safetensors --dry-run --json > plan.json
reinit --recipe plan.json --quiet
cmp start.safetensors again.safetensors
