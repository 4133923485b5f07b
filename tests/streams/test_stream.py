"""Streams are chosen by their names."""

from __future__ import annotations

import hashlib

import pytest

from reinit_cli.errors import UnknownNameError
from reinit_cli.streams.stream import (
    DEFAULT_STREAM,
    FAMILIES,
    STREAMS,
    seed_for,
    seed_form,
    stream_named,
)


def test_every_stream_has_its_name() -> None:
    assert [stream.name for stream in STREAMS.values()] == list(STREAMS)


def test_a_family_means_its_newest_stream() -> None:
    for family, exact in FAMILIES.items():
        numbers = [int(name.removeprefix(f"{family}-")) for name in STREAMS if family in name]
        assert stream_named(family).name == exact == f"{family}-{max(numbers)}"


def test_the_default_is_an_exact_name() -> None:
    assert stream_named(DEFAULT_STREAM).name == DEFAULT_STREAM


@pytest.mark.parametrize("name", ["torsh", "torch-", "torch-01", "Torch", "", "jax-1", "torch-0"])
def test_an_unknown_stream_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown stream") as caught:
        stream_named(name)

    assert {*FAMILIES, *STREAMS} == set(caught.value.known)


@pytest.mark.parametrize("name", ["torch-2", "torch-10"])
def test_a_later_stream_of_a_known_family_is_newer(name: str) -> None:
    with pytest.raises(UnknownNameError, match=f"'{name}' is newer than this reinit") as caught:
        stream_named(name)

    assert caught.value.kind == "newer stream"


def test_a_short_seed_is_a_number_in_json() -> None:
    seed = seed_for(3, "fc.weight")

    assert seed_form(seed, "torch-1") == seed == stream_named("torch").seed_for(3, "fc.weight")
    assert seed_for(3, "fc.weight", "noise", stream="torch-1") == seed_for(3, "fc.weight", "noise")
    with pytest.raises(UnknownNameError):
        seed_for(3, "fc.weight", stream="torsh")


def test_a_long_seed_is_hexadecimal_digits_in_json() -> None:
    digest = hashlib.sha256(b"3:fc.weight").digest()
    seed = seed_for(3, "fc.weight", stream="philox")

    assert seed == int.from_bytes(digest[:16], "little")
    assert seed_form(seed, "philox-1") == digest[:16][::-1].hex()
    assert seed_form(5, "philox-1") == f"{5:032x}"
