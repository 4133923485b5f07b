"""Print the digests of all kinds of draws of philox-1, with numpy alone and whatever its kernels.

    python tests/streams/kinds_of_draws.py

It runs as a process of its own, under another numpy or on another kind of processor.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Mapping
from hashlib import sha256

import numpy as np

from reinit_cli.initializers import parse_init
from reinit_cli.streams.philox.chance import PhiloxChance
from reinit_cli.streams.philox.normal import tables
from reinit_cli.streams.philox.stream import PhiloxStream
from reinit_cli.streams.philox.words import Words
from reinit_cli.tensors.narrow import NARROW
from reinit_cli.tensors.rounding import numbers, rounded

try:
    from numpy._core import _multiarray_umath as umath
except ImportError:  # before numpy 2
    from numpy.core import _multiarray_umath as umath

NUMEL = 70_001
FAR = 2**33 + 5

Draw = Callable[[PhiloxChance, np.ndarray], None]

DRAWS: Mapping[str, Draw] = {
    "normal(0, 1)": lambda chance, out: chance.normal(out, 0.0, 1.0),
    "normal(0.1, 0.02)": lambda chance, out: chance.normal(out, 0.1, 0.02),
    "uniform(-0.1, 0.1)": lambda chance, out: chance.uniform(out, -0.1, 0.1),
    "truncated(0, 0.02, -0.04, 0.04)": lambda c, out: c.truncated(out, 0.0, 0.02, -0.04, 0.04),
    "truncated(0, 1, -20, 20)": lambda c, out: c.truncated(out, 0.0, 1.0, -20.0, 20.0),
    "truncated(0, 1, 3, 4)": lambda c, out: c.truncated(out, 0.0, 1.0, 3.0, 4.0),
    "truncated(1, 2, -80, -60)": lambda c, out: c.truncated(out, 1.0, 2.0, -80.0, -60.0),
}

LAWS = ("log_uniform:0.001,0.1", "mamba_dt", "mamba_dt:a=1e-9,b=1000,floor=1e-6", "mamba_a:1,16")
MATRICES = ("unit_norm", "unit_norm:dim=1", "lora_orthogonal:A", "lora_orthogonal:B", "mamba_a")
"""Those that need more than a stream gives, as rules have them."""


def digests() -> dict[str, str]:
    """Return the SHA-256 of every kind of draw."""
    key = PhiloxStream().seed_for(7, "embed.weight")
    found = {"tables": digest(*tables())}
    for dtype in (np.float32, np.float64):
        for name, draw in DRAWS.items():
            for at in (0, FAR):
                out = np.empty(NUMEL, dtype)
                draw(PhiloxChance(key, at), out)
                found[f"{name} {dtype.__name__} from {at}"] = digest(out)
        for text in (*LAWS, *MATRICES):
            shape = (NUMEL,) if text in LAWS else (300, 16) if text.endswith("B") else (16, 300)
            law = parse_init(text).law(shape)
            assert law is not None
            out = np.empty(shape, dtype)
            law.fill(out, PhiloxChance(key))
            found[f"{text} {dtype.__name__}"] = digest(out)
    found["permutation"] = digest(PhiloxChance(key).permutation(NUMEL))
    anything = Words(key, 0).take(0, NUMEL).view("<f4")
    some = np.where(np.isnan(anything), np.float32(0), anything)  # the bits of a NaN are free
    for name in sorted(NARROW):
        cast = rounded(some, name)
        found[f"cast to {name}"] = digest(cast.array)
        found[f"{name} cast back"] = digest(numbers(cast))
    return found


def digest(*arrays: np.ndarray) -> str:
    """Return the SHA-256 of arrays, little-endian."""
    whole = sha256()
    for each in arrays:
        whole.update(each.astype(each.dtype.newbyteorder("<"), copy=False).tobytes())
    return whole.hexdigest()


def kernels() -> list[str]:
    """Return the features of the processor for which numpy has kernels and uses them."""
    return [name for name in umath.__cpu_dispatch__ if umath.__cpu_features__[name]]


if __name__ == "__main__":
    facts = {"numpy": np.__version__, "machine": platform.machine(), "kernels": kernels()}
    json.dump(facts | {"digests": digests()}, sys.stdout)
