"""Several inputs or seeds in one process."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from reinit_cli import rewrite
from reinit_cli.errors import (
    InputError,
    MissingRuleError,
    OutputError,
    OutputExistsError,
    OutputTakenError,
    OutputUnwritableError,
    ReinitError,
    SourceError,
    UnknownNameError,
)
from reinit_cli.execution import budget
from reinit_cli.operations import rewrite as rewriting
from reinit_cli.operations.batch import (
    Failure,
    Result,
    plan_batch,
    read_list,
    requests_of,
    run_batch,
)
from reinit_cli.operations.rewrite import Outcome
from reinit_cli.request.partial import PartialRequest
from reinit_cli.request.request import Request
from reinit_cli.request.rule import Rule
from reinit_cli.threads import unwatched
from tests.tools import open_files

RULES = (Rule.parse("*.weight=normal:std=0.5"), Rule.parse("q.*=orthogonal"))


def _files(*names: str) -> None:
    for at, name in enumerate(names):
        generator = torch.Generator().manual_seed(at)
        state = {
            "a.weight": torch.randn(30, 20, generator=generator),
            "q.weight": torch.randn(20, 20, generator=generator),
            "a.bias": torch.randn(30, generator=generator),
        }
        os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        torch.save(state, name) if name.endswith(".pt") else save_file(state, name)


def _asked(*sources: str, **said: object) -> PartialRequest:
    return {"rules": RULES, "sources": sources, **said}  # type: ignore[typeddict-item]


def _requests(*sources: str, **said: object) -> tuple[Request, ...]:
    return requests_of(_asked(*sources, **said))


def _ignore(told: object) -> None:
    del told


def _run(requests: tuple[Request, ...], **how: object) -> list[Result]:
    results: list[Result] = []
    planned = plan_batch(requests, keeps_going=bool(how.get("keeps_going")))
    run_batch(planned, results.append, unwatched, **how)  # type: ignore[arg-type]
    return results


def _outputs(results: list[Result]) -> list[str | None]:
    return [each.job.destination.path for each in results if isinstance(each, Outcome)]


@pytest.mark.parametrize("at_once", [1, 3])
def test_every_output_is_what_a_run_of_its_own_writes(at_once: int) -> None:
    names = ("a.safetensors", "b.pt", "dir/c.safetensors", "d.pt")
    _files(*names)

    results = _run(_requests(*names, output="out/", seeds=(3,)), at_once=at_once)

    assert _outputs(results) == ["out/a.safetensors", "out/b.pt", "out/c.safetensors", "out/d.pt"]
    for name in names:
        os.makedirs("alone", exist_ok=True)
        alone = f"alone/{os.path.basename(name)}"
        rewrite(name, RULES, alone, seed=3)
        assert Path(alone).read_bytes() == Path(f"out/{os.path.basename(name)}").read_bytes()


def test_side_by_side_the_results_are_told_in_order_and_threads_are_set_back() -> None:
    names = [f"{at}.safetensors" for at in range(12)]
    _files(*names)
    before = torch.get_num_threads(), torch.get_rng_state()

    results = _run(_requests(*names, output="out/"), at_once=5)

    assert _outputs(results) == [f"out/{name}" for name in names]
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert not [each for each in threading.enumerate() if each.name.startswith("reinit")]


def test_runs_side_by_side_share_a_small_budget_and_none_waits_for_ever(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    names = [f"{at}.safetensors" for at in range(6)]
    _files(*names)
    monkeypatch.setattr(budget, "BUDGET", budget._Budget(1))
    streamed = replace(_requests("0.safetensors")[0], output="-")

    results = _run((streamed, *_requests(*names[1:], output="out/")), at_once=6)

    rewrite("0.safetensors", RULES, "alone.safetensors")
    assert [type(each) for each in results] == [Outcome] * 6
    assert capfdbinary.readouterr().out == Path("alone.safetensors").read_bytes()
    assert budget.BUDGET.taken == 0


def test_models_side_by_side_are_built_as_alone() -> None:
    """They are built from torch's global generator, which all threads share."""
    for seed in (0, 1):
        rewrite("squeezenet1_1", ["*=keep"], f"alone{seed}.safetensors", weights="none", seed=seed)
    asked = PartialRequest(
        rules=(Rule.parse("*=keep"),),
        sources=("squeezenet1_1",),
        output="m{seed}.safetensors",
        weights="none",
        seeds=(0, 1),
    )

    results = _run(requests_of(asked), at_once=2)

    assert _outputs(results) == ["m0.safetensors", "m1.safetensors"]
    for seed in (0, 1):
        assert (
            Path(f"m{seed}.safetensors").read_bytes()
            == Path(f"alone{seed}.safetensors").read_bytes()
        )


