"""Variance scaling, LeCun, and the Keras and JAX variants of Glorot and He."""

from __future__ import annotations

from math import sqrt
from typing import Annotated

from reinit_cli.initializers.decimals import power
from reinit_cli.initializers.fans import Fans
from reinit_cli.initializers.law import Constant, Law, Normal, Uniform
from reinit_cli.initializers.parameters import Choice, Mode, NonNegative, Number
from reinit_cli.initializers.registry import register
from reinit_cli.initializers.truncated import TruncatedNormal

TRUNCATED_STD = 0.87962566103423978
"""The standard deviation of N(0, 1) given that it lies in (-2, 2)."""

_LECUN = (
    "LeCun, Bottou, Orr & Müller 1998, Efficient BackProp, Neural Networks: Tricks of the Trade"
)


def _truncated(std: float) -> Law:
    """Return the normal cut off at 2 std that has a given std after the cut."""
    scale = std / TRUNCATED_STD
    return TruncatedNormal(0.0, scale, -2 * scale, 2 * scale) if scale else Constant(0.0)


def _scaled(numerator: float, n: float, distribution: str = "truncated_normal") -> Law:
    """Return the law of variance numerator / n."""
    return _of_std(sqrt(numerator / n) if n else 0.0, distribution)


def _of_std(std: float, distribution: str) -> Law:
    if distribution == "truncated_normal":
        return _truncated(std)
    bound = sqrt(3.0) * std
    return Normal(0.0, std) if distribution == "normal" else Uniform(-bound, bound)


@register(
    purpose="layers",
    law="variance scale·(base / n)^exponent, by default scale / n, where n is fan_in, fan_out, "
    "their mean, or with fan_geo_avg their geometric mean; a truncated normal is cut off at 2 std "
    "and rescaled to this variance",
    example="variance_scaling:2,fan_avg,uniform",
    defined="2 dimensions or more; any with fan",
    paper="Yang, Hu, Babuschkin, Sidor, Liu, Farhi, Ryder, Pachocki, Chen & Gao 2022, Tensor "
    "programs V: tuning large neural networks via zero-shot hyperparameter transfer, "
    "arXiv:2203.03466 (μP: exponent and base)",
)
def variance_scaling(
    shape: tuple[int, ...],
    both: Fans,
    *,
    scale: NonNegative = 1.0,
    mode: Mode = "fan_in",
    distribution: Annotated[
        str, Choice(("truncated_normal", "normal", "uniform"))
    ] = "truncated_normal",
    exponent: Annotated[float | None, Number(by_name=True)] = None,
    base: Annotated[float | None, Number(positive=True, by_name=True)] = None,
) -> Law:
    """Scale the variance by fans, as Keras, TensorFlow and JAX do.

    With `base`, a tensor of that fan has the variance `scale`, and wider ones have less:
    scale=4e-4,base=256,normal is a std of 0.02 at a width of 256 and of 0.01 at 1024, which is μP
    for hidden layers. With exponent=2 the variance of μP's output layer, scale / fan_in², results.
    """
    del shape
    n = both.by(mode)
    if n == 0 or (exponent is None and base is None):
        return _scaled(scale, n, distribution)
    of_width = 1.0 if exponent is None else exponent
    return _of_std(sqrt(power(scale, base or 1.0, n, of_width)), distribution)


@register(
    purpose="layers",
    law="a normal cut off at 2 std and rescaled to std = √(1 / fan_in)",
    example="lecun_normal",
    defined="2 dimensions or more; any with fan",
    paper=_LECUN,
)
def lecun_normal(shape: tuple[int, ...], both: Fans) -> Law:
    """Preserve variance (LeCun), as in timm, Keras and JAX."""
    del shape
    return _scaled(1.0, both.fan_in)


@register(
    purpose="layers",
    law="U(-bound, bound), bound = √(3 / fan_in)",
    example="lecun_uniform",
    defined="2 dimensions or more; any with fan",
    paper=_LECUN,
)
def lecun_uniform(shape: tuple[int, ...], both: Fans) -> Law:
    """Preserve variance (LeCun), uniform, as in Keras and JAX."""
    del shape
    return _scaled(1.0, both.fan_in, "uniform")


@register(
    purpose="layers",
    law="a normal cut off at 2 std and rescaled to std = √(2 / fan_in)",
    example="he_truncated",
    defined="2 dimensions or more; any with fan",
    paper="He, Zhang, Ren & Sun 2015, Delving deep into rectifiers: surpassing human-level "
    "performance on ImageNet classification, ICCV",
)
def he_truncated(shape: tuple[int, ...], both: Fans) -> Law:
    """Draw a truncated He normal, as Keras and JAX do."""
    del shape
    return _scaled(2.0, both.fan_in)


@register(
    purpose="layers",
    law="a normal cut off at 2 std and rescaled to std = √(2 / (fan_in + fan_out))",
    example="glorot_truncated",
    defined="2 dimensions or more; any with fan",
    paper="Glorot & Bengio 2010, Understanding the difficulty of training deep feedforward neural "
    "networks, AISTATS",
)
def glorot_truncated(shape: tuple[int, ...], both: Fans) -> Law:
    """Draw a truncated Xavier normal, as Keras and JAX do."""
    del shape
    return _scaled(2.0, both.fan_in + both.fan_out)
