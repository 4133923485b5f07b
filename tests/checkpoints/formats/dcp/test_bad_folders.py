"""What a damaged or hostile DCP folder gets: one line, before anything is written."""

from __future__ import annotations

import dataclasses
import io
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from reinit_cli import rewrite
from reinit_cli.checkpoints.find import find_source
from reinit_cli.cli import main
from reinit_cli.errors import ReinitError
from tests.checkpoints.formats.dcp.saved import (
    metadata_of,
    rows,
    save,
    write_metadata,
)

Change = Callable[[Metadata], Metadata | None]


def _saved(ranks: int = 2) -> Path:
    state = {"a.weight": torch.arange(24.0).view(6, 4), "b.bias": torch.arange(3.0), "step": 7}
    return save(Path("dcp"), state, ranks, rows)


def _places(change: Callable[[MetadataIndex, _StorageInfo], _StorageInfo]) -> Change:
    def changed(metadata: Metadata) -> Metadata:
        places = {key: change(key, info) for key, info in metadata.storage_data.items()}
        return dataclasses.replace(metadata, storage_data=places)

    return changed


def _first(**values: Any) -> Change:
    """Return a change of the first place of a.weight."""

    def change(key: MetadataIndex, info: _StorageInfo) -> _StorageInfo:
        is_first = key.fqn == "a.weight" and key.offset == torch.Size([0, 0])
        return dataclasses.replace(info, **values) if is_first else info

    return _places(change)


def _tensor(**values: Any) -> Change:
    def changed(metadata: Metadata) -> Metadata:
        old = metadata.state_dict_metadata["a.weight"]
        assert isinstance(old, TensorStorageMetadata)
        new = dataclasses.replace(old, **values)
        tensors = {**metadata.state_dict_metadata, "a.weight": new}
        return dataclasses.replace(metadata, state_dict_metadata=tensors)

    return changed


def _boxes(*boxes: tuple[tuple[int, int], tuple[int, int]]) -> Change:
    """Return a change of the boxes of a.weight, with a place for each."""

    def changed(metadata: Metadata) -> Metadata:
        chunks = [ChunkStorageMetadata(torch.Size(at), torch.Size(size)) for at, size in boxes]
        metadata = _tensor(chunks=chunks)(metadata) or metadata
        kept = {key: info for key, info in metadata.storage_data.items() if key.fqn != "a.weight"}
        (info, *_) = (info for key, info in metadata.storage_data.items() if key.fqn == "a.weight")
        places = {
            MetadataIndex("a.weight", chunk.offsets, at): dataclasses.replace(
                info, relative_path=f"extra_{at}.distcp", offset=0
            )
            for at, chunk in enumerate(chunks)
        }
        for at in range(len(chunks)):
            data = Path("dcp", info.relative_path).read_bytes()
            Path(f"dcp/extra_{at}.distcp").write_bytes(data)
        return dataclasses.replace(metadata, storage_data={**kept, **places})

    return changed


def _without_a_place(metadata: Metadata) -> Metadata:
    places = dict(metadata.storage_data)
    del places[MetadataIndex("b.bias", torch.Size([0]))]
    return dataclasses.replace(metadata, storage_data=places)


def _with_another_place(metadata: Metadata) -> Metadata:
    info = next(iter(metadata.storage_data.values()))
    index = MetadataIndex("c.weight", torch.Size([0]))
    return dataclasses.replace(metadata, storage_data={**metadata.storage_data, index: info})


