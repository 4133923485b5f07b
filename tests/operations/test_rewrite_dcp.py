"""A DCP folder is rewritten as the unsharded checkpoint is, whichever ranks wrote it."""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.filesystem import SerializationFormat

from reinit_cli import diff, rewrite, stats, verify
from reinit_cli.cli import main
from tests.checkpoints.formats.dcp.saved import (
    Box,
    Cut,
    along,
    columns,
    flat_tensors,
    grid,
    load,
    metadata_of,
    objects_of,
    rows,
    save,
    saved_again,
    slices_of,
    whole,
)

LAYOUTS: dict[str, tuple[int, Cut]] = {
    "one rank": (1, whole),
    "rows of two": (2, rows),
    "rows of four, some of them empty": (4, rows),
    "columns of three": (3, columns),
    "a grid of four": (4, grid),
    "inner dimensions": (2, along(1)),
    "each tensor on the last rank": (3, whole),
}


def _state() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)

    def drawn(*shape: int) -> Tensor:
        return torch.empty(shape).normal_(generator=generator)

    model = {
        "emb.weight": drawn(10, 8),
        "layers.0.weight": drawn(6, 8).bfloat16(),
        "layers.0.bias": drawn(7),
        "conv.weight": drawn(4, 6, 3, 3).half(),
        "eight.weight": drawn(6, 8).to(torch.float8_e4m3fn),
        "turned.weight": drawn(8, 6).T,
        "scale": torch.tensor(2.5),
        "norm.running_mean": drawn(5),
        "none.weight": torch.empty(0, 4),
    }
    return {"model": model, "step": 7, "args": {"lr": 0.1, "names": ["a", "b"]}}


