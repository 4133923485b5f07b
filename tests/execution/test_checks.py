"""What is right passes, what is wrong fails, and the odds are bounds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy import integrate, stats

from reinit_cli import rewrite
from reinit_cli.errors import CheckFailedError, OutputError
from reinit_cli.execution.checks import Checker, Finding
from reinit_cli.initializers import REGISTRY, Array, Chance, Law, Site, parse_init
from reinit_cli.initializers.families.sparses import SparseNormal
from reinit_cli.initializers.law import Normal, Uniform
from reinit_cli.initializers.truncated import TruncatedNormal
from reinit_cli.planning.plan import Plan, Step
from reinit_cli.tensors.device import one_thread
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.moments import moments_of
from reinit_cli.tensors.rounding import elements_of_tensor
from tests.draws import draw, draw_blocks

LEAST_P = 1e-11


@pytest.fixture(autouse=True, scope="module")
def single() -> Iterator[None]:
    """On tensors as small as these, threads would only wait for each other."""
    with one_thread():
        yield


def _law(text: str, shape: Sequence[int]) -> Law:
    law = parse_init(text).law(tuple(shape), Site("layers.3.weight"))
    assert law is not None
    return law


def _tested(
    law: Law, blocks: Sequence[torch.Tensor], shape: Sequence[int] | None = None
) -> dict[str, Finding]:
    """Test given values against a law."""
    dims = tuple(blocks[0].shape if shape is None else shape)
    dtype = str(blocks[0].dtype).removeprefix("torch.")
    step = Step(TensorInfo("w", dtype, dims, 0), "fill", 0, law=law, seed_key="w")
    checker = Checker(step, LEAST_P)
    for block in blocks:
        elements = elements_of_tensor(block.reshape(-1))
        checker.see(elements, moments_of(elements))
    return {finding.test: finding for finding in checker.findings()}


def _failed(law: Law, values: torch.Tensor) -> list[str]:
    findings = _tested(law, [values])
    assert findings or values.numel() < 100
    return [name for name, finding in findings.items() if not finding.passed]


def _drawn(law: Law, shape: Sequence[int], seed: int = 0, dtype: str = "float32") -> torch.Tensor:
    return draw(law, tuple(shape), dtype, seed, "cpu")


RANDOM = [
    "uniform:a=-0.1,b=0.3",
    "uniform:a=1000,b=1000.5",
    "normal:std=0.02",
    "normal:mean=3,std=0.1",
    "normal:mean=100,std=0.0001",
    "normal:std=1e-30",
    "normal:std=1e-42",
    "normal:std=1e30",
    "normal:std=0",
    "trunc_normal:std=0.02",
    "trunc_normal:0,1,-1,1",
    "trunc_normal:0,1,-1,3",
    "trunc_normal:0,1,4,6",
    "trunc_normal:5,1,1,4",
    "trunc_normal:0,1,9,9.5",
    "trunc_normal:0,100000000,-1,1",
    "xavier_uniform:relu",
    "kaiming_normal:relu",
    "orthogonal:tanh",
    "orthogonal:0",
    "sparse:0.5",
    "sparse:1",
    "sparse:0,std=2",
    "he_truncated",
    "variance_scaling:2,fan_avg,uniform",
    "depth_scaled",
    "identity:std=0.01",
    "identity:gain=-30,std=2",
    "icnr:1",
    "block:parts=1,inner=orthogonal",
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (10, 10), (64, 50), (50, 64), (100, 300)])
@pytest.mark.parametrize("text", RANDOM)
def test_what_is_right_passes(text: str, shape: tuple[int, int], dtype: str) -> None:
    law = _law(text, shape)

    for seed in range(3):
        assert _failed(law, _drawn(law, shape, seed, dtype)) == []


_KERNELS = {"dirac": (16, 12, 3), "delta_orthogonal": (16, 12, 3), "bilinear": (12, 12, 4)}
"""The shapes for initializers of kernels."""


@pytest.mark.parametrize(
    "name",
    [
        each.name
        for each in REGISTRY
        if each.name not in ("keep", "default", "reset") and not each.stream
    ],
)
def test_every_initializer_passes_on_many_seeds(name: str) -> None:
    shape = _KERNELS.get(name, (20, 12))
    law = _law(REGISTRY[name].example, shape)

    for seed in range(100):
        findings = _tested(law, [_drawn(law, shape, seed)])

        assert findings
        assert all(finding.passed for finding in findings.values()), findings


@pytest.mark.parametrize("text", ["constant:nan", "constant:inf", "constant:0.1", "zeros"])
def test_a_constant_passes_for_itself_alone(text: str) -> None:
    law = _law(text, (3,))

    assert _failed(law, _drawn(law, (3,))) == []
    assert _failed(law, torch.tensor([0.5, 0.5, 0.5])) == ["value"]


def test_large_integers_are_checked_to_the_last() -> None:
    law = _law(f"constant:{2**53 + 1}", (3,))

    assert _failed(law, torch.full((3,), 2**53 + 1)) == []
    assert _failed(law, torch.full((3,), 2**53)) == ["value"]


LARGE = (400, 500)

WRONG: dict[str, tuple[str, Callable[[torch.Tensor], torch.Tensor], set[str]]] = {
    "normal too wide": ("normal", lambda w: w * 1.02, {"std"}),
    "normal too narrow": ("normal", lambda w: w * 0.98, {"std"}),
    "normal shifted": ("normal", lambda w: w + 0.02, {"mean"}),
    "uniform too wide": ("uniform:-1,1", lambda w: w * 1.02, {"bound", "std", "distribution"}),
    "uniform too narrow": ("uniform:-1,1", lambda w: w * 0.98, {"std", "distribution"}),
    "uniform shifted": ("uniform:-1,1", lambda w: w + 0.02, {"mean", "bound", "distribution"}),
    "truncated too wide": ("trunc_normal", lambda w: w * 1.02, {"bound", "std"}),
    "truncated unevenly, too narrow": (
        "trunc_normal:0,1,-1,3",
        lambda w: w * 0.97 + 0.03 * 0.2828,
        {"std", "distribution"},
    ),
    "another law of the same moments": (
        "normal",
        lambda w: (torch.rand_like(w) - 0.5) * math.sqrt(12),
        {"distribution"},
    ),
    "two signs of the same moments": ("normal", torch.sign, {"distribution"}),
    "sparse too wide": ("sparse:0.1", lambda w: w * 1.03, {"std"}),
    "sparse full": ("sparse:0.1", lambda w: w + (w == 0) * 0.01, {"zeros", "mean", "distribution"}),
    "orthogonal too long": ("orthogonal", lambda w: w * 1.001, {"orthogonality"}),
    "identity too wide": ("identity:gain=20,std=0.5", lambda w: w * 1.03, {"std"}),
    "identity shifted": ("identity:gain=20,std=0.5", lambda w: w + 0.03, {"mean"}),
    "blocks of another law": ("block:4,trunc_normal", lambda w: w * 1.02, {"bound", "std"}),
    "repeated rows too wide": ("icnr:2,normal", lambda w: w * 1.04, {"std"}),
    "repeated rows shifted": ("icnr:2,normal", lambda w: w + 0.04, {"mean"}),
    "rows that are not repeated": ("icnr:2,normal", lambda w: w.flip(1).add(w), {"std"}),
    "rows out of order": ("icnr:2,normal", lambda w: w.roll(1, 0), {"repetition"}),
    "parts that are not orthogonal": (
        "block:4,orthogonal",
        lambda w: w.roll(3, 0) + 0.001,
        {"orthogonality"},
    ),
    "orthogonal shifted": ("orthogonal", lambda w: w + 0.01, {"orthogonality", "mean"}),
}


@pytest.mark.parametrize(("text", "spoil", "fails"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_fails(
    text: str, spoil: Callable[[torch.Tensor], torch.Tensor], fails: set[str]
) -> None:
    torch.manual_seed(0)
    law = _law(text, LARGE)

    assert fails <= set(_failed(law, spoil(_drawn(law, LARGE))))


@pytest.mark.parametrize("text", ["normal", "uniform:-1,1", "trunc_normal:0,1,-1,3"])
def test_what_is_no_number_fails(text: str) -> None:
    law = _law(text, LARGE)
    for number in (math.nan, math.inf, -math.inf):
        spoiled = _drawn(law, LARGE)
        spoiled[3, 4] = number

        assert {"mean", "std"} <= set(_failed(law, spoiled))


@pytest.mark.parametrize(
    "text", ["uniform:-1,1", "trunc_normal:std=0.5,a=-1,b=1", "xavier_uniform"]
)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("shape", [(3, 2), LARGE], ids=str)
def test_one_element_beyond_the_bound_fails(text: str, sign: int, shape: tuple[int, int]) -> None:
    law = _law(text, shape)
    spoiled = _drawn(law, shape)
    spoiled[1, 1] = sign * law.high * 1.001

    assert _failed(law, spoiled) == ["bound"]


def _twice_a_column(w: torch.Tensor) -> None:
    w[:, 3] = w[:, 2]


def _twice_a_row(w: torch.Tensor) -> None:
    w[3] = w[2]


def _correlated(w: torch.Tensor) -> None:
    w[:, 3] = 0.1 * w[:, 2] + math.sqrt(0.99) * w[:, 3]
    w[3] = 0.1 * w[2] + math.sqrt(0.99) * w[3]


def _no_number(w: torch.Tensor) -> None:
    w[3, 3] = math.nan


@pytest.mark.parametrize("shape", [(6, 6), (300, 40), (40, 300), (300, 300)], ids=str)
@pytest.mark.parametrize("spoil", [_twice_a_column, _twice_a_row, _correlated, _no_number])
def test_what_is_not_orthogonal_fails(
    spoil: Callable[[torch.Tensor], None], shape: tuple[int, int]
) -> None:
    law = _law("orthogonal", shape)
    spoiled = _drawn(law, shape)
    spoil(spoiled)

    assert "orthogonality" in _failed(law, spoiled)


@pytest.mark.parametrize(
    ("text", "shape"), [("eye", (5, 7)), ("dirac", (4, 6, 3, 2)), ("dirac:groups=2", (4, 6, 3))]
)
def test_every_single_change_of_an_identity_fails(text: str, shape: tuple[int, ...]) -> None:
    law = _law(text, shape)
    right = _drawn(law, shape)

    for at in itertools.product(*map(range, shape)):
        spoiled = right.clone()
        spoiled[at] = 0.5

        assert _failed(law, spoiled) == ["ones"]


def test_a_column_with_too_few_zeros_fails() -> None:
    law = _law("sparse:0.5", (8, 4))
    spoiled = _drawn(law, (8, 4))
    spoiled[(spoiled[:, 2] == 0).nonzero()[0], 2] = 1e-3

    assert _tested(law, [spoiled])["zeros"].statistic == 1


@pytest.mark.parametrize("text", ["normal", "uniform", "orthogonal"])
def test_statistics_are_tested_from_a_hundred_elements_on(text: str) -> None:
    few, enough = (9, 11), (10, 10)

    assert "mean" not in _tested(_law(text, few), [_drawn(_law(text, few), few)])
    assert "mean" in _tested(_law(text, enough), [_drawn(_law(text, enough), enough)])


@pytest.mark.parametrize("text", ["normal:std=0.3", "uniform:-1,2", "constant:3"])
def test_blocks_are_tested_as_the_whole(text: str) -> None:
    shape = (700, 1000)
    law = _law(text, shape)

    whole = _tested(law, [_drawn(law, shape)])
    blocks = [block.clone() for block in draw_blocks(law, shape, "float32", 0, "cpu")]
    in_blocks = _tested(law, blocks, shape)

    assert len(blocks) > 1
    assert whole.keys() == in_blocks.keys()
    for name, finding in whole.items():
        assert in_blocks[name].statistic == pytest.approx(finding.statistic, rel=1e-6, abs=1e-9)


ORACLES = {
    Normal(0.5, 2.0): stats.norm(0.5, 2.0),
    Uniform(-1.0, 3.0): stats.uniform(-1.0, 4.0),
    TruncatedNormal(0.0, 1.0, -1.0, 3.0): stats.truncnorm(-1, 3),
    TruncatedNormal(0.0, 1.0, 9.0, 9.5): stats.truncnorm(9, 9.5),
    TruncatedNormal(1.0, 2.0, -9.0, -1.0): stats.truncnorm(-5, -1, 1.0, 2.0),
    TruncatedNormal(0.0, 0.02, -2.0, 2.0): stats.truncnorm(-100, 100, 0.0, 0.02),
}


@pytest.mark.parametrize(("law", "oracle"), ORACLES.items(), ids=map(str, ORACLES))
def test_a_law_knows_its_distribution(law: Law, oracle: stats.rv_continuous) -> None:
    for share in (0.0, 1e-6, 0.01, 0.3, 0.5, 0.9, 0.999, 1.0):
        x = oracle.ppf(share)

        assert law.cdf(x) == pytest.approx(oracle.cdf(x), rel=1e-7, abs=1e-15)
    assert law.mean == pytest.approx(oracle.mean(), rel=1e-6)
    assert law.std == pytest.approx(oracle.std(), rel=1e-6)


def test_a_sparse_law_has_a_step_at_zero() -> None:
    law = SparseNormal(10, 4, 2.0)

    assert law.cdf(-1.0) == pytest.approx(0.6 * stats.norm.cdf(-0.5))
    assert law.cdf(-1e-12) == pytest.approx(0.3)
    assert law.cdf(0.0) == pytest.approx(0.7)


def test_a_nearly_flat_law_keeps_its_deviation() -> None:
    """The formulas of the normal lose all digits there."""
    law = TruncatedNormal(0.0, 1e8, -1.0, 1.0)

    assert law.std == pytest.approx(1 / math.sqrt(3), rel=1e-9)
    assert law.cdf(0.5) == pytest.approx(0.75, rel=1e-9)


@pytest.mark.parametrize(
    "law",
    [
        TruncatedNormal(0.0, 1.0, *bounds)
        for bounds in [(-1, 1), (-1, 3), (0, 3), (4, 6), (-0.1, 0.2), (-3, -2.9), (-8, 1)]
    ],
    ids=str,
)
def test_the_spread_bounds_the_tails(law: TruncatedNormal) -> None:
    density = stats.truncnorm(law.low, law.high).pdf
    for t in (-20, -5, -1, -0.1, 0.1, 1, 5, 20):
        found, _ = integrate.quad(
            lambda x, t=t: density(x) * math.exp(t * (x - law.mean)), law.low, law.high
        )

        assert math.log(found) <= t * t * law.spread**2 / 2 * (1 + 1e-6) + 1e-9
    assert law.std <= law.spread <= law.scale


@pytest.mark.parametrize(
    ("law", "oracle"), list(ORACLES.items())[:3], ids=map(str, list(ORACLES)[:3])
)
def test_odds_are_bounds_of_the_exact_ones(law: Law, oracle: stats.rv_continuous) -> None:
    for seed in range(20):
        drawn = _drawn(law, (40, 40), seed, "float64") * (1 + seed / 100)
        values = drawn.flatten().numpy()
        found = _tested(law, [drawn])

        exact = stats.kstest(values, oracle.cdf)
        z = (values.mean() - oracle.mean()) / (oracle.std() / math.sqrt(values.size))
        assert exact.statistic - 0.01 <= found["distribution"].statistic <= exact.statistic + 1e-9
        assert found["distribution"].p >= exact.pvalue * (1 - 1e-9)
        assert found["mean"].p >= 2 * stats.norm.sf(abs(z)) * (1 - 1e-9)
        if isinstance(law, Normal):
            ratio = ((values - law.mean) ** 2).sum() / law.std**2
            tail = min(stats.chi2.cdf(ratio, values.size), stats.chi2.sf(ratio, values.size))
            assert found["std"].p >= tail
            assert found["std"].p < 30 * max(tail, 1e-300) ** 0.9


@pytest.mark.parametrize(
    "text",
    [
        "normal",
        "uniform",
        "trunc_normal",
        "trunc_normal:0,1,-1,3",
        "trunc_normal:0,1,4,6",
        "sparse:.3",
    ],
)
def test_false_alarms_are_no_more_frequent_than_said(text: str) -> None:
    """At odds that can be counted: of 400 right draws 20 may have p < 0.05, and chance."""
    law = _law(text, (10, 12))
    odds = [
        [
            finding.p
            for finding in _tested(law, [_drawn(law, (10, 12), seed)]).values()
            if finding.p is not None
        ]
        for seed in range(400)
    ]

    assert ((np.array(odds) < 0.05).sum(axis=0) <= 38).all()


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("icnr:2,normal", (12, 10)),
        ("icnr:2,uniform:-1;1", (12, 10)),
        ("icnr:3,orthogonal", (18, 7)),
        ("identity:gain=3,std=0.4", (10, 12)),
        ("identity:std=0.01", (6, 5, 2, 2)),
        ("delta_orthogonal", (9, 5, 3)),
        ("block:3,normal", (9, 13)),
        ("block:3,orthogonal", (15, 8)),
        ("block:2,trunc_normal:0;1;-1;3", (10, 13)),
        ("orthogonal:axes=bio", (5, 4, 6)),
    ],
)
def test_false_alarms_of_structures_are_no_more_frequent_than_said(
    text: str, shape: tuple[int, ...]
) -> None:
    law = _law(text, shape)
    odds = [
        [
            finding.p
            for finding in _tested(law, [_drawn(law, shape, seed)]).values()
            if finding.p is not None
        ]
        for seed in range(400)
    ]

    assert odds[0]
    assert ((np.array(odds) < 0.05).sum(axis=0) <= 38).all()


def _checkpoint() -> None:
    save_file({f"{name}.weight": torch.zeros(40, 50) for name in "abc"}, "m.safetensors")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every normal is drawn a quarter too wide."""

    def fill(self: Normal, values: Array, chance: Chance) -> None:
        chance.normal(values, self.mean, 1.25 * self.std)

    monkeypatch.setattr(Normal, "fill", fill)


