"""A record of what made a checkpoint, and whether the checkpoint is still that."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import get_model

from reinit_cli import rewrite, verify
from reinit_cli.errors import (
    OutputError,
    RecipeError,
    RecordError,
    ReinitError,
    UnwritableContentError,
)
from reinit_cli.initializers import Array, Chance
from reinit_cli.operations.recipe_file import read_recipe

RULES = ["embed.weight=normal:std=0.02", "layers.*.weight=xavier_uniform:relu", "*.norm=ones"]


def _state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.empty(shape).normal_(generator=generator)

    return {
        "embed.weight": drawn(50, 8),
        "layers.0.weight": drawn(8, 8).bfloat16(),
        "layers.0.bias": drawn(8),
        "layers.0.norm": drawn(8).half(),
        "steps": torch.tensor(7),
    }


def _safetensors(path: Path) -> Path:
    path = path.with_suffix(".safetensors")
    save_file(_state(), path, {"format": "pt", "who": 'me "too"'})
    return path


def _torch(path: Path) -> Path:
    path = path.with_suffix(".pt")
    torch.save({"state_dict": _state(), "epoch": 3}, path)
    return path


def _folder(path: Path) -> Path:
    rewrite(str(_safetensors(path)), [], str(path), shard_nbytes=1000)
    (path / "config.json").write_text("{}")
    return path


SOURCES: dict[str, Callable[[Path], Path]] = {
    "safetensors": _safetensors,
    "torch": _torch,
    "folder": _folder,
}


@pytest.fixture(params=SOURCES)
def recorded(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A source, and an output that holds a record."""
    source = SOURCES[request.param](tmp_path / "m")
    output = tmp_path / f"out{source.suffix}"
    rewrite(str(source), RULES, str(output), record=True)
    return source, output


def test_what_was_recorded_is_verified_alone_and_with_its_source(
    recorded: tuple[Path, Path],
) -> None:
    source, output = recorded

    alone, both = verify(str(output)), verify(str(output), source=str(source))

    assert (alone.findings, both.findings) == ((), ())
    assert sorted(alone.drawn) == ["embed.weight", "layers.0.norm", "layers.0.weight"]
    assert alone.undrawn == {}


def test_the_record_holds_no_time_path_or_host(recorded: tuple[Path, Path]) -> None:
    source, output = recorded

    text = json.dumps(verify(str(output)).record)

    assert str(source.parent) not in text
    assert os.uname().nodename not in text
    assert json.loads(text)["source"]["name"] == source.name


def test_the_record_makes_the_same_bytes_again_in_another_process(
    recorded: tuple[Path, Path],
) -> None:
    source, output = recorded
    again = output.with_name(f"again{output.suffix}")
    environment = os.environ | {"OMP_NUM_THREADS": "7"}

    subprocess.run(
        [sys.executable, "-m", "reinit_cli", source, "-c", output, "-o", again],
        check=True,
        env=environment,
        capture_output=True,
    )

    if output.is_dir():
        names = sorted(each.name for each in output.iterdir())
        assert names == sorted(each.name for each in again.iterdir())
        assert all((output / n).read_bytes() == (again / n).read_bytes() for n in names)
    else:
        assert output.read_bytes() == again.read_bytes()


def test_a_file_with_a_record_is_read_by_its_own_library(tmp_path: Path) -> None:
    for make in (_safetensors, _torch):
        source = make(tmp_path / "m")
        rewrite(str(source), RULES, str(tmp_path / f"out{source.suffix}"), record=True)

    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        metadata = file.metadata()
        values = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    assert metadata["who"] == 'me "too"'
    assert json.loads(metadata["reinit"])["reinit"]
    for options in ({}, {"mmap": True}, {"weights_only": False}):
        loaded = torch.load(tmp_path / "out.pt", **options)
        assert loaded["epoch"] == 3
        assert all(torch.equal(loaded["state_dict"][key], values[key]) for key in values)
    with zipfile.ZipFile(tmp_path / "out.pt") as archive:
        assert archive.testzip() is None
        assert json.loads(archive.read("m/reinit.json")) == verify(str(tmp_path / "out.pt")).record


