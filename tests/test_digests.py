"""CRC-32s of parts are those of the whole."""

from __future__ import annotations

import zlib

from hypothesis import given
from hypothesis import strategies as st

from reinit_cli.digests import crc32_joined


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_the_crc_of_two_parts_is_that_of_the_whole(first: bytes, second: bytes) -> None:
    joined = crc32_joined(zlib.crc32(first), zlib.crc32(second), len(second))

    assert joined == zlib.crc32(first + second)