def test_a_check_changes_no_byte() -> None:
    _checkpoint()

    rewrite("m.safetensors", ["a.*=normal", "b.*=orthogonal", "c.*=zeros"], "plain.safetensors")
    rewrite(
        "m.safetensors",
        ["a.*=normal", "b.*=orthogonal", "c.*=zeros"],
        "checked.safetensors",
        check=True,
    )

    assert Path("plain.safetensors").read_bytes() == Path("checked.safetensors").read_bytes()


def test_odds_are_shared_by_all_tests_of_a_run() -> None:
    _checkpoint()

    outcome = rewrite("m.safetensors", ["*=normal"], check=True)

    assert outcome.job.plan.least_p == pytest.approx(1e-9 / 9)
    assert [len(findings) for findings in outcome.findings.values()] == [3, 3, 3]


@pytest.mark.usefixtures("broken")
def test_a_failure_names_key_law_test_and_numbers() -> None:
    _checkpoint()

    with pytest.raises(CheckFailedError) as caught:
        rewrite("m.safetensors", ["b.*=normal:std=0.5"], check=True)

    said = str(caught.value)
    assert said.startswith("'b.weight' does not follow normal:mean=0.0,std=0.5: its std is 0.6")
    assert " where 0.5 was expected (p = " in said
    assert ", below 3.3e-10)" in said
    assert not Path("m-reinit.safetensors").exists()


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize("output", ["new.safetensors", "new.pt", "folder"])
def test_after_a_failure_there_is_nothing(output: str) -> None:
    _checkpoint()

    with pytest.raises(CheckFailedError):
        shard_nbytes = 10**6 if output == "folder" else None
        rewrite("m.safetensors", ["*=normal"], output, shard_nbytes=shard_nbytes, check=True)

    assert [path.name for path in Path().iterdir()] == ["m.safetensors"]


