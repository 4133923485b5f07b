"""Write the vectors of philox-1, and the page that explains them: `make docs` runs it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np

from reinit_cli.streams.philox.buffers import Buffers
from reinit_cli.streams.philox.chance import PhiloxChance
from reinit_cli.streams.philox.normal import erfinv_of_words, scale_of, tables
from reinit_cli.streams.philox.stream import PhiloxStream
from reinit_cli.streams.philox.words import MORE_BITS, PLACES, VALUES, Words

REFERENCE = Path(__file__).parent / "reference"

TEXTS = ((7, "embed.weight", ""), (0, "", ""), (-1, "ä.weight", "noise"))
SHOWN = 8
MANY = 1 << 20
FAR = 2**33 + 5
EXTREME = (0, 1, 128, 0x7FFFFF7F, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFFFFE, 0xFFFFFFFF)

Draw = Callable[[PhiloxChance, np.ndarray], None]

DRAWS: Mapping[str, Draw] = {
    "normal(0, 1)": lambda chance, out: chance.normal(out, 0.0, 1.0),
    "normal(0.1, 0.02)": lambda chance, out: chance.normal(out, 0.1, 0.02),
    "uniform(-0.1, 0.1)": lambda chance, out: chance.uniform(out, -0.1, 0.1),
    "truncated(0, 0.02, -0.04, 0.04)": lambda c, out: c.truncated(out, 0.0, 0.02, -0.04, 0.04),
    "truncated(0, 1, 3, 4)": lambda chance, out: chance.truncated(out, 0.0, 1.0, 3.0, 4.0),
}


def vectors() -> dict[str, object]:
    """Return every vector; numbers are the hexadecimal digits of their bits."""
    return {
        "tables": _sha256(*tables()),
        "normals of words": {f"{word:08x}": _normal_of(word) for word in EXTREME},
        "keys": {
            _text(*each): _of_key(PhiloxStream().seed_for(*each), is_first=not at)
            for at, each in enumerate(TEXTS)
        },
    }


def _text(seed: int, key: str, transform: str) -> str:
    return f"{seed}:{key}:{transform}" if transform else f"{seed}:{key}"


def _of_key(key: int, *, is_first: bool) -> dict[str, object]:
    found: dict[str, object] = {
        "philox key": f"{key:032x}",
        "words": _hex(Words(key, VALUES).take(0, SHOWN)),
        "further words": _hex(Words(key, MORE_BITS).take(0, SHOWN)),
        "words of places": _hex(Words(key, PLACES).take(0, SHOWN, 64)),
        f"words from element {FAR}": _hex(Words(key, VALUES).take(FAR, SHOWN)),
    }
    for dtype in (np.float32, np.float64):
        for name, draw in DRAWS.items():
            found[f"{name} {dtype.__name__}"] = _hex(_drawn(draw, key, SHOWN, dtype))
    found[f"permutation of {SHOWN}"] = PhiloxChance(key).permutation(SHOWN).tolist()
    if is_first:
        found[f"SHA-256 of the first {MANY}"] = {
            **{
                f"{name} {dtype.__name__}": _sha256(_drawn(draw, key, MANY, dtype))
                for dtype in (np.float32, np.float64)
                for name, draw in DRAWS.items()
            },
            f"permutation of {MANY}, int64": _sha256(PhiloxChance(key).permutation(MANY)),
        }
    return found


def _drawn(draw: Draw, key: int, numel: int, dtype: type) -> np.ndarray:
    out = np.empty(numel, dtype)
    draw(PhiloxChance(key), out)
    return out


def _normal_of(word: int) -> str:
    value = np.empty(1, np.float32)
    erfinv_of_words(np.array([word], "<u4"), value, Buffers(1))
    return _hex(value * scale_of(1.0))[0]


def _hex(values: np.ndarray) -> list[str]:
    width = 2 * values.itemsize
    return [f"{bits:0{width}x}" for bits in values.view(f"u{values.itemsize}").tolist()]


def _sha256(*arrays: np.ndarray) -> str:
    whole = sha256()
    for each in arrays:
        whole.update(each.astype(each.dtype.newbyteorder("<"), copy=False).tobytes())
    return whole.hexdigest()


PAGE = """<!-- Made by docs/make_vectors.py from the code; `make docs` generates it. -->

# Vectors of philox-1

This page defines the stream philox-1 exactly, with vectors for people who implement it elsewhere. [Seeds and streams](../explanation/seeds.md) says what it is for, and has an implementation of 15 lines. [philox-1.json](philox-1.json) has all vectors, for several keys and dtypes: 8 values of each kind, and SHA-256 digests of a million.

All integers are little-endian, and all floats are IEEE 754. Each operation below is rounded by itself, to nearest even; a compiler must not fuse a product with a sum. f32(x) is the float32 nearest to x.

## Words

| | |
|---|---|
| Philox key | the first 16 bytes of SHA-256 of `SEED:KEY` in UTF-8, or of `SEED:KEY:NAME` for the transform NAME |
| block b of a lane | Philox4x64-10 of the counter (b, lane, 0, 0) with this key: 32 bytes |
| word of element i | four bytes of lane 0: those from byte 4 · (i mod 8) of block ⌊i / 8⌋ |
| further word of element i | the same four bytes of lane 1 |
| place word i | eight bytes of lane 2: those from byte 8 · (i mod 4) of block ⌊i / 4⌋ |

