"""The random stream whose numbers torch's own generators give."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reinit_cli.lazy import dataclass
from reinit_cli.streams.seeds import digest_of

if TYPE_CHECKING:
    from reinit_cli.streams.torch.chance import TorchChance


@dataclass(frozen=True, slots=True)
class TorchStream:
    """Torch's generators, each seeded for one key.

    Attributes:
        name: what records and plans call the way from a seed to values; another way would
            get another name.
        used_bits: how many of the lowest bits of a key's seed its generator for the CPU uses.
        seed_name: what the seed of a key is called.
        is_indexed: whether the numbers of any element can be had by themselves.
        needs_torch: whether torch gives its numbers.
    """

    name: str = "torch-1"
    used_bits: int = 32
    seed_name: str = "generator"
    is_indexed: bool = False
    needs_torch: bool = True

    def seed_for(self, seed: int, key: str, transform: str = "") -> int:
        """Return the seed of the generator of a key, in [0, 2^63).

        It is the first 8 bytes, little-endian, of the SHA-256 of "{seed}:{key}", or of
        "{seed}:{key}:{transform}", with the top bit cleared because
        `torch.Generator.manual_seed` takes a signed 64-bit integer.

        Args:
            seed: the seed of the whole run.
            key: the state_dict key.
            transform: the name of the initializer where it is a transform, or "".
        """
        return int.from_bytes(digest_of(seed, key, transform)[:8], "little") & (2**63 - 1)

    def chance(self, seed: int, device: str) -> TorchChance:
        """Return the numbers of a key, from the first on.

        Args:
            seed: the seed of the key.
            device: where they are drawn; values depend on it.
        """
        import torch

        from reinit_cli.streams.torch.chance import TorchChance

        return TorchChance(torch.Generator(device=device).manual_seed(seed))