NAMES = {
    "beside the sources": ({}, ["a-reinit.safetensors", "dir/b-reinit.pt"]),
    "in a folder": ({"output": "out/"}, ["out/a.safetensors", "out/b.pt"]),
    "in a folder that is there": ({"output": "dir"}, ["dir/a.safetensors"]),
    "by a form": (
        {"output": "{parent}/new-{name}"},
        ["./new-a.safetensors", "dir/new-b.pt"],
    ),
    "in folders by a form": (
        {"output": "{stem}/{seed}/m{suffix}"},
        ["a/0/m.safetensors", "b/0/m.pt"],
    ),
    "in a folder by a form of placeholders alone": (
        {"output": "out/{stem}{suffix}"},
        ["out/a.safetensors", "out/b.pt"],
    ),
    "by seed": (
        {"seeds": (1, 2)},
        [
            *("a-reinit-seed1.safetensors", "a-reinit-seed2.safetensors"),
            *("dir/b-reinit-seed1.pt", "dir/b-reinit-seed2.pt"),
        ],
    ),
    "by seed in a folder": (
        {"seeds": (1, 2), "output": "out/"},
        [
            *("out/a-seed1.safetensors", "out/a-seed2.safetensors"),
            *("out/b-seed1.pt", "out/b-seed2.pt"),
        ],
    ),
    "by seed in a folder of each seed": (
        {"seeds": (1, 2), "output": "{seed}/"},
        ["1/a.safetensors", "2/a.safetensors", "1/b.pt", "2/b.pt"],
    ),
    "as folders of shards": ({"shard_nbytes": 3000, "output": "out/"}, ["out/a", "out/b"]),
}


@pytest.mark.parametrize(("said", "outputs"), NAMES.values(), ids=NAMES)
def test_outputs_are_named(said: dict[str, object], outputs: list[str]) -> None:
    _files("a.safetensors", "dir/b.pt")
    sources = ["a.safetensors", "dir/b.pt"][: 1 if len(outputs) == 1 else 2]

    planned = plan_batch(_requests(*sources, **said))

    assert [job.destination.path for job in planned if not isinstance(job, Failure)] == outputs
    assert sorted(os.listdir()) == ["a.safetensors", "dir"]
    results: list[Result] = []
    run_batch(planned, results.append, unwatched)
    assert all(map(os.path.exists, outputs))
    assert len(results) == len(outputs)


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        (("a.safetensors", "./a.safetensors"), {}),
        (("a.safetensors", "dir/../a.safetensors"), {"output": "out/"}),
        (("a.safetensors", "link/a.safetensors"), {}),
        (("a.safetensors", "dir/b.pt"), {"output": "x.safetensors"}),
        (("a.safetensors",), {"output": "x.safetensors", "seeds": (0, 1)}),
        (("a.safetensors",), {"seeds": (0, 0)}),
        (("a.safetensors", "dir/b.pt"), {"output": "-"}),
    ],
)
def test_two_outputs_at_one_place_are_refused_before_anything_is_written(
    sources: tuple[str, ...], said: dict[str, object]
) -> None:
    _files("a.safetensors", "dir/b.pt")
    os.symlink(".", "link")
    before = sorted(os.listdir())

    with pytest.raises(OutputTakenError):
        plan_batch(_requests(*sources, **said), keeps_going=True)

    assert sorted(os.listdir()) == before


