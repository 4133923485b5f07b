"""Any source becomes a DCP folder with `--to dcp`, as one process would save it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reinit_cli import rewrite, verify
from reinit_cli.cli import main
from tests.checkpoints.formats.dcp.saved import flat_tensors, grid, load, save, save_alone
from tests.json_schema import check_json
from tests.tools import needs_torch, package


def _state() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)

    def drawn(*shape: int) -> Tensor:
        return torch.empty(shape).normal_(generator=generator)

    return {
        "emb.weight": drawn(10, 8),
        "layers.0.weight": drawn(6, 8).bfloat16(),
        "layers.0.bias": drawn(7),
        "conv.weight": drawn(4, 6, 3, 3).half(),
        "eight.weight": drawn(6, 8).to(torch.float8_e4m3fn),
        "scale": torch.tensor(2.5),
        "steps": torch.arange(5),
        "mask": torch.tensor([True, False]),
        "turns": torch.complex(drawn(3), drawn(3)),
        "none.weight": torch.empty(0, 4),
    }


def _raw(state: Mapping[str, Tensor]) -> dict[str, tuple[Any, ...]]:
    return {
        key: (each.dtype, tuple(each.shape), bytes(each.contiguous().untyped_storage()))
        for key, each in state.items()
    }


def _files(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _in_order_of(path: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file in the order of its header."""
    data = Path(path).read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    state = load_file(path)
    return {key: state[key] for key in header if key in state}


@pytest.mark.parametrize("root", ["", "model", "state.model"])
def test_it_is_what_torch_saves_from_one_process(root: str) -> None:
    needs_torch("2.9", ".metadata has a version")
    save_file(_state(), "m.safetensors")
    options = ["--root", root] if root else []
    assert main(["m.safetensors", "--to", "dcp", "-o", "seed", "-q", *options]) == 0

    nested: Mapping[str, Any] = _in_order_of("m.safetensors")
    for key in reversed(root.split(".") if root else []):
        nested = {key: nested}
    save_alone(Path("saved"), nested)
    assert _files("seed") == _files("saved")


def _sources() -> dict[str, str]:
    """Write one state dict in every format; return the source of each."""
    state = _state()
    save_file(state, "m.safetensors")
    torch.save(state, "t.pt")
    torch.save(state, "old.bin", _use_new_zipfile_serialization=False)
    Path("hf").mkdir()
    save_file(state, "hf/model.safetensors", {"format": "pt"})
    save(Path("dcp"), state, 4, grid)
    return {
        "safetensors": "m.safetensors",
        "torch": "t.pt",
        "old torch": "old.bin",
        "Hugging Face": "hf",
        "DCP of four ranks": "dcp",
    }


def test_every_format_gives_the_same_tensors_back() -> None:
    for name, source in _sources().items():
        out = f"out-{Path(source).stem}"
        rewrite(source, [], out, to="dcp")
        assert _raw(load(Path(out))) == _raw(_state()), name

        rewrite(out, [], f"{out}.safetensors")
        assert _raw(load_file(f"{out}.safetensors")) == _raw(_state()), name


def test_filled_values_are_those_of_the_unsharded_file() -> None:
    save_file(_state(), "m.safetensors")
    rules = ["*.weight=normal:std=0.02", "*.bias=scale:factor=3"]

    rewrite("m.safetensors", rules, "seed", to="dcp", seed=3)
    rewrite("m.safetensors", rules, "new.safetensors", seed=3)
    rewrite("m.safetensors", [], "plain", to="dcp", root="model")
    rewrite("plain", rules, "again", seed=3)

    want = _raw(load_file("new.safetensors"))
    assert _raw(load(Path("seed"))) == want
    assert _raw(load(Path("again"))["model"]) == want


def test_twice_gives_the_same_bytes_in_files_of_the_size() -> None:
    save_file(_state(), "m.safetensors")
    for out in ("one", "two"):
        command = ["m.safetensors", "-r", "*.bias=zeros", "--to", "dcp", "--shard-size", "400B"]
        assert main([*command, "-o", out, "-q"]) == 0

    assert _files("one") == _files("two")
    assert len(_files("one")) > 3
    state = _state()
    state["layers.0.bias"].zero_()
    assert _raw(load(Path("one"))) == _raw(state)


def test_casts_renames_and_resizes_apply() -> None:
    save_file(_state(), "m.safetensors")
    rewrite(
        "m.safetensors",
        [],
        "seed",
        to="dcp",
        only=["emb.*", "layers.*"],
        rename=["layers.*=blocks.*"],
        resize=["emb.weight=12:zeros"],
        dtype="bfloat16",
    )

    got = load(Path("seed"))
    assert {key: (each.dtype, tuple(each.shape)) for key, each in got.items()} == {
        "emb.weight": (torch.bfloat16, (12, 8)),
        "blocks.0.weight": (torch.bfloat16, (6, 8)),
        "blocks.0.bias": (torch.bfloat16, (7,)),
    }
    assert torch.equal(got["emb.weight"][:10], _state()["emb.weight"].bfloat16())
    assert not got["emb.weight"][10:].any()


