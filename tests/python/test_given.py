"""What Python users hold in their hands is taken wherever a source or an option is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from reinit_cli import ReinitError, apply_, diff, plan, rewrite, stats, verify
from reinit_cli.cli import main
from reinit_cli.errors import SourceError, UnknownNameError


class _Model(nn.Module):
    """A model with a tie, a buffer, a transposed parameter and several dtypes."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(6, 4)
        self.norm = nn.BatchNorm1d(4)
        self.half = nn.Linear(4, 4).to(torch.bfloat16)
        self.turned = nn.Parameter(torch.arange(12.0).reshape(3, 4).T)
        self.lm_head = nn.Linear(4, 6, bias=False)
        self.lm_head.weight = self.embed.weight


@pytest.fixture
def model() -> _Model:
    torch.manual_seed(3)
    model = _Model()
    torch.save(model.state_dict(), "model.pt")
    return model


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


def _loaded(path: str) -> dict[str, bytes]:
    state = load_file(path) if path.endswith(".safetensors") else torch.load(path)
    return {key: _bytes(value) for key, value in state.items()}


HELD: dict[str, Callable[[_Model], Any]] = {
    "a module": lambda model: model,
    "a state dict": lambda model: model.state_dict(),
    "a plain dictionary": lambda model: dict(model.state_dict()),
    "a path": lambda _: Path("model.pt"),
}
RULES = {"embed.weight": "normal:std=0.02", "half.*": "zeros", "turned": "orthogonal"}


@pytest.mark.parametrize("held", HELD.values(), ids=HELD)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_what_is_in_memory_is_written_as_the_command_writes_the_saved_file(
    held: Callable[[_Model], Any], suffix: str, model: _Model
) -> None:
    rules = [word for rule in RULES.items() for word in ("-r", "=".join(rule))]
    assert main(["model.pt", *rules, "-o", f"by-command{suffix}", "-q", "--seed", "5"]) == 0

    rewrite(held(model), RULES, Path(f"from-python{suffix}"), seed=5)

    assert _loaded(f"from-python{suffix}") == _loaded(f"by-command{suffix}")


@pytest.mark.parametrize("held", HELD.values(), ids=HELD)
def test_what_is_in_memory_is_planned_measured_and_compared_as_the_saved_file(
    held: Callable[[_Model], Any], model: _Model
) -> None:
    given = held(model)

    assert [step.key for step in plan(given, RULES).fills] == [
        step.key for step in plan("model.pt", RULES).fills
    ]
    assert list(stats(given)) == list(stats("model.pt"))
    assert not [each for each in diff(given, "model.pt") if each.differs]
    with torch.no_grad():
        model.norm.weight[1] = 7
    torch.save(model.state_dict(), "changed.pt")
    assert [each.key for each in diff(given, "changed.pt") if each.differs] == (
        ["norm.weight"] if isinstance(given, Path) else []
    )


def test_tensors_in_memory_stay_as_they_are_while_a_checkpoint_is_written(model: _Model) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    threads, state = torch.get_num_threads(), torch.get_rng_state()

    rewrite(model, "*.weight=normal:std=0.02", "new.safetensors")

    after = model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_apply_gives_a_module_what_rewrite_writes_of_it(model: _Model) -> None:
    rewrite(model, RULES, "new.pt", seed=2)

    apply_(model, RULES, seed=2)

    assert {key: _bytes(value) for key, value in model.state_dict().items()} == _loaded("new.pt")


def test_default_follows_the_layers_of_a_module_that_is_written() -> None:
    model = nn.Sequential(nn.Linear(30, 40))
    rewrite(model, "*=default", "new.safetensors")

    apply_(model, "*=default")

    assert {key: _bytes(value) for key, value in model.state_dict().items()} == _loaded(
        "new.safetensors"
    )


def test_a_module_that_is_pickled_keeps_the_versions_of_its_layers(model: _Model) -> None:
    rewrite(model, RULES, "new.pt")

    assert torch.load("new.pt")._metadata == model.state_dict()._metadata


def test_a_record_of_what_was_in_memory_is_verified_against_it(model: _Model) -> None:
    rewrite(model, RULES, Path("new.safetensors"), record=Path("record.json"))

    assert verify(Path("new.safetensors"), source=model, record=Path("record.json")).holds
    with torch.no_grad():
        model.norm.weight[1] = 7
    assert not verify("new.safetensors", source=model, record="record.json").holds


@pytest.mark.parametrize("held", ["a module", "a state dict"])
def test_what_is_in_memory_needs_an_output(held: str, model: _Model) -> None:
    with pytest.raises(ReinitError, match="has no path to name an output after") as refused:
        rewrite(HELD[held](model), "*.weight=zeros")

    assert "apply_" in refused.value.hint


