"""CRC-32s are zlib's, and those of parts are those of the whole."""

from __future__ import annotations

import runpy
import sys
import zlib

import pytest  # noqa: TC002 (a fixture's type is looked up)
from hypothesis import given
from hypothesis import strategies as st

from reinit_cli.storage import crc32 as digests
from reinit_cli.storage.crc32 import crc32, crc32_joined


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_the_crc_of_two_parts_is_that_of_the_whole(first: bytes, second: bytes) -> None:
    joined = crc32_joined(zlib.crc32(first), zlib.crc32(second), len(second))

    assert joined == zlib.crc32(first + second)


@given(st.binary(max_size=3000), st.binary(max_size=300))
def test_a_crc_is_that_of_zlib(first: bytes, second: bytes) -> None:
    assert crc32(memoryview(second), crc32(first)) == zlib.crc32(first + second)


def test_without_the_fast_library_zlib_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)

    assert runpy.run_path(digests.__file__)["crc32"] is zlib.crc32
