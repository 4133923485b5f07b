"""The vectors that docs/reference publishes are those of exact arithmetic, and of the code."""

from __future__ import annotations

import json
import runpy
import struct
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from tests.pages import DOCS, PAGES, blocks_of
from tests.streams import slow_philox

PUBLISHED = json.loads((DOCS / "reference" / "philox-1.json").read_text("utf-8"))
KEYS = PUBLISHED["keys"]
FAR = 2**33 + 5


def floats(digits: list[str]) -> list[float]:
    return [struct.unpack(">f", bytes.fromhex(each))[0] for each in digits]


def test_the_files_are_what_the_code_draws() -> None:
    made = runpy.run_path(str(DOCS / "make_vectors.py"))["made"]()

    for name, text in made.items():
        assert (DOCS / name).read_text("utf-8") == text, "python docs/make_vectors.py writes it"


@pytest.mark.parametrize("text", KEYS)
def test_words_are_those_of_the_paper(text: str) -> None:
    key = int(KEYS[text]["philox key"], 16)

    for name, lane, at in (
        ("words", 0, 0),
        ("further words", 1, 0),
        (f"words from element {FAR}", 0, FAR),
    ):
        expected = [f"{slow_philox.word(key, at + i, lane):08x}" for i in range(8)]
        assert KEYS[text][name] == expected
    expected = [f"{slow_philox.long_word(key, i):016x}" for i in range(8)]
    assert KEYS[text]["words of places"] == expected
    assert KEYS[text]["permutation of 8"] == slow_philox.permutation(key, 8)


@pytest.mark.parametrize("text", KEYS)
def test_values_are_those_of_exact_arithmetic(text: str) -> None:
    key = int(KEYS[text]["philox key"], 16)

    for name, draw in {
        "normal(0, 1)": lambda i: slow_philox.normal(key, i, 0, 1),
        "normal(0.1, 0.02)": lambda i: slow_philox.normal(key, i, 0.1, 0.02),
        "uniform(-0.1, 0.1)": lambda i: slow_philox.uniform(key, i, -0.1, 0.1),
        "truncated(0, 0.02, -0.04, 0.04)": lambda i: slow_philox.truncated(
            key, i, 0, 0.02, -0.04, 0.04
        ),
    }.items():
        assert floats(KEYS[text][f"{name} float32"]) == [draw(i) for i in range(8)]


def test_normals_of_single_words_are_those_of_exact_arithmetic() -> None:
    words = PUBLISHED["normals of words"]

    assert floats(list(words.values())) == [
        slow_philox.normal_of_word(int(word, 16), 0, 1) for word in words
    ]


def test_the_functions_of_the_page_on_streams_give_the_published_digests() -> None:
    """They are an implementation of their own, of a dozen lines."""
    blocks = [block.text for block in blocks_of(PAGES["explanation/seeds.md"])]
    defined: dict[str, Callable[..., Any]] = {}
    for name in ("def normal(", "def uniform("):
        (text,) = (text for text in blocks if name in text)
        exec(text.partition("drawn = ")[0].partition("body = ")[0], defined)
    digests = KEYS["7:embed.weight"]["SHA-256 of the first 1048576"]

    for name, values in {
        "normal(0.1, 0.02)": defined["normal"](7, "embed.weight", 2**20, 0.1, 0.02),
        "uniform(-0.1, 0.1)": defined["uniform"](7, "embed.weight", 2**20, -0.1, 0.1),
    }.items():
        assert sha256(values.tobytes()).hexdigest() == digests[f"{name} float32"]