Elements count from 0 in row-major order. `numpy.random.Philox` adds one to its counter before it encrypts, so it starts at the counter before.

## float32

**Uniform in [low, high).** With step = f32(f32(high − low) · 2⁻²⁴), the value is the smaller of ⌊word / 2⁸⌋ · step + f32(low) and the float32 before f32(high), or f32(low) if that is larger.

**Normal.** Read the word as a signed integer x, and

- f = f32(x);
- x₀ = the bfloat16 nearest to f, with ties away from 0;
- u = |x₀ + ½| / 2³², z = Φ⁻¹(u), with z negated if x₀ < 0;
- y₀ = f32(z / √2), and d₀ = f32(√π · exp(z² / 2) / 2³²), where both are rounded from the exact values;
- e = (f − x₀) · d₀, and y = y₀ + (e · y₀ + 1) · e;
- the value is y · f32(std · √2) + f32(mean).

y₀ and d₀ depend on x₀ alone, so make tables of them. The SHA-256 of 65,536 values of y₀ and then as many of d₀, float32, each at the index of the upper 16 bits of x₀ (0 where no word is near it), is

```text
{tables}
```

**Truncated normal in [low, high].** Find the first word whose normal is not below f32(low), and the number n of words from there to the last whose normal is not above f32(high), both by bisection over [0, 2³²). The value is the normal of the word first + ⌊word · n / 2³²⌋, clamped to the bounds. If n < 2²⁴, it is computed as for float64, rounded once, and then clamped.

## float64

The word and the further word make 64 bits w, the word first.

**Uniform in [low, high).** As for float32, with ⌊w / 2¹¹⌋ and 2⁻⁵³.

**Normal.** Let v be w, or 2⁶⁴ − 1 − w if w ≥ 2⁶³. The normal is Φ⁻¹((v + ½) / 2⁶⁴), negated in the second case, times std, plus mean. Φ⁻¹ is Wichura's AS 241 (PPND16), with ln(x) = k · ln 2 + 2 · atanh((m − 1) / (m + 1)), where x = m · 2ᵏ and √½ ≤ m < √2, by the terms up to the power 21. The terms are added from the smallest on, and `reinit_cli/streams/philox/float64.py` has the order of all operations.

**Truncated normal.** With a = (low − mean) / std and b = (high − mean) / std, mirrored to (−b, −a) if a > 0: p(z) is the smallest float64 in (0, ½] whose Φ⁻¹ is not below z ≤ 0, and 1 − p(−z) above. The value is Φ⁻¹ of v · (p(b) − p(a)) + p(a), at most 1 − 2⁻⁵³, with v = (⌊w / 2¹¹⌋ + ½) · 2⁻⁵³, mirrored back, times std, plus mean, and clamped.

If a > 30 (or b < −30, then mirrored: a and b stand for −b and −a), probabilities come near to the smallest float64. The value is then low + t · std (or high − t · std), clamped. With H(t) = −ln(Q(a + t) / Q(a)), Q the upper tail of the normal, t solves H(t) = −ln(1 − v · (1 − exp(−H(b − a)))); or t = v · (b − a) if H(b − a) < 10⁻⁵. `reinit_cli/streams/philox/tail.py` has the steps in order.

## Permutations

Replace the low bits of n place words by their own numbers 0 … n − 1, as many bits as n − 1 has (at least one), and sort. The low bits are then the permutation.

`sparse` replaces the low bits of the place word of each element by its row, as many bits as the number of rows − 1 has (at least one). The zeros of a column are the elements with the smallest of these.

## Vectors

Of the seed 7 and the key `embed.weight`, as hexadecimal bits:

```text
{shown}
```

Normals with mean 0 and std 1 of single words, in float32:

```text
{extreme}
```

SHA-256 of the first {many:,} elements of the same key, little-endian:

```text
{digests}
```
"""


def page(found: dict[str, object]) -> str:
    """Return the page."""
    (of_key, *_) = found["keys"].values()
    digests = of_key[f"SHA-256 of the first {MANY}"]
    return PAGE.format(
        tables=found["tables"],
        shown="\n".join(_rows(of_key)),
        extreme="\n".join(f"{word}  {bits}" for word, bits in found["normals of words"].items()),
        many=MANY,
        digests="\n".join(f"{name:40} {digest}" for name, digest in digests.items()),
    )


def _rows(of_key: Mapping[str, object]) -> Iterator[str]:
    for name, values in of_key.items():
        if isinstance(values, list):
            text = [str(each) for each in values]
            half = len(text) // 2 if len(text[0]) > SHOWN else len(text)
            yield name
            yield "    " + " ".join(text[:half])
            if text[half:]:
                yield "    " + " ".join(text[half:])
        elif isinstance(values, str):
            yield f"{name}\n    {values}"


def made() -> dict[str, str]:
    """Return the text of each file, by its path in docs/."""
    found = vectors()
    return {
        "reference/philox-1.json": json.dumps(found, indent=1, ensure_ascii=False) + "\n",
        "reference/vectors.md": page(found),
    }


def main() -> None:
    """Write both files."""
    for name, text in made().items():
        (REFERENCE.parent / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
