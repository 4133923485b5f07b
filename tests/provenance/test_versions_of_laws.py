"""Records name the versions of laws, and what an old version drew is verified still."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from reinit_cli import rewrite, verify
from reinit_cli.cli import main
from reinit_cli.errors import RecordError
from reinit_cli.initializers import REGISTRY
from reinit_cli.provenance.record import text_of
from reinit_cli.streams.stream import seed_for

# Both files are of the code before laws had versions. This command made the first from the second:
# reinit laws_1_source.safetensors -r "{tall,wide,half}.weight=orthogonal:tanh"
#   -r "conv.weight=orthogonal" -r "gates.weight=block:parts=4,inner=orthogonal:gain=0.5"
#   -r "delta.weight=delta_orthogonal" -r "shuffled.weight=icnr:upscale=2,inner=orthogonal"
#   --resize "embed.weight=15:mean" --seed 5 --record
DATA = Path(__file__).parent / "data"
OLD = str(DATA / "laws_1.safetensors")
OLD_SOURCE = str(DATA / "laws_1_source.safetensors")
OLD_SHA256 = "d3000508df25bcd50db651248ba2f49252192b0e0ae4d19bc683f759f45712fa"


# Of the code before `keep_zeros` had a version, `mean` a third and `resize` a third. For the streams
# philox and torch, this command made the files from the source:
# reinit zeros_1_source.safetensors -r "shuffled*.weight=shuffle:keep_zeros=true"
#   -r "resampled.weight=resample:normal,keep_zeros=true"
#   -r "noised.weight=noise:relative=0.5,keep_zeros=true"
#   -r "drawn.weight=normal:std=0.1,keep_zeros=true" --resize "embed.weight=13:mean"
#   --resize "gates.weight=10:block:parts=2,inner=kaiming_normal:fan_out"
#   --resize "pixels.weight=12:icnr:upscale=2,inner=kaiming_uniform:fan_out" --seed 5 --record
ZEROS = {stream: str(DATA / f"zeros_1_{stream}.safetensors") for stream in ("philox", "torch")}
ZEROS_SOURCE = str(DATA / "zeros_1_source.safetensors")
ZEROS_SHA256 = {
    "philox": "e32967a29129c89d4c0013ffb57f3245de660154a8caa2bdb2bd72d443e263df",
    "torch": "52065ff5a64dce5e1495567b6c8756962fe8b246828485162ee96ee91790b5cd",
}


def _record(path: str | Path) -> Any:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["reinit"])


def _torch_draws_the_same_here() -> bool:
    """Whether this machine's BLAS gives the bits of the one that made the file."""
    generator = torch.Generator().manual_seed(seed_for(5, "conv.weight"))
    drawn = torch.nn.init.orthogonal_(torch.empty(8, 4, 3, 3), generator=generator)
    return torch.equal(drawn, load_file(OLD)["conv.weight"])


@pytest.mark.parametrize("source", [None, OLD_SOURCE], ids=["alone", "with its source"])
def test_a_record_that_names_no_version_is_verified_by_the_first(source: str | None) -> None:
    assert sha256(Path(OLD).read_bytes()).hexdigest() == OLD_SHA256

    verdict = verify(OLD, source=source)

    assert len(verdict.drawn) == 7
    if _torch_draws_the_same_here():
        assert verdict.findings == ()
    assert all(each.gap and each.gap.max_abs < 1e-6 for each in verdict.findings)


@pytest.mark.parametrize("stream", ZEROS)
@pytest.mark.parametrize("source", [None, ZEROS_SOURCE], ids=["alone", "with its source"])
def test_a_record_of_new_rows_and_zeros_is_verified_by_the_versions_of_its_time(
    stream: str, source: str | None
) -> None:
    assert sha256(Path(ZEROS[stream]).read_bytes()).hexdigest() == ZEROS_SHA256[stream]

    verdict = verify(ZEROS[stream], source=source)

    assert verdict.drawn == ("gates.weight", "pixels.weight")
    assert verdict.findings == ()


def test_an_old_record_as_a_recipe_draws_the_newest_version_and_says_so(tmp_path: Path) -> None:
    output = tmp_path / "new.safetensors"

    assert main(["-c", OLD, OLD_SOURCE, "-o", str(output), "-q"]) == 0

    assert _record(output)["laws"] == {"delta_orthogonal": 2, "mean": 3, "orthogonal": 2}
    assert verify(str(output)).findings == ()
    assert verify(str(output), source=OLD_SOURCE).findings == ()
    old, new = load_file(OLD), load_file(output)
    assert all(torch.allclose(old[key], new[key], atol=1e-2) for key in old)
    assert not torch.equal(old["tall.weight"], new["tall.weight"])


def test_a_record_names_no_law_whose_values_never_changed(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(4, 4)}, tmp_path / "m.safetensors")

    rewrite(
        str(tmp_path / "m.safetensors"), ["w=normal"], str(tmp_path / "o.safetensors"), record=True
    )

    assert "laws" not in _record(tmp_path / "o.safetensors")