def test_a_path_is_a_file_even_where_its_name_is_that_of_a_model() -> None:
    save_file({"a": torch.ones(3)}, "alexnet")

    assert [each.key for each in stats(Path("alexnet"))] == ["a"]


@pytest.mark.parametrize("output", ["new/folder/new.pt", "new/folder/", "new/shards/"])
def test_missing_folders_are_made_as_the_command_makes_them(output: str, model: _Model) -> None:
    options = ["--shard-size", "100B"] if "shards" in output else []
    rule = ["-r", "half.weight=zeros"]
    assert main(["model.pt", *rule, "-o", f"command/{output}", *options, "-q"]) == 0

    shard_nbytes = 100 if options else None
    rewrite("model.pt", rule[1], f"python/{output}", shard_nbytes=shard_nbytes)

    assert _files("python") == _files("command")


def _files(folder: str) -> dict[str, bytes]:
    found = sorted(Path(folder).rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if path.is_file()}


def test_a_dry_run_returns_the_plan_and_writes_nothing(model: _Model) -> None:
    decided = rewrite("model.pt", RULES, "new.pt", dry_run=True)

    assert [step.key for step in decided.fills] == [
        step.key for step in plan("model.pt", RULES).fills
    ]
    assert not Path("new.pt").exists()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert apply_(model, RULES, dry_run=True).fills
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


DTYPES: dict[str, tuple[Any, dict[str, torch.dtype]]] = {
    "a dtype": (torch.float16, {"a": torch.float16, "b": torch.float16}),
    "a text": ("float16", {"a": torch.float16, "b": torch.float16}),
    "torch's text": ("torch.float16", {"a": torch.float16, "b": torch.float16}),
    "a dictionary": ({"b": torch.float16}, {"a": torch.float32, "b": torch.float16}),
    "a list": (["b=float16"], {"a": torch.float32, "b": torch.float16}),
}


@pytest.mark.parametrize(("given", "expected"), DTYPES.values(), ids=DTYPES)
def test_a_dtype_may_be_given_as_torch_has_it(
    given: Any, expected: Mapping[str, torch.dtype]
) -> None:
    rewrite({"a": torch.ones(2), "b": torch.ones(2)}, "a=zeros", "new.safetensors", dtype=given)

    assert {key: value.dtype for key, value in load_file("new.safetensors").items()} == expected


def test_a_device_may_be_given_as_torch_has_it() -> None:
    state = {"a": torch.ones(2)}

    apply_(state, "a=zeros", device=torch.device("cpu"))
    outcome = rewrite(state, "a=ones", "new.safetensors", device=torch.device("cpu"))

    assert not state["a"].any()
    assert outcome.job.request.device == "cpu"


@pytest.mark.parametrize("name", ["drop", "only", "rename", "resize", "patterns"])
def test_one_pattern_may_be_given_as_a_text(name: str) -> None:
    state = {"abc.x": torch.ones(4), "d": torch.ones(4)}
    if name == "patterns":
        assert [each.key for each in stats(state, "abc.*")] == ["abc.x"]
        assert [each.key for each in diff(state, state, "abc.*")] == ["abc.x"]
        return
    text = {"rename": "abc.x=y", "resize": "d=6:zeros"}.get(name, "abc.*")

    rewrite(state, [], "new.safetensors", **{name: text})  # type: ignore[misc]

    written = {key: len(value) for key, value in load_file("new.safetensors").items()}
    assert written == {
        "drop": {"d": 4},
        "only": {"abc.x": 4},
        "rename": {"y": 4, "d": 4},
        "resize": {"abc.x": 4, "d": 6},
    }.get(name)


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "a number as a source": (
        lambda: stats(5),  # type: ignore[arg-type]
        "a source must be a text, a path, a torch.nn.Module or a state dict, not an int",
    ),
    "a tensor as a source": (
        lambda: plan(torch.ones(2), "a=zeros"),  # type: ignore[arg-type]
        "not a Tensor",
    ),
    "a path as a target": (
        lambda: apply_("model.pt", "a=zeros"),  # type: ignore[arg-type]
        "what is changed in memory must be a torch.nn.Module or a state dict, not a str",
    ),
    "a number as an output": (
        lambda: rewrite("model.pt", "a=zeros", 5),  # type: ignore[call-overload]
        "output must be a text or a path, not an int",
    ),
    "a number as a dtype": (
        lambda: rewrite("model.pt", "a=zeros", "b.pt", dtype=16),  # type: ignore[call-overload]
        "dtype must be a text such as 'bfloat16' or a torch.dtype, not an int",
    ),
    "a number as a device": (
        lambda: apply_({"a": torch.ones(2)}, "a=zeros", device=0),  # type: ignore[arg-type]
        "device must be a text such as 'cuda' or a torch.device, not an int",
    ),
    "a text as a seed": (
        lambda: apply_({"a": torch.ones(2)}, "a=zeros", seed="1"),  # type: ignore[arg-type]
        "seed must be an integer, not a str",
    ),
    "a text as a rank": (
        lambda: rewrite("model.pt", "a=zeros", "b.pt", rank="1"),  # type: ignore[call-overload]
        "rank must be an integer, not a str",
    ),
    "a text as a timeout": (
        lambda: rewrite("model.pt", "a=zeros", "b.pt", timeout="9"),  # type: ignore[call-overload]
        "timeout must be a number of seconds, not a str",
    ),
    "another word as what is measured together": (
        lambda: stats({"a": torch.ones(2)}, by="layer"),  # type: ignore[arg-type]
        "by must be 'module' or an integer, not 'layer'",
    ),
    "a number as progress": (
        lambda: apply_({"a": torch.ones(2)}, "a=zeros", progress=1),  # type: ignore[arg-type]
        "progress must be True, False or a function, not an int",
    ),
    "a module as an optimizer": (
        lambda: apply_({"a": torch.ones(2)}, "a=zeros", optimizer=nn.Linear(1, 1)),  # type: ignore[arg-type]
        "optimizer must be a torch.optim.Optimizer, not a Linear",
    ),
    "an option that is misspelled": (
        lambda: rewrite("model.pt", "a=zeros", sed=3),  # type: ignore[call-overload]
        "rewrite() has no option 'sed'; did you mean 'seed'?",
    ),
}