def test_without_its_record_the_file_is_the_one_that_is_written_without(
    recorded: tuple[Path, Path], tmp_path: Path
) -> None:
    """A record is of the file that it was made with: rewritten, the file has none."""
    source, output = recorded
    plain, stripped = tmp_path / f"plain{source.suffix}", tmp_path / f"stripped{source.suffix}"
    rewrite(str(source), RULES, str(plain))

    done = rewrite(str(output), ["steps=constant:7"], str(stripped))

    names = sorted(p.name for p in plain.iterdir()) if plain.is_dir() else [""]
    if not output.name.endswith(".safetensors"):  # whose header is written anew
        assert all((plain / n).read_bytes() == (stripped / n).read_bytes() for n in names)
    assert "was not copied" in done.job.plan.warnings[0]
    with pytest.raises(RecordError, match="has no record"):
        verify(str(stripped))


def test_another_record_takes_the_place_of_the_first(recorded: tuple[Path, Path]) -> None:
    _, output = recorded
    again = output.with_name(f"again{output.suffix}")

    rewrite(str(output), ["steps=constant:9"], str(again), record=True)

    verdict = verify(str(again), source=str(output))
    assert verdict.findings == ()
    assert verdict.drawn == ("steps",)


@pytest.mark.parametrize("make", [_safetensors, _torch])
def test_a_flipped_bit_anywhere_is_found(make: Callable[[Path], Path], tmp_path: Path) -> None:
    source = make(tmp_path / "m")
    output = tmp_path / f"out{source.suffix}"
    rewrite(str(source), RULES, str(output), record=True)
    whole = output.read_bytes()
    found = 0

    for at in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        output.write_bytes(damaged)
        try:
            verdict = verify(str(output))
        except ReinitError:
            pass  # it can no longer be read, which is told too
        else:
            assert verdict.findings, at
        found += 1
    assert found == len(range(0, len(whole), 7))


def test_a_changed_byte_in_any_file_of_a_folder_is_found(tmp_path: Path) -> None:
    rewrite(str(_folder(tmp_path / "m")), RULES, str(tmp_path / "out"), record=True)
    names = sorted(each.name for each in (tmp_path / "out").iterdir())

    for name in names:
        path = tmp_path / "out" / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with suppress(ReinitError):  # where it can no longer be read, that is told too
            assert verify(str(tmp_path / "out")).findings, name
        path.write_bytes(whole)
    assert len(names) > 3
    assert verify(str(tmp_path / "out")).findings == ()
    (tmp_path / "out" / "more.txt").write_text("new")
    assert verify(str(tmp_path / "out")).findings


def test_a_record_gives_the_same_tensors_in_other_shards(tmp_path: Path) -> None:
    source = _safetensors(tmp_path / "m")
    digests = []
    for at, shard_nbytes in enumerate((None, 300, 5000)):
        record = tmp_path / f"{at}.json"
        output = str(tmp_path / (f"out{at}" + ("" if shard_nbytes else ".safetensors")))
        rewrite(str(source), RULES, output, record=str(record), shard_nbytes=shard_nbytes)
        digests.append(json.loads(record.read_text())["filled"])

    assert digests[0] == digests[1] == digests[2]


def test_changed_values_are_told_by_key_and_distance(tmp_path: Path) -> None:
    source = _safetensors(tmp_path / "m")
    output = tmp_path / "out.safetensors"
    rewrite(str(source), RULES, str(output), record=True)
    with safe_open(output, "pt") as file:
        metadata = file.metadata()
    state = load_file(output)
    bits = state["embed.weight"].view(torch.int32)
    bits[3, 4] += 2
    bits[7, 1] += 5
    save_file(state, output, metadata)

    verdict = verify(str(output))

    told = [finding for finding in verdict.findings if finding.what == "'embed.weight'"]
    assert len(told) == 1
    assert told[0].problem == "does not match its record"
    assert told[0].gap is not None
    assert (told[0].gap.changed, told[0].gap.max_ulps) == (2, 5)