def test_a_record_verifies_against_the_source(capsys: pytest.CaptureFixture[str]) -> None:
    save_file(_state(), "m.safetensors")
    command = ["m.safetensors", "-r", "*.weight=normal", "--to", "dcp", "--root", "model"]
    assert main([*command, "-o", "seed", "--record", "--shard-size", "300B", "-q"]) == 0
    assert main(["verify", "seed", "--source", "m.safetensors"]) == 0, capsys.readouterr()

    other = _state()
    other["steps"][0] = 9
    save_file(other, "other.safetensors")
    assert verify("seed", source="other.safetensors").findings

    path = Path("seed/__0_1.distcp")
    data = bytearray(path.read_bytes())
    data[704] ^= 1
    path.write_bytes(data)
    assert verify("seed").findings


def test_its_plan_is_a_recipe_for_the_same_folder(capsys: pytest.CaptureFixture[str]) -> None:
    save_file(_state(), "m.safetensors")
    command = ["m.safetensors", "-r", "*.weight=normal", "--to", "dcp", "--root", "model"]
    assert main([*command, "-o", "seed", "-n", "--json"]) == 0
    plan = capsys.readouterr().out
    check_json(plan, "", 0)
    assert not Path("seed").exists()
    Path("plan.json").write_text(plan)

    assert main(["--recipe", "plan.json", "-q"]) == 0
    assert main([*command, "-o", "other", "-q"]) == 0
    assert _files("seed") == _files("other")


def test_a_recipe_may_name_the_layout(capsys: pytest.CaptureFixture[str]) -> None:
    save_file(_state(), "m.safetensors")
    Path("r.toml").write_text('source = "m.safetensors"\nto = "dcp"\noutput = "seed"\n')
    assert main(["--recipe", "r.toml", "-q"]) == 0
    assert sorted(_files("seed")) == [".metadata", "__0_0.distcp"]

    Path("r.toml").write_text('source = "m.safetensors"\nto = "hf"\noutput = "new"\n')
    assert main(["--recipe", "r.toml", "-q"]) == 2
    said = "error: recipe 'r.toml': to must be \"dcp\", not 'hf'"
    assert capsys.readouterr().err.splitlines()[0] == said


def test_an_output_that_exists_is_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    save_file(_state(), "m.safetensors")
    command = ["m.safetensors", "--to", "dcp", "-o", "seed", "--skip-existing"]
    assert main([*command, "-q"]) == 0
    assert main(command) == 0
    assert sorted(_files("seed")) == [".metadata", "__0_0.distcp"]
    assert "skipped" in capsys.readouterr().err


def test_ties_become_two_pieces() -> None:
    shared = torch.ones(3, 4)
    torch.save({"a": shared, "b": shared}, "tied.pt")
    outcome = rewrite("tied.pt", [], "seed", to="dcp")

    assert any("'a' and 'b' are one tensor" in each for each in outcome.job.plan.warnings)
    assert _raw(load(Path("seed"))) == _raw({"a": shared, "b": shared})


def test_a_module_in_memory_is_saved() -> None:
    module = torch.nn.Linear(3, 2)
    rewrite(module, ["bias=zeros"], "seed", to="dcp", root="model")

    got = load(Path("seed"))["model"]
    assert torch.equal(got["weight"], module.weight)
    assert not got["bias"].any()


@pytest.mark.parametrize("root", [None, "model", "other"])
def test_the_rest_of_a_training_checkpoint_is_left_out_when_asked(
    root: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    state = _state()
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]}
    torch.save({"model": state, "optimizer": optimizer, "epoch": 3}, "t.pt")
    command = ["t.pt", "--to", "dcp", "-o", "seed", *(("--root", root) if root else ())]

    assert main(command) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("error: 'seed' cannot store optimizer (dict")
    assert said[1] == "hint: add --tensors-only to leave it out"
    assert not Path("seed").exists()

    assert main([*command, "--tensors-only"]) == 0
    notes = {
        None: "keys are at the top of the new folder; --root model keeps them under 'model'",
        "other": "the state dict is at 'model' in the source, and under 'other' in the output",
    }
    warnings = capsys.readouterr().err.splitlines()
    assert [note for note in notes.values() if f"warning: {note}" in warnings] == (
        [notes[root]] if root in notes else []
    )
    got = load(Path("seed"))
    assert _raw(got[root] if root else got) == _raw(state)


def test_files_of_a_folder_that_hold_no_weights_go_along() -> None:
    Path("hf").mkdir()
    save_file(_state(), "hf/model.safetensors", {"format": "pt"})
    Path("hf/config.json").write_text('{"hidden_size": 8}')
    rewrite("hf", [], "seed", to="dcp")

    assert sorted(_files("seed")) == [".metadata", "__0_0.distcp", "config.json"]
    assert _raw(load(Path("seed"))) == _raw(_state())


