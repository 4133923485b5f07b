"""The published table of AlexNet, by the keys that torchvision gives its tensors."""

from __future__ import annotations

import pytest

from reinit_cli import plan

# fan_in, fan_out, xavier_uniform:relu bound and std, kaiming_normal:relu std by fan_in and
# by fan_out, and the bound of torch's default for layers
TABLE = {
    "features.0.weight": (363, 7744, 0.0384734, 0.0222126, 0.0742270, 0.0160706, 0.0524864),
    "features.3.weight": (1600, 4800, 0.0433013, 0.0250000, 0.0353553, 0.0204124, 0.0250000),
    "features.6.weight": (1728, 3456, 0.0481125, 0.0277778, 0.0340207, 0.0240563, 0.0240563),
    "features.8.weight": (3456, 2304, 0.0456435, 0.0263523, 0.0240563, 0.0294628, 0.0170103),
    "features.10.weight": (2304, 2304, 0.0510310, 0.0294628, 0.0294628, 0.0294628, 0.0208333),
    "classifier.1.weight": (9216, 4096, 0.0300240, 0.0173344, 0.0147314, 0.0220971, 0.0104167),
    "classifier.4.weight": (4096, 4096, 0.0382733, 0.0220971, 0.0220971, 0.0220971, 0.0156250),
    "classifier.6.weight": (4096, 1000, 0.0485262, 0.0280166, 0.0220971, 0.0447214, 0.0156250),
}


@pytest.mark.slow
def test_a_plan_of_alexnet_has_the_published_numbers_under_torchvision_s_keys() -> None:
    inits = (
        "xavier_uniform:relu",
        "kaiming_normal:relu",
        "kaiming_normal:relu,fan_out",
        f"kaiming_uniform:a={5**0.5}",
    )
    plans = [plan("alexnet", [f"*.weight={init}"], weights="none") for init in inits]
    xavier, by_in, by_out, default = (
        {step.key: step for step in decided.fills} for decided in plans
    )

    assert list(xavier) == list(TABLE)
    for key, row in TABLE.items():
        step = xavier[key]
        assert step.fans is not None
        laws = [steps[key].law for steps in (xavier, by_in, by_out)]
        stds = [law.std for law in laws if law is not None]
        got = (step.fans.fan_in, step.fans.fan_out, step.bound, *stds, default[key].bound)
        assert got == pytest.approx(row, abs=5e-8), key