def test_an_output_that_another_input_reads_is_refused_even_with_force() -> None:
    _files("a.safetensors", "b.safetensors")
    requests = requests_of(
        _asked(
            "a.safetensors", "x/../b.safetensors", output="{stem}{seed}.safetensors", force=True
        ),
    )
    os.mkdir("x")
    os.link("b.safetensors", "a0.safetensors")

    with pytest.raises(OutputUnwritableError) as refused:
        plan_batch(requests)

    assert str(refused.value) == "cannot write 'a0.safetensors': another output is made from it"


def test_sources_are_replaced_in_place_each_once() -> None:
    _files("a.safetensors", "b.safetensors")
    asked = _asked("a.safetensors", "b.safetensors", in_place=True)
    results: list[Result] = []

    planned = plan_batch(requests_of(asked))
    run_batch(planned, results.append, unwatched)

    assert sorted(os.listdir()) == ["a.safetensors", "b.safetensors"]
    first, second = (load_file(f"{name}.safetensors") for name in "ab")
    assert torch.equal(first["a.weight"], second["a.weight"])
    with pytest.raises(OutputTakenError):
        plan_batch(requests_of(_asked("a.safetensors", "a.safetensors", in_place=True)))


@pytest.mark.parametrize("bad", ["missing.pt", "broken.safetensors", "there.safetensors"])
def test_what_is_wrong_with_one_input_stops_all_before_the_first_byte(bad: str) -> None:
    _files("a.safetensors", "there.safetensors")
    Path("broken.safetensors").write_bytes(b"junk")
    Path("there-reinit.safetensors").touch()
    before = sorted(os.listdir())

    with pytest.raises(InputError) as refused:
        plan_batch(_requests("a.safetensors", bad))

    assert isinstance(refused.value.cause, (SourceError, OutputExistsError))
    assert bad.partition(".")[0] in str(refused.value)
    assert sorted(os.listdir()) == before


def test_with_keep_going_the_others_are_written() -> None:
    _files("a.safetensors", "b.safetensors")

    results = _run(
        _requests("a.safetensors", "missing.pt", "b.safetensors", output="out/"), keeps_going=True
    )

    assert [isinstance(each, Failure) for each in results] == [False, True, False]
    assert sorted(os.listdir("out")) == ["a.safetensors", "b.safetensors"]


UNFIT = {
    "a resize that matches nothing": {"resize": ("head.bias=40:zeros",)},
    "no head to give other classes": {"num_classes": 7, "arch": "resnet18"},
    "no optimizer to reset": {"reset_optimizer": True},
}


@pytest.mark.parametrize("asked", UNFIT.values(), ids=UNFIT)
def test_whatever_does_not_fit_one_input_is_the_failure_of_that_input(
    asked: dict[str, object],
) -> None:
    _files("a.safetensors")
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(layer.parameters(), momentum=0.9)
    layer(torch.ones(2)).sum().backward()
    optimizer.step()
    more = {"q.weight": torch.ones(3, 3), "fc.weight": torch.ones(1000, 512)}
    state = {**layer.state_dict(), **more, "head.bias": torch.ones(30)}
    saved = optimizer.state_dict()
    saved["param_groups"][0]["param_names"] = ["weight", "bias"]
    torch.save(
        {"model": state, "optimizer": saved} if "reset_optimizer" in asked else state, "fits.pt"
    )

    results = _run(_requests("a.safetensors", "fits.pt", output="out/", **asked), keeps_going=True)

    assert [isinstance(each, Failure) for each in results] == [True, False]
    assert os.listdir("out") == ["fits.pt"]


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"device": "cuda:77"}, "device 'cuda:77' is not available"),
        ({"arch": "resnt18", "num_classes": 7}, "there is no torchvision model 'resnt18'"),
    ],
)
def test_a_name_that_is_wrong_for_all_inputs_stops_the_command(
    asked: dict[str, object], problem: str
) -> None:
    _files("a.safetensors", "b.safetensors")

    with pytest.raises(UnknownNameError, match=problem):
        plan_batch(_requests("a.safetensors", "b.safetensors", **asked), keeps_going=True)