def _raw(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_are_those_of_the_unsharded_file(layout: str) -> None:
    ranks, cut = LAYOUTS[layout]
    state = _state()
    save(Path("dcp"), state, ranks, cut)
    save_file({key: each.contiguous() for key, each in state["model"].items()}, "m.safetensors")
    rules = ["*.weight=normal:std=0.02", "scale=uniform:a=1,b=2", "*.bias=scale:factor=3"]

    outcome = rewrite("dcp/", rules, "out", seed=3)
    unsharded = rewrite("m.safetensors", rules, "new.safetensors", seed=3)

    assert set(outcome.filled) == set(unsharded.filled)
    got, want = load(Path("out")), load_file("new.safetensors")
    assert {key: _raw(each) for key, each in flat_tensors(got["model"]).items()} == {
        key: _raw(each) for key, each in want.items()
    }
    assert (got["step"], got["args"]) == (7, state["args"])
    assert Path("out/.metadata").read_bytes() == Path("dcp/.metadata").read_bytes()
    pieces = list(slices_of(Path("out")))
    assert len(pieces) >= len(state["model"])
    for name, data in pieces:
        assert data == saved_again(data), name


@pytest.mark.parametrize(
    "rule", ["orthogonal", "scale:factor=2", "clamp:min=-0.5,max=0.5", "xavier_uniform"]
)
def test_what_reads_or_draws_a_whole_matrix_knows_nothing_of_boxes(rule: str) -> None:
    state = {"a.weight": torch.randn(12, 9), "b.weight": torch.randn(3, 20)}
    save(Path("dcp"), state, 4, grid)
    save_file(state, "m.safetensors")

    rewrite("dcp/", [f"*={rule}"], "out")
    rewrite("m.safetensors", [f"*={rule}"], "new.safetensors")

    got, want = flat_tensors(load(Path("out"))), load_file("new.safetensors")
    assert {key: _raw(each) for key, each in got.items()} == {
        key: _raw(each) for key, each in want.items()
    }


@pytest.mark.parametrize("axes", [(1, 0), (0, 1)])
def test_pieces_keep_their_strides(axes: tuple[int, int]) -> None:
    image = torch.randn(4, 3, 5, 6).to(memory_format=torch.channels_last)
    state = {"image": image, "turned": torch.randn(6, 8).permute(axes)}
    save(Path("dcp"), state, 2, rows)

    rewrite("dcp/", ["*=normal"], "out")

    for name, data in slices_of(Path("out")):
        assert data == saved_again(data), name
    before, after = dict(slices_of(Path("dcp"))), dict(slices_of(Path("out")))
    assert before.keys() == after.keys()
    assert all(before[name] != after[name] for name in before)


@pytest.mark.parametrize(
    "options", [{"thread_count": 3}, {"single_file_per_rank": False, "thread_count": 2}]
)
def test_files_of_threads_and_of_items_stay_what_they_are(options: dict[str, Any]) -> None:
    save(Path("dcp"), _state(), 2, rows, **options)
    names = sorted(each.name for each in Path("dcp").iterdir())

    rewrite("dcp/", ["emb.weight=ones"], "out")

    assert sorted(each.name for each in Path("out").iterdir()) == names
    changed = [
        name for name in names if Path("dcp", name).read_bytes() != Path("out", name).read_bytes()
    ]
    assert len(changed) == 2
    assert torch.equal(load(Path("out"))["model"]["emb.weight"], torch.ones(10, 8))


def test_tensors_in_safetensors_are_filled_where_they_lie() -> None:
    from torch.distributed.checkpoint.filesystem import SerializationFormat

    state = {"a.weight": torch.randn(6, 4), "b.bias": torch.randn(3)}
    save(Path("dcp"), state, 2, rows, serialization_format=SerializationFormat.SAFETENSORS)
    save_file(state, "m.safetensors")

    rewrite("dcp/", ["a.weight=normal"], "out")
    rewrite("m.safetensors", ["a.weight=normal"], "new.safetensors")

    parts = [load_file(each) for each in sorted(Path("out").glob("*.distcp"))]
    assert torch.equal(
        torch.cat([part["a.weight"] for part in parts]), load_file("new.safetensors")["a.weight"]
    )
    assert torch.equal(torch.cat([part["b.bias"] for part in parts]), state["b.bias"])


def test_it_is_looked_at_like_any_other_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    state = _state()
    model = state["model"]
    save(Path("dcp"), state, 4, grid)

    assert main(["keys", "dcp/"]) == 0
    assert capsys.readouterr().out.split() == list(model)
    assert main(["show", "dcp/", "emb.weight", "--slice", "3,:", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)["values"]
    assert torch.equal(torch.tensor(values), model["emb.weight"][3])
    assert main(["info", "dcp/", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["format"] == "DCP folder"
    measured = {each.key: each.statistics for each in stats("dcp/")}
    mean = float(model["emb.weight"].double().mean())
    assert measured["emb.weight"].finite.mean == pytest.approx(mean, rel=1e-12)
    rewrite("dcp/", ["emb.weight=zeros"], "out")
    assert [each.key for each in diff("dcp/", "out") if each.differs] == ["emb.weight"]


def test_its_record_is_verified() -> None:
    save(Path("dcp"), _state(), 4, grid)
    rewrite("dcp/", ["*.weight=normal"], "out", record=True)

    assert verify("out").findings == ()
    assert verify("out", source="dcp/").findings == ()
    assert flat_tensors(load(Path("out"))).keys() == flat_tensors(load(Path("dcp"))).keys()

    name = max(Path("out").glob("*.distcp"), key=lambda each: each.stat().st_size)
    data = bytearray(name.read_bytes())
    data[710] ^= 1
    name.write_bytes(data)
    assert verify("out").findings


def test_the_optimizer_of_the_same_folder_is_reset() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    names = [name for name, _ in model.named_parameters()]
    own = optimizer.state_dict()
    by_name = {
        "state": {names[number]: slots for number, slots in own["state"].items()},
        "param_groups": [{**own["param_groups"][0], "params": names}],
    }
    save(Path("dcp"), {"model": model.state_dict(), "optim": by_name}, 2, rows)

    rewrite("dcp/", ["0.weight=normal"], "out", reset_optimizer=True)

    before, after = load(Path("dcp"))["optim"]["state"], load(Path("out"))["optim"]["state"]
    for name in names:
        for slot in ("exp_avg", "exp_avg_sq", "step"):
            is_reset = name == "0.weight"
            assert torch.count_nonzero(after[name][slot]) == 0 or not is_reset
            assert torch.equal(before[name][slot], after[name][slot]) or is_reset


def _trained(*sizes: int) -> tuple[nn.Sequential, torch.optim.AdamW]:
    model = nn.Sequential(*(nn.Linear(*each) for each in itertools.pairwise(sizes)))
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return model, optimizer


def _first_last(tensor: Tensor, ranks: int) -> list[list[Box]]:
    """Leave the first tensors on the last rank, whose tensors `.metadata` has last."""
    is_first = tensor.shape[:1] == (6,)
    return whole(tensor, ranks) if is_first else rows(tensor, ranks)


@pytest.mark.parametrize("cut", [rows, _first_last])
def test_parameters_with_numbers_are_found_by_the_order_of_the_state_dict(cut: Cut) -> None:
    model, optimizer = _trained(6, 6, 6, 4)
    save(Path("dcp"), {"model": model.state_dict(), "optim": optimizer.state_dict()}, 2, cut)

    rewrite("dcp/", ["1.*=zeros"], "out", reset_optimizer=True)

    before, after = load(Path("dcp"))["optim"]["state"], load(Path("out"))["optim"]["state"]
    for number, (name, _) in enumerate(model.named_parameters()):
        for slot, value in after[str(number)].items():
            is_reset = name.startswith("1.")
            assert torch.equal(value, before[str(number)][slot] * (not is_reset)), (name, slot)


@pytest.mark.parametrize("step", [5, 300, 70_000, 2**40, 5.0])
@pytest.mark.parametrize("form", SerializationFormat)
def test_numbers_of_an_optimizer_are_reset_in_their_objects(
    step: float, form: SerializationFormat
) -> None:
    model = {"0.weight": torch.ones(4, 6), "1.weight": torch.ones(4, 6)}
    state = {key: {"exp_avg": torch.ones(4, 6), "step": step} for key in model}
    groups = [{"params": [*model], "lr": 0.1}]
    optimizer = {"state": state, "param_groups": groups}
    saved = {"model": model, "optim": optimizer, "step": 7}
    save(Path("dcp"), saved, 2, rows, serialization_format=form)

    rewrite("dcp/", ["0.weight=normal"], "out", reset_optimizer=True, record=True)

    assert verify("out").findings == ()
    assert metadata_of(Path("out")) == metadata_of(Path("dcp"))
    numbers = {
        index.fqn: torch.load(io.BytesIO(data), weights_only=True)
        for index, data in objects_of(Path("out"))
    }
    assert numbers["optim.state.0.weight.step"] == 0
    assert type(numbers["optim.state.0.weight.step"]) is type(step)
    assert numbers["optim.state.1.weight.step"] == step
    assert numbers["step"] == 7
    assert numbers["optim.param_groups.0.lr"] == 0.1


def test_running_statistics_are_reset_with_the_network() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    net(torch.randn(2, 3, 5, 5))
    save(Path("dcp"), {"model": net.state_dict()}, 2, rows)

    rewrite("dcp/", ["*=reset"], "out", reset_buffers=True)

    after = load(Path("out"))["model"]
    assert torch.equal(after["1.running_mean"], torch.zeros(4))
    assert torch.equal(after["1.running_var"], torch.ones(4))
    assert int(after["1.num_batches_tracked"]) == 0


def test_it_is_converted_to_a_file_of_safetensors_and_to_a_folder_and_to_a_torch_file() -> None:
    state = {**_state()["model"], "count": torch.arange(12).view(3, 4)}
    save(Path("dcp"), state, 4, grid)

    rewrite("dcp/", (), "new.safetensors")
    rewrite("dcp/", (), "new/", shard_nbytes=300)
    rewrite("dcp/", (), "new.pt")

    want = {key: _raw(each) for key, each in state.items()}
    shards = [load_file(each) for each in Path("new").rglob("*.safetensors")]
    together = {key: each for shard in shards for key, each in shard.items()}
    for found in (load_file("new.safetensors"), together, torch.load("new.pt")):
        assert {key: _raw(each) for key, each in found.items()} == want
    assert load_file("new.safetensors")["scale"].shape == ()


def test_conversion_does_not_lose_what_only_the_folder_holds() -> None:
    save(Path("dcp"), _state(), 2, rows)

    done = subprocess.run(
        [sys.executable, "-m", "reinit_cli", "dcp/", "-o", "new.safetensors"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "cannot store step (int), args (dict)" in done.stderr
    assert "hint: add --tensors-only to leave it out" in done.stderr
    assert not Path("new.safetensors").exists()


def test_other_files_go_along_and_links_out_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    save(Path("dcp"), _state(), 2, rows)
    Path("dcp/meta.pt").write_bytes(b"what Lightning leaves")
    Path("dcp/sub").mkdir()
    Path("dcp/sub/common.pt").write_bytes(b"what Megatron leaves")
    Path("secret").write_text("secret")
    Path("dcp/link").symlink_to("../secret")

    assert main(["dcp/", "-r", "emb.weight=zeros", "-o", "out"]) == 0

    assert Path("out/meta.pt").read_bytes() == b"what Lightning leaves"
    assert Path("out/sub/common.pt").read_bytes() == b"what Megatron leaves"
    assert not Path("out/link").exists()
    assert "not copied from 'dcp/': link" in capsys.readouterr().err


def test_keys_and_rewrites_need_no_torch() -> None:
    save(Path("dcp"), _state(), 2, rows)
    code = (
        "import sys; from reinit_cli.cli import main; main(sys.argv[1:]); "
        "sys.exit('torch' in sys.modules)"
    )
    for command in (["keys", "dcp/"], ["dcp/", "-r", "emb.weight=normal", "-o", "out"]):
        subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True)


def test_its_slices_are_checked_while_they_are_copied() -> None:
    save(Path("dcp"), _state(), 1, whole)
    name = Path("dcp/__0_0.distcp")
    data = bytearray(name.read_bytes())
    found = data.find(_raw(_state()["model"]["conv.weight"]))
    data[found] ^= 1
    name.write_bytes(data)

    with pytest.raises(ValueError, match=r"the piece of 'model.conv.weight' at \[0, 0, 0, 0\]"):
        rewrite("dcp/", ["emb.weight=zeros"], "out")
    assert not Path("out").exists()
    rewrite("dcp/", ["emb.weight=zeros"], "out", verify_crc=False)
    assert load(Path("out"))["model"].keys() == _state()["model"].keys()
