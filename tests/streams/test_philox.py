"""philox-1 gives its published numbers, any run of them, on any thread."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reinit_cli.errors import PackageError, RuleError
from reinit_cli.streams.chance import Chance
from reinit_cli.streams.philox import normal as normals
from reinit_cli.streams.philox import tail
from reinit_cli.streams.philox.chance import PhiloxChance
from reinit_cli.streams.philox.stream import PhiloxStream
from reinit_cli.streams.philox.words import PLACES, Words
from tests.streams import slow_philox

VECTORS = json.loads((Path(__file__).parent / "philox_vectors.json").read_text())
KEY = 0x00D7BF09698B1FAD21AE35D029F089CD

keys = st.integers(0, 2**128 - 1)
elements = st.integers(0, 2**65)

Draw = Callable[[Chance, np.ndarray], None]
DRAWS: dict[str, tuple[Draw, type]] = {
    "normal(0, 1) float32": (lambda chance, out: chance.normal(out, 0.0, 1.0), np.float32),
    "normal(0.1, 0.02) float32": (lambda chance, out: chance.normal(out, 0.1, 0.02), np.float32),
    "uniform(-0.1, 0.1) float32": (lambda chance, out: chance.uniform(out, -0.1, 0.1), np.float32),
    "truncated(0, 0.02, -0.04, 0.04) float32": (
        lambda chance, out: chance.truncated(out, 0.0, 0.02, -0.04, 0.04),
        np.float32,
    ),
    "normal(0, 1) float64": (lambda chance, out: chance.normal(out, 0.0, 1.0), np.float64),
    "uniform(-0.1, 0.1) float64": (lambda chance, out: chance.uniform(out, -0.1, 0.1), np.float64),
}
MORE_DRAWS = {
    **DRAWS,
    "truncated at 3 and 4 std": (
        lambda chance, out: chance.truncated(out, 0.0, 1.0, 3.0, 4.0),
        np.float32,
    ),
    "truncated float64": (
        lambda chance, out: chance.truncated(out, 1.0, 2.0, 0.5, 8.0),
        np.float64,
    ),
    "truncated far out": (
        lambda chance, out: chance.truncated(out, 0.0, 1.0, -30.0, -20.0),
        np.float64,
    ),
    "truncated beyond probabilities": (
        lambda chance, out: chance.truncated(out, 0.0, 1.0, -60.0, -50.0),
        np.float64,
    ),
}


def drawn(draw: Draw, numel: int, element: int = 0, key: int = KEY, dtype=np.float32) -> np.ndarray:
    out = np.full(numel, np.nan, dtype)
    draw(PhiloxChance(key, element), out)
    return out


def bits(values: np.ndarray) -> list[int]:
    return values.view(f"u{values.itemsize}").tolist()


# --- from seed and key to words -------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in VECTORS if ":" in name])
def test_the_key_is_the_published_one(name: str) -> None:
    seed, _, key = name.partition(":")

    found = PhiloxStream().seed_for(int(seed), *key.split(":"))

    assert f"{found:032x}" == VECTORS[name]["philox_key"]
    assert found.to_bytes(16, "little") == hashlib.sha256(name.encode()).digest()[:16]


def test_a_seed_of_too_many_digits_is_refused() -> None:
    with pytest.raises(RuleError, match="too many digits"):
        PhiloxStream().seed_for(10**5000, "weight")


# The known answers that Random123 publishes for philox4x64-10 (kat_vectors).
@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, [0] * 2, "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"),
        (
            [2**64 - 1] * 4,
            [2**64 - 1] * 2,
            "87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0",
        ),
        (
            [0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89],
            [0x452821E638D01377, 0xBE5466CF34E90C6C],
            "a528f45403e61d95 38c72dbd566e9788 a5a1610e72fd18b5 57bd43b5e52b7fe6",
        ),
    ],
)
def test_the_oracle_gives_the_known_answers(counter: list[int], key: list[int], words: str) -> None:
    found = slow_philox.philox4x64(tuple(key), tuple(counter))

    assert " ".join(f"{each:016x}" for each in found) == words


@pytest.mark.parametrize("name", [name for name in VECTORS if ":" in name])
@pytest.mark.parametrize(("kind", "at"), [("words", 0), ("words from element 2^33 + 5", 2**33 + 5)])
def test_the_words_are_the_published_ones(name: str, kind: str, at: int) -> None:
    words = Words(int(VECTORS[name]["philox_key"], 16), 0).take(at, 8)

    assert [f"{word:08x}" for word in words.tolist()] == VECTORS[name][kind]


@given(keys, elements, st.integers(0, 2), st.integers(0, 20))
def test_words_of_32_bits_are_those_of_the_paper(key: int, at: int, lane: int, count: int) -> None:
    words = Words(key, lane).take(at, count)

    assert words.tolist() == [slow_philox.word(key, at + i, lane) for i in range(count)]


@given(keys, elements, st.integers(0, 20))
def test_words_of_64_bits_are_those_of_the_paper(key: int, at: int, count: int) -> None:
    words = Words(key, PLACES).take(at, count, 64)

    assert words.tolist() == [slow_philox.long_word(key, at + i) for i in range(count)]


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 50)), max_size=8))
def test_one_reader_reads_anywhere_in_any_order(places: list[tuple[int, int]]) -> None:
    words = Words(KEY, 1)
    whole = Words(KEY, 1).take(0, 150)

    assert all(np.array_equal(words.take(at, n), whole[at : at + n]) for at, n in places)


def test_a_lane_ends_before_the_next_begins() -> None:
    last = 2**67 - 8

    assert Words(KEY, 0).take(last, 8).tolist() == [
        slow_philox.word(KEY, last + i) for i in range(8)
    ]
    with pytest.raises(ValueError, match="fewer than"):
        Words(KEY, 0).take(last, 9)


# --- from words to values -------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in VECTORS if ":" in name])
@pytest.mark.parametrize("kind", DRAWS)
def test_the_numbers_are_the_published_ones(name: str, kind: str) -> None:
    draw, dtype = DRAWS[kind]
    key = int(VECTORS[name]["philox_key"], 16)

    values = drawn(draw, 8, key=key, dtype=dtype)

    assert [f"{each:0{2 * values.itemsize}x}" for each in bits(values)] == VECTORS[name][kind]


@given(keys, elements, st.floats(-10, 10), st.sampled_from([1.0, 0.02, 1e-3, 3.7, 0.0, 1e-44]))
@settings(max_examples=50, deadline=None)
def test_normals_are_those_of_exact_arithmetic(
    key: int, element: int, mean: float, std: float
) -> None:
    values = drawn(lambda chance, out: chance.normal(out, mean, std), 20, element, key)

    assert values.tolist() == [slow_philox.normal(key, element + i, mean, std) for i in range(20)]


@given(keys, elements, st.floats(-10, 10), st.sampled_from([1.0, 0.2, 3e-3, 0.0, 1e-30, 1e-44]))
@settings(max_examples=50, deadline=None)
def test_uniforms_are_those_of_exact_arithmetic(
    key: int, element: int, low: float, width: float
) -> None:
    high = low + width
    values = drawn(lambda chance, out: chance.uniform(out, low, high), 20, element, key)

    assert values.tolist() == [slow_philox.uniform(key, element + i, low, high) for i in range(20)]


@pytest.mark.parametrize(
    ("mean", "std", "low", "high"),
    [(0.0, 1.0, -2.0, 2.0), (0.1, 0.02, 0.0, 0.14), (0.0, 0.02, -9.0, 9.0), (0, 1, 1.5, math.inf)],
)
def test_truncated_normals_are_those_of_exact_arithmetic(
    mean: float, std: float, low: float, high: float
) -> None:
    values = drawn(lambda chance, out: chance.truncated(out, mean, std, low, high), 30, 13)

    expected = [slow_philox.truncated(KEY, 13 + i, mean, std, low, high) for i in range(30)]
    assert values.tolist() == expected


EXTREME = [0, 1, 2, 127, 128, 129, 2**31 - 129, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 2, 2**32 - 1]


class _GivenWords(Words):
    """Words that a test chooses."""

    def __init__(self, words: list[int]) -> None:
        super().__init__(0, 0)
        self.given = np.array(words, "<u4")

    def take(self, at: int, count: int, nbits: int = 32) -> np.ndarray:
        assert nbits == 32
        return self.given[at : at + count]


def of_words(draw: Draw, words: list[int], more: list[int] = (), dtype=np.float32) -> np.ndarray:
    chance, out = PhiloxChance(0), np.full(len(words), np.nan, dtype)
    chance._words, chance._more = _GivenWords(words), _GivenWords(list(more))
    draw(chance, out)
    return out


def test_the_normals_of_extreme_words_are_finite_and_exact() -> None:
    values = of_words(lambda chance, out: chance.normal(out, 0.0, 1.0), EXTREME)

    assert values.tolist() == [slow_philox.normal_of_word(word, 0.0, 1.0) for word in EXTREME]
    assert values[0] == pytest.approx(stats.norm.ppf(0.5 / 2**32), rel=1e-6)
    assert values[-1] == -values[0] == pytest.approx(6.338, abs=1e-3)
    assert np.abs(values[6:10]).max() < 1e-7


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("low", "high"),
    [(-0.1, 0.1), (0.0, 1.0), (-3.0, -2.0), (1.0, 1.0 + 2**-20), (-1.0, 0.0), (0.0, 1e-44)],
)
def test_a_uniform_reaches_its_lower_bound_and_never_its_upper_one(
    dtype: type, low: float, high: float
) -> None:
    words = [0, 2**32 - 1]
    values = of_words(lambda chance, out: chance.uniform(out, low, high), words, words, dtype)

    assert values[0] == dtype(low)
    assert dtype(low) <= values[1] < dtype(high)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [5.0, -0.25, 0.0, -0.0])
def test_bounds_that_are_equal_give_their_value(dtype: type, value: float) -> None:
    uniforms = drawn(lambda chance, out: chance.uniform(out, value, value), 100, dtype=dtype)
    truncated = drawn(
        lambda chance, out: chance.truncated(out, 0.0, 1.0, value, value), 100, dtype=dtype
    )

    assert set(uniforms.tolist()) == set(truncated.tolist()) == {value}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_zero_of_a_draw_has_a_sign_that_depends_on_the_processor(dtype: type) -> None:
    """`minimum` and `clip` may give either of two zeros; only +0 meets them."""
    for draw in (
        lambda chance, out: chance.uniform(out, -0.0, -0.0),
        lambda chance, out: chance.uniform(out, -0.0, 1e-320),
        lambda chance, out: chance.truncated(out, -0.0, 1e-320, -0.0, 1.0),
        lambda chance, out: chance.truncated(out, -0.0, 1e-320, -1.0, -0.0),
        lambda chance, out: chance.truncated(out, -0.0, 1.0, -0.0, -0.0),
        lambda chance, out: chance.normal(out, 0.0, 0.0),
    ):
        values = drawn(draw, 1000, dtype=dtype)
        assert not np.signbit(values[values == 0]).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normals_without_a_width_are_their_mean(dtype: type) -> None:
    assert set(drawn(lambda c, out: c.normal(out, 0.5, 0.0), 99, dtype=dtype).tolist()) == {0.5}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("low", "high", "value"), [(0, 1, 0.5), (0.75, 1, 0.75), (-1, 0.25, 0.25)])
def test_truncated_normals_without_a_width_are_the_mean_within_the_bounds(
    dtype: type, low: float, high: float, value: float
) -> None:
    values = drawn(lambda c, out: c.truncated(out, 0.5, 0.0, low, high), 99, dtype=dtype)

    assert set(values.tolist()) == {value}


def test_a_width_below_the_normal_numbers_gives_what_rounding_leaves() -> None:
    values = drawn(lambda chance, out: chance.normal(out, 0.0, 2e-45), 1000)

    assert set((np.abs(values) / np.float32(1e-45)).tolist()) <= {0, 1, 2, 3, 4, 5, 6, 7}
    assert len(set(values.tolist())) > 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_overflows_is_infinite_without_a_warning(dtype: type) -> None:
    largest = float(np.finfo(dtype).max)

    values = drawn(lambda chance, out: chance.normal(out, 0.0, largest), 1000, dtype=dtype)

    assert np.isinf(values).any()
    assert not np.isnan(values).any()


# --- float64 --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "quantile", [0.5, 0.4999, 0.4, 0.25, 0.0751, 0.0749, 1e-2, 1e-6, 1e-11, 1e-12, 1e-15, 2.0**-65]
)
def test_the_normals_in_float64_are_quantiles_to_fifteen_digits(quantile: float) -> None:
    mpmath = pytest.importorskip("mpmath")
    word = int(quantile * 2**64 - 0.5)
    values = of_words(
        lambda chance, out: chance.normal(out, 0.0, 1.0),
        [word >> 32, (2**64 - 1 - word) >> 32],
        [word % 2**32, (2**64 - 1 - word) % 2**32],
        np.float64,
    )

    with mpmath.workdps(40):
        u = (mpmath.mpf(word) + 0.5) / mpmath.mpf(2) ** 64
        exact = (
            mpmath.sqrt(2) * mpmath.erfinv(2 * u - 1)
            if u > 1e-10
            else mpmath.findroot(
                lambda z: mpmath.log(mpmath.ncdf(z)) - mpmath.log(u),
                float(stats.norm.ppf(float(u))),
            )
        )
        error = abs(values[0] - exact)
    assert error <= 4e-16 + 8e-16 * abs(values[0])
    assert values[1] == -values[0]


def test_a_float64_has_the_quantile_of_the_float32() -> None:
    single = drawn(DRAWS["normal(0, 1) float32"][0], 10_000)
    double = drawn(DRAWS["normal(0, 1) float64"][0], 10_000, dtype=np.float64)

    assert np.abs(single - double).max() < 2e-5


# --- truncated ------------------------------------------------------------------------------

BOUNDS = [
    (0.0, 1.0, -2.0, 2.0),
    (0.0, 1.0, -0.5, 3.0),
    (0.0, 1.0, 3.0, 4.0),
    (0.0, 1.0, -30.0, -20.0),
    (1.0, 2.0, 6.0, 6.2),
    (0.0, 1.0, 5.0, math.inf),
    (0.0, 1.0, -math.inf, -6.5),
    (0.0, 1.0, -math.inf, math.inf),
    (0.0, 1.0, -100.0, 100.0),
    (0.0, 1.0, 50.0, 60.0),
    (0.0, 0.02, -math.inf, -0.9),
    (-1.0, 1e-3, 0.0, 1e-4),
    (5.0, 1e-3, 0.0, 1e-9),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("mean", "std", "low", "high"), BOUNDS)
def test_a_truncated_normal_has_its_distribution(
    dtype: type, mean: float, std: float, low: float, high: float
) -> None:
    values = drawn(
        lambda chance, out: chance.truncated(out, mean, std, low, high), 50_000, dtype=dtype
    )
    law = stats.truncnorm((low - mean) / std, (high - mean) / std, mean, std)

    assert dtype(low) <= values.min() <= values.max() <= dtype(high)
    assert stats.kstest(values.astype(np.float64), law.cdf).pvalue > 1e-3


@pytest.mark.parametrize("b", [math.inf, 30.01, 30.0 + 3e-5])
def test_where_probabilities_end_another_method_gives_the_same_numbers(b: float) -> None:
    u = np.linspace(1e-6, 1 - 1e-6, 1001)

    near, far = tail._between(u.copy(), 30.0, b), tail._beyond(1 - u, 30.0, b)

    assert np.abs(near - 30.0 - far).max() < 1e-12


@pytest.mark.parametrize("low", [1e3, 1e8, 1e160, 1.7e308])
def test_however_far_out_the_bound_is_values_lie_at_it(low: float) -> None:
    values = drawn(
        lambda chance, out: chance.truncated(out, 0.0, 1e-2, low, math.inf), 99, dtype=np.float64
    )

    assert (values >= low).all()
    assert values.max() <= low * (1 + 1e-6)
    assert low > 1e3 or stats.kstest((values - low) * 1e7, stats.expon.cdf).pvalue > 1e-3


@pytest.mark.parametrize("kind", ["normal(0, 1) float32", "normal(0, 1) float64"])
def test_a_normal_has_its_distribution(kind: str) -> None:
    draw, dtype = DRAWS[kind]

    assert stats.kstest(drawn(draw, 100_000, dtype=dtype), stats.norm.cdf).pvalue > 1e-3


@pytest.mark.parametrize("kind", ["uniform(-0.1, 0.1) float32", "uniform(-0.1, 0.1) float64"])
def test_a_uniform_has_its_distribution(kind: str) -> None:
    draw, dtype = DRAWS[kind]
    law = stats.uniform(-0.1, 0.2)

    assert stats.kstest(drawn(draw, 100_000, dtype=dtype), law.cdf).pvalue > 1e-3


# --- any part, any thread -------------------------------------------------------------------


@pytest.mark.parametrize("kind", MORE_DRAWS)
@given(st.data())
@settings(max_examples=20, deadline=None)
def test_any_run_is_that_of_the_whole(kind: str, data: st.DataObject) -> None:
    draw, dtype = MORE_DRAWS[kind]
    numel = 70_001
    start = data.draw(st.integers(0, numel))
    count = data.draw(st.integers(0, numel - start) | st.integers(0, min(9, numel - start)))
    whole = drawn(draw, numel, dtype=dtype)

    assert bits(drawn(draw, count, start, dtype=dtype)) == bits(whole[start : start + count])


@pytest.mark.parametrize("kind", MORE_DRAWS)
@pytest.mark.parametrize("far", [2**33 - 3, 2**63 - 9, 2**64 + 5])
def test_a_run_may_lie_anywhere(kind: str, far: int) -> None:
    draw, dtype = MORE_DRAWS[kind]

    values = drawn(draw, 20, far, dtype=dtype)

    assert bits(values[7:]) == bits(drawn(draw, 13, far + 7, dtype=dtype))
    assert bits(values) != bits(drawn(draw, 20, dtype=dtype))


@pytest.mark.parametrize("kind", MORE_DRAWS)
def test_draws_follow_each_other(kind: str) -> None:
    draw, dtype = MORE_DRAWS[kind]
    chance = PhiloxChance(KEY)
    parts = [np.empty(numel, dtype) for numel in (5, 0, 3, 100, 32_768, 7)]
    for part in parts:
        draw(chance, part)

    assert bits(np.concatenate(parts)) == bits(drawn(draw, 32_883, dtype=dtype))
    assert chance.element == 32_883


def test_another_place_leaves_a_chance_where_it_is() -> None:
    chance = PhiloxChance(KEY)
    chance.at(1000).normal(np.empty(5, np.float32), 0.0, 1.0)

    assert chance.element == 0
    assert chance.is_indexed


def test_threads_do_not_disturb_each_other() -> None:
    parts = [(kind, start) for start in range(0, 400_000, 100_000) for kind in MORE_DRAWS]

    def part_of(part: tuple[str, int]) -> bytes:
        draw, dtype = MORE_DRAWS[part[0]]
        return drawn(draw, 100_000, part[1], dtype=dtype).tobytes()

    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(part_of, parts))

    assert together == list(map(part_of, parts))


def test_an_array_of_several_dimensions_is_filled_row_by_row() -> None:
    out = np.empty((3, 4, 5), np.float32)
    PhiloxChance(KEY).normal(out, 0.0, 1.0)

    assert bits(out.reshape(-1)) == bits(drawn(DRAWS["normal(0, 1) float32"][0], 60))


@pytest.mark.parametrize("out", [np.empty(4, np.int32), np.empty((4, 4), np.float32)[:, :2]])
def test_what_cannot_be_filled_in_place_is_refused(out: np.ndarray) -> None:
    with pytest.raises(TypeError, match="contiguous float32 or float64"):
        PhiloxChance(KEY).normal(out, 0.0, 1.0)


# --- permutations and torch -----------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in VECTORS if ":" in name])
def test_the_permutation_is_the_published_one(name: str) -> None:
    chance = PhiloxChance(int(VECTORS[name]["philox_key"], 16))

    assert chance.permutation(8).tolist() == VECTORS[name]["permutation of 8"]


@given(keys, st.integers(0, 300))
@settings(max_examples=30, deadline=None)
def test_a_permutation_is_the_order_of_the_words(key: int, numel: int) -> None:
    assert PhiloxChance(key).permutation(numel).tolist() == slow_philox.permutation(key, numel)


def test_permutations_follow_each_other() -> None:
    chance = PhiloxChance(KEY)
    first, second = chance.permutation(100_000), chance.permutation(100_000)

    assert first.dtype == np.int64
    assert np.array_equal(np.sort(first), np.arange(100_000))
    assert np.array_equal(second, PhiloxChance(KEY, 100_000).permutation(100_000))
    assert not np.array_equal(first, second)


def test_a_generator_of_torch_has_the_low_63_bits_of_the_key() -> None:
    chance = PhiloxChance(2**64 - 1)
    expected = torch.Generator().manual_seed(2**63 - 1)

    assert torch.equal(
        torch.rand(9, generator=chance.generator()), torch.rand(9, generator=expected)
    )
    assert torch.equal(
        torch.rand(9, generator=chance.generator()), torch.rand(9, generator=expected)
    )
    assert chance.at(5).generator().initial_seed() == 4


# --- the tables -----------------------------------------------------------------------------


def test_the_tables_are_the_published_ones() -> None:
    published = VECTORS["table SHA-256 (65536 values, then 65536 slopes, little-endian float32)"]
    values, slopes = normals.tables()

    assert hashlib.sha256(values.tobytes() + slopes.tobytes()).hexdigest() == published


def test_a_platform_that_makes_other_tables_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    right = normals._value_and_slope
    monkeypatch.setattr(
        normals,
        "_value_and_slope",
        lambda u: (math.nextafter(right(u)[0], 9) * (1 + 1e-7), right(u)[1]),
    )
    with pytest.raises(
        PackageError, match=r"^philox-1 cannot be drawn with this Python: its table"
    ):
        normals.tables.__wrapped__()