def test_what_is_drawn_otherwise_here_points_to_another_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is as recorded, but this machine draws an ulp away."""
    from reinit_cli.initializers.law import Normal

    source = _safetensors(tmp_path / "m")
    output = tmp_path / "out.safetensors"
    rewrite(str(source), ["embed.weight=normal"], str(output), record=True, stream="torch")
    right = Normal.fill
    torch_version = torch.__version__.partition("+")[0]

    def fill(law: Normal, values: Array, chance: Chance) -> None:
        right(law, values, chance)
        values.reshape(-1)[5:6].view(np.int32)[:] += 1

    monkeypatch.setattr(Normal, "fill", fill)
    (finding,) = verify(str(output)).findings
    monkeypatch.setattr("reinit_cli.operations.verify.torch_version", lambda: "9.9.9")
    (of_other_torch,) = verify(str(output)).findings

    assert finding.problem.endswith("drawn differently here, as on another kind of CPU")
    assert f"or by torch {torch_version}" in of_other_torch.problem
    assert finding.gap is not None
    assert (finding.gap.changed, finding.gap.max_ulps) == (1, 1)


def test_a_record_of_many_missing_keys_is_verified_in_linear_time(tmp_path: Path) -> None:
    source, record = _safetensors(tmp_path / "m"), tmp_path / "record.json"
    output = tmp_path / "out.safetensors"
    rewrite(str(source), RULES, str(output), record=str(record))
    form = json.loads(record.read_text())
    row = form["filled"][0]
    form["filled"] = [row | {"key": f"missing.{at}"} for at in range(40_000)]
    record.write_text(json.dumps(form))
    started = time.process_time()

    verdict = verify(str(output), record=str(record))

    assert time.process_time() - started < 4
    assert sum("is not there" in str(each) for each in verdict.findings) == 40_000


def test_a_changed_record_is_found(tmp_path: Path) -> None:
    source = _safetensors(tmp_path / "m")
    record = tmp_path / "record.json"
    output = tmp_path / "out.safetensors"
    rewrite(str(source), RULES, str(output), record=str(record))
    form = json.loads(record.read_text())
    record.write_text(json.dumps(form | {"torch": "1.0"}))

    verdict = verify(str(output), record=str(record))

    assert [str(each) for each in verdict.findings] == ["the record is not as it was written"]


def test_a_record_beside_leaves_the_output_as_it_is_without_and_has_a_row_for_each_tensor(
    tmp_path: Path,
) -> None:
    source, record = _torch(tmp_path / "m"), tmp_path / "record.json"
    rewrite(str(source), RULES, str(tmp_path / "plain.pt"))

    rewrite(str(source), RULES, str(tmp_path / "out.pt"), record=str(record))

    form = json.loads(record.read_text())
    assert (tmp_path / "out.pt").read_bytes() == (tmp_path / "plain.pt").read_bytes()
    assert [row["key"] for row in form["tensors"]] == list(_state())
    assert form["source"]["nbytes"] == source.stat().st_size
    assert verify(str(tmp_path / "out.pt"), record=str(record), source=str(source)).holds


def test_the_digests_are_those_of_hashlib(tmp_path: Path) -> None:
    source, record = _safetensors(tmp_path / "m"), tmp_path / "record.json"
    output = tmp_path / "out.safetensors"
    rewrite(str(source), ["embed.weight=normal"], str(output), record=str(record))
    form = json.loads(record.read_text())

    def pieces(data: bytes) -> str:
        assert len(data) < 4 * 2**20
        return hashlib.sha256(hashlib.sha256(data).digest()).hexdigest()

    drawn = load_file(output)["embed.weight"].numpy().tobytes()
    data = output.read_bytes()
    at = data.index(drawn)
    assert form["source"]["sha256"] == pieces(source.read_bytes())
    assert form["filled"][0]["sha256"] == hashlib.sha256(drawn).hexdigest()
    assert form["rest"]["sha256"] == pieces(data[:at] + data[at + len(drawn) :])
    text = record.read_text().strip()
    blank = text.replace(form["sha256"], "0" * 64)
    assert form["sha256"] == hashlib.sha256(blank.encode()).hexdigest()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(
    "options",
    [
        {"rules": ["*=default"], "weights": "none"},
        {"rules": [], "weights": "none", "num_classes": 7},
        {"rules": ["layer4.*.weight=kaiming_normal"], "weights": "none", "reset_buffers": True},
    ],
    ids="+".join,
)
def test_models_are_verified_by_their_names(
    options: dict[str, Any], suffix: str, tmp_path: Path
) -> None:
    output = tmp_path / f"r{suffix}"
    rewrite("resnet18", **{"output": str(output), "record": True, **options})
    renamed = output.rename(tmp_path / f"other name{suffix}")

    assert verify(str(renamed)).findings == ()
    assert verify(str(renamed), source="resnet18").findings == ()


CHANGES: dict[str, dict[str, Any]] = {
    "transform": {"rules": ["embed.weight=noise:std=0.1"]},
    "zeros kept": {"rules": ["embed.weight=normal:keep_zeros=true"]},
    "smaller": {"rules": [], "resize": ["embed.weight=20"]},
    "larger": {"rules": [], "resize": ["embed.weight=60:normal:std=2"]},
    "larger by the mean": {"rules": [], "resize": ["embed.weight=60:mean"]},
    "cast": {"rules": ["embed.weight=normal"], "dtype": "bfloat16"},
    "another seed": {"rules": ["embed.weight=normal"], "seed": 5},
    "nothing filled": {"rules": [], "dtype": "bfloat16"},
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_kind_of_change_is_verified(name: str, tmp_path: Path) -> None:
    source = _safetensors(tmp_path / "m")
    output = tmp_path / "out.safetensors"
    rewrite(str(source), output=str(output), record=True, **CHANGES[name])

    alone, both = verify(str(output)), verify(str(output), source=str(source))

    assert (alone.findings, both.findings) == ((), ())
    depends = name in ("transform", "zeros kept", "larger by the mean")
    assert bool(alone.undrawn) == depends


def test_tied_tensors_and_optimizer_state_are_verified(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        net = nn.Linear(6, 6)
        optimizer = torch.optim.Adam(net.parameters())
        net(torch.randn(3, 6)).sum().backward()
        optimizer.step()
    torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "m.pt")
    tied = net.state_dict() | {"head": net.state_dict()["weight"]}
    torch.save(tied, tmp_path / "tied.pt")
    outputs = {
        "out.pt": ("m.pt", {"reset_optimizer": True}),
        "tied-out.pt": ("tied.pt", {}),
        "tied-out.safetensors": ("tied.pt", {}),
        "untied-out.pt": ("tied.pt", {"untie": True}),
    }
    for name, (source, options) in outputs.items():
        rewrite(
            str(tmp_path / source), ["weight=normal"], str(tmp_path / name), record=True, **options
        )

        assert verify(str(tmp_path / name)).findings == (), name
        assert verify(str(tmp_path / name), source=str(tmp_path / source)).findings == (), name


def test_a_tensor_without_elements_is_recorded_too(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(0, 3), "b": torch.ones(2)}, tmp_path / "m.pt")
    for name, options in (("o.pt", {}), ("o.bin", {"dtype": "float16"}), ("o.safetensors", {})):
        rewrite(str(tmp_path / "m.pt"), ["*=normal"], str(tmp_path / name), record=True, **options)

        assert verify(str(tmp_path / name), source=str(tmp_path / "m.pt")).findings == ()


def test_another_source_is_told(tmp_path: Path) -> None:
    source = _safetensors(tmp_path / "m")
    rewrite(str(source), RULES, str(tmp_path / "out.safetensors"), record=True)
    state = _state()
    state["layers.0.bias"][2] += 1
    save_file(state, source)

    (finding,) = verify(str(tmp_path / "out.safetensors"), source=str(source)).findings

    assert str(finding).endswith("is not the source that was recorded, 'm.safetensors'")


def test_a_pretrained_model_from_a_file_of_weights_is_verified(tmp_path: Path) -> None:
    weights = tmp_path / "w.pth"
    with torch.random.fork_rng():
        torch.save(get_model("resnet18").state_dict(), weights)
    output = tmp_path / "out.pth"
    rewrite("resnet18", ["fc.*=default"], str(output), weights=str(weights), record=True)

    assert verify(str(output)).findings == ()
    assert verify(str(output), source=str(weights)).findings == ()


def test_a_record_is_a_recipe(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    rewrite(
        str(_safetensors(tmp_path / "m")),
        RULES,
        str(tmp_path / "out.safetensors"),
        seed=4,
        dtype="float16",
        record=str(record),
    )

    recipe = read_recipe(str(record))

    assert [rule.pattern.text for rule in recipe["rules"]] == [
        "embed.weight",
        "layers.*.weight",
        "*.norm",
    ]
    assert (recipe["seeds"], recipe["dtype"], recipe["record"]) == ((4,), "float16", False)
    assert recipe["sources"] == ("m.safetensors",)


def test_an_output_that_holds_a_record_is_a_recipe(recorded: tuple[Path, Path]) -> None:
    _, output = recorded

    found = [rule.pattern.text for rule in read_recipe(str(output))["rules"]]
    assert found == [rule.partition("=")[0] for rule in RULES]


@pytest.mark.parametrize("kind", [*SOURCES, "legacy"])
def test_a_checkpoint_without_a_record_is_not_a_recipe(kind: str, tmp_path: Path) -> None:
    source = tmp_path / "m.pt"
    if kind == "legacy":
        torch.save(_state(), source, _use_new_zipfile_serialization=False)
    else:
        source = SOURCES[kind](tmp_path / "m")

    with pytest.raises(RecipeError, match="it is a checkpoint without a record"):
        read_recipe(str(source))


def test_the_index_of_a_folder_is_a_recipe_where_the_folder_holds_a_record(tmp_path: Path) -> None:
    out = tmp_path / "out"
    rewrite(str(_folder(tmp_path / "m")), RULES, str(out), record=True)
    (index,) = map(str, out.glob("*.index.json"))

    assert read_recipe(index) == read_recipe(str(out))
    (out / "reinit.json").unlink()
    with pytest.raises(RecipeError, match="it is a checkpoint without a record"):
        read_recipe(index)


# --- what cannot be ----------------------------------------------------------------------------


def test_what_cannot_hold_a_record_is_refused(tmp_path: Path) -> None:
    legacy = tmp_path / "old.pt"
    torch.save({"w": torch.ones(3)}, legacy, _use_new_zipfile_serialization=False)

    with pytest.raises(UnwritableContentError):
        rewrite(str(legacy), ["w=zeros"], str(tmp_path / "out.pt"), record=True)
    with pytest.raises(UnwritableContentError, match="standard output cannot store a record"):
        rewrite(str(legacy), ["w=zeros"], "-", record=True)
    rewrite(str(legacy), ["w=zeros"], str(tmp_path / "out.pt"), record=str(tmp_path / "r.json"))
    assert verify(
        str(tmp_path / "out.pt"), record=str(tmp_path / "r.json"), source=str(legacy)
    ).holds


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not JSON"),
        ("[]", "has no record"),
        ('{"version":1}', "has no record"),
        ('{"version":9,"filled":[],"stream":"torch-1"}', "of version 9"),
        ("[" * 10_000, "is not JSON"),
    ],
)
def test_what_is_no_record_is_told(text: str, problem: str, tmp_path: Path) -> None:
    source = _safetensors(tmp_path / "m")
    (tmp_path / "r.json").write_text(text)

    with pytest.raises(RecordError, match=problem):
        verify(str(source), record=str(tmp_path / "r.json"))
    with pytest.raises(RecordError, match="has no record"):
        verify(str(source))


@pytest.mark.parametrize(
    ("key", "init"),
    [
        ("steps", "normal"),
        ("steps", "constant:0.5"),
        ("embed.weight", "dirac"),
        ("embed.weight", "default"),
        ("embed.weight", "keep"),
        ("nope", "zeros"),
    ],
)
def test_what_a_record_says_wrongly_is_found_and_never_a_traceback(
    key: str, init: str, tmp_path: Path
) -> None:
    source = _safetensors(tmp_path / "m")
    record = tmp_path / "r.json"
    rewrite(
        str(source), ["embed.weight=normal"], str(tmp_path / "o.safetensors"), record=str(record)
    )
    form = json.loads(record.read_text())
    form["filled"].append({"key": key, "init": init, "sha256": "0" * 64})
    record.write_text(json.dumps(form))

    assert not verify(str(tmp_path / "o.safetensors"), record=str(record)).holds


@pytest.mark.parametrize(
    "said", ["embed.weight=1099511627776:normal", "embed.weight=3:normal"], ids=["huge", "small"]
)
def test_a_record_of_another_size_is_found_without_a_draw(said: str, tmp_path: Path) -> None:
    """A record from a stranger may ask for a tensor of terabytes."""
    source, record = _safetensors(tmp_path / "m"), tmp_path / "r.json"
    output = str(tmp_path / "o.safetensors")
    rewrite(str(source), ["embed.weight=normal"], output, record=str(record))
    digest = json.loads(record.read_text())["sha256"]
    text = record.read_text().replace("embed.weight=normal", "*=keep")
    blank = text.replace('"resize":[]', f'"resize":["{said}"]').replace(digest, "0" * 64)
    assert said in blank
    forged = hashlib.sha256(blank.encode()).hexdigest()
    record.write_text(forged.join(blank.rsplit("0" * 64, 1)))

    verdict = verify(output, record=str(record), source=str(source))

    rows = said.partition("=")[2].partition(":")[0]
    assert any(f"the rules give, float32 {rows}x" in str(each) for each in verdict.findings)


def test_a_record_that_means_the_same_in_other_bytes_is_not_as_it_was_written(
    tmp_path: Path,
) -> None:
    source, record = _safetensors(tmp_path / "m"), tmp_path / "r.json"
    rewrite(
        str(source), ["embed.weight=normal"], str(tmp_path / "o.safetensors"), record=str(record)
    )
    text = record.read_text()
    assert '"mean":0.0' in text
    record.write_text(text.replace('"mean":0.0', '"mean":0e0'))

    verdict = verify(str(tmp_path / "o.safetensors"), record=str(record))

    assert [str(each) for each in verdict.findings] == ["the record is not as it was written"]


@pytest.mark.parametrize(
    "form",
    [
        {"filled": 3},
        {"filled": [3]},
        {"filled": [{"key": "embed.weight"}]},
        {"filled": []},
        {"filled": [{"key": "embed.weight", "init": "nope", "sha256": ""}]},
        {"filled": [{"key": "embed.weight", "init": "normal", "sha256": "", "from_row": "x"}]},
        {"filled": [], "source": 3},
        {"filled": [], "source": {}, "rest": 3},
    ],
)
def test_a_record_of_strangers_is_refused_and_never_a_traceback(
    form: dict[str, Any], tmp_path: Path
) -> None:
    source = _safetensors(tmp_path / "m")
    (tmp_path / "r.json").write_text(json.dumps({"version": 1, "stream": "torch-1", **form}))

    with pytest.raises(RecordError):
        verify(str(source), record=str(tmp_path / "r.json"))


def test_a_record_does_not_take_the_place_of_a_file(tmp_path: Path) -> None:
    source = _safetensors(tmp_path / "m")
    for taken in ("m.safetensors", "out.safetensors", "there.json"):
        (tmp_path / "there.json").write_text("precious")
        with pytest.raises(OutputError, match=r"exists|take the place"):
            rewrite(
                str(source), RULES, str(tmp_path / "out.safetensors"), record=str(tmp_path / taken)
            )
    assert sorted(each.name for each in tmp_path.iterdir()) == ["m.safetensors", "there.json"]
