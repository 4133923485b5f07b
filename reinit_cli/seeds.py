"""Every key has its own random stream, and this is where it starts."""

from __future__ import annotations

import hashlib

STREAM = "torch-1"
"""Names the way from seed to values; another way would get another name."""


def seed_for(seed: int, key: str) -> int:
    """Return the seed of one key's generator, in [0, 2^63).

    The first 8 bytes, little-endian, of SHA-256 of "{seed}:{key}" in UTF-8, the top bit
    cleared, since `torch.Generator.manual_seed` takes a signed 64-bit integer.

    Args:
        seed: the seed of the whole run.
        key: the state_dict key.
    """
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "little") & (2**63 - 1)