@pytest.mark.parametrize(("call", "said"), WRONG.values(), ids=WRONG)
def test_what_is_of_another_type_is_one_line_that_says_what_is_taken(
    call: Callable[[], object], said: str
) -> None:
    with pytest.raises(TypeError, match=re.escape(said)) as refused:
        call()

    assert len(str(refused.value).splitlines()) == 1


def test_a_training_checkpoint_is_not_taken_for_a_state_dict() -> None:
    checkpoint = {"model": {"a": torch.ones(2)}, "epoch": 3}

    with pytest.raises(SourceError, match="the state dict has no tensors") as refused:
        apply_(checkpoint, "*=zeros")  # type: ignore[arg-type]

    assert refused.value.hint == "pass what is in it: ['model']"
    with pytest.raises(SourceError, match="must be a text, not None"):
        stats({None: torch.ones(2)})  # type: ignore[dict-item]
    with pytest.raises(SourceError, match="must be a text, not an int"):
        stats({0: torch.ones(2)})  # type: ignore[dict-item]


def test_numbers_of_numpy_are_seeds() -> None:
    numpy = pytest.importorskip("numpy")
    one, other = {"a": torch.ones(3)}, {"a": torch.ones(3)}

    apply_(one, "a=normal:std=1", seed=numpy.int64(4))
    apply_(other, "a=normal:std=1", seed=4)

    assert torch.equal(one["a"], other["a"])


def test_a_pattern_that_matches_nothing_is_an_error_with_the_nearest_keys() -> None:
    state = {"lm_head.weight": torch.ones(2), "lm_head.bias": torch.ones(2)}

    for call in (
        lambda: stats(state, "lm_head.wieght"),
        lambda: diff(state, state, "lm_head.wieght"),
    ):
        with pytest.raises(UnknownNameError) as refused:
            call()
        assert refused.value.hint == "did you mean 'lm_head.weight'?"


@pytest.mark.parametrize(
    ("former", "present"),
    [
        ("with_buffers", "reset_buffers"),
        ("refuse_unknown_globals", "safe_pickle"),
        ("drop_non_tensors", "tensors_only"),
        ("sync", "fsync"),
    ],
)
def test_former_names_of_options_give_the_same_file(former: str, present: str) -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    net[1].running_mean.fill_(7)  # type: ignore[operator, union-attr]
    torch.save(net.state_dict(), "model.pt")

    rewrite("model.pt", "1.weight=zeros", "a/new.pt", **{former: True})  # type: ignore[call-overload]
    rewrite("model.pt", "1.weight=zeros", "b/new.pt", **{present: True})  # type: ignore[call-overload]

    assert Path("a/new.pt").read_bytes() == Path("b/new.pt").read_bytes()
    has_reset = not torch.load("a/new.pt")["1.running_mean"].any()
    assert has_reset == (present == "reset_buffers")


def test_apply_still_takes_the_former_name_of_reset_buffers() -> None:
    nets = [nn.BatchNorm1d(3) for _ in range(2)]
    for net in nets:
        net.running_mean.fill_(7)  # type: ignore[operator, union-attr]

    apply_(nets[0], "weight=zeros", reset_buffers=True)
    apply_(nets[1], "weight=zeros", with_buffers=True)

    assert [net.running_mean.tolist() for net in nets] == [[0, 0, 0]] * 2  # type: ignore[union-attr]