@pytest.mark.usefixtures("broken")
def test_after_a_failure_in_a_later_shard_there_is_nothing() -> None:
    _checkpoint()

    with pytest.raises(CheckFailedError, match=r"^'c\.weight'"):
        rewrite("m.safetensors", ["c.*=normal"], "folder", shard_nbytes=9000, check=True)

    assert [path.name for path in Path().iterdir()] == ["m.safetensors"]


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize("how", [{"in_place": True}, {"output": "old.safetensors", "force": True}])
def test_after_a_failure_what_was_there_is_whole(how: dict[str, object]) -> None:
    _checkpoint()
    old = Path(str(how.get("output", "m.safetensors")))
    old.write_bytes(Path("m.safetensors").read_bytes())
    before = old.read_bytes()

    with pytest.raises(CheckFailedError):
        rewrite("m.safetensors", ["*=normal"], check=True, **how)

    assert old.read_bytes() == before
    assert not list(Path().glob(".*reinit*"))


def test_a_stream_cannot_be_checked() -> None:
    _checkpoint()

    with pytest.raises(OutputError):
        rewrite("m.safetensors", ["*=normal"], "-", check=True)


def test_the_odds_of_a_run_are_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They count every step: for each tensor anew, a run of many would take the square of it."""
    save_file({f"{at}.weight": torch.zeros(2, 2) for at in range(50)}, "m.safetensors")
    asked = []
    least_p = Plan.least_p.fget
    monkeypatch.setattr(Plan, "least_p", property(lambda plan: asked.append(1) or least_p(plan)))

    rewrite("m.safetensors", ["*=normal"], check=True)

    assert len(asked) < 5
