#!/usr/bin/env bash
set -euo pipefail

# `default` gives every tensor of the last stage what the constructor gives it: convolutions,
# downsample, BatchNorm and its running statistics. --num-classes gives the model a new head.
job=(resnet18 --weights none --num-classes 10 --rule "layer4.*=default")

echo "# What would change"
reinit "${job[@]}" --dry-run

reinit "${job[@]}" --output fine-tune.safetensors --quiet

echo "# Nothing before the last stage differs"
reinit diff resnet18 fine-tune.safetensors "conv1.*" "bn1.*" "layer{1..3}.*" --weights none

# The same command gives the same bytes.
reinit "${job[@]}" --output - --quiet | cmp - fine-tune.safetensors
echo "the same bytes"
