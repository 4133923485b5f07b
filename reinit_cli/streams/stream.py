"""Choose the random stream that a run draws from, by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from reinit_cli.errors import UnknownNameError
from reinit_cli.streams.chance import Chance
from reinit_cli.streams.philox.stream import PhiloxStream
from reinit_cli.streams.torch.stream import TorchStream


class Stream(Protocol):
    """A way from a seed and a key to random numbers, which never changes under its name."""

    @property
    def name(self) -> str:
        """Its exact name, such as "torch-1"."""

    @property
    def used_bits(self) -> int:
        """How many of the lowest bits of a key's seed its numbers depend on."""

    @property
    def is_indexed(self) -> bool:
        """Whether the numbers of any element can be had by themselves."""

    @property
    def needs_torch(self) -> bool:
        """Whether torch gives its numbers."""

    @property
    def seed_name(self) -> str:
        """What the seed of a key is called."""

    def seed_for(self, seed: int, key: str, transform: str = "") -> int:
        """Return the seed of one key, of 63 or 128 bits.

        Args:
            seed: the seed of the whole run.
            key: the state_dict key.
            transform: the name of the initializer if it is a transform, or "".
        """

    def chance(self, seed: int, device: str) -> Chance:
        """Return the numbers of one key, from the first on.

        Args:
            seed: what `seed_for` gave.
            device: where they may be made.
        """


STREAMS: Mapping[str, Stream] = MappingProxyType(
    {stream.name: stream for stream in (PhiloxStream(), TorchStream())}
)
"""Each stream by its exact name."""

FAMILIES: Mapping[str, str] = MappingProxyType({"philox": "philox-1", "torch": "torch-1"})
"""The exact name of the newest stream of each family."""

DEFAULT_STREAM = "philox-1"
"""The stream of a run that does not choose one."""

_EXACT = re.compile(r"([a-z]+)-[1-9][0-9]{0,8}", re.ASCII)


def stream_named(name: str) -> Stream:
    """Return a stream by its exact name, or the newest one of a family by the family's name.

    Raises:
        UnknownNameError: there is none; its kind is "newer stream" where a later version of
            reinit may have it.
    """
    exact = FAMILIES.get(name, name)
    if exact in STREAMS:
        return STREAMS[exact]
    found = _EXACT.fullmatch(name)
    if found and found[1] in FAMILIES:
        newest = FAMILIES[found[1]]
        raise UnknownNameError(name, newest, (newest,), kind="newer stream")
    raise UnknownNameError(name, known=(*FAMILIES, *STREAMS), kind="stream")


def seed_for(seed: int, key: str, name: str = "", *, stream: str = "torch") -> int:
    """Return the seed of one key's random stream: for torch's generator, in [0, 2^63).

    It is the first 8 bytes, little-endian, of the SHA-256 of "{seed}:{key}" in UTF-8, with the
    top bit cleared because `torch.Generator.manual_seed` takes a signed 64-bit integer.
    Transforms of existing values use "{seed}:{key}:{name}", so that noise never repeats the
    draw of the weights.

    >>> generator = torch.Generator().manual_seed(seed_for(0, "fc.weight"))
    >>> torch.nn.init.normal_(torch.empty(2), std=0.02, generator=generator)
    tensor([-0.0182,  0.0215])

    That of stream="philox" is the first 16 bytes: `numpy.random.Philox(key=...)` takes it.

    Args:
        seed: the seed of the run.
        key: the state_dict key.
        name: the name of the initializer if it is a transform, or "".
        stream: the random stream, by its exact name or that of its family.

    Raises:
        RuleError: the seed has too many digits.
        UnknownNameError: there is no such stream.
    """
    return stream_named(stream).seed_for(seed, key, name)


def seed_form(seed: int, stream: str) -> int | str:
    """Return the seed of one key as JSON has it: its numbers are exact up to 53 or 64 bits.

    Args:
        seed: the seed of the key.
        stream: the exact name of its stream.

    Returns:
        A number, or where a stream uses more than 64 bits, its hexadecimal digits.
    """
    bits = stream_named(stream).used_bits
    return seed if bits <= _JSON_BITS else f"{seed:0{bits // 4}x}"


_JSON_BITS = 64