def test_more_outputs_than_memory_holds_are_refused() -> None:
    """Sources and seeds of a recipe are multiplied."""
    asked = PartialRequest(sources=("a.pt",) * 1001, seeds=tuple(range(1000)))

    with pytest.raises(OutputError) as refused:
        requests_of(asked)

    assert str(refused.value) == (
        "1,001 sources and 1,000 seeds would make more than 1,000,000 outputs"
    )


def test_what_is_wrong_with_all_is_no_failure_of_one() -> None:
    _files("a.safetensors", "b.safetensors")
    asked = PartialRequest(sources=("a.safetensors", "b.safetensors"))

    with pytest.raises(MissingRuleError):
        plan_batch(requests_of(asked), keeps_going=True)


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.parametrize("keeps_going", [False, True])
def test_a_failure_of_a_run_leaves_what_was_committed(at_once: int, keeps_going: bool) -> None:
    names = ["a.safetensors", "b.safetensors", "c.safetensors"]
    _files(*names)
    planned = plan_batch(_requests(*names, output="out/"), keeps_going=keeps_going)
    save_file({"other": torch.zeros(1)}, "b.safetensors")
    results: list[Result] = []

    run_batch(planned, results.append, unwatched, keeps_going=keeps_going, at_once=at_once)

    failed = [each for each in results if isinstance(each, Failure)]
    assert [str(each.error) for each in failed] == [
        "'b.safetensors' changed while it was being read; nothing was written"
    ]
    done = [path for path in _outputs(results) if path]
    written = sorted(os.listdir("out")) if os.path.exists("out") else []
    assert written == [os.path.basename(path) for path in done]
    if keeps_going:
        assert done == ["out/a.safetensors", "out/c.safetensors"]
    elif at_once == 1:
        assert done == ["out/a.safetensors"]


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_folder_in_which_nothing_appears_is_removed_again(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _files("a.safetensors", "b.safetensors")
    planned = plan_batch(_requests("a.safetensors", "b.safetensors", output="x/y/{seed}/"))

    def fail(*_: object, **__: object) -> None:
        raise ReinitError("no")

    monkeypatch.setattr(rewriting, "execute", fail)
    run_batch(planned, _ignore, unwatched, at_once=at_once)

    assert sorted(os.listdir()) == ["a.safetensors", "b.safetensors"]


def test_a_bug_in_one_of_several_threads_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    _files("a.safetensors", "b.safetensors")
    planned = plan_batch(_requests("a.safetensors", "b.safetensors", output="out/"))
    monkeypatch.setattr(rewriting, "execute", lambda *_, **__: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        run_batch(planned, _ignore, unwatched, at_once=2)


def test_planning_holds_no_files_open() -> None:
    names = [f"{at}.safetensors" for at in range(40)]
    _files(*names)
    before = len(open_files())

    planned = plan_batch(_requests(*names))

    assert len(open_files()) == before
    assert len(planned) == 40


def test_a_list_has_a_path_on_each_line_or_before_each_nul() -> None:
    Path("lines").write_bytes(b"a b.pt\n\n./c\xff.pt\nlast")
    Path("nuls").write_bytes(b"a\nb.pt\0\0c.pt")

    assert read_list("lines", ends_with_nul=False) == ("a b.pt", "./c\udcff.pt", "last")
    assert read_list("nuls", ends_with_nul=True) == ("a\nb.pt", "c.pt")
    with pytest.raises(SourceError, match="has a NUL, which -0 would take"):
        read_list("nuls", ends_with_nul=False)
    with pytest.raises(SourceError, match="cannot read the list 'missing': no such file"):
        read_list("missing", ends_with_nul=False)
