"""The random stream philox-1."""

from __future__ import annotations

from reinit_cli.lazy import dataclass
from reinit_cli.streams.chance import Chance
from reinit_cli.streams.seeds import digest_of


@dataclass(frozen=True, slots=True)
class PhiloxStream:
    """Philox4x64-10 with a key for each tensor, the same on every machine.

    Attributes:
        name: what records and plans call the way from a seed to values; another way would
            get another name.
        used_bits: how many of the lowest bits of a key's seed its numbers depend on.
        is_indexed: whether the numbers of any element can be had by themselves.
        needs_torch: whether torch gives its numbers.
        seed_name: what the seed of a key is called.
    """

    name: str = "philox-1"
    used_bits: int = 128
    is_indexed: bool = True
    needs_torch: bool = False
    seed_name: str = "Philox key"

    def seed_for(self, seed: int, key: str, transform: str = "") -> int:
        """Return the Philox key of a tensor, of 128 bits.

        It is the first 16 bytes, little-endian, of the SHA-256 of "{seed}:{key}", or of
        "{seed}:{key}:{transform}", in UTF-8.

        Args:
            seed: the seed of the whole run.
            key: the state_dict key.
            transform: the name of the initializer where it is a transform, or "".
        """
        return int.from_bytes(digest_of(seed, key, transform)[:16], "little")

    def chance(self, seed: int, device: str) -> Chance:
        """Return the numbers of a tensor, from its first element on.

        Args:
            seed: its Philox key.
            device: where they may be made; it never changes them.
        """
        if device != "cpu":
            from reinit_cli.streams.philox.device_chance import DeviceChance

            return DeviceChance(seed, device=device)
        from reinit_cli.streams.philox.chance import PhiloxChance

        return PhiloxChance(seed)
