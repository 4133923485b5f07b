#!/usr/bin/env bash
set -euo pipefail

reinit resnet18 --weights none --num-classes 10 --seed 7 -o ten-classes.safetensors --record --quiet
reinit verify ten-classes.safetensors
reinit verify ten-classes.safetensors --source resnet18

# The same file, from its own record.
reinit -c ten-classes.safetensors -o again.safetensors --quiet
cmp ten-classes.safetensors again.safetensors
echo "the same bytes, from the record"

echo "# One bit of one weight is flipped"
python - <<'PYTHON'
with open("ten-classes.safetensors", "r+b") as file:
    file.seek(20_000_000)
    byte = file.read(1)[0]
    file.seek(20_000_000)
    file.write(bytes([byte ^ 1]))
PYTHON
code=0
reinit verify ten-classes.safetensors || code=$?
[ "$code" -eq 1 ]
