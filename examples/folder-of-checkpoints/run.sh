#!/usr/bin/env bash
set -euo pipefail

python - <<'PYTHON'
import os

import torch

torch.manual_seed(0)

os.mkdir("checkpoints")
for epoch in range(3):
    state = {"body.weight": torch.randn(32, 32), "head.weight": torch.randn(10, 32)}
    torch.save({"epoch": epoch, "state_dict": state}, f"checkpoints/epoch{epoch}.pt")
PYTHON

# One process for all of them; names may hold spaces and newlines.
find checkpoints -name "*.pt" -print0 | sort -z |
    reinit --files-from - -0 --rule "head.*=normal:std=0.01" --seed 0..4 \
        --output "seeds/{stem}-seed{seed}{suffix}" --quiet
ls seeds

# Nothing is NaN in the five of the first.
for file in seeds/epoch0-*.pt; do
    reinit stats "$file" --fail-nan > /dev/null
done
echo "# Two seeds of one checkpoint differ in their heads only"
reinit diff seeds/epoch0-seed0.pt seeds/epoch0-seed1.pt || [ $? -eq 1 ]

# The same through a pipe: the bytes on standard output are those of the file.
cat checkpoints/epoch1.pt |
    reinit - --rule "head.*=normal:std=0.01" --seed 3 --output - --quiet |
    cmp - seeds/epoch1-seed3.pt
echo "the same bytes through a pipe"