def _recorded_with(laws: object, path: Path) -> str:
    """Write a file whose record, to the last byte in order, names some versions of laws."""
    save_file({"w": torch.zeros(6, 4)}, path / "m.safetensors")
    rewrite(str(path / "m.safetensors"), ["w=orthogonal"], str(path / "o.safetensors"), record=True)
    form = _record(path / "o.safetensors") | {"laws": laws}
    (path / "record.json").write_text(text_of(form))
    return str(path / "o.safetensors")


def test_a_law_that_is_newer_than_this_reinit_is_compared_by_its_digest(tmp_path: Path) -> None:
    output = _recorded_with({"orthogonal": 3}, tmp_path)

    verdict = verify(output, record=str(tmp_path / "record.json"))

    assert verdict.drawn == ()
    assert verdict.undrawn == {"w": "orthogonal is of version 3, and 2 is the newest here"}


@pytest.mark.parametrize("laws", [None, [], 2, {"orthogonal": 0}, {"orthogonal": True}, {"a": "2"}])
def test_versions_that_are_not_numbers_are_refused(laws: object, tmp_path: Path) -> None:
    output = _recorded_with(laws, tmp_path)

    with pytest.raises(RecordError, match="laws whose versions are not numbers from 1 on"):
        verify(output, record=str(tmp_path / "record.json"))


def test_a_changed_law_is_a_number_in_its_declaration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    normal = REGISTRY["normal"]
    monkeypatch.setitem(REGISTRY._by_name, "normal", replace(normal, version=4))
    save_file({"w": torch.zeros(4, 4)}, tmp_path / "m.safetensors")

    rules = ["w=block:parts=2,inner=normal:std=2"]
    rewrite(str(tmp_path / "m.safetensors"), rules, str(tmp_path / "o.safetensors"), record=True)

    assert _record(tmp_path / "o.safetensors")["laws"] == {"normal": 4}


# This command made the first from the second, with the code before layers were told apart:
# reinit depths_1_source.safetensors -r "*=depth_scaled:std=0.5" --record
OLD_DEPTHS = str(DATA / "depths_1.safetensors")
OLD_DEPTHS_SOURCE = str(DATA / "depths_1_source.safetensors")


@pytest.mark.parametrize("source", [None, OLD_DEPTHS_SOURCE], ids=["alone", "with its source"])
def test_a_record_of_the_first_number_in_a_key_is_verified_by_it(source: str | None) -> None:
    verdict = verify(OLD_DEPTHS, source=source)

    assert len(verdict.drawn) == 8
    assert verdict.findings == ()


def test_layers_are_blocks_of_stages_since_the_second_version(tmp_path: Path) -> None:
    output = tmp_path / "new.safetensors"

    assert main(["-c", OLD_DEPTHS, OLD_DEPTHS_SOURCE, "-o", str(output), "-q"]) == 0

    assert _record(output)["laws"] == {"depth_scaled": 2}
    assert verify(str(output)).findings == ()
    old, new = load_file(OLD_DEPTHS), load_file(output)
    changes = {key: old[key].norm() / new[key].norm() for key in old}
    # The third block is the first of the second stage.
    assert changes["layers.1.blocks.0.proj.weight"].item() == pytest.approx((3 / 2) ** 0.5)
    assert changes["layers.1.experts.5.w2"] == changes["h.3.weight"] == 1


# Of the code before models without weights were drawn tensor by tensor. This command made it:
# reinit squeezenet1_1 --weights none --only "features.0.*" -r "features.0.bias=normal:std=0.5"
#   --seed 5 --record -o model_1.safetensors
MODEL = str(DATA / "model_1.safetensors")
MODEL_SHA256 = "9bad693e5ac3e7f5cb4b235b1999f525e39fd36017d31a103b537790773f02cb"


@pytest.mark.parametrize("source", [None, "squeezenet1_1"], ids=["alone", "with its source"])
def test_a_record_of_a_model_that_torch_drew_as_a_whole_is_verified(source: str | None) -> None:
    assert sha256(Path(MODEL).read_bytes()).hexdigest() == MODEL_SHA256

    verdict = verify(MODEL, source=source)

    assert verdict.findings == ()
    assert verdict.drawn == ("features.0.bias",)


def test_a_record_of_a_model_without_weights_names_how_it_was_drawn() -> None:
    for stream, laws in (("philox", {"model": 2}), ("torch", {})):
        path = f"{stream}.safetensors"
        only = ["features.0.*"]
        rewrite(
            "squeezenet1_1",
            "*.bias=ones",
            path,
            weights="none",
            only=only,
            stream=stream,
            record=True,
        )

        assert _record(path).get("laws", {}) == laws
        assert verify(path, source="squeezenet1_1").findings == ()


def test_a_record_of_default_from_before_constructors_were_followed_further_is_verified(
    tmp_path: Path,
) -> None:
    output = str(tmp_path / "o.safetensors")
    rewrite("squeezenet1_1", ["*=default"], output, weights="none", record=True)
    form = _record(output)
    assert form["laws"].pop("default") == 2
    (tmp_path / "record.json").write_text(text_of(form))

    verdict = verify(output, record=str(tmp_path / "record.json"))

    # The file has its own record among what was not filled.
    assert [each.what for each in verdict.findings] == ["everything that was not filled"]
    assert set(verdict.drawn) == {row["key"] for row in form["filled"]}