REFUSED: dict[str, tuple[list[str], str]] = {
    "a file": (
        ["m.pt", "-o", "x.safetensors"],
        "cannot write 'x.safetensors': --to writes a folder: name one without a suffix such as .pt",
    ),
    "standard output": (
        ["m.pt", "-o", "-"],
        "cannot write '-': --to writes a folder: name one without a suffix such as .pt",
    ),
    "in place": (
        ["m.pt", "--in-place"],
        "cannot write 'm.pt': --to writes a folder: name one without a suffix such as .pt",
    ),
    "what is there": (
        ["m.pt", "-o", "there"],
        "cannot write 'there/m': it is a folder, which is never replaced",
    ),
    "a root without a name": (
        ["m.pt", "--root", "a..b", "-o", "x"],
        "--root a..b has an empty name between its dots",
    ),
    "another layout": (
        ["m.pt", "-o", "x", "--to", "hf"],
        "invalid value for '--to': 'hf' is not 'dcp'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_a_line(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"a": torch.ones(3)}, "m.pt")
    Path("there").mkdir()
    Path("there/m").mkdir()
    Path("there/m/x").touch()
    arguments, problem = REFUSED[case]
    before = sorted(Path().rglob("*"))

    assert main(["--to", "dcp", *arguments]) == 2

    first = capsys.readouterr().err.splitlines()[0]
    assert problem in first
    assert sorted(Path().rglob("*")) == before


def test_a_new_folder_with_a_slash_is_the_output_and_an_existing_one_takes_it() -> None:
    torch.save({"a": torch.ones(3)}, "m.pt")
    assert main(["m.pt", "--to", "dcp", "-o", "seed/", "-q"]) == 0
    assert main(["m.pt", "--to", "dcp", "-o", "seed/", "-q"]) == 0
    assert sorted(str(path) for path in Path("seed").rglob("*")) == [
        "seed/.metadata",
        "seed/__0_0.distcp",
        "seed/m",
        "seed/m/.metadata",
        "seed/m/__0_0.distcp",
    ]


def test_several_sources_become_a_folder_each() -> None:
    torch.save({"a": torch.ones(3)}, "m.pt")
    torch.save({"a": torch.zeros(3)}, "n.pt")
    assert main(["m.pt", "n.pt", "--to", "dcp", "-o", "out/", "-q"]) == 0
    assert main(["m.pt", "n.pt", "--to", "dcp", "-q"]) == 0
    for folder in ("out/m", "m-reinit"):
        assert torch.equal(load(Path(folder))["a"], torch.ones(3))
    assert torch.equal(load(Path("out/n"))["a"], torch.zeros(3))


def test_standard_input_is_laid_out_under_a_root_that_it_need_not_have() -> None:
    for source in ({"a": torch.ones(3)}, {"model": {"a": torch.ones(3)}}):
        torch.save(source, "m.pt")
        command = [sys.executable, "-m", "reinit_cli", "-", "--to", "dcp", "--root", "model"]
        with Path("m.pt").open("rb") as file:
            done = subprocess.run([*command, "-o", "seed", "-fq"], stdin=file, check=False)
        assert done.returncode == 0
        assert flat_tensors(load(Path("seed"))).keys() == {"model.a"}


def test_it_is_written_to_a_store_and_read_from_there() -> None:
    fsspec = package("fsspec")
    save_file(_state(), "m.safetensors")
    rewrite("m.safetensors", ["*.weight=normal"], "memory://dcp/seed", to="dcp")
    rewrite("m.safetensors", ["*.weight=normal"], "seed", to="dcp")

    there = fsspec.filesystem("memory")
    assert {path.rpartition("/")[2]: there.cat(path) for path in there.find("/dcp")} == _files(
        "seed"
    )
    rewrite("memory://dcp/seed", [], "back.safetensors")
    assert _raw(load_file("back.safetensors")) == _raw(load(Path("seed")))


def test_torch_is_not_imported_to_write_it() -> None:
    save_file(_state(), "m.safetensors")
    code = (
        "import sys; from reinit_cli.cli import main;"
        "done = main(['m.safetensors', '--to', 'dcp', '-o', 'seed', '-q']);"
        "sys.exit(done or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


LOADING = """
import os
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

dist.init_process_group("gloo")
mesh = init_device_mesh("cpu", (dist.get_world_size(),))
for placement in (Shard(0), Shard(1), Replicate()):
    want = {key: each for key, each in load_file("m.safetensors").items() if each.ndim == 2}
    model = {
        key: distribute_tensor(torch.zeros_like(each), mesh, [placement])
        for key, each in want.items()
    }
    dcp.load({"model": model}, checkpoint_id="seed")
    for key, each in want.items():
        assert torch.equal(model[key].full_tensor(), each), (placement, key)
dist.barrier()
os._exit(0)  # gloo's threads may abort a process that ends as usual
"""


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_of_any_mesh_load_it(ranks: int) -> None:
    state = {"a": torch.randn(7, 10), "b": torch.randn(4, 5).bfloat16(), "c": torch.arange(6)}
    save_file(state, "m.safetensors")
    command = ["m.safetensors", "--to", "dcp", "--root", "model", "-o", "seed", "-q"]
    assert main([*command, "--shard-size", "100B"]) == 0

    Path("load.py").write_text(LOADING)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launch = [*launcher, "--nproc-per-node", str(ranks), "load.py"]
    done = subprocess.run(launch, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
