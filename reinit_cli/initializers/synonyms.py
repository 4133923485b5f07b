"""Know the words that other libraries, papers and habits have for torch's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_PREFIX = re.compile(r"(?:(?:torch|nn|init|functional|F)\.)+")
"""What people copy from code in front of a name: `torch.nn.init.`, `nn.`, `F.`."""

_NAMES = {
    "gaussian": "normal",
    "gauss": "normal",
    "randn": "normal",
    "rand": "uniform",
    "unif": "uniform",
    "zero": "zeros",
    "zeroes": "zeros",
    "one": "ones",
    "const": "constant",
    "fill": "constant",
    "full": "constant",
    "ortho": "orthogonal",
    "truncnorm": "truncnormal",
}
"""Names of initializers with one meaning, folded."""

_CHOICES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("he", "kaiming", "msra"), ("kaiming_normal", "kaiming_uniform")),
    **dict.fromkeys(("xavier", "glorot"), ("xavier_uniform", "xavier_normal")),
    "lecun": ("lecun_normal", "lecun_uniform"),
    **dict.fromkeys(("random", "randomnormal", "rng"), ("normal:std=0.02", "uniform:a=-0.1,b=0.1")),
    "randomuniform": ("uniform:a=-0.1,b=0.1",),
    "truncatednormal": ("trunc_normal:std=0.02,in_std",),
    **dict.fromkeys(("gpt", "gpt2", "bert", "llama", "t5"), ("normal:std=0.02",)),
    **dict.fromkeys(("skip", "freeze", "frozen", "ignore", "none", "same"), ("keep",)),
    "copy": ("rewind:step0.safetensors", "keep"),
    **dict.fromkeys(("load", "restore", "checkpoint"), ("rewind:step0.safetensors",)),
    **dict.fromkeys(("reinit", "resetparameters", "torch"), ("reset", "default")),
    "defaults": ("default",),
    **dict.fromkeys(("empty", "null", "clear"), ("zeros",)),
    "false": ("zeros",),
    "true": ("ones",),
    "nan": ("constant:nan",),
    "inf": ("constant:inf",),
    "norm": ("normal:std=0.02", "ones"),
    "n": ("normal:std=0.02",),
    "u": ("uniform:a=-0.1,b=0.1",),
    "lora": ("lora_orthogonal", "kaiming_uniform:a=2.2360679"),
    **dict.fromkeys(("mamba", "mamba2", "dtbias"), ("mamba_dt", "mamba_a")),
    "mup": ("variance_scaling:4e-4,base=256,normal",),
    **dict.fromkeys(("muon", "spectralnorm"), ("spectral",)),
    **dict.fromkeys(("ngpt", "unit", "unitrows", "hypersphere"), ("unit_norm",)),
    **dict.fromkeys(("array", "numpy", "npy"), ("values:bias.npy",)),
}
"""Names of no initializer, folded, and what may be meant."""

_OF_ARGUMENT = {
    **dict.fromkeys(("std", "mean"), "normal"),
    "val": "constant",
    "gain": "xavier_uniform",
    **dict.fromkeys(("mode", "nonlinearity"), "kaiming_normal"),
}
"""The initializer that is most often meant where only an argument is given."""

_ARGUMENTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("sigma", "stddev", "stdev", "sd", "scale"), ("std",)),
    **dict.fromkeys(("mu", "loc", "average"), ("mean",)),
    **dict.fromkeys(("low", "lo", "min", "minval", "lower", "dtmin"), ("a",)),
    **dict.fromkeys(("high", "hi", "max", "maxval", "upper", "dtmax"), ("b",)),
    "dtinitfloor": ("floor",),
    **dict.fromkeys(("value", "fillvalue"), ("val",)),
    **dict.fromkeys(("slope", "negativeslope"), ("a",)),
    **dict.fromkeys(
        ("activation", "act", "nonlin", "nonlinearity", "gain"), ("nonlinearity", "gain")
    ),
    **dict.fromkeys(("fanmode", "fan"), ("mode",)),
    "group": ("groups",),
}
"""Names of arguments, folded, and torch's, of which an initializer has one at most."""

_WORDS = {
    "swish": "silu",
    "leaky": "leakyrelu",
    "lrelu": "leakyrelu",
    "none": "linear",
    "identity": "linear",
    "logistic": "sigmoid",
    "yes": "true",
    "on": "true",
    "no": "false",
    "off": "false",
}
"""Nonlinearities and other words, folded."""


def bare(name: str) -> str:
    """Return a name without quotes, and without what code has in front of it."""
    stripped = name.strip().strip("\"'`").strip()
    return _PREFIX.sub("", stripped, count=1) if _PREFIX.match(stripped) else stripped


def folded(name: str) -> str:
    """Return a name in lower case without separators, as `LeakyReLU` and `leaky_relu` share it."""
    return re.sub(r"[-_ ]", "", bare(name).removesuffix("()")).lower()


def name_meant(name: str, known: Iterable[str]) -> str | None:
    """Return the only one of the known initializers that a name can mean, or None."""
    asked = folded(name)
    wanted = _NAMES.get(asked, asked)
    return next((each for each in known if folded(each) == wanted), None)


def initializers_offered(text: str) -> tuple[str, ...]:
    """Return what may be meant by the name of no initializer, as rules have it."""
    argument, equals, _ = text.partition("=")
    if equals:
        name = _OF_ARGUMENT.get(argument.strip())
        return () if name is None else (f"{name}:{text}",)
    return _CHOICES.get(folded(text.partition(":")[0]), ())


def argument_meant(name: str, known: Sequence[str]) -> str | None:
    """Return the only one of the known arguments that a name can mean, or None."""
    asked = folded(name)
    same = [each for each in known if folded(each) == asked]
    return next(iter((*same, *(each for each in _ARGUMENTS.get(asked, ()) if each in known))), None)


def word_meant(word: str, known: Sequence[str]) -> str | None:
    """Return the only one of the known words that a word can mean, or None."""
    if word in known:
        return word
    asked = folded(word)
    wanted = _WORDS.get(asked, asked)
    return next((each for each in known if folded(each) == wanted), None)
