#!/usr/bin/env bash
set -euo pipefail

reinit alexnet --weights none --rule "*.bias=zeros" --output model.pt --quiet

echo "# Layers that are alike as one pattern, modules with their sums"
reinit keys resnet50 "layer3.*.conv?.weight" --group
reinit keys model.pt "features.0.*" --tree

echo "# In a pipe one key per line"
reinit keys model.pt | grep -c weight
reinit keys model.pt "classifier.*" --exclude "*.bias" --sort bytes -l

echo "# With --json one object per line: the tensors of more than 10 MB"
reinit keys model.pt --json | python -c '
import json, sys

large = [entry for entry in map(json.loads, sys.stdin) if entry["nbytes"] > 10_000_000]
print(*(entry["key"] for entry in large), sep="\n")
assert [entry["key"] for entry in large] == [f"classifier.{at}.weight" for at in (1, 4, 6)]
'

echo "# Each key with a NUL after it, whatever it is called"
reinit keys model.pt "*.bias" -0 | xargs -0 -n 1 echo

echo "# Values: a corner of a tensor, and statistics of modules"
reinit show model.pt features.0.weight --slice 0,0,:3,:3
reinit stats model.pt "features.*" --by module
