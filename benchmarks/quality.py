"""Measure how good the numbers of philox-1 are: moments, distributions, and TestU01's SmallCrush.

    python benchmarks/quality.py [--every N] [PART ...]

`moments` goes through every Nth of the 2^32 words that a normal can come from (16 unless `--every`
says so; with 1 it takes some minutes), `distributions` tests three million values of each kind
of draw, and `smallcrush` tests the words of one key, of many keys and of many seeds. It needs
gcc and TestU01 (L'Ecuyer & Simard 2007), which Debian has as libtestu01-0-dev in non-free. Where
TestU01 is not installed, TESTU01 names the folder that has its `include` and `lib`.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy import special, stats

from reinit_cli.streams.philox.buffers import BLOCK_NUMEL, Buffers
from reinit_cli.streams.philox.chance import PhiloxChance
from reinit_cli.streams.philox.normal import erfinv_of_words, scale_of
from reinit_cli.streams.philox.stream import PhiloxStream
from reinit_cli.streams.philox.words import VALUES, Words

ALL_WORDS = 2**32
WORDS_OF_A_KEY = 64

SMALLCRUSH = r"""
#include <stdio.h>
#include <stdlib.h>
#include <testu01/unif01.h>
#include <testu01/bbattery.h>
static unsigned words[1 << 16];
static size_t at, count;
static unsigned next(void) {
    if (at == count) {
        at = 0;
        count = fread(words, 4, 1 << 16, stdin);
        if (!count) exit(3);
    }
    return words[at++];
}
int main(void) {
    bbattery_SmallCrush(unif01_CreateExternGenBits("philox-1", next));
    return 0;
}
"""


def moments(every: int) -> None:
    """Print moments, and the largest error of the distribution, over all or many words."""
    sums, worst, largest, turned = np.zeros(7), 0.0, 0.0, 0
    scratch, y = Buffers(BLOCK_NUMEL), np.empty(BLOCK_NUMEL, np.float32)
    count, last = 0, -math.inf
    for first in range(0, ALL_WORDS, BLOCK_NUMEL * every):
        words = np.arange(first, min(first + BLOCK_NUMEL * every, ALL_WORDS), every, np.uint64)
        out = y[: len(words)]
        erfinv_of_words(words.astype("<u4"), out, scratch)
        z = (out * scale_of(1.0)).astype(np.float64)
        turned += int(np.count_nonzero(np.diff(z, prepend=last) < 0))
        u = (words.astype(np.float64) + 0.5) / ALL_WORDS
        worst = max(worst, float(np.abs(special.ndtr(z) - u).max()))
        largest = max(largest, float(np.abs(z).max()))
        count, last = count + len(z), z[-1]
        power = np.ones_like(z)
        for order in range(1, 7):
            power *= z
            sums[order] += power.sum()
    mean, second, third, fourth, _, sixth = sums[1:] / count
    print(f"normals of {count:,} words, every {every}")
    print(f"  mean                          {mean:.1e}")
    print(f"  variance - 1                  {second - mean**2 - 1:.1e}")
    print(f"  third moment                  {third:.1e}")
    print(f"  fourth moment - 3             {fourth - 3:.1e}")
    print(f"  sixth moment - 15             {sixth - 15:.1e}")
    print(f"  largest error of the CDF      {worst:.1e}")
    print(f"  largest |z|                   {largest:.3f}")
    print(f"  words above the next one      {turned}", flush=True)


def distributions(numel: int = 3_000_000) -> None:
    """Print a Kolmogorov-Smirnov test of every kind of draw."""
    print(f"Kolmogorov-Smirnov, {numel:,} values each: sqrt(n) D, below 1.63 in 99 of 100")
    for dtype in (np.float32, np.float64):
        for name, draw, law in _laws():
            out = np.empty(numel, dtype)
            draw(PhiloxChance(PhiloxStream().seed_for(7, f"{name}.{dtype.__name__}")), out)
            found = stats.kstest(out.astype(np.float64), law.cdf).statistic * math.sqrt(numel)
            print(f"  {name + ', ' + dtype.__name__:40} {found:.2f}", flush=True)


def _laws() -> Iterator[tuple[str, Callable[[PhiloxChance, np.ndarray], None], stats.rv_frozen]]:
    yield "normal", lambda chance, out: chance.normal(out, 0.0, 1.0), stats.norm()
    yield "uniform", lambda chance, out: chance.uniform(out, 0.0, 1.0), stats.uniform()
    for low, high in ((-2.0, 2.0), (-0.5, 3.0), (3.0, 4.0), (-30.0, -20.0), (2.5, 2.6)):
        yield (
            f"normal in [{low:g}, {high:g}]",
            lambda chance, out, low=low, high=high: chance.truncated(out, 0.0, 1.0, low, high),
            stats.truncnorm(low, high),
        )


def _along_a_key() -> Iterator[np.ndarray]:
    words = Words(PhiloxStream().seed_for(0, "embed.weight"), VALUES)
    for at in range(0, 2**40, 2**16):
        yield words.take(at, 2**16)


def _across_keys() -> Iterator[np.ndarray]:
    for at in range(2**40):
        key = PhiloxStream().seed_for(0, f"layers.{at}.weight")
        yield Words(key, VALUES).take(0, WORDS_OF_A_KEY)


def _across_seeds() -> Iterator[np.ndarray]:
    for seed in range(2**40):
        yield Words(PhiloxStream().seed_for(seed, "weight"), VALUES).take(0, WORDS_OF_A_KEY)


def smallcrush() -> None:
    """Print what SmallCrush says of words along a key, across keys, and across seeds."""
    with tempfile.TemporaryDirectory() as folder:
        program = _compiled(folder)
        for name, words in {
            "along one key": _along_a_key(),
            f"{WORDS_OF_A_KEY} words of each key": _across_keys(),
            f"{WORDS_OF_A_KEY} words of each seed": _across_seeds(),
        }.items():
            print(f"SmallCrush, {name}: {_verdict(program, words)}", flush=True)


def _compiled(folder: str) -> str:
    source, program = Path(folder, "smallcrush.c"), str(Path(folder, "smallcrush"))
    source.write_text(SMALLCRUSH)
    flags = []
    if root := os.environ.get("TESTU01"):
        flags = [f"-I{root}/include", f"-L{root}/lib", f"-Wl,--disable-new-dtags,-rpath,{root}/lib"]
    libraries = ["-ltestu01", "-ltestu01probdist", "-ltestu01mylib", "-lm"]
    subprocess.run(["gcc", "-O2", "-o", program, source, *flags, *libraries], check=True)
    return program


def _verdict(program: str, words: Iterator[np.ndarray]) -> str:
    """Feed words to SmallCrush until it has enough, and return the lines of its summary."""
    with (
        tempfile.TemporaryFile() as printed,
        subprocess.Popen([program], stdin=subprocess.PIPE, stdout=printed) as tests,
    ):
        try:
            for each in words:
                tests.stdin.write(each.tobytes())
        except BrokenPipeError:
            tests.stdin = None
        if tests.wait():
            raise SystemExit("SmallCrush failed")
        printed.seek(0)
        summary = printed.read().decode().partition("Summary results")[2]
    number = re.search(r"Number of statistics:\s*(\d+)", summary)[1]
    verdict = "all passed" if "All tests were passed" in summary else summary
    return f"{number} statistics, {verdict}"


def main() -> None:
    """Measure some parts, or all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=16)
    parser.add_argument("parts", nargs="*", metavar="PART")
    asked = parser.parse_args()
    parts = {
        "moments": lambda: moments(asked.every),
        "distributions": distributions,
        "smallcrush": smallcrush,
    }
    for part in asked.parts or parts:
        parts[part]()


if __name__ == "__main__":
    sys.exit(main())