WRONG: dict[str, tuple[Change, str]] = {
    "an absolute path": (_first(relative_path="/etc/passwd"), "out of the folder"),
    "a path upwards": (_first(relative_path="../dcp/__0_0.distcp"), "out of the folder"),
    "a path upwards within": (_first(relative_path="x/../__0_0.distcp"), "out of the folder"),
    "a file that is not there": (
        _first(relative_path="__9_0.distcp"),
        "the piece of 'a.weight' at [0, 0] lies in '__9_0.distcp', which is not there",
    ),
    "an offset outside": (_first(offset=10**9), "a.weight"),
    "a negative offset": (_first(offset=-1), "two numbers"),
    "a length outside": (_first(length=10**9), "and the file at"),
    "places that overlap": (
        _places(lambda _, info: dataclasses.replace(info, offset=0, relative_path="__0_0.distcp")),
        "overlaps",
    ),
    "boxes that overlap": (_boxes(((0, 0), (4, 4)), ((2, 0), (4, 4))), "overlap"),
    "boxes with a hole": (_boxes(((0, 0), (2, 4)), ((4, 0), (2, 4))), "leave a hole"),
    "a box outside": (_boxes(((0, 0), (3, 4)), ((3, 0), (4, 4))), "lies outside"),
    "a box of other dimensions": (
        _tensor(size=torch.Size([24])),
        "lies outside its [24]",
    ),
    "a piece without a place": (_without_a_place, "has no place"),
    "a place without a piece": (_with_another_place, "which has no such piece"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_metadata_says_is_checked(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    change, says = WRONG[what]
    folder = _saved()
    changed = change(metadata_of(folder))
    assert changed is not None
    write_metadata(folder, changed)

    assert main(["dcp/", "-r", "*=zeros", "-o", "out"]) == 2

    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert says in error.splitlines()[0]
    assert not Path("out").exists()


def test_a_link_out_of_the_folder_holds_no_piece() -> None:
    folder = _saved()
    (folder / "__0_0.distcp").rename("elsewhere")
    (folder / "__0_0.distcp").symlink_to("../elsewhere")

    with pytest.raises(ReinitError, match="out of the folder"):
        find_source("dcp/")


def _no_archive(data: bytes) -> bytes:
    return bytes(len(data))


def _another(tensor: torch.Tensor) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        made = io.BytesIO()
        torch.save(tensor, made)
        new = made.getvalue()
        assert len(new) == len(data)
        return new

    return changed


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_no_archive, "is not a valid zip archive"),
        (_another(torch.zeros(12, dtype=torch.int32).view(3, 4)), "it is int32 [3, 4]"),
        (_another(torch.zeros(4, 3)), "it is float32 [4, 3], and .metadata says float32 [3, 4]"),
    ],
)
def test_what_a_piece_holds_is_checked(change: Callable[[bytes], bytes], says: str) -> None:
    folder = _saved()
    info = metadata_of(folder).storage_data[MetadataIndex("a.weight", torch.Size([0, 0]))]
    name = folder / info.relative_path
    data = bytearray(name.read_bytes())
    data[info.offset : info.offset + info.length] = change(
        bytes(data[info.offset : info.offset + info.length])
    )
    name.write_bytes(data)

    with pytest.raises(ReinitError) as caught:
        rewrite("dcp/", ["a.weight=zeros"], "out")
    assert f"{info.relative_path}: the piece of 'a.weight' at [0, 0]" in str(caught.value)
    assert says in str(caught.value)
    assert not Path("out").exists()


def test_a_save_that_did_not_finish_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    (_saved() / ".metadata").unlink()

    assert main(["keys", "dcp"]) == 2

    assert "its save did not finish: there is no .metadata" in capsys.readouterr().err


def test_metadata_of_each_rank_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    folder = _saved()
    (folder / ".metadata").rename(folder / "__0.metadata")

    assert main(["keys", "dcp"]) == 2

    assert "(use_collectives=False), which cannot be put together" in capsys.readouterr().err


@pytest.mark.parametrize(("place", "says"), [("link", "link that leads nowhere"), ("folder", "no")])
def test_metadata_that_is_not_a_file_is_named(
    place: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _saved()
    (folder / ".metadata").unlink()
    if place == "link":
        (folder / ".metadata").symlink_to("nowhere")
    else:
        (folder / ".metadata").mkdir()

    assert main(["keys", "dcp"]) == 2

    (error,) = capsys.readouterr().err.splitlines()
    assert says in error
    assert ".metadata" in error


def test_a_part_of_a_folder_is_named_as_such_next_to_weights_of_another_format(
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_file({"a.weight": torch.zeros(2)}, _saved() / "model.safetensors")

    assert main(["keys", "dcp/__0_0.distcp"]) == 2
    assert "is a part of a DCP folder; name the folder" in capsys.readouterr().err
    assert main(["keys", "dcp/__7_0.distcp"]) == 2
    assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"{}", b"PK\x03\x04", b"\x80\x04N."])
