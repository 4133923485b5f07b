"""The seed of a key is the published hash of it, whatever else is going on."""

from __future__ import annotations

import hashlib
import os
import pickle
import struct
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import reinit_cli
from reinit_cli.errors import RuleError
from reinit_cli.streams.stream import seed_for
from reinit_cli.streams.torch.stream import TorchStream

seeds = st.integers(min_value=-(2**70), max_value=2**70)
keys = st.text(st.characters(codec="utf-8"))


# The digests are those of `printf SEED:KEY | sha256sum`.
@pytest.mark.parametrize(
    ("seed", "key", "digest"),
    [
        (
            0,
            "features.0.weight",
            "7d4f5ef394f87398461c69cbe84ecc85d6ad65b7cd18d0c08ba2f10b1a1255b6",
        ),
        (3, "lm_head.weight", "8addea027c33e9cb60f067e65223e46743c8ca892db97211d808feb930a482d8"),
        (0, "", "ba768b331fd86cec803be04e56ab2b3d4c0e98ef4ee4fcd4e72ad7cce61a1d1f"),
        (0, "größe.weight", "522ff184af47bd1eeb7f8f40545602d623e1d3b79c76038b5e6bc89ee1432045"),
    ],
)
def test_the_seed_is_the_start_of_the_published_digest(seed: int, key: str, digest: str) -> None:
    first = bytes.fromhex(digest)[:8]

    assert seed_for(seed, key) == int.from_bytes(first, "little") % 2**63


@given(seeds, keys)
def test_the_seed_is_eight_little_endian_bytes_without_the_top_bit(seed: int, key: str) -> None:
    digest = hashlib.sha256(str(seed).encode("ascii") + b":" + key.encode("utf-8")).digest()
    (whole,) = struct.unpack_from("<Q", digest)

    assert seed_for(seed, key) in (whole, whole - 2**63)
    assert 0 <= seed_for(seed, key) < 2**63


@given(seeds, keys)
def test_torch_takes_every_seed_as_it_is(seed: int, key: str) -> None:
    generator = torch.Generator().manual_seed(seed_for(seed, key))

    assert generator.initial_seed() == seed_for(seed, key)


def test_half_of_a_surrogate_pair_is_hashed_as_a_pickle_has_it() -> None:
    assert b"half\xed\xb2\x80" in pickle.dumps("half\udc80", 2)
    digest = hashlib.sha256(b"0:half\xed\xb2\x80").digest()

    assert seed_for(0, "half\udc80") == int.from_bytes(digest[:8], "little") & (2**63 - 1)


def test_seed_and_key_are_separated() -> None:
    pairs = [(1, "2:a"), (12, ":a"), (12, "a"), (1, "2a"), (0, "a"), (0, "A"), (0, "a "), (-1, "a")]

    assert len({seed_for(*pair) for pair in pairs}) == len(pairs)


def test_ten_thousand_keys_have_ten_thousand_seeds() -> None:
    assert len({seed_for(0, f"layers.{index}.weight") for index in range(10_000)}) == 10_000


def test_the_stream_has_a_name() -> None:
    assert TorchStream().name == "torch-1"


_SCRIPT = """
import hashlib, torch
from reinit_cli import apply_, seed_for
state = {key: torch.empty(5, 4) for key in ("a.weight", "b.weight", "c.weight")}
apply_(state, ["{a,b,c}.weight=normal:std=1"])
drawn = b"".join(tensor.numpy().tobytes() for tensor in state.values())
print(seed_for(0, "a.weight"), hashlib.sha256(drawn).hexdigest())
"""


@pytest.mark.slow
def test_nothing_depends_on_the_hashes_of_python() -> None:
    told = {
        subprocess.run(
            [sys.executable, "-c", _SCRIPT],
            check=True,
            capture_output=True,
            timeout=60,
            env={
                **os.environ,
                "PYTHONHASHSEED": hash_seed,
                "PYTHONPATH": os.path.dirname(os.path.dirname(reinit_cli.__file__)),
            },
        ).stdout
        for hash_seed in ("0", "42")
    }

    assert len(told) == 1
    assert told.pop().split()[0] == str(seed_for(0, "a.weight")).encode()


def test_a_seed_of_too_many_digits_is_refused() -> None:
    most = sys.get_int_max_str_digits()

    assert seed_for(10**most - 1, "weight") >= 0
    with pytest.raises(RuleError, match="too many digits"):
        reinit_cli.apply_({"weight": torch.ones(2)}, ["*=normal"], seed=10**most)
    with pytest.raises(RuleError, match="too many digits"):
        reinit_cli.plan("alexnet", ["*.weight=normal"], seed=-(10**5000), weights="none")
