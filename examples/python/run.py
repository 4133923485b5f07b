"""Re-initialize a module in place, and check a tensor with plain torch."""

from __future__ import annotations

import torch
from torch import nn

from reinit_cli import apply_, seed_for

model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3))

rules = ["*.weight=kaiming_normal:relu,min_ndim=2", "*.bias=zeros"]
plan = apply_(model, rules, seed=3, stream="torch")
for step in plan.fills:
    print(
        f"{step.key}: expected std {step.law.std:.4g}, drawn {model.get_parameter(step.key).std():.4g}"
    )

generator = torch.Generator().manual_seed(seed_for(3, "0.weight"))
expected = nn.init.kaiming_normal_(
    torch.empty(16, 3, 3, 3), nonlinearity="relu", generator=generator
)
assert torch.equal(model[0].weight, expected)
