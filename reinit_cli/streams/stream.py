"""Choose the random stream that a run draws from, by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from reinit_cli.errors import UnknownNameError
from reinit_cli.streams.torch import TorchStream


class Stream(Protocol):
    """A way from a seed and a key to random numbers, which never changes under its name."""

    @property
    def name(self) -> str:
        """Its exact name, such as "torch-1"."""

    @property
    def used_bits(self) -> int:
        """How many of the lowest bits of a key's seed its numbers depend on."""

    def seed_for(self, seed: int, key: str, transform: str = "") -> int:
        """Return the seed of one key.

        Args:
            seed: the seed of the whole run.
            key: the state_dict key.
            transform: the name of the initializer if it is a transform, or "".
        """


STREAMS: Mapping[str, Stream] = MappingProxyType(
    {stream.name: stream for stream in (TorchStream(),)}
)
"""Each stream by its exact name."""

FAMILIES: Mapping[str, str] = MappingProxyType({"torch": "torch-1"})
"""The exact name of the newest stream of each family."""

DEFAULT_STREAM = "torch-1"
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