def test_metadata_that_is_something_else_is_one_line(
    content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (_saved() / ".metadata").write_bytes(content)

    assert main(["dcp", "-r", "*=zeros", "-o", "out"]) == 2

    error, *hints = capsys.readouterr().err.splitlines()
    assert all("fetch" in hint for hint in hints)  # where it is empty
    assert error.startswith("error: 'dcp/.metadata' is not ")
    assert " valid " in error
    assert not Path("out").exists()


@pytest.mark.parametrize("name", [".metadata", "__0_0.distcp", "__1_0.distcp"])
def test_a_part_of_a_folder_is_not_the_folder(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _saved()

    assert main(["keys", f"dcp/{name}"]) == 2

    error, hint = capsys.readouterr().err.splitlines()
    assert "is a part of a DCP folder; name the folder" in error
    assert hint == "hint: name it: reinit keys dcp"


def test_a_folder_of_folders_names_those(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run").mkdir()
    for step in (100, 200):
        _saved().rename(f"run/step-{step}")

    assert main(["keys", "run"]) == 2

    assert "there are step-100, step-200" in capsys.readouterr().err


def test_compressed_pieces_are_listed_and_copied_and_never_filled(
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = _saved()
    write_metadata(folder, _first(transform_descriptors=["stream.zstd/1"])(metadata_of(folder)))  # type: ignore[arg-type]

    assert main(["keys", "dcp/"]) == 0
    assert main(["dcp/", "-r", "a.weight=zeros", "-o", "out"]) == 2
    assert "compressed (stream.zstd/1)" in capsys.readouterr().err
    assert main(["dcp/", "-r", "*=zeros", "-o", "out"]) == 0
    first = "__0_0.distcp"
    info = metadata_of(folder).storage_data[MetadataIndex("a.weight", torch.Size([0, 0]))]
    span = slice(info.offset, info.offset + info.length)
    assert Path("out", first).read_bytes()[span] == Path("dcp", first).read_bytes()[span]


class Command:
    """What a stranger's pickle may name."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Ask for a call that leaves a folder."""
        return os.mkdir, ("called",)


@pytest.mark.parametrize("place", ["metadata", "object"])
def test_nothing_that_it_names_is_called(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    state: dict[str, Any] = {"a.weight": torch.zeros(2, 2)}
    if place == "object":
        state["object"] = Command()
    folder = save(Path("dcp"), state, 1, rows)
    if place == "metadata":
        metadata = metadata_of(folder)
        (folder / ".metadata").write_bytes(
            pickle.dumps(dataclasses.replace(metadata, version=Command()))  # type: ignore[arg-type]
        )

    assert main(["dcp/", "-r", "*=zeros", "-o", "out"]) == 0
    assert f"names {os.mkdir.__module__}.mkdir" in capsys.readouterr().err
    assert not Path("called").exists()
    assert main(["dcp/", "-r", "*=zeros", "-o", "other", "--safe-pickle"]) == 2
    assert not Path("other").exists()


def _large(tensors: int, pieces: int) -> bytes:
    state: dict[str, TensorStorageMetadata] = {}
    places: dict[MetadataIndex, _StorageInfo] = {}
    for at in range(tensors):
        fqn = f"model.layers.{at}.attention.weight"
        chunks = []
        for rank in range(pieces):
            offset = torch.Size([8 * rank, 0])
            chunks.append(ChunkStorageMetadata(offset, torch.Size([8, 4096])))
            place = _StorageInfo(f"__{rank}_0.distcp", at * 2000, 1800)
            places[MetadataIndex(fqn, offset, rank)] = place
        state[fqn] = TensorStorageMetadata(
            TensorProperties(torch.bfloat16), torch.Size([8 * pieces, 4096]), chunks
        )
    paths: Any = {fqn: ("model", fqn.removeprefix("model.")) for fqn in state}
    return pickle.dumps(Metadata(state, paths, places))  # type: ignore[arg-type]


@pytest.mark.slow
def test_more_pieces_than_are_read_are_named() -> None:
    Path("dcp").mkdir()
    Path("dcp/.metadata").write_bytes(_large(1, 200_001))
    Path("dcp/__0_0.distcp").touch()

    with pytest.raises(ReinitError, match=r"has 200,001 pieces, more than the 200,000"):
        find_source("dcp/")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tensors", "pieces", "seconds", "nbytes"),
    [(1000, 100, 1.5, 100 * 10**6), (100_000, 1, 5.0, 200 * 10**6)],
)
def test_a_hundred_thousand_pieces_are_listed_in_seconds(
    tensors: int, pieces: int, seconds: float, nbytes: int
) -> None:
    Path("dcp").mkdir()
    Path("dcp/.metadata").write_bytes(_large(tensors, pieces))
    for rank in range(pieces):
        with Path(f"dcp/__{rank}_0.distcp").open("wb") as file:
            file.truncate(tensors * 2000)

    # A child's memory starts as its parent's, which knows torch: so a small one stands between.
    code = (
        "import resource, subprocess, sys; "
        "subprocess.run([sys.executable, '-m', 'reinit_cli', 'keys', 'dcp', '--count'], check=True); "
        "took = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print(took.ru_utime + took.ru_stime, took.ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    count, measured = done.stdout.splitlines()
    took, peak_kb = measured.split()
    assert int(count) == tensors
    assert float(took) < 3 * seconds  # on a busy machine
    assert int(peak_kb) * 1024 < nbytes
