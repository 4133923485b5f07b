#!/usr/bin/env bash
set -euo pipefail

# Two checkpoints of one training: early, and late with its smallest weights pruned.
python - <<'PYTHON'
import torch
from safetensors.torch import save_file

torch.manual_seed(0)
early = {"fc1.weight": torch.randn(64, 32), "fc1.bias": torch.zeros(64), "fc2.weight": torch.randn(10, 64)}
save_file(early, "early.safetensors")
late = {key: value + 0.1 * torch.randn_like(value) for key, value in early.items()}
for key in ("fc1.weight", "fc2.weight"):
    late[key][late[key].abs() < late[key].abs().quantile(0.8)] = 0
save_file(late, "late.safetensors")
PYTHON

# The ticket: what is zero stays zero, everything else is as it was early.
reinit late.safetensors -r "*=rewind:early.safetensors" -r "*.weight=rewind:early.safetensors,keep_zeros=true" -o ticket.safetensors --quiet

# Two controls: the mask with other values.
reinit late.safetensors -r "*.weight=kaiming_normal:relu,keep_zeros=true" --seed 1 -o random-ticket.safetensors --quiet
reinit ticket.safetensors -r "*.weight=shuffle" -o shuffled-ticket.safetensors --quiet

echo "# All of them have the zeros of the late checkpoint"
for name in late ticket random-ticket shuffled-ticket; do
    reinit stats $name.safetensors "fc1.weight"
done
